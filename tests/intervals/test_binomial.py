"""One proportion: Clopper-Pearson bounds, the binomial test, the fewest useful draws."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from randsmooth.intervals import (
    binomial_test,
    clopper_pearson_lower,
    clopper_pearson_upper,
    smallest_certifying_trials,
)

BOTH = pytest.mark.parametrize("bound", [clopper_pearson_lower, clopper_pearson_upper])


def golden(shared: Path, key: str) -> list[dict[str, str]]:
    return json.loads((shared / "reference" / "values.json").read_text())[key]


def upper_tail(k: int, n: int, p: mp.mpf) -> mp.mpf:
    """P(Bin(n, p) >= k), summed term by term."""
    term = mp.binomial(n, k) * p**k * (1 - p) ** (n - k)
    total = term
    for j in range(k, n):
        term *= mp.mpf(n - j) / (j + 1) * p / (1 - p)
        total += term
        if term < total * mp.mpf(10) ** -45:
            break
    return total


def random_cases(number: int, seed: int) -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(seed)
    cases = []
    for i in range(number):
        n = int(10 ** rng.uniform(0.4, 5.0))
        near = int(10 ** rng.uniform(0, 1.5))
        k = (int(rng.integers(1, n)), max(1, n - near), min(n - 1, near))[i % 3]
        cases.append((k, n, float(10 ** rng.uniform(-8, -0.2))))
    return cases


def assert_just_outside(
    k: int, n: int, alpha: float, bound: float, *, side: int, tolerance: float = 1e-9
) -> None:
    """The lower bound (side 1) has a tail of at most alpha; a hair further in it has more."""
    with mp.workdps(60):
        p = mp.mpf(bound) if side > 0 else 1 - mp.mpf(bound)
        k = k if side > 0 else n - k
        assert upper_tail(k, n, p) <= mp.mpf(alpha)
        inside = p + mp.mpf(tolerance) * min(p, 1 - p) + mp.mpf(2) ** -52 * (bound > 0.5)
        assert inside >= 1 or upper_tail(k, n, inside) >= mp.mpf(alpha)


def test_clopper_pearson_agrees_with_golden_values(shared: Path) -> None:
    for row in golden(shared, "clopper_pearson"):
        counts, alpha = (int(row["k"]), int(row["n"])), float(row["alpha"])
        lower, upper = mp.mpf(row["one_sided_lower"]), mp.mpf(row["one_sided_upper"])
        got_lower = clopper_pearson_lower(*counts, alpha=alpha)
        got_upper = clopper_pearson_upper(*counts, alpha=alpha)
        assert got_lower <= lower
        assert got_upper >= upper
        assert float(got_lower) == pytest.approx(float(lower), rel=1e-9, abs=0)
        assert float(got_upper) == pytest.approx(float(upper), rel=1e-9, abs=0)


def test_clopper_pearson_keeps_the_complement_near_one(shared: Path) -> None:
    for row in golden(shared, "clopper_pearson"):
        counts, alpha = (int(row["k"]), int(row["n"])), float(row["alpha"])
        lack = float(1 - mp.mpf(row["one_sided_lower"]))
        got = 1 - clopper_pearson_lower(*counts, alpha=alpha)
        assert got == pytest.approx(lack, rel=1e-9, abs=3e-16)


@pytest.mark.parametrize(("k", "n", "alpha"), random_cases(150, seed=0))
def test_clopper_pearson_is_rounded_outward_by_less_than_a_billionth(
    k: int, n: int, alpha: float
) -> None:
    lower = float(clopper_pearson_lower(k, n, alpha=alpha))
    upper = float(clopper_pearson_upper(k, n, alpha=alpha))
    assert_just_outside(k, n, alpha, lower, side=1)
    assert_just_outside(k, n, alpha, upper, side=-1)


@pytest.mark.parametrize("alpha", [1e-99, 1e-101, 1e-300, 5e-324])
@pytest.mark.parametrize(("k", "n"), [(1, 2), (5, 6), (50, 100), (99_000, 100_000)])
def test_clopper_pearson_stays_outside_for_absurdly_small_alpha(
    k: int, n: int, alpha: float
) -> None:
    lower = float(clopper_pearson_lower(k, n, alpha=alpha))
    upper = float(clopper_pearson_upper(n - k, n, alpha=alpha))
    with mp.workdps(60):
        assert upper_tail(k, n, mp.mpf(lower)) <= mp.mpf(alpha)
        assert upper_tail(k, n, 1 - mp.mpf(upper)) <= mp.mpf(alpha)
    assert 0 <= lower < k / n
    assert 1 - k / n < upper <= 1


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.05), (100, 0.001), (10**6, 0.3), (7, 1e-200)])
def test_clopper_pearson_is_a_power_of_alpha_where_votes_are_unanimous(
    n: int, alpha: float
) -> None:
    with mp.workdps(40):
        exact = mp.mpf(alpha) ** (mp.mpf(1) / n)
        lower, upper = (
            clopper_pearson_lower(n, n, alpha=alpha),
            clopper_pearson_upper(0, n, alpha=alpha),
        )
        assert 0 <= (exact - mp.mpf(float(lower))) / exact <= 1e-9
        assert 0 <= (mp.mpf(float(upper)) - (1 - exact)) / (1 - exact) <= 1e-9


def test_clopper_pearson_leaves_the_open_end_open() -> None:
    np.testing.assert_array_equal(clopper_pearson_lower(0, [1, 10, 1000], alpha=0.1), 0.0)
    np.testing.assert_array_equal(clopper_pearson_upper([1, 10], [1, 10], alpha=0.1), 1.0)


@pytest.mark.parametrize("n", [1, 7, 40, 300])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.4])
def test_clopper_pearson_covers_every_proportion(n: int, alpha: float) -> None:
    k = np.arange(n + 1)
    lower = clopper_pearson_lower(k, n, alpha=alpha)
    upper = clopper_pearson_upper(k, n, alpha=alpha)
    # Just inside its own bound a proportion is missed most often.
    grid = np.concatenate([np.linspace(0, 1, 401), np.nextafter(lower, 0), np.nextafter(upper, 1)])
    pmf = binom.pmf(k, n, np.clip(grid, 0, 1)[:, None])
    assert (pmf * (lower > grid[:, None])).sum(axis=1).max() <= alpha * (1 + 1e-9)
    assert (pmf * (upper < grid[:, None])).sum(axis=1).max() <= alpha * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.data(), st.floats(1e-6, 0.5))
def test_clopper_pearson_grows_with_the_successes(
    n: int, data: st.DataObject, alpha: float
) -> None:
    k = data.draw(st.integers(0, n - 1))
    for bound in (clopper_pearson_lower, clopper_pearson_upper):
        assert bound(k, n, alpha=alpha) < bound(k + 1, n, alpha=alpha)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.data(), st.floats(1e-6, 0.4))
def test_clopper_pearson_brackets_the_share_and_widens_as_alpha_shrinks(
    n: int, data: st.DataObject, alpha: float
) -> None:
    k = data.draw(st.integers(0, n))
    lower, upper = (
        clopper_pearson_lower(k, n, alpha=alpha),
        clopper_pearson_upper(k, n, alpha=alpha),
    )
    assert lower <= k / n <= upper
    assert clopper_pearson_lower(k, n, alpha=alpha / 2) <= lower
    assert clopper_pearson_upper(k, n, alpha=alpha / 2) >= upper


@BOTH
def test_clopper_pearson_broadcasts_and_returns_scalars_for_scalars(bound) -> None:
    table = bound(np.arange(5)[:, None], [10, 20, 30], alpha=0.1)
    assert table.shape == (5, 3)
    assert table.dtype == np.float64
    single = bound(2, 20, alpha=0.1)
    assert isinstance(single, np.float64)
    assert single == table[2, 1]
    assert bound([], 5, alpha=0.1).shape == (0,)


@BOTH
def test_clopper_pearson_takes_whole_numbers_of_any_type(bound) -> None:
    expected = bound(3, 10, alpha=0.1)
    for kind in (np.uint8, np.int32, np.uint64, np.float32):
        assert bound(np.array(3, kind), np.array(10, kind), alpha=0.1) == expected


@BOTH
@pytest.mark.parametrize("alpha", [0, 1, 1.5, -0.1, np.nan])
def test_clopper_pearson_rejects_alpha_outside_unit_interval(bound, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"^alpha must lie strictly between 0 and 1, got "):
        bound(1, 2, alpha=alpha)


@BOTH
@pytest.mark.parametrize(
    ("successes", "trials", "error", "message"),
    [
        (1, 0, ValueError, r"^trials must be at least 1, got 0\.$"),
        ([1, 9], [5, 8], ValueError, r"^successes must be at most trials \(8\), got 9\.$"),
        (-1, 5, ValueError, r"^successes must be non-negative, got -1\.$"),
        (1, -5, ValueError, r"^trials must be non-negative, got -5\.$"),
        (1.5, 5, ValueError, r"^successes must be integers, got 1\.5\.$"),
        (1, np.nan, ValueError, r"^trials must be integers, got nan\.$"),
        ("a", 5, TypeError, r"^successes must be integers, got 'a'\.$"),
        (1, None, TypeError, r"^trials must be integers, got None\.$"),
    ],
)
def test_clopper_pearson_rejects_broken_counts(bound, successes, trials, error, message) -> None:
    with pytest.raises(error, match=message):
        bound(successes, trials, alpha=0.1)


@BOTH
def test_clopper_pearson_rejects_alpha_that_is_no_number(bound) -> None:
    with pytest.raises(TypeError, match=r"^alpha must be a real number, got '0\.1'\.$"):
        bound(1, 2, alpha="0.1")


def test_binomial_test_agrees_with_golden_values(shared: Path) -> None:
    for row in golden(shared, "predict_pvalue"):
        p_value = float(binomial_test(int(row["count1"]), int(row["count2"])))
        assert p_value == pytest.approx(float(row["p_value_two_sided"]), rel=1e-12, abs=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_binomial_test_agrees_with_scipy_and_is_symmetric(count1: int, count2: int) -> None:
    p_value = float(binomial_test(count1, count2))
    assert p_value == float(binomial_test(count2, count1))
    if count1 + count2:
        expected = binomtest(count1, count1 + count2).pvalue
        assert p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [1, 10, 101])
def test_binomial_test_rejects_a_fair_coin_no_more_often_than_alpha(n: int) -> None:
    k = np.arange(n + 1)
    p_value, pmf = binomial_test(k, n - k), binom.pmf(k, n, 0.5)
    for alpha in (0.001, 0.05, 0.3, 0.99):
        assert pmf[p_value <= alpha].sum() <= alpha * (1 + 1e-12)


def test_binomial_test_is_one_for_ties_and_for_no_votes() -> None:
    np.testing.assert_array_equal(binomial_test([0, 5, 1], [0, 5, 0]), 1.0)
    assert isinstance(binomial_test(3, 1), np.float64)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((-1, 3), r"^count1 must be non-negative, got -1\.$"),
        ((1, 0.5), r"^count2 must be integers"),
    ],
)
def test_binomial_test_rejects_broken_counts(counts, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        binomial_test(*counts)


@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.001, 1 / 1024, 1e-12])
@pytest.mark.parametrize("p0", [0.0, 0.3, 0.5, 0.99, 0.9999])
def test_smallest_certifying_trials_is_the_first_that_certifies(alpha: float, p0: float) -> None:
    n = smallest_certifying_trials(alpha=alpha, p0=p0)
    assert clopper_pearson_lower(n, n, alpha=alpha) > p0
    assert n == 1 or clopper_pearson_lower(n - 1, n - 1, alpha=alpha) <= p0


def test_smallest_certifying_trials_is_ten_for_the_published_alpha() -> None:
    assert smallest_certifying_trials(alpha=0.001) == 10
    assert smallest_certifying_trials(alpha=1 / 1024) == 11


def test_smallest_certifiable_count_agrees_with_golden_values(shared: Path) -> None:
    for row in golden(shared, "min_certifiable_k"):
        n, k, alpha = int(row["n"]), int(row["k"]), float(row["alpha"])
        assert clopper_pearson_lower(k, n, alpha=alpha) > 0.5
        assert clopper_pearson_lower(k - 1, n, alpha=alpha) <= 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 2}, ValueError, r"^alpha must lie strictly between 0 and 1, got 2\.$"),
        ({"alpha": 0.1, "p0": 1.0}, ValueError, r"^p0 must be at least 0 and below 1, got 1\.0\.$"),
        ({"alpha": 0.1, "p0": "x"}, TypeError, r"^p0 must be a real number, got 'x'\.$"),
        (
            {"alpha": 0.1, "p0": 1 - 1e-15},
            ValueError,
            r"^p0 must be within reach of 10\*\*12 trials",
        ),
    ],
)
def test_smallest_certifying_trials_rejects_broken_arguments(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        smallest_certifying_trials(**arguments)
