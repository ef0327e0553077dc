"""Radii for noise of other shapes against references of 40 digits."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy.special import betaincinv

from randsmooth.bounds import laplace_radius, uniform_radius
from randsmooth.bounds.shapes import (
    exponential_l2_radius,
    exponential_linf_radius,
    pareto_radius,
    uniform_ball_radius,
    uniform_linf_radius,
)

EDGES = [0.5 + 2**-52, 0.5 + 1e-12, 0.5 + 1e-6, 0.75, 1 - 1e-6, 1 - 1e-12, 1 - 2**-53]


def probabilities(number: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    near = 10 ** rng.uniform(-15, -1, number)
    choice = rng.integers(0, 3, number)
    drawn = np.choose(choice, [rng.uniform(0.5, 1, number), 1 - near, 0.5 + near])
    return [*EDGES, *drawn.tolist()]


def assert_just_below(value: float, exact: mp.mpf, tolerance: float = 1e-9) -> None:
    assert mp.mpf(float(value)) <= exact
    assert float((exact - mp.mpf(float(value))) / exact) <= tolerance


def beta_quantile(a: mp.mpf, b: mp.mpf, y: mp.mpf) -> mp.mpf:
    x = mp.mpf(float(betaincinv(float(a), float(b), float(y))))
    log_beta = mp.log(mp.beta(a, b))
    for _ in range(8):
        miss = mp.betainc(a, b, 0, x, regularized=True) - y
        step = miss * mp.exp(log_beta - (a - 1) * mp.log(x) - (b - 1) * mp.log1p(-x))
        x -= step
        if abs(step) < x * mp.mpf(10) ** -25:
            break
    return x


@pytest.mark.parametrize("dimension", [1, 2, 784, 150528])
def test_cube_radius_is_just_below_the_exact_one(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    with mp.workdps(40):
        for p in probabilities(200, seed=1):
            p2 = (1 - p) * float(rng.random())
            for other in (None, p2):
                lead = mp.mpf(p) - (1 - mp.mpf(p) if other is None else mp.mpf(other))
                exact = -2 * mp.expm1(mp.log1p(-lead / 2) / dimension)
                value = uniform_linf_radius(p, other, half_width=1.0, dimension=dimension)
                assert_just_below(value, exact)


@pytest.mark.parametrize("dimension", [1, 2, 3, 784, 150528])
def test_ball_radius_is_just_below_the_exact_one(dimension: int) -> None:
    with mp.workdps(40):
        for p in probabilities(20, seed=dimension):
            half, lead = mp.mpf(dimension + 1) / 2, 2 * mp.mpf(p) - 1
            exact = 2 * mp.sqrt(beta_quantile(mp.mpf(0.5), half, lead / 2))
            value = uniform_ball_radius(p, ball_radius=1.0, dimension=dimension)
            assert_just_below(value, exact)


@pytest.mark.parametrize("dimension", [2, 3, 4, 11, 784, 3072])
def test_exponential_l2_radius_is_just_below_the_exact_one(dimension: int) -> None:
    with mp.workdps(40):
        for p in probabilities(20, seed=dimension):
            half = mp.mpf(dimension - 1) / 2
            t = beta_quantile(half, half, 1 - mp.mpf(p))
            exact = (dimension - 1) * mp.log((1 - t) / t) / 2
            value = exponential_l2_radius(p, scale=1.0, dimension=dimension)
            assert_just_below(value, exact)


@pytest.mark.parametrize("index", [0.3, 1.0, 3.0, 6.0, 50.0])
def test_pareto_radius_is_just_below_the_exact_one(index: float) -> None:
    with mp.workdps(40):
        for p in probabilities(30, seed=int(index)):
            y, b = 2 * mp.mpf(p) - 1, mp.mpf(index) / (mp.mpf(index) + 1)
            exact = y / mp.mpf(index) * mp.hyp2f1(1, b, b + 1, y ** (1 / b))
            assert_just_below(pareto_radius(p, scale=1.0, tail_index=index), exact)


def test_pareto_radius_is_the_integral_over_the_inverse_growth_rate() -> None:
    for p, a in ((0.6, 1.5), (0.9, 3.0), (0.99, 6.0)):
        # An interval from the peak that holds the mass m grows at the rate f(0) - f(its end).
        exact = mp.quad(
            lambda m, a=a: 2 / (mp.mpf(a) * (1 - (1 - 2 * m) ** (1 + 1 / mp.mpf(a)))),
            [1 - mp.mpf(p), 0.5],
        )
        value = pareto_radius(p, scale=1.0, tail_index=a)
        assert float(value) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("index", [1.0, 3.0])
def test_no_event_on_the_line_loses_its_majority_within_the_pareto_radius(index: float) -> None:
    def cdf(x: np.ndarray) -> np.ndarray:
        tail = (1 + np.abs(x)) ** -index / 2
        return np.where(x < 0, tail, 1 - tail)

    rng = np.random.default_rng(1)
    for _ in range(300):
        ends = np.sort(rng.standard_t(2, size=6))
        if rng.random() < 0.5:  # all but an interval from the peak is the worst case
            ends = np.array([0.0, abs(ends[0])])
        inside = np.arange(len(ends) + 1) % 2 == rng.integers(0, 2)

        def mass(move: float, ends=ends, inside=inside) -> float:
            parts = np.diff(cdf(np.concatenate([[-np.inf], ends, [np.inf]]) - move))
            return float(parts[inside].sum())

        radius = float(pareto_radius(min(mass(0.0), 1 - 1e-9), scale=1.0, tail_index=index))
        assert all(mass(move) >= 0.5 - 1e-12 for move in np.linspace(-radius, radius, 21) if radius)


def test_radii_agree_with_golden_values(shared: Path) -> None:
    rows = json.loads((shared / "reference" / "values.json").read_text())["other_noise"]
    seen = set()
    for row in rows:
        p, noise, given = float(row["p"]), row["noise"], row["params"]
        unit = float(given.get("lambd", "nan"))
        d = int(given.get("d", 0))
        if noise.startswith("uniform l2 ball"):
            value = uniform_ball_radius(p, ball_radius=unit, dimension=d)
        elif noise.startswith("exp(") and row["norm"] == "linf":
            value = exponential_linf_radius(p, scale=unit)
        elif noise.startswith("exp("):
            value = exponential_l2_radius(p, scale=unit, dimension=d)
        elif noise.startswith("pareto"):
            value = pareto_radius(p, scale=unit, tail_index=float(given["a"]))
        elif noise.startswith("uniform") and row["norm"] == "linf":
            value = uniform_linf_radius(p, half_width=unit, dimension=d)
        else:
            continue
        assert_just_below(value, mp.mpf(row["radius"]))
        seen.add((noise, row["norm"]))
    assert len(seen) == 5


def test_radii_agree_with_a_few_high_precision_values() -> None:
    d = 3072
    for value, exact in (
        (
            uniform_linf_radius(0.9, half_width=1.0, dimension=d),
            "3.3254111650925969004284940962e-4",
        ),
        (
            uniform_ball_radius(0.99, ball_radius=1.0, dimension=d),
            "0.023770983230293326009306967664",
        ),
        (exponential_l2_radius(0.9, scale=1.0, dimension=d), "71.028182958740519738578294953027"),
        (exponential_linf_radius(0.99, scale=1.0), "3.9120230054281460586187507879105"),
        (pareto_radius(0.99, scale=1.0, tail_index=3.0), "1.0324099410983775829975502302538"),
    ):
        assert_just_below(value, mp.mpf(exact))


def test_in_one_dimension_shapes_become_known_noise() -> None:
    p = np.linspace(0.4, 0.999, 30)
    cube = uniform_linf_radius(p, half_width=0.5, dimension=1)
    np.testing.assert_allclose(cube, uniform_radius(p, half_width=0.5), rtol=1e-9)
    ball = uniform_ball_radius(p, 0.3, ball_radius=0.5, dimension=1)
    np.testing.assert_allclose(ball, uniform_radius(p, 0.3, half_width=0.5), rtol=1e-9)
    l2 = exponential_l2_radius(p, scale=0.5, dimension=1)
    np.testing.assert_allclose(l2, laplace_radius(p, scale=0.5), rtol=1e-9)
    linf = exponential_linf_radius(p, 0.2, scale=0.5)
    np.testing.assert_allclose(linf, laplace_radius(p, 0.2, scale=0.5), rtol=1e-9)


def test_overlap_of_two_discs_is_what_the_radius_says() -> None:
    # Area of the lens of two unit discs at the distance r.
    for p in (0.55, 0.8, 0.99):
        r = float(uniform_ball_radius(p, ball_radius=1.0, dimension=2))
        lens = 2 * np.arccos(r / 2) - r / 2 * np.sqrt(4 - r**2)
        assert lens / np.pi == pytest.approx(1.5 - p, abs=1e-9)


ALL = pytest.mark.parametrize(
    "radius",
    [
        lambda p: uniform_linf_radius(p, half_width=1.0, dimension=7),
        lambda p: uniform_ball_radius(p, ball_radius=1.0, dimension=7),
        lambda p: exponential_linf_radius(p, scale=1.0),
        lambda p: exponential_l2_radius(p, scale=1.0, dimension=7),
        lambda p: pareto_radius(p, scale=1.0, tail_index=3.0),
    ],
)


@ALL
def test_radius_grows_with_the_probability_and_keeps_shapes(radius) -> None:
    p = np.linspace(0.0, 1.0, 201).reshape(3, 67)
    values = radius(p)
    assert values.shape == (3, 67)
    assert (values[p <= 0.5] == 0).all()
    assert (np.diff(values[p > 0.5]) > 0).all()
    assert isinstance(radius(0.9), np.float64)
    assert radius([]).shape == (0,)
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got nan\.$"):
        radius(np.nan)
    with pytest.raises(TypeError, match=r"^p_lower must be real numbers, got 'a'\.$"):
        radius("a")


def test_certainty_is_infinite_only_for_unbounded_noise() -> None:
    assert exponential_l2_radius(1.0, scale=1.0, dimension=7) == np.inf
    assert exponential_linf_radius(1.0, scale=1.0) == np.inf
    assert pareto_radius(1.0, scale=1.0, tail_index=3.0) == np.inf
    assert uniform_linf_radius(1.0, half_width=1.0, dimension=2) == pytest.approx(2 - np.sqrt(2))
    assert 0 < uniform_ball_radius(1.0, ball_radius=1.0, dimension=7) < 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: uniform_linf_radius(0.9, half_width=0.0, dimension=2), ValueError, "half_width"),
        (lambda: uniform_ball_radius(0.9, ball_radius=-1, dimension=2), ValueError, "ball_radius"),
        (lambda: exponential_linf_radius(0.9, scale=np.inf), ValueError, "scale"),
        (lambda: pareto_radius(0.9, scale=1.0, tail_index=0.0), ValueError, "tail_index"),
    ],
)
def test_scales_that_are_not_positive_and_finite_are_rejected(call, error, message) -> None:
    with pytest.raises(error, match=rf"^{message} must be positive and finite, got "):
        call()


def test_broken_dimensions_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"^dimension must be at least 1, got 0\.$"):
        uniform_ball_radius(0.9, ball_radius=1.0, dimension=0)
    with pytest.raises(TypeError, match=r"^dimension must be an integer, got 2\.0\.$"):
        exponential_l2_radius(0.9, scale=1.0, dimension=2.0)
