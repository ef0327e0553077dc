"""Radii for uniform noise, where rational arithmetic is the reference."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randsmooth.bounds import uniform_radius


@settings(max_examples=400, deadline=None)
@given(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)), st.floats(1e-3, 1e3))
def test_uniform_radius_is_just_below_the_exact_one(
    p_lower: float, p_upper: float | None, half_width: float
) -> None:
    top = Fraction(p_lower)
    other = 1 - top if p_upper is None else min(Fraction(p_upper), 1 - top)
    exact = max(top - other, Fraction(0)) * Fraction(half_width)
    value = Fraction(float(uniform_radius(p_lower, p_upper, half_width=half_width)))
    assert value <= exact
    assert exact - value <= exact / 10**9 + Fraction(1e-300)


def test_uniform_radius_agrees_with_golden_values(shared: Path) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())
    for row in values["radii"]:
        p1, p2, half_width = (float(row[key]) for key in ("p1", "p2", "sigma"))
        for arguments, key in (((p1, p2), "two_sided"), ((p1,), "one_sided")):
            value = float(uniform_radius(*arguments, half_width=half_width))
            exact = max(mp.mpf(row[f"uniform_l1_{key}"]), mp.mpf(0))
            assert mp.mpf(value) <= exact
            assert value == pytest.approx(float(exact), rel=1e-9, abs=0)


def test_uniform_radius_agrees_with_golden_values_of_other_noise(shared: Path) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())
    for row in values["other_noise"]:
        if (row["noise"], row["norm"]) == ("uniform [-lambda,lambda]^d", "l1"):
            value = float(uniform_radius(float(row["p"]), half_width=float(row["params"]["lambd"])))
            assert value == pytest.approx(float(row["radius"]), rel=1e-9)


def test_uniform_radius_is_zero_without_a_lead_and_one_width_for_certainty() -> None:
    np.testing.assert_array_equal(
        uniform_radius([0.3, 0.5, 0.0], [0.4, 0.5, 0.0], half_width=1), 0.0
    )
    assert uniform_radius(1.0, half_width=2.0) == pytest.approx(2.0, rel=1e-12)


def test_uniform_radius_broadcasts_and_returns_scalars_for_scalars() -> None:
    assert uniform_radius([[0.6], [0.9]], [0.05, 0.1], half_width=1.0).shape == (2, 2)
    assert isinstance(uniform_radius(0.9, 0.1, half_width=1.0), np.float64)


def test_uniform_radius_rejects_broken_arguments() -> None:
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got -0\.5\.$"):
        uniform_radius(-0.5, half_width=1.0)
    with pytest.raises(ValueError, match=r"^half_width must be positive and finite, got inf\.$"):
        uniform_radius(0.5, half_width=np.inf)
