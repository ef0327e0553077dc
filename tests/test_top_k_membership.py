"""Certified membership in the k most probable classes, against the truth in one dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.frozen import FrozenEstimator
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.certificates.top_k import TopKCertificates, certify_top_k_counts
from randsmooth.exceptions import CertificationError
from randsmooth.noise import DeterministicSplitting, Gaussian, Laplace

CUTS = np.array([-1.0, 0.0, 1.5])


class Intervals(nn.Module):
    """Labels a number by the interval it falls into."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cell = torch.bucketize(x[:, 0].contiguous(), torch.from_numpy(CUTS).float())
        return nn.functional.one_hot(cell, 4).float()


def fitted(**params: Any) -> SmoothedClassifier:
    settings = {
        "sigma": 1.0,
        "n_selection": 50,
        "n_estimation": 400,
        "alpha": 0.1,
        "random_state": 0,
        **params,
    }
    X = np.zeros((4, 1), dtype=np.float32)
    return SmoothedClassifier(FrozenEstimator(Intervals()), **settings).fit(X, [0, 1, 2, 3])


def leads(x: np.ndarray, label: int, k: int, law: Any) -> np.ndarray:
    """Return by how much the label leads the k-th most probable of the others."""
    edges = np.concatenate([[-np.inf], CUTS, [np.inf]])
    p = np.diff(law.cdf(edges - np.asarray(x)[..., None]), axis=-1)
    return p[..., label] - np.sort(np.delete(p, label, axis=-1), axis=-1)[..., -k]


def true_distance(x: float, label: int, k: int, law: Any) -> float:
    """Return how far x can move before the label is no longer among the k most probable."""
    if leads(x, label, k, law) <= 0:
        return 0.0
    ends = []
    for side in (-1, 1):
        steps = x + side * np.linspace(0, 8, 1600)
        crossed = np.flatnonzero(leads(steps, label, k, law) <= 0)
        if len(crossed):
            near, far = steps[crossed[0] - 1], steps[crossed[0]]
            ends.append(abs(optimize.brentq(leads, near, far, args=(label, k, law)) - x))
    return min(ends, default=np.inf)


@pytest.mark.parametrize("noise", [Gaussian(1.0), Laplace(0.7)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_label_leaves_the_top_k_within_its_radius_at_most_alpha_of_the_time(
    noise: Any, k: int
) -> None:
    law = {"gaussian": stats.norm, "laplace": stats.laplace}[noise.name](scale=noise.scale)
    X = np.random.default_rng(k).uniform(-2.5, 3, size=(500, 1)).astype(np.float32)
    clf = fitted(noise=noise, common_noise=False)
    labels = np.random.default_rng(0).integers(0, 4, size=len(X))
    radii = clf.certify_top_k(X, k, labels=labels)
    sure = np.flatnonzero(radii > 0)
    truth = np.array([true_distance(float(X[i, 0]), int(labels[i]), k, law) for i in sure])
    assert len(sure) > 60
    assert (radii[sure] > truth).sum() <= stats.binom.isf(1e-6, len(sure), 0.1)
    assert (radii[sure] / np.minimum(truth, 5)).max() > 0.5


def test_radii_grow_with_k_and_are_infinite_for_all_classes() -> None:
    clf = fitted()
    X = np.linspace(-2, 3, 9, dtype=np.float32)[:, None]
    radii = np.array([clf.certify_top_k(X, k) for k in (1, 2, 3, 4)])
    assert (np.diff(radii, axis=0) >= 0).all()
    assert np.isinf(radii[-1]).all()


def test_labels_default_to_those_of_predict() -> None:
    clf = fitted()
    X = np.linspace(-2, 3, 9, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(
        clf.certify_top_k(X, 2), clf.certify_top_k(X, 2, labels=clf.predict(X))
    )


def test_the_record_keeps_votes_and_bounds() -> None:
    votes = np.array([[700, 200, 100], [0, 0, 0]])
    record = certify_top_k_counts(
        votes, np.array([1, 1]), 2, noise=Gaussian(0.5), alpha=0.01, classes=["a", "b", "c"]
    )
    assert record.label.tolist() == ["b", "b"]
    assert record.p_lower[0] == pytest.approx(stats.beta.ppf(0.005, 200, 801))
    np.testing.assert_allclose(
        record.p_upper[0], stats.beta.isf(0.0025, [701, 101], [300, 900]), rtol=1e-9
    )
    assert record.radius[0] > 0
    assert record.radius[1] == 0
    assert repr(record) == "TopKCertificates(n_inputs=2, k=2, norm='l2', alpha=0.01)"


@pytest.mark.parametrize(
    ("k", "labels", "error", "message"),
    [
        (0, None, ValueError, r"^k must be an integer from 1 to the number of classes, 4, got 0"),
        (5, None, ValueError, r"^k must be an integer from 1 to the number of classes, 4, got 5"),
        (1.5, None, ValueError, r"^k must be an integer .*got 1\.5"),
        (1, [0], ValueError, r"^labels must have one entry per input, shape \(2,\), got shape \(1"),
        (1, [0, 7], ValueError, r"^labels must be among the classes, \[0, 1, 2, 3\], got .*7"),
        (1, ["a", "b"], TypeError, r"labels of the same kind"),
    ],
)
def test_what_is_asked_is_checked(k: Any, labels: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        fitted().certify_top_k(np.zeros((2, 1), dtype=np.float32), k, labels=labels)


def test_noise_that_is_not_drawn_is_refused() -> None:
    clf = fitted(noise=DeterministicSplitting(0.5))
    with pytest.raises(ValueError, match=r"^noise must be drawn at random for this question, got"):
        clf.certify_top_k(np.zeros((2, 1), dtype=np.float32), 1)


def test_inputs_that_fail_are_named_and_the_others_kept() -> None:
    class Breaks(Intervals):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / (x < 50)

    X = np.array([[0.5], [99.0]], dtype=np.float32)
    clf = fitted().set_params(estimator=FrozenEstimator(Breaks())).fit(X.repeat(2, 0), range(4))
    with pytest.raises(CertificationError, match=r"rows \[1\]") as caught:
        clf.certify_top_k(X, 1)
    record = caught.value.certificates
    assert isinstance(record, TopKCertificates)
    assert record.radius[0] > 0
    assert record.radius[1] == 0
