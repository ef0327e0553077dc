from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.noise import Ablation, Gaussian
from randsmooth.training import (
    GaussianAugmentation,
    NoisyTraining,
    StabilityTraining,
    TrainingStrategy,
)
from randsmooth.training.schedules import SigmaWarmUp

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
y = np.arange(40) % 3


def net(*callbacks: Any, **params: Any) -> NeuralNetClassifier:
    torch.manual_seed(0)
    settings = {
        "module": nn.Linear,
        "module__in_features": 5,
        "module__out_features": 3,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 5,
        "batch_size": 20,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return NeuralNetClassifier(callbacks=list(callbacks), **settings)


class Seen(Callback):
    """Keeps the rows of every training batch, by epoch."""

    def on_train_begin(self, net, **kwargs):
        self.rows_: dict[int, list[torch.Tensor]] = {}

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.rows_.setdefault(len(net.history), []).append(batch[0].clone())

    def noise(self, epoch: int) -> torch.Tensor:
        return torch.cat(self.rows_[epoch]) - torch.from_numpy(X)


def augmentation(scale: float = 0.5, **params: Any) -> GaussianAugmentation:
    return GaussianAugmentation(noise=Gaussian(scale), random_state=3, **params)


def test_every_epoch_trains_with_the_noise_of_its_factor() -> None:
    plain, warmed = Seen(), Seen()
    net(augmentation(), plain).fit(X, y)
    trained = net(augmentation(), SigmaWarmUp(4, start=0.2), warmed).fit(X, y)
    factors = trained.history[:, "noise_factor"]
    assert factors == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.0])
    for epoch, factor in enumerate(factors, start=1):
        # The draws are the same: only their scale differs.
        expected = factor * plain.noise(epoch)
        assert torch.allclose(warmed.noise(epoch), expected, atol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_it_works_in_front_of_the_strategy_and_behind_it(first: bool) -> None:
    callbacks = [augmentation(), SigmaWarmUp(3)]
    trained = net(*(callbacks[::-1] if first else callbacks)).fit(X, y)
    other = net(augmentation(), SigmaWarmUp(3)).fit(X, y)
    assert torch.equal(trained.module_.weight, other.module_.weight)
    unscaled = net(augmentation()).fit(X, y)
    assert not torch.equal(trained.module_.weight, unscaled.module_.weight)


def test_a_schedule_of_one_epoch_changes_nothing() -> None:
    trained = net(augmentation(), SigmaWarmUp(1)).fit(X, y)
    assert torch.equal(trained.module_.weight, net(augmentation()).fit(X, y).module_.weight)


@pytest.mark.parametrize("kind", [GaussianAugmentation, StabilityTraining])
def test_the_noise_of_every_strategy_is_scaled(kind: type[NoisyTraining]) -> None:
    strategy = kind(noise=Gaussian(0.1), random_state=1)

    class Factors(Callback):
        def on_batch_begin(self, net, **kwargs):
            assert strategy.noise_factor_ == net.history[-1, "noise_factor"]

    trained = net(strategy, SigmaWarmUp(2), Factors()).fit(X, y)
    assert trained.history[0, "noise_factor"] == 0.5


def test_training_that_goes_on_goes_on_with_the_schedule_and_a_new_one_begins_anew() -> None:
    trained = net(augmentation(), SigmaWarmUp(4), max_epochs=2).fit(X, y)
    trained.partial_fit(X, y)
    assert trained.history[:, "noise_factor"] == [0.25, 0.5, 0.75, 1.0]
    assert trained.fit(X, y).history[:, "noise_factor"] == [0.25, 0.5]


def test_double_precision_is_scaled_too() -> None:
    seen = Seen()
    double = net(augmentation(), SigmaWarmUp(5), seen, module__dtype=torch.float64)
    double.fit(X.astype(np.float64), y)
    assert seen.rows_[1][0].dtype == torch.float64
    assert seen.noise(1).std() == pytest.approx(0.1, rel=0.15)


def test_a_smoothed_classifier_trains_with_the_schedule_of_its_net() -> None:
    base = net(SigmaWarmUp(4))
    clf = SmoothedClassifier(base, sigma=0.5, training="augmentation", random_state=0).fit(X, y)
    assert clf.estimator_.history[:, "noise_factor"] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert clf.noise_.scale == 0.5


def test_a_schedule_of_the_learning_rate_runs_beside_it() -> None:
    schedule = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.1)
    trained = net(augmentation(), SigmaWarmUp(4), schedule).fit(X, y)
    assert trained.history[:, "event_lr"] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


@pytest.mark.slow
def test_a_deep_net_learns_under_large_noise_once_it_has_learned_under_small() -> None:
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    accuracies = []
    for callbacks in ([], [SigmaWarmUp(8)]):
        torch.manual_seed(0)
        layers = [part for _ in range(6) for part in (nn.Linear(64, 64), nn.ReLU())]
        deep = nn.Sequential(*layers, nn.Linear(64, 10))
        noisy = GaussianAugmentation(noise=Gaussian(1.0), random_state=0)
        trained = NeuralNetClassifier(
            deep, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=2e-3,
            max_epochs=12, train_split=None, verbose=0, callbacks=[noisy, *callbacks],
        ).fit(images[:1400], labels[:1400])  # fmt: skip
        accuracies.append((trained.predict(images[1400:]) == labels[1400:]).mean())
    assert accuracies[1] > accuracies[0]


def test_it_clones_pickles_and_tunes() -> None:
    schedule = SigmaWarmUp(3, start=0.5)
    assert clone(schedule).get_params() == {"n_epochs": 3, "start": 0.5}
    trained = net(augmentation(), schedule).fit(X, y)
    assert (pickle.loads(pickle.dumps(trained)).predict(X) == trained.predict(X)).all()
    tuned = net(("noise", augmentation()), ("warm_up", SigmaWarmUp())).set_params(
        callbacks__warm_up__n_epochs=2
    )
    assert tuned.fit(X, y).history[0, "noise_factor"] == 0.5


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_epochs": 0}, r"^n_epochs must be a positive integer, got 0"),
        ({"n_epochs": 2.5}, r"^n_epochs must be a positive integer, got 2.5"),
        ({"start": -0.1}, r"^start must be finite and at least 0, got -0.1"),
        ({"start": float("nan")}, r"^start must be finite and at least 0, got nan"),
        ({"start": 1.0}, r"^start must be below 1, got 1.0"),
    ],
)
def test_parameters_out_of_range_are_refused(params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(augmentation(), SigmaWarmUp(**params)).fit(X, y)


@pytest.mark.parametrize("others", [[], [TrainingStrategy()]])
def test_a_net_without_noise_is_refused(others) -> None:
    message = r"^callbacks must hold a strategy that trains with noise for SigmaWarmUp, .* got \["
    with pytest.raises(ValueError, match=message):
        net(*others, SigmaWarmUp()).fit(X, y)


def test_noise_that_is_not_added_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^noise must be added to the inputs .*got Ablation"):
        net(GaussianAugmentation(noise=Ablation(2)), SigmaWarmUp()).fit(X, y)
