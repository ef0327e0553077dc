from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import Tensor, nn

from randsmooth.training.adversarial import AdversarialTraining

N_FEATURES, N_CLASSES = 6, 3


class Perceptron(nn.Module):
    """A smooth network in double precision, so that a step can be computed by hand."""

    def __init__(self, *, probabilities: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(N_FEATURES, 8), nn.Tanh(), nn.Linear(8, N_CLASSES)
        ).double()
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.softmax(1) if self.probabilities else logits


class Convolutional(nn.Module):
    """Convolution, batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(4 * 4 * 4, N_CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class Recorder(Callback):
    """Keeps the inputs of every training batch, and the number of the epoch."""

    def initialize(self):
        self.seen_ = []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.seen_.append((len(net.history), batch[0].clone()))


@pytest.fixture
def data() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(40, N_FEATURES))
    X[X < 0.1], X[X > 0.9] = 0.0, 1.0  # some on the limits
    return X, rng.integers(N_CLASSES, size=40)


@pytest.fixture
def images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(20, 1, 6, 6)).astype(np.float32)
    return X, rng.integers(N_CLASSES, size=20)


def net(*callbacks: Any, kind: type[NeuralNet] = NeuralNetClassifier, **params: Any) -> NeuralNet:
    torch.manual_seed(0)
    settings = {
        "module": Perceptron,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=list(callbacks), **settings)


def weights(trained: NeuralNet) -> NDArray[np.float64]:
    return np.concatenate([p.detach().numpy().ravel() for p in trained.module_.parameters()])


def replayed(strategy: AdversarialTraining) -> np.random.Generator:
    """Return the generator that a training of this strategy draws from."""
    copy = clone(strategy)
    copy.on_train_begin(net(copy).initialize())
    return copy.generator_


def shortened(delta: Tensor, eps: float) -> Tensor:
    norms = delta.pow(2).sum(1, keepdim=True).sqrt()
    return torch.where(norms > eps, delta * eps / norms, delta)


def examples_by_hand(
    module: nn.Module, x: Tensor, y: Tensor, start: Tensor, *, norm: str, eps: float, step: float
) -> Tensor:
    """Five steps of projected gradient descent, written out."""
    adversarial = start
    for _ in range(5):
        leaf = adversarial.clone().requires_grad_()
        nn.functional.cross_entropy(module(leaf), y, reduction="sum").backward()
        if norm == "linf":
            adversarial = adversarial + step * torch.sign(leaf.grad)
            adversarial = torch.minimum(torch.maximum(adversarial, x - eps), x + eps)
        else:
            adversarial = adversarial + step * leaf.grad / leaf.grad.norm(dim=1, keepdim=True)
            adversarial = x + shortened(adversarial - x, eps)
        adversarial = torch.minimum(adversarial, torch.ones(())).clamp_min(0)
    return adversarial


@pytest.mark.parametrize("step_size", [None, 0.03])
@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_of_training_is_the_gradient_step_at_examples_computed_by_hand(
    data, norm: str, random_start: bool, step_size: float | None
) -> None:
    X, y = data
    strategy = AdversarialTraining(
        0.2,
        norm=norm,
        n_steps=5,
        step_size=step_size,
        random_start=random_start,
        random_state=7,
    )
    trained = net(strategy).fit(X, y)

    x, labels = torch.from_numpy(X), torch.from_numpy(y)
    start, draws = x, replayed(strategy)
    if random_start and norm == "linf":
        start = (x + torch.from_numpy(draws.uniform(-0.2, 0.2, X.shape))).clamp(0, 1)
    elif random_start:
        direction = torch.from_numpy(draws.standard_normal(X.shape))
        direction = direction / direction.norm(dim=1, keepdim=True)
        length = 0.2 * torch.from_numpy(draws.uniform(size=len(X))) ** (1 / N_FEATURES)
        start = (x + direction * length[:, None]).clamp(0, 1)
    torch.manual_seed(0)
    module = Perceptron()
    examples = examples_by_hand(
        module, x, labels, start, norm=norm, eps=0.2, step=step_size or 2.5 * 0.2 / 5
    )
    module.zero_grad()
    loss = nn.functional.cross_entropy(module(examples), labels)
    loss.backward()
    expected = np.concatenate([(p - 0.1 * p.grad).detach().ravel() for p in module.parameters()])
    assert weights(trained) == pytest.approx(expected, abs=1e-12)
    assert trained.history[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-12)
    assert loss > nn.functional.cross_entropy(module(x), labels)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("single_logit", [False, True])
def test_a_linear_net_is_trained_on_its_exact_worst_case(data, norm, single_logit) -> None:
    X, y = data[0].astype(np.float32), data[1] > 0
    recorder = Recorder()
    strategy = AdversarialTraining(
        0.2, norm=norm, n_steps=60, step_size=0.05, clip_range=None, random_state=0
    )
    form: dict[str, Any] = {"module": nn.Linear, "module__in_features": N_FEATURES}
    if single_logit:
        trained = net(
            strategy,
            recorder,
            kind=NeuralNetBinaryClassifier,
            **form,
            module__out_features=1,
            criterion=nn.BCEWithLogitsLoss,
        ).fit(X, y.astype(np.float32))
    else:
        trained = net(strategy, recorder, **form, module__out_features=2).fit(X, y.astype(int))
    torch.manual_seed(0)
    weight = nn.Linear(N_FEATURES, 1 if single_logit else 2).weight.detach()
    uphill = weight[0] if single_logit else weight[1] - weight[0]  # towards class 1
    away = torch.where(torch.from_numpy(y)[:, None], -uphill, uphill)
    unit = away.sign() if norm == "linf" else away / uphill.norm()
    ((_, examples),) = recorder.seen_
    assert examples.numpy() == pytest.approx((torch.from_numpy(X) + 0.2 * unit).numpy(), abs=2e-3)
    assert trained.history[-1]["train_loss"] > 0


@pytest.mark.parametrize("eps", [0.05, 0.4, 3.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_stay_in_the_ball_and_in_the_clip_range(images, norm: str, eps: float) -> None:
    X, y = images
    recorder = Recorder()
    net(
        AdversarialTraining(eps, norm=norm, n_steps=4, random_state=0),
        recorder,
        module=Convolutional,
    ).fit(X, y)
    ((_, examples),) = recorder.seen_
    delta = (examples - torch.from_numpy(X)).flatten(1)
    lengths = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert lengths.max() <= eps + 1e-6
    assert lengths.min() > 0.1 * min(eps, 0.5)
    assert examples.min() >= 0
    assert examples.max() <= 1
    assert examples.dtype == torch.float32


def test_random_starts_differ_by_batch_and_repeat_by_seed() -> None:
    X, y = np.full((20, N_FEATURES), 0.5), np.zeros(20, dtype=np.int64)
    seen = []
    for seed in (0, 0, 1):
        recorder = Recorder()
        strategy = AdversarialTraining(0.2, n_steps=1, step_size=1e-9, random_state=seed)
        net(strategy, recorder, batch_size=10, max_epochs=2, iterator_train__shuffle=False).fit(
            X, y
        )
        seen.append(torch.cat([rows for _, rows in recorder.seen_]))
    assert torch.equal(seen[0], seen[1])
    assert torch.unique(seen[0]).numel() == seen[0].numel()
    assert not torch.equal(seen[0], seen[2])


def test_equal_seeds_give_bit_equal_nets(data) -> None:
    X, y = data
    nets = [net(AdversarialTraining(random_state=4), max_epochs=3).fit(X, y) for _ in range(2)]
    assert np.array_equal(weights(nets[0]), weights(nets[1]))


@pytest.mark.parametrize(("step_size", "share"), [(0.1, 0.5), (0.4, 1.0)])
def test_the_radius_and_the_step_grow_over_the_warm_up(data, step_size, share) -> None:
    X, y = data
    recorder = Recorder()
    strategy = AdversarialTraining(
        0.2, n_steps=1, step_size=step_size, random_start=False, clip_range=None, warm_up=4
    )
    net(strategy, recorder, max_epochs=6).fit(X, y)
    reached = [(rows - torch.from_numpy(X)).abs().max().item() / 0.2 for _, rows in recorder.seen_]
    grown = share * np.array([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert reached == pytest.approx(grown)


def test_probabilities_under_nll_give_the_same_step_as_logits_under_cross_entropy(data) -> None:
    X, y = data
    strategy = AdversarialTraining(0.2, random_state=0)
    logits = net(strategy).fit(X, y)
    probabilities = net(strategy, criterion=nn.NLLLoss, module__probabilities=True).fit(X, y)
    assert weights(probabilities) == pytest.approx(weights(logits), abs=1e-9)


def test_a_batch_costs_one_pass_a_step_beside_its_own(images) -> None:
    X, y = images
    calls: list[tuple[bool, bool]] = []
    counted = net(AdversarialTraining(n_steps=7, random_state=0), module=Convolutional)
    counted.initialize().module_.register_forward_hook(
        lambda module, args, out: calls.append((module.training, module.layers[3].training))
    )
    counted.partial_fit(X, y)
    assert calls == [(False, False)] * 7 + [(True, True)]


def test_the_attack_leaves_modes_gradients_and_running_statistics_alone(images) -> None:
    X, y = images
    recorder = Recorder()
    trained = net(AdversarialTraining(0.2, random_state=0), recorder, module=Convolutional, lr=0.0)
    trained.fit(X, y)
    module = trained.module_
    assert all(part.training for part in module.modules())
    assert all(p.requires_grad for p in module.parameters())
    ((_, examples),) = recorder.seen_
    expected = 0.1 * module.layers[0](examples).mean((0, 2, 3))  # one update from zero
    assert module.layers[1].running_mean.numpy() == pytest.approx(
        expected.detach().numpy(), abs=1e-6
    )
    assert module.layers[1].num_batches_tracked == 1


def test_a_lazy_net_is_attacked_before_it_has_been_trained_on_anything(data) -> None:
    lazy = net(
        AdversarialTraining(0.2, random_state=0), module=nn.LazyLinear, module__out_features=3
    ).fit(data[0].astype(np.float32), data[1])
    assert lazy.module_.weight.requires_grad
    assert lazy.module_.weight.shape == (3, N_FEATURES)


def test_validation_batches_are_not_attacked(data) -> None:
    X, y = data
    seen = []

    class Watched(AdversarialTraining):
        def prepare(self, net, inputs, targets):
            seen.append(len(inputs))
            return super().prepare(net, inputs, targets)

    net(Watched(random_state=0), train_split=ValidSplit(4, stratified=False)).fit(X, y)
    assert seen == [30]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"eps": 0.0}, r"^eps must be positive and finite, got 0.0"),
        ({"eps": -0.1}, r"^eps must be positive and finite, got -0.1"),
        ({"eps": float("inf")}, r"^eps must be positive and finite, got inf"),
        ({"norm": "l1"}, r"^norm must be one of 'linf', 'l2', got 'l1'"),
        ({"n_steps": 0}, r"^n_steps must be a positive integer, got 0"),
        ({"n_steps": 2.5}, r"^n_steps must be a positive integer, got 2.5"),
        ({"step_size": 0}, r"^step_size must be positive and finite, got 0"),
        ({"step_size": float("nan")}, r"^step_size must be positive and finite, got nan"),
        ({"clip_range": (1, 0)}, r"^clip_range must be None or two numbers, the smaller first, "),
        ({"clip_range": 1.0}, r"^clip_range must be None or two numbers, the smaller first, "),
        ({"warm_up": -1}, r"^warm_up must be an integer of at least 0, got -1"),
    ],
)
def test_parameters_out_of_range_are_refused(data, params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(AdversarialTraining(**params)).fit(*data)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_inputs_outside_the_clip_range_are_refused(data, value: float) -> None:
    X, y = data
    X = X.copy()
    X[3, 2] = value
    message = r"^clip_range must contain the inputs, got \(0.0, 1.0\) for values from .* None for"
    with pytest.raises(ValueError, match=message):
        net(AdversarialTraining()).fit(X, y)


def test_inputs_without_limits_are_not_clipped(data) -> None:
    X, y = data
    recorder = Recorder()
    strategy = AdversarialTraining(0.2, clip_range=None, random_state=0)
    net(strategy, recorder).fit(100 * X - 50, y)
    ((_, examples),) = recorder.seen_
    delta = examples - torch.from_numpy(100 * X - 50)
    assert delta.abs().amax(1).min() > 0.1


def test_a_strategy_clones_pickles_and_takes_parameters(data) -> None:
    strategy = AdversarialTraining(0.1, norm="l2", warm_up=2, random_state=0)
    assert clone(strategy).get_params() == strategy.get_params()
    strategy.set_params(eps=0.4, n_steps=3)
    assert (strategy.eps, strategy.n_steps) == (0.4, 3)
    trained = net(strategy, max_epochs=2).fit(*data)
    copy = pickle.loads(pickle.dumps(strategy))
    assert vars(copy) == strategy.get_params()
    assert np.array_equal(weights(pickle.loads(pickle.dumps(trained))), weights(trained))


def test_a_grid_search_over_a_pipeline_tunes_the_radius() -> None:
    X, y = load_digits(return_X_y=True)
    X, y = X[:300].astype(np.float32), y[:300]
    classifier = net(
        ("adversarial", AdversarialTraining(n_steps=3, random_state=0)),
        module=nn.Linear,
        module__in_features=64,
        module__out_features=10,
        max_epochs=4,
        batch_size=50,
    )
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(clip=True), classifier),
        {"neuralnetclassifier__callbacks__adversarial__eps": [0.05, 0.9]},
        cv=2,
    ).fit(X, y)
    small, large = search.cv_results_["mean_test_score"]
    assert small > large + 0.2
