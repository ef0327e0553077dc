"""False certificates by floating-point noise, and none on the grid.

After V. Voráček and M. Hein, "Sound randomized smoothing in floating-point arithmetic", ICLR 2023:
the rounded sum of input and noise tells which input it came from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from torch import Tensor, nn

from randsmooth import Certificates, SmoothedClassifier
from randsmooth.noise import DiscreteGaussian, Noise

SIGMA = 0.5


class Possible(nn.Module):
    """Answers 1 where every number could be `origin` plus something, as it is rounded."""

    def __init__(self, origin: NDArray[Any]) -> None:
        super().__init__()
        self.origin = nn.Parameter(torch.from_numpy(origin))

    def forward(self, z: Tensor) -> Tensor:
        possible = (z - self.origin) + self.origin == z
        answer = possible.flatten(1).all(dim=1).to(z.dtype)
        return torch.stack([1 - answer, answer], dim=1)


class PossibleArray(ClassifierMixin, BaseEstimator):
    """The same for arrays."""

    origin = np.float32(204 / 255)

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X):
        return ((X - self.origin) + self.origin == X).all(axis=1).astype(int)


def pair(steps: int, dimension: int, dtype: Any) -> NDArray[Any]:
    """Return the origin and a point whose coordinates are all the same grid point."""
    return np.array([np.zeros(dimension), np.full(dimension, steps / 255)], dtype=dtype)


def record(
    estimator: Any, X: NDArray[Any], noise: str | Noise, *, noise_seed: int | None = None
) -> Certificates:
    clf = SmoothedClassifier(
        FrozenEstimator(estimator),
        sigma=SIGMA,
        noise=noise,
        n_estimation=100_000,
        alpha=0.001,
        random_state=0,
    )
    return clf.fit(X, [0, 1]).certificates(X, noise_seed=noise_seed)


def false_certificates(certified: Certificates, X: NDArray[Any], fresh: Certificates) -> int:
    """Count the ordered pairs of points of which one's ball holds the other, of another class.

    The other's class is taken to be known where fresh votes prove it to have more than half.
    """
    distance = np.linalg.norm(X[:, None].astype(float) - X[None].astype(float), axis=-1)
    inside = distance < certified.radius[:, None]
    differs = certified.label[:, None] != fresh.label[None]
    return int((inside & differs & (fresh.p_lower > 0.5)[None]).sum())


# 0.8 is the length of all these differences, up to rounding of single precision.
@pytest.mark.parametrize(
    ("steps", "dimension", "n_false"), [(204, 1, 1), (51, 16, 2), (17, 144, 2)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_noise_certifies_a_ball_that_holds_an_adversarial_point(
    steps: int, dimension: int, n_false: int, dtype: Any
) -> None:
    X = pair(steps, dimension, dtype)
    certified = record(Possible(X[1]), X, "gaussian")
    fresh = record(Possible(X[1]), X, "gaussian", noise_seed=12345)
    assert certified.label.tolist() == fresh.label.tolist() == [0, 1]
    assert np.linalg.norm(X[1]) == pytest.approx(0.8, rel=1e-6)
    # All votes at the second point but those of rare ties in rounding are for class 1.
    assert certified.counts[1, 1] >= 99_990
    assert certified.radius[1] > 1.7
    assert false_certificates(certified, X, fresh) == n_false


@pytest.mark.parametrize(("steps", "dimension"), [(204, 1), (51, 16), (17, 144)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_on_the_grid_certifies_no_such_ball(steps: int, dimension: int, dtype: Any) -> None:
    X = pair(steps, dimension, dtype)
    noise = DiscreteGaussian(SIGMA, levels=255)
    certified = record(Possible(X[1]), X, noise)
    fresh = record(Possible(X[1]), X, noise, noise_seed=12345)
    assert not certified.abstained.any()
    assert false_certificates(certified, X, fresh) == 0
    # In one dimension the classes differ: the two balls must not even touch the other point.
    if dimension == 1:
        assert certified.label.tolist() == [0, 1]
        assert certified.radius.max() < 0.8


def test_a_scikit_learn_base_tells_inputs_apart_as_well() -> None:
    X = pair(204, 1, np.float32)
    estimator = PossibleArray().fit(X, [0, 1])
    ordinary = record(estimator, X, "gaussian")
    on_grid = record(estimator, X, DiscreteGaussian(SIGMA))
    assert ordinary.label.tolist() == on_grid.label.tolist() == [0, 1]
    assert ordinary.radius[1] > 1.7
    assert on_grid.radius.max() < 0.8


def test_on_the_grid_the_base_has_the_probabilities_of_its_enumerated_votes() -> None:
    """The base asked on every grid point within reach, and the law of the noise by its formula."""
    X = pair(204, 1, np.float32)
    k = np.arange(-2500, 2501)
    at = torch.from_numpy((k / 255).astype(np.float32)[:, None])
    with torch.inference_mode():
        votes = Possible(X[1])(at).argmax(dim=1).numpy().astype(bool)
    ends = (np.arange(-2501, 2501) + 0.5) / (255 * SIGMA)
    here, there = np.diff(ndtr(ends)), np.diff(ndtr(ends - 0.8 / SIGMA))
    certified = record(Possible(X[1]), X, DiscreteGaussian(SIGMA))
    shares = certified.counts[:, 1] / 100_000
    exact = np.array([here[votes].sum(), there[votes].sum()])
    np.testing.assert_allclose(shares, exact, atol=5 * 0.5 / np.sqrt(100_000))
    # The theorem, for this base: the quantiles differ by no more than the distance allows.
    assert abs(np.diff(ndtri(exact)).item()) <= 0.8 / SIGMA
