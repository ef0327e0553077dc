from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping
from torch import Tensor, nn

from randsmooth.noise import Gaussian, Laplace, Stream, block_generator
from randsmooth.training import GaussianAugmentation, StabilityTraining, TrainingStrategy

N_FEATURES, N_CLASSES = 5, 3


class Affine(nn.Module):
    """A linear network without randomness, so that a step can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(N_FEATURES, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x)
        return logits


class Probabilities(Affine):
    """The same network, returning probabilities."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class Recorder(Callback):
    """Keeps the inputs and targets of every batch that the net trains on."""

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.seen_ = [*getattr(self, "seen_", []), batch[0].clone()]


@pytest.fixture
def data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(40, N_FEATURES)).astype(np.float32),
        rng.integers(N_CLASSES, size=40),
    )


def net(*callbacks: Any, kind: type[NeuralNet] = NeuralNetClassifier, **params: Any) -> NeuralNet:
    torch.manual_seed(0)
    settings = {
        "module": Affine,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=list(callbacks), **settings)


def stability(gamma: float = 1.0, **params: Any) -> StabilityTraining:
    return StabilityTraining(gamma, noise=Gaussian(0.5), random_state=3, **params)


def training_noise(shape: tuple[int, ...], scale: float = 0.5) -> NDArray[np.float32]:
    return Gaussian(scale).draw(shape[0], shape[1:], block_generator(3, Stream.TRAINING, 1))


def weights(trained: NeuralNet) -> NDArray[np.float32]:
    return np.concatenate([p.detach().numpy().ravel() for p in trained.module_.parameters()])


def step_by_hand(
    X: NDArray[np.float32], y: NDArray[np.int64], gamma: float, lr: float = 0.1
) -> tuple[NDArray[np.float32], float, float]:
    """One gradient step on the loss of Li et al. (2019), section 5.1, written out."""
    torch.manual_seed(0)
    module = Affine().double()
    clean = module(torch.from_numpy(X).double())
    noisy = module(torch.from_numpy(X + training_noise(X.shape)).double())
    log_p, log_q = clean.log_softmax(1), noisy.log_softmax(1)
    cross_entropy = -log_p[torch.arange(len(y)), torch.from_numpy(y)].mean()
    term = -gamma * (log_p.exp() * log_q).sum(1).mean()
    (cross_entropy + term).backward()
    new = [(p - lr * p.grad).detach().numpy().ravel() for p in module.parameters()]
    return np.concatenate(new), (cross_entropy + term).item(), term.item()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_a_stability_step_is_the_gradient_step_of_the_papers_loss(data, gamma: float) -> None:
    X, y = data
    trained = net(stability(gamma)).fit(X, y)
    expected, loss, term = step_by_hand(X, y, gamma)
    assert weights(trained) == pytest.approx(expected, abs=2e-7)
    assert trained.history[-1]["train_loss"] == pytest.approx(loss, rel=1e-6)
    assert trained.history[-1]["stability_loss"] == pytest.approx(term, rel=1e-6)


def test_probabilities_under_nll_give_the_same_step_as_logits_under_cross_entropy(data) -> None:
    X, y = data
    logits = net(stability()).fit(X, y)
    probabilities = net(stability(), module=Probabilities, criterion=nn.NLLLoss).fit(X, y)
    assert weights(probabilities) == pytest.approx(weights(logits), abs=1e-5)


def test_a_binary_net_with_one_logit_is_two_classes_to_stability_training(data) -> None:
    X, y = data
    trained = net(
        stability(),
        kind=NeuralNetBinaryClassifier,
        module=nn.Linear,
        module__in_features=N_FEATURES,
        module__out_features=1,
        criterion=nn.BCEWithLogitsLoss,
    ).fit(X, (y > 0).astype(np.float32))
    torch.manual_seed(0)
    start = nn.Linear(N_FEATURES, 1)
    p = start(torch.from_numpy(X)).sigmoid()
    q = start(torch.from_numpy(X + training_noise(X.shape))).sigmoid()
    term = -(p * q.log() + (1 - p) * (1 - q).log()).mean()
    assert trained.history[-1]["stability_loss"] == pytest.approx(term.item(), rel=1e-5)


def test_augmentation_trains_on_the_noisy_inputs_alone(data) -> None:
    X, y = data
    by_callback = net(GaussianAugmentation(noise=Gaussian(0.5), random_state=3)).fit(X, y)
    by_hand = net().fit(X + training_noise(X.shape), y)
    assert weights(by_callback) == pytest.approx(weights(by_hand), abs=1e-7)


def test_every_batch_has_fresh_noise_of_the_right_distribution(data) -> None:
    X, y = np.zeros((400, N_FEATURES), dtype=np.float32), np.arange(400) % N_CLASSES
    recorder = Recorder()
    strategy = GaussianAugmentation(noise=Laplace(0.2), random_state=0)
    net(strategy, recorder, batch_size=100, max_epochs=5).fit(X, y)
    noise = torch.cat(recorder.seen_)
    assert len(torch.unique(noise)) > 0.999 * noise.numel()
    assert noise.abs().mean().item() == pytest.approx(0.2, rel=0.03)


def test_training_that_goes_on_draws_new_noise(data) -> None:
    recorder = Recorder()
    strategy = GaussianAugmentation(noise=Gaussian(0.2), random_state=0)
    trained = net(strategy, recorder).fit(*data)
    trained.partial_fit(*data)
    first, second = (seen - torch.from_numpy(data[0]) for seen in recorder.seen_)
    assert not torch.isclose(first, second).any()


def test_the_inputs_and_the_validation_batches_stay_clean(data) -> None:
    X, y = data
    kept = X.copy()

    class Validation(Callback):
        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            if not training:
                self.rows_ = batch[0].clone()

    watch = Validation()
    split = net(stability(), watch, max_epochs=2)
    split.set_params(train_split=lambda d, y=None, groups=None: (d, d))
    split.fit(X, y)
    assert np.array_equal(X, kept)
    assert torch.equal(watch.rows_, torch.from_numpy(kept))
    assert "valid_loss" in split.history[-1]
    clean = nn.functional.cross_entropy(split.module_(torch.from_numpy(X)), torch.from_numpy(y))
    assert split.history[-1]["valid_loss"] == pytest.approx(clean.item(), rel=1e-5)


class Scaling(NeuralNetClassifier):
    """A user's net that scales in `infer`, weighs its loss and counts its steps."""

    def initialize(self):
        self.steps_ = 0
        return super().initialize()

    def infer(self, x, **fit_params):
        return super().infer(x / 10, **fit_params)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return 0.5 * super().get_loss(y_pred, y_true, X=X, training=training)

    def train_step_single(self, batch, **fit_params):
        self.steps_ += 1
        return super().train_step_single(batch, **fit_params)


def test_a_users_own_net_keeps_working_and_scales_the_term_with_its_loss(data) -> None:
    X, y = data
    trained = net(stability(), kind=Scaling, lr=0.2).fit(X, y)
    assert trained.steps_ == 1
    torch.manual_seed(0)
    module = Affine()
    clean = module(torch.from_numpy(X) / 10)
    noisy = module(torch.from_numpy(X + training_noise(X.shape)) / 10)
    term = -(clean.softmax(1) * noisy.log_softmax(1)).sum(1).mean()
    loss = 0.5 * (nn.functional.cross_entropy(clean, torch.from_numpy(y)) + term)
    loss.backward()
    expected = [(p - 0.2 * p.grad).detach().numpy().ravel() for p in module.parameters()]
    assert weights(trained) == pytest.approx(np.concatenate(expected), abs=1e-7)


def test_gradient_clipping_sees_the_whole_gradient(data) -> None:
    clipped = net(stability(1000.0), GradientNormClipping(0.01), lr=1.0).fit(*data)
    torch.manual_seed(0)
    start = np.concatenate([p.detach().numpy().ravel() for p in Affine().parameters()])
    assert np.linalg.norm(weights(clipped) - start) == pytest.approx(0.01, rel=1e-3)


def test_lbfgs_sees_one_objective_within_a_batch(data) -> None:
    trained = net(stability(), optimizer=torch.optim.LBFGS, max_epochs=3).fit(*data)
    losses = trained.history[:, "train_loss"]
    assert losses[-1] < losses[0]
    assert len(trained.history[:, "stability_loss"]) == 3


def test_user_callbacks_and_training_scores_keep_working(data) -> None:
    scoring = EpochScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False)
    trained = net(stability(), scoring, max_epochs=3).fit(*data)
    assert len(trained.history[:, "train_acc"]) == 3


def test_the_epoch_mean_of_the_term_weighs_batches_by_their_size(data) -> None:
    trained = net(stability(), batch_size=32).fit(*data)
    row = trained.history[-1]
    terms = [b["stability_loss"] for b in row["batches"]]
    assert row["stability_loss"] == pytest.approx(np.average(terms, weights=[32, 8]))


def test_equal_seeds_train_equal_nets_and_other_seeds_others(data) -> None:
    trained = [
        weights(net(StabilityTraining(noise=Gaussian(0.5), random_state=s)).fit(*data))
        for s in (1, 1, 2)
    ]
    assert np.array_equal(trained[0], trained[1])
    assert not np.array_equal(trained[0], trained[2])


@pytest.mark.parametrize("strategy", [stability(), GaussianAugmentation(3, noise=Gaussian(0.1))])
def test_strategies_clone_pickle_and_tune(strategy: TrainingStrategy, data) -> None:
    trained = net(strategy).fit(*data)
    copy = pickle.loads(pickle.dumps(trained))
    assert np.array_equal(copy.predict(data[0]), trained.predict(data[0]))
    assert clone(strategy).get_params() == strategy.get_params()
    tuned = clone(net(("smoothing", stability()))).set_params(callbacks__smoothing__gamma=3.0)
    tuned.initialize()
    assert dict(tuned.callbacks_)["smoothing"].gamma == 3.0


def test_hooks_are_gone_after_training(data) -> None:
    trained = net(stability()).fit(*data)
    assert not trained.module_._forward_hooks
    assert not trained.criterion_._forward_hooks


def test_replication_makes_noisy_copies_of_every_input() -> None:
    X = np.arange(6, dtype=np.float64).reshape(3, 2) * 100
    strategy = GaussianAugmentation(50, noise=Gaussian(0.5))
    copies, rows = strategy.replicate(X, np.random.default_rng(0))
    assert copies.shape == (150, 2)
    assert np.bincount(rows).tolist() == [50, 50, 50]
    assert (copies - X[rows]).std() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("n_replicas", [0, -1, 1.5, "many"])
def test_replication_refuses_a_number_of_copies_that_is_not_positive(n_replicas) -> None:
    strategy = GaussianAugmentation(n_replicas, noise=Gaussian(0.5))
    with pytest.raises(ValueError, match=r"^n_replicas must be a positive integer, got "):
        strategy.replicate(np.zeros((2, 2)), np.random.default_rng(0))


def test_replication_refuses_to_run_without_noise() -> None:
    with pytest.raises(ValueError, match=r"^noise must be a Noise object"):
        GaussianAugmentation().replicate(np.zeros((2, 2)), np.random.default_rng(0))


def test_stability_training_refuses_to_replicate() -> None:
    with pytest.raises(TypeError, match=r"^training must be GaussianAugmentation or None .*got St"):
        stability().replicate(np.zeros((2, 2)), np.random.default_rng(0))


def test_a_strategy_put_on_by_hand_needs_noise(data) -> None:
    with pytest.raises(ValueError, match=r"^noise must be a Noise object .* by hand, got None"):
        net(StabilityTraining()).fit(*data)


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf"), "much"])
def test_stability_training_refuses_a_weight_out_of_range(data, gamma) -> None:
    with pytest.raises(ValueError, match=r"^gamma must be finite and at least 0, got "):
        net(stability(gamma)).fit(*data)


def test_a_batch_that_is_not_one_float_tensor_is_refused(data) -> None:
    X, y = data
    with pytest.raises(TypeError, match=r"^X must come in batches of one floating-point tensor"):
        net(stability()).fit(X.astype(np.int64), y)
    with pytest.raises(TypeError, match=r"^X must come in batches .*got dict"):
        net(stability()).fit({"x": X}, y)


def as_tuple(rows: list[tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
    return torch.stack([torch.as_tensor(x) for x, _ in rows]), torch.tensor([y for _, y in rows])


def test_an_immutable_batch_is_refused_only_where_it_must_change(data) -> None:
    params = {"iterator_train__collate_fn": as_tuple}
    net(stability(), **params).fit(*data)
    with pytest.raises(TypeError, match=r"^estimator must make batches that are lists .*got tuple"):
        net(GaussianAugmentation(noise=Gaussian(0.1)), **params).fit(*data)


class NoCriterion(NeuralNetClassifier):
    """A net whose loss does not go through its criterion."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        return nn.functional.cross_entropy(y_pred, y_true)


def test_a_net_that_never_calls_its_criterion_is_refused(data) -> None:
    with pytest.raises(TypeError, match=r"^estimator must call its criterion in get_loss"):
        net(stability(), kind=NoCriterion).fit(*data)


class NoModule(NeuralNetClassifier):
    """A net that answers noisy batches without its module."""

    def infer(self, x, **fit_params):
        self.calls_ = getattr(self, "calls_", 0) + 1
        if self.calls_ % 2 == 0:
            return torch.zeros(len(x), N_CLASSES)
        return super().infer(x, **fit_params)


def test_a_net_that_infers_without_its_module_is_refused(data) -> None:
    with pytest.raises(TypeError, match=r"^estimator must call its module in infer"):
        net(stability(), kind=NoModule).fit(*data)


class PlainLoss:
    """A criterion that is no torch module."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


def test_a_criterion_that_is_no_module_is_refused(data) -> None:
    with pytest.raises(TypeError, match=r"^estimator must have one torch module and a criterion"):
        net(stability(), criterion=PlainLoss).fit(*data)
