"""Conversions between norms, where rational arithmetic is the reference."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randsmooth.bounds import l1_radius_from_l2, linf_radius_from_l2, neyman_pearson_radius
from randsmooth.bounds.norms import converted_radius


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-300, 1e300), st.integers(1, 10**9))
def test_linf_radius_is_just_below_the_exact_one(radius: float, dimension: int) -> None:
    value = Fraction(float(linf_radius_from_l2(radius, dimension=dimension)))
    assert value**2 * dimension <= Fraction(radius) ** 2
    assert (value * (1 + Fraction(1, 10**15))) ** 2 * dimension >= Fraction(radius) ** 2


def test_linf_radius_agrees_with_golden_values(shared: Path) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())
    rows = [
        r for r in values["other_noise"] if (r["noise"], r["norm"]) == ("gaussian sigma", "linf")
    ]
    assert rows
    for row in rows:
        l2 = neyman_pearson_radius(float(row["p"]), sigma=float(row["params"]["sigma"]))
        value = linf_radius_from_l2(l2, dimension=int(row["params"]["d"]))
        assert value <= float(row["radius"])
        assert float(value) == pytest.approx(float(row["radius"]), rel=1e-9)


@pytest.mark.parametrize("converted", [l1_radius_from_l2, linf_radius_from_l2])
def test_conversions_keep_shapes_and_the_ends(converted) -> None:
    np.testing.assert_array_equal(converted([0.0, np.inf], dimension=7), [0.0, np.inf])
    assert converted(np.ones((2, 3)), dimension=7).shape == (2, 3)
    assert isinstance(converted(1.5, dimension=7), np.float64)
    assert converted(1.5, dimension=1) == 1.5


@pytest.mark.parametrize("dimension", [1, 3, np.int64(1000)])
def test_l1_radius_is_that_in_l2(dimension: int) -> None:
    assert l1_radius_from_l2(0.7, dimension=dimension) == 0.7


@pytest.mark.parametrize("converted", [l1_radius_from_l2, linf_radius_from_l2])
@pytest.mark.parametrize(
    ("radius", "dimension", "error", "message"),
    [
        (-1.0, 3, ValueError, r"^radius must be non-negative, got -1\.0\.$"),
        ([1.0, np.nan], 3, ValueError, r"^radius must be non-negative, got nan\.$"),
        ("r", 3, TypeError, r"^radius must be real numbers, got 'r'\.$"),
        (1.0, 0, ValueError, r"^dimension must be at least 1, got 0\.$"),
        (1.0, 2.0, TypeError, r"^dimension must be an integer, got 2\.0\.$"),
        (1.0, True, TypeError, r"^dimension must be an integer, got True\.$"),
    ],
)
def test_conversions_reject_broken_arguments(converted, radius, dimension, error, message) -> None:
    with pytest.raises(error, match=message):
        converted(radius, dimension=dimension)


NORMS = ("l1", "l2", "linf")


@settings(max_examples=200, deadline=None)
@given(
    st.floats(1e-290, 1e290),
    st.integers(1, 10**9),
    st.sampled_from(NORMS),
    st.sampled_from(NORMS),
)
def test_converted_radius_is_just_below_the_exact_one(radius, dimension, norm, to) -> None:
    value = Fraction(float(converted_radius(radius, norm=norm, to=to, dimension=dimension)))
    # Twice the exponent of the dimension, which is 1/q - 1/p where that is negative.
    exponent = min({"l1": 2, "l2": 1, "linf": 0}[to] - {"l1": 2, "l2": 1, "linf": 0}[norm], 0)
    exact_square = Fraction(radius) ** 2 * Fraction(dimension) ** exponent
    assert value**2 <= exact_square
    assert (value * (1 + Fraction(1, 10**15))) ** 2 >= exact_square


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("to", NORMS)
def test_no_point_of_the_converted_ball_is_outside_the_first(norm: str, to: str) -> None:
    order = {"l1": 1, "l2": 2, "linf": np.inf}
    rng = np.random.default_rng(0)
    shifts = np.concatenate([rng.normal(size=(200, 5)), np.eye(5), np.ones((1, 5))])
    shifts /= np.linalg.norm(shifts, ord=order[to], axis=1, keepdims=True)
    radius = float(converted_radius(2.0, norm=norm, to=to, dimension=5))
    lengths = np.linalg.norm(shifts * radius, ord=order[norm], axis=1)
    assert lengths.max() == pytest.approx(2.0, rel=1e-12)


def test_converted_radius_keeps_shapes_and_the_ends() -> None:
    for norm in NORMS:
        for to in NORMS:
            values = converted_radius([0.0, np.inf], norm=norm, to=to, dimension=7)
            np.testing.assert_array_equal(values, [0.0, np.inf])
            one = converted_radius(1.5, norm=norm, to=to, dimension=1)
            assert one == 1.5
            assert isinstance(one, np.float64)
    assert converted_radius(np.ones((2, 3)), norm="l1", to="linf", dimension=7).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"norm": "l3"}, ValueError, r"^norm must be one of 'l1', 'l2', 'linf', got 'l3'\.$"),
        ({"to": 2}, ValueError, r"^to must be one of 'l1', 'l2', 'linf', got 2\.$"),
        ({"radius": -1.0}, ValueError, r"^radius must be non-negative, got -1\.0\.$"),
        ({"dimension": 0}, ValueError, r"^dimension must be at least 1, got 0\.$"),
        ({"dimension": 2.5}, TypeError, r"^dimension must be an integer, got 2\.5\.$"),
    ],
)
def test_converted_radius_rejects_broken_arguments(arguments, error, message) -> None:
    given_arguments = {"radius": 1.0, "norm": "l1", "to": "l2", "dimension": 3} | arguments
    with pytest.raises(error, match=message):
        converted_radius(**given_arguments)
