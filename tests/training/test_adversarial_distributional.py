from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn

from randsmooth.noise import Stream, block_generator
from randsmooth.training.adversarial_distributional import AdversarialDistributionalTraining

SEED, EPS = 3, 0.2
VARIANTS = ["exp", "exp-am", "imp-am"]
SHAPES = {"table": (5,), "series": (2, 3), "image": (1, 3, 3)}


def data(kind: str = "table", n_rows: int = 12, dtype: Any = np.float64) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(n_rows, *SHAPES[kind])).astype(dtype)
    return X, rng.integers(3, size=n_rows)


class Curved(nn.Module):
    """A smooth net in double precision, for inputs of any shape."""

    def __init__(self, kind: str = "table", dropout: float = 0.0) -> None:
        super().__init__()
        n_in = math.prod(SHAPES[kind])
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(n_in, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3)
        ).double()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def adt(variant: str = "exp", eps: float = EPS, **params: Any) -> AdversarialDistributionalTraining:
    settings = {"n_steps": 3, "n_samples": 2, "width": 2, "n_latent": 4, "random_state": SEED}
    return AdversarialDistributionalTraining(variant, eps, **{**settings, **params})


def net(*callbacks: Any, kind: type[NeuralNet] = NeuralNetClassifier, **params: Any) -> NeuralNet:
    torch.manual_seed(0)
    settings = {
        "module": Curved,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=list(callbacks), **settings)


def start(kind: str = "table") -> Curved:
    torch.manual_seed(0)
    return Curved(kind)


def weights(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


class Recorder(Callback):
    """Keeps the inputs of every batch that the net trains on."""

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.seen_ = [*getattr(self, "seen_", []), batch[0].detach().clone()]


def cross_entropy(module: nn.Module, rows: Tensor, y: Tensor) -> Tensor:
    return -module(rows).log_softmax(1)[torch.arange(len(y)), y]


def stepped(module: nn.Module) -> Tensor:
    """Return the weights after a step of plain gradient descent at rate 0.1."""
    return torch.cat([(p - 0.1 * p.grad).detach().ravel() for p in module.parameters()])


def support(x: Tensor, within_range: bool) -> tuple[Tensor, Any]:
    """Return the centre and half the width of where tanh maps to."""
    if not within_range:
        return x, EPS
    lower, upper = (x - EPS).clamp_min(0), (x + EPS).clamp_max(1)
    assert (lower > x - EPS).any()
    assert (upper < x + EPS).any()
    return (lower + upper) / 2, (upper - lower) / 2


OPTIONS = {"initial_std": 0.05, "step_size": 0.1, "accumulate_gradients": True}


@pytest.mark.parametrize("within_range", [True, False])
@pytest.mark.parametrize("options", [{}, OPTIONS])
@pytest.mark.parametrize("entropy_weight", [None, 0.0, 0.7])
@pytest.mark.parametrize("kind", SHAPES)
def test_an_explicit_step_is_that_of_the_algorithm_by_hand(
    kind: str, entropy_weight: float | None, options: dict[str, Any], within_range: bool
) -> None:
    X, y = data(kind)
    strategy = adt(entropy_weight=entropy_weight, within_range=within_range, **options)
    trained = net(strategy, module__kind=kind).fit(X, y)

    generator = block_generator(SEED, Stream.TRAINING, 1)
    x, targets, module = torch.from_numpy(X), torch.from_numpy(y), start(kind)
    centre, half_width = support(x, within_range)
    weight = 0.01 if entropy_weight is None else entropy_weight
    step = options.get("step_size", 0.3)
    mean, rho = torch.zeros_like(x), torch.zeros_like(x)
    rho += math.log(math.expm1(options.get("initial_std", math.log(2))))
    totals = [torch.zeros_like(x), torch.zeros_like(x)]
    for _ in range(3):
        mean.requires_grad_()
        rho.requires_grad_()
        value = torch.zeros(())
        for r in torch.from_numpy(generator.standard_normal((2, *X.shape))):
            std = rho.exp().log1p()
            a = (mean + std * r).tanh()
            rows = (centre + half_width * a).clamp(0, 1)
            entropy = (r**2 / 2 + std.log() + (1 - a**2).log()).flatten(1).mean(1)
            value = value + (cross_entropy(module, rows, targets) + weight * entropy).sum()
        found = torch.autograd.grad(value, [mean, rho])
        totals = [t + g if options else g for t, g in zip(totals, found, strict=True)]
        mean, rho = (
            (p + step * g.sign()).detach() for p, g in zip((mean, rho), totals, strict=True)
        )
    r = torch.from_numpy(generator.standard_normal(X.shape))
    rows = (centre + half_width * (mean + rho.exp().log1p() * r).tanh()).clamp(0, 1)
    loss = cross_entropy(module, rows, targets).mean()
    loss.backward()
    assert trained.history[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(weights(trained.module_), stepped(module), rtol=0, atol=1e-6)


class Played:
    """A batch of a generator, recomputed from the strategy's seed."""

    def __init__(self, strategy: AdversarialDistributionalTraining, kind: str) -> None:
        X, y = data(kind)
        self.x, self.y, self.module = torch.from_numpy(X), torch.from_numpy(y), start(kind)
        self.centre, self.half_width = support(self.x, strategy.within_range)
        self.random = block_generator(SEED, Stream.TRAINING, 1)
        seed = int(self.random.integers(2**63 - 1))
        self.networks = strategy.architecture().build(self.x, seed)
        first = self.gradient(self.x)
        second = self.gradient((self.x + EPS * first.sign()).clamp(0, 1))
        scaled = [first / len(X), second / len(X)]
        if strategy.normalize_gradients:
            scaled = [
                g / g.square().flatten(1).mean(1).sqrt().reshape(-1, *[1] * (g.ndim - 1))
                for g in scaled
            ]
        parts = [self.x, *scaled]
        self.features = torch.cat([p if kind == "image" else p.flatten(1) for p in parts], 1)

    def gradient(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(cross_entropy(self.module, x, self.y).sum(), [x])[0]

    def loss(self, a: Tensor) -> Tensor:
        rows = (self.centre + self.half_width * a.reshape(self.x.shape)).clamp(0, 1)
        return cross_entropy(self.module, rows, self.y).mean()

    def gradients(self, value: Tensor) -> dict[str, Tensor]:
        """Return the gradient of a value with respect to each network."""
        return {
            name: torch.cat(
                [
                    g.ravel()
                    for g in torch.autograd.grad(value, [*part.parameters()], retain_graph=True)
                ]
            )
            for name, part in self.networks.items()
        }


def first_gradients(trained: NeuralNet) -> dict[str, Tensor]:
    """Return the gradient behind the first step of each network, from Adam's first moments."""
    kept = trained.callbacks[0].networks_
    return {
        name: torch.cat([kept.optimizer.state[p]["exp_avg"].ravel() for p in part.parameters()])
        / (0.1 if name == "posterior" else 0.5)
        for name, part in kept.networks.items()
    }


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(
    ("entropy_weight", "std", "published"),
    [(0.0, math.log(2), False), (0.5, math.log(2), False), (0.5, 0.1, True)],
)
def test_the_amortised_generator_climbs_what_the_net_descends(
    kind: str, entropy_weight: float, std: float, published: bool
) -> None:
    strategy = adt(
        "exp-am",
        entropy_weight=entropy_weight,
        initial_std=std,
        normalize_gradients=not published,
        within_range=not published,
    )
    trained = net(strategy, module__kind=kind).fit(*data(kind))
    played = Played(strategy, kind)
    output = played.networks["generator"](played.features)
    r = torch.from_numpy(played.random.standard_normal(played.x.shape))
    mean, rho = (part.reshape(r.shape) for part in output.chunk(2, 1))
    std = nn.functional.softplus(rho + math.log(math.expm1(std)))
    u = mean + std * r
    density = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, std),
        [
            torch.distributions.TanhTransform(cache_size=1),
            torch.distributions.AffineTransform(0, played.half_width, cache_size=1),
        ],
    )
    delta = density.transforms[1](density.transforms[0](u))
    entropy, loss = -density.log_prob(delta).mean(), played.loss(u.tanh())
    expected = played.gradients(-loss - entropy_weight * entropy)
    played.module.zero_grad()
    loss.backward()

    row = trained.history[-1]
    assert row["criterion_loss"] == pytest.approx(loss.item(), rel=1e-9)
    assert row["entropy_loss"] == pytest.approx(-entropy_weight * entropy.item(), rel=1e-9)
    torch.testing.assert_close(first_gradients(trained), expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(weights(trained.module_), stepped(played.module), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("threshold", "within_range"), [(-5.0, True), (5.0, True), (-5.0, False)])
def test_the_implicit_generator_and_its_posterior_descend_the_code_length(
    kind: str, threshold: float, within_range: bool
) -> None:
    strategy = adt(
        "imp-am", entropy_weight=0.5, entropy_threshold=threshold, within_range=within_range
    )
    trained = net(strategy, module__kind=kind).fit(*data(kind))
    played = Played(strategy, kind)
    z = torch.from_numpy(played.random.uniform(-1, 1, (12, 4)))
    code = played.networks["latent_map"](z) if kind == "image" else z
    a = played.networks["generator"](torch.cat([played.features, code], 1)).tanh()
    guess = played.networks["posterior"](a)
    variance = nn.functional.softplus(guess[:, 4:])
    normal = torch.distributions.Normal(guess[:, :4], variance.sqrt())
    term = 0.5 * (-normal.log_prob(z).mean() - threshold).relu()
    loss = played.loss(a)
    # The posterior has no part in the loss, which is added to it for its graph alone.
    expected = played.gradients(-loss + 0 * guess.sum() + term)
    played.module.zero_grad()
    loss.backward()

    row = trained.history[-1]
    assert row["criterion_loss"] == pytest.approx(loss.item(), rel=1e-9)
    assert row["entropy_loss"] == pytest.approx(term.item(), rel=1e-7)
    assert (term.item() == 0) == (threshold == 5)
    torch.testing.assert_close(first_gradients(trained), expected, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(weights(trained.module_), stepped(played.module), rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", SHAPES)
def test_rows_stay_in_the_ball_and_the_box_and_differ_by_batch(variant: str, kind: str) -> None:
    X, y = data(kind, dtype=np.float32)
    X[:, 0] = 0.0
    recorder = Recorder()
    module = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 3))
    net(adt(variant), recorder, module=module, max_epochs=2).fit(X, y)
    first, second = recorder.seen_
    for rows in (first, second):
        assert rows.dtype == torch.float32
        assert (rows - torch.from_numpy(X)).abs().max() <= EPS * (1 + 1e-6)
        assert 0 <= rows.min() < rows.max() <= 1
    assert not torch.equal(first, second)


def test_black_and_white_pixels_reach_the_corner_of_what_the_ball_has_within_the_range() -> None:
    X, y = data()
    X = (X > 0.5).astype(np.float64)
    strategy = adt(entropy_weight=0.0, n_steps=40, n_samples=1)
    recorder = Recorder()
    module = nn.Linear(5, 2).double()
    gradient = (module.weight[0] - module.weight[1]).detach().sign()
    net(strategy, recorder, module=module).fit(X, y * 0 + 1)
    corner = (torch.from_numpy(X) + EPS * gradient).clamp(0, 1)
    torch.testing.assert_close(recorder.seen_[0], corner, rtol=0, atol=1e-3)


def test_without_limits_inputs_may_be_anywhere() -> None:
    X, y = data()
    recorder = Recorder()
    net(adt(clip_range=None), recorder).fit(10 * X - 5, y)
    moved = recorder.seen_[0] - torch.from_numpy(10 * X - 5)
    assert 0.1 * EPS < moved.abs().mean() <= EPS


def test_the_radius_grows_over_the_warm_up() -> None:
    X, y = data()
    recorder = Recorder()
    net(adt(warm_up=4, initial_std=50.0, n_steps=1), recorder, max_epochs=5).fit(X * 0 + 0.5, y)
    reached = [(rows - 0.5).abs().max().item() for rows in recorder.seen_]
    assert reached == pytest.approx([EPS / 4, EPS / 2, 3 * EPS / 4, EPS, EPS], rel=1e-2)


@pytest.mark.parametrize(("variant", "passes"), [("exp", 4), ("exp-am", 3), ("imp-am", 3)])
def test_a_batch_costs_as_many_passes_as_are_stated(variant: str, passes: int) -> None:
    calls: list[tuple[int, bool]] = []

    class Counted(Curved):
        def forward(self, x: Tensor) -> Tensor:
            calls.append((len(x), self.training))
            return super().forward(x)

    net(adt(variant), module=Counted, module__dropout=0.5).fit(*data())
    attack = [(24, False)] * 3 if variant == "exp" else [(12, False)] * 2
    assert calls == [*attack, (12, True)]
    assert len(calls) == passes
