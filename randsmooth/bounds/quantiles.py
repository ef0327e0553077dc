"""Distances between quantiles, without cancellation where two probabilities are close."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from randsmooth.bounds.probabilities import ProbabilityPair
from randsmooth.bounds.rounding import rounded_down

# Closed forms are exact to 1e-9; nine tenths of it may go to the last bits of the inputs.
_TOLERANCE = 9e-10
_EPSILON = float(np.finfo(np.float64).eps)
_HALF_LOG_TAU = float(np.log(2 * np.pi) / 2)


def normal_quantile_distance(pair: ProbabilityPair) -> NDArray[np.float64]:
    r"""Distance between two quantiles of the standard normal distribution, rounded down.

    Parameters
    ----------
    pair : ProbabilityPair
        The two probabilities.

    Returns
    -------
    ndarray of float64
        :math:`\Phi^{-1}(p_1) - \Phi^{-1}(p_2)`, 0 where the pair is no decision.
    """
    p1, p2 = pair.top, pair.runner_up
    with np.errstate(all="ignore"):
        z1, z2 = ndtri(p1), ndtri(p2)
        direct = z1 - z2
        middle = ndtri((p1 + p2) / 2)
        # Odd derivatives of the quantile function at the middle, in units of 1/density.
        u = (p1 - p2) * np.exp(middle**2 / 2 + _HALF_LOG_TAU)
        square = middle**2
        series = 1 + u**2 * (1 + 2 * square) / 24
        series += u**4 * (7 + 46 * square + 24 * square**2) / 1920
        near = u * np.maximum(1.0, np.abs(middle)) < 1e-2
        distance = np.where(p1 > p2, np.where(near, u * series, direct), 0.0)
        rounding = 16 * _EPSILON * np.where(near, (1 + square) * distance, np.abs(z1) + np.abs(z2))
        slack = _normal_quantile_error(z1, pair.top_error)
        slack += _normal_quantile_error(z2, pair.runner_up_error)
    return rounded_down(distance, slack, rounding, tolerance=_TOLERANCE)


def laplace_quantile_distance(pair: ProbabilityPair) -> NDArray[np.float64]:
    r"""Distance between two quantiles of the Laplace distribution of scale 1, rounded down.

    Parameters
    ----------
    pair : ProbabilityPair
        The two probabilities.

    Returns
    -------
    ndarray of float64
        :math:`Q(p_1) - Q(p_2)`, 0 where the pair is no decision.
    """
    p1, p2 = pair.top, pair.runner_up
    rest = 1.0 - p1
    with np.errstate(all="ignore"):
        folded = -np.log(2 * rest) - np.log(2 * p2)
        distance = np.where(p1 > 0.5, folded, log_ratio(p1, p2))
        slack = np.where(pair.top_error > 0, pair.top_error / np.minimum(p1, rest), 0.0)
        slack += np.where(pair.runner_up_error > 0, pair.runner_up_error / p2, 0.0)
    distance = np.where(p1 > p2, distance, 0.0)
    return rounded_down(distance, slack, 16 * _EPSILON * distance, tolerance=_TOLERANCE)


def uniform_quantile_distance(pair: ProbabilityPair) -> NDArray[np.float64]:
    """Distance between two quantiles of the uniform distribution on [0, 1], rounded down.

    Parameters
    ----------
    pair : ProbabilityPair
        The two probabilities.

    Returns
    -------
    ndarray of float64
        Their difference, 0 where the pair is no decision.
    """
    distance = np.maximum(pair.top - pair.runner_up, 0.0)
    slack = pair.top_error + pair.runner_up_error
    return rounded_down(distance, slack, _EPSILON * distance, tolerance=_TOLERANCE)


def distance_from_certainty(pair: ProbabilityPair) -> NDArray[np.float64]:
    r"""Negative logarithm of how much the gap between two probabilities lacks of 1, rounded down.

    Parameters
    ----------
    pair : ProbabilityPair
        The two probabilities.

    Returns
    -------
    ndarray of float64
        :math:`-\ln(1 - p_1 + p_2)`, 0 where the pair is no decision.
    """
    p1, p2 = pair.top, pair.runner_up
    with np.errstate(all="ignore"):
        gap = p1 - p2
        lack = (1.0 - p1) + p2
        distance = np.where(gap < 0.5, -np.log1p(-gap), -np.log(lack))
        error = pair.top_error + pair.runner_up_error
        slack = np.where(error > 0, error / lack, 0.0)
    distance = np.where(p1 > p2, distance, 0.0)
    return rounded_down(distance, slack, 16 * _EPSILON * distance, tolerance=_TOLERANCE)


def log_ratio_distance(pair: ProbabilityPair) -> NDArray[np.float64]:
    r"""Distance between the logarithms of two probabilities, rounded down.

    Parameters
    ----------
    pair : ProbabilityPair
        The two probabilities.

    Returns
    -------
    ndarray of float64
        :math:`\ln p_1 - \ln p_2`, 0 where the pair is no decision.
    """
    p1, p2 = pair.top, pair.runner_up
    distance = np.where(p1 > p2, log_ratio(p1, p2), 0.0)
    with np.errstate(all="ignore"):
        slack = np.where(pair.top_error > 0, pair.top_error / p1, 0.0)
        slack += np.where(pair.runner_up_error > 0, pair.runner_up_error / p2, 0.0)
    return rounded_down(distance, slack, 16 * _EPSILON * distance, tolerance=_TOLERANCE)


def log_ratio(p1: NDArray[np.float64], p2: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Logarithm of a ratio of probabilities, to full relative precision near 1.

    Parameters
    ----------
    p1 : ndarray of float64
        Larger probability.

    p2 : ndarray of float64
        Smaller probability.

    Returns
    -------
    ndarray of float64
        :math:`\ln(p_1 / p_2)`, infinite where `p2` is 0.
    """
    with np.errstate(all="ignore"):
        ratio = p1 / p2
        # The difference of the logarithms of tiny numbers would cancel.
        apart = np.where(ratio < np.inf, np.log(ratio), np.log(p1) - np.log(p2))
        return np.where(p1 < 2 * p2, np.log1p((p1 - p2) / p2), apart)


def _normal_quantile_error(
    z: NDArray[np.float64], error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """First-order change of a quantile with its probability: the error over the density."""
    return np.where(error > 0, np.exp(np.log(error) + z**2 / 2 + _HALF_LOG_TAU), 0.0)
