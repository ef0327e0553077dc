"""Best differential-privacy parameters for the Gaussian mechanism."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from randsmooth.bounds.probabilities import TOO_SMALL, ProbabilityPair
from randsmooth.bounds.quantiles import log_ratio
from randsmooth.bounds.roots import falling_root

_TOLERANCE = 9e-5
_EPSILON = float(np.finfo(np.float64).eps)


def unit_privacy_radius(pair: ProbabilityPair) -> NDArray[np.float64]:
    """Radius for standard normal noise, rounded down.

    Parameters
    ----------
    pair : ProbabilityPair
        The two probabilities.

    Returns
    -------
    ndarray of float64
        The supremum over all admissible parameters, 0 where the pair is no decision.
    """
    p1, p2 = pair.top, pair.runner_up
    lowered = pair.lowered()
    with np.errstate(all="ignore"):
        epsilon = _best_epsilon(p1, p2)
        exact = _radius(epsilon, p1, p2) * (1 - 64 * _EPSILON)
        # The same parameters are sound for the least favourable pair that rounds to these.
        certain = _radius(epsilon, lowered.top, lowered.runner_up) * (1 - 64 * _EPSILON)
        radius = np.fmax(np.minimum(certain, exact), exact * (1 - _TOLERANCE))
    return np.where((p1 > p2) & (p1 > TOO_SMALL), radius, 0.0)


def _excess(
    epsilon: NDArray[np.float64], p1: NDArray[np.float64], p2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """By how much the top class exceeds what epsilon alone would allow its runner-up."""
    return np.maximum((p1 - p2) - p2 * np.expm1(2 * epsilon), 0.0)


def _log_term(epsilon: NDArray[np.float64], excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(1.25 / delta) for the largest delta that keeps the decision."""
    return np.log(1.25 * (1 + np.exp(epsilon))) - np.log(excess)


def _radius(
    epsilon: NDArray[np.float64], p1: NDArray[np.float64], p2: NDArray[np.float64]
) -> NDArray[np.float64]:
    return epsilon / np.sqrt(2 * _log_term(epsilon, _excess(epsilon, p1, p2)))


def _best_epsilon(p1: NDArray[np.float64], p2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the radius is stationary, or 1, beyond which the mechanism is not proved."""
    decided = p1 > p2
    upper = np.where(decided, np.minimum(log_ratio(p1, p2) / 2, 1.0), 0.0)

    def slope(epsilon: NDArray[np.float64]) -> NDArray[np.float64]:
        excess = _excess(epsilon, p1, p2)
        growth = np.exp(epsilon)
        loss = 2 * growth**2 * p2 + excess * growth / (1 + growth)
        gain = np.where(excess > 0, 2 * excess * _log_term(epsilon, excess), 0.0)
        return np.where(decided, gain - epsilon * loss, 0.0)

    return np.minimum(falling_root(slope, upper), 1.0)
