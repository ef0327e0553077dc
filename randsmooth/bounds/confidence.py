"""How confident a smoothed classifier provably stays within a radius, from scores under noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.confidence_profile import (
    Shift,
    checked_range,
    checked_shift,
    confidence_at,
    counts_profile,
    mean_profile,
    radius_where,
)
from randsmooth.intervals.distribution import equal_count_thresholds, order_statistic_thresholds

__all__ = [
    "distribution_confidence_lower",
    "distribution_confidence_radius",
    "equal_count_thresholds",
    "mean_confidence_lower",
    "mean_confidence_radius",
    "order_statistic_thresholds",
]


def mean_confidence_lower(
    mean: ArrayLike,
    trials: ArrayLike,
    radius: ArrayLike,
    *,
    alpha: float,
    sigma: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    probability_lower: Shift | None = None,
) -> NDArray[np.float64]:
    r"""Lower bound on the expected score within a radius, from the mean of scores under noise.

    The expectation of the score under noise is at least this at every input no farther than
    `radius`, for all radii together, with probability at least 1 - `alpha` over the draws of the
    scores, for each input by itself. It is rounded down: never above the exact bound for this
    mean, and below it by at most :math:`10^{-9}` of its distance from `low`.

    Parameters
    ----------
    mean : array-like of float, shape (...)
        Mean score of each input, in [`low`, `high`].

    trials : array-like of int, shape (...)
        Number of independent scores, at least 1 and fixed in advance. Broadcast against `mean`.

    radius : float or array-like of float, shape (n_radii,)
        Radii in the norm of the noise, l2 for Gaussian noise; at least 0 and finite.

    alpha : float
        Failure probability of each input, above 0 and at most one half.

    sigma : float or None, default=None
        Standard deviation of Gaussian noise, positive. Either this or `probability_lower`.

    low, high : float, default=0.0 and 1.0
        Range of a score, declared and not estimated: (-1, 1) for margins.

    probability_lower : callable or None, default=None
        ``probability_lower(p, radius)`` is, for arrays that broadcast, a lower bound on the
        probability of any event after a shift of length `radius` if it is `p` before. It must
        not fall with `p` nor rise with `radius`, and be convex in `p` for bounds from the mean.
        None is Gaussian noise.

    Returns
    -------
    ndarray of float64, shape (...) or (..., n_radii)
        The bounds, in [`low`, `high`); `low` where nothing better is certified. A float64 scalar
        where all arguments are scalars.

    Raises
    ------
    TypeError
        If an argument is not numeric, or not exactly one of `sigma` and `probability_lower` is
        given.

    ValueError
        If `mean` is outside [`low`, `high`], `alpha` outside (0, 1/2], `sigma` not positive, a
        radius negative or not finite, or a number of draws below 1.

    See Also
    --------
    distribution_confidence_lower : Much larger at positive radii.

    Notes
    -----
    With :math:`e = \sqrt{\ln(1/\alpha)/(2n)}` from Hoeffding's inequality,
    :math:`q = (\bar h - a)/(b - a) - e` and scores in :math:`[a, b]`, the bound at radius
    :math:`R` is :math:`a + (b - a) \Phi(\Phi^{-1}(q) - R/\sigma)` [1]_, and :math:`a` where
    :math:`q \le 0`.

    References
    ----------
    .. [1] A. Kumar, A. Levine, S. Feizi and T. Goldstein, "Certifying confidence via randomized
       smoothing", NeurIPS 2020, Theorem 1.

    Examples
    --------
    >>> from randsmooth.bounds.confidence import mean_confidence_lower
    >>> mean_confidence_lower([0.9, 0.6], 1000, [0.0, 0.1, 0.5], sigma=0.25, alpha=0.001).round(3)
    array([[0.841, 0.726, 0.159],
           [0.541, 0.383, 0.029]])
    """
    shift = checked_shift(sigma, probability_lower)
    profile = mean_profile(mean, trials, alpha, checked_range(low, high), shift)
    return confidence_at(profile, radius)


def mean_confidence_radius(
    mean: ArrayLike,
    trials: ArrayLike,
    threshold: ArrayLike,
    *,
    alpha: float,
    sigma: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    probability_lower: Shift | None = None,
) -> NDArray[np.float64]:
    r"""Radius within which the expected score stays above a threshold, from the mean of scores.

    The expectation of the score under noise is at least `threshold` at every input no farther
    than this, for all thresholds together, with probability at least 1 - `alpha` over the draws
    of the scores, for each input by itself. The radius is rounded down: `mean_confidence_lower`
    there is at least `threshold`.

    Parameters
    ----------
    mean : array-like of float, shape (...)
        Mean score of each input, in [`low`, `high`].

    trials : array-like of int, shape (...)
        Number of independent scores, at least 1 and fixed in advance. Broadcast against `mean`.

    threshold : float or array-like of float, shape (n_levels,)
        Scores to stay at or above, at least `low` and no more than so many draws can certify.

    alpha, sigma, low, high, probability_lower : optional
        As for `mean_confidence_lower`.

    Returns
    -------
    ndarray of float64, shape (...) or (..., n_levels)
        The radii; 0 where the bound at the input itself is not above the threshold. Where it is,
        the threshold `low` has an infinite radius. A float64 scalar where all arguments are
        scalars.

    Raises
    ------
    TypeError
        As for `mean_confidence_lower`.

    ValueError
        As for `mean_confidence_lower`, or if a threshold is outside the range or above what so
        many draws can certify.

    Notes
    -----
    For Gaussian noise and a threshold :math:`c` it is
    :math:`\sigma(\Phi^{-1}(q) - \Phi^{-1}((c - a)/(b - a)))`, with :math:`q` as there.

    Examples
    --------
    >>> from randsmooth.bounds.confidence import mean_confidence_radius
    >>> mean_confidence_radius([0.9, 0.6], 1000, 0.5, sigma=0.25, alpha=0.001).round(3)
    array([0.25 , 0.026])
    """
    shift = checked_shift(sigma, probability_lower)
    profile = mean_profile(mean, trials, alpha, checked_range(low, high), shift)
    return radius_where(profile, threshold, trials, alpha)


def distribution_confidence_lower(
    counts: ArrayLike,
    thresholds: ArrayLike,
    trials: int,
    radius: ArrayLike,
    *,
    alpha: float,
    sigma: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    probability_lower: Shift | None = None,
) -> NDArray[np.float64]:
    r"""Lower bound on the expected score within a radius, from the distribution of scores.

    The expectation of the score under noise is at least this at every input no farther than
    `radius`, for all radii together, with probability at least 1 - `alpha` over the draws of the
    scores, for each input by itself. The thresholds may have been chosen from the same scores. It
    is rounded down: never above the exact bound for these counts, and below it by at most
    :math:`10^{-9}` of its distance from `low` (up to three million thresholds).

    Parameters
    ----------
    counts : array-like of int, shape (..., n_thresholds)
        Number of scores at or above each threshold, between 0 and `trials`.

    thresholds : array-like of float, shape (n_thresholds,) or (..., n_thresholds)
        Thresholds in [`low`, `high`], not decreasing along the last axis; the same for all
        inputs, or those of each.

    trials : int
        Number of independent scores, at least 1 and fixed in advance.

    radius : float or array-like of float, shape (n_radii,)
        Radii in the norm of the noise, l2 for Gaussian noise; at least 0 and finite.

    alpha, sigma, low, high, probability_lower : optional
        As for `mean_confidence_lower`.

    Returns
    -------
    ndarray of float64, shape (...) or (..., n_radii)
        The bounds, in [`low`, `high`); `low` where nothing better is certified. A float64 scalar
        where `counts` are those of one input and `radius` is a scalar.

    Raises
    ------
    TypeError
        If an argument is not numeric, or not exactly one of `sigma` and `probability_lower` is
        given.

    ValueError
        If counts or thresholds are out of range, out of order or of other shapes, `alpha` is
        outside (0, 1/2], `sigma` not positive, or a radius negative or not finite.

    See Also
    --------
    equal_count_thresholds : Thresholds and counts from scores that were kept.
    mean_confidence_lower : What the mean alone tells.

    Notes
    -----
    With :math:`p_j` the lower bounds of `dkw_band`, :math:`s_0 = a` and scores in
    :math:`[a, b]`, the bound at radius :math:`R` is [1]_

    .. math:: a + \sum_j (s_j - s_{j-1})\, \Phi\bigl(\Phi^{-1}(p_j) - R/\sigma\bigr).

    On the event on which this bound holds the one from the mean of the same scores holds as well,
    so that the better of the two may be taken after looking.

    The normal distribution functions are evaluated once for each count that is possible, so that
    many curves cost little more than looking up and adding.

    References
    ----------
    .. [1] A. Kumar, A. Levine, S. Feizi and T. Goldstein, "Certifying confidence via randomized
       smoothing", NeurIPS 2020, Theorem 2.

    Examples
    --------
    >>> from randsmooth.bounds.confidence import distribution_confidence_lower
    >>> counts, thresholds = [1000, 990, 900, 600], [0.25, 0.5, 0.75, 1.0]
    >>> distribution_confidence_lower(
    ...     counts, thresholds, 1000, [0.0, 0.1, 0.5], sigma=0.25, alpha=0.001
    ... ).round(3)
    array([0.814, 0.712, 0.206])
    """
    shift = checked_shift(sigma, probability_lower)
    profile = counts_profile(counts, thresholds, trials, alpha, checked_range(low, high), shift)
    return confidence_at(profile, radius)


def distribution_confidence_radius(
    counts: ArrayLike,
    thresholds: ArrayLike,
    trials: int,
    threshold: ArrayLike,
    *,
    alpha: float,
    sigma: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
    probability_lower: Shift | None = None,
) -> NDArray[np.float64]:
    """Radius within which the expected score stays above a threshold, from the distribution.

    The expectation of the score under noise is at least `threshold` at every input no farther
    than this, for all thresholds together, with probability at least 1 - `alpha` over the draws
    of the scores, for each input by itself. The radius is rounded down:
    `distribution_confidence_lower` there is at least `threshold`.

    Parameters
    ----------
    counts, thresholds, trials : array-like of int, of float, and int
        As for `distribution_confidence_lower`.

    threshold : float or array-like of float, shape (n_levels,)
        Scores to stay at or above, at least `low` and no more than so many draws can certify.

    alpha, sigma, low, high, probability_lower : optional
        As for `mean_confidence_lower`.

    Returns
    -------
    ndarray of float64, shape (...) or (..., n_levels)
        The radii; 0 where the bound at the input itself is not above the threshold. Where it is,
        the threshold `low` has an infinite radius. A float64 scalar where `counts` are those of
        one input and `threshold` is a scalar.

    Raises
    ------
    TypeError
        As for `distribution_confidence_lower`.

    ValueError
        As for `distribution_confidence_lower`, or if a threshold is outside the range or above
        what so many draws can certify.

    Examples
    --------
    >>> from randsmooth.bounds.confidence import distribution_confidence_radius
    >>> counts, thresholds = [1000, 990, 900, 600], [0.25, 0.5, 0.75, 1.0]
    >>> distribution_confidence_radius(
    ...     counts, thresholds, 1000, [0.3, 0.7], sigma=0.25, alpha=0.001
    ... ).round(3)
    array([0.416, 0.11 ])
    """
    shift = checked_shift(sigma, probability_lower)
    profile = counts_profile(counts, thresholds, trials, alpha, checked_range(low, high), shift)
    return radius_where(profile, threshold, trials, alpha)
