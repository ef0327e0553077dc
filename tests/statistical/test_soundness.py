"""Certificates against the truth, on classifiers whose smoothed radius is known exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator

from nets import Linear
from randsmooth import SmoothedClassifier, certify_counts
from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper

WEIGHT = np.array([[0.0, 0.0, 0.0], [2.0, -1.0, 2.0]])  # of norm 3


def smoothed(estimator: Any, X: NDArray[Any], y: NDArray[Any], **params: Any) -> SmoothedClassifier:
    settings = {"n_selection": 20, "n_estimation": 200, "alpha": 0.1, "random_state": 0, **params}
    return SmoothedClassifier(FrozenEstimator(estimator), **settings).fit(X, y)


def most_violations(n: int, alpha: float) -> int:
    """Return the failures that n independent chances at alpha exceed once in a million runs."""
    return int(stats.binom.isf(1e-6, n, alpha))


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["auto", "binary", "renyi", "pixeldp"])
def test_radii_of_a_linear_network_exceed_its_margin_at_most_alpha_of_the_time(bound: str) -> None:
    """For a linear f, the smoothed classifier is f itself: the true radius is the margin."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(4000, 3)).astype(np.float32)
    module = Linear(torch.tensor(WEIGHT).float(), torch.tensor([0.0, 0.3]))
    margin = np.abs(X @ WEIGHT[1] + 0.3) / 3
    clf = smoothed(module, X, np.arange(4000) % 2, sigma=0.8, bound=bound, common_noise=False)
    certificates = clf.certificates(X)
    wrong_label = certificates.label != (X @ WEIGHT[1] + 0.3 > 0)
    broken = ~certificates.abstained & (wrong_label | (certificates.radius > margin))
    assert broken.sum() <= most_violations(4000, 0.1)
    if bound in ("auto", "binary"):  # these are tight, so they must also use most of their alpha
        assert broken.sum() > 100


@pytest.mark.slow
def test_one_bank_of_noise_keeps_the_level_for_each_input() -> None:
    X = np.array([[0.4, 0.0, 0.0]], dtype=np.float32)  # margin 0.8 / 3
    module = Linear(torch.tensor(WEIGHT).float(), torch.zeros(2))
    clf = smoothed(module, X.repeat(2, 0), np.array([0, 1]), sigma=0.5, n_estimation=100)
    radii = np.array([clf.certify(X, noise_seed=seed)[0] for seed in range(1500)])
    broken = (radii > 0.8 / 3).sum()
    assert 30 < broken <= most_violations(1500, 0.1)


class Intervals(ClassifierMixin, BaseEstimator):
    """Labels a number by the interval it falls into."""

    cuts = np.array([-1.0, 0.2, 0.9, 2.0])
    labels = np.array([0, 1, 2, 0, 1])

    def fit(self, X, y):
        self.classes_ = np.array([0, 1, 2])
        return self

    def predict(self, X):
        return self.labels[np.searchsorted(self.cuts, X[:, 0])]


def class_probabilities(x: float, distribution: Any) -> NDArray[np.float64]:
    edges = np.concatenate([[-np.inf], Intervals.cuts, [np.inf]])
    masses = np.diff(distribution.cdf(edges - x))
    return np.bincount(Intervals.labels, weights=masses)


def change_points(distribution: Any) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return where the smoothed label changes, and the label left of each change and last."""
    grid = np.linspace(-8, 8, 4001)
    best = np.array([class_probabilities(x, distribution).argmax() for x in grid])
    at = np.flatnonzero(np.diff(best))

    def lead(x: float, first: int, second: int) -> float:
        p = class_probabilities(x, distribution)
        return float(p[first] - p[second])

    points = [optimize.brentq(lead, grid[i], grid[i + 1], args=(best[i], best[i + 1])) for i in at]
    return np.array(points), best[np.append(at, len(grid) - 1)]


@pytest.mark.slow
@pytest.mark.parametrize("common_noise", [True, False])
@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
def test_radii_with_a_runner_up_stay_within_the_true_region_of_the_label(
    noise: str, common_noise: bool
) -> None:
    sigma = 0.9
    distribution = {
        "gaussian": stats.norm(scale=sigma),
        "laplace": stats.laplace(scale=sigma),
        "uniform": stats.uniform(-sigma, 2 * sigma),
    }[noise]
    points, labels = change_points(distribution)
    X = np.random.default_rng(1).uniform(-3, 4, size=(3000, 1))
    clf = smoothed(
        Intervals().fit(None, None),
        X,
        np.arange(3000) % 3,
        sigma=sigma,
        noise=noise,
        common_noise=common_noise,
        alpha=0.01 if common_noise else 0.1,
    )
    certificates = clf.certificates(X)
    cell = np.searchsorted(points, X[:, 0])
    edges = np.concatenate([[-np.inf], points, [np.inf]])
    distance = np.minimum(X[:, 0] - edges[cell], edges[cell + 1] - X[:, 0])
    held = (certificates.label == labels[cell]) & (certificates.radius <= distance)
    broken = ~certificates.abstained & ~held
    # Under common noise the inputs fail together, so only the mean, far below, can be watched.
    assert broken.mean() <= (0.1 if common_noise else most_violations(3000, 0.1) / 3000)
    assert (~certificates.abstained).mean() > 0.4


def test_alpha_is_spent_once_nine_tenths_on_the_label_and_one_on_the_runner_up() -> None:
    selection, counts = [[3, 90, 7]], [[400, 9000, 600]]
    record = certify_counts(selection, counts, sigma=0.5, alpha=0.01)
    assert record.p_lower[0] == clopper_pearson_lower(9000, 10_000, alpha=0.009)
    assert record.p_upper[0] == clopper_pearson_upper(600, 10_000, alpha=0.001)
    binary = record.with_bound("binary")
    assert binary.p_lower[0] == clopper_pearson_lower(9000, 10_000, alpha=0.01)


def test_the_label_comes_from_the_selection_draws_alone() -> None:
    record = certify_counts([[6, 4]], [[100, 9900]], sigma=0.5)
    assert record.label[0] == 0
    assert record.abstained[0]


@pytest.mark.slow
def test_no_attack_within_a_certified_radius_changes_the_smoothed_label() -> None:
    """The worst direction is known for a linear network: straight at the boundary."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 3)).astype(np.float32)
    module = Linear(torch.tensor(WEIGHT).float(), torch.zeros(2))
    clf = smoothed(module, X, np.arange(300) % 2, sigma=0.5, n_estimation=2000, alpha=1e-4)
    certificates = clf.certificates(X)
    away = np.where(certificates.label == 1, -1.0, 1.0)[:, None] * WEIGHT[1] / 3
    attacked = (X + 0.999 * certificates.radius[:, None] * away).astype(np.float32)
    certified = ~certificates.abstained
    fresh = clf.set_params(n_selection=5000, n_estimation=1).fit(X, np.arange(300) % 2)
    shares = fresh.predict_proba(attacked[certified])
    own = shares[np.arange(certified.sum()), certificates.label[certified]]
    # The label keeps its majority but for the error of 5000 votes.
    assert own.min() > 0.5 - 5 * 0.5 / np.sqrt(5000)
    assert certified.mean() > 0.8
