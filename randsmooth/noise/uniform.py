"""Uniform noise: certifies in l1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.shifts import uniform_probability_lower
from randsmooth.bounds.total_variation import uniform_total_variation
from randsmooth.noise.base import Noise

__all__ = ["Uniform"]


@dataclass(frozen=True)
class Uniform(Noise):
    r"""Uniform noise on a cube, which certifies in :math:`\ell_1`.

    Parameters
    ----------
    scale : float
        Half-width :math:`\lambda`: every coordinate lies in :math:`[-\lambda, \lambda)`.

    Examples
    --------
    >>> from randsmooth.noise import Uniform
    >>> Uniform(1.0).renyi_divergence([0.5], order=2)
    inf
    """

    name: ClassVar[str] = "uniform"
    norm: ClassVar[str] = "l1"

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with draws from [-1, 1)."""
        generator.random(out=out, dtype=out.dtype.type)
        out *= 2
        out -= 1

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with draws from [-1, 1)."""
        out.uniform_(-1, 1, generator=generator)
        return True

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return :math:`\max(p - r / (2 \lambda), 0)`; see `uniform_probability_lower`."""
        return uniform_probability_lower(p_lower, radius, half_width=self.scale)

    def total_variation(self, attack: float) -> float:
        """Return `uniform_total_variation`, rounded up."""
        return float(uniform_total_variation(attack, half_width=self.scale))
