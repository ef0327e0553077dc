from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor
from torch.distributions import AffineTransform, Normal, TanhTransform, TransformedDistribution

from randsmooth.training.tanh_gaussian import TanhGaussian, climb, rho_of_std

EPS = 8 / 255
N_DRAWS = 5


def by_autograd(
    objective: Callable[[TanhGaussian], Tensor],
) -> Callable[[TanhGaussian], tuple[Tensor, ...]]:
    def gradients(distribution: TanhGaussian) -> tuple[Tensor, ...]:
        mean, rho = (x.detach().requires_grad_() for x in (distribution.mean, distribution.rho))
        return torch.autograd.grad(
            objective(TanhGaussian(mean, rho, distribution.eps)), [mean, rho]
        )

    return gradients


def random_distribution(seed: int, shape: tuple[int, ...] = (6, 4)) -> tuple[TanhGaussian, Tensor]:
    rng = np.random.default_rng(seed)
    mean, rho, normal = (torch.from_numpy(rng.normal(size=shape)) for _ in range(3))
    return TanhGaussian(mean, 2 * rho, EPS), normal


def test_the_log_density_is_that_of_a_transformed_normal() -> None:
    distribution, normal = random_distribution(0)
    transforms = [TanhTransform(cache_size=1), AffineTransform(0.0, EPS, cache_size=1)]
    expected = TransformedDistribution(Normal(distribution.mean, distribution.std), transforms)
    u = distribution.mean + distribution.std * normal
    delta = transforms[1](transforms[0](u))  # cached, so that atanh does not round
    assert torch.equal(distribution.perturbations(normal), delta)
    torch.testing.assert_close(
        distribution.surprisals(normal), -expected.log_prob(delta), rtol=1e-12, atol=1e-12
    )


def test_the_mean_surprisal_is_the_entropy_found_by_integrating_the_density() -> None:
    mean, std, eps = 0.4, 0.7, 0.3

    def entropy_density(delta: float) -> float:
        u = math.atanh(delta / eps)
        slope = eps * (1 - (delta / eps) ** 2)
        p = math.exp(-((u - mean) ** 2) / (2 * std**2)) / (math.sqrt(2 * math.pi) * std * slope)
        return -p * math.log(p) if p > 0 else 0.0

    expected, _ = quad(entropy_density, -eps * (1 - 1e-9), eps * (1 - 1e-9))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    distribution = TanhGaussian(torch.tensor(mean), torch.tensor(rho_of_std(std)), eps)
    surprisals = distribution.surprisals(torch.from_numpy(nodes)).numpy()
    assert weights @ surprisals / weights.sum() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("std", [1e-12, 1e-4, 0.01, math.log(2), 3.0, 50.0])
def test_rho_gives_back_its_standard_deviation(std: float) -> None:
    rho = torch.tensor(rho_of_std(std), dtype=torch.float64)
    distribution = TanhGaussian(torch.zeros(()), rho, 1.0)
    assert distribution.std.item() == pytest.approx(std, rel=1e-9)


def test_the_published_start_has_rho_zero() -> None:
    assert rho_of_std(math.log(2)) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_parameters_have_finite_surprisals_and_gradients(dtype) -> None:
    mean = torch.tensor([0.0, 30.0, -200.0, 0.0, 5.0], dtype=dtype, requires_grad=True)
    rho = torch.tensor([-300.0, -150.0, -21.0, 80.0, -19.9], dtype=dtype, requires_grad=True)
    normal = torch.tensor([1.0, -2.0, 0.0, 3.0, 1.0], dtype=dtype)
    distribution = TanhGaussian(mean, rho, EPS)
    surprisals = distribution.surprisals(normal)
    surprisals.sum().backward()
    assert surprisals.isfinite().all()
    assert mean.grad.isfinite().all()
    assert rho.grad.isfinite().all()
    assert rho.grad[0] == pytest.approx(1.0)  # d ln sigma / d rho


def linear_climb(entropy_weight: float, n_steps: int, *, seed: int = 0, start: float = math.log(2)):
    """Climb w . delta for 40 rows of 50 coordinates; return a * sign(w) of fresh samples."""
    rng = np.random.default_rng(seed)
    w = torch.from_numpy(rng.normal(size=(40, 50)))

    def objective(distribution: TanhGaussian) -> Tensor:
        normal = torch.from_numpy(rng.normal(size=(N_DRAWS, 40, 50)))
        gain = (w * distribution.perturbations(normal)).sum() / N_DRAWS
        entropy = distribution.surprisals(normal).sum() / (N_DRAWS * 50)
        return gain + entropy_weight * entropy

    rho = torch.full_like(w, rho_of_std(start))
    end = climb(
        by_autograd(objective),
        TanhGaussian(torch.zeros_like(w), rho, EPS),
        n_steps=n_steps,
        step_size=0.3,
    )
    samples = end.perturbations(torch.from_numpy(rng.normal(size=(200, 40, 50)))) / EPS
    return samples * w.sign(), end


# Reference values for one w in 50 dimensions, with the authors' settings: one row of ours.
@pytest.mark.parametrize(
    ("entropy_weight", "n_steps", "mean", "std"),
    [
        (0.0, 7, 0.960, 0.034),
        (0.0, 50, 1.000, 0.000),
        (0.01, 7, 0.936, 0.054),
        (0.01, 50, 0.942, 0.071),
        (0.1, 7, 0.758, 0.237),
        (0.1, 50, 0.764, 0.226),
        (1.0, 7, 0.319, 0.523),
        (1.0, 50, 0.295, 0.520),
    ],
)
def test_the_ascent_of_a_linear_loss_ends_where_it_should(
    entropy_weight: float, n_steps: int, mean: float, std: float
) -> None:
    towards, _ = linear_climb(entropy_weight, n_steps)
    means, stds = towards.mean(dim=(0, 2)), towards.std(dim=0).mean(dim=1)
    for found, expected in ((means, mean), (stds, std)):
        spread = 2.5 * found.std().item() + 2e-3  # of single rows
        assert found.mean().item() == pytest.approx(expected, abs=spread)


def test_without_entropy_the_worst_distribution_is_the_corner_of_the_ball() -> None:
    towards, _ = linear_climb(0.0, 50)
    assert (EPS * (towards - 1)).abs().max().item() < 1e-3


def test_the_entropy_keeps_the_perturbations_apart() -> None:
    towards, _ = linear_climb(0.1, 50)
    assert towards.std(dim=0).mean().item() > 0.1


def test_the_published_start_does_not_collapse_in_seven_steps() -> None:
    _, end = linear_climb(0.0, 7)
    least = math.log1p(math.exp(-2.1))
    assert end.std.min().item() == pytest.approx(least, rel=1e-4)


def published_loop(
    objective: Callable[[TanhGaussian], Tensor], start: TanhGaussian, *, clears: bool
) -> TanhGaussian:
    """Adam with both betas zero, as the authors call it."""
    mean, rho = (x.clone().requires_grad_() for x in (start.mean, start.rho))
    adam = torch.optim.Adam([mean, rho], lr=0.3, betas=(0.0, 0.0), eps=1e-8, maximize=True)
    for _ in range(6):
        if clears:
            adam.zero_grad()
        objective(TanhGaussian(mean, rho, start.eps)).backward()
        adam.step()
    return TanhGaussian(mean.detach(), rho.detach(), start.eps)


@pytest.mark.parametrize("accumulate", [False, True])
def test_the_ascent_is_adam_with_both_betas_zero(accumulate: bool) -> None:
    start, _ = random_distribution(1)
    targets, _ = random_distribution(2)

    def seeded_objective() -> Callable[[TanhGaussian], Tensor]:
        rng = np.random.default_rng(3)

        def objective(distribution: TanhGaussian) -> Tensor:
            normal = torch.from_numpy(rng.normal(size=(6, 4)))
            gap = distribution.perturbations(normal) / EPS - targets.mean.tanh()
            return (0.02 * distribution.surprisals(normal) - gap.square()).sum()

        return objective

    ended = climb(
        by_autograd(seeded_objective()),
        start,
        n_steps=6,
        step_size=0.3,
        accumulate_gradients=accumulate,
    )
    by_hand = published_loop(seeded_objective(), start, clears=not accumulate)
    other = published_loop(seeded_objective(), start, clears=accumulate)
    torch.testing.assert_close(ended.mean, by_hand.mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(ended.rho, by_hand.rho, rtol=0, atol=1e-9)
    assert not torch.allclose(ended.mean, other.mean, atol=1e-3)


def test_near_zero_deviation_the_ascent_is_sign_ascent_in_tanh_space() -> None:
    rng = np.random.default_rng(4)
    hidden = torch.from_numpy(rng.normal(size=(7, 3))) * 20
    rows = torch.from_numpy(rng.normal(size=(5, 7)))

    def loss(x: Tensor) -> Tensor:
        return (x @ hidden).sin().sum()

    def objective(distribution: TanhGaussian) -> Tensor:
        normal = torch.from_numpy(rng.normal(size=(5, 7)))
        return loss(rows + distribution.perturbations(normal))

    rho = torch.full_like(rows, rho_of_std(1e-9))
    start = TanhGaussian(torch.zeros_like(rows), rho, 0.1)
    ended = climb(by_autograd(objective), start, n_steps=9, step_size=0.3)
    u = torch.zeros_like(rows)
    for _ in range(9):
        u.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(rows + 0.1 * u.tanh()), [u])
        u = u.detach() + 0.3 * gradient.sign()
    torch.testing.assert_close(ended.mean, u, rtol=0, atol=1e-4)


def test_the_ascent_leaves_its_start_alone() -> None:
    start, normal = random_distribution(5)
    mean = start.mean.clone()
    climb(by_autograd(lambda d: d.perturbations(normal).sum()), start, n_steps=2, step_size=0.3)
    assert torch.equal(start.mean, mean)
    assert not start.mean.requires_grad
    assert not start.rho.requires_grad


@pytest.mark.parametrize("entropy_weight", [0.0, 0.7])
@pytest.mark.parametrize("box", ["ball", "range"])
def test_the_gradients_are_those_of_loss_and_surprisals(entropy_weight: float, box: str) -> None:
    distribution, _ = random_distribution(5)
    distribution.rho[0, 0] = -25.0  # where softplus is exp
    distribution.mean[1] = 30.0  # where tanh rounds to 1
    rng = np.random.default_rng(6)
    eps = EPS if box == "ball" else torch.from_numpy(rng.uniform(0.01, EPS, size=(6, 4)))
    normal, weights = (torch.from_numpy(rng.normal(size=(3, 6, 4))) for _ in range(2))

    def objective(d: TanhGaussian) -> Tensor:
        loss = (weights * d.perturbations(normal).sin()).sum()
        return loss + entropy_weight * d.surprisals(normal).sum()

    distribution = TanhGaussian(distribution.mean, distribution.rho, eps)
    perturbations = distribution.perturbations(normal)
    found = distribution.gradients(normal, weights * perturbations.cos(), entropy_weight)
    for one, other in zip(found, by_autograd(objective)(distribution), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)
