"""Adversarial inputs that carry over from one classifier to another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_classifiers import N_FEATURES, distances, inputs, labels, linear_net, smoothed
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import PGD, Boundary, CarliniWagner, Transfer, attack, transfer
from randsmooth.fingerprints import model_fingerprint

NET = linear_net()
EVERY = inputs(60)
X = EVERY[distances(NET, EVERY, "l2") > 0.06]
Y = labels(NET, X)
CLF = smoothed(NET)
EXACT = distances(NET, X, "l2")
WIDE = {"clip_range": (-5.0, 5.0)}


def test_from_the_same_weights_everything_carries_over() -> None:
    found = transfer(NET, CLF, X, Y, eps=1.2 * EXACT, **WIDE)
    assert found.success.all()
    assert found.method == "transfer"
    assert found.settings["method"]["name"] == "pgd"
    assert found.settings["source"] == {"class": "Linear", "model": model_fingerprint(NET)}


def test_from_other_weights_less_carries_over() -> None:
    other = linear_net(seed=5)
    assert transfer(other, CLF, X, Y, eps=1.2 * EXACT, **WIDE).success.mean() < 0.5


def test_a_smoothed_source_and_a_minimal_attack_will_do() -> None:
    found = transfer(smoothed(NET, seed=3), CLF, X, Y, CarliniWagner(n_steps=60), **WIDE)
    assert found.success.mean() > 0.9
    assert (found.distance[found.success] > 0.9 * EXACT[found.success]).all()


def test_a_source_without_gradients_is_attacked_by_votes() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(-1, 2, (2000, N_FEATURES)).astype(np.float32)
    source = LogisticRegression(C=100).fit(table, labels(NET, table))
    found = transfer(source, CLF, X[:10], Y[:10], Boundary(n_steps=300), **WIDE)
    assert found.success.mean() > 0.8
    with pytest.raises(TypeError, match=r"^source must be a network for 'pgd', got LogisticReg"):
        transfer(source, CLF, X[:3], Y[:3], eps=0.1)


def test_a_source_of_other_classes_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(TypeError, match=r"^source must have the 2 classes .* got 5."):
        transfer(nn.Linear(N_FEATURES, 5), CLF, X, Y, eps=0.1)


def test_a_source_of_other_labels_is_refused_unless_it_is_a_network_that_numbers_them() -> None:
    source = SmoothedClassifier(FrozenEstimator(NET), 0.1, random_state=0).fit(X, Y + 5)
    with pytest.raises(ValueError, match=r"^source must have the labels .*\[0, 1\], got \[5, 6\]"):
        transfer(source, CLF, X, Y, eps=0.1)
    names = np.array(["no", "yes"])
    clf = SmoothedClassifier(FrozenEstimator(NET), 0.1, random_state=0).fit(X, names[Y])
    assert transfer(NET, clf, X[:5], names[Y[:5]], eps=1.0, n_noise=8, n_votes=50).success.all()


@pytest.mark.parametrize("source", [SmoothedClassifier(nn.Linear(12, 2)), LogisticRegression()])
def test_a_source_that_is_not_fitted_is_refused_before_the_attack(source) -> None:
    with pytest.raises(NotFittedError, match=r"is not fitted yet"):
        transfer(source, CLF, X, Y, eps=0.1)


def test_what_is_no_attack_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^method must be an attack of randsmooth.attacks"):
        attack(CLF, X, Y, Transfer(NET, "pgd"), eps=0.1)
    with pytest.raises(ValueError, match=r"^n_steps must be a positive integer, got 0"):
        attack(CLF, X, Y, Transfer(NET, PGD(n_steps=0)), eps=0.1)
    with pytest.raises(
        TypeError, match=r"^source must be a fitted SmoothedClassifier or a trained"
    ):
        attack(CLF, X, Y, Transfer(None), eps=0.1)
    with pytest.raises(ValueError, match=r"^n_noise must be a positive integer, got 0"):
        attack(CLF, X, Y, Transfer(NET, PGD(), 0), eps=0.1)
