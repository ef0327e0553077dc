from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn

from randsmooth import SmoothedClassifier
from randsmooth.noise import DiscreteGaussian, Gaussian, Laplace, Stream, Uniform, block_generator
from randsmooth.training.macer import MACER

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
y = np.random.default_rng(1).integers(3, size=40)


class Tiny(nn.Module):
    def __init__(self, n_outputs: int = 3, probabilities: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, n_outputs))
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits.softmax(1) if self.probabilities else logits


def net(strategy: Any, kind: type[NeuralNet] = NeuralNetClassifier, **params: Any) -> NeuralNet:
    torch.manual_seed(0)
    settings = {
        "module": Tiny,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=[strategy], **settings)


def macer(*args: Any, **params: Any) -> MACER:
    return MACER(*args, **{"noise": Gaussian(0.5), "random_state": 3, **params})


def terms_of(strategy: MACER, outputs: Tensor, targets: Tensor, epoch: int = 1) -> dict[str, Any]:
    """Return what the strategy makes of some outputs, without training."""
    initialised = net(strategy).initialize()
    strategy.on_train_begin(initialised)
    for _ in range(epoch):
        initialised.history.new_epoch()
    return strategy.objective(initialised, outputs.sum() * 0, outputs, targets)


def published(
    logits: Tensor, targets: Tensor, *, weight: float, beta: float, margin: float, sigma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two terms, and which rows count, written with probabilities and quantiles."""
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    p = logits.softmax(2).mean(0)
    classification = -p[torch.arange(len(targets)), targets].log().mean()
    sharpened = (beta * logits).softmax(2).mean(0)
    (first, second), label = sharpened.topk(2, 1).values.T, sharpened.topk(2, 1).indices[:, 0]
    gap = normal.icdf(first.detach()) - normal.icdf(second.detach())
    counted = (label == targets) & gap.isfinite() & (gap.abs() <= margin)
    hinge = margin - normal.icdf(first[counted]) + normal.icdf(second[counted])
    return classification, weight * sigma / 2 * hinge.sum() / len(targets), counted


def weights(trained: NeuralNet) -> np.ndarray:
    return nn.utils.parameters_to_vector(trained.module_.parameters()).detach().numpy()


@pytest.mark.parametrize(("margin", "beta"), [(8.0, 16.0), (1.0, 4.0), (0.3, 1.0)])
@pytest.mark.parametrize("n_draws", [1, 5])
def test_a_step_is_that_of_the_formula_in_double_precision(
    margin: float, beta: float, n_draws: int
) -> None:
    strategy = macer(3.0, n_draws=n_draws, beta=beta, margin=margin, noise=Gaussian(0.7))
    torch.manual_seed(0)
    trained = net(strategy, module=Tiny().double()).fit(X.astype(float), y)

    shape = (n_draws * 40, 5)
    draws = Gaussian(0.7).draw(
        shape[0], shape[1:], block_generator(3, Stream.TRAINING, 1), dtype=np.float64
    )
    torch.manual_seed(0)
    module = Tiny().double()
    logits = module(torch.from_numpy(np.tile(X.astype(float), (n_draws, 1)) + draws))
    classification, robustness, counted = published(
        logits.reshape(n_draws, 40, 3),
        torch.from_numpy(y),
        weight=3.0,
        beta=beta,
        margin=margin,
        sigma=0.7,
    )
    assert 0 < counted.sum() < 40
    (classification + robustness).backward()
    row = trained.history[-1]
    assert row["classification_loss"] == pytest.approx(classification.item(), rel=1e-12)
    assert row["robustness_loss"] == pytest.approx(robustness.item(), rel=1e-10)
    total = (classification + robustness).item()
    assert row["train_loss"] == pytest.approx(total, rel=1e-10)
    for after, before in zip(trained.module_.parameters(), module.parameters(), strict=True):
        expected = (before - 0.1 * before.grad).detach().numpy()
        assert after.detach().numpy() == pytest.approx(expected, abs=1e-10)


def test_only_rows_that_are_right_and_within_the_hinge_count() -> None:
    gaps = torch.tensor([0.5, 1.9, 2.1, 0.5])
    first = torch.special.ndtr(gaps.double() / 2)
    outputs = torch.stack([first, 1 - first], dim=1).log()
    strategy = macer(1.0, n_draws=1, beta=1.0, margin=2.0)
    robustness = terms_of(strategy, outputs, torch.tensor([0, 0, 0, 1]))["robustness_loss"]
    assert robustness.item() == pytest.approx(0.5 / 2 * (1.5 + 0.1) / 4, rel=1e-6)


def test_gradients_agree_with_finite_differences() -> None:
    outputs = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)).double()
    targets = outputs.reshape(3, 8, 4).mean(0).argmax(1)
    strategy = macer(2.0, n_draws=3, beta=2.0)

    def loss(outputs: Tensor) -> Tensor:
        return sum(terms_of(strategy, outputs, targets).values())

    assert terms_of(strategy, outputs, targets)["robustness_loss"] > 0
    assert torch.autograd.gradcheck(loss, [outputs.requires_grad_()])


@pytest.mark.parametrize("label", [0, 1])
def test_votes_that_are_even_have_the_gradient_of_the_formula(label: int) -> None:
    outputs = torch.tensor([[2.0, -2.0], [-2.0, 2.0]], dtype=torch.float64, requires_grad=True)
    other = outputs.detach().clone().requires_grad_()
    strategy = macer(1.0, n_draws=2, beta=1.0)
    ours = terms_of(strategy, outputs, torch.tensor([label]))["robustness_loss"]
    expected = published(
        other.reshape(2, 1, 2),
        torch.tensor([label]),
        weight=1.0,
        beta=1.0,
        margin=8.0,
        sigma=0.5,
    )[1]
    assert ours.item() == pytest.approx(expected.item(), abs=1e-12)
    ours.backward()
    expected.backward()
    assert outputs.grad.numpy() == pytest.approx(other.grad.numpy(), abs=1e-12)


def test_rounding_of_a_probability_to_one_removes_no_row_in_single_precision() -> None:
    tails = np.array([1e-3, 1e-7, 1e-9, 1e-12])
    logits = np.log1p(-tails) - np.log(tails)
    outputs = torch.tensor(np.stack([logits, 0 * logits], 1), dtype=torch.float32)
    outputs.requires_grad_()
    strategy = macer(1.0, n_draws=1, beta=1.0, margin=40.0)
    robustness = terms_of(strategy, outputs, torch.zeros(4))["robustness_loss"]
    quantiles = stats.norm.isf(tails)
    assert robustness.item() == pytest.approx(0.25 * (40 - 2 * quantiles).mean(), rel=1e-5)
    robustness.backward()
    # d/dz of 2 isf(1 - expit(z)) is 2 p (1 - p) / phi.
    slope = -0.25 / 4 * 2 * tails * (1 - tails) / stats.norm.pdf(quantiles)
    assert outputs.grad[:, 0].numpy() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("margin", [8.0, 30.0, 1e6])
@pytest.mark.parametrize("size", [30.0, 1e3, 1e4])
def test_extreme_logits_have_finite_losses_and_gradients(size: float, margin: float) -> None:
    outputs = size * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    outputs.requires_grad_()
    terms = terms_of(macer(n_draws=4, margin=margin), outputs, torch.arange(16) % 3)
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("log_tail", [86.0, 90.0, 95.0, 100.0, 105.0])
def test_probabilities_at_the_edge_of_underflow_have_finite_gradients(log_tail: float) -> None:
    outputs = torch.tensor([[log_tail, 0.0], [3.0, 0.0]], requires_grad=True)
    strategy = macer(1.0, n_draws=1, beta=1.0, margin=40.0)
    terms_of(strategy, outputs, torch.zeros(2))["robustness_loss"].backward()
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[1, 0] < 0


def test_a_batch_of_which_no_row_counts_has_a_robustness_loss_of_zero() -> None:
    outputs = torch.tensor([[5.0, 0, 0]] * 8, requires_grad=True)
    terms = terms_of(macer(n_draws=2), outputs, torch.ones(4))
    assert terms["robustness_loss"] == 0
    sum(terms.values()).backward()
    assert torch.isfinite(outputs.grad).all()


def test_without_a_weight_it_is_the_likelihood_of_the_average_prediction() -> None:
    trained = net(macer(0.0, n_draws=4)).fit(X, y)
    draws = Gaussian(0.5).draw(160, (5,), block_generator(3, Stream.TRAINING, 1))
    torch.manual_seed(0)
    p = Tiny()(torch.from_numpy(np.tile(X, (4, 1)) + draws)).softmax(1).reshape(4, 40, 3).mean(0)
    loss = nn.functional.nll_loss(p.log(), torch.from_numpy(y)).item()
    row = trained.history[-1]
    assert row["robustness_loss"] == 0
    assert row["train_loss"] == pytest.approx(loss, rel=1e-6)
    # It is not the average of the likelihoods, which is larger.
    outputs = Tiny().layers(torch.from_numpy(X))
    assert terms_of(macer(n_draws=4), outputs, torch.from_numpy(y[:10]))[
        "classification_loss"
    ].item() < nn.functional.cross_entropy(outputs, torch.from_numpy(np.tile(y[:10], 4)))


def test_the_criterion_is_replaced() -> None:
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([9.0, 1.0, 0.1]))
    one, other = net(macer()).fit(X, y), net(macer(), criterion=weighted).fit(X, y)
    assert np.array_equal(weights(one), weights(other))
    assert "criterion_loss" not in one.history[-1]


def test_the_second_term_waits_for_its_first_epoch() -> None:
    settings = {"max_epochs": 4, "batch_size": 16}
    waiting = net(macer(start_epoch=3), **settings).fit(X, y)
    losses = waiting.history[:, "robustness_loss"]
    assert [loss > 0 for loss in losses] == [False, False, True, True]
    plain = net(macer(0.0), **settings).fit(X, y)
    for epoch in range(2):
        assert waiting.history[epoch]["train_loss"] == plain.history[epoch]["train_loss"]
    assert waiting.history[2]["train_loss"] != plain.history[2]["train_loss"]


def test_the_radius_has_the_scale_of_the_noise_that_is_drawn() -> None:
    seen = []

    class Warming(MACER):
        def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
            self.noise_factor_ = 0.25 * len(net.history)

        def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
            rows = super().prepare(net, inputs, targets)
            seen.append((rows - inputs.repeat(16, 1)).std().item())
            return rows

    strategy = Warming(1.0, beta=1.0, noise=Gaussian(0.8), random_state=0)
    trained = net(strategy, max_epochs=4).fit(0 * X, y)
    assert seen == pytest.approx([0.2, 0.4, 0.6, 0.8], rel=0.06)
    strategy.on_train_begin(trained)
    hinge = 8 - 2 * stats.norm.ppf(1 / (1 + np.exp(-1)))
    outputs = torch.tensor([[1.0, 0.0]]).repeat(16, 1)
    for factor in (0.25, 0.5, 1.0):
        strategy.noise_factor_ = factor
        terms = strategy.objective(trained, torch.zeros(()), outputs, torch.zeros(1))
        expected = 0.8 * factor / 2 * hinge
        assert terms["robustness_loss"].item() == pytest.approx(expected, rel=1e-5)


class Standardised(nn.Module):
    seen: list[Tensor] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.detach().clone())
        logits: Tensor = self.layers((x - 0.5) / 0.25)
        return logits


def test_preprocessing_inside_the_net_changes_neither_the_noise_nor_the_radius() -> None:
    Standardised.seen = []
    base = NeuralNetClassifier(
        Standardised, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0
    )
    clf = SmoothedClassifier(base, 0.3, training=MACER(1.0), random_state=0)
    clf.fit(0 * X + 0.5, np.arange(40) % 3)
    noise = torch.cat(Standardised.seen) - 0.5
    assert noise.std().item() == pytest.approx(0.3, rel=0.06)
    assert dict(clf.estimator_.callbacks_)["smoothing"].noise == clf.noise_ == Gaussian(0.3)


def test_the_order_of_the_draws_does_not_matter_but_the_rows_they_belong_to_do() -> None:
    outputs = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0)).double()
    targets, strategy = outputs.mean(0).argmax(1), macer(n_draws=3, beta=2.0)
    one = terms_of(strategy, outputs.flatten(0, 1), targets)
    other = terms_of(strategy, outputs[[2, 0, 1]].flatten(0, 1), targets)
    mixed = terms_of(strategy, outputs.transpose(0, 1).flatten(0, 1), targets)
    for name, term in one.items():
        assert term.item() == pytest.approx(other[name].item(), rel=1e-12)
        assert term.item() != pytest.approx(mixed[name].item(), rel=1e-3)


def test_a_net_that_returns_probabilities_trains_like_one_that_returns_logits() -> None:
    logits = net(macer(2.0, beta=4.0)).fit(X, y)
    probabilities = net(macer(2.0, beta=4.0), module__probabilities=True, criterion=nn.NLLLoss).fit(
        X, y
    )
    assert weights(probabilities) == pytest.approx(weights(logits), abs=1e-4)


def test_a_single_logit_is_two_classes() -> None:
    settings = {"module__n_outputs": 1, "criterion": nn.BCEWithLogitsLoss}
    targets = (y > 0).astype(np.float32)
    trained = net(macer(2.0), NeuralNetBinaryClassifier, **settings).fit(X, targets)
    draws = Gaussian(0.5).draw(640, (5,), block_generator(3, Stream.TRAINING, 1))
    torch.manual_seed(0)
    logit = Tiny(1).double()(torch.from_numpy(np.tile(X, (16, 1)) + draws).double())
    logits = torch.cat([0 * logit, logit], 1).reshape(16, 40, 2)
    _, robustness, _ = published(
        logits, torch.from_numpy(targets).long(), weight=2.0, beta=16.0, margin=8.0, sigma=0.5
    )
    assert trained.history[-1]["robustness_loss"] == pytest.approx(robustness.item(), rel=1e-4)


class Convolutional(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
        )


def test_images_are_trained_on_and_grid_noise_is_gaussian_enough() -> None:
    images = np.random.default_rng(0).integers(256, size=(40, 2, 6, 6)).astype(np.float32) / 255
    strategy = macer(n_draws=4, noise=DiscreteGaussian(0.25))
    trained = net(strategy, module=Convolutional, max_epochs=3, lr=0.01).fit(images, y)
    assert min(trained.history[:, "robustness_loss"]) > 0


def test_equal_seeds_give_equal_nets() -> None:
    one, again, other = (
        weights(net(macer(random_state=seed), batch_size=16).fit(X, y)) for seed in (5, 5, 6)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_trained_strategy_clones_and_pickles_as_its_parameters() -> None:
    strategy = macer(3.0, beta=2.0, margin=4.0, start_epoch=2, n_draws=4)
    net(strategy).fit(X, y)
    for copy in (clone(strategy), pickle.loads(pickle.dumps(strategy))):
        assert vars(copy) == strategy.get_params()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"robustness_weight": -1}, r"^robustness_weight must be finite and at least 0, got -1"),
        ({"n_draws": 0}, r"^n_draws must be a positive integer, got 0"),
        ({"beta": 0}, r"^beta must be positive and finite, got 0"),
        ({"margin": np.inf}, r"^margin must be positive and finite, got inf"),
        ({"start_epoch": 0}, r"^start_epoch must be a positive integer, got 0"),
        ({"noise": Laplace(0.5)}, r"^noise must be Gaussian for MACER, .* got Laplace"),
        ({"noise": Uniform(0.5)}, r"^noise must be Gaussian for MACER, .* Train for it with Cons"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(macer(**params)).fit(X, y)
