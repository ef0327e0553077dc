"""Random search in squares: an attack without gradients, for images."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import Square, attack

SIDE = 10
WIDE = (-2.0, 3.0)


def striped_net() -> nn.Module:
    """Two classes: whether the left half is brighter than the right."""
    w = torch.ones(1, SIDE, SIDE)
    w[..., SIDE // 2 :] = -1
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([w.flatten(), -w.flatten()]) / 2)
        net[1].bias.zero_()
    return net.eval()


NET = striped_net()
X = np.random.default_rng(0).uniform(0.2, 0.8, (24, 1, SIDE, SIDE)).astype(np.float32)
SCORES = (NET(torch.from_numpy(X)) @ torch.tensor([1.0, -1.0])).detach().numpy()
Y = (SCORES < 0).astype(int)
CLF = SmoothedClassifier(FrozenEstimator(NET), 0.1, random_state=0)
CLF.fit(np.zeros((2, 1, SIDE, SIDE), np.float32), [0, 1])
DISTANCE = np.abs(SCORES) / SIDE**2  # in l-infinity


def test_a_linear_boundary_is_crossed_beyond_its_distance_and_never_before() -> None:
    kept = np.flatnonzero(DISTANCE > 0.005)[:12]
    exact = DISTANCE[kept]
    settings = {"norm": "linf", "n_noise": 32, "clip_range": WIDE, "n_votes": 4000}
    method = Square(n_steps=200)
    out = attack(CLF, X[kept], Y[kept], method, eps=1.6 * exact, **settings)
    assert out.success.mean() > 0.8
    assert (out.distance <= 1.6 * exact).all()
    within = attack(CLF, X[kept], Y[kept], method, eps=0.9 * exact, **settings)
    assert not within.success[exact > 0.02].any()


def test_the_same_seed_finds_the_same_and_leaves_other_generators_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    states = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    runs = [
        attack(CLF, X[:6], Y[:6], "square", norm="linf", eps=0.1, n_votes=50, random_state=seed)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(states[0], np.random.get_state()[1])  # noqa: NPY002
    assert states[1] == random.getstate()
    assert np.array_equal(runs[0].adversarial, runs[1].adversarial)
    assert not np.array_equal(runs[0].adversarial, runs[2].adversarial)


def test_a_base_without_gradients_is_attacked_by_votes() -> None:
    flat = FunctionTransformer(lambda images: np.asarray(images).reshape(len(images), -1))
    tree = make_pipeline(flat, DecisionTreeClassifier(max_depth=1, random_state=0))
    images = np.random.default_rng(1).uniform(0, 1, (200, 1, SIDE, SIDE))
    y = (images[:, 0, 4, 4] > 0.5).astype(int)
    tree.fit(images, y)
    clf = SmoothedClassifier(FrozenEstimator(tree), 0.1, random_state=0).fit(images, y)
    distance = np.abs(images[:, 0, 4, 4] - 0.5)
    rows = np.flatnonzero((distance > 0.1) & (distance < 0.25))[:5]
    out = attack(clf, images[rows], y[rows], Square(n_steps=100), norm="linf", eps=0.3)
    assert out.success.mean() > 0.5
    assert (out.distance[out.success] > distance[rows][out.success] - 0.02).all()


@pytest.mark.parametrize(
    ("inputs", "shape"),
    [
        (X.reshape(len(X), -1), r"\(100,\)"),
        (X[..., :4, :4], r"\(1, 4, 4\)"),
        (X[..., :8], r"\(1, 10, 8\)"),
    ],
)
def test_what_is_no_square_image_is_refused(inputs, shape) -> None:
    n = inputs[0].size
    net = nn.Sequential(nn.Flatten(), nn.Linear(n, 2))
    clf = SmoothedClassifier(FrozenEstimator(net), 0.1, random_state=0).fit(inputs, Y)
    y = clf.predict(inputs)
    message = f"^X must hold square images, .* of at least 5 .* got inputs of shape {shape}. Take"
    with pytest.raises(TypeError, match=message):
        attack(clf, inputs, y, "square", norm="linf", eps=0.1)


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"first_share must be at most 0\.8, got 0\.9"):
        attack(CLF, X, Y, Square(first_share=0.9), norm="linf", eps=0.1)
    with pytest.raises(ValueError, match="n_steps must be a positive integer, got 0"):
        attack(CLF, X, Y, Square(n_steps=0), norm="linf", eps=0.1)
