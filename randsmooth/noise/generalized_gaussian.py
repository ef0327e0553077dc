"""Generalised Gaussian noise: certifies in l1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from randsmooth.bounds.log_concave import generalized_gaussian_radius
from randsmooth.bounds.shifts import log_concave_probability_lower
from randsmooth.noise.base import FROM_SIGMA, Noise

__all__ = ["GeneralizedGaussian"]


@dataclass(frozen=True)
class GeneralizedGaussian(Noise):
    r"""Generalised Gaussian noise, which certifies in :math:`\ell_1`.

    The density of every coordinate is proportional to :math:`\exp(-|x / \lambda|^q)`. Exponent 1 is
    Laplace noise, 2 is Gaussian noise of standard deviation :math:`\lambda / \sqrt 2`, and large
    exponents come close to uniform noise.

    Parameters
    ----------
    scale : float or None, default=None
        Scale :math:`\lambda`. The standard deviation is
        :math:`\lambda \sqrt{\Gamma(3/q) / \Gamma(1/q)}`. None leaves it to the `sigma` of the
        classifier.

    exponent : float, default=4.0
        Exponent :math:`q`, from 1 to 100: smaller ones have no log-concave density.

    Examples
    --------
    >>> from randsmooth.noise import GeneralizedGaussian
    >>> GeneralizedGaussian(0.5, exponent=4).certified_radius(0.9).round(4)
    np.float64(0.3881)
    """

    scale: float = FROM_SIGMA
    exponent: float = 4.0

    name: ClassVar[str] = "generalized_gaussian"
    norm: ClassVar[str] = "l1"
    takes_sigma: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.exponent, (int, float, np.number)) and 1 <= self.exponent <= 100):
            raise ValueError(f"exponent must lie from 1 to 100, got {self.exponent!r}.")
        object.__setattr__(self, "exponent", float(self.exponent))

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with draws at scale 1: powers of gamma variables with random signs."""
        # Draw by draw, so that a part of a block is the same as the block's part.
        for row in out:
            sizes = generator.standard_gamma(1 / self.exponent, size=row.shape)
            signs = generator.integers(0, 2, size=row.shape, dtype=np.int64) * 2 - 1
            row[...] = signs * sizes ** (1 / self.exponent)

    def certified_radius(
        self, p_lower: ArrayLike, p_upper: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return half the distance between two quantiles; see `generalized_gaussian_radius`."""
        return generalized_gaussian_radius(
            p_lower, p_upper, scale=self.scale, exponent=self.exponent
        )

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return :math:`F(F^{-1}(p) - r)`; see `log_concave_probability_lower`."""
        law = stats.gennorm(self.exponent, scale=self.scale)
        return log_concave_probability_lower(p_lower, radius, law)
