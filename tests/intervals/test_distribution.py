"""A band for a whole distribution: margins, lower bounds, thresholds from scores."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from randsmooth.intervals.distribution import (
    dkw_band,
    dkw_margin,
    equal_count_thresholds,
    order_statistic_thresholds,
)


def exact_margin(n: int, alpha: float) -> mp.mpf:
    return mp.sqrt(-mp.log(mp.mpf(alpha)) / (2 * n))


def test_margin_agrees_with_golden_values(shared: Path) -> None:
    for row in json.loads((shared / "reference" / "values.json").read_text())["kumar"]:
        value = dkw_margin(row["n"], alpha=float(row["alpha"]))
        assert float(value) == pytest.approx(float(row["dkw_eps"]), rel=1e-13)


# Kumar et al. 2020 draw 100,000 scores at a failure probability of 0.001.
def test_margin_of_the_published_setting() -> None:
    assert dkw_margin(100_000, alpha=0.001) == pytest.approx(0.0058769700, abs=5e-11)


def test_margin_is_just_above_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    with mp.workdps(50):
        for _ in range(300):
            n, alpha = int(10 ** rng.uniform(0, 15)), float(min(0.5, 10 ** rng.uniform(-300, 0)))
            exact, value = exact_margin(n, alpha), dkw_margin(n, alpha=alpha)
            assert exact <= mp.mpf(float(value)) <= exact * (1 + mp.mpf("1e-14"))


def test_band_is_just_below_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    with mp.workdps(50):
        for _ in range(300):
            n, alpha = int(10 ** rng.uniform(0, 9)), float(min(0.5, 10 ** rng.uniform(-9, 0)))
            near = math.ceil(n * float(exact_margin(n, alpha)))
            for k in {0, n, int(rng.integers(n + 1)), min(near, n), min(near + 1, n)}:
                exact = max(mp.mpf(k) / n - exact_margin(n, alpha), mp.mpf(0))
                value = mp.mpf(float(dkw_band(k, n, alpha=alpha)))
                assert exact - mp.mpf(4e-15) * mp.mpf(k) / n <= value <= exact


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.3, 0.5])
def test_band_fails_no_more_often_than_alpha_by_enumeration(alpha: float) -> None:
    # Scores of four values: every outcome of n draws, over a grid of distributions.
    n, worst = 9, 0.0
    outcomes = np.array([c for c in itertools.product(range(n + 1), repeat=4) if sum(c) == n])
    ways = [math.factorial(n) // math.prod(map(math.factorial, c)) for c in outcomes.tolist()]
    at_or_above = outcomes[:, ::-1].cumsum(axis=1)[:, ::-1]
    band = dkw_band(at_or_above, n, alpha=alpha)
    for p in itertools.product(np.arange(1, 10) / 10, repeat=3):
        law = np.append(p, 1 - sum(p))
        if law[-1] < -1e-9:
            continue
        law = np.maximum(law, 0)
        reached = law[::-1].cumsum()[::-1] + 1e-12
        fails = (band > reached).any(axis=1)
        worst = max(worst, float((ways * (law**outcomes).prod(axis=1))[fails].sum()))
    assert worst <= alpha
    assert worst > 0.05 * alpha  # the enumeration reaches failures at all


def test_band_broadcasts_trials_and_keeps_scalars() -> None:
    band = dkw_band([[10, 5, 0], [40, 20, 1]], [[10], [40]], alpha=0.05)
    assert band.shape == (2, 3)
    assert band[1, 0] == dkw_band(40, 40, alpha=0.05)
    assert isinstance(dkw_band(40, 40, alpha=0.05), np.float64)
    assert isinstance(dkw_margin(40, alpha=0.05), np.float64)
    assert dkw_band(np.zeros((0, 3), int), 5, alpha=0.05).shape == (0, 3)
    assert dkw_band(1, 1, alpha=1e-9) == 0


@pytest.mark.parametrize("function", [dkw_margin, lambda n, alpha: dkw_band(0, n, alpha=alpha)])
def test_band_refuses_bad_levels_and_numbers_of_draws(function) -> None:
    message = r"^alpha must be at most 0\.5, as the Dvoretzky-Kiefer-Wolfowitz .*, got 0\.6\.$"
    with pytest.raises(ValueError, match=message):
        function(10, alpha=0.6)
    with pytest.raises(ValueError, match=r"^alpha must lie strictly between 0 and 1, got nan\.$"):
        function(10, alpha=math.nan)
    with pytest.raises(TypeError, match=r"^alpha must be a real number, got 'x'\.$"):
        function(10, alpha="x")
    with pytest.raises(ValueError, match=r"^trials must be at least 1, got 0\.$"):
        function([10, 0], alpha=0.1)
    with pytest.raises(ValueError, match=r"^trials must be non-negative, got -1\.$"):
        function(-1, alpha=0.1)


def test_band_refuses_more_counts_than_draws() -> None:
    with pytest.raises(ValueError, match=r"^counts must be at most trials \(10\), got 11\.$"):
        dkw_band([3, 11], 10, alpha=0.1)
    with pytest.raises(ValueError, match=r"^counts must be integers, got 0\.5\.$"):
        dkw_band([0.5], 10, alpha=0.1)


@settings(max_examples=100, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 12)),
        elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]),
    ),
    st.integers(1, 15),
)
def test_thresholds_are_order_statistics_with_their_true_counts(scores, n_thresholds) -> None:
    thresholds, counts = equal_count_thresholds(scores, n_thresholds)
    n = scores.shape[1]
    gap = math.ceil(n / n_thresholds)
    np.testing.assert_array_equal(thresholds, np.sort(scores, axis=1)[:, ::gap])
    assert thresholds.shape[1] <= n_thresholds
    above = (scores[:, np.newaxis, :] >= thresholds[..., np.newaxis]).sum(axis=-1)
    np.testing.assert_array_equal(counts, above)
    every, all_counts = order_statistic_thresholds(scores)
    np.testing.assert_array_equal(every, np.sort(scores, axis=1))
    np.testing.assert_array_equal(every[:, ::gap], thresholds)
    np.testing.assert_array_equal(all_counts[:, ::gap], counts)


def test_counts_are_true_fractions_where_the_gap_does_not_divide() -> None:
    scores = np.arange(10) / 10
    thresholds, counts = equal_count_thresholds(scores, 4)
    np.testing.assert_array_equal(thresholds, [0.0, 0.3, 0.6, 0.9])
    # The published code has (4 - j)/4: it would claim 1/4 where a single score of ten is left.
    assert counts.tolist() == [10, 7, 4, 1]


def test_thresholds_take_margins_and_low_precision() -> None:
    thresholds, counts = order_statistic_thresholds(
        np.array([0.5, -1.0], dtype=np.float32), low=-1.0
    )
    assert thresholds.dtype == np.float64
    assert (thresholds.tolist(), counts.tolist()) == ([-1.0, 0.5], [2, 1])


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan])
def test_thresholds_refuse_scores_outside_the_range(bad: float) -> None:
    message = r"^scores must lie in \[0\.0, 1\.0\], got .*\. Declare the range of another measure"
    with pytest.raises(ValueError, match=message):
        order_statistic_thresholds([0.2, bad])


def test_thresholds_refuse_what_are_no_scores() -> None:
    with pytest.raises(TypeError, match=r"^scores must be real numbers, got 'a'\.$"):
        order_statistic_thresholds("a")
    message = r"^scores must have at least one draw along the last axis, got shape \(2, 0\)\.$"
    with pytest.raises(ValueError, match=message):
        equal_count_thresholds(np.zeros((2, 0)), 3)
    with pytest.raises(ValueError, match=r"^n_thresholds must be at least 1, got 0\.$"):
        equal_count_thresholds([0.5], 0)
    with pytest.raises(ValueError, match=r"^n_thresholds must be integers, got 1\.5\.$"):
        equal_count_thresholds([0.5], 1.5)
