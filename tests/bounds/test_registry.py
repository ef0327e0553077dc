"""The bounds by name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from randsmooth import bounds
from randsmooth.bounds import BOUNDS, Bound, best_bound


@pytest.mark.parametrize(
    ("name", "noise", "function", "scale"),
    [
        ("neyman_pearson", "gaussian", bounds.neyman_pearson_radius, "sigma"),
        ("neyman_pearson", "laplace", bounds.laplace_radius, "scale"),
        ("neyman_pearson", "uniform", bounds.uniform_radius, "half_width"),
        ("neyman_pearson", "logistic", bounds.logistic_radius, "scale"),
        ("binary", "gaussian", bounds.neyman_pearson_radius, "sigma"),
        ("binary", "laplace", bounds.laplace_radius, "scale"),
        ("binary", "uniform", bounds.uniform_radius, "half_width"),
        ("binary", "logistic", bounds.logistic_radius, "scale"),
        ("renyi", "gaussian", bounds.renyi_radius, "sigma"),
        ("renyi", "laplace", bounds.laplace_renyi_radius, "scale"),
        ("pixeldp", "gaussian", bounds.pixeldp_radius, "sigma"),
        ("pixeldp", "laplace", bounds.laplace_pure_dp_radius, "scale"),
        ("teng", "laplace", bounds.laplace_teng_radius, "scale"),
    ],
)
def test_bound_is_the_function_of_its_name(name: str, noise: str, function, scale: str) -> None:
    p_lower, p_upper = np.array([0.9, 0.6, 0.3]), np.array([0.05, 0.3, 0.4])
    got = BOUNDS[name].radii[noise](p_lower, p_upper, 0.5)
    np.testing.assert_array_equal(got, function(p_lower, p_upper, **{scale: 0.5}))
    assert BOUNDS[name].radii[noise](0.9, None, 0.5) == function(0.9, **{scale: 0.5})


def test_bounds_hold_exactly_the_documented_names() -> None:
    noises = {name: set(bound.radii) for name, bound in BOUNDS.items()}
    assert noises == {
        "neyman_pearson": {"gaussian", "laplace", "uniform", "logistic"},
        "binary": {"gaussian", "laplace", "uniform", "logistic"},
        "renyi": {"gaussian", "laplace"},
        "pixeldp": {"gaussian", "laplace"},
        "teng": {"laplace"},
    }
    assert all(bound.name == name for name, bound in BOUNDS.items())


def test_only_the_binary_bound_ignores_the_runner_up() -> None:
    assert [name for name, bound in BOUNDS.items() if not bound.runner_up] == ["binary"]


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform", "logistic"])
def test_best_bound_is_at_least_every_other(noise: str) -> None:
    rng = np.random.default_rng(0)
    p_lower = rng.uniform(0, 1, 500)
    p_upper = rng.uniform(0, 1, 500)
    best = BOUNDS[best_bound(noise)].radii[noise](p_lower, p_upper, 1.0)
    for bound in BOUNDS.values():
        if noise in bound.radii:
            assert (bound.radii[noise](p_lower, p_upper, 1.0) <= best * (1 + 1e-9)).all()


def test_bounds_are_read_only() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        BOUNDS["renyi"] = BOUNDS["binary"]
    with pytest.raises(TypeError, match="does not support item assignment"):
        BOUNDS["renyi"].radii["gaussian"] = bounds.renyi_radius
    with pytest.raises(FrozenInstanceError):
        BOUNDS["renyi"].runner_up = False


def test_bound_keeps_its_own_copy_of_the_radii() -> None:
    radii = {"gaussian": BOUNDS["renyi"].radii["gaussian"]}
    bound = Bound("mine", radii, runner_up=False)
    radii.clear()
    assert set(bound.radii) == {"gaussian"}


def test_best_bound_rejects_unknown_noise() -> None:
    with pytest.raises(
        ValueError,
        match=r"^noise_name must be one of 'gaussian', .*, 'logistic', got 'cauchy'\.$",
    ):
        best_bound("cauchy")
