"""Exact intervals and tests for one binomial proportion."""

from __future__ import annotations

import math
from bisect import bisect_left
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betainccinv, betaincinv, betaln

from randsmooth.intervals.validation import checked_alpha, checked_counts

__all__ = [
    "binomial_test",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "smallest_certifying_trials",
]

# SciPy's inverse of the incomplete beta function is off by less than 2e-13 + 2.5e-17 n relative
# to the smaller of p and 1 - p (measured against 50-digit references up to 10^9 trials). Every
# bound moves outward by several times that.
_QUANTILE_ERROR = 3e-12
_QUANTILE_ERROR_PER_TRIAL = 1e-16

# Below this failure probability SciPy's inverse fails; a union bound stands in for it.
_SMALLEST_ALPHA = 1e-100


def clopper_pearson_lower(
    successes: ArrayLike, trials: ArrayLike, *, alpha: float
) -> NDArray[np.float64]:
    r"""Exact one-sided lower confidence bound on a binomial proportion.

    Whatever the true proportion, the bound exceeds it with probability at most
    `alpha` over the draw of `successes`. It is rounded down: never above the exact
    bound for these counts, and below it by at most :math:`10^{-9}` of itself and, above
    one half, of its complement (up to nine million trials; the slack grows with `trials`).

    Parameters
    ----------
    successes : array-like of int, shape (...)
        Number of successes, between 0 and `trials`.

    trials : array-like of int, shape (...)
        Number of independent trials, at least 1. Broadcast against `successes`.

    alpha : float
        Failure probability, strictly between 0 and 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound, in [0, 1). It is 0 where `successes` is 0. A float64 scalar where both
        counts are scalars.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), or a count is outside [0, `trials`].

    See Also
    --------
    clopper_pearson_upper : The bound from the other side.

    Notes
    -----
    The bound solves :math:`P(\mathrm{Bin}(n, p) \ge k) = \alpha` for :math:`p` [1]_, which
    is the :math:`\alpha` quantile of the Beta distribution with parameters :math:`k` and
    :math:`n - k + 1`, and :math:`\alpha^{1/n}` where :math:`k = n`. Below
    :math:`\alpha = 10^{-100}`, the answer is the weaker solution of
    :math:`\binom nk p^k = \alpha`.

    References
    ----------
    .. [1] C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits
       illustrated in the case of the binomial", Biometrika 26(4), 1934.

    Examples
    --------
    >>> from randsmooth.intervals import clopper_pearson_lower
    >>> clopper_pearson_lower([0, 10], 10, alpha=0.05).round(3)
    array([0.   , 0.741])
    """
    level = checked_alpha(alpha)
    hits, draws = _checked_pair(successes, trials)
    bound, complement = _lower_quantile(hits, draws, level)
    slack = _QUANTILE_ERROR + _QUANTILE_ERROR_PER_TRIAL * draws
    low = np.where(bound < 0.5, bound * (1 - slack), 1 - complement * (1 + slack))
    rounded: NDArray[np.float64] = np.where(hits == 0, 0.0, np.nextafter(low, 0.0))[()]
    return rounded


def clopper_pearson_upper(
    successes: ArrayLike, trials: ArrayLike, *, alpha: float
) -> NDArray[np.float64]:
    r"""Exact one-sided upper confidence bound on a binomial proportion.

    Whatever the true proportion, the bound falls below it with probability at most
    `alpha` over the draw of `successes`. It is rounded up: never below the exact bound
    for these counts, and above it by at most :math:`10^{-9}` of itself and, above one
    half, of its complement (up to nine million trials; the slack grows with `trials`).

    Parameters
    ----------
    successes : array-like of int, shape (...)
        Number of successes, between 0 and `trials`.

    trials : array-like of int, shape (...)
        Number of independent trials, at least 1. Broadcast against `successes`.

    alpha : float
        Failure probability, strictly between 0 and 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound, in (0, 1]. It is 1 where `successes` equals `trials`. A float64 scalar
        where both counts are scalars.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), or a count is outside [0, `trials`].

    See Also
    --------
    clopper_pearson_lower : The bound from the other side.

    Notes
    -----
    The bound solves :math:`P(\mathrm{Bin}(n, p) \le k) = \alpha` for :math:`p` [1]_. It is
    one minus the lower bound for the :math:`n - k` failures, also for tiny :math:`\alpha`.

    References
    ----------
    .. [1] C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits
       illustrated in the case of the binomial", Biometrika 26(4), 1934.

    Examples
    --------
    >>> from randsmooth.intervals import clopper_pearson_upper
    >>> clopper_pearson_upper([0, 10], 10, alpha=0.05).round(3)
    array([0.259, 1.   ])
    """
    level = checked_alpha(alpha)
    hits, draws = _checked_pair(successes, trials)
    complement, bound = _lower_quantile(draws - hits, draws, level)
    slack = _QUANTILE_ERROR + _QUANTILE_ERROR_PER_TRIAL * draws
    high = np.where(bound < 0.5, bound * (1 + slack), 1 - complement * (1 - slack))
    rounded: NDArray[np.float64] = np.where(
        hits == draws, 1.0, np.minimum(np.nextafter(high, 2.0), 1.0)
    )[()]
    return rounded


def binomial_test(count1: ArrayLike, count2: ArrayLike) -> NDArray[np.float64]:
    r"""Exact two-sided p-value of two counts against a fair coin.

    If both outcomes are equally likely, the p-value is at most any :math:`\alpha` with
    probability at most :math:`\alpha` over the draw of the counts, given their sum.

    Parameters
    ----------
    count1 : array-like of int, shape (...)
        How often the first outcome was seen.

    count2 : array-like of int, shape (...)
        How often the second outcome was seen. Broadcast against `count1`; the two may be
        swapped.

    Returns
    -------
    ndarray of float64, shape (...)
        The p-value, in [0, 1]. It is 1 where the counts are equal, both zero included. A
        float64 scalar where both counts are scalars.

    Raises
    ------
    TypeError
        If a count is not numeric.

    ValueError
        If a count is negative or not a whole number.

    Notes
    -----
    With :math:`k` the larger count and :math:`n` the sum, the value is
    :math:`\min(1, 2 P(\mathrm{Bin}(n, 1/2) \ge k))`. A smoothed classifier that answers
    with the more frequent of its two top classes only where this is at most
    :math:`\alpha` errs with probability at most :math:`\alpha` [1]_, [2]_.

    References
    ----------
    .. [1] K. Hung and W. Fithian, "Rank verification for exponential families", Annals of
       Statistics 47(2), 2019.
    .. [2] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via
       randomized smoothing", ICML 2019, Proposition 1.

    Examples
    --------
    >>> from randsmooth.intervals import binomial_test
    >>> binomial_test([7, 50], [3, 50])
    array([0.34375, 1.     ])
    """
    first, second = np.broadcast_arrays(
        checked_counts("count1", count1), checked_counts("count2", count2)
    )
    larger, smaller = np.maximum(first, second), np.minimum(first, second)
    tail = betainc(np.maximum(larger, 1), smaller + 1.0, 0.5)
    p_value: NDArray[np.float64] = np.where(first == second, 1.0, np.minimum(2 * tail, 1.0))[()]
    return p_value


def smallest_certifying_trials(*, alpha: float, p0: float = 0.5) -> int:
    r"""Smallest number of trials whose unanimous success bounds the proportion above `p0`.

    With fewer trials no outcome at all puts `clopper_pearson_lower` above `p0`, however
    clear the votes. Nothing is random here.

    Parameters
    ----------
    alpha : float
        Failure probability, strictly between 0 and 1.

    p0 : float, default=0.5
        Proportion to exceed, at least 0 and below 1.

    Returns
    -------
    int
        The smallest n for which ``clopper_pearson_lower(n, n, alpha=alpha) > p0``.

    Raises
    ------
    TypeError
        If an argument is not a real number.

    ValueError
        If `alpha` is outside (0, 1) or `p0` outside [0, 1), or if it takes more than
        :math:`10^{12}` trials.

    Notes
    -----
    Unanimity gives the bound :math:`\alpha^{1/n}`, so that
    :math:`n > \ln \alpha / \ln p_0`.

    Examples
    --------
    >>> from randsmooth.intervals import smallest_certifying_trials
    >>> smallest_certifying_trials(alpha=0.001)
    10
    """
    level = checked_alpha(alpha)
    if not isinstance(p0, Real):
        raise TypeError(f"p0 must be a real number, got {p0!r}.")
    if not 0 <= p0 < 1:
        raise ValueError(f"p0 must be at least 0 and below 1, got {p0!r}.")
    estimate = math.log(level) / math.log(p0) if p0 > 0 else 0.0
    if estimate > 1e12:
        raise ValueError(f"p0 must be within reach of 10**12 trials, got {p0!r}.")
    sizes = range(1, 2 * int(estimate) + 3)
    return sizes[
        bisect_left(sizes, True, key=lambda n: bool(clopper_pearson_lower(n, n, alpha=level) > p0))
    ]


def _checked_pair(
    successes: ArrayLike, trials: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    hits, draws = np.broadcast_arrays(
        checked_counts("successes", successes), checked_counts("trials", trials)
    )
    if (draws < 1).any():
        raise ValueError(f"trials must be at least 1, got {draws[draws < 1].item(0)!r}.")
    excess = hits > draws
    if excess.any():
        raise ValueError(
            f"successes must be at most trials ({draws[excess].item(0)}), "
            f"got {hits[excess].item(0)!r}."
        )
    return hits, draws


def _lower_quantile(
    hits: NDArray[np.int64], draws: NDArray[np.int64], alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower bound and, to the same relative precision, one minus it; each pair solved once."""
    pairs, place = np.unique((hits + 1j * draws).ravel(), return_inverse=True)
    k, n = pairs.real, pairs.imag
    inner = (k > 0) & (k < n)
    bound, complement = np.zeros_like(n), np.ones_like(n)  # as they are for k = 0
    full = k == n
    bound[full] = np.exp(math.log(alpha) / n[full])
    complement[full] = -np.expm1(math.log(alpha) / n[full])
    k, n = k[inner], n[inner]
    if alpha < _SMALLEST_ALPHA:
        # The chance of k successes is at most that of k given trials, times the ways to pick them.
        log_ways = -np.log(n + 1) - betaln(n - k + 1, k + 1)
        log_bound = (math.log(alpha) - log_ways) * (1 + 1e-9) / k
        bound[inner], complement[inner] = np.exp(log_bound), -np.expm1(log_bound)
    else:
        bound[inner] = betaincinv(k, n - k + 1, alpha)
        complement[inner] = betainccinv(n - k + 1, k, alpha)
    return bound[place].reshape(hits.shape), complement[place].reshape(hits.shape)
