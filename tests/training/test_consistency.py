from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn

from randsmooth import SmoothedClassifier
from randsmooth.noise import Ablation, Gaussian, Laplace, Noise, Stream, Uniform, block_generator
from randsmooth.training import GaussianAugmentation
from randsmooth.training.consistency import Consistency

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


def consistency(*args: Any, noise: Noise | None = None, **params: Any) -> Consistency:
    params = {"random_state": 3, **params}
    return Consistency(*args, noise=noise or Gaussian(0.5), **params)


def terms_of(strategy: Consistency, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return what the strategy makes of some outputs, without training."""
    return strategy.objective(net(strategy).initialize(), outputs.sum() * 0, outputs, targets)


def weights(trained: NeuralNet) -> np.ndarray:
    return nn.utils.parameters_to_vector(trained.module_.parameters()).detach().numpy()


@pytest.mark.parametrize("noise", [Gaussian(0.5), Laplace(0.5), Uniform(0.5)])
@pytest.mark.parametrize("n_draws", [2, 3])
def test_a_step_is_that_of_the_formula_in_double_precision(noise: Noise, n_draws: int) -> None:
    trained = net(consistency(7.0, entropy_weight=0.3, n_draws=n_draws, noise=noise)).fit(X, y)

    draws = noise.draw(n_draws * 40, (5,), block_generator(3, Stream.TRAINING, 1)).astype(float)
    torch.manual_seed(0)
    module = Tiny().double()
    copies = np.concatenate([X + draws[40 * k : 40 * k + 40] for k in range(n_draws)])
    p = module(torch.from_numpy(copies)).softmax(1)
    criterion = -p[torch.arange(len(p)), torch.from_numpy(np.tile(y, n_draws))].log().mean()
    average = sum(p[40 * k : 40 * k + 40] for k in range(n_draws)) / n_draws
    divergence = torch.zeros((), dtype=torch.float64)
    for k in range(n_draws):
        q = p[40 * k : 40 * k + 40]
        divergence = divergence + (average * (average / q).log()).sum() / (n_draws * 40)
    spread = -(average * average.log()).sum() / 40
    (criterion + 7 * divergence + 0.3 * spread).backward()

    row = trained.history[-1]
    assert row["criterion_loss"] == pytest.approx(criterion.item(), rel=1e-6)
    assert row["consistency_loss"] == pytest.approx(7 * divergence.item(), rel=1e-4)
    assert row["entropy_loss"] == pytest.approx(0.3 * spread.item(), rel=1e-6)
    total = criterion + 7 * divergence + 0.3 * spread
    assert row["train_loss"] == pytest.approx(total.item(), rel=1e-6)
    for after, before in zip(trained.module_.parameters(), module.parameters(), strict=True):
        expected = (before - 0.1 * before.grad).detach().numpy()
        assert after.detach().numpy() == pytest.approx(expected, abs=2e-6)


def test_without_weights_it_is_augmentation_with_several_draws_bit_for_bit() -> None:
    settings = {"max_epochs": 3, "batch_size": 16}
    plain = GaussianAugmentation(n_draws=3, noise=Gaussian(0.5), random_state=3)
    trained = net(consistency(0.0, entropy_weight=0.0, n_draws=3), **settings).fit(X, y)
    assert np.array_equal(weights(trained), weights(net(plain, **settings).fit(X, y)))
    assert not np.array_equal(weights(trained), weights(net(consistency(n_draws=3)).fit(X, y)))


class SameNoise(Consistency):
    def draw(self, inputs: Tensor) -> Tensor:
        return super().draw(inputs)[: len(inputs)].repeat(self.n_draws, 1)


def test_equal_copies_have_no_divergence_but_entropy() -> None:
    trained = net(SameNoise(n_draws=3, noise=Gaussian(0.5), random_state=0)).fit(X, y)
    row = trained.history[-1]
    assert row["consistency_loss"] == pytest.approx(0.0, abs=1e-6)
    assert row["entropy_loss"] > 0.1


def test_copies_that_agree_on_a_class_for_certain_cost_nothing() -> None:
    outputs = torch.tensor([[1e3, 0, 0], [0, 1e3, 0]]).repeat(2, 1)
    terms = terms_of(consistency(), outputs, torch.tensor([0, 1]))
    assert [term.item() for term in terms.values()] == [0, 0, 0]


def test_the_divergence_is_from_the_average_to_each_copy_and_not_the_other_way() -> None:
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
    terms = terms_of(consistency(1.0, entropy_weight=1.0), p.log(), torch.tensor([0]))
    forward = 0.5 * (
        0.7 * np.log(0.7 / 0.9)
        + 0.3 * np.log(0.3 / 0.1)
        + 0.7 * np.log(0.7 / 0.5)
        + 0.3 * np.log(0.3 / 0.5)
    )
    assert terms["consistency_loss"].item() == pytest.approx(forward, rel=1e-5)
    assert terms["entropy_loss"].item() == pytest.approx(
        -0.7 * np.log(0.7) - 0.3 * np.log(0.3), rel=1e-5
    )


def test_the_order_of_the_draws_does_not_matter_but_the_rows_they_belong_to_do() -> None:
    outputs = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(0)).double()
    targets, strategy = torch.arange(10) % 4, consistency(n_draws=3)
    one = terms_of(strategy, outputs.flatten(0, 1), targets)
    other = terms_of(strategy, outputs[[2, 0, 1]].flatten(0, 1), targets)
    mixed = terms_of(strategy, outputs.transpose(0, 1).flatten(0, 1), targets)
    for name in ("consistency_loss", "entropy_loss"):
        assert one[name].item() == pytest.approx(other[name].item(), rel=1e-12)
        assert one[name].item() != pytest.approx(mixed[name].item(), rel=1e-3)


def test_gradients_agree_with_finite_differences() -> None:
    outputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()

    def loss(outputs: Tensor) -> Tensor:
        return sum(terms_of(strategy, outputs, torch.tensor([0, 1])).values())

    strategy = consistency(n_draws=3)
    assert torch.autograd.gradcheck(loss, [outputs.requires_grad_()])


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_extreme_logits_have_finite_losses_and_gradients(size: float) -> None:
    outputs = size * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    outputs.requires_grad_()
    terms = terms_of(consistency(), outputs, torch.arange(20) % 3)
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad.abs().max() > 0


def test_a_net_that_returns_probabilities_trains_like_one_that_returns_logits() -> None:
    logits = net(consistency()).fit(X, y)
    probabilities = net(consistency(), module__probabilities=True, criterion=nn.NLLLoss).fit(X, y)
    assert weights(probabilities) == pytest.approx(weights(logits), abs=1e-5)


def test_a_single_logit_is_two_classes() -> None:
    trained = net(
        consistency(2.0),
        NeuralNetBinaryClassifier,
        module__n_outputs=1,
        criterion=nn.BCEWithLogitsLoss,
    ).fit(X, (y > 0).astype(np.float32))
    draws = Gaussian(0.5).draw(80, (5,), block_generator(3, Stream.TRAINING, 1))
    torch.manual_seed(0)
    p = torch.sigmoid(Tiny(1).double()(torch.from_numpy(np.tile(X, (2, 1)) + draws).double()))
    p = torch.cat([1 - p, p], 1).reshape(2, 40, 2)
    average = p.mean(0)
    divergence = (average * (average / p).log()).sum(2).mean()
    assert trained.history[-1]["consistency_loss"] == pytest.approx(2 * divergence.item(), rel=1e-4)


class Convolutional(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_of_either_precision_are_trained_on(dtype: Any) -> None:
    images = np.random.default_rng(0).uniform(size=(40, 2, 6, 6)).astype(dtype)
    module = Convolutional().to(getattr(torch, np.dtype(dtype).name))
    trained = net(consistency(), module=module, max_epochs=2).fit(images, y)
    for name in ("criterion_loss", "consistency_loss", "entropy_loss"):
        assert np.isfinite(trained.history[:, name]).all()


def test_noise_that_is_not_added_trains_too() -> None:
    trained = net(consistency(noise=Ablation(2))).fit(X.clip(0, 1), y)
    assert trained.history[-1]["consistency_loss"] > 0


def test_equal_seeds_give_equal_nets_whatever_torch_has_drawn() -> None:
    first = net(consistency(random_state=5), batch_size=16)
    state = torch.random.get_rng_state()
    one = weights(first.fit(X, y))
    again = net(consistency(random_state=5), batch_size=16).initialize()
    torch.manual_seed(77)
    assert np.array_equal(one, weights(again.partial_fit(X, y)))
    assert not np.array_equal(one, weights(net(consistency(random_state=6)).fit(X, y)))
    torch.random.set_rng_state(state)


def test_a_trained_strategy_clones_and_pickles_as_its_parameters() -> None:
    strategy = consistency(3.0, entropy_weight=0.1, n_draws=4)
    net(strategy).fit(X, y)
    for copy in (clone(strategy), pickle.loads(pickle.dumps(strategy))):
        assert vars(copy) == strategy.get_params()


def test_a_smoothed_classifier_fills_in_its_noise() -> None:
    def fitted(weight: float) -> SmoothedClassifier:
        base = NeuralNetClassifier(
            Tiny, criterion=nn.CrossEntropyLoss, max_epochs=2, train_split=None, verbose=0
        )
        torch.manual_seed(0)
        clf = SmoothedClassifier(base, 0.5, training=Consistency(), random_state=0)
        return clf.set_params(training__consistency_weight=weight).fit(X, y)

    history = fitted(4.0).estimator_.history
    assert history[:, "consistency_loss"] != fitted(8.0).estimator_.history[:, "consistency_loss"]
    assert len(history) == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"consistency_weight": -1}, r"^consistency_weight must be finite and at least 0, got -1"),
        ({"entropy_weight": np.inf}, r"^entropy_weight must be finite and at least 0, got inf"),
        ({"n_draws": 1}, r"^n_draws must be an integer of at least 2, got 1"),
        ({"n_draws": 2.0}, r"^n_draws must be an integer of at least 2, got 2.0"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(consistency(**params)).fit(X, y)


def test_a_strategy_on_a_net_by_hand_needs_its_noise() -> None:
    with pytest.raises(ValueError, match=r"^noise must be a Noise object .* got None"):
        net(Consistency()).fit(X, y)
