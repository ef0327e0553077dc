"""Certified confidence against direct evaluation with many digits, and against the truth."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from randsmooth.bounds import confidence_profile
from randsmooth.bounds.confidence import (
    distribution_confidence_lower,
    distribution_confidence_radius,
    equal_count_thresholds,
    mean_confidence_lower,
    mean_confidence_radius,
    order_statistic_thresholds,
)
from randsmooth.bounds.shifts import laplace_probability_lower, uniform_probability_lower

SCORE, MARGIN = {"low": 0.0, "high": 1.0}, {"low": -1.0, "high": 1.0}
RUN = {"alpha": 0.001, "sigma": 0.25}
# Thresholds and how many of 1000 scores reach them.
STEPS, REACHED = [0.25, 0.5, 0.75, 1.0], [1000, 990, 900, 600]


def exact_quantile(p: mp.mpf) -> mp.mpf:
    if p > 0.5:
        return -exact_quantile(1 - p)
    z = mp.mpf(float(ndtri(float(p))))
    for _ in range(4):
        u = (mp.ncdf(z) - p) / mp.npdf(z)
        z -= u / (1 + u * z / 2)
    return z


def exact_shift(p: mp.mpf, radius: mp.mpf, sigma: float) -> mp.mpf:
    if p <= 0 or radius == 0:
        return max(p, mp.mpf(0))
    return mp.ncdf(exact_quantile(p) - radius / mp.mpf(sigma))


def exact_margin(n: int, alpha: float) -> mp.mpf:
    return mp.sqrt(-mp.log(mp.mpf(alpha)) / (2 * n))


def exact_distribution(counts, thresholds, n, radius, alpha, sigma, low) -> mp.mpf:
    """Bound less `low`, straight from the formula."""
    total, before = mp.mpf(0), mp.mpf(low)
    for count, threshold in zip(counts, thresholds, strict=True):
        p = mp.mpf(int(count)) / n - exact_margin(n, alpha)
        total += (mp.mpf(float(threshold)) - before) * exact_shift(p, mp.mpf(radius), sigma)
        before = mp.mpf(float(threshold))
    return total


def exact_mean(mean, n, radius, alpha, sigma, low, high) -> mp.mpf:
    span = mp.mpf(high) - mp.mpf(low)
    q = (mp.mpf(mean) - mp.mpf(low)) / span - exact_margin(n, alpha)
    return span * exact_shift(q, mp.mpf(radius), sigma)


def random_tables(number: int, seed: int):
    """Counts, thresholds, draws, level, scale and range, of all sorts."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        n, m = int(10 ** rng.uniform(0.5, 6)), int(rng.integers(1, 9))
        counts = np.sort(rng.integers(0, n + 1, m))[::-1].copy()
        thresholds = np.sort(rng.uniform(-1, 1, m)) if i % 2 else np.sort(rng.uniform(0, 1, m))
        if i % 3 == 0:
            counts[: 1 + m // 2] = n  # the largest bound there is
        if i % 5 == 0:
            counts[m // 2 :] = 0
            thresholds[-1] = 1.0
        alpha = float(min(0.5, 10 ** rng.uniform(-6, 0)))
        low = -1.0 if i % 2 else 0.0
        yield counts, thresholds, n, alpha, float(10 ** rng.uniform(-2, 1)), low


RADII = [0.0, 1e-12, 0.1, 0.5, 1.0, 3.0, 12.0, 60.0]  # in units of sigma


def assert_just_below(value: float, exact: mp.mpf, low: float) -> None:
    assert mp.mpf(float(value)) - mp.mpf(low) <= exact
    # Where the range does not begin at 0, the bound itself has no more digits than this.
    digits = mp.mpf(2.3e-16) * (abs(mp.mpf(low)) + 1) if low else mp.mpf(1e-300)
    assert exact - (mp.mpf(float(value)) - mp.mpf(low)) <= mp.mpf(1e-9) * exact + digits


def test_distribution_bound_is_just_below_direct_evaluation() -> None:
    with mp.workdps(40):
        for counts, thresholds, n, alpha, sigma, low in random_tables(40, seed=1):
            radii = np.multiply(RADII, sigma)
            bound = distribution_confidence_lower(
                counts, thresholds, n, radii, alpha=alpha, sigma=sigma, low=low
            )
            for radius, value in zip(radii, bound, strict=True):
                exact = exact_distribution(counts, thresholds, n, radius, alpha, sigma, low)
                assert_just_below(value, exact, low)


def test_mean_bound_is_just_below_direct_evaluation() -> None:
    rng = np.random.default_rng(2)
    with mp.workdps(40):
        for i in range(60):
            n, alpha = int(10 ** rng.uniform(0.5, 7)), float(min(0.5, 10 ** rng.uniform(-6, 0)))
            sigma, low = float(10 ** rng.uniform(-2, 1)), -1.0 if i % 2 else 0.0
            mean = (float(rng.uniform(low, 1)), low, 1.0)[i % 3]
            radii = np.multiply(RADII, sigma)
            bound = mean_confidence_lower(mean, n, radii, alpha=alpha, sigma=sigma, low=low)
            for radius, value in zip(radii, bound, strict=True):
                assert_just_below(value, exact_mean(mean, n, radius, alpha, sigma, low, 1.0), low)


def test_radius_is_the_last_one_at_which_the_exact_bound_holds() -> None:
    rng, found = np.random.default_rng(3), 0
    with mp.workdps(40):
        for counts, thresholds, n, alpha, sigma, low in random_tables(60, seed=4):
            settings = {"alpha": alpha, "sigma": sigma, "low": low}
            start = float(distribution_confidence_lower(counts, thresholds, n, 0.0, **settings))
            if start == low:
                continue
            level = low + (start - low) * float(rng.choice([1e-9, 0.3, 0.7, 1 - 1e-6]))
            radius = float(distribution_confidence_radius(counts, thresholds, n, level, **settings))
            terms = (counts, thresholds, n)
            wanted = mp.mpf(level) - mp.mpf(low)
            assert exact_distribution(*terms, radius, alpha, sigma, low) >= wanted
            further = radius * (1 + 1e-9) + sigma * 1e-13
            # Where the range does not begin at 0, the bound itself has no more digits than this.
            missing = mp.mpf(3e-16) if low else 0
            there = exact_distribution(*terms, further, alpha, sigma, low)
            assert there <= wanted * (1 + 1e-9) + missing
            found += radius > 0
    assert found > 30


def test_mean_radius_is_the_closed_form() -> None:
    rng = np.random.default_rng(5)
    with mp.workdps(40):
        for _ in range(60):
            n, mean, level = int(rng.integers(50, 10**6)), rng.uniform(0.5, 1), rng.uniform(0, 0.6)
            q = mp.mpf(float(mean)) - exact_margin(n, 0.001)
            radius = float(mean_confidence_radius(mean, n, level, alpha=0.001, sigma=0.5))
            exact = (exact_quantile(q) - exact_quantile(mp.mpf(float(level)))) / 2
            assert radius == 0 if exact <= 0 else radius <= exact <= radius * (1 + 1e-9)


def test_bounds_and_radii_agree_with_golden_values(shared: Path) -> None:
    (sample,) = json.loads((shared / "reference" / "values.json").read_text())["kumar"]
    scores = ((np.arange(1, sample["n"] + 1) - 0.5) / sample["n"]) ** 0.25
    settings = {"alpha": float(sample["alpha"]), "sigma": float(sample["sigma"])}
    mean, n = float(sample["mean"]), sample["n"]
    for case in sample["cases"]:
        assert case["measure"] == "score"
        thresholds, counts = equal_count_thresholds(scores, case["num_thr"])
        if "R" in case:
            radius = float(case["R"])
            ours = [
                (distribution_confidence_lower(counts, thresholds, n, radius, **settings), "cdf"),
                (mean_confidence_lower(mean, n, radius, **settings), "naive"),
            ]
        else:
            level = float(case["threshold"])
            ours = [
                (distribution_confidence_radius(counts, thresholds, n, level, **settings), "cdf"),
                (mean_confidence_radius(mean, n, level, **settings), "naive"),
            ]
        for value, name in ours:
            golden = float(case[f"{name}_bound" if "R" in case else f"{name}_radius"])
            assert value == pytest.approx(golden, rel=1e-9)


# The sample of the golden values at further settings, from 35-digit evaluations.
@pytest.mark.parametrize(
    ("function", "argument", "golden"),
    [
        (distribution_confidence_lower, 0.25, 0.46940095997659880679),
        (distribution_confidence_lower, 0.5, 0.18374503475639230640),
        (distribution_confidence_radius, 0.5, 0.22521793497257591189),
        (distribution_confidence_radius, 0.3, 0.388851),
        (mean_confidence_lower, 0.25, 0.36210831498946895909),
        (mean_confidence_radius, 0.5, 0.16179274620912097160),
        (mean_confidence_radius, 0.3, 0.292893),
    ],
)
def test_golden_values_of_a_deterministic_sample(function, argument, golden) -> None:
    scores = ((np.arange(1, 1001) - 0.5) / 1000) ** 0.25
    if function in (mean_confidence_lower, mean_confidence_radius):
        value = function(0.80000905613110309399, 1000, argument, **RUN)
    else:
        thresholds, counts = order_statistic_thresholds(scores)
        value = function(counts, thresholds, 1000, argument, **RUN)
    # Two of the values are published with six digits.
    assert value == pytest.approx(golden, rel=1e-9 if golden != round(golden, 6) else 2e-6)


def test_the_largest_score_has_the_largest_bound() -> None:
    # All 100,000 scores are 1: the published logs show 0.994 and, for margins, 0.988.
    for steps, published in ((SCORE, 0.994), (MARGIN, 0.988)):
        bound = distribution_confidence_lower([100_000], [1.0], 100_000, 0.0, **RUN, **steps)
        assert round(float(bound), 3) == published
        assert mean_confidence_lower(1.0, 100_000, 0.0, **RUN, **steps) == pytest.approx(
            float(bound), rel=1e-12
        )


def test_distribution_bound_is_the_mean_bound_where_scores_are_0_or_1() -> None:
    by_steps = distribution_confidence_lower([640], [1.0], 1000, [0.0, 0.2, 0.9], **RUN)
    by_mean = mean_confidence_lower(0.64, 1000, [0.0, 0.2, 0.9], **RUN)
    np.testing.assert_allclose(by_steps, by_mean, rtol=1e-13)


def test_more_thresholds_never_lose() -> None:
    scores = np.random.default_rng(6).beta(4, 1, (20, 960))
    before = np.zeros((20, 3))
    for number in (1, 2, 4, 20, 60, 960):  # the thresholds of each are among those of the next
        thresholds, counts = equal_count_thresholds(scores, number)
        bound = distribution_confidence_lower(counts, thresholds, 960, [0.0, 0.2, 0.5], **RUN)
        assert (bound >= before * (1 - 1e-9)).all()
        before = bound


def test_distribution_is_never_below_the_mean_with_every_score_as_threshold() -> None:
    rng, radii = np.random.default_rng(11), [0.0, 0.01, 0.2, 0.5, 1.5]
    for shape in ((0.3, 0.3), (4, 1), (50, 50), (1, 9)):
        scores = np.clip(rng.beta(*shape, (50, 200)), 0, 1)
        scores[:10] = scores[:10].round(1)
        thresholds, counts = order_statistic_thresholds(scores)
        by_steps = distribution_confidence_lower(counts, thresholds, 200, radii, **RUN)
        by_mean = mean_confidence_lower(scores.mean(axis=1), 200, radii, **RUN)
        assert (by_steps >= by_mean * (1 - 1e-9)).all()


@pytest.mark.parametrize("n_steps", [4, 32, 1024])
def test_a_fixed_grid_loses_no_more_than_one_step(n_steps: int) -> None:
    scores = np.random.default_rng(12).beta(3, 1, (30, 300))
    grid, radii = np.arange(1, n_steps + 1) / n_steps, np.array([0.0, 0.1, 0.4])
    counts = (scores[:, np.newaxis] >= grid[:, np.newaxis]).sum(axis=-1)
    fixed = distribution_confidence_lower(counts, grid, 300, radii, **RUN)
    thresholds, counts = order_statistic_thresholds(scores)
    best = distribution_confidence_lower(counts, thresholds, 300, radii, **RUN)
    largest = mean_confidence_lower(1.0, 300, radii, **RUN)
    assert (fixed <= best).all()
    assert (best - fixed <= largest / n_steps + 1e-12).all()


# -- against the truth -----------------------------------------------------------------------------


def test_bound_is_attained_by_a_rising_score_of_one_dimension() -> None:
    # The score at x + noise is 1 above 0 and 1/2 above -1. Moving by R to the left attains it.
    sigma, x, n = 0.5, 0.4, 10**15
    reached = [math.floor(n * ndtr((x + 1) / sigma)), math.floor(n * ndtr(x / sigma))]
    radii = np.array([0.0, 0.2, 0.7, 2.0])
    bound = distribution_confidence_lower(reached, [0.5, 1.0], n, radii, sigma=sigma, alpha=0.001)
    truth = (ndtr((x + 1 - radii) / sigma) + ndtr((x - radii) / sigma)) / 2
    assert (bound <= truth).all()
    np.testing.assert_allclose(bound, truth, rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_bounds_exceed_the_truth_no_more_often_than_alpha(alpha: float) -> None:
    # Scores at three heights, by a threshold classifier of one dimension, moved against it.
    rng, n, sigma, runs = np.random.default_rng(7), 60, 1.0, 4000
    cuts, heights = np.array([1.2, 0.3, -0.8]), np.array([0.2, 0.6, 1.0])
    reached = rng.normal(0.0, sigma, (runs, n, 1)) <= cuts
    counts = reached.sum(axis=1)
    scores = np.array([0.0, *heights])[reached.sum(axis=2)]
    radii = np.array([0.0, 0.4, 1.5])
    truth = (np.diff(heights, prepend=0) * ndtr((cuts - radii[:, np.newaxis]) / sigma)).sum(axis=1)
    settings = {"alpha": alpha, "sigma": sigma}
    fixed = distribution_confidence_lower(counts, heights, n, radii, **settings)
    chosen, reaching = order_statistic_thresholds(scores)
    by_scores = distribution_confidence_lower(reaching, chosen, n, radii, **settings)
    by_mean = mean_confidence_lower(scores.mean(axis=1), n, radii, **settings)
    # The better of two is covered: both hold on one event.
    for bound in (fixed, by_scores, by_mean, np.maximum(fixed, by_mean)):
        violated = int((bound > truth).any(axis=1).sum())  # all radii at once
        assert binom.sf(violated - 1, runs, alpha) > 1e-4


@pytest.mark.parametrize(
    ("shift", "exact"),
    [
        (
            lambda p, r: uniform_probability_lower(p, r, half_width=2.0),
            lambda p, r: np.maximum(p - r / 4, 0),
        ),
        (
            lambda p, r: laplace_probability_lower(p, r, scale=2.0),
            lambda p, r: p * np.exp(-r / 2),  # below one half
        ),
    ],
)
def test_other_noise_comes_through_its_shift(shift, exact) -> None:
    counts, thresholds, n, alpha = np.array([450, 300, 100]), np.array([0.3, 0.6, 0.8]), 1000, 0.01
    p, widths = counts / n - math.sqrt(math.log(100) / 2000), np.array([0.3, 0.3, 0.2])
    radii = np.array([0.0, 0.1, 0.7, 3.0])
    bound = distribution_confidence_lower(
        counts, thresholds, n, radii, alpha=alpha, probability_lower=shift
    )
    direct = (widths * exact(p, radii[:, np.newaxis])).sum(axis=1)
    np.testing.assert_allclose(bound, direct, rtol=1e-9, atol=1e-15)
    by_mean = mean_confidence_lower(0.4, n, radii, alpha=alpha, probability_lower=shift)
    np.testing.assert_allclose(by_mean, exact(0.4 - math.sqrt(math.log(100) / 2000), radii))
    levels = np.array([0.05, 0.1, 0.15])
    found = distribution_confidence_radius(
        counts, thresholds, n, levels, alpha=alpha, probability_lower=shift
    )
    there = (widths * exact(p, found[:, np.newaxis])).sum(axis=1)
    np.testing.assert_allclose(there, levels, rtol=1e-9)


# -- the radius ------------------------------------------------------------------------------------


def test_bound_at_the_radius_is_at_least_the_threshold() -> None:
    rng = np.random.default_rng(8)
    counts = np.sort(rng.integers(0, 10_001, (200, 30)))[:, ::-1]
    thresholds = np.linspace(0.05, 1, 30)
    for level in (0.05, 0.3, 0.45):
        radius = distribution_confidence_radius(counts, thresholds, 10_000, level, **RUN)
        there = [
            distribution_confidence_lower(row, thresholds, 10_000, r, **RUN)
            for row, r in zip(counts, radius, strict=True)
        ]
        start = distribution_confidence_lower(counts, thresholds, 10_000, 0.0, **RUN)
        np.testing.assert_array_equal(radius > 0, start > level)
        held = np.array(there)[radius > 0]
        assert (held >= level).all()
        np.testing.assert_allclose(held, level, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e5, 1e200])
def test_radius_is_proportional_to_the_noise(scale: float) -> None:
    unit = mean_confidence_radius([0.9, 0.7], 1000, 0.5, alpha=0.001, sigma=1.0)
    scaled = mean_confidence_radius([0.9, 0.7], 1000, 0.5, alpha=0.001, sigma=scale)
    np.testing.assert_allclose(scaled / scale, unit, rtol=1e-11)


def test_radius_is_zero_without_confidence_and_infinite_for_nothing() -> None:
    radius = mean_confidence_radius([0.0, 0.3, 0.9], 1000, [0.0, 0.5], **RUN)
    np.testing.assert_array_equal(radius[:, 0], [0.0, np.inf, np.inf])
    np.testing.assert_array_equal(radius[:2, 1], 0.0)
    assert 0 < radius[2, 1] < np.inf
    margin = mean_confidence_radius(0.9, 1000, -1.0, **RUN, **MARGIN)
    assert margin == np.inf


def test_radius_is_finite_and_certified_for_noise_that_nothing_moves() -> None:
    radius = mean_confidence_radius(
        [0.9, 0.2], 1000, 0.5, alpha=0.001, probability_lower=lambda p, r: p + 0 * np.asarray(r)
    )
    assert 1e299 < radius[0] < np.inf
    assert radius[1] == 0


def test_radius_of_a_shift_that_jumps_stays_on_the_safe_side() -> None:
    def shift(p, radius):
        return np.where(np.asarray(radius) <= 0.3, p, p / 4) * np.ones(np.shape(radius))

    radius = mean_confidence_radius(0.9, 1000, 0.5, alpha=0.001, probability_lower=shift)
    assert 0.3 * (1 - 1e-11) <= radius <= 0.3


def test_search_that_is_cut_short_stays_on_the_safe_side(monkeypatch) -> None:
    exact = distribution_confidence_radius(REACHED, STEPS, 1000, 0.5, **RUN)
    for steps in (1, 2, 3):
        monkeypatch.setattr(confidence_profile, "_STEPS", steps)
        short = distribution_confidence_radius(REACHED, STEPS, 1000, 0.5, **RUN)
        assert short <= exact * (1 + 1e-12)


# -- shapes, types and blocks ----------------------------------------------------------------------


def test_shapes_are_those_of_the_inputs_and_then_of_the_radii() -> None:
    counts = np.tile(REACHED, (3, 2, 1))
    for function, argument in (
        (distribution_confidence_lower, 0.1),
        (distribution_confidence_radius, 0.3),
    ):
        one = function(REACHED, STEPS, 1000, argument, **RUN)
        assert isinstance(one, np.float64)
        assert function(REACHED, STEPS, 1000, [argument] * 5, **RUN).tolist() == [one] * 5
        whole = function(counts, STEPS, 1000, [argument], **RUN)
        assert whole.shape == (3, 2, 1)
        assert (whole == one).all()
        own = np.broadcast_to(STEPS, counts.shape)
        np.testing.assert_array_equal(function(counts, own, 1000, [argument], **RUN), whole)
        assert function(counts[:0], STEPS, 1000, argument, **RUN).shape == (0, 2)
        assert function(counts, STEPS, 1000, [], **RUN).shape == (3, 2, 0)
    assert isinstance(mean_confidence_lower(0.9, 1000, 0.1, **RUN), np.float64)
    assert mean_confidence_lower([0.9], [[1000], [10]], [0.1, 0.2], **RUN).shape == (2, 1, 2)
    assert mean_confidence_radius([[0.9, 0.8]], 1000, 0.5, **RUN).shape == (1, 2)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint64, np.float64])
def test_counts_of_any_whole_type_are_taken(dtype: type) -> None:
    expected = distribution_confidence_lower(REACHED, STEPS, 1000, [0.0, 0.1], **RUN)
    steps = np.array(STEPS, dtype=np.float32)
    got = distribution_confidence_lower(np.array(REACHED, dtype), steps, 1000, [0.0, 0.1], **RUN)
    np.testing.assert_array_equal(got, expected)


def test_blocks_and_tables_do_not_show(monkeypatch) -> None:
    rng = np.random.default_rng(9)
    counts = np.sort(rng.integers(0, 501, (40, 25)))[:, ::-1]
    thresholds = np.sort(rng.uniform(0, 1, (40, 25)))
    radii, levels = [0.0, 0.1, 0.4], [0.1, 0.3]
    whole = distribution_confidence_lower(counts, thresholds, 500, radii, **RUN)
    found = distribution_confidence_radius(counts, thresholds, 500, levels, **RUN)
    for i in (0, 17, 39):  # few counts: each probability by itself instead of a table
        row = counts[i], thresholds[i], 500
        np.testing.assert_array_equal(distribution_confidence_lower(*row, radii, **RUN), whole[i])
    monkeypatch.setattr(confidence_profile, "_BLOCK", 60)
    monkeypatch.setattr(confidence_profile, "_TABLES", 600)
    monkeypatch.setattr(confidence_profile._blocks, "__defaults__", (60,))
    again = distribution_confidence_lower(counts, thresholds, 500, radii, **RUN)
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_array_equal(
        distribution_confidence_radius(counts, thresholds, 500, levels, **RUN), found
    )


def test_a_single_draw_certifies_nothing() -> None:
    assert distribution_confidence_lower([1], [1.0], 1, 0.0, **RUN) == 0
    assert mean_confidence_lower(1.0, 1, 0.0, **RUN, **MARGIN) == -1
    assert mean_confidence_radius(1.0, 1, 0.0, **RUN) == 0


def test_ties_among_thresholds_are_harmless() -> None:
    tied = distribution_confidence_lower([9, 9, 4, 4], [0.5, 0.5, 0.8, 0.8], 9, 0.1, **RUN)
    assert tied == pytest.approx(
        float(distribution_confidence_lower([9, 4], [0.5, 0.8], 9, 0.1, **RUN)), rel=1e-13
    )


def test_hundred_thousand_curves_take_seconds() -> None:
    rng = np.random.default_rng(10)
    thresholds = np.arange(1, 101) / 100
    exponent = rng.uniform(0.3, 30.0, (100_000, 1))
    counts = (100_000 * (1 - thresholds**exponent)).astype(np.int32)
    started = time.process_time()
    curves = distribution_confidence_lower(counts, thresholds, 100_000, np.arange(7) / 4, **RUN)
    assert time.process_time() - started < 10
    assert curves.shape == (100_000, 7)
    assert (np.diff(curves, axis=1) <= 0).all()


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"counts": [1001, 990, 900, 600]}, ValueError,
         r"^counts must lie between 0 and trials \(1000\), got 1001\.$"),
        ({"counts": [5, 4, 3, -1]}, ValueError,
         r"^counts must lie between 0 and trials \(1000\), got -1\.$"),
        ({"counts": [900, 990, 900, 600]}, ValueError,
         r"^counts must not increase along the thresholds, got 990 after 900\. Each is the num"),
        ({"counts": [900.5, 9, 9, 6]}, ValueError, r"^counts must be integers, got 900\.5\.$"),
        ({"counts": "abc"}, TypeError, r"^counts must be integers, got 'abc'\.$"),
        ({"counts": 5}, ValueError, r"^thresholds must be one row for all .* counts of shape \(\)"),
        ({"thresholds": [0.5, 0.25, 0.75, 1.0]}, ValueError,
         r"^thresholds must not decrease along the last axis, got 0\.25 after 0\.5\.$"),
        ({"thresholds": [0.25, 0.5, 0.75, 1.5]}, ValueError,
         r"^thresholds must lie in \[0\.0, 1\.0\], got 1\.5\.$"),
        ({"thresholds": [-0.25, 0.5, 0.75, 1]}, ValueError,
         r"^thresholds must lie in \[0\.0, 1\.0\], got -0\.25\.$"),
        ({"thresholds": [0.25, 0.5, 0.75, math.nan]}, ValueError,
         r"^thresholds must lie in \[0\.0, 1\.0\], got nan\.$"),
        ({"thresholds": [0.5, 1.0]}, ValueError,
         r"^thresholds must be one row for all inputs or one for each, as wide as counts of "
         r"shape \(4,\), got shape \(2,\)\.$"),
        ({"thresholds": list("abcd")}, TypeError, r"^thresholds must be real numbers, got "),
        ({"trials": 0}, ValueError, r"^trials must be at least 1, got 0\.$"),
        ({"thresholds": [], "counts": []}, ValueError,
         r"^thresholds must not be empty, got none\.$"),
        ({"trials": [1000]}, ValueError,
         r"^trials must be one number for all inputs, got \[1000\]\.$"),
    ],
)  # fmt: skip
def test_bad_counts_and_thresholds_are_refused(changes, error, message) -> None:
    arguments = {"counts": REACHED, "thresholds": STEPS, "trials": 1000} | changes
    for function in (distribution_confidence_lower, distribution_confidence_radius):
        with pytest.raises(error, match=message):
            function(**arguments, **({"radius": 0.1} if "lower" in function.__name__ else
                                     {"threshold": 0.1}), **RUN)  # fmt: skip


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_mean_outside_the_range_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^mean must lie in \[0\.0, 1\.0\], got "):
        mean_confidence_lower([0.5, bad], 1000, 0.1, **RUN)
    with pytest.raises(TypeError, match=r"^mean must be real numbers, got None\.$"):
        mean_confidence_radius(None, 1000, 0.1, **RUN)


BY_BOTH = pytest.mark.parametrize(
    ("function", "score"),
    [
        (mean_confidence_lower, (0.9,)),
        (distribution_confidence_lower, (REACHED, STEPS)),
        (mean_confidence_radius, (0.9,)),
        (distribution_confidence_radius, (REACHED, STEPS)),
    ],
)


@BY_BOTH
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"alpha": 0.6}, ValueError, r"^alpha must be at most 0\.5, as the Dvoretzky-"),
        ({"alpha": 0.0}, ValueError, r"^alpha must lie strictly between 0 and 1, got 0\.0\.$"),
        ({"sigma": 0.0}, ValueError, r"^sigma must be positive and finite, got 0\.0\.$"),
        ({"sigma": "x"}, TypeError, r"^sigma must be a real number, got 'x'\.$"),
        ({"sigma": [1.0]}, TypeError, r"^sigma must be a real number, got \[1\.0\]\.$"),
        ({"sigma": None}, TypeError, r"^sigma must be given for Gaussian noise, or else "
         r"probability_lower, and not both, got None and None\.$"),
        ({"probability_lower": max}, TypeError, r"^sigma must be given .*, got 0\.25 and <built"),
        ({"low": 1.0}, ValueError, r"^low must be below high, and both finite, got 1\.0 and 1\.0"),
        ({"high": math.inf}, ValueError, r"^low must be below high, and both finite, got 0\.0 a"),
        ({"low": math.nan}, ValueError, r"^low must be below high, and both finite, got nan and"),
        ({"low": "a"}, TypeError, r"^low must be a real number, got 'a'\.$"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(function, score, changes, error, message) -> None:
    with pytest.raises(error, match=message):
        function(*score, 1000, 0.1, **RUN | changes)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_bad_radii_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^radius must be non-negative and finite, got "):
        distribution_confidence_lower(REACHED, STEPS, 1000, [0.1, bad], **RUN)
    with pytest.raises(TypeError, match=r"^radius must be real numbers, got 'a'\.$"):
        mean_confidence_lower(0.9, 1000, "a", **RUN)
    message = r"^radius must be a number or a list of them, got shape \(1, 1\)\.$"
    with pytest.raises(ValueError, match=message):
        mean_confidence_lower(0.9, 1000, [[0.1]], **RUN)


def test_threshold_that_so_many_draws_cannot_certify_is_refused() -> None:
    message = (
        r"^threshold must be at most 0\.9412\d+, the most that 1000 draws can certify at "
        r"alpha=0\.001, got 0\.95\. Draw at least 1382 scores, or raise alpha\.$"
    )
    for function, score in (
        (mean_confidence_radius, (0.9,)),
        (distribution_confidence_radius, (REACHED, STEPS)),
    ):
        with pytest.raises(ValueError, match=message):
            function(*score, 1000, [0.5, 0.95], **RUN)
        function(*score, 1000, 0.94, **RUN)
    # The remedy is enough, and no more than that.
    assert mean_confidence_radius(1.0, 1382, 0.95, **RUN) > 0
    with pytest.raises(ValueError, match=r"^threshold must be at most 0\.9499"):
        mean_confidence_radius(1.0, 1381, 0.95, **RUN)
    with pytest.raises(ValueError, match=r"^threshold must be at most 0\.8824"):
        mean_confidence_radius(1.0, 1000, 0.95, **RUN, **MARGIN)


@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.5, math.nan])
def test_threshold_outside_the_range_is_refused(bad: float) -> None:
    message = r"^threshold must be at least 0\.0 and below 1\.0, got "
    with pytest.raises(ValueError, match=message):
        mean_confidence_radius(0.9, 1000, bad, **RUN)


def test_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^threshold must be real numbers, got 'a'\.$"):
        mean_confidence_radius(0.9, 1000, "a", **RUN)
    message = r"^threshold must be a number or a list of them, got shape \(1, 1\)\.$"
    with pytest.raises(ValueError, match=message):
        mean_confidence_radius(0.9, 1000, [[0.5]], **RUN)
