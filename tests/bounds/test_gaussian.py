"""Radii for Gaussian noise against references of 60 digits."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from randsmooth.bounds import neyman_pearson_radius, pixeldp_radius, renyi_radius
from randsmooth.intervals import clopper_pearson_lower

EVERY = pytest.mark.parametrize("radius", [neyman_pearson_radius, renyi_radius, pixeldp_radius])
TIES = [
    (0.3, np.nextafter(0.3, 0)),
    (0.5, np.nextafter(0.5, 0)),
    (0.4, 0.4 - 1e-9),
    (0.5 + 1e-9, None),
]
EDGES = [
    *TIES,
    (0.05, 0.0),
    (0.05, 1e-6),
    (0.5, 0.0),
    (0.5, 1e-300),
    (0.5, 5e-324),
    (0.9, 0.0),
    (0.9, 0.5),
    (1 - 1e-12, None),
    (1 - 1e-12, 1e-300),
    (1 - 1e-12, 1e-13),
    (1 - 2**-53, None),
    (1e-12, 1e-13),
    (1.0, 0.3),
]


def random_pairs(number: int, seed: int) -> list[tuple[float, float | None]]:
    rng = np.random.default_rng(seed)
    pairs: list[tuple[float, float | None]] = list(EDGES)
    for i in range(number):
        p1 = float(rng.uniform(0.02, 1))
        complement = float(10 ** rng.uniform(-15, -1))
        pairs.append(
            (
                (p1, float(rng.uniform(0, min(p1, 1 - p1)))),
                (1 - complement, None),
                (1 - complement, complement * float(10 ** rng.uniform(-9, 0))),
                (p1 / 2, max(p1 / 2 - float(10 ** rng.uniform(-15, -3)), 0.0)),
                (0.5 + complement, None),
                (complement, complement * float(10 ** rng.uniform(-250, 0))),
            )[i % 6]
        )
    return pairs


def clipped(p1: mp.mpf, p2: mp.mpf | None) -> tuple[mp.mpf, mp.mpf]:
    return p1, 1 - p1 if p2 is None else min(p2, 1 - p1)


def normal_quantile(p: mp.mpf) -> mp.mpf:
    if p > 0.5:
        return -normal_quantile(1 - p)
    if p == 0:
        return -mp.inf
    z = mp.mpf(float(ndtri(float(p))))
    for _ in range(4):
        u = (mp.erfc(-z / mp.sqrt(2)) / 2 - p) / mp.npdf(z)
        z -= u / (1 + u * z / 2)
    return z


def largest(function, upper: mp.mpf) -> mp.mpf:
    """Golden-section search on [0, upper], both ends included."""
    ratio = (mp.sqrt(5) - 1) / 2
    low, high = mp.mpf(0), upper
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(45):
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return max(at_left, at_right, function(mp.mpf(0)), function(upper))


def exact_neyman_pearson(p1: mp.mpf, p2: mp.mpf | None) -> mp.mpf:
    p1, p2 = clipped(p1, p2)
    return (normal_quantile(p1) - normal_quantile(p2)) / 2 if p1 > p2 else mp.mpf(0)


def exact_renyi(p1: mp.mpf, p2: mp.mpf | None) -> mp.mpf:
    p1, p2 = clipped(p1, p2)
    if p1 <= p2:
        return mp.mpf(0)
    if p2 == 0:
        return mp.inf if p1 == 1 else mp.sqrt(-2 * mp.log1p(-p1))

    def radius(s: mp.mpf) -> mp.mpf:
        mean = mp.sqrt(p1 * p2) if s == 0 else ((p1**-s + p2**-s) / 2) ** (-1 / s)
        return mp.sqrt(-2 * mp.log(1 - p1 - p2 + 2 * mean) / (1 + s))

    return largest(radius, mp.mpf(1))


def exact_pixeldp(p1: mp.mpf, p2: mp.mpf | None) -> mp.mpf:
    p1, p2 = clipped(p1, p2)
    if p1 <= p2:
        return mp.mpf(0)

    def radius(epsilon: mp.mpf) -> mp.mpf:
        delta = (p1 - mp.exp(2 * epsilon) * p2) / (1 + mp.exp(epsilon))
        return epsilon / mp.sqrt(2 * mp.log(1.25 / delta)) if delta > 0 else mp.mpf(0)

    return largest(radius, mp.mpf(1) if p2 == 0 else min(mp.mpf(1), mp.log(p1 / p2) / 2))


EXACT = pytest.mark.parametrize(
    ("radius", "exact", "tolerance"),
    [
        (neyman_pearson_radius, exact_neyman_pearson, 1e-9),
        (renyi_radius, exact_renyi, 1e-6),
        (pixeldp_radius, exact_pixeldp, 1e-4),
    ],
)


def assert_just_below(value: float, exact: mp.mpf, tolerance: float) -> None:
    assert mp.mpf(value) <= exact
    if mp.isinf(exact):
        assert value == np.inf
    elif exact > 0:
        assert float((exact - mp.mpf(value)) / exact) <= tolerance


@EXACT
@pytest.mark.slow
def test_radius_is_just_below_the_exact_one(radius, exact, tolerance: float) -> None:
    with mp.workdps(60):
        for p1, p2 in random_pairs(180, seed=1):
            reference = exact(mp.mpf(p1), None if p2 is None else mp.mpf(p2))
            assert_just_below(float(radius(p1, p2, sigma=1.0)), reference, tolerance)


@EXACT
def test_radius_is_below_that_of_the_decimals_the_inputs_stand_for(
    radius, exact, tolerance: float
) -> None:
    decimals = [("0.1", "0.01"), ("0.9", "0.1"), ("0.3", "0.29"), ("0.999999", "0.000001")]
    decimals += [("0.500001", "0.499999"), ("0.4000005", "0.3999995"), ("0.7", "0.3")]
    decimals += [(str(0.5 + i / 1000), str(round(0.5 - i / 1000, 3))) for i in range(1, 30)]
    with mp.workdps(60):
        for p1, p2 in decimals:
            value = float(radius(float(p1), float(p2), sigma=1.0))
            assert_just_below(value, exact(mp.mpf(p1), mp.mpf(p2)), tolerance)


@pytest.mark.parametrize(
    ("radius", "key", "tolerance"),
    [
        (neyman_pearson_radius, "cohen_l2_two_sided", 1e-9),
        (renyi_radius, "renyi_l2", 1e-6),
        (pixeldp_radius, "pixeldp_l2_best", 1e-4),
    ],
)
def test_radius_agrees_with_golden_values(shared: Path, radius, key: str, tolerance: float) -> None:
    for row in json.loads((shared / "reference" / "values.json").read_text())["radii"]:
        value = float(radius(float(row["p1"]), float(row["p2"]), sigma=float(row["sigma"])))
        assert_just_below(value, mp.mpf(row[key]), tolerance)


def test_one_sided_radius_agrees_with_golden_values(shared: Path) -> None:
    for row in json.loads((shared / "reference" / "values.json").read_text())["radii"]:
        value = float(neyman_pearson_radius(float(row["p1"]), sigma=float(row["sigma"])))
        assert_just_below(value, max(mp.mpf(row["cohen_l2_one_sided"]), mp.mpf(0)), 1e-9)


def test_certified_radii_agree_with_golden_values(shared: Path) -> None:
    for row in json.loads((shared / "reference" / "values.json").read_text())["cohen_certify"]:
        p_lower = clopper_pearson_lower(int(row["k"]), int(row["n"]), alpha=float(row["alpha"]))
        value = float(neyman_pearson_radius(p_lower, sigma=float(row["sigma"])))
        assert (value == 0) == row["abstain"]
        assert_just_below(value, mp.mpf(row["radius"]), 1e-9)


@EVERY
@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_radius_grows_with_p_lower_and_falls_with_p_upper(
    radius, first: float, second: float, p_upper: float
) -> None:
    low, high = sorted((first, second))
    assume(high - low > 1e-6)
    # Rounding gives up at most this share, by which neighbours may change places.
    slack = 1 + 1e-4 if radius is pixeldp_radius else 1 + 1e-6
    assert radius(low, p_upper, sigma=1.0) <= radius(high, p_upper, sigma=1.0) * slack
    assert radius(p_upper, high, sigma=1.0) <= radius(p_upper, low, sigma=1.0) * slack


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_renyi_radius_is_never_above_the_tight_one(p_lower: float, p_upper: float) -> None:
    tight = neyman_pearson_radius(p_lower, p_upper, sigma=1.0)
    assert renyi_radius(p_lower, p_upper, sigma=1.0) <= tight
    assert pixeldp_radius(p_lower, p_upper, sigma=1.0) <= tight


@EVERY
def test_radius_is_zero_without_a_lead(radius) -> None:
    pairs = np.array([(0.3, 0.4), (0.35, 0.35), (0.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
    np.testing.assert_array_equal(radius(*pairs.T, sigma=1.0), 0.0)
    np.testing.assert_array_equal(radius([0.0, 0.2, 0.5], sigma=1.0), 0.0)


def test_radius_is_infinite_where_the_exact_one_is() -> None:
    assert neyman_pearson_radius(1.0, sigma=0.5) == np.inf
    assert neyman_pearson_radius(0.2, 0.0, sigma=0.5) == np.inf
    assert renyi_radius(1.0, sigma=0.5) == np.inf
    assert renyi_radius(1.0, 0.3, sigma=0.5) == np.inf
    assert np.isfinite(renyi_radius(0.2, 0.0, sigma=0.5))
    assert pixeldp_radius(1.0, sigma=1.0) == pytest.approx(0.57046908, rel=1e-7)


@EVERY
def test_radius_clips_p_upper_to_what_p_lower_leaves(radius) -> None:
    p = np.linspace(0.5, 1, 21)
    expected = radius(p, sigma=1.0)
    np.testing.assert_allclose(radius(p, 1.0, sigma=1.0), expected, rtol=1e-12)
    np.testing.assert_allclose(radius(p, 1 - p, sigma=1.0), expected, rtol=1e-12)


@EVERY
def test_radius_is_proportional_to_sigma_and_broadcasts(radius) -> None:
    p_lower, p_upper = np.array([[0.6], [0.9]]), np.array([0.05, 0.1, 0.2])
    unit = radius(p_lower, p_upper, sigma=1.0)
    assert unit.shape == (2, 3)
    np.testing.assert_allclose(radius(p_lower, p_upper, sigma=0.25), unit / 4, rtol=1e-14)
    assert radius(p_lower, p_upper, sigma=[1.0, 2.0, 3.0]).shape == (2, 3)
    assert radius(0.9, p_upper, sigma=1.0).shape == (3,)
    assert isinstance(radius(0.9, 0.1, sigma=1.0), np.float64)
    assert radius(0.9, 0.1, sigma=1.0) == unit[1, 1]
    assert radius([], sigma=1.0).shape == (0,)


@EVERY
def test_radius_stays_finite_and_outward_for_extreme_sigma(radius) -> None:
    assert radius(0.999, sigma=1.7e308) <= np.finfo(float).max
    assert 0 <= radius(0.6, sigma=5e-324) <= 5e-324


@pytest.mark.slow
def test_renyi_radius_takes_a_million_pairs() -> None:
    rng = np.random.default_rng(0)
    p_lower = rng.uniform(0, 1, 10**6)
    p_upper = np.minimum(p_lower, 1 - p_lower) * rng.uniform(0, 1, 10**6)
    radius = renyi_radius(p_lower, p_upper, sigma=1.0)
    assert (radius > 0).all()
    assert (radius <= neyman_pearson_radius(p_lower, p_upper, sigma=1.0)).all()
    # Blocks do not show: any row alone gives the same number.
    rows = rng.integers(0, 10**6, 20)
    assert [renyi_radius(p_lower[i], p_upper[i], sigma=1.0) for i in rows] == radius[rows].tolist()


@pytest.mark.parametrize("s", [0.0, 0.01, 0.2, 0.5, 0.6, 2.0, 50.0])
def test_renyi_radius_is_at_least_that_of_any_single_order(s: float) -> None:
    rng = np.random.default_rng(3)
    p1 = rng.uniform(0.05, 0.99, 200)
    p2 = np.minimum(p1, 1 - p1) * rng.uniform(0.01, 0.95, 200)
    with np.errstate(under="ignore"):
        mean = np.sqrt(p1 * p2) if s == 0 else ((p1**-s + p2**-s) / 2) ** (-1 / s)
    single = np.sqrt(-2 / (1 + s) * np.log(1 - p1 - p2 + 2 * mean))
    assert (renyi_radius(p1, p2, sigma=1.0) >= single * (1 - 1e-9)).all()


@EVERY
@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf])
def test_radius_rejects_probabilities_outside_the_unit_interval(radius, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got "):
        radius([0.5, bad], 0.1, sigma=1.0)
    with pytest.raises(ValueError, match=r"^p_upper must lie in \[0, 1\], got "):
        radius(0.5, bad, sigma=1.0)


@EVERY
def test_radius_rejects_probabilities_that_are_no_numbers(radius) -> None:
    with pytest.raises(TypeError, match=r"^p_lower must be real numbers, got 'a'\.$"):
        radius("a", sigma=1.0)
    with pytest.raises(TypeError, match=r"^p_upper must be real numbers, got \[None\]\.$"):
        radius(0.9, [None], sigma=1.0)


@EVERY
@pytest.mark.parametrize("bad", [0, -1.0, np.nan, np.inf])
def test_radius_rejects_sigma_that_is_not_positive_and_finite(radius, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^sigma must be positive and finite, got "):
        radius(0.9, sigma=bad)


@EVERY
def test_radius_rejects_sigma_that_is_no_number(radius) -> None:
    with pytest.raises(TypeError, match=r"^sigma must be a real number, got None\.$"):
        radius(0.9, sigma=None)
