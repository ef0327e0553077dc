"""Radii for noise of other shapes: cubes, balls, and norms and powers in the exponent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv, betaincinv, digamma

from randsmooth.bounds.norms import checked_dimension
from randsmooth.bounds.probabilities import ProbabilityPair, probability_pair
from randsmooth.bounds.quantiles import laplace_quantile_distance, uniform_quantile_distance
from randsmooth.bounds.rounding import rounded_down, scaled_down
from randsmooth.bounds.validation import checked_scale

__all__ = [
    "exponential_l2_radius",
    "exponential_linf_radius",
    "pareto_radius",
    "uniform_ball_radius",
    "uniform_linf_radius",
]

_TOLERANCE = 9e-10
# Relative error of the evaluations below; measured at most 2e-14.
_EVALUATION_ERROR = 1e-12
_TERMS = 60


def uniform_linf_radius(
    p_lower: ArrayLike,
    p_upper: ArrayLike | None = None,
    *,
    half_width: ArrayLike,
    dimension: int,
) -> NDArray[np.float64]:
    r"""Radius in l-infinity that two class probabilities certify under uniform noise.

    A classifier smoothed with independent uniform noise answers the top class at every point
    closer than this in l-infinity, if `p_lower` and `p_upper` bound its class probabilities at
    the centre. Nothing is random here. The value is never above the exact one, and below it
    by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    half_width : float or array-like of float
        Half the width of the noise, which is uniform on [-`half_width`, `half_width`], positive.

    dimension : int
        Number of coordinates of an input, at least 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `half_width`. It is 0 where `p_lower` <= `p_upper`.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `dimension` not an integer.

    ValueError
        If a probability is outside [0, 1] or NaN, `half_width` is not positive and finite, or
        `dimension` is below 1.

    Notes
    -----
    The radius is :math:`2\lambda (1 - (1 - \frac{p_1 - p_2}{2})^{1/d})` [1]_: there the two
    cubes of noise still have :math:`1 - \frac{p_1 - p_2}{2}` of their mass in common.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.shapes import uniform_linf_radius
    >>> uniform_linf_radius([0.9, 0.4], half_width=1.0, dimension=16).round(4)
    array([0.0628, 0.    ])
    """
    size = checked_dimension(dimension)
    gap = uniform_quantile_distance(probability_pair(p_lower, p_upper))
    unit = -2 * np.expm1(np.log1p(-gap / 2) / size)
    return scaled_down("half_width", half_width, _evaluated(unit))


def uniform_ball_radius(
    p_lower: ArrayLike,
    p_upper: ArrayLike | None = None,
    *,
    ball_radius: ArrayLike,
    dimension: int,
) -> NDArray[np.float64]:
    r"""Radius in l2 that two class probabilities certify under noise uniform in an l2 ball.

    A classifier smoothed with such noise answers the top class at every point closer than this
    in l2, if `p_lower` and `p_upper` bound its class probabilities at the centre. Nothing is
    random here. The value is never above the exact one, and below it by at most
    :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    ball_radius : float or array-like of float
        Radius :math:`\lambda` of the ball of noise, positive. The standard deviation of a
        coordinate is :math:`\lambda / \sqrt{d + 2}`.

    dimension : int
        Number of coordinates of an input, at least 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `ball_radius`. It is 0 where `p_lower` <= `p_upper`.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `dimension` not an integer.

    ValueError
        If a probability is outside [0, 1] or NaN, `ball_radius` is not positive and finite, or
        `dimension` is below 1.

    Notes
    -----
    Two balls at the distance :math:`r` lack :math:`I_{u^2}(\frac12, \frac{d + 1}{2})` of each
    other's mass, :math:`u = r / (2 \lambda)`, with the regularised incomplete beta function
    :math:`I`. The radius is where that is :math:`\frac{p_1 - p_2}{2}`; with
    :math:`p_2 = 1 - p_1` it is that of [1]_.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.shapes import uniform_ball_radius
    >>> uniform_ball_radius([0.9, 0.4], ball_radius=1.0, dimension=16).round(4)
    array([0.2571, 0.    ])
    """
    size = checked_dimension(dimension)
    gap = uniform_quantile_distance(probability_pair(p_lower, p_upper))
    unit = 2 * np.sqrt(betaincinv(0.5, (size + 1) / 2, gap / 2))
    return scaled_down("ball_radius", ball_radius, _evaluated(unit))


def exponential_linf_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, scale: ArrayLike
) -> NDArray[np.float64]:
    r"""Radius in l-infinity under noise with the l-infinity norm in the exponent.

    A classifier smoothed with noise of density proportional to
    :math:`e^{-\|x / \lambda\|_\infty}` answers the top class at every point closer than this
    in l-infinity, if `p_lower` and `p_upper` bound its class probabilities at the centre.
    Nothing is random here. The value is never above the exact one, and below it by at most
    :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    scale : float or array-like of float
        Scale of the noise, positive.

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
    The radius is that of Laplace noise in l1, whatever the dimension, with
    :math:`p_2 = 1 - p_1` that is :math:`-\lambda \ln(2 (1 - p_1))` [1]_. But the noise grows
    with the dimension: :math:`\|x\|_\infty / \lambda` has the mean :math:`d`.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.shapes import exponential_linf_radius
    >>> exponential_linf_radius([0.9, 0.4], scale=1.0).round(4)
    array([1.6094, 0.    ])
    """
    distance = laplace_quantile_distance(probability_pair(p_lower, p_upper))
    return scaled_down("scale", scale, distance / 2)


def exponential_l2_radius(
    p_lower: ArrayLike, *, scale: ArrayLike, dimension: int
) -> NDArray[np.float64]:
    r"""Radius in l2 under noise with the l2 norm in the exponent.

    A classifier smoothed with noise of density proportional to :math:`e^{-\|x / \lambda\|_2}`
    answers the top class at every point closer than this in l2, if its probability at the
    centre is at least `p_lower`. Nothing is random here. The value is never above the exact
    one, and below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1]; all others together are
        taken to have the rest.

    scale : float or array-like of float
        Scale of the noise, positive.

    dimension : int
        Number of coordinates of an input, at least 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= 1/2, infinite where it
        is 1. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `dimension` not an integer.

    ValueError
        If `p_lower` is outside [0, 1] or NaN, `scale` is not positive and finite, or
        `dimension` is below 1.

    Notes
    -----
    The radius is :math:`\lambda (d - 1) \operatorname{artanh}(1 - 2t)` where :math:`t` is the
    :math:`1 - p` quantile of the Beta distribution with both parameters
    :math:`\frac{d - 1}{2}` [1]_, and that of Laplace noise for :math:`d = 1`.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.shapes import exponential_l2_radius
    >>> exponential_l2_radius([0.9, 0.4], scale=1.0, dimension=16).round(4)
    array([5.0937, 0.    ])
    """
    size = checked_dimension(dimension)
    pair = probability_pair(p_lower, None)
    if size == 1:
        return scaled_down("scale", scale, laplace_quantile_distance(pair) / 2)
    return scaled_down("scale", scale, _one_sided(pair, lambda p: _cap_radius(p, size)))


def pareto_radius(
    p_lower: ArrayLike, *, scale: ArrayLike, tail_index: ArrayLike
) -> NDArray[np.float64]:
    r"""Radius in l1 under independent power-law noise, symmetric Pareto (Lomax).

    A classifier smoothed with independent noise of density proportional to
    :math:`(1 + |x| / \lambda)^{-a - 1}` answers the top class at every point closer than this
    in l1, if its probability at the centre is at least `p_lower`. Nothing is random here. The
    value is never above the exact one, and below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1]; all others together are
        taken to have the rest.

    scale : float or array-like of float
        Scale of the noise, positive.

    tail_index : float or array-like of float
        Exponent a of the tail, positive. The variance is finite from 2 on.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= 1/2, infinite where it
        is 1. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `p_lower` is outside [0, 1] or NaN, or `scale` or `tail_index` is not positive and
        finite.

    Notes
    -----
    The density is log-convex on either side of its peak, so that an interval that starts at
    the peak gains most, and not a half-space. The radius is [1]_

    .. math:: \frac{\lambda}{a} \int_0^{2p - 1} \frac{du}{1 - u^{1 + 1/a}}
       = \frac{\lambda (2p - 1)}{a}\,
       {}_2F_1\bigl(1, b; b + 1; (2p - 1)^{1/b}\bigr), \qquad b = \frac{a}{a + 1} .

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Appendix.

    Examples
    --------
    >>> from randsmooth.bounds.shapes import pareto_radius
    >>> pareto_radius([0.9, 0.4], scale=1.0, tail_index=3.0).round(4)
    array([0.4489, 0.    ])
    """
    index = checked_scale("tail_index", tail_index)
    pair = probability_pair(p_lower, None)
    return scaled_down("scale", scale, _one_sided(pair, lambda p: _power_law_radius(p, index)))


def _evaluated(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower a radius past the error of its evaluation; its inputs were lowered before."""
    nothing = np.zeros_like(unit)
    return rounded_down(unit, nothing, _EVALUATION_ERROR * unit, tolerance=_TOLERANCE)


def _one_sided(
    pair: ProbabilityPair, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Radius from the top probability alone, lowered past the errors of input and evaluation."""
    leads = pair.top > pair.runner_up
    certain = pair.top == 1
    p = np.where(leads & ~certain, pair.top, 0.75)
    with np.errstate(all="ignore"):
        radius = np.where(certain, np.inf, np.where(leads, function(p), 0.0))
        least = function(np.maximum(np.nextafter(p, 0.0), 0.5))
        slack = np.where(pair.top_error > 0, radius - least, 0.0)
    return rounded_down(radius, slack, _EVALUATION_ERROR * radius, tolerance=_TOLERANCE)


def _cap_radius(p: NDArray[np.float64], dimension: int) -> NDArray[np.float64]:
    """(d - 1) artanh(u), where a coordinate of a random direction exceeds u with chance 1 - p."""
    half, rest = (dimension - 1) / 2, 2 * (1.0 - p)
    # The square of the coordinate has a Beta distribution; either tail keeps its digits.
    square = np.where(rest > 0.5, betaincinv(0.5, half, 2 * p - 1), betainccinv(0.5, half, rest))
    lack = betaincinv(half, 0.5, rest)
    outside = np.log1p(np.sqrt(1 - lack)) - np.log(lack) / 2
    artanh = np.where(square < 0.5, np.arctanh(np.sqrt(square)), outside)
    radius: NDArray[np.float64] = (dimension - 1) * artanh
    return radius


def _power_law_radius(p: NDArray[np.float64], index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral over the inverse growth rate; both series have positive terms only."""
    order = index / (index + 1)
    log_argument = np.log1p(-2 * (1.0 - p)) / order
    log_argument = np.where(p < 0.75, np.log(2 * p - 1) / order, log_argument)
    argument, lack = np.exp(log_argument), -np.expm1(log_argument)
    log_lack = np.log(lack)
    plain, next_to_one = np.zeros_like(lack), np.zeros_like(lack)
    power, other = np.ones_like(lack), np.ones_like(lack)
    for n in range(_TERMS):
        plain += power / (order + n)
        next_to_one += other * (digamma(n + 1) - digamma(order + n) - log_lack)
        power = power * argument
        other = other * lack * (order + n) / (n + 1)
    series = np.where(lack > 0.5, plain, next_to_one)
    return (2 * p - 1) / index * order * series
