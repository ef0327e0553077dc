"""Radii in the l1 norm for independent noise of any symmetric log-concave distribution."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gamma, gammainccinv, gammaincinv

from randsmooth.bounds.distributions import Distribution, checked_distribution
from randsmooth.bounds.probabilities import ProbabilityPair, probability_pair
from randsmooth.bounds.rounding import rounded_down, scaled_down

__all__ = ["generalized_gaussian_radius", "log_concave_radius", "logistic_radius"]

_TOLERANCE = 9e-10
_EPSILON = float(np.finfo(np.float64).eps)
# Relative error of a generalised Gaussian quantile: measured at most 2e-14, and a tenth of
# that over the exponent where the tail is below a tenth.
_CENTRE_ERROR, _TAIL_ERROR = 4e-14, 2e-14


def log_concave_radius(
    p_lower: ArrayLike,
    p_upper: ArrayLike | None = None,
    *,
    distribution: Distribution,
    accuracy: float = 1e-9,
) -> NDArray[np.float64]:
    r"""Largest l1 radius that two class probabilities certify under log-concave noise.

    A classifier smoothed with noise of independent coordinates, each of this symmetric
    log-concave distribution, answers the top class at every point closer than this in l1, if
    `p_lower` and `p_upper` bound its class probabilities at the centre. Nothing is random
    here. The value is never above the exact one if the functions of the distribution are as
    accurate as `accuracy` says, which is an assumption.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    distribution : Distribution
        Distribution of one coordinate of the noise, scale included, such as a frozen one of
        `scipy.stats`. Its symmetry and log-concavity are looked at on a grid of quantiles,
        which finds gross errors and proves nothing.

    accuracy : float, default=1e-9
        Relative error that is allowed for, in (0, 0.1]: that of `cdf`, `sf` and the density,
        and of the probability whose quantile `ppf` and `isf` return. Closed forms of SciPy
        are a thousand times better; integrals over a density alone may be worse.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `distribution`. It is 0 where `p_lower` <= `p_upper`.
        Where `p_lower` is 1 or `p_upper` is 0 it is infinite if the noise is unbounded.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `distribution` lacks a function.

    ValueError
        If a probability is outside [0, 1] or NaN, `accuracy` out of range, or `distribution`
        not symmetric about 0 or visibly not log-concave.

    Notes
    -----
    The radius is :math:`\frac12(F^{-1}(p_1) - F^{-1}(p_2))` with the distribution function F
    [1]_. Next to a tie the difference cancels. There the slope of the quantile function,
    :math:`1 / f(F^{-1}(p))`, helps: it is convex for a log-concave density :math:`f`, so that
    the difference is at least :math:`(p_1 - p_2) / f(F^{-1}(\frac{p_1 + p_2}{2}))`.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4 and Appendix.

    Examples
    --------
    >>> from scipy.stats import laplace
    >>> from randsmooth.bounds.log_concave import log_concave_radius
    >>> log_concave_radius([0.9, 0.8], [0.1, 0.1], distribution=laplace(scale=0.5)).round(3)
    array([0.805, 0.631])
    """
    checked = checked_distribution(distribution, accuracy)
    pair = probability_pair(p_lower, p_upper)
    p1, p2 = pair.top, pair.runner_up
    q1, q2 = 1.0 - p1, 1.0 - p2
    with np.errstate(all="ignore"):
        z1, z2 = checked.quantile_lower(p1, q1), -checked.quantile_lower(q2, p2)
        direct = z1 - z2 - 2 * _EPSILON * (np.abs(z1) + np.abs(z2))
        # Only certainty reaches the ends of the line; a quantile that overflows does not.
        certain = ((p1 == 1) & np.isinf(z1)) | ((p2 == 0) & np.isinf(z2))
        direct = np.where(certain, np.inf, np.where(np.isfinite(direct), direct, 0.0))
        middle = checked.quantile_lower((p1 + p2) / 2, (q1 + q2) / 2)
        slope = np.exp(-np.asarray(distribution.logpdf(middle))) * (1 - 6 * accuracy)
        distance = np.maximum(direct, (p1 - p2) * slope)
        distance = np.where(p1 > p2, distance, 0.0)
        slack = _input_error(np.asarray(distribution.logpdf(z1)), pair.top_error)
        slack += _input_error(np.asarray(distribution.logpdf(z2)), pair.runner_up_error)
    lowered = rounded_down(distance, slack, 8 * _EPSILON * distance, tolerance=_TOLERANCE)
    radius: NDArray[np.float64] = (lowered / 2)[()]
    return radius


def logistic_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, scale: ArrayLike
) -> NDArray[np.float64]:
    r"""Largest l1 radius that two class probabilities certify under logistic noise.

    A classifier smoothed with independent logistic noise answers the top class at every point
    closer than this in l1, if `p_lower` and `p_upper` bound its class probabilities at the
    centre. Nothing is random here. The value is never above the exact one, and below it by at
    most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    scale : float or array-like of float
        Scale of the noise, positive. Its standard deviation is :math:`\pi / \sqrt 3` times it.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= `p_upper`, infinite
        where `p_lower` is 1 or `p_upper` is 0. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `scale` is not positive and finite.

    Notes
    -----
    The radius is :math:`\frac s2 \ln \frac{p_1 (1 - p_2)}{p_2 (1 - p_1)}` [1]_.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.log_concave import logistic_radius
    >>> logistic_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], scale=0.5).round(3)
    array([1.099, 0.896, 0.   ])
    """
    pair = probability_pair(p_lower, p_upper)
    return scaled_down("scale", scale, _logistic_quantile_distance(pair) / 2)


def generalized_gaussian_radius(
    p_lower: ArrayLike,
    p_upper: ArrayLike | None = None,
    *,
    scale: ArrayLike,
    exponent: float,
) -> NDArray[np.float64]:
    r"""Largest l1 radius that two class probabilities certify under generalised Gaussian noise.

    A classifier smoothed with independent noise of density proportional to
    :math:`e^{-|x / \lambda|^q}` answers the top class at every point closer than this in l1,
    if `p_lower` and `p_upper` bound its class probabilities at the centre. Nothing is random
    here. The value is never above the exact one, and below it by at most :math:`10^{-9}` of it
    (:math:`10^{-8}` where both probabilities are below :math:`10^{-20}` and close).

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    scale : float or array-like of float
        Scale :math:`\lambda` of the noise, positive. The standard deviation is
        :math:`\lambda \sqrt{\Gamma(3/q) / \Gamma(1/q)}`.

    exponent : float
        Exponent q, from 1 (Laplace noise) over 2 (Gaussian noise) to 100.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= `p_upper`, infinite
        where `p_lower` is 1 or `p_upper` is 0. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, `scale` is not positive and finite, or
        `exponent` is outside [1, 100].

    Notes
    -----
    Below the exponent 1 the density is not log-concave and the theorem does not hold. The
    quantile of :math:`p \ge 1/2` is :math:`\lambda\, G^{-1}(1/q;\, 2p - 1)^{1/q}` with the
    inverse of the regularised incomplete gamma function [1]_.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Appendix.

    Examples
    --------
    >>> from randsmooth.bounds.log_concave import generalized_gaussian_radius
    >>> generalized_gaussian_radius([0.9, 0.4], [0.1, 0.5], scale=1.0, exponent=4.0).round(3)
    array([0.776, 0.   ])
    """
    power = _checked_exponent(exponent)
    pair = probability_pair(p_lower, p_upper)
    return scaled_down("scale", scale, _power_quantile_distance(pair, power) / 2)


def _checked_exponent(exponent: float) -> float:
    if isinstance(exponent, bool) or not isinstance(exponent, Real):
        raise TypeError(f"exponent must be a real number, got {exponent!r}.")
    if not 1 <= exponent <= 100:
        raise ValueError(
            f"exponent must lie in [1, 100], got {exponent!r}. Below 1 the density is not "
            "log-concave."
        )
    return float(exponent)


def _input_error(
    log_density: NDArray[np.float64], error: NDArray[np.float64]
) -> NDArray[np.float64]:
    """First-order change of a quantile with its probability: the error over the density."""
    return np.where(error > 0, np.exp(np.log(error) - log_density), 0.0)


def _logistic_quantile_distance(pair: ProbabilityPair) -> NDArray[np.float64]:
    """Distance between two quantiles of the logistic distribution of scale 1, rounded down."""
    p1, p2 = pair.top, pair.runner_up
    q1, q2 = 1.0 - p1, 1.0 - p2
    with np.errstate(all="ignore"):
        excess = (p1 - p2) / (p2 * q1)
        far = (np.log(p1) - np.log(p2)) + (np.log(q2) - np.log(q1))
        distance = np.where(excess < 1e10, np.log1p(excess), far)
        slack = np.where(pair.top_error > 0, pair.top_error / (p1 * q1), 0.0)
        slack += np.where(pair.runner_up_error > 0, pair.runner_up_error / (p2 * q2), 0.0)
    distance = np.where(p1 > p2, distance, 0.0)
    return rounded_down(distance, slack, 16 * _EPSILON * distance, tolerance=_TOLERANCE)


def _power_quantile_distance(pair: ProbabilityPair, power: float) -> NDArray[np.float64]:
    """Distance between two quantiles of the density exp(-|x|^q), rounded down."""
    p1, p2 = pair.top, pair.runner_up
    with np.errstate(all="ignore"):
        x1, z1 = _power_quantile(np.minimum(p1, 1.0 - p1), power)
        x2, z2 = _power_quantile(np.minimum(p2, 1.0 - p2), power)
        error = _quantile_error(p1, power) * z1 + _quantile_error(p2, power) * z2
        # On one side in the tail, the exponents differ with more digits than the quantiles.
        tails = z1 * np.expm1(np.log1p((x2 - x1) / x1) / power)
        same = np.where(np.maximum(p1, p2) < 0.05, tails, z2 - z1)
        direct = np.where(p1 < 0.5, same, z1 + z2)
        close, share = _close_distance(p1, p2, power)
        near = share < 7e-3
        distance = np.where(near, close, direct)
        distance = np.where(p1 > p2, distance, 0.0)
        rounding = np.where(near, (share**4 / 20 + 2e-11) * distance, error)
        log_top = -np.log(2 * gamma(1 + 1 / power))
        slack = _input_error(log_top - x1, pair.top_error)
        slack += _input_error(log_top - x2, pair.runner_up_error)
    return rounded_down(distance, slack, rounding, tolerance=_TOLERANCE)


def _power_quantile(
    tail: NDArray[np.float64], power: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exponent and size of the quantile of a tail of at most one half."""
    half = np.where(tail < 0.25, 0.25, tail)
    centre = gammaincinv(1 / power, 1.0 - 2 * half)
    exponent = np.where(tail < 0.25, gammainccinv(1 / power, 2 * tail), centre)
    # Next to the median the density is level, and the exponent may be below every number.
    linear = (1.0 - 2 * tail) * gamma(1 + 1 / power)
    size = np.where(exponent < 1e-17, linear, exponent ** (1 / power))
    return exponent, size


def _quantile_error(p: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    return np.where(np.minimum(p, 1.0 - p) < 0.05, _TAIL_ERROR / power, _CENTRE_ERROR)


def _close_distance(
    p1: NDArray[np.float64], p2: NDArray[np.float64], power: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of close quantiles by the odd derivatives at the middle, and how close they are."""
    exponent, z = _power_quantile((p1 + p2) / 2, power)
    step = (p1 - p2) * 2 * gamma(1 + 1 / power) * np.exp(exponent)
    slope = power * exponent / z
    third = 2 * slope**2 + (power - 1) * slope / z
    share = np.where(p1 < 0.5, step * (slope + power / z), np.inf)
    return step * (1 + step**2 * third / 24), np.where(np.isnan(share), np.inf, share)
