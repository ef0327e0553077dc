"""Distributions on the line handed in by their functions, looked at before they are believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Distribution"]

# Probabilities of the quantiles at which a distribution is looked at.
_PROBES = np.concatenate([10.0 ** -np.arange(12.0, 1.0, -1.0), np.linspace(0.02, 0.5, 25)])


@runtime_checkable
class Distribution(Protocol):
    """A distribution on the line by its functions, as a frozen one of `scipy.stats` has them."""

    def ppf(self, q: Any) -> Any:
        """Quantile: the inverse of `cdf`."""

    def isf(self, q: Any) -> Any:
        """Quantile from above: the inverse of `sf`."""

    def cdf(self, x: Any) -> Any:
        """Probability of at most `x`."""

    def sf(self, x: Any) -> Any:
        """Probability of more than `x`."""

    def logpdf(self, x: Any) -> Any:
        """Logarithm of the density."""


@dataclass(frozen=True)
class CheckedDistribution:
    """A distribution that passed the checks, and how far its functions are believed.

    Parameters
    ----------
    distribution : Distribution
        The distribution of one coordinate.

    accuracy : float
        Relative error of its functions.
    """

    distribution: Distribution
    accuracy: float

    def quantile_lower(
        self, p: NDArray[np.float64], rest: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Quantile, rounded down, from a probability and its complement.

        Parameters
        ----------
        p : ndarray of float64
            The probability.

        rest : ndarray of float64
            Its complement.

        Returns
        -------
        ndarray of float64
            A number whose distribution function is at most `p`.
        """
        margin = 2 * self.accuracy
        low = np.asarray(self.distribution.ppf(np.minimum(p, 0.5) * (1 - margin)))
        high = np.asarray(self.distribution.isf(np.minimum(rest, 0.5) * (1 + margin)))
        return np.where(p < 0.5, low, high)


def checked_distribution(distribution: Distribution, accuracy: float) -> CheckedDistribution:
    """Distribution that shows no sign of being skew or of not being log-concave.

    Parameters
    ----------
    distribution : Distribution
        The candidate.

    accuracy : float
        Relative error of its functions, in (0, 0.1].

    Returns
    -------
    CheckedDistribution
        The two together.

    Raises
    ------
    TypeError
        If the distribution lacks a function.

    ValueError
        If the accuracy is out of range, or the distribution is not symmetric about 0 or not
        log-concave at the quantiles it is looked at.
    """
    if not isinstance(distribution, Distribution):
        raise TypeError(
            "distribution must have ppf, isf, cdf, sf and logpdf, such as scipy.stats.norm(), "
            f"got {distribution!r}."
        )
    if not 0 < accuracy <= 0.1:
        raise ValueError(f"accuracy must lie in (0, 0.1], got {accuracy!r}.")
    right = np.asarray(distribution.isf(_PROBES), dtype=np.float64)
    above = np.asarray(distribution.sf(right), dtype=np.float64)
    below = np.asarray(distribution.cdf(-right), dtype=np.float64)
    if not (np.abs(above - below) <= (1e-6 + 4 * accuracy) * _PROBES).all():
        raise ValueError(f"distribution must be symmetric about 0, got {distribution!r}.")
    points = np.unique(np.concatenate([-right, right]))
    log_density = np.asarray(distribution.logpdf(points), dtype=np.float64)
    between = np.asarray(distribution.logpdf((points[:-1] + points[1:]) / 2), dtype=np.float64)
    sagging = between < (log_density[:-1] + log_density[1:]) / 2 - 1e-6 - 10 * accuracy
    if sagging.any() or np.isnan(between).any():
        raise ValueError(f"distribution must have a log-concave density, got {distribution!r}.")
    return CheckedDistribution(distribution, accuracy)
