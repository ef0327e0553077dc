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
