"""Gradient ascent on a batch of inputs within a ball: what adversarial strategies share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = ["Ball", "as_tensor", "ascend", "frozen", "steepest_step", "warmed_up"]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode without gradients of its weights, for an attack on it.

    Modes and flags are what they were afterwards, those of parts that the user froze included.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Yields
    ------
    None
        While the module is frozen.
    """
    modes = [(part, part.training) for part in module.modules()]
    # Parameters of a lazy module that saw no batch yet have no flag to set.
    flags = [(p, p.requires_grad) for p in module.parameters() if not is_lazy(p)]
    # cuDNN passes gradients through recurrent layers in training mode alone.
    recurrent = any(isinstance(part, nn.RNNBase) for part, _ in modes)
    try:
        for part, _ in modes:
            part.training = False
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
            yield
    finally:
        for part, training in modes:
            part.training = training
        for parameter, needed in flags:
            parameter.requires_grad_(needed)


@dataclass(frozen=True)
class Ball:
    """The perturbed inputs that an attack may choose from.

    Parameters
    ----------
    eps : float
        Radius, in the units of the inputs; infinite for no bound but the clip range.

    norm : {"linf", "l2"}
        Norm of a perturbation, over all coordinates of an input.

    clip_range : tuple of two floats or None
        Smallest and largest value of an input's coordinates; None for no limits.
    """

    eps: float
    norm: str
    clip_range: tuple[float, float] | None

    def project(self, x: Tensor, centre: Tensor) -> Tensor:
        """Return the rows inside the ball around `centre`, then inside the clip range.

        Clipping moves a row towards its centre in every coordinate, so that it stays in the ball.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)
            Perturbed inputs.

        centre : Tensor of shape (n_rows, ...)
            Inputs, within the clip range.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            The projection for l-infinity; for l2 the shortened perturbation, clipped.
        """
        if math.isfinite(self.eps):
            delta = x - centre
            if self.norm == "linf":
                delta = delta.clamp(-self.eps, self.eps)
            else:
                delta = delta * (self.eps / _norms(delta).clamp_min(self.eps))
            x = centre + delta
        return x if self.clip_range is None else x.clamp(*self.clip_range)

    def random_point(self, centre: Tensor, generator: np.random.Generator) -> Tensor:
        """Return inputs moved uniformly at random within the ball, then clipped.

        Parameters
        ----------
        centre : Tensor of shape (n_rows, ...)
            Inputs.

        generator : numpy.random.Generator
            Source of the randomness.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            The moved inputs.
        """
        shape = tuple(centre.shape)
        if self.norm == "linf":
            delta = as_tensor(generator.uniform(-self.eps, self.eps, shape), centre)
        else:
            direction = as_tensor(generator.standard_normal(shape), centre)
            n_coordinates = direction[0].numel()
            length = self.eps * generator.uniform(size=len(centre)) ** (1 / n_coordinates)
            scale = as_tensor(length, centre).reshape(-1, *[1] * (centre.ndim - 1))
            delta = direction * (scale / _norms(direction).clamp_min(torch.finfo().tiny))
        return self.project(centre + delta, centre)


def steepest_step(gradient: Tensor, norm: str) -> Tensor:
    """Return the step of length 1 that climbs fastest: the sign, or the gradient normalised.

    Parameters
    ----------
    gradient : Tensor of shape (n_rows, ...)
        Gradient of each row's loss.

    norm : {"linf", "l2"}
        Norm in which the length is measured.

    Returns
    -------
    Tensor of shape (n_rows, ...)
        The step; zero where the gradient is zero.
    """
    if norm == "linf":
        return gradient.sign()
    # The square of a saturated network's gradient underflows: its largest entry comes out first.
    shape = (-1, *[1] * (gradient.ndim - 1))
    largest = gradient.flatten(1).abs().amax(dim=1).reshape(shape)
    scaled = gradient / largest.where(largest > 0, 1.0)
    return scaled / _norms(scaled).clamp_min(1.0)


def ascend(
    loss: Callable[[Tensor], Tensor],
    start: Tensor,
    centre: Tensor,
    *,
    ball: Ball,
    n_steps: int,
    step_size: float,
) -> Tensor:
    """Return inputs moved by projected gradient ascent on a loss (Madry et al. 2018, section 2).

    Parameters
    ----------
    loss : callable (Tensor of shape (n_rows, ...)) -> Tensor
        The loss, a sum over rows of which each depends on its own input alone.

    start : Tensor of shape (n_rows, ...)
        Where to start.

    centre : Tensor of shape (n_rows, ...)
        Centre of each row's ball.

    ball : Ball
        Where to stay.

    n_steps : int
        Number of steps.

    step_size : float
        Length of each, in the norm of the ball.

    Returns
    -------
    Tensor of shape (n_rows, ...)
        The last iterates, without a graph.
    """
    x = start.detach()
    for _ in range(n_steps):
        x.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(x), [x])
        x = ball.project(x.detach() + step_size * steepest_step(gradient, ball.norm), centre)
    return x.detach()


def as_tensor(values: NDArray[Any], like: Tensor) -> Tensor:
    """Return an array as a tensor of the type and on the device of another.

    Parameters
    ----------
    values : ndarray
        The values.

    like : Tensor
        The other tensor.

    Returns
    -------
    Tensor
        The values.
    """
    return torch.from_numpy(values).to(device=like.device, dtype=like.dtype)


def warmed_up(value: float, epoch: int, n_epochs: int) -> float:
    """Return a value that grows linearly over the first epochs.

    Parameters
    ----------
    value : float
        What it reaches.

    epoch : int
        Number of the epoch, from 1.

    n_epochs : int
        The epoch that reaches it; 0 for no warm-up.

    Returns
    -------
    float
        ``value * min(1, epoch / n_epochs)``.
    """
    return value * min(1.0, epoch / n_epochs) if n_epochs > 0 else value


def _norms(x: Tensor) -> Tensor:
    """Return the l2 norm of each row, shaped to broadcast."""
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms.reshape(-1, *[1] * (x.ndim - 1))
