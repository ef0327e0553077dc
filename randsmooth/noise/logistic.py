"""Logistic noise: certifies in l1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.integrate import quad

from randsmooth.bounds.shifts import log_concave_probability_lower
from randsmooth.noise.base import Noise, check_order

__all__ = ["Logistic"]


@dataclass(frozen=True)
class Logistic(Noise):
    r"""Logistic noise, which certifies in :math:`\ell_1`.

    Its density is log-concave: near 0 like that of Gaussian noise, in the tails like that of
    Laplace noise.

    Parameters
    ----------
    scale : float
        Scale :math:`s` of every coordinate, whose density is
        :math:`e^{-x/s} / (s (1 + e^{-x/s})^2)`. Its standard deviation is
        :math:`s \pi / \sqrt{3}`.

    Examples
    --------
    >>> from randsmooth.noise import Logistic
    >>> Logistic(0.5).certified_radius(0.9).round(4)
    np.float64(1.0986)
    """

    name: ClassVar[str] = "logistic"
    norm: ClassVar[str] = "l1"

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with standard logistic draws, logarithms of ratios of exponential ones."""
        pairs = np.empty((*out.shape, 2), dtype=out.dtype)
        generator.standard_exponential(out=pairs, dtype=out.dtype.type)
        # The ratio of two exponential variables is at most x with probability x / (1 + x).
        np.maximum(pairs, np.finfo(out.dtype).tiny, out=pairs)
        np.log(pairs, out=pairs)
        np.subtract(pairs[..., 0], pairs[..., 1], out=out)

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return :math:`F(F^{-1}(p) - r)`; see `log_concave_probability_lower`."""
        return log_concave_probability_lower(p_lower, radius, stats.logistic(scale=self.scale))

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        """Return the sum over coordinates of the divergence, by numerical quadrature."""
        check_order(order)
        t = np.abs(np.asarray(shift, dtype=float)).ravel() / self.scale
        if order == math.inf:
            return float(t.sum())
        return float(sum(_standard_divergence(float(value), order) for value in t))


def _standard_divergence(t: float, order: float) -> float:
    """Return the divergence of the standard law from itself shifted by t."""
    density = stats.logistic.logpdf
    limits = -40.0 - t, 40.0 + 2 * t
    if order == 1:
        value, _ = quad(
            lambda x: math.exp(density(x)) * (density(x) - density(x - t)), *limits, limit=400
        )
        return max(float(value), 0.0)
    value, _ = quad(
        lambda x: math.exp(order * density(x) + (1 - order) * density(x - t)), *limits, limit=400
    )
    return max(math.log(value) / (order - 1), 0.0)
