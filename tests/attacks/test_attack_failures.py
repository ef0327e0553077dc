"""One input that fails costs that input, whatever the reason."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from linear_classifiers import distances, inputs, labels, linear_net, smoothed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import (
    PGD,
    AttackMethod,
    Boundary,
    Transfer,
    attack,
)
from randsmooth.attacks.method import Question
from randsmooth.exceptions import AttackError

NET = linear_net()
EVERY = inputs(60)
X = EVERY[distances(NET, EVERY, "l2") > 0.06]  # nearer ones have votes that are undecided
Y = labels(NET, X)
CLF = smoothed(NET)
WIDE = (-5.0, 5.0)


def test_one_input_that_fails_leaves_the_others() -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear_net()

        def forward(self, x):
            if (x[:, 0] > 3).any():
                raise RuntimeError("the first coordinate is too large")
            return self.net(x)

    clf = smoothed(Fragile().eval())
    bad = X.copy()
    bad[3, 0] = 2.99
    failed = r"^X has 1 inputs that could not be attacked, rows \[3\]; the first: the first coor"
    with pytest.raises(AttackError, match=failed) as caught:
        attack(clf, bad, labels(NET, bad), PGD(n_steps=3), eps=0.2, clip_range=WIDE)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.failed.tolist() == [3]
    assert np.isnan(error.result.distance[3])
    assert not error.result.success[3]
    others = np.arange(len(X)) != 3
    assert np.isfinite(error.result.distance[others]).all()


@dataclass(frozen=True)
class Shift(AttackMethod):
    """Moves the first coordinate as far as it may."""

    to: float = 1.0
    name = "shift"
    norms = ("linf",)
    gradients = False

    def perturb(self, question: Question) -> torch.Tensor:
        moved = question.x.clone()
        moved[:, 0] += self.to * question.eps
        return moved


def test_an_input_without_votes_once_it_is_moved_leaves_the_others() -> None:
    class Edge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear_net()

        def forward(self, x):
            return torch.where(x[:, :1] > 3, torch.nan, self.net(x))

    y = Y.copy()
    y[0] = 1 - y[0]  # wrong as it is, and not attacked
    eps = np.full(len(X), 0.01)
    eps[5] = 4.0
    failed = r"rows \[5\]; the first: .* outputs are not finite"
    with pytest.raises(AttackError, match=failed) as caught:
        attack(smoothed(Edge().eval()), X, y, Shift(), norm="linf", eps=eps, clip_range=WIDE)
    result = caught.value.result
    assert np.isfinite(np.delete(result.distance, 5)).all()
    assert np.flatnonzero(result.success).tolist() == [0]


def test_an_attack_that_returns_no_numbers_is_an_error_of_its_inputs() -> None:
    with pytest.raises(AttackError, match=r"the attack returned numbers that are not finite"):
        attack(CLF, X[:3], Y[:3], Shift(np.nan), norm="linf", eps=0.1)


def test_no_limit_does_not_clip() -> None:
    exact = distances(NET, X, "linf")
    found = attack(CLF, X, Y, Shift(), norm="linf", eps=30.0, clip_range=None)
    assert np.allclose(found.distance, 30.0)
    assert found.success.mean() > 0.3
    assert (found.distance > exact).all()


class Raises(nn.Module):
    """Raises for a batch that holds the marked input; under gradients alone, or always."""

    def __init__(self, error: type[Exception], always: bool) -> None:
        super().__init__()
        self.net, self.error, self.always = linear_net(), error, always

    def forward(self, x):
        if (self.always or x.requires_grad) and (x[:, 0] > 3).any():
            raise self.error("marked")
        return self.net(x)


@pytest.mark.parametrize("error", [TypeError, IndexError, AssertionError, MemoryError, KeyError])
@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("plain", [True, False])
def test_whatever_one_input_raises_the_others_are_attacked(error, always, plain: bool) -> None:
    net = Raises(error, always).eval()
    clf, bad = (net if plain else smoothed(net)), X[:6].copy()
    bad[2, 0] = 3.9
    y = Y[:6]  # with the mark it may be wrong as it is, and then need not be attacked
    y = np.where(np.arange(6) == 2, labels(NET, bad), y)
    with pytest.raises(AttackError, match=r"rows \[2\]; the first: ") as caught:
        attack(clf, bad, y, PGD(n_steps=2), eps=0.2, clip_range=WIDE, n_votes=50, n_noise=4)
    assert np.flatnonzero(np.isnan(caught.value.result.distance)).tolist() == [2]
    expected = attack(CLF, X[:2], Y[:2], PGD(n_steps=2), eps=0.2, n_noise=4, clip_range=WIDE)
    if not plain:
        assert np.allclose(caught.value.result.adversarial[:2], expected.adversarial, atol=1e-5)


def test_a_base_without_gradients_is_refused_as_such() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear_net()

        def forward(self, x):
            return self.net(x.detach())

    for method in (PGD(n_steps=2), Transfer(Detached().eval(), PGD(n_steps=2))):
        clf = smoothed(Detached().eval())
        with pytest.raises(TypeError, match=r"^estimator must be differentiable in its inputs"):
            attack(clf, X[:4], Y[:4], method, eps=0.1, n_votes=50)


def test_the_boundary_attack_starts_only_from_points_with_votes() -> None:
    class Fragile(ClassifierMixin, BaseEstimator):
        classes_ = np.array([0, 1])
        n_features_in_ = 12

        def fit(self, X, y):
            return self

        def predict(self, X):
            if (X[:, 0] > 3).any():
                raise ValueError("marked")
            return labels(NET, np.asarray(X, dtype=np.float32))

    clf = SmoothedClassifier(FrozenEstimator(Fragile()), 0.1, random_state=0).fit(X, Y)
    bad = X[:6].copy()
    bad[2, 0] = 3.9
    method = Boundary(n_steps=5, starting_points=np.concatenate([bad[2:3], X]))
    with pytest.raises(AttackError, match=r"rows \[2\]; the first: marked") as caught:
        attack(clf, bad, Y[:6], method, clip_range=WIDE, n_votes=50, n_noise=4)
    assert np.isfinite(np.delete(caught.value.result.distance, 2)).all()


def test_an_input_without_a_start_is_an_error_and_a_start_can_be_handed_in() -> None:
    one = X[Y == 0][:3]
    with pytest.raises(
        AttackError, match=r"no point to start from .*hand in Boundary\(starting_po"
    ):
        attack(CLF, one, [0, 0, 0], Boundary(n_steps=5, starting_points=one), n_votes=50)
    method = Boundary(n_steps=5, starting_points=X[Y == 1])
    found = attack(CLF, one, [0, 0, 0], method, n_votes=50)
    assert found.success.all()
    assert len(found.settings["starting_points"]) == 32
