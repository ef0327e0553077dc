"""Radii for Laplace noise against references of 60 digits."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randsmooth.bounds import (
    laplace_pure_dp_radius,
    laplace_radius,
    laplace_renyi_radius,
    laplace_teng_radius,
)

EVERY = pytest.mark.parametrize(
    "radius", [laplace_radius, laplace_renyi_radius, laplace_pure_dp_radius, laplace_teng_radius]
)
EDGES = [
    (0.3, np.nextafter(0.3, 0)),
    (0.5, np.nextafter(0.5, 0)),
    (0.4, 0.4 - 1e-9),
    (0.5 + 1e-9, None),
    (0.05, 0.0),
    (0.5, 5e-324),
    (0.5, 1e-300),
    (0.9, 0.0),
    (0.9, 0.5),
    (1 - 1e-12, None),
    (1 - 1e-12, 1e-300),
    (1 - 2**-53, None),
    (1.0, 0.3),
    (0.2, 0.3),
]


def random_pairs(number: int, seed: int) -> list[tuple[float, float | None]]:
    rng = np.random.default_rng(seed)
    pairs: list[tuple[float, float | None]] = list(EDGES)
    for i in range(number):
        p1, tiny = float(rng.uniform(0.02, 1)), float(10 ** rng.uniform(-15, -1))
        pairs.append(
            (
                (p1, float(rng.uniform(0, min(p1, 1 - p1)))),
                (1 - tiny, None),
                (1 - tiny, tiny * float(10 ** rng.uniform(-200, 0))),
                (p1 / 2, max(p1 / 2 - tiny, 0.0)),
                (0.5 + tiny, None),
            )[i % 5]
        )
    return pairs


def quantile(p: mp.mpf) -> mp.mpf:
    if p in (0, 1):
        return mp.inf if p else -mp.inf
    return mp.log(2 * p) if p <= 0.5 else -mp.log(2 * (1 - p))


def exact_quantile(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return (quantile(p1) - quantile(p2)) / 2


def exact_renyi(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return mp.inf if p1 - p2 == 1 else -mp.log1p(-(p1 - p2))


def exact_pure_dp(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return mp.log(p1 / p2) / 2 if p2 else mp.inf


def exact_teng(p1: mp.mpf, p2: mp.mpf) -> mp.mpf:
    return max(exact_renyi(p1, p2), exact_pure_dp(p1, p2))


@pytest.mark.parametrize(
    ("radius", "exact"),
    [
        (laplace_radius, exact_quantile),
        (laplace_renyi_radius, exact_renyi),
        (laplace_pure_dp_radius, exact_pure_dp),
        (laplace_teng_radius, exact_teng),
    ],
)
def test_laplace_radius_is_just_below_the_exact_one(radius, exact) -> None:
    with mp.workdps(60):
        for p1, p2 in random_pairs(300, seed=2):
            top = mp.mpf(p1)
            other = 1 - top if p2 is None else min(mp.mpf(p2), 1 - top)
            reference = exact(top, other) if top > other else mp.mpf(0)
            value = float(radius(p1, p2, scale=1.0))
            assert mp.mpf(value) <= reference
            if mp.isinf(reference):
                assert value == np.inf
            elif reference > 0:
                assert (reference - mp.mpf(value)) / reference <= 1e-9


@pytest.mark.parametrize(
    ("radius", "key"),
    [
        (laplace_radius, "laplace_l1_quantile_two_sided"),
        (laplace_renyi_radius, "laplace_l1_stn_thm3"),
        (laplace_pure_dp_radius, "laplace_l1_pure_dp"),
        (laplace_teng_radius, "laplace_l1_teng_max"),
    ],
)
def test_laplace_radius_agrees_with_golden_values(shared: Path, radius, key: str) -> None:
    for row in json.loads((shared / "reference" / "values.json").read_text())["radii"]:
        value = float(radius(float(row["p1"]), float(row["p2"]), scale=float(row["sigma"])))
        exact = mp.mpf(row[key])
        assert mp.mpf(value) <= exact
        assert value == pytest.approx(float(exact), rel=1e-9, abs=0)


def test_one_sided_laplace_radius_agrees_with_golden_values(shared: Path) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())
    cases = [(row["p1"], row["sigma"], row["laplace_l1_one_sided"]) for row in values["radii"]]
    cases += [
        (row["p"], row["params"]["lambd"], row["radius"])
        for row in values["other_noise"]
        if (row["noise"], row["norm"]) == ("laplace lambda", "l1")
    ]
    for p, scale, exact in cases:
        value = float(laplace_radius(float(p), scale=float(scale)))
        assert mp.mpf(value) <= max(mp.mpf(exact), 0)
        assert value == pytest.approx(max(float(exact), 0.0), rel=1e-9, abs=0)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_laplace_quantile_radius_dominates_the_others(p_lower: float, p_upper: float) -> None:
    tight = laplace_radius(p_lower, p_upper, scale=1.0)
    slack = 1 + 1e-9  # what the rounding of either may give up
    assert laplace_renyi_radius(p_lower, p_upper, scale=1.0) <= tight * slack
    assert laplace_pure_dp_radius(p_lower, p_upper, scale=1.0) <= tight * slack
    assert laplace_teng_radius(p_lower, p_upper, scale=1.0) <= tight * slack


@EVERY
def test_laplace_radius_is_zero_without_a_lead(radius) -> None:
    pairs = np.array([(0.3, 0.4), (0.35, 0.35), (0.0, 0.0), (0.0, 1.0)])
    np.testing.assert_array_equal(radius(*pairs.T, scale=1.0), 0.0)


@EVERY
def test_laplace_radius_is_infinite_for_certainty(radius) -> None:
    assert radius(1.0, scale=0.5) == np.inf
    assert radius(1.0, 0.4, scale=0.5) == np.inf


@EVERY
def test_laplace_radius_broadcasts_and_is_proportional_to_scale(radius) -> None:
    p_lower, p_upper = np.array([[0.6], [0.9]]), np.array([0.05, 0.1, 0.2])
    unit = radius(p_lower, p_upper, scale=1.0)
    assert unit.shape == (2, 3)
    np.testing.assert_allclose(radius(p_lower, p_upper, scale=4), 4 * unit, rtol=1e-14)
    assert isinstance(radius(0.9, 0.1, scale=1.0), np.float64)


@EVERY
def test_laplace_radius_rejects_broken_arguments(radius) -> None:
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got 1\.5\.$"):
        radius(1.5, scale=1.0)
    with pytest.raises(ValueError, match=r"^p_upper must lie in \[0, 1\], got nan\.$"):
        radius(0.5, np.nan, scale=1.0)
    with pytest.raises(ValueError, match=r"^scale must be positive and finite, got 0\.0\.$"):
        radius(0.9, scale=0.0)
    with pytest.raises(TypeError, match=r"^scale must be a real number, got 'b'\.$"):
        radius(0.9, scale="b")
