from __future__ import annotations

import inspect
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback
from soft_smoothed import (
    MODULES,
    N_CLASSES,
    SIGMA,
    ImageNet,
    Probabilities,
    Recorder,
    TableNet,
    attacked_by_hand,
    begun,
    data,
    make_net,
    soft_smoothed_loss,
    stepped,
    weights,
)
from torch import Tensor, nn

from randsmooth import SmoothedClassifier
from randsmooth.noise import Ablation, Gaussian
from randsmooth.training import GaussianAugmentation
from randsmooth.training.smoothmix import SmoothMix


def smoothmix(eta: float = 2.0, **params: Any) -> SmoothMix:
    settings = {
        "n_draws": 3,
        "n_steps": 3,
        "step_size": 0.3,
        "warm_up": 0,
        "noise": Gaussian(SIGMA),
        "random_state": 7,
        **params,
    }
    return SmoothMix(eta, **settings)


class Watched(SmoothMix):
    """Keeps what every batch was mixed from, the noise taken off."""

    def prepare(self, net: Any, inputs: Tensor, targets: Any) -> Tensor:
        self.seen = [*getattr(self, "seen", [])]
        rows = super().prepare(net, inputs, targets)
        draws = rows[: len(inputs)] - inputs
        mixture = self.noisy_mixture_[: len(inputs)] - draws
        shape = (-1, *[1] * (inputs.ndim - 1))
        adversary = inputs + (mixture - inputs) / self.mixing_.reshape(shape)
        self.seen.append((self.mixing_.clone(), adversary - inputs))
        return rows


def watched(X: np.ndarray, y: np.ndarray, net: dict[str, Any], **params: Any) -> list[Any]:
    """Return the lambdas and the perturbations of every batch."""
    strategy = Watched(**smoothmix(**params).get_params())
    make_net(strategy, **net).fit(X, y)
    return strategy.seen


def terms_by_hand(
    module: nn.Module, clean: Tensor, adversary: Tensor, y: Tensor, draws: list[Tensor], lam: Tensor
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and mixup loss of Jeong et al. (2021), one row and draw at a time."""
    criterion, mixup = [], []
    for i in range(len(y)):
        x, worst = clean[i : i + 1], adversary[i : i + 1]
        probabilities = [module(x + draw[i : i + 1]).softmax(dim=1)[0] for draw in draws]
        mean = sum(probabilities) / len(draws)
        criterion += [-p[y[i]].log() for p in probabilities]
        target = (1 - lam[i]) * mean + lam[i] / N_CLASSES
        right = float(mean.argmax() == y[i])
        for draw in draws:
            q = module((1 - lam[i]) * x + lam[i] * worst + draw[i : i + 1]).softmax(dim=1)[0]
            mixup.append(right * (target * (target / q).log()).sum())
    return torch.stack(criterion).mean(), torch.stack(mixup).mean()


@pytest.mark.parametrize("one_step", [False, True])
@pytest.mark.parametrize(
    ("kind", "n_draws", "max_length"), [("table", 1, None), ("table", 3, 0.4), ("image", 3, None)]
)
def test_a_step_is_the_gradient_step_of_the_papers_loss(
    kind: str, n_draws: int, max_length: float | None, one_step: bool
) -> None:
    X, y = data(kind)
    strategy = smoothmix(
        n_draws=n_draws, step_size=0.1, max_length=max_length, one_step_adversary=one_step
    )
    trained = make_net(strategy, module=MODULES[kind]).fit(X, y)

    x, targets = torch.from_numpy(X), torch.from_numpy(y)
    replayed = begun(strategy)
    draws = list(replayed.draw(x).chunk(n_draws))
    lam = torch.from_numpy(replayed.mixing_generator_.uniform(0, 0.5, len(X)))
    torch.manual_seed(0)
    module = MODULES[kind]()
    radius = max_length or math.inf
    iterates = attacked_by_hand(module, x, targets, draws, radius=radius, n_steps=3, step_size=0.1)
    clean = iterates[1] if one_step else x
    criterion, mixup = terms_by_hand(module, clean, iterates[-1], targets, draws, lam)
    assert trained.history[-1]["criterion_loss"] == pytest.approx(criterion.item(), rel=1e-10)
    assert trained.history[-1]["mixup_loss"] == pytest.approx(2 * mixup.item(), rel=1e-9)
    # Some rows are right and some are wrong, or the indicator would not have been tried.
    means = sum(module(clean + draw).softmax(dim=1) for draw in draws)
    assert 0 < (means.argmax(dim=1) == targets).sum() < len(X)
    expected = stepped(module, criterion + 2 * mixup)
    for got, wanted in zip(weights(trained), expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-10)


def test_gradients_flow_through_the_mixed_target() -> None:
    X, y = data()
    strategy = smoothmix(20.0, n_steps=1)
    trained = make_net(strategy).fit(X, y)
    x, targets, replayed = torch.from_numpy(X), torch.from_numpy(y), begun(strategy)
    draws = replayed.draw(x)
    lam = torch.from_numpy(replayed.mixing_generator_.uniform(0, 0.5, 12))[:, None]
    torch.manual_seed(0)
    module = TableNet()
    _, worst = attacked_by_hand(
        module, x, targets, list(draws.chunk(3)), radius=math.inf, n_steps=1, step_size=0.3
    )
    clean = module(x.repeat(3, 1) + draws)
    mean = clean.softmax(1).reshape(3, 12, 3).mean(0).detach()
    q = ((1 - lam) * mean + lam / 3).repeat(3, 1)
    log_p = module(((1 - lam) * x + lam * worst).repeat(3, 1) + draws).log_softmax(1)
    right = (mean.argmax(1) == targets).repeat(3)
    mixup = (right * (q * (q.log() - log_p)).sum(1)).mean()
    detached = stepped(module, nn.functional.cross_entropy(clean, targets.repeat(3)) + 20 * mixup)
    assert trained.history[-1]["mixup_loss"] == pytest.approx(20 * mixup.item(), rel=1e-9)
    assert np.abs(weights(trained)[0] - detached[0]).max() > 1e-5


@pytest.mark.parametrize("warm_up", [0, 10])
def test_at_eta_zero_it_is_gaussian_augmentation_with_as_many_draws(warm_up: int) -> None:
    X, y = data()
    several = {"max_epochs": 3, "batch_size": 5}
    mixed = make_net(smoothmix(0.0, warm_up=warm_up), **several).fit(X, y)
    plain = GaussianAugmentation(n_draws=3, noise=Gaussian(SIGMA), random_state=7)
    augmented = make_net(plain, **several).fit(X, y)
    for got, expected in zip(weights(mixed), weights(augmented), strict=True):
        assert (got == expected).all()
    assert mixed.history[:, "mixup_loss"] == [0.0] * 3


def test_a_row_that_is_wrong_on_average_is_left_out() -> None:
    X, _ = data()
    wrong = make_net().initialize().predict(X)
    strategy = smoothmix(noise=Gaussian(1e-9))
    assert make_net(strategy).fit(X, (wrong + 1) % 3).history[-1]["mixup_loss"] == 0
    assert make_net(strategy).fit(X, wrong).history[-1]["mixup_loss"] > 0


def test_eta_grows_over_the_warm_up_epochs() -> None:
    X, y = data()
    frozen = {"lr": 0.0, "max_epochs": 5}
    full = make_net(smoothmix(2.0), **frozen).fit(X, y).history[:, "mixup_loss"]
    warm = make_net(smoothmix(2.0, warm_up=4), **frozen).fit(X, y).history[:, "mixup_loss"]
    shares = np.array(warm) / np.array(full)
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1], rel=1e-9)
    # The attack itself does not warm up: only the weight of what is learnt from it.
    for _, delta in watched(X, y, frozen, warm_up=4, n_steps=1):
        assert delta.norm(dim=1).numpy() == pytest.approx(0.3, rel=1e-6)


def test_the_one_step_adversary_grows_over_the_warm_up_epochs() -> None:
    X, y = data()
    strategy = smoothmix(one_step_adversary=True, warm_up=4, step_size=0.2)
    recorder = Recorder()
    make_net(strategy, recorder, max_epochs=5).fit(X, y)
    replayed, x = begun(strategy), torch.from_numpy(X)
    for rows, length in zip(recorder.rows_, [0.05, 0.1, 0.15, 0.2, 0.2], strict=True):
        delta = rows - replayed.draw(x) - x.repeat(3, 1)
        assert delta.norm(dim=1).numpy() == pytest.approx(length, rel=1e-9)


def test_mixing_weights_are_uniform_up_to_a_half_one_for_each_row_of_each_batch() -> None:
    X, y = data(n_rows=500)
    seen = watched(X, y, {"max_epochs": 4}, n_steps=1, n_draws=1)
    lam = torch.cat([weight for weight, _ in seen]).numpy()
    assert len(np.unique(lam)) == 2000
    assert lam.min() >= 0
    assert lam.max() <= 0.5
    assert lam.mean() == pytest.approx(0.25, abs=0.01)
    assert np.histogram(lam, bins=5, range=(0, 0.5))[0] == pytest.approx(400, abs=70)


def test_every_draw_of_a_row_is_mixed_with_the_same_weight_and_noise() -> None:
    X, y = data("image")
    strategy, moved = smoothmix(), []

    class Kept(Callback):
        def on_batch_begin(self, net, batch=None, **kwargs):
            moved.extend((strategy.noisy_mixture_ - batch[0]).chunk(3))

    make_net(strategy, Kept(), module=ImageNet).fit(X, y)
    for copy in moved[1:]:
        assert copy.numpy() == pytest.approx(moved[0].numpy(), abs=1e-12)
    assert all(part.abs().max() > 0.01 for part in moved)


@pytest.mark.parametrize("kind", ["table", "image"])
def test_the_attack_is_as_long_as_its_steps_and_raises_the_loss(kind: str) -> None:
    X, y = data(kind)
    ((_, delta),) = watched(X, y, {"module": MODULES[kind]}, n_steps=5, step_size=0.05)
    length = delta.flatten(1).norm(dim=1)
    assert (length < 0.25 + 1e-6).all()
    assert length.mean() > 0.2
    x, targets = torch.from_numpy(X), torch.from_numpy(y)
    draws = list(begun(smoothmix()).draw(x).chunk(3))
    torch.manual_seed(0)
    module = MODULES[kind]()
    before = soft_smoothed_loss(module, x, targets, draws)
    assert (soft_smoothed_loss(module, x + delta, targets, draws) > before).all()


def test_the_adversary_leaves_neither_the_clip_range_nor_its_longest_length() -> None:
    X, y = data()
    X[:, 0], X[:, 1] = 0.0, 1.0
    ((_, boxed),) = watched(X, y, {}, n_steps=10)
    assert (torch.from_numpy(X) + boxed).min() > -1e-6
    assert (torch.from_numpy(X) + boxed).max() < 1 + 1e-6
    ((_, short),) = watched(X, y, {}, n_steps=10, max_length=0.1, clip_range=None)
    assert short.norm(dim=1).numpy() == pytest.approx(0.1, rel=1e-5)
    ((_, free),) = watched(X - 9, y, {}, n_steps=20, step_size=1.0, clip_range=None)
    assert free.norm(dim=1).max() > 5


def test_noisy_rows_are_not_clipped_and_have_the_certified_scale() -> None:
    X, y = data("image", n_rows=200)
    recorder = Recorder()
    make_net(smoothmix(), recorder, module=ImageNet).fit(X, y)
    rows = recorder.rows_[0]
    assert rows.min() < -0.5
    assert rows.max() > 1.5
    assert (rows - torch.from_numpy(X).repeat(3, 1, 1, 1)).std().item() == pytest.approx(
        SIGMA, rel=0.01
    )


@pytest.mark.parametrize("one_step", [False, True])
def test_a_batch_costs_the_attack_the_training_pass_and_one_more(one_step: bool) -> None:
    X, y = data()
    net = make_net(smoothmix(n_steps=5, one_step_adversary=one_step)).initialize()
    passes = []
    net.module_.register_forward_hook(
        lambda module, args, out: passes.append((len(args[0]), module.training))
    )
    net.partial_fit(X, y)
    assert passes == [(36, False)] * 5 + [(36, True)] * 2


def test_probabilities_under_nll_are_mixed_as_logits_under_cross_entropy() -> None:
    X, y = data()
    logits = make_net(smoothmix()).fit(X, y)
    probabilities = make_net(smoothmix(), module=Probabilities, criterion=nn.NLLLoss).fit(X, y)
    for got, expected in zip(weights(probabilities), weights(logits), strict=True):
        assert got == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("columns", [0, 1])
def test_a_single_logit_is_two_classes(columns: int) -> None:
    X, _ = data()
    module = nn.Linear(5, 1).double()
    y = np.arange(12) % 2
    strategy = smoothmix(n_draws=2, n_steps=1)
    net = make_net(
        strategy,
        kind=NeuralNetBinaryClassifier,
        module=lambda: nn.Sequential(module, nn.Flatten(columns)),
        criterion=nn.BCEWithLogitsLoss,
        lr=0.0,
    ).fit(X, y.astype(np.float64))
    x, targets, replayed = torch.from_numpy(X), torch.from_numpy(y), begun(strategy)
    draws = replayed.draw(x)
    lam = torch.from_numpy(replayed.mixing_generator_.uniform(0, 0.5, 12))[:, None]
    direction = module.weight.detach() / module.weight.detach().norm()
    worst = (x + 0.3 * direction * (1 - 2 * targets)[:, None]).clamp(0, 1)

    def p(rows: Tensor) -> Tensor:
        logit = module(rows).detach()
        return torch.cat([torch.sigmoid(-logit), torch.sigmoid(logit)], dim=1)

    mean = p(x.repeat(2, 1) + draws).reshape(2, 12, 2).mean(0)
    q = ((1 - lam) * mean + lam / 2).repeat(2, 1)
    mixed = p(((1 - lam) * x + lam * worst).repeat(2, 1) + draws)
    right = (mean.argmax(1) == targets).repeat(2)
    term = (right * (q * (q / mixed).log()).sum(1)).mean()
    assert net.history[-1]["mixup_loss"] == pytest.approx(2 * term.item(), rel=1e-9)


def test_very_confident_predictions_have_a_finite_loss_and_gradient() -> None:
    X, _ = data()
    net = make_net(smoothmix(noise=Gaussian(0.01)), module=TableNet, lr=1e-3).initialize()
    with torch.no_grad():
        for parameter in net.module_.parameters():
            parameter.mul_(1e4)
    net.partial_fit(X, net.predict(X))
    assert math.isfinite(net.history[-1]["mixup_loss"])
    assert all(np.isfinite(weight).all() for weight in weights(net))


def test_equal_seeds_give_equal_nets_and_other_seeds_other_nets() -> None:
    X, y = data()
    several = {"max_epochs": 2, "batch_size": 5}
    first, second, third = (
        weights(make_net(smoothmix(random_state=seed), **several).fit(X, y)) for seed in (7, 7, 8)
    )
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert (first[0] != third[0]).all()


def test_the_failure_probability_of_the_certificate_is_no_part_of_the_attack() -> None:
    assert "alpha" not in inspect.signature(SmoothMix).parameters
    X, y = data(n_rows=30)
    trained = []
    for alpha in (0.001, 0.4):
        torch.manual_seed(0)
        net = make_net(module=nn.Linear, module__in_features=5, module__out_features=3)
        clf = SmoothedClassifier(net, training=SmoothMix(), alpha=alpha, random_state=0)
        trained.append(weights(clf.fit(X.astype(np.float32), y).estimator_))
    assert (trained[0][0] == trained[1][0]).all()


def test_a_trained_strategy_pickles_as_its_parameters() -> None:
    X, y = data()
    strategy = smoothmix()
    make_net(strategy).fit(X, y)
    assert set(vars(pickle.loads(pickle.dumps(strategy)))) == set(strategy.get_params())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"eta": -1.0}, r"^eta must be finite and at least 0, got -1.0"),
        ({"eta": float("nan")}, r"^eta must be finite and at least 0, got nan"),
        ({"step_size": 0.0}, r"^step_size must be positive and finite, got 0.0"),
        ({"max_length": 0.0}, r"^max_length must be positive and finite, got 0.0"),
        ({"n_draws": 0}, r"^n_draws must be a positive integer, got 0"),
        ({"n_steps": 0}, r"^n_steps must be a positive integer, got 0"),
        (
            {"n_steps": 1, "one_step_adversary": True},
            r"^n_steps must be an integer of at least 2, got 1",
        ),
        ({"warm_up": 1.5}, r"^warm_up must be an integer of at least 0, got 1.5"),
        ({"clip_range": 1.0}, r"^clip_range must be None or two numbers, .* got 1.0"),
        ({"clip_range": (0.5, 1.0)}, r"^clip_range must contain the inputs, got \(0.5, 1.0\) for"),
        ({"noise": Ablation(2)}, r"^noise must be added to the inputs for SmoothMix, .* got Abla"),
    ],
)
def test_bad_parameters_are_refused_before_any_training(params, message: str) -> None:
    X, y = data()
    with pytest.raises(ValueError, match=message):
        make_net(smoothmix(**params)).fit(X, y)


def test_the_default_steps_are_eight_sigma_long_together() -> None:
    X, y = data()
    params = {"step_size": None, "clip_range": None, "n_steps": 1, "n_draws": 1}
    ((_, delta),) = watched(X, y, {}, **params)
    assert delta.norm(dim=1).numpy() == pytest.approx(8 * SIGMA, rel=1e-6)
