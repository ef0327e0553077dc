from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kstest
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn

from randsmooth import SmoothedClassifier
from randsmooth.training.trades import TRADES, _asks_for_its_mode, _divergence_of_rivals

N_FEATURES, N_CLASSES = 6, 3


def smooth(*layers: nn.Module) -> nn.Module:
    """Return a network in double precision with some layers in its middle."""
    return nn.Sequential(
        nn.Linear(N_FEATURES, 8), nn.Tanh(), *layers, nn.Linear(8, N_CLASSES)
    ).double()


class Probabilities(nn.Module):
    """The network without layers in its middle, returning probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = smooth()

    def forward(self, x: Tensor) -> Tensor:
        probabilities: Tensor = self.logits(x).softmax(1)
        return probabilities


class FunctionalDropout(nn.Module):
    """Dropout in its own forward, as many people write it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = smooth()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layers(x), 0.5, training=self.training)


class Inherited(FunctionalDropout):
    """A subclass that says nothing of it."""


class Image(nn.Module):
    """An image in, a batch-normalised convolution within."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, N_CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


@pytest.fixture
def data() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(40, N_FEATURES))
    X[X < 0.1], X[X > 0.9] = 0.0, 1.0  # some on the limits
    return X, rng.integers(N_CLASSES, size=40)


def net(
    *callbacks: Any,
    module: Callable[[], nn.Module] = smooth,
    kind: type[NeuralNet] = NeuralNetClassifier,
    **params: Any,
) -> NeuralNet:
    torch.manual_seed(0)
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(module(), callbacks=list(callbacks), **settings)


def weights(module: nn.Module) -> NDArray[np.float64]:
    return np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])


def replayed(strategy: TRADES) -> np.random.Generator:
    """Return the generator that a training of this strategy draws from."""
    twin = clone(strategy)
    twin.on_train_begin(net(twin).initialize())
    return twin.generator_


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(1)


def attacked_by_hand(
    module: nn.Module, x: Tensor, noise: Tensor, *, norm: str, eps: float, step: float
) -> Tensor:
    """Algorithm 1 of the paper, five steps, in evaluation mode."""
    module = copy.deepcopy(module).eval()
    clean = module(x).softmax(1).detach()
    moved = x + 0.001 * noise
    for _ in range(5):
        leaf = moved.clone().requires_grad_()
        kl(clean, module(leaf).softmax(1)).sum().backward()
        if norm == "linf":
            moved = (moved + step * leaf.grad.sign()).clamp(x - eps, x + eps).clamp(0, 1)
        else:
            moved = moved + step * leaf.grad / leaf.grad.norm(dim=1, keepdim=True)
            delta = moved - x
            delta = delta / (delta.norm(dim=1, keepdim=True) / eps).clamp_min(1)
            moved = (x + delta).clamp(0, 1)
    return moved


@pytest.mark.parametrize("middle", [(), (nn.BatchNorm1d(8),)])
@pytest.mark.parametrize("divergence", ["kl", "cross_entropy"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_is_the_gradient_step_of_the_papers_loss(data, norm, divergence, middle) -> None:
    X, y = data
    strategy = TRADES(2.5, 0.2, norm=norm, n_steps=5, divergence=divergence, random_state=7)
    trained = net(strategy, module=lambda: smooth(*copy.deepcopy(middle))).fit(X, y)

    x, labels = torch.from_numpy(X), torch.from_numpy(y)
    noise = torch.from_numpy(replayed(strategy).standard_normal(X.shape))
    torch.manual_seed(0)
    module = smooth(*copy.deepcopy(middle))
    # In double precision the attack's gradients near the input are exact enough to replay.
    moved = attacked_by_hand(module, x, noise, norm=norm, eps=0.2, step=2.5 * 0.2 / 5)
    logits = module(x)
    p, q = logits.softmax(1), module(moved).softmax(1)
    apart = kl(p, q) if divergence == "kl" else -(p * q.log()).sum(1)
    criterion, term = nn.functional.cross_entropy(logits, labels), 2.5 * apart.mean()
    (criterion + term).backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= 0.1 * parameter.grad
    assert weights(trained.module_) == pytest.approx(weights(module), abs=1e-10)
    row = trained.history[-1]
    assert row["criterion_loss"] == pytest.approx(criterion.item(), rel=1e-10)
    assert row["robustness_loss"] == pytest.approx(term.item(), rel=1e-9)
    assert row["train_loss"] == pytest.approx((criterion + term).item(), rel=1e-10)
    assert kl(p, q).min() > 0
    if middle:  # running statistics saw the clean and the attacked batch once each
        assert trained.module_[2].num_batches_tracked == 2
        assert trained.module_[2].running_mean.numpy() == pytest.approx(
            module[2].running_mean.numpy(), abs=1e-12
        )


@pytest.mark.parametrize("middle", [(), (nn.Dropout(), nn.BatchNorm1d(8))])
def test_a_weight_of_zero_is_plain_training_bit_for_bit(data, middle) -> None:
    calls = []

    def module() -> nn.Module:
        made = smooth(*copy.deepcopy(middle))
        made.register_forward_hook(lambda *args: calls.append(None))
        return made

    robust = net(TRADES(0.0, random_state=0), module=module, max_epochs=3).fit(*data)
    assert len(calls) == 3
    plain = net(module=module, max_epochs=3).fit(*data)
    assert np.array_equal(weights(robust.module_), weights(plain.module_))
    assert robust.history[:, "train_loss"] == plain.history[:, "train_loss"]
    assert robust.history[:, "robustness_loss"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("module", "clean_passes"),
    [
        (smooth, 0),
        (Probabilities, 0),
        (lambda: smooth(nn.LayerNorm(8), nn.ReLU()), 0),
        (lambda: smooth(nn.Dropout()), 1),
        (lambda: smooth(nn.BatchNorm1d(8)), 1),
        (lambda: smooth(nn.RReLU()), 1),
        (lambda: smooth(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))), 1),
        (FunctionalDropout, 1),
        (Inherited, 1),
    ],
)
def test_no_forward_pass_is_made_twice(data, module, clean_passes: int) -> None:
    calls: list[tuple[bool, bool]] = []
    made = module()
    made.register_forward_hook(
        lambda part, args, out: calls.append((part.training, torch.is_grad_enabled()))
    )
    criterion = nn.NLLLoss if isinstance(made, Probabilities) else nn.CrossEntropyLoss
    net(TRADES(n_steps=4, random_state=0), module=lambda: made, criterion=criterion).fit(*data)
    trained, attacked = (True, True), (False, True)  # in training mode, with gradients
    if clean_passes:  # the attack comes first, and has a clean prediction of its own
        assert calls == [(False, False), *[attacked] * 4, trained, trained]
    else:
        assert calls == [trained, *[attacked] * 4, trained]


@pytest.mark.filterwarnings("ignore")  # scripts and this form of the norm are deprecated
def test_code_outside_of_classes_is_searched_for_the_mode_too() -> None:
    own = nn.Linear(4, 4)
    own.forward = lambda x: x if own.training else 2 * x
    for part in (own, nn.utils.spectral_norm(nn.Linear(4, 4)), torch.jit.script(nn.Linear(4, 4))):
        assert _asks_for_its_mode(nn.Sequential(nn.Linear(4, 4), part))
    assert not _asks_for_its_mode(nn.utils.weight_norm(nn.Linear(4, 4)))


@pytest.mark.parametrize("module", [lambda: smooth(nn.Dropout()), FunctionalDropout])
def test_the_attack_moves_away_from_the_prediction_without_dropout(data, module) -> None:
    """An attack on a prediction with units dropped would start far from its own least point."""
    first = []

    class Watched(TRADES):
        def attacked(self, net, inputs, start, loss):
            with torch.no_grad():
                first.append(loss(self.log_probabilities(net, inputs)))
                p = self.log_probabilities(net, inputs).exp()
                first.append(-(p * p.log()).sum(1))
            return super().attacked(net, inputs, start, loss)

    net(Watched(random_state=0), module=module).fit(*data)
    # The cross-entropy of a prediction with itself is its entropy.
    assert first[0].numpy() == pytest.approx(first[1].numpy(), abs=1e-12)


def test_the_attack_starts_from_noise_of_the_given_scale() -> None:
    """The gradient at the input itself is zero, but for rounding."""
    seen = []

    class Watched(TRADES):
        def attacked(self, net, inputs, start, loss):
            seen.append((start - inputs).flatten())
            return super().attacked(net, inputs, start, loss)

    X, y = np.full((200, N_FEATURES), 0.5), np.arange(200) % N_CLASSES
    net(Watched(start_scale=0.02, random_state=0), batch_size=100, max_epochs=4).fit(X, y)
    noise = torch.cat(seen).numpy() / 0.02
    assert kstest(noise, "norm").pvalue > 0.01
    assert len(np.unique(noise)) == noise.size == 4 * X.size


def test_the_attacks_loss_is_the_cross_entropy_with_the_gradient_of_double_precision() -> None:
    rng = np.random.default_rng(0)
    z, moved = torch.from_numpy(rng.normal(size=(2, 30, N_CLASSES)))
    z, moved = z.clone(), z + 0.01 * moved
    z[10:, 1] += 25  # sure: in single precision p is 1
    z[20:, 1] += 25
    moved[10:] = z[10:] + 0.01 * moved[10:]
    gradients = []
    for dtype in (torch.float64, torch.float32):
        logits = moved.clone().to(dtype).requires_grad_()
        loss = _divergence_of_rivals(z.to(dtype).log_softmax(1), logits.log_softmax(1))
        loss.sum().backward()
        gradients.append(logits.grad.double())
        expected = -(z.softmax(1) * moved.log_softmax(1)).sum(1)
        assert loss.detach().numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    exact = moved.softmax(1) - z.softmax(1)
    assert gradients[0][:10].numpy() == pytest.approx(exact[:10].numpy(), abs=1e-15)
    rivals = [0, 2]  # the top class's entry has lost its digits in `exact`
    assert gradients[0][:, rivals].numpy() == pytest.approx(exact[:, rivals].numpy(), rel=1e-9)
    assert gradients[0].sum(1).numpy() == pytest.approx(0.0, abs=1e-15)
    error = (gradients[1] - gradients[0]).norm(dim=1) / gradients[0].norm(dim=1)
    assert error.max() < 1e-2


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rows_that_the_net_is_sure_of_move_too(norm: str) -> None:
    """In single precision such predictions differ only where they are next to nothing."""
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    with torch.no_grad():
        module.weight.mul_(40)
        module.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
    seen = []

    class Watched(TRADES):
        def attacked(self, net, inputs, start, loss):
            seen.append(super().attacked(net, inputs, start, loss) - inputs)
            return inputs + seen[-1]

    X = np.random.default_rng(0).uniform(size=(20, 4)).astype(np.float32)
    strategy = Watched(1.0, 0.1, norm=norm, clip_range=None, random_state=0)
    net(strategy, module=lambda: module, lr=0.0).fit(X, np.zeros(20, dtype=np.int64))
    lead = module(torch.from_numpy(X)).softmax(1)[:, 1:].amax(1).detach()
    assert 1e-35 < lead.min() < lead.median() < 1e-9
    delta = seen[0].flatten(1)
    reached = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert reached.numpy() == pytest.approx(0.1, abs=1e-4)


def test_a_binary_net_with_one_logit_is_attacked_in_its_exact_worst_direction(data) -> None:
    X, y = data[0].astype(np.float32), (data[1] > 0).astype(np.float32)
    strategy = TRADES(3.0, 0.1, n_steps=40, step_size=0.02, clip_range=None, random_state=0)
    trained = net(
        strategy,
        module=lambda: nn.Linear(N_FEATURES, 1),
        kind=NeuralNetBinaryClassifier,
        criterion=nn.BCEWithLogitsLoss,
    ).fit(X, y)
    torch.manual_seed(0)
    logit = nn.Linear(N_FEATURES, 1)
    centre = logit(torch.from_numpy(X)).double()
    reach = 0.1 * logit.weight.abs().sum().double()
    p = torch.cat([1 - centre.sigmoid(), centre.sigmoid()], dim=1)
    ends = [
        torch.cat([1 - (centre + s).sigmoid(), (centre + s).sigmoid()], 1) for s in (-reach, reach)
    ]
    apart = torch.stack([kl(p, q) for q in ends])
    term = trained.history[-1]["robustness_loss"]
    # The ascent settles at one of the two ends, whichever the start points to.
    assert 3 * apart.amin(0).mean() - 1e-6 <= term <= 3 * apart.amax(0).mean() + 1e-6


def test_probabilities_under_nll_give_the_same_step_as_logits_under_cross_entropy(data) -> None:
    strategy = TRADES(2.0, 0.2, random_state=0)
    logits = net(strategy).fit(*data)
    probabilities = net(strategy, module=Probabilities, criterion=nn.NLLLoss).fit(*data)
    assert weights(probabilities.module_) == pytest.approx(weights(logits.module_), abs=1e-8)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_are_attacked_within_ball_and_range_and_modes_are_restored(norm: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(2, size=(20, 1, 6, 6)).astype(np.float32)  # on the limits everywhere
    seen = []

    class Watched(TRADES):
        def attacked(self, net, inputs, start, loss):
            seen.append((inputs, super().attacked(net, inputs, start, loss)))
            return seen[-1][1]

    strategy = Watched(eps=0.3, norm=norm, warm_up=2, random_state=0)
    trained = net(strategy, module=Image, max_epochs=3).fit(X, rng.integers(N_CLASSES, size=20))
    for eps, (inputs, moved) in zip((0.15, 0.3, 0.3), seen, strict=True):
        delta = (moved - inputs).flatten(1)
        reached = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert eps / 3 < reached.max() <= eps + 1e-6
        assert moved.min() >= 0
        assert moved.max() <= 1
    assert all(part.training for part in trained.module_.modules())
    assert all(p.requires_grad for p in trained.module_.parameters())
    batches = trained.history[:, "batches"]
    assert all({"criterion_loss", "robustness_loss"} <= set(batch[0]) for batch in batches)


def test_equal_seeds_give_bit_equal_nets_and_other_seeds_do_not(data) -> None:
    nets = [net(TRADES(random_state=s), max_epochs=2).fit(*data).module_ for s in (0, 0, 1)]
    assert np.array_equal(weights(nets[0]), weights(nets[1]))
    assert not np.array_equal(weights(nets[0]), weights(nets[2]))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"beta": -1.0}, r"^beta must be finite and at least 0, got -1.0"),
        ({"beta": float("inf")}, r"^beta must be finite and at least 0, got inf"),
        ({"eps": 0}, r"^eps must be positive and finite, got 0"),
        ({"n_steps": -3}, r"^n_steps must be a positive integer, got -3"),
        ({"start_scale": 0.0}, r"^start_scale must be positive and finite, got 0.0"),
        ({"divergence": "js"}, r"^divergence must be one of 'cross_entropy', 'kl', got 'js'"),
        ({"norm": 2}, r"^norm must be one of 'linf', 'l2', got 2"),
        ({"clip_range": (0.0, 0.5)}, r"^clip_range must contain the inputs, got \(0.0, 0.5\) for "),
    ],
)
def test_parameters_out_of_range_are_refused(data, params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(TRADES(**params)).fit(*data)


def test_a_strategy_clones_and_pickles_without_its_batch(data) -> None:
    strategy = TRADES(1.0, 0.1, norm="l2", divergence="cross_entropy", random_state=0)
    assert clone(strategy).get_params() == strategy.get_params()
    net(strategy).fit(*data)
    assert vars(pickle.loads(pickle.dumps(strategy))) == strategy.get_params()


def test_the_smoothed_classifier_trains_with_it(data) -> None:
    X, y = data[0].astype(np.float32), data[1]
    module, strategy = smooth().float(), TRADES(eps=0.1, n_steps=2)
    clf = SmoothedClassifier(module, training=strategy, random_state=0).fit(X, y)
    assert "robustness_loss" in clf.estimator_.history[-1]
    again = SmoothedClassifier(module, training=strategy, random_state=0).fit(X, y)
    assert clf.estimator_.history[-1]["train_loss"] == again.estimator_.history[-1]["train_loss"]
