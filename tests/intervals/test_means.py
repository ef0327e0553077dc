"""Bounds on the mean of bounded variables: coverage by enumeration, formulas in 50 digits."""

from __future__ import annotations

import itertools

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randsmooth.intervals.means import (
    betting_lower,
    empirical_bernstein_lower,
    hoeffding_lower,
    mean_lower,
    mean_upper,
)

METHODS = ("betting", "bernstein", "hoeffding")
EVERY = pytest.mark.parametrize("method", METHODS)
BOTH = pytest.mark.parametrize("bound", [mean_lower, mean_upper])


def simplex(n_points: int, steps: int) -> np.ndarray:
    """Every distribution on so many points with probabilities in steps."""
    grid = itertools.product(range(steps + 1), repeat=n_points)
    return np.array([row for row in grid if sum(row) == steps]) / steps


def missed(values: list[float], n: int, method: str, alpha: float, weights: np.ndarray) -> float:
    """Largest chance over some distributions on some values that the bound is above the mean."""
    places = np.array(list(itertools.product(range(len(values)), repeat=n)))
    bounds = mean_lower(np.asarray(values)[places], alpha=alpha, method=method)
    worst = 0.0
    for row in weights:
        chance = row[places].prod(axis=-1)
        worst = max(worst, float(chance[bounds > row @ values].sum()))
    return worst


@EVERY
@pytest.mark.parametrize(("n", "alpha"), [(1, 0.4), (4, 0.3), (9, 0.05), (9, 0.5)])
def test_lower_bound_covers_every_two_point_variable(method: str, n: int, alpha: float) -> None:
    share = np.linspace(0, 1, 201)
    weights = np.column_stack([1 - share, share])
    assert missed([0.0, 1.0], n, method, alpha, weights) <= alpha * (1 + 1e-12)
    assert missed([0.3, 0.45], n, method, alpha, weights) <= alpha * (1 + 1e-12)


@EVERY
@pytest.mark.parametrize("middle", [0.05, 0.5, 0.9])
def test_lower_bound_covers_every_three_point_variable(method: str, middle: float) -> None:
    for alpha in (0.1, 0.4):
        worst = missed([0.0, middle, 1.0], 6, method, alpha, simplex(3, 20))
        assert worst <= alpha * (1 + 1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_betting_covers_the_mean_that_its_own_bound_barely_misses(alpha: float) -> None:
    places = np.array(list(itertools.product([0.0, 1.0], repeat=9)))
    bounds = betting_lower(places, alpha=alpha)
    hits = places.sum(axis=-1)
    for p in np.nextafter(np.unique(bounds[bounds > 0]), 0):
        chance = p**hits * (1 - p) ** (9 - hits)
        assert chance[bounds > p].sum() <= alpha


def test_betting_fails_less_often_than_a_bound_with_the_margin_of_another_level() -> None:
    # The same enumeration does catch a bound that spends more than its level.
    share = np.linspace(0, 1, 201)
    weights = np.column_stack([1 - share, share])
    assert missed([0.0, 1.0], 9, "betting", 0.5, weights) > 0.05


def exact_wealth(samples: np.ndarray, mean: mp.mpf, alpha: mp.mpf) -> mp.mpf:
    n, wealth, largest = len(samples), mp.mpf(1), mp.mpf(0)
    total, squares, variance = mp.mpf(0), mp.mpf(0), mp.mpf(1) / 4
    for t, value in enumerate(map(mp.mpf, samples), start=1):
        bet = min(mp.sqrt(2 * mp.log(1 / alpha) / (n * variance)), mp.mpf(0.9) / mean)
        wealth *= 1 + bet * (value - mean)
        largest = max(largest, wealth)
        total += value
        squares += (value - (mp.mpf(0.5) + total) / (t + 1)) ** 2
        variance = (mp.mpf(0.25) + squares) / (t + 1)
    return largest


@pytest.mark.parametrize("alpha", [0.001, 0.1])
def test_betting_is_just_below_the_mean_that_its_wealth_rejects(alpha: float) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.beta(8, 2, 60), rng.random(200), np.ones(40), (rng.random(80) < 0.1) * 1.0]
    rows += [np.zeros(5), np.array([1.0] * 30 + [0.0] * 10)]
    for samples in rows:
        bound = float(betting_lower(samples, alpha=alpha))
        with mp.workdps(50):
            level = mp.mpf(alpha)
            if bound > 0:
                assert exact_wealth(samples, mp.mpf(bound), level) >= 1 / level
            assert exact_wealth(samples, mp.mpf(bound) + mp.mpf("1e-10"), level) < 1 / level


def test_betting_wealth_never_grows_with_the_mean() -> None:
    samples = np.random.default_rng(1).random(50)
    with mp.workdps(30):
        means = [mp.mpf(i) / 40 for i in range(1, 41)]
        wealth = [exact_wealth(samples, mean, mp.mpf("0.01")) for mean in means]
    assert wealth == sorted(wealth, reverse=True)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 7.0)])
def test_hoeffding_and_bernstein_are_just_below_their_formulas(low: float, high: float) -> None:
    rng = np.random.default_rng(2)
    for n, alpha in [(2, 0.3), (50, 0.1), (4000, 0.001)]:
        samples = high - (high - low) * rng.random(n) ** 2 / 4
        with mp.workdps(50):
            values = [mp.mpf(v) for v in samples]
            mean = mp.fsum(values) / n
            width, level = mp.mpf(high) - mp.mpf(low), mp.mpf(alpha)
            variance = mp.fsum((v - mean) ** 2 for v in values) / (n - 1)
            term = mp.log(2 / level)
            bernstein = mean - mp.sqrt(2 * variance * term / n) - 7 * width * term / (3 * (n - 1))
            hoeffding = mean - width * mp.sqrt(mp.log(1 / level) / (2 * n))
            for exact, method in ((bernstein, "bernstein"), (hoeffding, "hoeffding")):
                value = mean_lower(samples, alpha=alpha, low=low, high=high, method=method)
                assert value == low if exact <= low else 0 <= exact - mp.mpf(float(value)) <= 1e-12


def test_betting_is_closer_than_the_other_bounds() -> None:
    rng = np.random.default_rng(3)
    for samples in (rng.beta(8, 2, 1000), (rng.random(1000) < 0.9) * 1.0, rng.random(1000)):
        values = [mean_lower(samples, alpha=0.001, method=method) for method in METHODS]
        assert values[0] == max(values)


@EVERY
def test_upper_bound_is_the_reflected_lower_bound(method: str) -> None:
    samples = np.random.default_rng(4).beta(2, 5, (3, 200))
    upper = mean_upper(samples, alpha=0.01, method=method)
    lower = mean_lower(1 - samples, alpha=0.01, method=method)
    np.testing.assert_allclose(upper, 1 - lower, atol=1e-12)
    assert (upper >= samples.mean(axis=-1)).all()
    shifted = mean_upper(3 * samples - 1, alpha=0.01, low=-1, high=2, method=method)
    np.testing.assert_allclose(shifted, 3 * upper - 1, atol=1e-11)


@EVERY
def test_bounds_do_not_depend_on_the_range_that_the_samples_are_written_in(method: str) -> None:
    samples = np.random.default_rng(5).random(100)
    unit = mean_lower(samples, alpha=0.05, method=method)
    moved = mean_lower(4 * samples - 3, alpha=0.05, low=-3, high=1, method=method)
    np.testing.assert_allclose(moved, 4 * unit - 3, atol=1e-11)


@EVERY
def test_bounds_stay_in_the_range_at_its_ends(method: str) -> None:
    for value in (0.0, 1.0):
        samples = np.full(30, value)
        lower = mean_lower(samples, alpha=0.05, method=method)
        upper = mean_upper(samples, alpha=0.05, method=method)
        assert 0 <= lower <= value <= upper <= 1
    single = mean_lower([1.0], alpha=0.05, method=method), mean_upper([0.0], alpha=0.05)
    assert all(0 <= bound <= 1 for bound in single)


def test_a_single_sample_tells_bernstein_nothing() -> None:
    assert empirical_bernstein_lower([0.9], alpha=0.1) == 0
    np.testing.assert_array_equal(
        empirical_bernstein_lower([[3.0], [4.0]], alpha=0.1, low=2, high=5), [2, 2]
    )


@EVERY
@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(0.001, 0.4))
def test_bounds_bracket_the_mean_and_widen_as_alpha_shrinks(
    method: str, samples: list[float], alpha: float
) -> None:
    lower = mean_lower(samples, alpha=alpha, method=method)
    upper = mean_upper(samples, alpha=alpha, method=method)
    assert lower <= upper
    if method != "betting":
        assert lower <= np.mean(samples) + 1e-12
        assert mean_lower(samples, alpha=alpha / 2, method=method) <= lower


def test_rows_are_bounded_one_by_one() -> None:
    samples = np.random.default_rng(6).random((2, 3, 40))
    for method in METHODS:
        table = mean_lower(samples, alpha=0.05, method=method)
        assert table.shape == (2, 3)
        single = mean_lower(samples[1, 2], alpha=0.05, method=method)
        assert isinstance(single, np.float64)
        assert single == table[1, 2]
    # A view with the samples far apart in memory is summed like any other.
    assert (mean_lower(samples.T.copy().T, alpha=0.05) == mean_lower(samples, alpha=0.05)).all()


def test_hoeffding_takes_many_means_of_different_size() -> None:
    bounds = hoeffding_lower([[0.5], [0.9]], [10, 1000], alpha=0.05)
    assert bounds.shape == (2, 2)
    assert bounds[0, 1] == hoeffding_lower(0.5, 1000, alpha=0.05)


@BOTH
@EVERY
@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([0.5, 1.5], ValueError, r"^samples must lie in \[0\.0, 1\.0\], got 1\.5\. Declare the "),
        ([0.5, np.nan], ValueError, r"^samples must lie in \[0\.0, 1\.0\], got nan\. "),
        ("a", TypeError, r"^samples must be real numbers, got 'a'\.$"),
        ([], ValueError, r"^samples must have at least one value .* got shape \(0,\)\.$"),
        (0.5, ValueError, r"^samples must have at least one value .* got shape \(\)\.$"),
    ],
)
def test_bounds_reject_broken_samples(bound, method: str, samples, error, message: str) -> None:
    with pytest.raises(error, match=message):
        bound(samples, alpha=0.05, method=method)


@BOTH
@EVERY
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": 1.0}, ValueError, r"^alpha must lie strictly between 0 and 1, got 1\.0\.$"),
        ({"alpha": "x"}, TypeError, r"^alpha must be a real number, got 'x'\.$"),
        ({"low": 1.0}, ValueError, r"^low must be below high \(1\.0\), got 1\.0\.$"),
        ({"low": "a"}, TypeError, r"^low must be a real number, got 'a'\.$"),
        ({"high": np.inf}, ValueError, r"^high must be finite, got inf\.$"),
    ],
)
def test_bounds_reject_broken_arguments(bound, method: str, arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        bound([0.5], **{"alpha": 0.05, "method": method, **arguments})


@BOTH
def test_bounds_reject_an_unknown_method(bound) -> None:
    message = r"^method must be one of 'betting', 'bernstein', 'hoeffding', got 'chernoff'\.$"
    with pytest.raises(ValueError, match=message):
        bound([0.5], alpha=0.05, method="chernoff")


@pytest.mark.parametrize(
    ("mean", "trials", "message"),
    [
        (1.5, 10, r"^mean must lie in \[0\.0, 1\.0\], got 1\.5\. "),
        (0.5, 0, r"^trials must be at least 1, got 0\.$"),
    ],
)
def test_hoeffding_rejects_broken_counts(mean: float, trials: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hoeffding_lower(mean, trials, alpha=0.05)
