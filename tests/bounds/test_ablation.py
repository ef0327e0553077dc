"""Bounds for random ablation, against rational arithmetic and enumeration."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest

from randsmooth.bounds.ablation import ablation_probability_lower, ablation_radius
from randsmooth.bounds.ratios import ratio_above, ratio_down, ratio_up

SIZES = [(784, 45), (3072, 75), (50, 7), (12, 12), (9, 1), (5, 4), (50176, 1000)]


def loss(radius: int, d: int, k: int) -> Fraction:
    return 1 - Fraction(comb(max(d - radius, 0), k), comb(d, k))


@pytest.mark.parametrize(("d", "k"), SIZES)
def test_radius_is_the_largest_integer_that_the_exact_bound_allows(d: int, k: int) -> None:
    random = np.random.default_rng(d)
    tops = np.concatenate([1 - random.random(40) ** 3 / 2, [1.0, 0.5, 0.2, 1 - 1e-12]])
    others = (1 - tops) * random.random(len(tops))
    for given in (None, others):
        got = ablation_radius(tops, given, n_features=d, n_kept=k)
        for i, radius in enumerate(got.astype(int)):
            top = Fraction(tops[i])
            lead = top - (1 - top if given is None else Fraction(given[i]))
            assert lead > 2 * loss(radius, d, k) or radius == 0
            assert lead <= 2 * loss(radius + 1, d, k)


def test_radius_is_not_above_the_exact_one_at_ties() -> None:
    # One of four features is kept: a lead of 1/2 is lost to one change exactly.
    tie = 0.75
    tops = [tie, np.nextafter(tie, 1), tie + 1e-15]
    assert ablation_radius(tops, n_features=4, n_kept=1).tolist() == [0, 0, 1]
    # In decimals, 0.9 is at the tie of two changes among five; its double is beyond.
    assert ablation_radius(0.9, n_features=5, n_kept=1) == 1
    assert ablation_radius(1.0, 0.0, n_features=4, n_kept=1) == 1


def test_radius_is_sound_where_the_subtraction_rounds_towards_a_larger_one() -> None:
    others = np.random.default_rng(0).random(2000) * 0.09
    tops = others + 0.8
    for step in range(-2, 3):
        near = tops + step * np.spacing(tops)
        got = ablation_radius(near, others, n_features=5, n_kept=1)
        for top, other, radius in zip(near, others, got, strict=True):
            assert radius < 2 or Fraction(top) - Fraction(other) > Fraction(4, 5)


@pytest.mark.parametrize(("d", "k"), SIZES)
def test_probability_is_just_below_the_exact_one(d: int, k: int) -> None:
    p = np.array([0.0, 1e-300, 0.3, 0.5, 0.999, 1 - 1e-12, 1.0])
    for radius in (0, 0.5, 1, 2, 3, 17, 900, np.inf):
        got = ablation_probability_lower(p, radius, n_features=d, n_kept=k)
        exact_loss = loss(int(min(radius, d)), d, k)
        for probability, value in zip(p, got, strict=True):
            exact = max(Fraction(float(probability)) - exact_loss, Fraction(0))
            assert Fraction(float(value)) <= exact
            assert exact - Fraction(float(value)) <= Fraction(3, 2**53)
    assert np.array_equal(ablation_probability_lower(p, 0, n_features=d, n_kept=k), p)


def test_no_base_classifier_falls_below_the_bound_and_one_attains_it() -> None:
    d, k, random = 5, 2, np.random.default_rng(0)
    kept = list(itertools.combinations(range(d), k))
    for radius in range(1, d + 1):
        changed = set(range(radius))
        hit = np.array([bool(changed & set(subset)) for subset in kept])
        # Outcomes whose kept features changed are other outcomes; the rest are the same.
        events = random.random((200, len(kept))) < 0.6
        attacked = np.where(hit, random.random((200, len(kept))) < 0.5, events)
        before, after = events.mean(axis=1), attacked.mean(axis=1)
        assert (ablation_probability_lower(before, radius, n_features=d, n_kept=k) <= after).all()
        lowest = np.where(hit, 0.0, 1.0).mean()
        value = ablation_probability_lower(1.0, radius, n_features=d, n_kept=k)
        assert value == pytest.approx(lowest, abs=1e-15)


def test_bounds_broadcast_and_return_scalars_for_scalars() -> None:
    size = {"n_features": 30, "n_kept": 2}
    assert ablation_radius([[0.9], [0.99]], [0.001, 0.01], **size).shape == (2, 2)
    assert isinstance(ablation_radius(0.9, **size), np.float64)
    assert ablation_probability_lower([0.9, 0.8], [[1], [2], [0]], **size).shape == (3, 2)
    assert isinstance(ablation_probability_lower(0.9, 1, **size), np.float64)


def test_bounds_refuse_broken_arguments() -> None:
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got 2\.0\.$"):
        ablation_radius(2.0, n_features=5, n_kept=2)
    with pytest.raises(ValueError, match=r"^n_kept must lie from 1 to n_features, got 6 of 5 feat"):
        ablation_radius(0.9, n_features=5, n_kept=6)
    with pytest.raises(ValueError, match=r"^n_kept must lie from 1 to n_features, got 0 of 5 feat"):
        ablation_radius(0.9, n_features=5, n_kept=0)
    with pytest.raises(TypeError, match=r"^n_features must be an integer, got 5\.0\.$"):
        ablation_radius(0.9, n_features=5.0, n_kept=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^radius must not be negative, got nan\.$"):
        ablation_probability_lower(0.9, [1, np.nan], n_features=5, n_kept=2)
    with pytest.raises(TypeError, match=r"^radius must be a real number, got 'a'\.$"):
        ablation_probability_lower(0.9, "a", n_features=5, n_kept=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("numerator", "denominator"),
    [(0, 1), (1, 2), (1, 3), (2, 3), (10**40, 3 * 10**39), (1, 10**400), (2**70 + 1, 2**70)],
)
def test_ratios_are_the_next_doubles_on_the_named_side(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    down, up = ratio_down(numerator, denominator), ratio_up(numerator, denominator)
    above = ratio_above(numerator, denominator)
    assert Fraction(down) <= exact <= Fraction(up)
    assert exact < Fraction(above)
    assert up in (down, np.nextafter(down, np.inf))
    assert above == np.nextafter(down, np.inf)


def test_a_ratio_too_large_for_doubles_is_rounded_down_to_the_largest() -> None:
    assert ratio_down(10**400, 3) == np.finfo(float).max
