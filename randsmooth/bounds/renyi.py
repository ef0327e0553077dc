"""Supremum over the order of the Renyi-divergence certificate for Gaussian noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from randsmooth.bounds.probabilities import TOO_SMALL, ProbabilityPair
from randsmooth.bounds.quantiles import log_ratio
from randsmooth.bounds.roots import falling_root

# The best order minus one was never found above 0.5; any order at all gives a sound radius.
_LARGEST_EXCESS = 0.6
_BLOCK = 8192
_TOLERANCE = 9e-7
_EPSILON = float(np.finfo(np.float64).eps)


def unit_renyi_radius(pair: ProbabilityPair) -> NDArray[np.float64]:
    """Radius for standard normal noise, rounded down.

    Parameters
    ----------
    pair : ProbabilityPair
        The two probabilities.

    Returns
    -------
    ndarray of float64
        The supremum over all orders, 0 where the pair is no decision.
    """
    p1, p2 = pair.top.ravel(), pair.runner_up.ravel()
    lowered = pair.lowered()
    low1, low2 = lowered.top.ravel(), lowered.runner_up.ravel()
    radius = np.zeros(p1.shape)
    decided = np.flatnonzero((p1 > p2) & (p1 > TOO_SMALL))
    with np.errstate(all="ignore"):
        for start in range(0, decided.size, _BLOCK):
            rows = decided[start : start + _BLOCK]
            radius[rows] = _block_radius(p1[rows], p2[rows], low1[rows], low2[rows])
    return radius.reshape(pair.top.shape)


def _block_radius(
    p1: NDArray[np.float64],
    p2: NDArray[np.float64],
    low1: NDArray[np.float64],
    low2: NDArray[np.float64],
) -> NDArray[np.float64]:
    divergence = _Divergence(p1, p2)
    excess = divergence.best_excess()
    exact = divergence.radius(excess)
    exact = np.where(np.isinf(exact), np.inf, exact * (1 - 32 * _EPSILON))
    # The same order, which is sound for the least favourable pair that rounds to these doubles.
    certain = _Divergence(low1, low2).radius(excess) * (1 - 32 * _EPSILON)
    certain = np.where(low1 > low2, certain, 0.0)
    return np.fmax(np.minimum(certain, exact), exact * (1 - _TOLERANCE))


class _Divergence:
    """Least Renyi divergence that changes the decision, of order 1 + s, without cancellation."""

    def __init__(self, p1: NDArray[np.float64], p2: NDArray[np.float64]) -> None:
        self.p1, self.p2 = p1, p2
        self.half_log_ratio = log_ratio(p1, p2) / 2
        self.decided = np.minimum(p1 + p2, 1.0)
        self.rest = np.maximum((1.0 - p1) - p2, 0.0)
        self.offset = _log_cosh(self.half_log_ratio)

    def radius(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radius of order 1 + s."""
        curve = _log_cosh(s * self.half_log_ratio)
        divergence, _ = self._divergence(np.where(s > 0, curve / s, 0.0))
        without_rival = np.sqrt(-2 * np.log1p(-self.p1))
        return np.where(self.p2 == 0, without_rival, np.sqrt(2 * divergence / (1 + s)))

    def best_excess(self) -> NDArray[np.float64]:
        """Order minus one at which the radius is largest."""
        upper = np.where(self.p2 > 0, _LARGEST_EXCESS, 0.0)
        return falling_root(self._slope, upper)

    def _divergence(
        self, second: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Divergence, and the power mean of both probabilities counted twice."""
        y = self.offset + second  # log of the arithmetic mean over the power mean of order -s
        left = self.decided * np.exp(-y)
        lost = -self.decided * np.expm1(-y)
        value = np.where(lost < 0.5, -np.log1p(-lost), -np.log(self.rest + left))
        return np.where(self.rest == 0, y, value), left

    def _slope(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Slope of the squared radius, up to a positive factor."""
        x = s * self.half_log_ratio
        curve = _log_cosh(x)
        divergence, left = self._divergence(np.where(s > 0, curve / s, 0.0))
        bend = np.where(x < 1e-2, 0.5 - x**2 / 4 + x**4 / 9, (x * np.tanh(x) - curve) / x**2)
        change = self.half_log_ratio**2 * bend * left / (self.rest + left)
        return np.where(self.p2 > 0, (1 + s) * change - divergence, 0.0)


def _log_cosh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    bent = np.minimum(x, 300.0)  # beyond, the function is a straight line to the last bit
    value: NDArray[np.float64] = np.log1p(np.sinh(bent) ** 2) / 2 + (x - bent)
    return value
