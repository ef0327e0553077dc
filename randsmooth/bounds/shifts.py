"""How far the probability of one event can move when the input does."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from randsmooth.bounds.distributions import Distribution, checked_distribution
from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.scales import exact_product, length_in_scales
from randsmooth.bounds.validation import checked_radius, checked_scale

__all__ = [
    "gaussian_probability_lower",
    "gaussian_probability_upper",
    "laplace_probability_lower",
    "log_concave_probability_lower",
    "uniform_probability_lower",
]

_EPSILON = float(np.finfo(np.float64).eps)
# Next to the end of the doubles a share of a number is no number any more.
_SMALLEST = 1e-300


def gaussian_probability_lower(
    p_lower: ArrayLike, radius: ArrayLike, *, sigma: ArrayLike
) -> NDArray[np.float64]:
    r"""Lower bound on the probability of an event after a shift, under Gaussian noise.

    An event of probability at least `p_lower` under Gaussian noise around an input has at
    least this probability around every input no farther than `radius` in l2, whatever the
    event; a half-space attains it. Nothing is random here. The value is never above the
    exact one, and below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the event, in [0, 1].

    radius : array-like of float, shape (...)
        Length of the shift in l2, at least 0; infinity is allowed.

    sigma : float or array-like of float
        Standard deviation of the noise, positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The probability, broadcast over the arguments. It is `p_lower` where `radius` is 0,
        and 0 or 1 where `p_lower` is. What is below :math:`10^{-300}` is 0.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `p_lower` is outside [0, 1], `radius` negative or NaN, or `sigma` not positive and
        finite.

    Notes
    -----
    The value is :math:`\Phi(\Phi^{-1}(p) - R / \sigma)` [1]_.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via
       randomized smoothing", ICML 2019, Lemma 4.

    Examples
    --------
    >>> from randsmooth.bounds.shifts import gaussian_probability_lower
    >>> gaussian_probability_lower(0.9, [0.0, 0.5, 1.0], sigma=1.0).round(3)
    array([0.9  , 0.783, 0.611])
    """
    p = probability_pair(p_lower, None).top
    shift = length_in_scales(radius, "sigma", sigma)
    with np.errstate(all="ignore"):
        z = ndtri(p)
        moved = z - shift - 16 * _EPSILON * (np.abs(z) + shift)
        share = np.minimum((16 + 4 * moved**2) * _EPSILON, 1.0)
        tail = ndtr(-np.abs(moved))
        value = np.where(moved < 0, tail - tail * share, 1.0 - (tail + tail * share))
    return _lowered(value, p, shift, certain=True)


def gaussian_probability_upper(
    p_upper: ArrayLike, radius: ArrayLike, *, sigma: ArrayLike
) -> NDArray[np.float64]:
    r"""Upper bound on the probability of an event after a shift, under Gaussian noise.

    An event of probability at most `p_upper` under Gaussian noise around an input has at
    most this probability around every input no farther than `radius` in l2, whatever the
    event; a half-space attains it. Nothing is random here. The value is never below the
    exact one, and above it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_upper : array-like of float, shape (...)
        Upper bound on the probability of the event, in [0, 1].

    radius : array-like of float, shape (...)
        Length of the shift in l2, at least 0; infinity is allowed.

    sigma : float or array-like of float
        Standard deviation of the noise, positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The probability, broadcast over the arguments. It is `p_upper` where `radius` is 0,
        and 0 or 1 where `p_upper` is; at least :math:`10^{-300}` otherwise.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `p_upper` is outside [0, 1], `radius` negative or NaN, or `sigma` not positive and
        finite.

    Notes
    -----
    The value is :math:`\Phi(\Phi^{-1}(p) + R / \sigma)` [1]_: what the complement keeps, the
    event cannot gain.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via
       randomized smoothing", ICML 2019, Lemma 4.

    Examples
    --------
    >>> from randsmooth.bounds.shifts import gaussian_probability_upper
    >>> gaussian_probability_upper(0.1, [0.0, 0.5, 1.0], sigma=1.0).round(3)
    array([0.1  , 0.217, 0.389])
    """
    p = probability_pair(0.0, p_upper).runner_up
    shift = length_in_scales(radius, "sigma", sigma)
    with np.errstate(all="ignore"):
        z = ndtri(p)
        moved = z + shift + 16 * _EPSILON * (np.abs(z) + shift)
        share = np.minimum((16 + 4 * moved**2) * _EPSILON, 1.0)
        tail = ndtr(-np.abs(moved))
        value = np.where(moved < 0, tail + tail * share, 1.0 - (tail - tail * share))
        raised = np.clip(np.nextafter(value, 2.0), np.maximum(p, _SMALLEST), 1.0)
    settled = (shift == 0) | (p == 0) | (p == 1)
    result: NDArray[np.float64] = np.where(settled, p, raised)[()]
    return result


def laplace_probability_lower(
    p_lower: ArrayLike, radius: ArrayLike, *, scale: ArrayLike
) -> NDArray[np.float64]:
    r"""Lower bound on the probability of an event after a shift, under Laplace noise.

    An event of probability at least `p_lower` under independent Laplace noise around an
    input has at least this probability around every input no farther than `radius` in l1,
    whatever the event; a half-space across an axis attains it. Nothing is random here. The
    value is never above the exact one, and below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the event, in [0, 1].

    radius : array-like of float, shape (...)
        Length of the shift in l1, at least 0; infinity is allowed.

    scale : float or array-like of float
        Scale of the noise (its mean absolute value), positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The probability, broadcast over the arguments. It is `p_lower` where `radius` is 0,
        and 0 or 1 where `p_lower` is. What is below :math:`10^{-300}` is 0.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `p_lower` is outside [0, 1], `radius` negative or NaN, or `scale` not positive and
        finite.

    Notes
    -----
    The value is :math:`F(F^{-1}(p) - R)` with the distribution function F of the noise
    [1]_. With :math:`s = R / \lambda` that is :math:`p e^{-s}` for :math:`p \le 1/2`,
    :math:`1 - (1 - p) e^s` while that is at least 1/2, and :math:`e^{-s} / (4 (1 - p))`
    beyond.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.shifts import laplace_probability_lower
    >>> laplace_probability_lower(0.9, [0.0, 0.5, 2.0], scale=1.0).round(3)
    array([0.9  , 0.835, 0.338])
    """
    p = probability_pair(p_lower, None).top
    shift = length_in_scales(radius, "scale", scale)
    rest = 1.0 - p
    with np.errstate(all="ignore"):
        fallen = np.exp(-shift) * (1 - 8 * _EPSILON)
        grown = rest * (np.exp(shift) * (1 + 8 * _EPSILON))
        beyond = fallen / (4 * rest) * (1 - 4 * _EPSILON)
        high = np.where(grown <= 0.5, 1.0 - grown, beyond)
        value = np.where(p <= 0.5, p * fallen, high)
    return _lowered(value, p, shift, certain=True)


def uniform_probability_lower(
    p_lower: ArrayLike, radius: ArrayLike, *, half_width: ArrayLike
) -> NDArray[np.float64]:
    r"""Lower bound on the probability of an event after a shift, under uniform noise.

    An event of probability at least `p_lower` under independent uniform noise around an
    input has at least this probability around every input no farther than `radius` in l1,
    whatever the event. Nothing is random here. The value is never above the exact one, and
    below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the event, in [0, 1].

    radius : array-like of float, shape (...)
        Length of the shift in l1, at least 0; infinity is allowed.

    half_width : float or array-like of float
        Half the width of the noise, which is uniform on [-`half_width`, `half_width`], positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The probability, broadcast over the arguments. It is `p_lower` where `radius` is 0,
        and 0 from the radius 2 `half_width` `p_lower` on. What is below :math:`10^{-300}`
        is 0. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `p_lower` is outside [0, 1], `radius` negative or NaN, or `half_width` not positive
        and finite.

    Notes
    -----
    The value is :math:`\max(p - R / (2\lambda), 0)` [1]_. It is evaluated as
    :math:`(2\lambda p - R) / (2\lambda)` with the product in two doubles, so that nothing
    is lost where the two terms nearly cancel.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Improved, deterministic smoothing for L1 certified
       robustness", ICML 2021, Theorem 1.

    Examples
    --------
    >>> from randsmooth.bounds.shifts import uniform_probability_lower
    >>> uniform_probability_lower(0.9, [0.0, 0.5, 2.0], half_width=1.0).round(3)
    array([0.9 , 0.65, 0.  ])
    """
    p = probability_pair(p_lower, None).top
    length, width = checked_radius(radius), checked_scale("half_width", half_width)
    with np.errstate(all="ignore"):
        mantissa, exponent = np.frexp(width)
        # A power of two keeps all digits, but for those below the smallest number.
        shift = np.ldexp(length, -exponent - 1)
        shift = np.where(np.ldexp(shift, exponent + 1) < length, np.nextafter(shift, np.inf), shift)
        product, rest = exact_product(mantissa, p)
        value = ((product - shift) + rest) / mantissa * (1 - 8 * _EPSILON)
    return _lowered(value, p, shift, certain=False)


def log_concave_probability_lower(
    p_lower: ArrayLike,
    radius: ArrayLike,
    distribution: Distribution,
    *,
    accuracy: float = 1e-9,
) -> NDArray[np.float64]:
    r"""Lower bound on the probability of an event after a shift, under log-concave noise.

    An event of probability at least `p_lower` under noise of independent coordinates, each of
    this symmetric log-concave distribution, has at least this probability around every input
    no farther than `radius` in l1, whatever the event; a half-space across an axis attains it.
    Nothing is random here. The value is never above the exact one if the functions of the
    distribution are as accurate as `accuracy` says, which is an assumption.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the event, in [0, 1].

    radius : array-like of float, shape (...)
        Length of the shift in l1, at least 0; infinity is allowed.

    distribution : Distribution
        Distribution of one coordinate of the noise, scale included, such as a frozen one of
        `scipy.stats`.

    accuracy : float, default=1e-9
        Relative error that is allowed for in the functions of `distribution`, as described in
        `log_concave_radius`; in (0, 0.1].

    Returns
    -------
    ndarray of float64, shape (...)
        The probability, broadcast over the arguments. It is `p_lower` where `radius` is 0.
        What is below :math:`10^{-300}` is 0. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `distribution` lacks a function.

    ValueError
        If `p_lower` is outside [0, 1], `radius` negative or NaN, `accuracy` out of range, or
        `distribution` not symmetric about 0 or visibly not log-concave.

    Notes
    -----
    The value is :math:`F(F^{-1}(p) - R)` with the distribution function F [1]_.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from scipy.stats import logistic
    >>> from randsmooth.bounds.shifts import log_concave_probability_lower
    >>> log_concave_probability_lower(0.9, [0.0, 0.5, 2.0], logistic(scale=1.0)).round(3)
    array([0.9  , 0.845, 0.549])
    """
    checked = checked_distribution(distribution, accuracy)
    p, length = np.broadcast_arrays(probability_pair(p_lower, None).top, checked_radius(radius))
    with np.errstate(all="ignore"):
        z = checked.quantile_lower(p, 1.0 - p)
        moved = z - length
        moved = moved - 4 * _EPSILON * (np.abs(z) + length)
        below = np.asarray(distribution.cdf(moved)) * (1 - accuracy)
        above = np.asarray(distribution.sf(moved)) * (1 + accuracy)
        value = np.where(moved < 0, below, 1.0 - above)
    return _lowered(value, p, length, certain=z == np.inf)


def _lowered(
    value: NDArray[np.float64],
    p: NDArray[np.float64],
    shift: NDArray[np.float64],
    *,
    certain: bool | NDArray[np.bool_],
) -> NDArray[np.float64]:
    """One step below the value, with the ends put right; `certain` where 1 stays 1."""
    below = np.minimum(np.nextafter(value, -1.0), p)
    below = np.where(below < _SMALLEST, 0.0, below)
    settled = (shift == 0) | (p == 0) | ((p == 1) & certain)
    result: NDArray[np.float64] = np.where(settled, p, below)[()]
    return result
