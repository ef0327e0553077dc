from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from randsmooth.training.perturbation import (
    Ball,
    as_tensor,
    ascend,
    frozen,
    steepest_step,
    warmed_up,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(generator(seed).normal(size=shape)).to(dtype)


def lengths(x: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(x.flatten(1), ord=2 if norm == "l2" else torch.inf, dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(50, 6), (50, 2, 3, 3)])
@pytest.mark.parametrize("clip_range", [None, (-1.0, 1.0)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projected_rows_lie_in_the_ball_and_in_the_clip_range(norm, clip_range, shape, dtype):
    centre = rows(*shape, dtype=dtype).clamp(-1, 1)
    x = centre + rows(*shape, seed=1, dtype=dtype)
    projected = Ball(0.7, norm, clip_range).project(x, centre)
    assert projected.dtype == dtype
    assert projected.shape == x.shape
    rounding = 4 * torch.finfo(dtype).eps
    assert lengths(projected - centre, norm).max() <= 0.7 + rounding
    if clip_range is not None:
        assert projected.abs().max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_projection_is_the_nearest_point_of_the_ball(norm: str) -> None:
    centre, x = rows(1, 2), rows(1, 2) + torch.tensor([[0.9, -0.2]], dtype=torch.float64)
    projected = Ball(0.5, norm, None).project(x, centre)
    angle = torch.linspace(0, 2 * torch.pi, 10_001, dtype=torch.float64)
    directions = torch.stack([angle.cos(), angle.sin()], dim=1)
    boundary = centre + 0.5 * directions / lengths(directions, norm)[:, None]
    nearest = boundary[lengths(boundary - x, "l2").argmin()]
    assert projected[0] == pytest.approx(nearest, abs=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rows_inside_the_ball_stay_where_they_are(norm: str) -> None:
    centre = rows(20, 5)
    x = centre + 0.01 * rows(20, 5, seed=1)
    assert Ball(1.0, norm, None).project(x, centre) == pytest.approx(x, abs=1e-15)
    assert torch.equal(Ball(1.0, norm, None).project(centre, centre), centre)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_infinite_ball_leaves_only_the_clip_range(norm: str) -> None:
    x = 5 * rows(20, 5)
    assert torch.equal(Ball(float("inf"), norm, None).project(x, rows(20, 5, seed=1)), x)
    clipped = Ball(float("inf"), norm, (0.0, 1.0)).project(x, rows(20, 5, seed=1))
    assert torch.equal(clipped, x.clamp(0, 1))


def test_rows_are_projected_one_by_one() -> None:
    centre = torch.zeros(2, 3, dtype=torch.float64)
    x = torch.tensor([[3.0, 0.0, 4.0], [0.1, 0.0, 0.0]], dtype=torch.float64)
    projected = Ball(1.0, "l2", None).project(x, centre)
    expected = torch.tensor([[0.6, 0.0, 0.8], [0.1, 0.0, 0.0]], dtype=torch.float64)
    assert projected == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("n_coordinates", [1, 3, 20])
def test_random_points_of_the_euclidean_ball_are_uniform(n_coordinates: int) -> None:
    centre = torch.full((4000, n_coordinates), 0.3, dtype=torch.float64)
    delta = Ball(2.0, "l2", None).random_point(centre, generator(1)) - centre
    volume = (lengths(delta, "l2") / 2.0) ** n_coordinates
    assert volume.max() <= 1 + 1e-12
    assert kstest(volume.numpy(), "uniform").pvalue > 0.01
    # Uniform in direction: no coordinate is preferred, in mean or in spread.
    spread = (delta.square().mean(0) * (n_coordinates + 2) / 4.0).numpy()
    assert spread == pytest.approx(1.0, abs=0.12)
    assert delta.mean(0).numpy() == pytest.approx(0.0, abs=0.12)


def test_random_points_of_the_cube_are_uniform() -> None:
    centre = torch.zeros(1000, 2, 3, dtype=torch.float64)
    delta = Ball(0.3, "linf", None).random_point(centre, generator(1))
    assert kstest((delta / 0.3).flatten().numpy(), "uniform", args=(-1, 2)).pvalue > 0.01
    assert torch.unique(delta).numel() == delta.numel()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_points_are_clipped_and_repeat_by_seed(norm: str) -> None:
    centre = torch.zeros(100, 4)
    ball = Ball(0.3, norm, (0.0, 1.0))
    points = ball.random_point(centre, generator(1))
    assert points.dtype == torch.float32
    assert points.min() >= 0
    assert torch.equal(points, ball.random_point(centre, generator(1)))
    assert not torch.equal(points, ball.random_point(centre, generator(2)))


def test_the_steepest_step_is_the_sign_or_the_normalised_gradient() -> None:
    gradient = torch.tensor([[3.0, 0.0, -4.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    signs = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert torch.equal(steepest_step(gradient, "linf"), signs)
    unit = torch.tensor([[0.6, 0.0, -0.8], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert steepest_step(gradient, "l2") == pytest.approx(unit, abs=1e-15)


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-20, 1.0, 1e20, 1e37])
def test_gradients_whose_square_leaves_the_range_are_steps_of_length_one(scale: float) -> None:
    """A saturated net's gradients are tiny: squared in single precision they are zero."""
    direction = rows(8, 2, 5, dtype=torch.float32)
    step = steepest_step(direction * scale, "l2")
    assert lengths(step, "l2") == pytest.approx(torch.ones(8), abs=1e-5)
    assert step == pytest.approx(steepest_step(direction, "l2"), abs=1e-5)


@pytest.mark.parametrize("clip_range", [None, (-1.0, 1.0)])
def test_ascent_on_a_linear_loss_reaches_the_cube_s_maximiser(clip_range) -> None:
    weight, centre = rows(5, 7), rows(5, 7, seed=1).clamp(-1, 1)
    best = centre + 0.4 * weight.sign()
    best = best if clip_range is None else best.clamp(*clip_range)
    ball = Ball(0.4, "linf", clip_range)
    start = ball.random_point(centre, generator(2))
    found = ascend(lambda x: (weight * x).sum(), start, centre, ball=ball, n_steps=9, step_size=0.1)
    assert found == pytest.approx(best, abs=1e-12)


def test_ascent_on_a_linear_loss_reaches_the_balls_maximiser() -> None:
    weight, centre = rows(5, 7), rows(5, 7, seed=1)
    ball = Ball(0.4, "l2", None)
    start = ball.random_point(centre, generator(2))
    found = ascend(
        lambda x: (weight * x).sum(), start, centre, ball=ball, n_steps=400, step_size=0.1
    )
    best = centre + 0.4 * weight / lengths(weight, "l2")[:, None]
    assert found == pytest.approx(best, abs=1e-6)


def test_ascent_takes_the_steps_it_is_told_to() -> None:
    centre = torch.zeros(1, 2, dtype=torch.float64)
    seen = []

    def loss(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return 2 * x[:, 0].sum() - x[:, 1].sum()

    ball = Ball(0.25, "linf", (-0.15, 1.0))
    found = ascend(loss, centre, centre, ball=ball, n_steps=3, step_size=0.1)
    assert torch.cat(seen).numpy() == pytest.approx(np.array([[0, 0], [0.1, -0.1], [0.2, -0.15]]))
    assert found.numpy() == pytest.approx(np.array([[0.25, -0.15]]))
    assert not found.requires_grad


def test_ascent_leaves_its_arguments_alone_and_works_without_ambient_gradients() -> None:
    centre, start = rows(3, 4), rows(3, 4)
    before = start.clone()
    with torch.no_grad():
        ascend(
            lambda x: x.square().sum(),
            start,
            centre,
            ball=Ball(1.0, "l2", None),
            n_steps=2,
            step_size=0.5,
        )
    assert torch.equal(start, before)
    assert not start.requires_grad
    assert not centre.requires_grad


def test_arrays_become_tensors_of_the_type_of_another() -> None:
    like = torch.zeros(2, dtype=torch.float16)
    assert as_tensor(np.ones(3), like).dtype == torch.float16


def test_a_warm_up_is_linear_and_ends() -> None:
    assert [warmed_up(2.0, epoch, 4) for epoch in range(1, 7)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert warmed_up(2.0, 1, 0) == 2.0


@pytest.mark.parametrize(("part", "without"), [(nn.LSTM(2, 3), True), (nn.Linear(2, 3), False)])
def test_recurrent_layers_are_attacked_without_cudnn(part: nn.Module, without: bool) -> None:
    before = torch.backends.cudnn.enabled
    with frozen(nn.Sequential(part)):
        assert torch.backends.cudnn.enabled == (before and not without)
    assert torch.backends.cudnn.enabled == before
