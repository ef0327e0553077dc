"""No radius lies above its exact value: a hundred thousand random inputs, with those next door.

References have 50 digits or more, with quantiles polished by the method of Halley. A supremum is
bounded from below by the value at one point, so that only the truth of the comparison matters and
not how good the point is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from outward_references import (
    BITS,
    Doubles,
    assert_never_above,
    normal_quantile_of,
    nudged,
    probability_pairs,
    scales,
)
from randsmooth import bounds
from randsmooth.bounds import log_concave, shapes

Exact = Callable[[mp.mpf, mp.mpf], mp.mpf]


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workprec(BITS):
        yield


def assert_radii_never_above(
    radius: Callable[..., Doubles], exact: Exact, top: Doubles, other: Doubles, name: str
) -> None:
    scale = scales(len(top), len(top))
    rows = zip(top.tolist(), other.tolist(), scale.tolist(), strict=True)
    references = []
    for p1, p2, factor in rows:
        first, second = mp.mpf(p1), min(mp.mpf(p2), 1 - mp.mpf(p1))
        references.append(factor * exact(first, second) if first > second else mp.mpf(0))
    assert_never_above(radius(top, other, **{name: scale}), references, top, other, scale)


# -- radii in closed form ----------------------------------------------------------------------


def normal(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return (normal_quantile_of(p1) - normal_quantile_of(p2)) / 2 if p2 else mp.inf


def laplace_quantile(p: mp.mpf) -> mp.mpf:
    return mp.log(2 * p) if p <= 0.5 else -mp.log(2 * (1 - p))


def laplace(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return (laplace_quantile(p1) - laplace_quantile(p2)) / 2


def laplace_renyi(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return -mp.log1p(p2 - p1) if p1 - p2 < 0.5 else -mp.log((1 - p1) + p2)


def laplace_private(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return mp.log(p1 / p2) / 2


def laplace_teng(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return max(laplace_renyi(p1, p2), laplace_private(p1, p2))


def logistic(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return (mp.log(p1 / p2) + mp.log((1 - p2) / (1 - p1))) / 2


def uniform(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return p1 - p2


def exponential_linf(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return laplace(p1, p2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_normal_radii_of_two_probabilities(seed: int) -> None:
    pairs = probability_pairs(4000, seed)
    assert_radii_never_above(bounds.neyman_pearson_radius, normal, *pairs, "sigma")


@pytest.mark.slow
def test_normal_radii_of_one_probability() -> None:
    rng = np.random.default_rng(4)
    close = [10 ** rng.uniform(-16, -12, 3000) for _ in range(2)]
    p = np.concatenate([rng.uniform(0.5, 1, 4000), 0.5 + close[0], 1 - close[1]])
    p = np.minimum(nudged(p, rng), 1 - 2**-53)
    scale = scales(len(p), 5)
    exact = [
        factor * max(normal_quantile_of(mp.mpf(value)), mp.mpf(0))
        for value, factor in zip(p.tolist(), scale.tolist(), strict=True)
    ]
    assert_never_above(bounds.neyman_pearson_radius(p, sigma=scale), exact, p, scale)


CLOSED_FORMS = [
    (bounds.laplace_radius, laplace, "scale"),
    (bounds.laplace_renyi_radius, laplace_renyi, "scale"),
    (bounds.laplace_pure_dp_radius, laplace_private, "scale"),
    (bounds.laplace_teng_radius, laplace_teng, "scale"),
    (bounds.uniform_radius, uniform, "half_width"),
    (log_concave.logistic_radius, logistic, "scale"),
    (shapes.exponential_linf_radius, exponential_linf, "scale"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("radius", "exact", "name"), CLOSED_FORMS)
def test_radii_in_closed_form(radius: Any, exact: Exact, name: str) -> None:
    top, other = probability_pairs(8000, 11)
    decided = (top > other) & (other > 0)
    assert_radii_never_above(radius, exact, top[decided], other[decided], name)


@pytest.mark.parametrize("dimension", [1, 2, 3072])
def test_radii_of_a_uniform_cube_in_linf(dimension: int) -> None:
    def exact(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
        return -2 * mp.expm1(mp.log1p((p2 - p1) / 2) / dimension)

    def radius(top: Doubles, other: Doubles, **scale: Doubles) -> Doubles:
        return shapes.uniform_linf_radius(top, other, dimension=dimension, **scale)

    assert_radii_never_above(radius, exact, *probability_pairs(2000, 12), "half_width")


def test_normal_radii_as_those_of_any_log_concave_noise() -> None:
    top, other = probability_pairs(800, 13)
    plain = (other > 1e-14) & (top < 1 - 1e-14)
    top, other = top[plain], other[plain]
    values = log_concave.log_concave_radius(top, other, distribution=stats.norm())
    exact = [
        normal(p1, min(p2, 1 - p1)) if p1 > min(p2, 1 - p1) else mp.mpf(0)
        for p1, p2 in zip(map(mp.mpf, top.tolist()), map(mp.mpf, other.tolist()), strict=True)
    ]
    assert_never_above(values, exact, top, other)


# -- radii by their inverse --------------------------------------------------------------------


def top_probabilities(number: int, seed: int) -> Doubles:
    rng = np.random.default_rng(seed)
    size = -(-number // 3)
    kinds = [rng.uniform(0.5, 1, size), *(10 ** rng.uniform(-15, -1, size) for _ in range(2))]
    return np.concatenate([kinds[0], 1 - kinds[1], 0.5 + kinds[2] / 3])


@pytest.mark.parametrize("exponent", [1.0, 1.5, 4.0])
def test_generalized_gaussian_quantiles_are_not_beyond_their_probability(exponent: float) -> None:
    p = top_probabilities(200, 21)
    radii = log_concave.generalized_gaussian_radius(p, scale=1.0, exponent=exponent)
    for value, probability in zip(radii.tolist(), p.tolist(), strict=True):
        inverse, rest = 1 / mp.mpf(exponent), 2 * (1 - mp.mpf(probability))
        tail = mp.gammainc(inverse, mp.mpf(value) ** mp.mpf(exponent), regularized=True)
        assert tail >= rest * (1 - mp.mpf(10) ** -30)


@pytest.mark.parametrize("dimension", [2, 5])
def test_radii_of_spherical_noise_are_not_beyond_their_probability(dimension: int) -> None:
    p = top_probabilities(45, 22)
    ball = shapes.uniform_ball_radius(p, ball_radius=1.0, dimension=dimension)
    cone = shapes.exponential_l2_radius(p, scale=1.0, dimension=dimension)
    rows = zip(p.tolist(), ball.tolist(), cone.tolist(), strict=True)
    half = mp.mpf(dimension - 1) / 2
    for probability, first, second in rows:
        gap = mp.mpf(probability) - mp.mpf(1) / 2
        lacking = mp.betainc(0.5, half + 1, 0, (mp.mpf(first) / 2) ** 2, regularized=True)
        assert lacking <= gap * (1 + mp.mpf(10) ** -30)
        height = mp.tanh(mp.mpf(second) / (dimension - 1))
        beyond = mp.betainc(half, half, 0, (1 - height) / 2, regularized=True)
        assert beyond >= (mp.mpf(1) / 2 - gap) * (1 - mp.mpf(10) ** -30)


def test_radii_of_power_law_noise() -> None:
    p = top_probabilities(60, 23)
    for index in (0.5, 3.0):
        radii = shapes.pareto_radius(p, scale=1.0, tail_index=index)
        b = mp.mpf(index) / (mp.mpf(index) + 1)
        exact = []
        for probability in p.tolist():
            lead = 2 * mp.mpf(probability) - 1
            exact.append(lead / index * mp.hyp2f1(1, b, b + 1, lead ** (1 / b)))
        assert_never_above(radii, exact, p)


# -- radii by a search -------------------------------------------------------------------------


def best_point(function: Callable[[Doubles], Doubles], upper: Doubles) -> Doubles:
    """Golden-section search of many functions at once, in doubles."""
    ratio = (np.sqrt(5) - 1) / 2
    low, high = np.zeros_like(upper), upper.copy()
    with np.errstate(all="ignore"):
        for _ in range(60):
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            rising = function(left) < function(right)
            low, high = np.where(rising, left, low), np.where(rising, high, right)
    return (low + high) / 2


def searched(
    radius: Callable[..., Doubles],
    value_at: Callable[[mp.mpf, mp.mpf, mp.mpf], mp.mpf],
    points: list[Doubles],
    top: Doubles,
    other: Doubles,
) -> None:
    """Check radii against the best of the values at a few points."""
    scale = scales(len(top), 31)
    references = []
    for p1, p2, factor, *where in zip(top, other, scale, *points, strict=True):
        pair = mp.mpf(float(p1)), mp.mpf(float(p2))
        values = [value_at(mp.mpf(float(point)), *pair) for point in where]
        references.append(mp.mpf(float(factor)) * max(values))
    assert_never_above(radius(top, other, sigma=scale), references, top, other, scale)


def decided_pairs(number: int, seed: int) -> tuple[Doubles, Doubles]:
    """Pairs whose second needs no clipping, exactly."""
    top, other = probability_pairs(number, seed)
    kept = (top > other) & (other > 0) & (top + other < 1 - 1e-15)
    return top[kept], other[kept]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [41, 42])
def test_renyi_radii(seed: int) -> None:
    top, other = decided_pairs(3000, seed)
    with np.errstate(over="ignore"):
        near = top < 2 * other
        log_ratio = np.where(near, np.log1p((top - other) / other), np.log(top) - np.log(other))

    def log_cosh(x: Doubles) -> Doubles:
        return np.where(
            x < 1, np.log1p(2 * np.sinh(x / 2) ** 2), x + np.log1p(np.exp(-2 * x)) - np.log(2)
        )

    def squared(s: Doubles) -> Doubles:
        y = log_cosh(log_ratio / 2) + log_cosh(s * log_ratio / 2) / s
        lost, kept = -(top + other) * np.expm1(-y), (top + other) * np.exp(-y)
        log_sum = np.where(lost < 0.5, np.log1p(-lost), np.log(((1 - top) - other) + kept))
        return -log_sum / (1 + s)

    def value_at(s: mp.mpf, p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
        mean = ((p1**-s + p2**-s) / 2) ** (-1 / s) if s else mp.sqrt(p1 * p2)
        return mp.sqrt(-2 * mp.log(1 - p1 - p2 + 2 * mean) / (1 + s))

    best = best_point(squared, np.ones_like(top))
    ends = np.zeros_like(best), np.ones_like(best)
    # Next to a tie the mean of tiny powers and a tiny logarithm both cancel.
    with mp.workprec(1500):
        searched(bounds.renyi_radius, value_at, [best, *ends], top, other)


@pytest.mark.slow
def test_pixeldp_radii() -> None:
    top, other = decided_pairs(6000, 43)

    larger = np.where(top < 1e-100, 2.0**400, 1.0)  # away from numbers below normal

    def in_doubles(epsilon: Doubles) -> Doubles:
        excess = larger * (top - other) - larger * other * np.expm1(2 * epsilon)
        log_inverse = np.log(1.25 * (1 + np.exp(epsilon)) * larger) - np.log(np.maximum(excess, 0))
        return epsilon / np.sqrt(2 * log_inverse)

    def value_at(epsilon: mp.mpf, p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
        delta = (p1 - mp.exp(2 * epsilon) * p2) / (1 + mp.exp(epsilon))
        return epsilon / mp.sqrt(2 * mp.log(1.25 / delta)) if delta > 0 else mp.mpf(0)

    with np.errstate(over="ignore"):
        upper = np.minimum(np.log1p((top - other) / other) / 2, 1.0)
    best = best_point(in_doubles, upper)
    searched(bounds.pixeldp_radius, value_at, [best, upper], top, other)
