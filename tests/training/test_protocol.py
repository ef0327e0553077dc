from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn

from randsmooth.exceptions import TrainingDivergedError
from randsmooth.noise import Ablation, Gaussian, Laplace, Uniform
from randsmooth.training import GaussianAugmentation, StabilityTraining, TrainingStrategy
from randsmooth.training.perturbation import frozen

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
y = np.random.default_rng(1).integers(3, size=40)


def net(strategy: TrainingStrategy, **params: Any) -> NeuralNetClassifier:
    torch.manual_seed(0)
    settings = {
        "module": nn.Linear,
        "module__in_features": 5,
        "module__out_features": 3,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return NeuralNetClassifier(callbacks=[strategy], **settings)


class Doubled(TrainingStrategy):
    """Two copies of every row and a loss of its own beside the criterion's."""

    def prepare(self, net, inputs: Tensor, targets: Any) -> Tensor:
        return torch.cat([inputs, -inputs])

    def objective(self, net, loss, outputs, targets):
        assert len(outputs) == 2 * len(targets)
        return {"criterion_loss": loss, "size_loss": outputs.square().mean()}


class Replaced(TrainingStrategy):
    """A loss in place of the criterion's."""

    def objective(self, net, loss, outputs, targets):
        return {"size_loss": outputs.square().mean(), "mean_loss": outputs.mean().square()}


def test_copies_of_a_batch_are_trained_on_with_repeated_targets() -> None:
    trained = net(Doubled()).fit(X, y)
    torch.manual_seed(0)
    module = nn.Linear(5, 3)
    outputs = module(torch.from_numpy(np.concatenate([X, -X])))
    loss = nn.functional.cross_entropy(outputs, torch.from_numpy(np.concatenate([y, y])))
    assert trained.history[-1]["criterion_loss"] == pytest.approx(loss.item(), rel=1e-6)
    size = outputs.square().mean()
    assert trained.history[-1]["train_loss"] == pytest.approx((loss + size).item(), rel=1e-6)


def test_an_objective_may_leave_the_criterion_out() -> None:
    trained = net(Replaced()).fit(X, y)
    row = trained.history[-1]
    assert row["train_loss"] == pytest.approx(row["size_loss"] + row["mean_loss"], rel=1e-6)
    assert "criterion_loss" not in row


class Single(TrainingStrategy):
    """One term in place of the criterion's."""

    def objective(self, net, loss, outputs, targets):
        return {"size_loss": outputs.square().mean()}


def test_a_single_term_takes_the_place_of_the_loss_and_is_recorded() -> None:
    trained = net(Single()).fit(X, y)
    torch.manual_seed(0)
    size = nn.Linear(5, 3)(torch.from_numpy(X)).square().mean().item()
    assert trained.history[-1]["size_loss"] == pytest.approx(size, rel=1e-6)
    assert trained.history[-1]["train_loss"] == pytest.approx(size, rel=1e-6)


def test_setting_parameters_returns_the_strategy() -> None:
    strategy = StabilityTraining()
    assert strategy.set_params(gamma=3.0) is strategy
    assert strategy.gamma == 3.0


class Halved(TrainingStrategy):
    def prepare(self, net, inputs: Tensor, targets: Any) -> Tensor:
        return inputs[:13]


def test_a_strategy_that_returns_part_of_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Halved.prepare must return whole copies .* got 13"):
        net(Halved()).fit(X, y)


@pytest.mark.parametrize("noise", [Gaussian(0.5), Laplace(0.5), Uniform(0.5)])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("divergence", ["cross_entropy", "kl"])
def test_every_form_of_stability_training_takes_the_step_of_its_formula(
    noise, detach: bool, divergence: str
) -> None:
    strategy = StabilityTraining(
        2.0, n_draws=3, divergence=divergence, detach=detach, noise=noise, random_state=7
    )
    trained = net(strategy).fit(X, y)
    drawn = clone(strategy)
    drawn.noise_factor_ = 1.0
    drawn.on_train_begin(net(strategy).initialize())
    noise_rows = drawn.draw(torch.from_numpy(X)).double()

    torch.manual_seed(0)
    module = nn.Linear(5, 3).double()
    clean = module(torch.from_numpy(X).double())
    p = clean.softmax(1).detach() if detach else clean.softmax(1)
    terms = []
    for k in range(3):
        log_q = module(torch.from_numpy(X).double() + noise_rows[40 * k : 40 * k + 40])
        log_q = log_q.log_softmax(1)
        term = -(p * log_q).sum(1)
        terms.append(term + (p * p.log()).sum(1) if divergence == "kl" else term)
    loss = nn.functional.cross_entropy(clean, torch.from_numpy(y)) + 2 * torch.stack(terms).mean()
    loss.backward()
    assert trained.history[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-6)
    expected = module.weight - 0.1 * module.weight.grad
    assert trained.module_.weight.detach().numpy() == pytest.approx(
        expected.detach().numpy(), abs=1e-6
    )


def test_several_draws_of_augmentation_are_several_rows_a_batch() -> None:
    seen = []

    class Watched(GaussianAugmentation):
        def prepare(self, net, inputs, targets):
            seen.append(super().prepare(net, inputs, targets) - inputs.repeat(4, 1))
            return seen[-1] + inputs.repeat(4, 1)

    net(Watched(n_draws=4, noise=Gaussian(0.5), random_state=0)).fit(X, y)
    assert seen[0].shape == (160, 5)
    assert len(torch.unique(seen[0][:, 0])) == 160
    assert seen[0].std().item() == pytest.approx(0.5, rel=0.1)


def test_noise_that_is_not_added_trains_too() -> None:
    trained = net(StabilityTraining(n_draws=2, noise=Ablation(2), random_state=0)).fit(
        np.abs(X).clip(0, 1), y
    )
    assert trained.history[-1]["stability_loss"] > 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_draws": 0}, r"^n_draws must be a positive integer, got 0"),
        ({"n_draws": 1.5}, r"^n_draws must be a positive integer, got 1.5"),
        ({"divergence": "l2"}, r"^divergence must be one of 'cross_entropy', 'kl', got 'l2'"),
    ],
)
def test_stability_training_refuses_bad_parameters(params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(StabilityTraining(noise=Gaussian(0.5), **params)).fit(X, y)


@pytest.mark.parametrize("n_draws", [0, True, "many"])
def test_augmentation_refuses_a_number_of_draws_that_is_not_positive(n_draws) -> None:
    with pytest.raises(ValueError, match=r"^n_draws must be a positive integer, got "):
        net(GaussianAugmentation(n_draws=n_draws, noise=Gaussian(0.5))).fit(X, y)


class NaNFromThirdEpoch(StabilityTraining):
    def objective(self, net, loss, outputs, targets):
        terms = super().objective(net, loss, outputs, targets)
        if len(net.history) == 3 and len(net.history[-1]["batches"]) == 2:
            terms["stability_loss"] = terms["stability_loss"] * float("nan")
        return terms


def test_a_loss_that_is_not_finite_ends_training_with_the_last_good_weights() -> None:
    kept = []

    class Kept(Callback):
        def on_epoch_end(self, net, **kwargs):
            kept.append(net.module_.weight.detach().clone())

    strategy = NaNFromThirdEpoch(noise=Gaussian(0.5), random_state=0)
    diverging = net(strategy, max_epochs=5, batch_size=16)
    diverging.set_params(callbacks=[strategy, Kept()])
    message = (
        r"^loss must stay finite, got criterion_loss [\d.]+, stability_loss nan in batch 2 of "
        r"epoch 3\. Lower the learning rate.* weights from the end of epoch 2 "
    )
    with pytest.raises(TrainingDivergedError, match=message) as raised:
        diverging.fit(X, y)
    assert (raised.value.epoch, raised.value.batch) == (3, 2)
    assert torch.equal(raised.value.net.module_.weight, kept[1])
    assert not raised.value.net.module_._forward_hooks


def test_a_net_that_diverges_at_once_keeps_the_weights_it_started_with() -> None:
    bad = X.copy()
    bad[3] = np.inf
    with pytest.raises(TrainingDivergedError, match=r"in batch 1 of epoch 1.*was given"):
        net(GaussianAugmentation(noise=Gaussian(0.5))).fit(bad, y)


def test_an_attack_leaves_modes_and_flags_as_it_found_them() -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3))
    module.train()
    module[1].eval()
    module[0].bias.requires_grad_(False)
    with frozen(module):
        assert not any(part.training for part in module.modules())
        assert not any(p.requires_grad for p in module.parameters())
    assert [part.training for part in module] == [True, False, True, True]
    assert [p.requires_grad for p in module.parameters()].count(False) == 1
    assert not module[0].bias.requires_grad


def test_a_strategy_in_training_pickles_without_its_batch() -> None:
    strategy = StabilityTraining(noise=Gaussian(0.5), random_state=0)
    trained = net(strategy).fit(X, y)
    copy = pickle.loads(pickle.dumps(strategy))
    assert set(vars(copy)) == set(strategy.get_params())
    assert len(pickle.dumps(trained)) < 60_000


def test_an_accelerators_generator_follows_the_seed_and_goes_on_within_a_training() -> None:
    def drawn(seed: int) -> list[Tensor]:
        strategy = Doubled(random_state=seed)
        strategy.on_train_begin(net(strategy).initialize())
        return [torch.rand(4, generator=strategy.generator_on(torch.device("cpu"))) for _ in "ab"]

    first, second = drawn(0)
    assert not torch.equal(first, second)
    torch.testing.assert_close(drawn(0), [first, second], rtol=0, atol=0)
    assert not torch.equal(drawn(1)[0], first)
