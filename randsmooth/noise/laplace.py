"""Laplace noise: certifies in l1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.divergences import laplace_divergence
from randsmooth.bounds.shifts import laplace_probability_lower
from randsmooth.bounds.total_variation import laplace_total_variation
from randsmooth.noise.base import Noise, check_order

__all__ = ["Laplace"]


@dataclass(frozen=True)
class Laplace(Noise):
    r"""Laplace noise, which certifies in :math:`\ell_1`.

    Parameters
    ----------
    scale : float
        Scale :math:`\lambda` of every coordinate; its standard deviation is
        :math:`\lambda \sqrt{2}`.

    Examples
    --------
    >>> import math
    >>> from randsmooth.noise import Laplace
    >>> Laplace(2.0).renyi_divergence([1.0, 3.0], order=math.inf)
    2.0
    """

    name: ClassVar[str] = "laplace"
    norm: ClassVar[str] = "l1"

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with standard Laplace draws, differences of two exponential ones."""
        pairs = np.empty((*out.shape, 2), dtype=out.dtype)
        generator.standard_exponential(out=pairs, dtype=out.dtype.type)
        np.subtract(pairs[..., 0], pairs[..., 1], out=out)

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with standard Laplace draws, differences of two exponential ones."""
        out.exponential_(generator=generator)
        out -= out.new_empty(out.shape).exponential_(generator=generator)
        return True

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return :math:`F(F^{-1}(p) - r)`; see `laplace_probability_lower`."""
        return laplace_probability_lower(p_lower, radius, scale=self.scale)

    def largest_divergence(self, attack: float, *, order: float) -> float:
        """Return `laplace_divergence`, rounded up."""
        return float(laplace_divergence(attack, scale=self.scale, order=order))

    def total_variation(self, attack: float) -> float:
        """Return `laplace_total_variation`, rounded up."""
        return float(laplace_total_variation(attack, scale=self.scale))

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        r"""Return the sum over coordinates of the closed form of Li et al. (2019), Theorem 3.

        With :math:`t = |\delta_i| / \lambda`, each coordinate contributes

        .. math::

            \frac{1}{\alpha - 1} \ln\left(\frac{\alpha}{2\alpha - 1} e^{(\alpha - 1) t}
            + \frac{\alpha - 1}{2\alpha - 1} e^{-\alpha t}\right).
        """
        check_order(order)
        t = np.abs(np.asarray(shift, dtype=float)) / self.scale
        if order == 1:
            return float(np.sum(t + np.expm1(-t)))
        if order == math.inf:
            return float(np.sum(t))
        far = math.log(order / (2 * order - 1)) + (order - 1) * t
        near = math.log((order - 1) / (2 * order - 1)) - order * t
        return float(np.sum(np.logaddexp(far, near)) / (order - 1))
