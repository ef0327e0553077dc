from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn

from randsmooth import SmoothedClassifier
from randsmooth.noise import Ablation, Gaussian, Laplace, Noise, Stream, Uniform, block_generator
from randsmooth.training import GaussianAugmentation
from randsmooth.training.catrs import CATRS, _NoiseBall

X = np.random.default_rng(0).normal(size=(40, 5))


class Tiny(nn.Module):
    def __init__(self, n_outputs: int = 3, probabilities: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, n_outputs))
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.softmax(1) if self.probabilities else logits


class Double(Tiny):
    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.double()


torch.manual_seed(0)
y = Double()(torch.from_numpy(X)).argmax(1).numpy()
# The untrained net gets most rows right, so that every number of copies is asked for.
y[::3] = np.random.default_rng(1).integers(3, size=14)


def net(strategy: Any, kind: type[NeuralNet] = NeuralNetClassifier, **params: Any) -> NeuralNet:
    torch.manual_seed(0)
    settings = {
        "module": Double,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=[strategy], **settings)


def catrs(*args: Any, **params: Any) -> CATRS:
    return CATRS(*args, **{"noise": Gaussian(0.5), "random_state": 3, **params})


def weights(trained: NeuralNet) -> np.ndarray:
    return nn.utils.parameters_to_vector(trained.module_.parameters()).detach().numpy()


def divergence(soft: Tensor, log_q: Tensor) -> Tensor:
    """Return the divergence of each row, with 0 ln 0 = 0."""
    return (torch.special.xlogy(soft, soft) - soft * log_q).sum(-1)


def attacked(module: nn.Module, x: Tensor, noise: Tensor, soft: Tensor, **params: Any) -> Tensor:
    """Return the noise of one draw, moved as published, a row at a time."""
    rows = []
    for row, start, label in zip(x, noise, soft, strict=True):
        now = start
        for _ in range(params["n_steps"]):
            now = now.detach().requires_grad_()
            loss = divergence(label, module((row + now)[None]).log_softmax(1)[0])
            (gradient,) = torch.autograd.grad(loss, now)
            moved = now.detach() + params["step_size"] * gradient / gradient.norm() - start
            if moved.norm() > params["eps"]:
                moved = moved * params["eps"] / moved.norm()
            now = start + moved
            size = now.square().mean().sqrt() / start.square().mean().sqrt()
            now = start.mean() + (now - now.mean()) / size
        rows.append(now.detach())
    return torch.stack(rows)


TEACHER = LogisticRegression().fit(X, y)


def one_hot(rows: Tensor) -> Tensor:
    return nn.functional.one_hot((rows[:, 0] > 0).long(), 3)


class TeacherModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3] * 2


def soft_labels(teacher: Any, p: Tensor, x: Tensor, noise: Tensor) -> Tensor:
    if teacher is None:
        return p.detach().mean(0)
    if isinstance(teacher, TeacherModule):
        return ((x + noise)[:, :, :3] * 2).softmax(2).mean(0)
    if teacher is one_hot:
        return one_hot(x).double()
    return torch.from_numpy(TEACHER.predict_proba(x.numpy()))


@pytest.mark.parametrize("confidence_mask", [False, True])
@pytest.mark.parametrize(
    "teacher", [None, TeacherModule(), FrozenEstimator(TEACHER), TEACHER, one_hot]
)
@pytest.mark.parametrize("noise", [Gaussian(0.5), Laplace(0.3), Uniform(0.7)])
def test_a_step_is_that_of_the_formula_in_double_precision(
    noise: Noise, teacher: Any, confidence_mask: bool
) -> None:
    strategy = catrs(
        2.0,
        eps=0.7,
        n_steps=3,
        n_draws=3,
        teacher=teacher,
        confidence_mask=confidence_mask,
        noise=noise,
    )
    trained = net(strategy).fit(X, y)

    generator = block_generator(3, Stream.TRAINING, 1)
    draws = torch.from_numpy(noise.draw(120, (5,), generator, dtype=np.float64)).reshape(3, 40, 5)
    x, targets = torch.from_numpy(X), torch.from_numpy(y)
    torch.manual_seed(0)
    module = Double()
    log_p = module((x + draws).flatten(0, 1)).log_softmax(1).reshape(3, 40, 3)
    soft = soft_labels(teacher, log_p.exp(), x, draws)
    votes = (log_p.argmax(2) == targets).sum(0).numpy() / 3
    confidence = soft[np.arange(40), targets].numpy() if confidence_mask else votes
    chances = [math.comb(3, k) * confidence**k * (1 - confidence) ** (3 - k) for k in range(3)]
    asked = np.maximum(1, (generator.random(40) > np.cumsum(chances, axis=0)).sum(0))
    assert len(set(asked)) > 1
    low, high = torch.zeros(()), torch.zeros(())
    moved = [
        attacked(module, x, draw, soft, eps=0.7, n_steps=3, step_size=2 * 0.7 / 3) for draw in draws
    ]
    for i in range(40):
        losses = sorted((-log_p[k, i, targets[i]] for k in range(3)), key=Tensor.item)
        low = low + sum(losses[: asked[i]]) / 3 / 40
        if asked[i] == 3:
            worst = [divergence(soft[i], module((x + m)[i]).log_softmax(0)) for m in moved]
            high = high + max(worst, key=Tensor.item) / 40
    module.zero_grad()
    (low + 2 * high).backward()
    row = trained.history[-1]
    assert row["low_loss"] == pytest.approx(low.item(), rel=1e-10)
    assert row["high_loss"] == pytest.approx(2 * high.item(), rel=1e-8)
    assert row["high_loss"] > 0
    assert row["train_loss"] == pytest.approx((low + 2 * high).item(), rel=1e-8)
    assert "criterion_loss" not in row
    for after, before in zip(trained.module_.parameters(), module.parameters(), strict=True):
        expected = (before - 0.1 * before.grad).detach().numpy()
        assert after.detach().numpy() == pytest.approx(expected, abs=1e-9)


def test_one_draw_without_the_second_term_is_augmentation() -> None:
    trained = net(catrs(0.0, n_draws=1), max_epochs=2).fit(X, y)
    plain = GaussianAugmentation(noise=Gaussian(0.5), random_state=3)
    expected = net(plain, max_epochs=1).fit(X, y)
    first = trained.history[0]["train_loss"]
    assert first == pytest.approx(expected.history[0]["train_loss"], rel=1e-12)
    one = net(catrs(0.0, n_draws=1)).fit(X, y)
    assert weights(one) == pytest.approx(weights(expected), abs=1e-12)


def fixed_votes(right: bool) -> Any:
    """Return a net whose predictions, all for class 0, are right for all rows or for none."""
    built = net(catrs(1.0, n_draws=4, n_steps=1)).initialize()
    with torch.no_grad():
        built.module_.layers[2].bias += torch.tensor([30.0, 0, 0])
    return built.partial_fit(X, 0 * y + (0 if right else 1)).history[-1]


def test_rows_that_are_never_right_are_asked_for_their_easiest_copy_alone() -> None:
    row = fixed_votes(right=False)
    assert row["high_loss"] == 0
    assert 0 < row["low_loss"] < 32 / 4


def test_rows_that_are_always_right_are_asked_for_everything() -> None:
    row = fixed_votes(right=True)
    assert row["high_loss"] > 0
    assert row["low_loss"] < 1e-6


def test_the_numbers_of_copies_asked_for_are_binomial_but_at_least_one() -> None:
    strategy = catrs(0.0, n_draws=4)
    strategy.on_train_begin(net(strategy).initialize())
    strategy.prepare(net(strategy), torch.zeros(20_000, 1), None)
    log_p = torch.zeros(4, 20_000, 2)
    log_p[0, :, 0] = log_p[1:, :, 1] = 1
    asked = strategy._asked(log_p, None, torch.ones(20_000))
    expected = [81 / 256, 108 / 256, 54 / 256, 12 / 256 + 1 / 256]
    shares = [(asked == k).double().mean().item() for k in (4, 3, 2, 1)]
    assert shares == pytest.approx(expected, abs=0.015)
    assert set(strategy._asked(log_p, None, torch.full((20_000,), 5)).tolist()) == {1}


def test_torch_draws_no_more_than_for_the_loader_of_a_plain_net() -> None:
    states = []
    for strategy in (catrs(), GaussianAugmentation(noise=Gaussian(0.5), random_state=0)):
        net(strategy, batch_size=16).fit(X, y)
        states.append(torch.random.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("shape", [(6, 50), (6, 3, 4, 5)])
@pytest.mark.parametrize("length", [0.0, 0.1, 5.0])
def test_moved_noise_keeps_its_mean_and_about_its_size(
    shape: tuple[int, ...], length: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    start = 0.2 + 0.5 * torch.randn(shape, generator=generator).double()
    step = torch.randn(shape, generator=generator).double()
    step *= length / step.flatten(1).norm(dim=1).reshape(-1, *[1] * (len(shape) - 1))
    moved = _NoiseBall(1.0, "l2", None).project(start + step, start)
    before, after = start.flatten(1), moved.flatten(1)
    assert after.mean(1).numpy() == pytest.approx(before.mean(1).numpy())
    assert after.square().mean(1).numpy() == pytest.approx(before.square().mean(1).numpy(), rel=0.1)
    distance = (after - before).norm(dim=1).numpy()
    if length == 0:
        assert distance == pytest.approx(np.zeros(6), abs=1e-12)
    else:
        assert distance == pytest.approx(min(length, 1.0), rel=0.15)


def test_the_attack_raises_the_divergence_and_a_single_feature_cannot_move() -> None:
    strategy = catrs(n_draws=4, eps=2.0)
    built = net(strategy).initialize()
    strategy.on_train_begin(built)
    strategy.inputs_ = torch.from_numpy(X)
    strategy.prepare(built, strategy.inputs_, y)
    soft = built.module_(strategy.inputs_).softmax(1).detach()
    before = strategy._divergence(built, strategy.draws_, soft)
    after = strategy._divergence(built, strategy._attacked(built, soft), soft)
    assert after.mean() > 1.5 * before.mean()
    draws = torch.tensor([[0.3], [0.0]])
    moved = _NoiseBall(1.0, "l2", None).project(draws + 0.5, draws)
    assert torch.equal(moved, draws)


class Counting(nn.Module):
    passes: list[tuple[bool, int]] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((self.training, len(x)))
        logits: Tensor = self.layers(x)
        return logits


@pytest.mark.parametrize(
    ("high_weight", "passes"),
    [(1.0, [(True, 80), *[(False, 80)] * 3, (True, 80)]), (0.0, [(True, 80)])],
)
def test_a_batch_of_images_costs_two_passes_in_training_mode_and_one_for_each_step(
    high_weight: float, passes: list[tuple[bool, int]]
) -> None:
    Counting.passes = []
    images = np.random.default_rng(0).uniform(size=(40, 2, 6, 6)).astype(np.float32)
    strategy = catrs(high_weight, n_draws=2, n_steps=3)
    trained = net(strategy, module=Counting).fit(images, y)
    assert Counting.passes == passes
    tracked = trained.module_.layers[1].num_batches_tracked.item()
    assert tracked == sum(training for training, _ in passes)
    assert trained.module_.layers[0].weight.requires_grad


@pytest.mark.parametrize("size", [1e3, 1e6])
@pytest.mark.parametrize("teacher", [None, one_hot])
def test_extreme_logits_have_finite_losses_and_weights(size: float, teacher: Any) -> None:
    built = net(catrs(teacher=teacher), module=Tiny, lr=1e-9).initialize()
    with torch.no_grad():
        built.module_.layers[2].weight *= size
    built.partial_fit(X.astype(np.float32), y)
    assert np.isfinite(built.history[-1]["train_loss"])
    assert np.isfinite(weights(built)).all()


def test_a_net_that_returns_probabilities_trains_like_one_that_returns_logits() -> None:
    probabilities = net(catrs(), module__probabilities=True, criterion=nn.NLLLoss).fit(X, y)
    assert weights(probabilities) == pytest.approx(weights(net(catrs()).fit(X, y)), abs=1e-9)


def test_a_single_logit_is_two_classes() -> None:
    def fitted(kind: type[NeuralNet], module: Any, criterion: Any, dtype: Any) -> NeuralNet:
        return net(catrs(), kind, module=module, criterion=criterion).fit(X, (y > 0).astype(dtype))

    class Pair(Double):
        def __init__(self) -> None:
            super().__init__(n_outputs=1)

        def forward(self, x: Tensor) -> Tensor:
            logit = super().forward(x)
            return torch.cat([0 * logit, logit], 1)

    class Single(Double):
        def __init__(self) -> None:
            super().__init__(n_outputs=1)

    one = fitted(NeuralNetBinaryClassifier, Single, nn.BCEWithLogitsLoss, float)
    two = fitted(NeuralNetClassifier, Pair, nn.CrossEntropyLoss, int)
    assert one.history[-1]["high_loss"] > 0
    assert weights(one) == pytest.approx(weights(two), abs=1e-12)


def test_equal_seeds_give_equal_nets() -> None:
    one, again, other = (
        weights(net(catrs(random_state=seed), batch_size=16).fit(X, y)) for seed in (5, 5, 6)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_trained_strategy_clones_and_pickles_as_its_parameters() -> None:
    strategy = catrs(3.0, eps=0.5, n_steps=2, n_draws=3, step_size=0.1, confidence_mask=True)
    net(strategy).fit(X, y)
    for copy in (clone(strategy), pickle.loads(pickle.dumps(strategy))):
        assert vars(copy) == strategy.get_params()


def test_a_smoothed_classifier_teaches_another_with_its_votes() -> None:
    first = SmoothedClassifier(LogisticRegression(), 0.5, n_estimation=200, random_state=0)
    first.fit(X, y)
    base = NeuralNetClassifier(
        Tiny, criterion=nn.CrossEntropyLoss, max_epochs=2, train_split=None, verbose=0
    )
    strategy = CATRS(teacher=FrozenEstimator(first))
    second = SmoothedClassifier(base, 0.5, training=strategy, random_state=0).fit(X, y)
    assert np.isfinite(second.estimator_.history[:, "high_loss"]).all()
    with pytest.raises(NotFittedError, match=r"^teacher must be fitted, .* in a FrozenEstimator"):
        SmoothedClassifier(base, 0.5, training=CATRS(teacher=first)).fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"high_weight": -1}, r"^high_weight must be finite and at least 0, got -1"),
        ({"eps": 0}, r"^eps must be positive and finite, got 0"),
        ({"n_steps": 0}, r"^n_steps must be a positive integer, got 0"),
        ({"n_draws": 0}, r"^n_draws must be a positive integer, got 0"),
        ({"step_size": -0.1}, r"^step_size must be positive and finite, got -0.1"),
        ({"noise": Ablation(2)}, r"^noise must be added to the inputs for CATRS, .* got Ablation"),
        ({"teacher": lambda x: x[:, :2]}, r"must return 40 rows of 3 classes, got \(40, 2\)"),
        ({"teacher": lambda x: None}, r"must return 40 rows of 3 classes, got NoneType"),
        ({"teacher": lambda x: x[:, :3]}, r"^teacher must return probabilities, got values from -"),
        (
            {"teacher": lambda x: x[:, :3] * np.nan},
            r"^teacher must return probabilities, got .*nan",
        ),
        ({"teacher": nn.Linear(5, 4).double()}, r"return 160 rows of 3 classes, got \(160, 4\)"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(catrs(**params)).fit(X, y)


def test_what_cannot_teach_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^teacher must be a torch module, .* got 'me'"):
        net(catrs(teacher="me")).fit(X, y)
