from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from soft_smoothed import (
    MODULES,
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
from randsmooth.noise import Ablation, Gaussian, Laplace
from randsmooth.training import GaussianAugmentation
from randsmooth.training.smoothadv import SmoothAdv


class Standardising(TableNet):
    """A network that scales its inputs by four before it looks at them."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(4 * (x.double() - 0.5))


def smoothadv(eps: float = 0.2, **params: Any) -> SmoothAdv:
    settings = {"warm_up": 0, "noise": Gaussian(SIGMA), "random_state": 7, **params}
    return SmoothAdv(eps, **settings)


def chunks(draws: Tensor, n_draws: int) -> list[Tensor]:
    return list(draws.chunk(n_draws))


@pytest.mark.parametrize("kind", ["table", "image"])
@pytest.mark.parametrize(("n_draws", "eps"), [(1, 0.2), (3, 0.2), (3, 2.0)])
def test_a_step_is_the_gradient_step_on_inputs_attacked_by_hand(
    kind: str, n_draws: int, eps: float
) -> None:
    X, y = data(kind)
    strategy, recorder = smoothadv(eps, n_draws=n_draws, n_steps=4), Recorder()
    trained = make_net(strategy, recorder, module=MODULES[kind]).fit(X, y)

    x, targets = torch.from_numpy(X), torch.from_numpy(y)
    draws = chunks(begun(strategy).draw(x), n_draws)
    torch.manual_seed(0)
    module = MODULES[kind]()
    *_, attacked = attacked_by_hand(
        module, x, targets, draws, radius=eps, n_steps=4, step_size=2 * eps / 4
    )
    rows = torch.cat([attacked + draw for draw in draws])
    assert recorder.rows_[0].numpy() == pytest.approx(rows.numpy(), abs=1e-12)
    loss = nn.functional.cross_entropy(module(rows), targets.repeat(n_draws))
    assert trained.history[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-12)
    for got, expected in zip(weights(trained), stepped(module, loss), strict=True):
        assert got == pytest.approx(expected, abs=1e-12)


def attacks(strategy: SmoothAdv, X: np.ndarray, y: np.ndarray, **params: Any) -> list[Tensor]:
    """Return the perturbations of every epoch, the noise taken off the rows again."""
    recorder = Recorder()
    make_net(strategy, recorder, **params).fit(X, y)
    replayed, x = begun(strategy), torch.from_numpy(X)
    m = strategy.n_draws
    found = []
    for rows in recorder.rows_:
        copies = torch.stack(chunks(rows - replayed.draw(x), m))
        assert copies.numpy() == pytest.approx(copies[:1].expand_as(copies).numpy(), abs=1e-12)
        found.append(copies[0] - x)
    return found


def test_the_attack_fills_an_l2_ball_and_no_linf_ball() -> None:
    X, y = data("image")
    (delta,) = attacks(smoothadv(0.25), X, y, module=ImageNet)
    assert delta.flatten(1).norm(dim=1).numpy() == pytest.approx(0.25, rel=1e-9)
    sizes = delta.flatten(1).abs()
    assert (sizes.amax(dim=1) > 3 * sizes.amin(dim=1)).all()


def test_the_radius_grows_over_the_warm_up_epochs_and_the_step_with_it() -> None:
    X, y = data()
    found = attacks(smoothadv(0.2, n_steps=1, step_size=0.1, warm_up=4), X, y, max_epochs=6)
    lengths = [delta.norm(dim=1).numpy() for delta in found]
    for length, expected in zip(lengths, [0.025, 0.05, 0.075, 0.1, 0.1, 0.1], strict=True):
        assert length == pytest.approx(expected, rel=1e-9)
    found = attacks(smoothadv(0.2, n_steps=8, warm_up=4), X, y, max_epochs=6)
    lengths = [delta.norm(dim=1).max().item() for delta in found]
    assert lengths == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2], rel=1e-9)


def test_training_that_goes_on_does_not_warm_up_again() -> None:
    X, y = data()
    strategy, recorder = smoothadv(0.2, n_draws=1, n_steps=1, warm_up=2), Recorder()
    net = make_net(strategy, recorder, max_epochs=3).fit(X, y)
    replayed = begun(strategy, net)
    net.partial_fit(X, y)
    delta = recorder.rows_[0] - replayed.draw(torch.from_numpy(X)) - torch.from_numpy(X)
    assert delta.norm(dim=1).numpy() == pytest.approx(0.2, rel=1e-9)


def test_the_noise_is_not_counted_as_perturbation_nor_clipped() -> None:
    X, y = data("image", n_rows=200)
    strategy, recorder = smoothadv(0.1, n_draws=4, n_steps=2), Recorder()
    make_net(strategy, recorder, module=ImageNet).fit(X, y)
    rows = recorder.rows_[0]
    noise = rows - torch.from_numpy(X).repeat(4, 1, 1, 1)
    assert rows.min() < -0.5
    assert rows.max() > 1.5
    assert noise.std().item() == pytest.approx(SIGMA, rel=0.01)


def test_attacked_inputs_stay_in_the_clip_range() -> None:
    X, y = data()
    X[:, 0], X[:, 1] = 0.0, 1.0
    (delta,) = attacks(smoothadv(0.5), X, y)
    attacked = torch.from_numpy(X) + delta
    assert attacked.min() > -1e-12
    assert attacked.max() < 1 + 1e-12
    assert delta.norm(dim=1).max() < 0.5 + 1e-9
    (free,) = attacks(smoothadv(0.5, clip_range=None), X - 5, y)
    assert free.norm(dim=1).numpy() == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("kind", ["table", "image"])
def test_the_attack_raises_the_loss_of_the_soft_smoothed_classifier(kind: str) -> None:
    X, y = data(kind)
    strategy = smoothadv(0.3, n_draws=8)
    (delta,) = attacks(strategy, X, y, module=MODULES[kind])
    torch.manual_seed(0)
    module, x, targets = MODULES[kind](), torch.from_numpy(X), torch.from_numpy(y)
    draws = chunks(begun(strategy).draw(x), 8)
    before = soft_smoothed_loss(module, x, targets, draws)
    after = soft_smoothed_loss(module, x + delta, targets, draws)
    assert (after > before).all()
    for seed in range(5):
        random = torch.from_numpy(np.random.default_rng(seed).normal(size=X.shape))
        random *= 0.3 / random.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
        assert (after > soft_smoothed_loss(module, x + random, targets, draws)).all()


def test_the_attack_climbs_the_log_of_the_average_and_not_the_average_log() -> None:
    X, y = data()
    strategy = smoothadv(0.3, n_draws=3, n_steps=1, noise=Gaussian(3.0))
    (delta,) = attacks(strategy, X, y)
    torch.manual_seed(0)
    module = TableNet()
    x = torch.from_numpy(X).requires_grad_()
    draws = begun(strategy).draw(x)
    logits = module(x.repeat(3, 1) + draws)
    nn.functional.cross_entropy(logits, torch.from_numpy(y).repeat(3), reduction="sum").backward()
    cosines = nn.functional.cosine_similarity(delta, x.grad)
    assert cosines.min() < 0.99


def test_a_tiny_radius_is_gaussian_augmentation_with_as_many_draws() -> None:
    X, y = data()
    attacked = make_net(smoothadv(1e-12, n_draws=3), max_epochs=3, batch_size=5).fit(X, y)
    plain = GaussianAugmentation(n_draws=3, noise=Gaussian(SIGMA), random_state=7)
    augmented = make_net(plain, max_epochs=3, batch_size=5).fit(X, y)
    for got, expected in zip(weights(attacked), weights(augmented), strict=True):
        assert got == pytest.approx(expected, abs=1e-10)


def test_equal_seeds_give_equal_nets_and_leave_torchs_generator_alone() -> None:
    X, y = data()
    nets = [make_net(smoothadv(), max_epochs=2, batch_size=5) for _ in range(2)]
    first = weights(nets[0].initialize().partial_fit(X, y))
    torch.manual_seed(0)
    nets[1].initialize()
    torch.manual_seed(99)
    second = weights(nets[1].partial_fit(X, y))
    for one, other in zip(first, second, strict=True):
        assert (one == other).all()
    third = weights(make_net(smoothadv(random_state=8), max_epochs=2, batch_size=5).fit(X, y))
    assert (first[0] != third[0]).all()


def test_a_batch_costs_one_pass_for_each_step_and_one_to_train() -> None:
    X, y = data()
    net = make_net(smoothadv(n_draws=3, n_steps=5)).initialize()
    passes = []
    net.module_.register_forward_hook(
        lambda module, args, out: passes.append((len(args[0]), module.training))
    )
    net.partial_fit(X, y)
    assert passes == [(36, False)] * 5 + [(36, True)]


def test_dropout_is_off_in_the_attack_and_on_again_in_the_step() -> None:
    X, y = data()
    one = attacks(smoothadv(), X, y, module__dropout=0.9)
    other = attacks(smoothadv(), X, y)
    assert one[0].numpy() == pytest.approx(other[0].numpy(), abs=1e-12)
    net = make_net(smoothadv(), module__dropout=0.9).fit(X, y)
    assert all(p.requires_grad for p in net.module_.parameters())


def test_probabilities_under_nll_are_attacked_as_logits_under_cross_entropy() -> None:
    X, y = data()
    logits = make_net(smoothadv()).fit(X, y)
    probabilities = make_net(smoothadv(), module=Probabilities, criterion=nn.NLLLoss).fit(X, y)
    for got, expected in zip(weights(probabilities), weights(logits), strict=True):
        assert got == pytest.approx(expected, abs=1e-9)


def test_a_single_logit_is_attacked_away_from_either_class() -> None:
    X, _ = data()
    y = np.arange(12) % 2
    (delta,) = attacks(
        smoothadv(0.2, n_draws=2),
        X,
        y.astype(np.float64),
        kind=NeuralNetBinaryClassifier,
        module=lambda: nn.Linear(5, 1).double(),
        criterion=nn.BCEWithLogitsLoss,
    )
    torch.manual_seed(0)
    direction = nn.Linear(5, 1).double().weight[0].detach()
    # On a linear net the worst case is known: down the weight for class 1, up for class 0.
    expected = 0.2 * direction / direction.norm() * torch.from_numpy(1.0 - 2 * y)[:, None]
    assert delta.numpy() == pytest.approx(expected.numpy(), abs=1e-9)


def test_confident_rows_are_attacked_in_single_precision_too() -> None:
    X = np.full((4, 5), 0.5, dtype=np.float32)
    y = np.arange(4) % 2
    recorder = Recorder()
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=5,
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
        callbacks=[smoothadv(0.1, n_draws=1, noise=Gaussian(1e-6)), recorder],
        train_split=None,
        max_epochs=1,
        verbose=0,
    ).initialize()
    with torch.no_grad():
        net.module_.weight.copy_(torch.tensor([[10.0] * 5, [-10.0] * 5]))
        net.module_.bias.copy_(torch.zeros(2))
    # A gap of 50 between the logits: in single precision the right probability is exactly 1.
    assert (net.predict_proba(X)[:, 0] == 1).all()
    net.partial_fit(X, y)
    length = (recorder.rows_[0] - torch.from_numpy(X)).norm(dim=1)
    assert length.numpy() == pytest.approx(0.1, rel=1e-3)


def test_a_lazy_module_sees_its_first_batch_before_the_attack() -> None:
    X, y = data()
    lazy = {"module": nn.LazyLinear, "module__out_features": 3}
    trained = make_net(smoothadv(), **lazy).fit(X.astype(np.float32), y)
    assert trained.module_.weight.shape == (3, 5)
    assert trained.module_.weight.requires_grad


def test_the_noise_has_the_certified_scale_whatever_the_net_does_to_its_inputs() -> None:
    X, y = data(n_rows=60)
    net = make_net(("recorder", Recorder()), module=Standardising)
    strategy = SmoothAdv(1e-6, n_draws=40, n_steps=1)
    clf = SmoothedClassifier(net, sigma=0.3, training=strategy, random_state=0).fit(X, y)
    (rows,) = dict(clf.estimator_.callbacks_)["recorder"].rows_
    assert clf.noise_ == Gaussian(0.3)
    assert (rows - torch.from_numpy(X).repeat(40, 1)).std().item() == pytest.approx(0.3, rel=0.02)


def test_the_failure_probability_of_the_certificate_is_no_part_of_the_attack() -> None:
    X, y = data(n_rows=30)
    trained = []
    for alpha in (0.001, 0.4):
        torch.manual_seed(0)
        net = make_net(module=nn.Linear, module__in_features=5, module__out_features=3)
        clf = SmoothedClassifier(net, training=SmoothAdv(0.3), alpha=alpha, random_state=0)
        trained.append(weights(clf.fit(X.astype(np.float32), y).estimator_))
    assert (trained[0][0] == trained[1][0]).all()


def test_its_parameters_are_searched_and_it_pickles() -> None:
    X, y = data(n_rows=30)
    strategy = SmoothAdv(0.3, n_draws=2, n_steps=2, noise=Laplace(0.2), random_state=0)
    net = make_net().set_params(callbacks=[("smoothadv", strategy)])
    grid = {"callbacks__smoothadv__eps": [0.1, 0.3]}
    search = GridSearchCV(net, grid, cv=2, error_score="raise").fit(X, y)
    best = search.best_estimator_
    assert pickle.loads(pickle.dumps(best)).get_params()["callbacks__smoothadv__n_steps"] == 2
    copy = pickle.loads(pickle.dumps(strategy))
    assert set(vars(copy)) == set(strategy.get_params())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"eps": 0.0}, r"^eps must be positive and finite, got 0.0"),
        ({"eps": -1.0}, r"^eps must be positive and finite, got -1.0"),
        ({"step_size": 0.0}, r"^step_size must be positive and finite, got 0.0"),
        ({"n_draws": 0}, r"^n_draws must be a positive integer, got 0"),
        ({"n_steps": 0}, r"^n_steps must be a positive integer, got 0"),
        ({"warm_up": -1}, r"^warm_up must be an integer of at least 0, got -1"),
        ({"clip_range": (1, 0)}, r"^clip_range must be None or two numbers, .* got \(1, 0\)"),
        ({"clip_range": (0.0, 0.5)}, r"^clip_range must contain the inputs, got \(0.0, 0.5\) for"),
        ({"noise": Ablation(2)}, r"^noise must be added to the inputs for SmoothAdv, .* got Abla"),
        ({"noise": None}, r"^noise must be a Noise object such as .* where SmoothAdv .* got None"),
    ],
)
def test_bad_parameters_are_refused_before_any_training(params, message: str) -> None:
    X, y = data()
    with pytest.raises(ValueError, match=message):
        make_net(smoothadv(**params)).fit(X, y)
