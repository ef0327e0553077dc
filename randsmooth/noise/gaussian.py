"""Gaussian noise: certifies in l2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.divergences import gaussian_divergence
from randsmooth.bounds.shifts import gaussian_probability_lower
from randsmooth.bounds.total_variation import gaussian_total_variation
from randsmooth.noise.base import Noise, check_order

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian(Noise):
    r"""Gaussian noise, which certifies in :math:`\ell_2`.

    Parameters
    ----------
    scale : float
        Standard deviation :math:`\sigma` of every coordinate.

    Examples
    --------
    >>> from randsmooth.noise import Gaussian
    >>> Gaussian(0.5).renyi_divergence([0.6, 0.8], order=2)
    4.0
    """

    name: ClassVar[str] = "gaussian"
    norm: ClassVar[str] = "l2"

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with standard normal draws."""
        generator.standard_normal(out=out, dtype=out.dtype.type)

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with standard normal draws."""
        out.normal_(generator=generator)
        return True

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return :math:`\Phi(\Phi^{-1}(p) - r / \sigma)`; see `gaussian_probability_lower`."""
        return gaussian_probability_lower(p_lower, radius, sigma=self.scale)

    def largest_divergence(self, attack: float, *, order: float) -> float:
        """Return `gaussian_divergence`, rounded up."""
        return float(gaussian_divergence(attack, sigma=self.scale, order=order))

    def total_variation(self, attack: float) -> float:
        """Return `gaussian_total_variation`, rounded up."""
        return float(gaussian_total_variation(attack, sigma=self.scale))

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        r"""Return :math:`\alpha \|\delta\|_2^2 / (2 \sigma^2)` (van Erven and Harremoës, 2014)."""
        check_order(order)
        delta = np.asarray(shift, dtype=float) / self.scale
        squared = float(np.sum(delta**2))
        return order * squared / 2 if squared else 0.0
