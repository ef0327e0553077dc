"""A confidence band for a whole distribution, from the counts of scores above thresholds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.intervals.ranges import checked_within
from randsmooth.intervals.validation import checked_alpha, checked_counts, checked_integers

__all__ = ["dkw_band", "dkw_margin", "equal_count_thresholds", "order_statistic_thresholds"]

_EPSILON = float(np.finfo(np.float64).eps)
_LARGEST_ALPHA = 0.5


def dkw_margin(trials: ArrayLike, *, alpha: float) -> NDArray[np.float64]:
    r"""Margin by which an empirical distribution may exceed the true one anywhere.

    The share of draws at or above a threshold exceeds the probability of it by more than this,
    at any threshold at all, with probability at most `alpha` over the draws. It is rounded up:
    never below the exact value, and above it by at most :math:`10^{-14}` of it.

    Parameters
    ----------
    trials : array-like of int, shape (...)
        Number of independent draws, at least 1.

    alpha : float
        Failure probability, above 0 and at most one half.

    Returns
    -------
    ndarray of float64, shape (...)
        The margin, which is above 1 for very few draws. A float64 scalar where `trials` is one.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1/2], or a number of draws is not a whole number of at least 1.

    Notes
    -----
    The margin is :math:`\sqrt{\ln(1/\alpha) / (2n)}`. That this holds one-sidedly, with no
    factor before the exponential, for all :math:`\alpha \le 1/2` is [1]_, Theorem 1. Hoeffding's
    inequality has the same margin for the mean of draws from [0, 1].

    References
    ----------
    .. [1] P. Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality",
       Annals of Probability 18(3), 1990.

    Examples
    --------
    >>> from randsmooth.intervals.distribution import dkw_margin
    >>> dkw_margin([1000, 100_000], alpha=0.001).round(5)
    array([0.05877, 0.00588])
    """
    level = checked_alpha(alpha)
    if level > _LARGEST_ALPHA:
        raise ValueError(
            f"alpha must be at most 0.5, as the Dvoretzky-Kiefer-Wolfowitz inequality requires, "
            f"got {alpha!r}."
        )
    draws = checked_counts("trials", trials)
    if (draws < 1).any():
        raise ValueError(f"trials must be at least 1, got {draws[draws < 1].item(0)!r}.")
    margin = np.sqrt(-math.log(level) / (2.0 * draws)) * (1 + 8 * _EPSILON)
    return np.asarray(margin)[()]


def dkw_band(counts: ArrayLike, trials: ArrayLike, *, alpha: float) -> NDArray[np.float64]:
    r"""Simultaneous lower bounds on the probabilities that a score reaches thresholds.

    All of them hold together, for however many thresholds, with probability at least
    1 - `alpha` over the draws of the scores. The thresholds may have been chosen after looking at
    the same draws. Every bound is rounded down: never above the exact one for its count.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_thresholds)
        Number of scores at or above each threshold, between 0 and `trials`.

    trials : array-like of int, shape (...)
        Number of independent scores, at least 1. Broadcast against `counts`.

    alpha : float
        Failure probability, above 0 and at most one half.

    Returns
    -------
    ndarray of float64, shape (..., n_thresholds)
        The bounds, in [0, 1). They are 0 where the share of scores is at most the margin. A
        float64 scalar where both counts are scalars.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1/2], or a count is outside [0, `trials`].

    See Also
    --------
    dkw_margin : What is subtracted from each share.

    Notes
    -----
    With :math:`k` of :math:`n` scores at or above a threshold the bound is
    :math:`\max(k/n - \sqrt{\ln(1/\alpha) / (2n)}, 0)` [1]_.

    References
    ----------
    .. [1] P. Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality",
       Annals of Probability 18(3), 1990.

    Examples
    --------
    >>> from randsmooth.intervals.distribution import dkw_band
    >>> dkw_band([1000, 700, 50], 1000, alpha=0.001).round(4)
    array([0.9412, 0.6412, 0.    ])
    """
    margin = dkw_margin(trials, alpha=alpha)
    hits, draws = np.broadcast_arrays(
        checked_counts("counts", counts), checked_counts("trials", trials)
    )
    excess = hits > draws
    if excess.any():
        raise ValueError(
            f"counts must be at most trials ({draws[excess].item(0)}), "
            f"got {hits[excess].item(0)!r}."
        )
    share = hits / draws * (1 - 4 * _EPSILON)
    band: NDArray[np.float64] = np.maximum(np.nextafter(share - margin, -np.inf), 0.0)[()]
    return band


def order_statistic_thresholds(
    scores: ArrayLike, *, low: float = 0.0, high: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Every score as a threshold, with the number of scores that reach it.

    No other thresholds give a larger `distribution_confidence_lower`. Nothing is random here.

    Parameters
    ----------
    scores : array-like of float, shape (..., n_scores)
        The scores of each input, in any order.

    low, high : float, default=0.0 and 1.0
        Range of a score, declared and not estimated: (-1, 1) for margins.

    Returns
    -------
    thresholds : ndarray of float64, shape (..., n_scores)
        The scores, in order. Equal ones stay, and are harmless.

    counts : ndarray of int64, shape (..., n_scores)
        How many scores are at or above each.

    Raises
    ------
    TypeError
        If a score is not a real number.

    ValueError
        If a score is outside the range or NaN, or there are none.

    See Also
    --------
    equal_count_thresholds : Fewer of them.

    Examples
    --------
    >>> from randsmooth.intervals.distribution import order_statistic_thresholds
    >>> order_statistic_thresholds([0.9, 0.25, 0.5, 0.5])
    (array([0.25, 0.5 , 0.5 , 0.9 ]), array([4, 3, 3, 1]))
    """
    return _thresholds(scores, None, low, high)


def equal_count_thresholds(
    scores: ArrayLike, n_thresholds: int, *, low: float = 0.0, high: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    r"""Thresholds with equally many scores between neighbours, and how many reach each.

    Nothing is random here: a bound that is valid for thresholds chosen from the data, as
    `dkw_band` is, stays valid for these.

    Parameters
    ----------
    scores : array-like of float, shape (..., n_scores)
        The scores of each input, in any order.

    n_thresholds : int
        Largest number of thresholds, at least 1.

    low, high : float, default=0.0 and 1.0
        Range of a score, declared and not estimated: (-1, 1) for margins.

    Returns
    -------
    thresholds : ndarray of float64, shape (..., m)
        Every :math:`\lceil n/t \rceil`-th order statistic of the :math:`n` scores, from the
        smallest; :math:`t` is `n_thresholds`, which :math:`m` does not exceed.

    counts : ndarray of int64, shape (..., m)
        How many scores are at or above each.

    Raises
    ------
    TypeError
        If a score is not a real number, or `n_thresholds` not a number.

    ValueError
        If a score is outside the range or NaN, there are none, or `n_thresholds` is not a whole
        number of at least 1.

    Notes
    -----
    The choice is that of the code of [1]_, which however takes :math:`(m - j)/m` for the share
    of scores at or above the j-th threshold, counted from 0. That exceeds the true share where
    :math:`m` does not divide :math:`n`. Here the scores are counted.

    References
    ----------
    .. [1] A. Kumar, A. Levine, S. Feizi and T. Goldstein, "Certifying confidence via randomized
       smoothing", NeurIPS 2020.

    Examples
    --------
    >>> from randsmooth.intervals.distribution import equal_count_thresholds
    >>> equal_count_thresholds([0.9, 0.25, 0.5, 0.75, 0.0], 3)
    (array([0. , 0.5, 0.9]), array([5, 3, 1]))
    """
    (wanted,) = checked_integers("n_thresholds", [n_thresholds])
    if wanted < 1:
        raise ValueError(f"n_thresholds must be at least 1, got {n_thresholds!r}.")
    return _thresholds(scores, int(wanted), low, high)


def _thresholds(
    scores: ArrayLike, wanted: int | None, low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    remedy = "Declare the range of another measure with low and high."
    array = checked_within("scores", scores, low, high, remedy=remedy)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(
            f"scores must have at least one draw along the last axis, got shape {array.shape!r}."
        )
    ordered = np.sort(array, axis=-1)
    n_scores = ordered.shape[-1]
    gap = 1 if wanted is None else -(-n_scores // wanted)
    # A score is reached by all of its equals: what counts is where the run of them begins.
    begins = np.zeros(ordered.shape, dtype=np.int64)
    changed = ordered[..., 1:] != ordered[..., :-1]
    begins[..., 1:] = np.where(changed, np.arange(1, n_scores), 0)
    begins = np.maximum.accumulate(begins, axis=-1)
    return ordered[..., ::gap], n_scores - begins[..., ::gap]
