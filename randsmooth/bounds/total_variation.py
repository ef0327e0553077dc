"""The most by which an attack can change the probability of any event, for each noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from randsmooth.bounds.divergences import checked_attack, gaussian_deviation
from randsmooth.bounds.rounding import scaled_down

__all__ = [
    "gaussian_total_variation",
    "laplace_total_variation",
    "total_variation_gap",
    "uniform_total_variation",
]

_EPSILON = float(np.finfo(np.float64).eps)
_HALF_ROOT = float(np.sqrt(0.125))


def gaussian_total_variation(
    attack: ArrayLike, *, sigma: ArrayLike | None = None, covariance: ArrayLike | None = None
) -> NDArray[np.float64]:
    r"""Total variation distance between Gaussian noise and its copy moved by an attack.

    No attack of l2 norm at most `attack` changes the probability of any event by more: not that
    of an answer being right either. Nothing is random here. The value is rounded up: never below
    the exact one for the smallest standard deviation, and above it by at most
    :math:`10^{-13}` of it.

    Parameters
    ----------
    attack : array-like of float, shape (...)
        Length of the attack in l2, at least 0; infinity is allowed.

    sigma : float or array-like of float, or None, default=None
        Standard deviation of independent noise, positive. Broadcast against `attack`.

    covariance : array-like of float, shape (d, d), or None, default=None
        Covariance of the noise instead, symmetric and positive definite.

    Returns
    -------
    ndarray of float64, shape (...)
        The distance, in [0, 1]. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `attack` is negative or NaN, `sigma` not positive and finite, or not exactly one of
        `sigma` and `covariance` given.

    Notes
    -----
    The value is :math:`2\Phi(a / (2\sigma)) - 1`.

    Examples
    --------
    >>> from randsmooth.bounds.total_variation import gaussian_total_variation
    >>> gaussian_total_variation([0.0, 0.25, 0.5], sigma=0.5).round(4)
    array([0.    , 0.1974, 0.3829])
    """
    length = checked_attack(attack)
    with np.errstate(over="ignore", under="ignore"):
        distance = erf(length / gaussian_deviation(sigma, covariance) * _HALF_ROOT)
    return _raised_probability(distance, length)


def laplace_total_variation(attack: ArrayLike, *, scale: ArrayLike) -> NDArray[np.float64]:
    r"""Total variation distance between Laplace noise and its copy moved by an attack.

    No attack of l1 norm at most `attack` changes the probability of any event by more. Nothing
    is random here. The value is rounded up: never below the exact one, and above it by at most
    :math:`10^{-13}` of it.

    Parameters
    ----------
    attack : array-like of float, shape (...)
        Length of the attack in l1, at least 0; infinity is allowed.

    scale : float or array-like of float
        Scale of the noise (its mean absolute value), positive. Broadcast against `attack`.

    Returns
    -------
    ndarray of float64, shape (...)
        The distance, in [0, 1]. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `attack` is negative or NaN, or `scale` not positive and finite.

    Notes
    -----
    The value is :math:`1 - e^{-a / (2\lambda)}`, which is that of a shift along one axis. No
    other shift of this l1 norm is farther: no event loses more than
    :math:`p - F(F^{-1}(p) - a)` [1]_, which is largest for the half-space in the middle.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.total_variation import laplace_total_variation
    >>> laplace_total_variation([0.0, 0.25, 0.5], scale=0.5).round(4)
    array([0.    , 0.2212, 0.3935])
    """
    length = checked_attack(attack)
    scaled_down("scale", scale, np.ones(()))  # for its checks
    with np.errstate(over="ignore", under="ignore"):
        distance = -np.expm1(-length / np.asarray(scale, dtype=np.float64) / 2)
    return _raised_probability(distance, length)


def uniform_total_variation(attack: ArrayLike, *, half_width: ArrayLike) -> NDArray[np.float64]:
    r"""Total variation distance between uniform noise and its copy moved by an attack.

    No attack of l1 norm at most `attack` changes the probability of any event by more. Nothing
    is random here. The value is rounded up: never below the exact one, and above it by at most
    :math:`10^{-13}` of it.

    Parameters
    ----------
    attack : array-like of float, shape (...)
        Length of the attack in l1, at least 0; infinity is allowed.

    half_width : float or array-like of float
        Half the width of the noise, which is uniform on [-`half_width`, `half_width`], positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The distance, in [0, 1]; 1 from the attack 2 `half_width` on. A float64 scalar where all
        arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `attack` is negative or NaN, or `half_width` not positive and finite.

    Notes
    -----
    The value is :math:`\min(a / (2\lambda), 1)`. Two cubes overlap in a share of
    :math:`\prod_i (1 - |\delta_i| / (2\lambda))`, which is at least
    :math:`1 - \sum_i |\delta_i| / (2\lambda)`.

    Examples
    --------
    >>> from randsmooth.bounds.total_variation import uniform_total_variation
    >>> uniform_total_variation([0.0, 0.25, 2.0], half_width=0.5).round(4)
    array([0.  , 0.25, 1.  ])
    """
    length = checked_attack(attack)
    scaled_down("half_width", half_width, np.ones(()))  # for its checks
    with np.errstate(over="ignore", under="ignore"):
        distance = length / np.asarray(half_width, dtype=np.float64) / 2
    return _raised_probability(distance, length)


def total_variation_gap(divergence: ArrayLike) -> NDArray[np.float64]:
    r"""Largest total variation distance that a Kullback-Leibler divergence allows.

    Where no attack moves the answers of a classifier by more than the divergence, its accuracy
    falls by no more than this. Nothing is random here. The value is rounded up. For the noises
    that have a function of their own here, that one is closer.

    Parameters
    ----------
    divergence : array-like of float, shape (...)
        Upper bound on the divergence, at least 0, in nats. Any order from 1 on will do.

    Returns
    -------
    ndarray of float64, shape (...)
        The distance, in [0, 1]. A float64 scalar where `divergence` is one.

    Raises
    ------
    TypeError
        If the divergence is not numeric.

    ValueError
        If the divergence is negative or NaN.

    Notes
    -----
    The value is the smaller of :math:`\sqrt{\epsilon / 2}` (Pinsker) and
    :math:`\sqrt{1 - e^{-\epsilon}}` [1]_.

    References
    ----------
    .. [1] J. Bretagnolle and C. Huber, "Estimation des densités: risque minimax", Zeitschrift
       für Wahrscheinlichkeitstheorie 47, 1979, Lemma 2.1.

    Examples
    --------
    >>> from randsmooth.bounds.total_variation import total_variation_gap
    >>> total_variation_gap([0.0, 0.125, 2.0]).round(4)
    array([0.    , 0.25  , 0.9299])
    """
    bits = checked_attack(divergence, name="divergence")
    distance = np.sqrt(np.minimum(bits / 2, -np.expm1(-bits)))
    return _raised_probability(distance, bits)


def _raised_probability(
    distance: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Raise a distance past its evaluation, but for that of no attack, which is 0."""
    raised = np.minimum(np.nextafter(distance * (1 + 64 * _EPSILON), np.inf), 1.0)
    return np.where(size == 0, 0.0, raised)[()]
