"""The smoothed classifier as a module: averages, gradients and votes against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_classifiers import N_FEATURES, inputs, linear_net, smoothed
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks.objectives import row_losses
from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import victim
from randsmooth.noise import Gaussian, Stream, block_generator

N_NOISE = 7


def random_net(seed: int = 0, n_classes: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(N_FEATURES, 9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, n_classes)
    )
    return net.double().eval()


def module(net: nn.Module, **settings) -> SmoothedModule:
    n_classes = net[-1].out_features
    X = np.zeros((n_classes, N_FEATURES))
    clf = SmoothedClassifier(FrozenEstimator(net), 0.4, random_state=0)
    return SmoothedModule(victim(clf.fit(X, np.arange(n_classes))), N_NOISE, **settings)


def draws_of(attacked: SmoothedModule) -> torch.Tensor:
    generator = block_generator(attacked.victim.noise_seed, Stream.ATTACK, 0)
    drawn = Gaussian(0.4).draw(N_NOISE, (N_FEATURES,), generator, dtype=np.float64)
    return torch.from_numpy(drawn)


@pytest.mark.parametrize("average", ["probability", "loss"])
@pytest.mark.parametrize("loss", ["log_loss", "margin"])
def test_losses_and_their_gradients_are_those_of_a_loop(average: str, loss: str) -> None:
    net = random_net()
    attacked = module(net, average=average)
    X = torch.from_numpy(inputs(5).astype(float)).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 0])
    log_p, _ = attacked.draws(X)
    ours = row_losses(log_p, y, loss=loss, average=average, kappa=50.0)
    (gradient,) = torch.autograd.grad(ours.sum(), [X])

    for i in range(len(X)):
        x = X[i].detach().clone().requires_grad_()
        p = torch.stack([net(x + draw).softmax(0) for draw in draws_of(attacked)])
        rivals = [k for k in range(4) if k != y[i]]
        if average == "loss":
            own, best = p[:, y[i]].log(), p[:, rivals].log().amax(1)
            exact = (-own if loss == "log_loss" else best - own).mean()
        else:
            own, best = p.mean(0)[y[i]].log(), p.mean(0)[rivals].log().amax()
            exact = -own if loss == "log_loss" else best - own
        (by_hand,) = torch.autograd.grad(exact, [x])
        assert ours[i].item() == pytest.approx(exact.item(), rel=1e-12)
        assert torch.allclose(gradient[i], by_hand, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("average", ["probability", "loss"])
def test_the_largest_entry_is_the_class_with_the_most_votes(average: str) -> None:
    net = random_net(3)
    attacked = module(net, average=average)
    X = torch.from_numpy(np.random.default_rng(0).normal(size=(500, N_FEATURES)))
    counts = attacked.counts(X)
    outputs = attacked(X)
    top = counts.gather(1, outputs.argmax(1, keepdim=True))[:, 0]
    assert torch.equal(top, counts.amax(1))
    log_p, votes = attacked.draws(X)
    means = log_p.exp().mean(1) if average == "probability" else log_p.mean(1).exp()
    assert (means.argmax(1) != outputs.argmax(1)).any()  # where they differ votes decide
    agreed = means.argmax(1) == outputs.argmax(1)
    assert torch.allclose(outputs[agreed].exp(), means[agreed], rtol=1e-10)
    assert torch.equal(votes, log_p.argmax(2))


def test_gradients_are_not_touched_by_what_puts_the_votes_in_front() -> None:
    attacked = module(random_net(3))
    X = torch.from_numpy(np.random.default_rng(0).normal(size=(500, N_FEATURES))).requires_grad_()
    log_p, _ = attacked.draws(X)
    plain = log_p.logsumexp(1)
    (expected,) = torch.autograd.grad(plain[:, 1].sum(), [X])
    (gradient,) = torch.autograd.grad(attacked(X)[:, 1].sum(), [X])
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-14)


def test_frozen_draws_stay_and_fresh_ones_do_not() -> None:
    net = random_net()
    X = torch.from_numpy(inputs(5).astype(float))
    frozen, fresh = module(net), module(net, frozen=False)
    assert torch.equal(frozen(X), frozen(X))
    assert torch.equal(frozen(X), fresh(X))  # both begin with the first draws of the stream
    assert not torch.equal(frozen(X), fresh(X))
    again = module(net, frozen=False)
    again(X)
    assert torch.equal(again(X), _second_of(net, X))


def _second_of(net: nn.Module, X: torch.Tensor) -> torch.Tensor:
    fresh = module(net, frozen=False)
    fresh(X)
    return fresh(X)


def test_an_attack_sees_no_draw_of_a_certificate() -> None:
    drawn = [block_generator(5, stream, 0).standard_normal(1000).tobytes() for stream in Stream]
    assert len(set(drawn)) == len(Stream)


def test_many_draws_of_large_inputs_cross_the_blocks() -> None:
    class Mean(nn.Module):
        def forward(self, x):
            m = x.flatten(1).mean(1, keepdim=True)
            return torch.cat([m, -m], dim=1)

    clf = SmoothedClassifier(FrozenEstimator(Mean()), 1.0, random_state=0)
    clf.fit(np.zeros((2, 1, 600, 600), dtype=np.float32), [0, 1])
    attacked = SmoothedModule(victim(clf), 5)
    log_p, _ = attacked.draws(torch.zeros(1, 1, 600, 600))
    assert len(torch.unique(log_p[0, :, 0])) == 5


def test_weights_and_modes_are_left_alone() -> None:
    net = random_net()
    attacked = module(net)
    net.train()
    X = torch.from_numpy(inputs(5).astype(float)).requires_grad_()
    attacked(X).sum().backward()
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert X.grad.abs().sum() > 0


def test_a_single_logit_votes_by_its_threshold() -> None:
    class Logit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(N_FEATURES, 1)

        def forward(self, x):
            return self.line(x)

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, N_FEATURES)).astype(np.float32), rng.integers(0, 2, 60)
    net = NeuralNetBinaryClassifier(Logit, threshold=0.7, max_epochs=1, verbose=0, train_split=None)
    clf = SmoothedClassifier(net, 0.5, random_state=0).fit(X, y)
    attacked = SmoothedModule(victim(clf), 64)
    log_p, votes = attacked.draws(torch.from_numpy(X))
    assert torch.equal(votes, (log_p[..., 1].exp() > 0.7).long())
    assert torch.allclose(log_p.exp().sum(2), torch.ones(60, 64))


def test_reduced_precision_inside_is_attacked_as_it_is_certified() -> None:
    clf = smoothed(linear_net()).set_params(autocast="bfloat16")
    X = torch.from_numpy(inputs(5)).requires_grad_()
    out = SmoothedModule(victim(clf), 4)(X)
    assert out.dtype == torch.float32
    exact = SmoothedModule(victim(smoothed(linear_net())), 4)(X)
    assert not torch.equal(out, exact)
    assert torch.allclose(out, exact, atol=0.1)
    out.sum().backward()
    assert torch.isfinite(X.grad).all()


def test_gradients_may_have_less_precision_than_votes() -> None:
    whom = victim(smoothed(linear_net()))
    X = torch.from_numpy(inputs(50))
    fast, exact = SmoothedModule(whom, 4, autocast="bfloat16"), SmoothedModule(whom, 4)
    assert not torch.equal(fast(X), exact(X))
    assert torch.allclose(fast(X), exact(X), atol=0.1)
    assert torch.equal(fast.counts(X), exact.counts(X))


def test_many_rows_go_through_in_several_passes() -> None:
    net = random_net()
    attacked = module(net)
    X = torch.from_numpy(inputs(60).astype(float)).requires_grad_()
    log_p, _ = attacked.draws(X)
    assert log_p.shape == (60, N_NOISE, 4)
    (gradient,) = torch.autograd.grad(log_p.sum(), [X])
    one = X[[40]].detach().requires_grad_()
    (alone,) = torch.autograd.grad(attacked.draws(one)[0].sum(), [one])
    assert torch.allclose(gradient[40], alone[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average": "logits"}, "average must be one of 'probability', 'loss', got 'logits'"),
        ({"frozen": 3}, "frozen must be True or False, got 3."),
        ({"autocast": "int8"}, "autocast must be one of 'bfloat16', 'float16', got 'int8'"),
        ({"n_noise": 2.5}, "n_noise must be a positive integer, got 2.5."),
    ],
)
def test_settings_out_of_range_are_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        SmoothedModule(victim(smoothed(linear_net())), **change)


def test_a_net_that_passes_no_gradients_is_named() -> None:
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach()[:, :2] * 1.0

    attacked = SmoothedModule(victim(smoothed(Detached())), 4)
    message = r"^estimator must be differentiable in its inputs .* got Detached, whose outputs"
    with pytest.raises(TypeError, match=message):
        attacked(torch.from_numpy(inputs(2)).requires_grad_())
