"""The life of a strategy with a generator: seeds, pickles, goes on, starts afresh, refuses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring
from torch import Tensor, nn

from randsmooth.exceptions import TrainingDivergedError
from randsmooth.training.adversarial import AdversarialTraining
from randsmooth.training.adversarial_distributional import AdversarialDistributionalTraining
from randsmooth.training.generator_strategy import GeneratorStrategy

X = np.random.default_rng(0).uniform(size=(13, 4)).astype(np.float32)
y = np.random.default_rng(1).integers(3, size=13)
AMORTISED = ["exp-am", "imp-am"]


def adt(variant: str = "exp-am", **params: Any) -> AdversarialDistributionalTraining:
    settings = {"eps": 0.2, "n_steps": 2, "n_samples": 1, "width": 1, "n_latent": 3}
    return AdversarialDistributionalTraining(variant, **{**settings, "random_state": 0, **params})


def net(*callbacks: Any, kind: type[NeuralNet] = NeuralNetClassifier, **params: Any) -> NeuralNet:
    torch.manual_seed(0)
    settings = {
        "module": nn.Linear,
        "module__in_features": 4,
        "module__out_features": 3,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 2,
        "batch_size": 4,  # the last batch has one row
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=list(callbacks), **settings)


def weights(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def generated(trained: NeuralNet) -> Tensor:
    return weights(trained.callbacks[0].networks_.networks)


@pytest.mark.parametrize("variant", ["exp", *AMORTISED])
def test_equal_seeds_train_equal_nets_and_other_seeds_others(variant: str) -> None:
    nets = [net(adt(variant, random_state=seed)).fit(X, y) for seed in (1, 1, 2)]
    one, same, other = (weights(trained.module_) for trained in nets)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("variant", ["exp", *AMORTISED])
def test_torchs_global_generator_is_left_alone(variant: str) -> None:
    net().fit(X, y)
    state = torch.get_rng_state()
    net(adt(variant)).fit(X, y)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("variant", AMORTISED)
def test_history_has_both_terms_whose_sum_is_minimised(variant: str) -> None:
    row = net(adt(variant)).fit(X, y).history[-1]
    assert row["train_loss"] == pytest.approx(row["criterion_loss"] + row["entropy_loss"], rel=1e-5)


def test_the_explicit_variant_has_the_criterion_alone_and_no_networks() -> None:
    trained = net(adt("exp")).fit(X, y)
    assert "entropy_loss" not in trained.history[-1]
    assert trained.callbacks[0].networks_ is None


@pytest.mark.parametrize("variant", AMORTISED)
def test_every_network_changes_by_its_own_optimiser_and_none_is_the_nets(variant: str) -> None:
    strategy = adt(variant)
    trained = net(strategy).fit(X, y)
    seed = int(replayed().integers(2**63 - 1))
    before = strategy.architecture().build(torch.from_numpy(X), seed)
    for name, network in strategy.networks_.networks.items():
        moved = weights(network) - weights(before[name])
        # Eight steps of Adam, each about the learning rate long.
        assert 0 < moved.abs().max() <= 8 * 2e-4 * 3
    own = {id(p) for p in strategy.networks_.networks.parameters()}
    assert not own & {id(p) for p in trained.module_.parameters()}


def replayed() -> np.random.Generator:
    strategy = adt()
    strategy.on_train_begin(net(strategy).initialize())
    return strategy.generator_


@pytest.mark.parametrize("variant", AMORTISED)
def test_a_pickled_net_goes_on_exactly_as_it_would_have(variant: str) -> None:
    trained = net(adt(variant)).fit(X, y)
    before = generated(trained)
    copy = pickle.loads(pickle.dumps(trained))
    assert torch.equal(generated(copy), before)
    for one in (trained, copy):
        one.partial_fit(X, y)
    assert torch.equal(generated(copy), generated(trained))
    assert torch.equal(weights(copy.module_), weights(trained.module_))
    assert not torch.equal(generated(copy), before)
    steps = trained.callbacks[0].networks_.optimizer.state_dict()["state"][0]["step"]
    assert steps == 16  # both trainings


def test_fitting_again_and_clones_start_afresh() -> None:
    strategy = adt()
    trained = net(strategy).fit(X, y)
    first = generated(trained)
    torch.manual_seed(0)
    trained.fit(X, y)
    assert torch.equal(generated(trained), first)
    assert not hasattr(clone(strategy), "networks_")
    assert clone(strategy).get_params() == strategy.get_params()


def test_a_parameter_set_between_trainings_keeps_the_generator_unless_it_shapes_it() -> None:
    trained = net(("adt", adt())).fit(X, y)
    strategy = dict(trained.callbacks_)["adt"]
    kept = strategy.networks_
    trained.set_params(callbacks__adt__entropy_weight=0.5, callbacks__adt__generator_lr=0.01)
    strategy = dict(trained.callbacks_)["adt"]
    trained.partial_fit(X, y)
    assert strategy.networks_ is kept
    assert kept.optimizer.param_groups[0]["lr"] == 0.01
    trained.set_params(callbacks__adt__variant="imp-am")
    trained.partial_fit(X, y)
    assert dict(trained.callbacks_)["adt"].networks_ is not kept


def test_a_strategy_in_training_pickles_without_its_batch() -> None:
    strategy = adt()
    net(strategy).fit(X, y)
    copy = pickle.loads(pickle.dumps(strategy))
    assert set(vars(copy)) == {*strategy.get_params(), "networks_"}


@pytest.mark.parametrize("variant", AMORTISED)
def test_an_optimiser_that_asks_for_the_loss_several_times_moves_the_generator_once(
    variant: str,
) -> None:
    strategy = adt(variant)
    trained = net(strategy, optimizer=torch.optim.LBFGS, batch_size=-1, max_epochs=3).fit(X, y)
    assert strategy.networks_.optimizer.state_dict()["state"][0]["step"] == 3
    assert np.isfinite(trained.history[:, "train_loss"]).all()


def test_scores_on_training_batches_and_validation_keep_working() -> None:
    scoring = EpochScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False)
    split = net(adt(), scoring, train_split=lambda d, y=None, groups=None: (d, d)).fit(X, y)
    assert len(split.history[:, ("train_acc", "valid_loss")]) == 2


@pytest.mark.parametrize("variant", ["exp", *AMORTISED])
def test_a_net_with_one_logit_trains(variant: str) -> None:
    params = {"module__out_features": 1, "criterion": nn.BCEWithLogitsLoss}

    class Flat(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).squeeze(1)

    binary = net(adt(variant), kind=NeuralNetBinaryClassifier, module=Flat, **params)
    binary.fit(X, (y > 0).astype(np.float32))
    assert np.isfinite(binary.history[:, "train_loss"]).all()


def test_a_net_with_probabilities_trains_as_one_with_logits() -> None:
    class Probabilities(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(1)

    trained = net(adt(), module=Probabilities, criterion=nn.NLLLoss).fit(X, y)
    assert trained.history[-1]["train_loss"] == pytest.approx(
        net(adt()).fit(X, y).history[-1]["train_loss"], rel=1e-4
    )


class TooWide(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out + 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out


@pytest.mark.parametrize(
    ("variant", "params", "message"),
    [
        ("exp-am", {"generator": TooWide}, r"^generator must .*shape \(4, 8\) .*got \(4, 9\)"),
        ("imp-am", {"generator": TooWide}, r"^generator must .*shape \(4, 4\) .*got \(4, 5\)"),
        ("imp-am", {"posterior": TooWide}, r"^posterior must .*shape \(4, 6\) .*got \(4, 7\)"),
    ],
)
def test_a_network_whose_output_has_a_wrong_shape_is_refused(variant, params, message) -> None:
    with pytest.raises(ValueError, match=message):
        net(adt(variant, **params)).fit(X, y)


def test_a_users_own_generator_is_trained_as_a_copy() -> None:
    own = nn.Linear(12, 8)
    before = weights(own)
    strategy = adt(generator=own, generator_lr=0.01)
    net(strategy).fit(X, y)
    assert torch.equal(weights(own), before)
    used = strategy.networks_.networks["generator"]
    assert isinstance(used, nn.Linear)
    assert 0.01 < (weights(used) - before).abs().max() < 0.1
    net(adt("imp-am", generator=nn.Linear, posterior=nn.LazyLinear(6))).fit(X, y)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"variant": "gauss"}, ValueError, r"^variant must be one of 'exp', 'exp-am', 'imp-am', "),
        ({"eps": 0.0}, ValueError, r"^eps must be positive and finite, got 0.0"),
        ({"eps": -0.1}, ValueError, r"^eps must be positive and finite, got -0.1"),
        ({"entropy_weight": -0.01}, ValueError, r"^entropy_weight must be finite and at least 0, "),
        ({"n_steps": 0}, ValueError, r"^n_steps must be a positive integer, got 0"),
        ({"n_samples": -1}, ValueError, r"^n_samples must be a positive integer, got -1"),
        ({"n_samples": 2.0}, ValueError, r"^n_samples must be a positive integer, got 2.0"),
        ({"step_size": 0}, ValueError, r"^step_size must be positive and finite, got 0"),
        ({"initial_std": 0.0}, ValueError, r"^initial_std must be positive and finite, got 0.0"),
        ({"generator_lr": -1}, ValueError, r"^generator_lr must be positive and finite, got -1"),
        ({"width": 0}, ValueError, r"^width must be a positive integer, got 0"),
        ({"n_latent": 0}, ValueError, r"^n_latent must be a positive integer, got 0"),
        ({"entropy_threshold": np.nan}, ValueError, r"^entropy_threshold must be finite, got nan"),
        ({"entropy_threshold": "low"}, ValueError, r"^entropy_threshold must be finite, got 'low'"),
        ({"warm_up": -1}, ValueError, r"^warm_up must be an integer of at least 0, got -1"),
        ({"clip_range": (1, 0)}, ValueError, r"^clip_range must be None or two numbers"),
        ({"clip_range": (0, 0.5)}, ValueError, r"^clip_range must contain the inputs, got \(0, 0"),
        ({"generator": "conv"}, TypeError, r"^generator must be a module, a callable .*got 'conv'"),
        ({"posterior": 3}, TypeError, r"^posterior must be a module, a callable .*got 3"),
    ],
)
def test_parameters_out_of_range_are_refused(params, error, message: str) -> None:
    with pytest.raises(error, match=message):
        net(adt(**{"variant": "imp-am", **params})).fit(X, y)


class Detached(NeuralNetClassifier):
    """A net that cuts the graph between a training batch and its module."""

    def infer(self, x, **fit_params):
        return super().infer(x.detach() if self.module_.training else x, **fit_params)


def test_a_net_that_passes_no_gradient_on_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^estimator must pass the gradient .*got Detached"):
        net(adt(), kind=Detached).fit(X, y)


class OwnLoss(NeuralNetClassifier):
    """A net whose loss does not go through its criterion."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return nn.functional.cross_entropy(y_pred, y_true)


def test_a_net_that_never_calls_its_criterion_is_refused_where_a_term_is_added() -> None:
    net(adt("exp"), kind=OwnLoss).fit(X, y)
    with pytest.raises(TypeError, match=r"^estimator must call its criterion in get_loss"):
        net(adt("exp-am"), kind=OwnLoss).fit(X, y)


def test_a_base_that_names_no_architecture_is_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"^GeneratorStrategy must override architecture"):
        GeneratorStrategy().architecture()


def test_a_generator_that_diverges_ends_training_with_the_nets_last_good_weights() -> None:
    class Spoil(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                with torch.no_grad():
                    for p in net.callbacks[0].networks_.networks.parameters():
                        p.fill_(np.nan)

    with pytest.raises(TrainingDivergedError, match=r"batch 1 of epoch 3.*end of epoch 1 "):
        net(adt(), Spoil(), max_epochs=4).fit(X, y)


@pytest.mark.slow
def test_without_entropy_training_is_as_robust_as_adversarial_training() -> None:
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)

    class Net(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def robust_accuracy(strategy: Any, seed: int) -> float:
        torch.manual_seed(seed)
        trained = NeuralNetClassifier(
            Net,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=3e-3,
            max_epochs=8,
            batch_size=100,
            callbacks=[strategy],
            train_split=None,
            verbose=0,
        ).fit(images[:1200], labels[:1200])
        x, t = torch.from_numpy(images[1200:]), torch.from_numpy(labels[1200:])
        rows = x.clone()
        for _ in range(20):
            rows.requires_grad_()
            loss = nn.functional.cross_entropy(trained.module_(rows), t)
            (gradient,) = torch.autograd.grad(loss, [rows])
            rows = (rows.detach() + 0.02 * gradient.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
        return float((trained.module_(rows).argmax(1) == t).float().mean())

    def over_seeds(build: Any) -> list[float]:
        return [robust_accuracy(build(seed), seed) for seed in range(3)]

    adversarial = over_seeds(lambda seed: AdversarialTraining(0.1, n_steps=7, random_state=seed))
    distributional = over_seeds(
        lambda seed: AdversarialDistributionalTraining(
            "exp", 0.1, entropy_weight=0.0, n_samples=1, initial_std=1e-4, random_state=seed
        )
    )
    plain = robust_accuracy(Callback(), 0)
    spread = max(np.std(adversarial, ddof=1), np.std(distributional, ddof=1), 0.005)
    assert abs(np.mean(distributional) - np.mean(adversarial)) < 3 * spread
    assert min(distributional) > plain + 0.05
