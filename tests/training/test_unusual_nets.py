"""Nets, criteria, optimisers and callbacks that are not the usual ones."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn

from randsmooth import SmoothedClassifier
from randsmooth.exceptions import CertificationError, TrainingDivergedError
from randsmooth.noise import Gaussian
from randsmooth.training import (
    CATRS,
    MACER,
    STRATEGIES,
    TRADES,
    AdversarialDistributionalTraining,
    AdversarialTraining,
    Consistency,
    NoisyTraining,
    SmoothMix,
    StabilityTraining,
    TrainingStrategy,
)

X = np.random.default_rng(0).uniform(size=(32, 5)).astype(np.float32)
y = np.random.default_rng(1).integers(3, size=32)

ATTACKERS = ["smoothadv", "smoothmix", "catrs", "adversarial", "trades", "adt"]
TYING = ["stability", "consistency", "trades", "macer", "smoothmix", "catrs"]


def strategy(name: str, **params: Any) -> TrainingStrategy:
    made = STRATEGIES[name]().set_params(random_state=0, **params)
    return made.set_params(noise=Gaussian(0.25)) if isinstance(made, NoisyTraining) else made


def net(*callbacks: Any, kind: Any = NeuralNetClassifier, **params: Any) -> Any:
    torch.manual_seed(0)
    settings = {
        "module": nn.Linear(5, 3),
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": 16,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=list(callbacks), **settings)


class Pickled(Callback):
    """Pickles and copies the whole net at the end of every epoch, as `Checkpoint` can."""

    def on_epoch_end(self, net, **kwargs):
        self.net_, self.copy_ = pickle.dumps(net), copy.deepcopy(net.module_)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_net_in_training_can_be_pickled_and_copied_without_its_hooks(name: str) -> None:
    pickled = Pickled()
    trained = net(strategy(name), pickled).fit(X, y)
    again = pickle.loads(pickled.net_)
    np.testing.assert_array_equal(again.predict_proba(X), trained.predict_proba(X))
    assert again.module_.train()(torch.zeros(2, 5)).shape == (2, 3)
    assert pickled.copy_.train()(torch.zeros(2, 5)).shape == (2, 3)
    again.partial_fit(X, y)


def test_weights_are_good_only_once_a_loss_at_them_was_finite() -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    start = module[0].weight.detach().clone()
    exploding = net(strategy("augmentation"), module=module, batch_size=-1, lr=1e30, max_epochs=3)
    with pytest.raises(TrainingDivergedError, match=r"weights from before training") as raised:
        exploding.fit(X, y)
    assert torch.equal(raised.value.net.module_[0].weight, start)


def test_lazy_modules_go_back_to_the_weights_they_began_with() -> None:
    module = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3))
    exploding = net(strategy("augmentation"), module=module, lr=1e30)
    with pytest.raises(TrainingDivergedError, match=r"batch 2 of epoch 1.*before training"):
        exploding.fit(X, y)
    assert exploding.module_[0].weight.abs().max() < 1


def test_terms_that_are_infinite_with_either_sign_end_training_too() -> None:
    class Opposed(TrainingStrategy):
        def objective(self, net, loss, outputs, targets):
            return {"criterion_loss": loss, "up_loss": loss / 0, "down_loss": -loss / 0}

    with pytest.raises(TrainingDivergedError, match=r"up_loss inf, down_loss -inf"):
        net(Opposed()).fit(X, y)


@pytest.mark.parametrize("name", TYING)
def test_one_probability_under_bce_loss_is_that_of_the_second_class(name: str) -> None:
    labels = (y > 0).astype(np.float32)
    module = nn.Sequential(nn.Linear(5, 1), nn.Flatten(0))
    single = net(
        strategy(name),
        kind=NeuralNetBinaryClassifier,
        module=nn.Sequential(copy.deepcopy(module), nn.Sigmoid()),
        criterion=nn.BCELoss,
    ).fit(X, labels)
    logit = net(
        strategy(name),
        kind=NeuralNetBinaryClassifier,
        module=module,
        criterion=nn.BCEWithLogitsLoss,
    ).fit(X, labels)
    terms = [key for key in logit.history[-1] if key.endswith("_loss")]
    assert len(terms) > 1
    for term in terms:
        assert single.history[-1, term] == pytest.approx(logit.history[-1, term], rel=1e-3)
        assert single.history[-1, term] != 0


class Hinge(nn.Module):
    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        return torch.relu(1 - scores.reshape(-1) * (2 * targets - 1)).mean()


@pytest.mark.parametrize("name", TYING)
def test_one_column_that_the_criterion_does_not_explain_is_refused(name: str) -> None:
    message = r"^estimator must return one column per class under Hinge, got .*\(\d+, 1\)"
    with pytest.raises(ValueError, match=message):
        net(strategy(name), module=nn.Linear(5, 1), criterion=Hinge).fit(X, y > 0)


def test_inputs_that_scaling_has_rounded_to_just_outside_are_taken() -> None:
    scaled = np.array(X)
    scaled[0] = np.nextafter(np.float32(1), np.float32(2))
    net(strategy("trades")).fit(scaled, y)
    scaled[0] = 1.0001
    with pytest.raises(ValueError, match=r"^clip_range must contain .* to 1\.00010002"):
        net(strategy("trades")).fit(scaled, y)


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(2, 4), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.table((x > 0.5).long()).flatten(1))
        return logits


@pytest.mark.parametrize("variant", ["exp", "exp-am", "imp-am"])
@pytest.mark.parametrize("name", ATTACKERS)
def test_a_net_without_gradients_in_its_inputs_is_refused(name: str, variant: str) -> None:
    if name != "adt" and variant != "exp":
        return
    attacker = strategy(name, **({"variant": variant} if name == "adt" else {}))
    message = r"^estimator must be differentiable in its inputs for \w+, got Embedded"
    with pytest.raises(TypeError, match=message):
        # Some draws reach the high-confidence term, which attacks the noise.
        net(attacker, module=Embedded(), max_epochs=3).fit(X, y * 0)


def test_several_strategies_on_one_net_are_refused() -> None:
    both = [strategy("consistency"), strategy("stability")]
    with pytest.raises(TypeError, match=r"one training strategy, got Consistency, StabilityTr"):
        net(*both).fit(X, y)


@pytest.mark.parametrize("training", ["macer", MACER(n_draws=2)])
def test_a_strategy_of_the_net_and_another_asked_for_by_name_are_refused(training: Any) -> None:
    carrying = net(
        strategy("augmentation"), module=nn.Linear, module__in_features=5, module__out_features=3
    )
    clf = SmoothedClassifier(carrying, 0.25, training=training, n_estimation=200)
    with pytest.raises(ValueError, match=r"^training must be 'auto' for a net .* GaussianAugm"):
        clf.fit(X, y)


def test_the_name_of_a_strategy_is_checked_for_frozen_bases_too() -> None:
    frozen = FrozenEstimator(net().fit(X, y))
    with pytest.raises(ValueError, match=r"^training must be one of 'auto', .* got 'nonsense'"):
        SmoothedClassifier(frozen, 0.25, training="nonsense").fit(X, y)


@pytest.mark.parametrize(("network", "variant"), [("generator", "exp-am"), ("posterior", "imp-am")])
def test_a_network_for_inputs_of_another_size_is_refused(network: str, variant: str) -> None:
    adt = AdversarialDistributionalTraining(variant, **{network: nn.Linear(7, 128)})
    message = rf"^{network} must take inputs of shape \(n_rows, \d+\), got Linear, which does not"
    with pytest.raises(ValueError, match=message):
        net(adt).fit(X, y)


class SecondPass(NeuralNetClassifier):
    """Adds a term from a pass of its own after the criterion."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss + 0 * self.infer(X).sum()


@pytest.mark.parametrize("name", ["stability", "consistency", "trades"])
def test_a_nets_own_further_pass_changes_nothing(name: str) -> None:
    plain, other = (
        net(strategy(name), kind=k).fit(X, y) for k in (NeuralNetClassifier, SecondPass)
    )
    assert torch.equal(plain.module_.weight, other.module_.weight)


def test_a_module_in_evaluation_mode_is_trained_with_every_term() -> None:
    class Evaluated(NeuralNetClassifier):
        def _set_training(self, training=True):
            super()._set_training(False)

    trained = net(strategy("stability"), kind=Evaluated).fit(X, y)
    assert trained.history[-1, "stability_loss"] > 0


@pytest.mark.parametrize("variant", ["exp-am", "imp-am"])
def test_a_gradient_that_overflows_leaves_the_generator_as_it_is(variant: str) -> None:
    class Overflowing(NeuralNetClassifier):
        def train_step_single(self, batch, **fit_params):
            step = super().train_step_single(batch, **fit_params)
            if len(self.history[-1]["batches"]) == 1:
                batch[0].grad.fill_(torch.inf)
                self.module_.zero_grad()
            return step

    adt = AdversarialDistributionalTraining(variant, width=2, n_latent=4, random_state=0)
    trained = net(adt, kind=Overflowing).fit(X, y)
    weights = trained.callbacks[0].networks_.networks.parameters()
    assert all(p.isfinite().all() for p in weights)
    assert np.isfinite(trained.history[-1, "train_loss"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", STRATEGIES)
def test_outputs_in_reduced_precision_are_compared_in_single(name: str, dtype: Any) -> None:
    class Reduced(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).to(dtype)

    trained = net(strategy(name), module=Reduced(5, 3), max_epochs=2).fit(X, y)
    terms = [trained.history[-1, k] for k in trained.history[-1] if k.endswith("_loss")]
    assert all(np.isfinite(terms))
    assert min(terms) > (-np.inf if name == "adt" else -1e-6)


class Weighted(NeuralNetClassifier):
    """Averages the losses of the rows itself."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return super().get_loss(y_pred, y_true, X=X, training=training).mean()


@pytest.mark.parametrize("name", ["augmentation", "adversarial", "smoothadv"])
def test_a_criterion_that_returns_a_loss_for_every_row_works_where_no_term_is_added(name) -> None:
    rows = net(strategy(name), kind=Weighted, criterion__reduction="none").fit(X, y)
    mean = net(strategy(name)).fit(X, y)
    torch.testing.assert_close(rows.module_.weight, mean.module_.weight)


@pytest.mark.parametrize("name", TYING)
def test_a_criterion_that_returns_a_loss_for_every_row_is_refused_elsewhere(name: str) -> None:
    with pytest.raises(TypeError, match=r"^criterion must return a scalar .*reduction='mean'"):
        net(strategy(name), kind=Weighted, criterion__reduction="none").fit(X, y)


def test_our_errors_survive_pickling() -> None:
    diverged = TrainingDivergedError("loss must", "net", 3, 2)
    again = pickle.loads(pickle.dumps(diverged))
    assert (str(again), again.net, again.epoch, again.batch) == ("loss must", "net", 3, 2)
    failed = CertificationError("X has", None, np.array([4]))
    again = pickle.loads(pickle.dumps(failed))
    assert (str(again), again.certificates, again.failed.tolist()) == ("X has", None, [4])


class Scaled(nn.Linear):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return super().forward(x) * scale


@pytest.mark.parametrize("name", [*ATTACKERS, "stability"])
def test_fit_parameters_that_further_passes_would_lack_are_refused(name: str) -> None:
    message = r"^fit parameters must not reach the module with \w+, .*got scale"
    with pytest.raises(TypeError, match=message):
        net(strategy(name), module=Scaled(5, 3)).fit(X, y, scale=3.0)


@pytest.mark.parametrize("name", ["augmentation", "consistency", "macer"])
def test_fit_parameters_reach_the_module_where_there_is_one_pass(name: str) -> None:
    assert net(strategy(name), module=Scaled(5, 3)).fit(X, y, scale=3.0).history


@pytest.mark.parametrize("name", ["stability", "trades", "catrs", "consistency"])
def test_an_optimiser_with_a_line_search_sees_one_function(name: str) -> None:
    values: list[list[float]] = []

    class Repeated(torch.optim.SGD):
        def step(self, closure):
            values.append([closure().item() for _ in range(3)])
            return super().step()

    trained = net(strategy(name), optimizer=Repeated).fit(X, y)
    for batch in values:
        assert batch == [batch[0]] * 3
    terms = [k for k in trained.history[-1] if k.endswith("_loss") and k != "train_loss"]
    total = sum(trained.history[-1, term] for term in terms)
    assert trained.history[-1, "train_loss"] == pytest.approx(total, rel=1e-5)


def test_history_has_the_terms_of_the_loss_that_skorch_has() -> None:
    trained = net(strategy("stability"), optimizer=torch.optim.LBFGS).fit(X, y)
    row = trained.history[-1]
    total = row["criterion_loss"] + row["stability_loss"]
    assert row["train_loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", ["macer", "smoothadv", "smoothmix", "catrs", "adversarial", "adt"])
def test_targets_that_are_not_class_indices_are_refused(name: str) -> None:
    soft = np.eye(3, dtype=np.float32)[y]
    with pytest.raises(ValueError, match=r"^y must hold one class index per input, got .*, 3\)"):
        net(strategy(name)).fit(X, soft)


@pytest.mark.parametrize(
    "trained",
    [CATRS, Consistency, SmoothMix, StabilityTraining, TRADES, AdversarialTraining],
)
def test_the_last_batch_does_not_stay_in_memory(trained: type[TrainingStrategy]) -> None:
    kept = trained(random_state=0)
    if isinstance(kept, NoisyTraining):
        kept.set_params(noise=Gaussian(0.25))
    net(kept).fit(X, y)
    assert not [name for name, value in vars(kept).items() if isinstance(value, Tensor)]
