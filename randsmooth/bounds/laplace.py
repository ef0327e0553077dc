"""Radii in the l1 norm for Laplace noise, independent in every coordinate."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.quantiles import (
    distance_from_certainty,
    laplace_quantile_distance,
    log_ratio_distance,
)
from randsmooth.bounds.rounding import scaled_down

__all__ = [
    "laplace_pure_dp_radius",
    "laplace_radius",
    "laplace_renyi_radius",
    "laplace_teng_radius",
]


def laplace_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, scale: ArrayLike
) -> NDArray[np.float64]:
    r"""Largest l1 radius that two class probabilities certify under Laplace noise.

    A classifier smoothed with independent Laplace noise answers the top class at every point
    closer than this in l1, if `p_lower` and `p_upper` bound its class probabilities at the
    centre. No other function of the two in this module is larger.
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
        Scale of the noise (its mean absolute value), positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= `p_upper`,
        infinite where `p_lower` is 1 or `p_upper` is 0.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `scale` is not positive and finite.

    Notes
    -----
    The radius is :math:`\frac{\lambda}{2}(Q(p_1) - Q(p_2))` with the quantile function
    :math:`Q(p) = \ln(2p)` up to one half and :math:`-\ln(2(1 - p))` beyond. It holds for any
    noise whose coordinates are independent, symmetric and log-concave, with their quantile
    function for Q: the mass of a set grows fastest along an axis if the set is a half-space
    across it, and the rate is sublinear in the direction, hence largest in the l1 ball along
    an axis. With :math:`p_2 = 1 - p_1` it is the radius of [1]_.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds import laplace_radius
    >>> laplace_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], scale=0.5).round(3)
    array([0.805, 0.631, 0.   ])
    """
    distance = laplace_quantile_distance(probability_pair(p_lower, p_upper))
    return scaled_down("scale", scale, distance / 2)


def laplace_renyi_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, scale: ArrayLike
) -> NDArray[np.float64]:
    r"""Radius in l1 that follows from the Renyi divergence of Laplace noise.

    A classifier smoothed with independent Laplace noise answers the top class at every point
    closer than this in l1, if `p_lower` and `p_upper` bound its class probabilities at the
    centre. It is never above `laplace_radius`.
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
        Scale of the noise (its mean absolute value), positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= `p_upper`,
        infinite where `p_lower` is 1.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `scale` is not positive and finite.

    Notes
    -----
    The radius is :math:`-\lambda \ln(1 - p_1 + p_2)` [1]_, the limit of infinite order.

    References
    ----------
    .. [1] B. Li, C. Chen, W. Wang and L. Carin, "Certified adversarial robustness with
       additive noise", NeurIPS 2019, Theorem 3.

    Examples
    --------
    >>> from randsmooth.bounds import laplace_renyi_radius
    >>> laplace_renyi_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], scale=0.5).round(3)
    array([0.805, 0.602, 0.   ])
    """
    return scaled_down("scale", scale, distance_from_certainty(probability_pair(p_lower, p_upper)))


def laplace_pure_dp_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, scale: ArrayLike
) -> NDArray[np.float64]:
    r"""Radius in l1 that follows from the differential privacy of Laplace noise.

    A classifier smoothed with independent Laplace noise answers the top class at every point
    closer than this in l1, if `p_lower` and `p_upper` bound its class probabilities at the
    centre. It is never above `laplace_radius`.
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
        Scale of the noise (its mean absolute value), positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= `p_upper`,
        infinite where `p_lower` is 1 or `p_upper` is 0.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `scale` is not positive and finite.

    Notes
    -----
    The noise is :math:`\epsilon`-private towards shifts of length :math:`\lambda \epsilon`,
    and the decision holds if :math:`p_1 \ge e^{2\epsilon} p_2` [1]_; the radius is
    :math:`\frac{\lambda}{2} \ln(p_1 / p_2)`.

    References
    ----------
    .. [1] M. Lecuyer, V. Atlidakis, R. Geambasu, D. Hsu and S. Jana, "Certified robustness
       to adversarial examples with differential privacy", IEEE S&P 2019, Proposition 1.

    Examples
    --------
    >>> from randsmooth.bounds import laplace_pure_dp_radius
    >>> laplace_pure_dp_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], scale=0.5).round(3)
    array([0.549, 0.52 , 0.   ])
    """
    distance = log_ratio_distance(probability_pair(p_lower, p_upper))
    return scaled_down("scale", scale, distance / 2)


def laplace_teng_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, scale: ArrayLike
) -> NDArray[np.float64]:
    r"""Larger of the two classical l1 radii for Laplace noise.

    A classifier smoothed with independent Laplace noise answers the top class at every point
    closer than this in l1, if `p_lower` and `p_upper` bound its class probabilities at the
    centre. It is never above `laplace_radius`, and equal to it
    where the two bounds add up to one.
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
        Scale of the noise (its mean absolute value), positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `scale`. It is 0 where `p_lower` <= `p_upper`,
        infinite where `p_lower` is 1 or `p_upper` is 0.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `scale` is not positive and finite.

    Notes
    -----
    The radius is :math:`\max\bigl(\frac{\lambda}{2} \ln(p_1 / p_2),
    -\lambda \ln(1 - p_1 + p_2)\bigr)` [1]_. Both come from the same pair of probabilities,
    so that the larger one is free.

    References
    ----------
    .. [1] J. Teng, G.-H. Lee and Y. Yuan, "l1 adversarial robustness certificates: a
       randomized smoothing approach", 2019, Theorem 1.

    Examples
    --------
    >>> from randsmooth.bounds import laplace_teng_radius
    >>> laplace_teng_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], scale=0.5).round(3)
    array([0.805, 0.602, 0.   ])
    """
    return np.maximum(
        laplace_pure_dp_radius(p_lower, p_upper, scale=scale),
        laplace_renyi_radius(p_lower, p_upper, scale=scale),
    )
