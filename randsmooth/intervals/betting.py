"""A confidence bound on the mean of bounded variables from bets against lower means."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.intervals.ranges import checked_samples, checked_width, lowered_within
from randsmooth.intervals.validation import checked_alpha

__all__ = ["betting_lower"]

_EPSILON = float(np.finfo(np.float64).eps)
# A bet risks at most this share of the wealth, so that no factor of it is below one tenth. The
# rounding of one factor then moves its logarithm by less than the second number.
_LARGEST_STAKE = 0.9
_FACTOR_ERROR = 2e-14
_HALVINGS = 45


def betting_lower(
    samples: ArrayLike, *, alpha: float, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    r"""Lower confidence bound on the mean of bounded variables, from bets against lower means.

    Whatever the distributions of the variables, the bound exceeds their common expectation with
    probability at most `alpha` over the draw of `samples`. It is enough that the expectation of
    each, given those before it, is at most this number. As a rule no bound here is closer. The
    order of the samples counts, and must not be chosen by their values. The value is rounded
    down.

    Parameters
    ----------
    samples : array-like of float, shape (..., n_samples)
        The observed values, in [`low`, `high`], in an order fixed without looking at them.

    alpha : float
        Failure probability, strictly between 0 and 1.

    low, high : float, default=0.0 and 1.0
        Range of one variable, declared and not estimated.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound, at least `low` and below `high`. A float64 scalar where `samples` is
        one-dimensional.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), a sample outside the range, there are none, or the range is
        empty or not finite.

    Notes
    -----
    On the range [0, 1], whoever doubts that the mean is at most :math:`m` bets on each sample,
    with the wealth [1]_

    .. math:: K_t(m) = \prod_{i \le t} \Bigl(1 + \min\bigl(\lambda_i, \tfrac{c}{m}\bigr)
       (x_i - m)\Bigr), \qquad
       \lambda_i = \sqrt{\frac{2 \ln(1/\alpha)}{n \hat\sigma_{i-1}^2}}, \qquad c = 0.9.

    Each bet rests on earlier samples only, through the mean and variance
    :math:`\hat\mu_t = (\frac12 + \sum_{i \le t} x_i)/(t+1)` and
    :math:`\hat\sigma_t^2 = (\frac14 + \sum_{i \le t} (x_i - \hat\mu_i)^2)/(t+1)`. No bet is
    negative and no wealth either, so that it is a supermartingale if the mean is at most
    :math:`m`, and by Ville's inequality ever reaches :math:`1/\alpha` with probability at most
    :math:`\alpha`. Every factor falls as :math:`m` grows. The bound is the supremum of the
    :math:`m` for which the wealth reached :math:`1/\alpha`, found by bisection from below.

    References
    ----------
    .. [1] I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by
       betting", Journal of the Royal Statistical Society B 86(1), 2024, Theorem 3.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.intervals.means import betting_lower
    >>> betting_lower(np.tile([0.9, 0.95], 500), alpha=0.001).round(4)
    np.float64(0.9176)
    """
    level = checked_alpha(alpha)
    width = checked_width(low, high)
    values = checked_samples(samples, low, high)
    scaled = np.minimum((values - low) / width, 1.0)
    bets = _predictable_bets(scaled, level)
    threshold = -math.log(level)
    rejected, kept = np.zeros(values.shape[:-1]), np.ones(values.shape[:-1])
    for _ in range(_HALVINGS):
        middle = (rejected + kept) / 2
        won = _log_wealth(scaled, bets, middle) >= threshold
        rejected, kept = np.where(won, middle, rejected), np.where(won, kept, middle)
    return lowered_within(low + width * rejected, np.zeros(()), low, high)


def _predictable_bets(scaled: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Bet for each sample from those before it; any number of at least 0 would be sound."""
    n_samples = scaled.shape[-1]
    seen = np.arange(2, n_samples + 2)
    means = (0.5 + np.cumsum(scaled, axis=-1)) / seen
    variances = (0.25 + np.cumsum((scaled - means) ** 2, axis=-1)) / seen
    before = np.concatenate([np.full_like(scaled[..., :1], 0.25), variances[..., :-1]], axis=-1)
    bets: NDArray[np.float64] = np.sqrt(-2 * math.log(alpha) / (n_samples * before))
    return bets


def _log_wealth(
    scaled: NDArray[np.float64], bets: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logarithm of the largest wealth against a mean, rounded down."""
    hypothesis = mean[..., None]
    stakes = np.minimum(bets, _LARGEST_STAKE / hypothesis)
    wealth = np.cumsum(np.log1p(stakes * (scaled - hypothesis)), axis=-1)
    largest = np.abs(wealth).max(axis=-1)
    error = scaled.shape[-1] * (_FACTOR_ERROR + _EPSILON * largest)
    rounded: NDArray[np.float64] = wealth.max(axis=-1) - error
    return rounded
