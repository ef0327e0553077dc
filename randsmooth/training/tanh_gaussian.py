"""Normal perturbations squashed into a box by tanh: samples, log-density, ascent on parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["TanhGaussian", "climb", "rho_of_std"]

# Below this, softplus(rho) and exp(rho) agree to 1e-9 and the logarithm of the former underflows.
LINEAR_BELOW = -20.0
# What Adam adds to the root of the squared gradient, as published.
ADAM_EPS = 1e-8


def rho_of_std(std: float) -> float:
    """Return the rho whose softplus is a standard deviation.

    Parameters
    ----------
    std : float
        Standard deviation before tanh, positive.

    Returns
    -------
    float
        ``ln(exp(std) - 1)``; 0 for ``std = ln 2``.
    """
    return std + math.log(-math.expm1(-std))


@dataclass(frozen=True)
class TanhGaussian:
    r"""The distribution of :math:`\delta = \epsilon \tanh(\mu + \sigma r)`, r standard normal.

    Coordinates are independent, :math:`\sigma = \mathrm{softplus}(\rho)`, and every
    :math:`|\delta_d| < \epsilon` (Dong et al. [1]_, section 3.2).

    Parameters
    ----------
    mean : Tensor of shape (n_rows, ...)
        Means :math:`\mu` before tanh.

    rho : Tensor of shape (n_rows, ...)
        :math:`\rho`.

    eps : float or Tensor that broadcasts to the parameters
        Largest perturbation of a coordinate, in the units of the inputs.

    References
    ----------
    .. [1] Y. Dong, Z. Deng, T. Pang, H. Su and J. Zhu, "Adversarial distributional training for
       robust deep learning", NeurIPS 2020.
    """

    mean: Tensor
    rho: Tensor
    eps: float | Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviations before tanh."""
        return torch.nn.functional.softplus(self.rho)

    def perturbations(self, normal: Tensor) -> Tensor:
        """Return the perturbations that standard normal numbers stand for.

        Parameters
        ----------
        normal : Tensor of shape (..., n_rows, ...)
            Standard normal numbers, which broadcast against the parameters.

        Returns
        -------
        Tensor of shape (..., n_rows, ...)
            The perturbations, differentiable in the parameters.
        """
        return self.eps * torch.tanh(self.mean + self.std * normal)

    def surprisals(self, normal: Tensor) -> Tensor:
        r"""Return minus the log-density of every coordinate of a perturbation.

        .. math::

            -\ln p(\delta_d) = \tfrac{1}{2} r_d^2 + \tfrac{1}{2} \ln 2\pi + \ln \sigma_d
            + \ln(1 - \tanh^2 u_d) + \ln \epsilon, \qquad u = \mu + \sigma r.

        Their expectation is the entropy of the coordinate, so that their mean over samples and
        coordinates estimates the entropy *per coordinate*, without bias.

        Parameters
        ----------
        normal : Tensor of shape (..., n_rows, ...)
            The standard normal numbers r behind the perturbation.

        Returns
        -------
        Tensor of shape (..., n_rows, ...)
            In nats, differentiable in the parameters, finite where tanh rounds to 1.
        """
        u = self.mean + self.std * normal
        log_slope = 2 * (math.log(2) - torch.logaddexp(u, -u))
        log_eps = self.eps.log() if isinstance(self.eps, Tensor) else math.log(self.eps)
        constant = math.log(2 * math.pi) / 2 + log_eps
        return normal.square() / 2 + _log_softplus(self.rho) + log_slope + constant

    @torch.no_grad()
    def gradients(
        self, normal: Tensor, by_perturbation: Tensor, entropy_weight: float
    ) -> tuple[Tensor, Tensor]:
        r"""Return the gradients of a loss of samples and of their surprisals, in closed form.

        Of :math:`L(\delta) + w \sum_{k, d} (-\ln p(\delta_{kd}))`: the elementwise work of backward
        passes would cost as much as a small net does.

        Parameters
        ----------
        normal : Tensor of shape (n_samples, n_rows, ...)
            The standard normal numbers r behind the perturbations.

        by_perturbation : Tensor of shape (n_samples, n_rows, ...)
            The gradient of L at each perturbation.

        entropy_weight : float
            The weight w of a coordinate's surprisal.

        Returns
        -------
        by_mean : Tensor of shape (n_rows, ...)
            The gradient with respect to the means.

        by_rho : Tensor of shape (n_rows, ...)
            The gradient with respect to rho.
        """
        std = self.std
        a = torch.tanh(self.mean + std * normal)
        by_u = by_perturbation * (self.eps * (1 - a.square()))
        if not entropy_weight:
            return by_u.sum(dim=0), self.rho.sigmoid() * (by_u * normal).sum(dim=0)
        by_u -= 2 * entropy_weight * a
        by_log_std = std * (by_u * normal).sum(dim=0) + entropy_weight * len(normal)
        # d ln softplus(rho) / d rho, which is 1 where rho is very negative.
        slope = torch.where(self.rho < LINEAR_BELOW, 1.0, self.rho.sigmoid() / std)
        return by_u.sum(dim=0), slope * by_log_std


def climb(
    gradients: Callable[[TanhGaussian], tuple[Tensor, Tensor]],
    start: TanhGaussian,
    *,
    n_steps: int,
    step_size: float,
    accumulate_gradients: bool = False,
) -> TanhGaussian:
    r"""Return the distribution after gradient ascent on its parameters (Dong et al., algorithm 1).

    Steps are Adam's with both betas zero, :math:`\eta \, g / (|g| + 10^{-8})` in every coordinate
    of mean and rho: the sign of the gradient, except where it all but vanishes.

    Parameters
    ----------
    gradients : callable (TanhGaussian) -> tuple of two Tensors
        The gradients of what is maximised with respect to mean and rho.

    start : TanhGaussian
        Where to start.

    n_steps : int
        Number of steps.

    step_size : float
        Length of a step in each coordinate of mean and rho.

    accumulate_gradients : bool, default=False
        Whether a step follows the sum of all gradients so far in place of the last one.

    Returns
    -------
    TanhGaussian
        The last iterate, without a graph.
    """
    mean, rho = start.mean.detach(), start.rho.detach()
    followed = (torch.zeros_like(mean), torch.zeros_like(rho))
    for _ in range(n_steps):
        by_mean, by_rho = gradients(TanhGaussian(mean, rho, start.eps))
        if accumulate_gradients:
            by_mean, by_rho = followed[0] + by_mean, followed[1] + by_rho
            followed = (by_mean, by_rho)
        mean = mean + step_size * _signs(by_mean)
        rho = rho + step_size * _signs(by_rho)
    return TanhGaussian(mean, rho, start.eps)


def _signs(gradient: Tensor) -> Tensor:
    return gradient / (gradient.abs() + ADAM_EPS)


def _log_softplus(rho: Tensor) -> Tensor:
    """Return ln softplus(rho), with a gradient that is finite however small rho is."""
    small = rho < LINEAR_BELOW
    log = torch.nn.functional.softplus(rho.where(~small, LINEAR_BELOW)).log()
    return torch.where(small, rho, log)
