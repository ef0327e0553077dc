"""Top-k radii against smoothed classifiers on the line whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from randsmooth.bounds import laplace_radius, neyman_pearson_radius, uniform_radius
from randsmooth.bounds.shifts import (
    gaussian_probability_lower,
    gaussian_probability_upper,
    laplace_probability_lower,
    uniform_probability_lower,
)
from randsmooth.bounds.top_k import top_k_radius


def laplace(p, radius):
    return laplace_probability_lower(p, radius, scale=0.5)


def uniform(p, radius):
    return uniform_probability_lower(p, radius, half_width=0.5)


def gaussian(p, radius):
    return gaussian_probability_lower(p, radius, sigma=0.5)


def random_bounds(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p_lower = rng.uniform(0.05, 1, number)
    p_upper = rng.uniform(0, 0.6, (number, 3)) * np.array([1.0, 0.5, 0.2])
    return p_lower, p_upper


def test_top_one_is_the_radius_of_the_label() -> None:
    p_lower, p_upper = random_bounds(300, seed=0)
    p_upper = np.concatenate([p_upper, 10.0 ** np.arange(-150, 150)[:, None].clip(max=-3)], axis=1)
    runner_up = p_upper.max(axis=1)
    value = top_k_radius(p_lower, p_upper, 1, sigma=0.5)
    known = neyman_pearson_radius(p_lower, runner_up, sigma=0.5)
    np.testing.assert_allclose(value, known, rtol=2e-9)
    for function, radius in (
        (laplace, laplace_radius(p_lower, runner_up, scale=0.5)),
        (uniform, uniform_radius(p_lower, runner_up, half_width=0.5)),
        (gaussian, known),
    ):
        value = top_k_radius(p_lower, p_upper, 1, probability_lower=function)
        np.testing.assert_allclose(value, radius, rtol=1e-8)
        assert (value <= radius * (1 + 2e-9)).all()


def test_top_one_keeps_its_digits_for_improbable_others() -> None:
    p_upper = np.array([[1e-12], [1e-200], [1e-5]])
    p_lower = np.array([1e-3, 1e-3, 1 - 1e-5])
    value = top_k_radius(p_lower, p_upper, 1, sigma=2.0)
    known = neyman_pearson_radius(p_lower, p_upper[:, 0], sigma=2.0)
    np.testing.assert_allclose(value, known, rtol=1e-8)


def test_radius_is_tight_where_the_others_share_what_the_class_loses() -> None:
    # The class is a half-line; k others share the rest in stripes finer than the noise, so that
    # each has a k-th of it. The class leaves the top k where it has 1 / (k + 1).
    for k in (1, 2, 3):
        for p in (0.55, 0.9, 0.99):
            others = np.full((1, k), (1 - p) / k)
            value = top_k_radius([p], others, k, sigma=0.5)[0]
            exact = 0.5 * (ndtri(p) - ndtri(1 / (k + 1)))
            assert value <= exact * (1 + 1e-12)
            assert value == pytest.approx(exact, rel=1e-9)


def test_a_single_strong_rival_does_not_matter_to_the_top_two() -> None:
    # Rival 0.6 is always above; what counts is the second one.
    value = top_k_radius(0.3, [0.6, 0.05], 2, sigma=1.0)
    weakest_alone = neyman_pearson_radius(0.3, 0.05, sigma=1.0)
    assert value == pytest.approx(float(weakest_alone), rel=1e-9)
    assert top_k_radius(0.3, [0.6, 0.05], 1, sigma=1.0) == 0


@pytest.mark.parametrize("seed", range(8))
def test_intervals_on_the_line_stay_in_the_top_as_long_as_certified(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_classes, sigma = 4, 0.7
    ends = np.sort(rng.uniform(-2, 2, 6))
    classes = rng.permutation(np.concatenate([np.arange(n_classes), rng.integers(0, 4, 3)]))

    def probabilities(x: np.ndarray) -> np.ndarray:
        below = ndtr((np.concatenate([[-np.inf], ends, [np.inf]]) - x[:, None]) / sigma)
        pieces = np.diff(below, axis=1)
        return np.stack([pieces[:, classes == c].sum(axis=1) for c in range(n_classes)], axis=1)

    shifts = np.linspace(-4, 4, 4001)
    for centre in rng.uniform(-2, 2, 6):
        around = probabilities(centre + shifts)
        here = probabilities(np.array([centre]))[0]
        for c in range(n_classes):
            others = np.delete(here, c) + 1e-12
            for k in (1, 2, 3):
                radius = top_k_radius(here[c] - 1e-12, others, k, sigma=sigma)
                rank = (np.delete(around, c, axis=1) >= around[:, [c]]).sum(axis=1)
                assert (rank[np.abs(shifts) < radius] < k).all()


def test_radius_grows_with_k_and_any_average_helps() -> None:
    p_lower, p_upper = random_bounds(200, seed=1)
    values = [top_k_radius(p_lower, p_upper, k, sigma=1.0) for k in (1, 2, 3)]
    assert (values[0] <= values[1]).all()
    assert (values[1] <= values[2]).all()
    assert (values[2] > 0).any()


def test_condition_holds_just_below_the_radius_and_fails_just_above() -> None:
    p_lower, p_upper = random_bounds(200, seed=2)
    value = top_k_radius(p_lower, p_upper, 2, sigma=1.0)
    for row in np.flatnonzero(np.isfinite(value) & (value > 1e-6)):
        pair = np.sort(p_upper[row])[-2:]
        sums = np.minimum(np.cumsum(pair), 1 - p_lower[row])

        def holds(radius: float, row=row, sums=sums) -> bool:
            rises = gaussian_probability_upper(sums, radius, sigma=1.0) / [1, 2]
            return bool(rises.min() < gaussian_probability_lower(p_lower[row], radius, sigma=1.0))

        assert holds(value[row] * (1 - 1e-9))
        assert not holds(value[row] * (1 + 1e-9))


def test_ends_and_shapes() -> None:
    assert top_k_radius(0.0, [0.5, 0.2], 3, sigma=1.0) == np.inf
    assert isinstance(top_k_radius(0.0, [0.5, 0.2], 5, sigma=1.0), np.float64)
    assert isinstance(top_k_radius(0.7, [0.2, 0.1], 1, sigma=1.0), np.float64)
    assert top_k_radius(1.0, [0.5, 0.2], 1, sigma=1.0) == np.inf
    # Not infinite, since a probability below 1e-300 counts as none.
    assert 36 < top_k_radius(0.2, [0.0, 0.7], 2, sigma=1.0) < 37
    assert top_k_radius(0.0, [0.0, 0.0], 1, sigma=1.0) == 0
    assert top_k_radius([], np.zeros((0, 4)), 2, sigma=1.0).shape == (0,)
    assert top_k_radius(np.full((2, 3), 0.9), np.full((2, 3, 4), 0.01), 2, sigma=1.0).shape == (
        2,
        3,
    )


def test_an_upper_function_of_its_own_is_used() -> None:
    def upper(p, radius):
        return gaussian_probability_upper(p, radius, sigma=0.5)

    value = top_k_radius(0.6, [0.3, 0.2], 2, probability_lower=gaussian, probability_upper=upper)
    assert value == top_k_radius(0.6, [0.3, 0.2], 2, sigma=0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, r"^k must be at least 1, got 0\.$"),
        ({"k": 1.0}, TypeError, r"^k must be an integer, got 1\.0\.$"),
        ({"k": True}, TypeError, r"^k must be an integer, got True\.$"),
        ({"p_lower": 1.2}, ValueError, r"^p_lower must lie in \[0, 1\], got 1\.2\.$"),
        ({"p_upper": [0.1, -0.2]}, ValueError, r"^p_upper must lie in \[0, 1\], got -0\.2\.$"),
        ({"p_upper": 0.1}, ValueError, r"^p_upper must have the shape of p_lower and the other "),
        ({"p_lower": [0.9, 0.9]}, ValueError, r"^p_upper must have the shape of p_lower and the "),
        ({"sigma": None}, ValueError, r"^sigma must be given alone, or probability_lower for "),
        ({"probability_lower": gaussian}, ValueError, r"^sigma must be given alone, or proba"),
        ({"probability_upper": gaussian}, ValueError, r"^sigma must be given alone, or proba"),
        ({"sigma": 0.0}, ValueError, r"^sigma must be positive and finite, got 0\.0\.$"),
        (
            {"sigma": None, "probability_lower": 3},
            TypeError,
            r"^probability_lower must be a function of p and radius, got 3\.$",
        ),
        (
            {"sigma": None, "probability_lower": gaussian, "probability_upper": "f"},
            TypeError,
            r"^probability_upper must be a function of p and radius, got 'f'\.$",
        ),
    ],
)
def test_broken_arguments_are_rejected(arguments, error, message) -> None:
    given = {"p_lower": 0.6, "p_upper": [0.3, 0.2], "k": 1, "sigma": 1.0} | arguments
    with pytest.raises(error, match=message):
        top_k_radius(**given)
