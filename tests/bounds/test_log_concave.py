"""Radii for log-concave noise against references of 50 digits."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from randsmooth.bounds import laplace_radius, neyman_pearson_radius, uniform_radius
from randsmooth.bounds.log_concave import (
    generalized_gaussian_radius,
    log_concave_radius,
    logistic_radius,
)
from randsmooth.bounds.shifts import log_concave_probability_lower

TIES = [(0.3, np.nextafter(0.3, 0)), (0.5, np.nextafter(0.5, 0)), (0.4, 0.4 - 1e-9)]
TIES += [(0.5 + 1e-9, None), (0.5 + 1e-15, None), (1e-5, 9e-6), (0.499, 0.4989)]
EDGES = [(1 - 2**-53, None), (1 - 1e-12, 1e-300), (0.9, 1e-300), (1e-12, 1e-13), (0.5, 0.3)]


def random_pairs(number: int, seed: int) -> list[tuple[float, float | None]]:
    rng = np.random.default_rng(seed)
    pairs: list[tuple[float, float | None]] = [*TIES, *EDGES]
    for i in range(number):
        p1 = float(rng.uniform(0.02, 1))
        small = float(10 ** rng.uniform(-15, -1))
        pairs.append(
            (
                (p1, float(rng.uniform(0, min(p1, 1 - p1)))),
                (1 - small, None),
                (1 - small, small * float(10 ** rng.uniform(-9, 0))),
                (p1 / 2, max(p1 / 2 - float(10 ** rng.uniform(-15, -2)), 0.0)),
                (0.5 + small, None),
                (small, small * float(10 ** rng.uniform(-250, 0))),
                (small, small * (1 - float(10 ** rng.uniform(-12, -1)))),
            )[i % 7]
        )
    return pairs


def clipped(p1: float, p2: float | None) -> tuple[mp.mpf, mp.mpf]:
    top = mp.mpf(p1)
    return top, 1 - top if p2 is None else min(mp.mpf(p2), 1 - top)


def power_quantile(p: mp.mpf, q: int) -> mp.mpf:
    """Quantile of the density exp(-|x|^q) by Newton steps on its logarithm."""
    if p > 0.5:
        return -power_quantile(1 - p, q)
    shape, tail = mp.mpf(1) / q, 2 * p
    start = float(stats.gennorm(q).ppf(float(p)))
    z = mp.mpf(-start) if start < 0 else (1 - tail) * mp.gamma(1 + shape)
    for _ in range(12):
        miss = mp.gammainc(shape, z**q, mp.inf, regularized=True) - tail
        step = miss * mp.gamma(1 + shape) * mp.exp(z**q)
        z += step
        if abs(step) < z * mp.mpf(10) ** -35:
            break
    return -z


def assert_just_below(value: float, exact: mp.mpf, tolerance: float = 1e-9) -> None:
    assert mp.mpf(float(value)) <= exact
    if exact > 0:
        assert float((exact - mp.mpf(float(value))) / exact) <= tolerance


def test_logistic_radius_is_just_below_the_exact_one() -> None:
    with mp.workdps(50):
        for pair in random_pairs(3000, seed=1):
            p1, p2 = clipped(*pair)
            exact = mp.log(p1 * (1 - p2) / (p2 * (1 - p1))) / 2 if p1 > p2 > 0 else mp.mpf(0)
            if p1 > p2 == 0:
                assert logistic_radius(*pair, scale=1.0) == np.inf
            else:
                assert_just_below(logistic_radius(*pair, scale=1.0), exact)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [1, 2, 3, 4, 8, 30])
def test_generalized_gaussian_radius_is_just_below_the_exact_one(exponent: int) -> None:
    with mp.workdps(50):
        for pair in random_pairs(70, seed=exponent):
            p1, p2 = clipped(*pair)
            if p2 == 0:
                continue
            exact = mp.mpf(0)
            if p1 > p2:
                exact = (power_quantile(p1, exponent) - power_quantile(p2, exponent)) / 2
            assert_just_below(
                generalized_gaussian_radius(*pair, scale=1.0, exponent=exponent), exact
            )


def test_generalized_gaussian_contains_laplace_and_gaussian() -> None:
    for p1, p2 in random_pairs(400, seed=3):
        value = generalized_gaussian_radius(p1, p2, scale=0.5, exponent=1)
        assert value == pytest.approx(laplace_radius(p1, p2, scale=0.5), rel=1e-9)
        value = generalized_gaussian_radius(p1, p2, scale=0.5, exponent=2)
        known = neyman_pearson_radius(p1, p2, sigma=0.5 / np.sqrt(2))
        assert value == pytest.approx(known, rel=2e-9)


def test_generalized_gaussian_tends_to_uniform_noise() -> None:
    value = generalized_gaussian_radius([0.6, 0.8], scale=1.0, exponent=100)
    np.testing.assert_allclose(value, uniform_radius([0.6, 0.8], half_width=1.0), rtol=0.02)


@pytest.mark.parametrize(
    ("law", "known"),
    [
        (stats.laplace(scale=0.5), lambda p1, p2: laplace_radius(p1, p2, scale=0.5)),
        (stats.norm(scale=0.5), lambda p1, p2: neyman_pearson_radius(p1, p2, sigma=0.5)),
        (stats.logistic(scale=0.5), lambda p1, p2: logistic_radius(p1, p2, scale=0.5)),
        (stats.uniform(-0.5, 1.0), lambda p1, p2: uniform_radius(p1, p2, half_width=0.5)),
        (
            stats.gennorm(3, scale=0.5),
            lambda p1, p2: generalized_gaussian_radius(p1, p2, scale=0.5, exponent=3),
        ),
    ],
)
def test_general_radius_agrees_with_closed_forms(law, known) -> None:
    pairs = [(p1, 1 - p1 if p2 is None else p2) for p1, p2 in random_pairs(700, seed=2)]
    p1, p2 = np.array(pairs).T
    value, expected = log_concave_radius(p1, p2, distribution=law), known(p1, p2)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(value[~finite], np.inf)
    assert (value[finite] <= expected[finite] * (1 + 2e-9)).all()
    # The accuracy asked of the distribution costs most where the difference starts to cancel.
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    clear = finite & (p1 - p2 > 0.1)
    np.testing.assert_allclose(value[clear], expected[clear], rtol=2e-8)


def test_general_radius_takes_the_accuracy_of_the_distribution() -> None:
    law = stats.norm(scale=1.0)
    values = [log_concave_radius(0.9, distribution=law, accuracy=a) for a in (1e-2, 1e-4, 1e-9)]
    assert values == sorted(values)
    assert values[-1] <= neyman_pearson_radius(0.9, sigma=1.0)


def test_general_radius_survives_a_quantile_function_as_bad_as_declared() -> None:
    exact = neyman_pearson_radius([0.6, 0.9, 0.999], [0.4 - 1e-7, 0.01, 1e-5], sigma=1.0)

    class Sloppy:
        """The normal distribution with errors that favour a larger radius."""

        def ppf(self, q):
            return stats.norm.ppf(np.minimum(np.asarray(q) * (1 + 9e-4), 1.0))

        def isf(self, q):
            return stats.norm.isf(np.asarray(q) * (1 - 9e-4))

        def cdf(self, x):
            return stats.norm.cdf(x) * (1 + 9e-4)

        def sf(self, x):
            return stats.norm.sf(x) * (1 - 9e-4)

        def logpdf(self, x):
            return stats.norm.logpdf(x) - 9e-4

    value = log_concave_radius(
        [0.6, 0.9, 0.999], [0.4 - 1e-7, 0.01, 1e-5], distribution=Sloppy(), accuracy=1e-3
    )
    assert (value <= exact).all()
    np.testing.assert_allclose(value, exact, rtol=3e-2)


def test_closed_forms_agree_with_golden_values(shared: Path) -> None:
    rows = json.loads((shared / "reference" / "values.json").read_text())["other_noise"]
    seen = 0
    for row in rows:
        p, exact = float(row["p"]), mp.mpf(row["radius"])
        if row["noise"].startswith("generalised Gaussian"):
            q, unit = float(row["params"]["q"]), float(row["params"]["lambd"])
            value = generalized_gaussian_radius(p, scale=unit, exponent=q)
        elif row["noise"].startswith("logistic"):
            value = logistic_radius(p, scale=float(row["params"]["s"]))
        else:
            continue
        assert_just_below(value, exact)
        seen += 1
    assert seen


def test_closed_forms_agree_with_the_table_of_radii() -> None:
    # High-precision values of the one-sided formulas.
    golden = [
        (
            generalized_gaussian_radius(0.9, scale=1.0, exponent=8),
            "0.76282480145125725636614122230",
        ),
        (
            generalized_gaussian_radius(0.999, scale=1.0, exponent=3),
            "1.6073805377971309456767858412",
        ),
        (logistic_radius(0.99, scale=1.0), "4.5951198501345899268524340518"),
    ]
    for value, exact in golden:
        assert_just_below(value, mp.mpf(exact))


@pytest.mark.parametrize(
    "radius",
    [
        lambda p1, p2=None: logistic_radius(p1, p2, scale=1.0),
        lambda p1, p2=None: generalized_gaussian_radius(p1, p2, scale=1.0, exponent=3.5),
        lambda p1, p2=None: log_concave_radius(p1, p2, distribution=stats.norm()),
    ],
)
def test_radius_keeps_shapes_and_the_ends(radius) -> None:
    pairs = np.array([(0.3, 0.4), (0.35, 0.35), (0.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
    np.testing.assert_array_equal(radius(*pairs.T), 0.0)
    np.testing.assert_array_equal(radius([1.0, 0.2], [0.0, 0.0]), np.inf)
    assert radius(1.0) == np.inf
    assert radius(np.full((2, 1), 0.9), np.full(3, 0.05)).shape == (2, 3)
    assert isinstance(radius(0.9), np.float64)
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got "):
        radius(1.5)


def test_bounded_noise_has_a_finite_radius_at_certainty() -> None:
    law = stats.uniform(-0.5, 1.0)
    assert log_concave_radius(1.0, distribution=law) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "law", [stats.laplace(), stats.logistic(), stats.gennorm(4), stats.uniform(-1, 2)]
)
def test_no_event_in_the_plane_falls_further_than_the_theorem_says(law) -> None:
    # Unions of rectangles: products of differences of the distribution function are exact.
    rng = np.random.default_rng(0)
    least = np.inf
    for _ in range(150):
        corners = [np.sort(rng.normal(size=n)) for n in (5, 3)]
        cells = rng.random((6, 4)) < rng.uniform(0.2, 0.8)
        if rng.random() < 0.3:  # a half-plane across an axis is the worst case
            cells = np.repeat(np.arange(6)[:, None] < 3, 4, axis=1)
        shift = rng.dirichlet([0.4, 0.4]) * rng.uniform(0, 1.5) * rng.choice([-1, 1], 2)

        def mass(move: np.ndarray, corners=corners, cells=cells) -> float:
            sides = [
                np.diff(law.cdf(np.concatenate([[-np.inf], edges, [np.inf]]) - m))
                for edges, m in zip(corners, move, strict=True)
            ]
            return float(sides[0] @ cells @ sides[1])

        after, length = mass(shift), float(np.abs(shift).sum())
        bound = float(log_concave_probability_lower(min(mass(np.zeros(2)), 1.0), length, law))
        assert after >= bound - 1e-14
        least = min(least, after - bound)
    assert least < 0.05


@pytest.mark.parametrize(
    ("exponent", "error", "message"),
    [
        (0.9, ValueError, r"^exponent must lie in \[1, 100\], got 0\.9\. Below 1 the density"),
        (np.nan, ValueError, r"^exponent must lie in \[1, 100\], got nan\."),
        ("2", TypeError, r"^exponent must be a real number, got '2'\.$"),
        (True, TypeError, r"^exponent must be a real number, got True\.$"),
    ],
)
def test_broken_exponents_are_rejected(exponent, error, message) -> None:
    with pytest.raises(error, match=message):
        generalized_gaussian_radius(0.9, scale=1.0, exponent=exponent)


@pytest.mark.parametrize(
    ("law", "accuracy", "error", "message"),
    [
        (stats.norm(loc=0.1), 1e-9, ValueError, r"^distribution must be symmetric about 0, got "),
        (stats.expon(), 1e-9, ValueError, r"^distribution must be symmetric about 0, got "),
        (stats.t(3), 1e-9, ValueError, r"^distribution must have a log-concave density, got "),
        (stats.cauchy(), 1e-9, ValueError, r"^distribution must have a log-concave density, "),
        (stats.gennorm(0.7), 1e-9, ValueError, r"^distribution must have a log-concave density"),
        ("normal", 1e-9, TypeError, r"^distribution must have ppf, isf, cdf, sf and logpdf, "),
        (stats.norm(), 0.0, ValueError, r"^accuracy must lie in \(0, 0\.1\], got 0\.0\.$"),
    ],
)
def test_broken_distributions_are_rejected(law, accuracy, error, message) -> None:
    with pytest.raises(error, match=message):
        log_concave_radius(0.9, distribution=law, accuracy=accuracy)
