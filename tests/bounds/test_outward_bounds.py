"""Neither probabilities after a shift, nor confidence bounds, nor what is printed says too much."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from outward_references import (
    BITS,
    Doubles,
    assert_never_above,
    normal_quantile_of,
    probability_pairs,
    scales,
)
from randsmooth import bounds, certify_counts
from randsmooth.bounds import norms, shifts
from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workprec(BITS):
        yield


# -- probabilities after a shift ---------------------------------------------------------------


def shifted_inputs(number: int, seed: int) -> tuple[Doubles, Doubles, Doubles]:
    top, other = probability_pairs(number, seed)
    rng = np.random.default_rng(seed)
    p = np.clip(np.where(rng.random(len(top)) < 0.5, top, other), 5e-324, 1 - 2**-53)
    scale = scales(number, seed)
    return p, scale * 10 ** rng.uniform(-12, 1, number), scale


@pytest.mark.slow
def test_normal_probabilities_after_a_shift() -> None:
    p, radius, scale = shifted_inputs(6000, 51)
    lower, upper = [], []
    for row in zip(p.tolist(), radius.tolist(), scale.tolist(), strict=True):
        value, length, sigma = map(mp.mpf, row)
        z = normal_quantile_of(value)
        moved = [(z + sign * length / sigma) / mp.sqrt(2) for sign in (-1, 1)]
        lower.append(mp.erfc(-moved[0]) / 2)
        # As minus the complement, so that "never below" is "never above" again.
        upper.append(-mp.erfc(-moved[1]) / 2)
    below = shifts.gaussian_probability_lower(p, radius, sigma=scale)
    above = shifts.gaussian_probability_upper(p, radius, sigma=scale)
    assert_never_above(below, lower, p, radius, scale)
    tolerated = [reference * (1 - mp.mpf(2) ** -100) for reference in upper]
    assert_never_above(-above, tolerated, p, radius, scale)


def test_laplace_and_uniform_probabilities_after_a_shift() -> None:
    p, radius, scale = shifted_inputs(6000, 52)
    laplace_exact, uniform_exact = [], []
    for row in zip(p.tolist(), radius.tolist(), scale.tolist(), strict=True):
        value, length, width = map(mp.mpf, row)
        s = length / width
        grown = (1 - value) * mp.exp(s)
        if value <= 0.5:
            laplace_exact.append(value * mp.exp(-s))
        else:
            laplace_exact.append(1 - grown if grown <= 0.5 else mp.exp(-s) / (4 * (1 - value)))
        uniform_exact.append(max(value - s / 2, mp.mpf(0)))
    values = shifts.laplace_probability_lower(p, radius, scale=scale)
    assert_never_above(values, laplace_exact, p, radius, scale)
    values = shifts.uniform_probability_lower(p, radius, half_width=scale)
    assert_never_above(values, uniform_exact, p, radius, scale)


def test_probabilities_after_a_shift_of_any_log_concave_noise() -> None:
    rng = np.random.default_rng(53)
    p, radius = rng.uniform(0.001, 0.999, 600), 10 ** rng.uniform(-6, 0.5, 600)
    values = shifts.log_concave_probability_lower(p, radius, stats.norm())
    exact = [
        mp.erfc((mp.mpf(length) - normal_quantile_of(mp.mpf(value))) / mp.sqrt(2)) / 2
        for value, length in zip(p.tolist(), radius.tolist(), strict=True)
    ]
    assert_never_above(values, exact, p, radius)


# -- other norms -------------------------------------------------------------------------------


def test_radii_in_other_norms() -> None:
    rng = np.random.default_rng(61)
    radius = 10 ** rng.uniform(-300, 300, 4000)
    for dimension in (1, 2, 3072, 150_528):
        from_l2 = bounds.linf_radius_from_l2(radius, dimension=dimension)
        from_l1 = norms.converted_radius(radius, norm="l1", to="linf", dimension=dimension)
        for exact, second, first in zip(radius, from_l2, from_l1, strict=True):
            assert Fraction(float(second)) ** 2 * dimension <= Fraction(float(exact)) ** 2
            assert Fraction(float(first)) * dimension <= Fraction(float(exact))
        same = bounds.l1_radius_from_l2(radius, dimension=dimension)
        assert (same <= radius).all()


# -- confidence bounds -------------------------------------------------------------------------


def upper_tail(successes: int, trials: int, p: mp.mpf) -> mp.mpf:
    """P(Bin(n, p) >= k) for k above the mean, to 40 digits: a sum that falls geometrically."""
    term = mp.binomial(trials, successes) * p**successes * (1 - p) ** (trials - successes)
    odds, total, j = p / (1 - p), mp.mpf(0), successes
    while term > total * mp.mpf(10) ** -40:
        total += term
        term *= odds * (trials - j) / (j + 1)
        j += 1
    return total


@pytest.mark.slow
def test_clopper_pearson_bounds_have_at_least_their_level() -> None:
    """At the lower bound, at most alpha of the chance lies at the count or beyond."""
    rng = np.random.default_rng(71)
    trials = np.unique(np.rint(10 ** rng.uniform(0, 5, 250)).astype(int))
    counts = np.unique(
        np.concatenate(
            [
                np.column_stack([np.minimum(offset, trials), trials])
                for offset in (np.ones_like(trials), trials, trials - 1, trials // 2 + 1)
            ]
            + [np.column_stack([rng.integers(0, trials + 1), trials])]
        ),
        axis=0,
    )
    for number, (k, n) in enumerate(counts[counts[:, 0] > 0].tolist()):
        alpha = (0.001, 0.05)[number % 2]
        lower = mp.mpf(float(clopper_pearson_lower(k, n, alpha=alpha)))
        assert upper_tail(k, n, lower) <= alpha
        # The upper bound is that of the failures, seen from the other side.
        upper = mp.mpf(float(clopper_pearson_upper(n - k, n, alpha=alpha)))
        assert upper == 1 or upper_tail(k, n, 1 - upper) <= alpha


# -- what is printed ---------------------------------------------------------------------------


def test_printed_radii_and_probabilities_are_rounded_outward(tmp_path: Path) -> None:
    rng = np.random.default_rng(81)
    for number in range(10):
        top = rng.integers(500, 1001, 400)
        counts = np.column_stack([top, 1000 - top])
        sigma = float(10 ** rng.uniform(-6, 6))
        record = certify_counts(counts.copy(), counts, sigma=sigma, alpha=0.01)
        record.to_tsv(path := tmp_path / f"{number}.tsv")
        header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        for text, value in zip(columns["radius"], record.radius.tolist(), strict=True):
            assert Decimal(text) <= Decimal(value)
            assert float(text) <= value
            assert float(text) >= value * (1 - 1e-5)
        for text, value in zip(columns["p_lower"], record.p_lower.tolist(), strict=True):
            assert Decimal(text) <= Decimal(value)
        for text, value in zip(columns["p_upper"], record.p_upper.tolist(), strict=True):
            assert Decimal(text) >= Decimal(value)
