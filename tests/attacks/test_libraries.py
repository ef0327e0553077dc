"""Smoothed classifiers in the hands of other libraries' attacks."""

from __future__ import annotations

import builtins
import warnings

import numpy as np
import pytest
import torch
from linear_classifiers import N_FEATURES, distances, inputs, labels, linear_net, smoothed
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import as_art_classifier, as_foolbox_model, attack
from randsmooth.attacks.library import foolbox
from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import victim

NET = linear_net()
EVERY = inputs(60)
X = EVERY[distances(NET, EVERY, "l2") > 0.06]
Y = labels(NET, X)
CLF = smoothed(NET)
WIDE = (-5.0, 5.0)
CODES = np.arange(len(X)) % 3


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("average", ["probability", "loss"])
def test_foolbox_attacks_a_smoothed_classifier(frozen: bool, average: str) -> None:
    model = as_foolbox_model(CLF, 64, frozen=frozen, average=average, clip_range=WIDE)
    exact = distances(NET, X, "l2")
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    pgd = foolbox().attacks.L2PGD(steps=50, random_start=False)
    _, moved, success = pgd(model, x, y, epsilons=0.5)
    found = success.numpy()
    assert found[exact < 0.4].all()
    assert not found[exact > 0.6].any()
    assert moved.shape == x.shape


def test_foolbox_searches_for_the_smallest_perturbation() -> None:
    model = as_foolbox_model(CLF, 256, clip_range=WIDE)
    exact = distances(NET, X, "l2")
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    moved, _, success = foolbox().attacks.DDNAttack(steps=60)(model, x, y, epsilons=None)
    assert success.all()
    assert np.median((moved - x).norm(dim=1).numpy() / exact) == pytest.approx(1, abs=0.1)


def test_the_toolbox_attacks_a_smoothed_classifier() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import HopSkipJump, ProjectedGradientDescent

        classifier = as_art_classifier(CLF, 64, clip_range=WIDE)
        exact = distances(NET, X, "l2")
        pgd = ProjectedGradientDescent(
            classifier, norm=2, eps=0.5, eps_step=0.05, max_iter=30, verbose=False
        )
        moved = pgd.generate(X, Y)
        # A double-precision input, which the toolbox's attacks by votes hand on.
        predicted = classifier.predict(moved.astype(np.float64)).argmax(1)
        wrong = predicted != Y
        assert wrong[exact < 0.4].all()
        assert not wrong[exact > 0.6].any()
        hsj = HopSkipJump(classifier, max_iter=3, max_eval=100, init_eval=10, verbose=False)
        np.random.seed(0)  # noqa: NPY002 (which the toolbox draws from)
        found = hsj.generate(X[:3])
    assert (classifier.predict(found).argmax(1) != Y[:3]).all()


def test_a_forest_is_a_black_box() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(0, 1, (200, 2))
    y = np.where(table[:, 0] > 0.5, "yes", "no")
    forest = RandomForestClassifier(10, random_state=0)
    clf = SmoothedClassifier(forest, 0.1, random_state=0).fit(table, y)
    classifier = as_art_classifier(clf, 64)
    far = np.abs(table[:, 0] - 0.5) > 0.1
    assert np.array_equal(clf.classes_[classifier.predict(table[far]).argmax(1)], y[far])
    model = as_foolbox_model(clf, 64)
    votes = model(torch.from_numpy(table[far])).argmax(1).numpy()
    assert np.array_equal(clf.classes_[votes], y[far])
    message = r"^estimator must be a network, and its noise added, .* got RandomForestClassifier"
    x = torch.from_numpy(table[:4])
    with pytest.raises(TypeError, match=message):
        foolbox().attacks.L2PGD(steps=2)(model, x, torch.tensor([0, 1, 0, 1]), epsilons=0.5)


def gradients_by_hand(average: str) -> tuple[SmoothedClassifier, np.ndarray, np.ndarray]:
    """A net of three classes in double precision, and gradients of its loss under the draws."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.Tanh(), nn.Linear(8, 3)).double().eval()
    clf = SmoothedClassifier(FrozenEstimator(net), 0.5, random_state=0)
    points = X.astype(np.float64)
    clf.fit(points, np.arange(len(points)) % 3)
    draws = SmoothedModule(victim(clf), 16)._frozen_draws
    x = torch.from_numpy(points).requires_grad_()
    log_p = net(x[:, None] + draws[None]).log_softmax(-1)
    mean = log_p.mean(1) if average == "loss" else log_p.exp().mean(1).log()
    loss = -mean[range(len(x)), CODES].sum()
    (gradient,) = torch.autograd.grad(loss, [x])
    return clf, points, gradient.numpy()


@pytest.mark.parametrize("average", ["probability", "loss"])
def test_the_toolbox_climbs_exactly_the_average(average: str) -> None:
    clf, points, gradient = gradients_by_hand(average)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = as_art_classifier(clf, 16, average=average)
        theirs = classifier.loss_gradient(points, np.eye(3)[CODES])
    # The toolbox averages over the batch, and hands inputs on in single precision.
    assert np.allclose(len(points) * theirs, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("average", ["probability", "loss"])
def test_foolbox_climbs_exactly_the_average_by_minus_the_output(average: str) -> None:
    clf, points, gradient = gradients_by_hand(average)
    model = as_foolbox_model(clf, 16, average=average)
    x = torch.from_numpy(points).requires_grad_()
    outputs = model(x)
    (theirs,) = torch.autograd.grad(-outputs[range(len(x)), CODES].sum(), [x], retain_graph=True)
    assert np.allclose(theirs.numpy(), gradient, rtol=1e-10, atol=1e-14)
    loss = nn.functional.cross_entropy(outputs, torch.from_numpy(CODES), reduction="sum")
    (crossed,) = torch.autograd.grad(loss, [x])
    normalised = outputs.logsumexp(1).abs().detach().numpy() < 1e-12  # votes and average agree
    assert normalised.any() == (average == "probability")
    assert np.allclose(crossed.numpy()[normalised], gradient[normalised], rtol=1e-9, atol=1e-13)
    if average == "loss":
        assert not np.allclose(crossed.numpy(), gradient, rtol=1e-3)


@pytest.mark.parametrize("adapter", [as_foolbox_model, as_art_classifier])
def test_libraries_need_limits(adapter) -> None:
    with pytest.raises(ValueError, match=r"^clip_range must be two numbers, .* got None. Hand in"):
        adapter(CLF, clip_range=None)
    with pytest.raises(ValueError, match=r"^clip_range must be None or two numbers, .* got 'unit'"):
        adapter(CLF, clip_range="unit")


@pytest.mark.parametrize(
    ("package", "call", "message"),
    [
        ("foolbox", lambda: attack(CLF, X, Y, eps=0.1), r"pip install 'randsmooth\[attacks\]'"),
        ("foolbox", lambda: as_foolbox_model(CLF), r"pip install 'randsmooth\[attacks\]'"),
        (
            "art",
            lambda: attack(CLF, X, Y, "square", norm="linf", eps=0.1),
            "pip install adversarial",
        ),
        ("art", lambda: as_art_classifier(CLF), "pip install adversarial-robustness-toolbox"),
    ],
)
def test_a_missing_library_is_named_with_its_remedy(package, call, message, monkeypatch) -> None:
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=message):
        call()


def test_a_plain_network_is_for_the_library_itself() -> None:
    with pytest.raises(TypeError, match=r"^clf must be a fitted SmoothedClassifier, got Linear"):
        as_foolbox_model(NET)
