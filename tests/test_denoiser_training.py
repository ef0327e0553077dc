"""Training a denoiser, by itself and through the classifier behind it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.denoised import DenoisedClassifier
from randsmooth.models.denoiser import DenseDenoiser, DnCNN
from randsmooth.noise import Gaussian, Stream, block_generator
from randsmooth.training import GaussianAugmentation

Arrays = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def iris() -> Arrays:
    X, y = load_iris(return_X_y=True)
    return ((X - X.mean(axis=0)) / 2).astype(np.float32), y


@pytest.fixture
def base() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def denoiser() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return DenseDenoiser(4, 8)


def step(module: nn.Module, X: Any, y: Any, kind: Any, criterion: Any) -> Any:
    """One step of gradient descent on one batch, with noise."""
    noisy = GaussianAugmentation(noise=Gaussian(0.5), random_state=7)
    settings = {"lr": 0.1, "max_epochs": 1, "batch_size": len(X), "train_split": None}
    net = kind(module, criterion=criterion, callbacks=[noisy], verbose=0, **settings)
    return net.fit(X, y)


@pytest.mark.parametrize("objective", ["mean squared error", "stability"])
def test_a_training_step_of_the_denoiser_is_that_of_its_published_loss(
    iris, denoiser, base, objective
):
    X = iris[0][::15].astype(np.float64)
    denoiser, base = denoiser.double(), base.double()
    by_hand = copy.deepcopy(denoiser)
    before = copy.deepcopy(base.state_dict())
    drawn = Gaussian(0.5).draw(len(X), (4,), block_generator(7, Stream.TRAINING, 1), dtype=float)
    clean = torch.from_numpy(X)
    denoised = by_hand(clean + torch.from_numpy(drawn))
    if objective == "stability":
        answers = base(clean).argmax(dim=1)
        whole = DenoisedClassifier(denoiser, base)
        step(whole, X, answers.numpy(), NeuralNetClassifier, nn.CrossEntropyLoss)
        loss = -torch.log_softmax(base(denoised), dim=1)[torch.arange(len(X)), answers].mean()
    else:
        step(denoiser, X, X, NeuralNetRegressor, nn.MSELoss)
        loss = ((denoised - clean) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        for trained, own in zip(denoiser.parameters(), by_hand.parameters(), strict=True):
            assert own.grad.abs().max() > 0
            torch.testing.assert_close(trained, own - 0.1 * own.grad, rtol=1e-12, atol=1e-14)
    assert all(torch.equal(base.state_dict()[name], value) for name, value in before.items())


def test_no_gradient_and_no_decay_reaches_the_base(iris, denoiser, base):
    before = copy.deepcopy(base.state_dict())
    clf = SmoothedClassifier(
        NeuralNetClassifier(
            DenoisedClassifier,
            module__denoiser=denoiser,
            module__base=base,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=0.5,
            max_epochs=2,
            train_split=None,
            verbose=0,
        ),
        sigma=0.5,
        random_state=0,
    ).fit(*iris)
    trained = clf.estimator_.module_
    assert all(torch.equal(trained.base.state_dict()[name], w) for name, w in before.items())
    rows = torch.ones(2, 4, requires_grad=True)
    trained(rows).sum().backward()
    assert rows.grad.abs().sum() > 0
    assert all(w.grad is None and w.requires_grad for w in trained.base.parameters())


def test_what_has_no_gradient_cannot_be_trained(iris, denoiser, base):
    behind = DenoisedClassifier(denoiser, LogisticRegression().fit(*iris))
    message = "denoiser must be a module with weights and base a network .* LogisticRegression"
    with pytest.raises(TypeError, match=message):
        SmoothedClassifier(behind, training=None, random_state=0).fit(*iris)
    without = DenoisedClassifier(torch.sin, base)
    with pytest.raises(
        TypeError, match=r"got builtin_function_or_method and Sequential\. Wrap it in"
    ):
        SmoothedClassifier(without, training=None, random_state=0).fit(*iris)


@pytest.mark.slow
def test_a_denoiser_makes_a_classifier_that_never_saw_noise_certifiable():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    X, test_X, y, test_y = train_test_split(X, y, test_size=150, random_state=0)
    settings = {"optimizer": torch.optim.Adam, "lr": 2e-3, "batch_size": 64, "verbose": 0}
    settings |= {"train_split": None, "iterator_train__shuffle": True}
    torch.manual_seed(0)
    first = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    layers = (*first, nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    base = nn.Sequential(*layers)
    base = NeuralNetClassifier(base, criterion=nn.CrossEntropyLoss, max_epochs=15, **settings)
    base.fit(X, y)
    noisy = GaussianAugmentation(noise=Gaussian(0.5), random_state=0)
    denoiser = NeuralNetRegressor(DnCNN(1, 16, 4), max_epochs=8, callbacks=[noisy], **settings)
    denoiser.fit(X, X)
    bare, behind = (
        SmoothedClassifier(FrozenEstimator(net), 0.5, n_estimation=400, random_state=0)
        .fit(X, y)
        .certificates(test_X)
        .certified_accuracy(test_y, [0.0, 0.25])
        for net in (base, DenoisedClassifier(denoiser, base))
    )
    assert (behind > bare + 0.1).all(), (bare, behind)
    assert behind[0] > 0.75


def test_layers_of_denoisers_are_as_published():
    full = DnCNN()
    assert sum(weight.numel() for weight in full.parameters()) == 556_096
    convolutions = [part for part in full.modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) == 17
    assert [part.bias is not None for part in convolutions] == [True] + 16 * [False]
    assert sum(isinstance(part, nn.BatchNorm2d) for part in full.modules()) == 15


def test_a_denoiser_takes_what_its_layers_see_off_its_input():
    rows = torch.ones(2, 3, 5, 7)
    for denoiser in (DnCNN(3, 4, 3), DnCNN(3, 4, 2)):
        assert torch.equal(denoiser.eval()(rows), rows - denoiser.layers(rows))
    for denoiser in (DnCNN(3, 4, 2), DenseDenoiser(7, 4, 1)):
        nn.init.zeros_(denoiser.layers[-1].weight)
        if denoiser.layers[-1].bias is not None:
            nn.init.zeros_(denoiser.layers[-1].bias)
        assert torch.equal(denoiser(rows), rows)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DnCNN(0), "n_channels must be an integer of at least 1, got 0"),
        (lambda: DnCNN(1, 2.5), "width must be an integer of at least 1, got 2.5"),
        (lambda: DnCNN(1, 8, 1), "depth must be an integer of at least 2, got 1"),
        (lambda: DenseDenoiser(None), "n_features must be an integer of at least 1, got None"),
        (lambda: DenseDenoiser(3, 0), "width must be an integer of at least 1, got 0"),
        (lambda: DenseDenoiser(3, 4, True), "n_hidden must be an integer of at least 1, got True"),
    ],
)
def test_sizes_of_denoisers_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
