"""Certificates are attacked within their radius: none may break, and too large ones must."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.datasets import load_digits
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import PGD, Boundary, attack
from randsmooth.noise import Gaussian, Laplace, Noise

NOISES = {"gaussian": (Gaussian(0.25), "l2"), "laplace": (Laplace(0.15), "l1")}
N_VOTES = 10_000


@functools.cache
def certified(name: str) -> tuple[SmoothedClassifier, np.ndarray, np.ndarray, np.ndarray]:
    """A net on digits, and what it certifies of the images that it was not trained on."""
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32) / 16
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    noise: Noise = NOISES[name][0]
    clf = SmoothedClassifier(net, noise=noise, alpha=0.001, n_estimation=2000, random_state=0)
    clf = clf.fit(X[:1200], y[:1200])
    record = clf.certificates(X[1200:])
    kept = ~record.abstained
    return clf, X[1200:][kept], record.label[kept], record.radius[kept]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOISES)
def test_no_attack_by_gradients_breaks_a_certificate(name: str) -> None:
    clf, X, label, radius = certified(name)
    found = attack(
        clf,
        X,
        label,
        PGD(n_steps=100),
        norm=NOISES[name][1],
        eps=0.99 * radius,
        n_noise=32,
        n_votes=N_VOTES,
        clip_range=None,
        noise_seed=7,  # attacked on other noise than it was certified with
    )
    assert len(X) > 400
    # Each certificate fails with probability alpha at most.
    assert found.success.sum() <= binom.isf(1e-6, len(X), clf.alpha)
    assert (found.distance <= 0.99 * radius).all()


@pytest.mark.slow
def test_no_attack_by_votes_breaks_a_certificate() -> None:
    clf, X, label, radius = certified("gaussian")
    X, label, radius = X[:100], label[:100], radius[:100]
    found = attack(clf, X, label, Boundary(n_steps=500), n_votes=N_VOTES, noise_seed=7)
    assert found.success.mean() > 0.9
    assert (found.distance[found.success] > radius[found.success]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "factor"), [("gaussian", 2.0), ("laplace", 5.0)])
def test_certificates_that_claim_too_much_are_broken(name: str, factor: float) -> None:
    clf, X, label, radius = certified(name)
    norm = NOISES[name][1]
    settings = {"norm": norm, "n_noise": 32, "clip_range": None, "noise_seed": 7}
    found = attack(clf, X, label, PGD(n_steps=50), eps=factor * radius, **settings)
    assert found.success.sum() > binom.isf(1e-6, len(X), clf.alpha)
