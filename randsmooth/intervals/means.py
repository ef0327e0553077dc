"""Confidence bounds on the mean of bounded variables, for any distribution of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.intervals.betting import betting_lower
from randsmooth.intervals.ranges import (
    DECLARE,
    checked_samples,
    checked_width,
    checked_within,
    lowered_within,
)
from randsmooth.intervals.validation import checked_alpha, checked_counts

__all__ = [
    "betting_lower",
    "empirical_bernstein_lower",
    "hoeffding_lower",
    "mean_lower",
    "mean_upper",
]

_EPSILON = float(np.finfo(np.float64).eps)


def hoeffding_lower(
    mean: ArrayLike, trials: ArrayLike, *, alpha: float, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    r"""Hoeffding's lower confidence bound on the mean of bounded variables.

    Whatever the distributions of the variables, the bound exceeds the average of their
    expectations with probability at most `alpha` over the draw of `mean`. The variables must be
    independent, but need not be identically distributed. The value is rounded down.

    Parameters
    ----------
    mean : array-like of float, shape (...)
        Average of the observed values, in [`low`, `high`].

    trials : array-like of int, shape (...)
        Number of values that were averaged, at least 1. Broadcast against `mean`.

    alpha : float
        Failure probability, strictly between 0 and 1.

    low, high : float, default=0.0 and 1.0
        Range of one variable, declared and not estimated.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound, at least `low`. A float64 scalar where both arguments are scalars.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), a mean outside the range, a number of trials below 1, or
        the range empty or not finite.

    Notes
    -----
    The bound is :math:`\bar x - (b - a) \sqrt{\ln(1/\alpha) / (2n)}` [1]_.

    References
    ----------
    .. [1] W. Hoeffding, "Probability inequalities for sums of bounded random variables",
       Journal of the American Statistical Association 58(301), 1963, Theorem 2.

    Examples
    --------
    >>> from randsmooth.intervals.means import hoeffding_lower
    >>> hoeffding_lower([0.9, 0.01], 1000, alpha=0.001).round(4)
    array([0.8412, 0.    ])
    """
    level = checked_alpha(alpha)
    width = checked_width(low, high)
    average = checked_within("mean", mean, low, high, remedy=DECLARE)
    draws = checked_counts("trials", trials)
    if (draws < 1).any():
        raise ValueError(f"trials must be at least 1, got {draws[draws < 1].item(0)!r}.")
    margin = width * np.sqrt(-math.log(level) / (2.0 * draws))
    return lowered_within(average - margin, margin, low, high)


def empirical_bernstein_lower(
    samples: ArrayLike, *, alpha: float, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    r"""Empirical Bernstein lower confidence bound on the mean of bounded variables.

    Whatever the distributions of the variables, the bound exceeds the average of their
    expectations with probability at most `alpha` over the draw of `samples`. The variables must
    be independent. The less they vary, the closer the bound. The value is rounded down.

    Parameters
    ----------
    samples : array-like of float, shape (..., n_samples)
        The observed values, in [`low`, `high`].

    alpha : float
        Failure probability, strictly between 0 and 1.

    low, high : float, default=0.0 and 1.0
        Range of one variable, declared and not estimated.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound, at least `low`; it is `low` for a single sample. A float64 scalar where
        `samples` is one-dimensional.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), a sample outside the range, there are none, or the range is
        empty or not finite.

    Notes
    -----
    With the unbiased sample variance :math:`V` the bound is [1]_

    .. math:: \bar x - \sqrt{\frac{2 V \ln(2/\alpha)}{n}} - \frac{7 (b - a) \ln(2/\alpha)}{3(n-1)}.

    References
    ----------
    .. [1] A. Maurer and M. Pontil, "Empirical Bernstein bounds and sample variance
       penalization", COLT 2009, Theorems 4 and 11.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.intervals.means import empirical_bernstein_lower
    >>> empirical_bernstein_lower(np.repeat([0.9, 0.95], 500), alpha=0.001).round(4)
    np.float64(0.9042)
    """
    level = checked_alpha(alpha)
    width = checked_width(low, high)
    values = checked_samples(samples, low, high)
    n_samples = values.shape[-1]
    if n_samples == 1:
        return np.full(values.shape[:-1], float(low))[()]
    log_term = math.log(2) - math.log(level)
    average = values.mean(axis=-1)
    variance = values.var(axis=-1, ddof=1)
    margin = np.sqrt(2 * variance * log_term / n_samples)
    margin = margin + 7 * width * log_term / (3 * (n_samples - 1))
    return lowered_within(average - margin, margin, low, high)


def mean_lower(
    samples: ArrayLike,
    *,
    alpha: float,
    low: float = 0.0,
    high: float = 1.0,
    method: str = "betting",
) -> NDArray[np.float64]:
    """Lower confidence bound on the mean of bounded variables, by a named method.

    Whatever the distributions of the variables, the bound exceeds their mean with probability at
    most `alpha` over the draw of `samples`, under what the chosen method asks of them. The
    method must be chosen without looking at the samples. The value is rounded down.

    Parameters
    ----------
    samples : array-like of float, shape (..., n_samples)
        The observed values, in [`low`, `high`].

    alpha : float
        Failure probability, strictly between 0 and 1.

    low, high : float, default=0.0 and 1.0
        Range of one variable, declared and not estimated.

    method : {"betting", "bernstein", "hoeffding"}, default="betting"
        Which bound: `betting_lower`, `empirical_bernstein_lower` or `hoeffding_lower`.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound, at least `low`. A float64 scalar where `samples` is one-dimensional.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), a sample outside the range, there are none, the range is
        empty or not finite, or `method` unknown.

    See Also
    --------
    mean_upper : The bound from the other side.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.intervals.means import mean_lower
    >>> mean_lower(np.tile([0.9, 0.95], 500), alpha=0.001, method="hoeffding").round(4)
    np.float64(0.8662)
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, _METHODS))}, got {method!r}.")
    return _METHODS[method](samples, alpha=alpha, low=low, high=high)


def mean_upper(
    samples: ArrayLike,
    *,
    alpha: float,
    low: float = 0.0,
    high: float = 1.0,
    method: str = "betting",
) -> NDArray[np.float64]:
    """Upper confidence bound on the mean of bounded variables, by a named method.

    Whatever the distributions of the variables, the bound falls below their mean with
    probability at most `alpha` over the draw of `samples`. It is `mean_lower` of the reflected
    samples, reflected back. The value is rounded up.

    Parameters
    ----------
    samples : array-like of float, shape (..., n_samples)
        The observed values, in [`low`, `high`].

    alpha : float
        Failure probability, strictly between 0 and 1.

    low, high : float, default=0.0 and 1.0
        Range of one variable, declared and not estimated.

    method : {"betting", "bernstein", "hoeffding"}, default="betting"
        Which bound, as in `mean_lower`.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound, at most `high`. A float64 scalar where `samples` is one-dimensional.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        As for `mean_lower`.

    See Also
    --------
    mean_lower : The bound from the other side.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.intervals.means import mean_upper
    >>> mean_upper(np.tile([0.05, 0.1], 500), alpha=0.001).round(4)
    np.float64(0.0824)
    """
    checked_width(low, high)
    values = checked_samples(samples, low, high)
    reach = 4 * _EPSILON * max(abs(low), abs(high))
    reflected = np.clip((low + high) - values - reach, low, high)
    lower = mean_lower(reflected, alpha=alpha, low=low, high=high, method=method)
    return np.minimum(np.maximum((low + high) - lower + reach, low), high)[()]


def _hoeffding_of_samples(
    samples: ArrayLike, *, alpha: float, low: float, high: float
) -> NDArray[np.float64]:
    checked_width(low, high)
    values = checked_samples(samples, low, high)
    average = np.clip(values.mean(axis=-1), low, high)
    return hoeffding_lower(average, values.shape[-1], alpha=alpha, low=low, high=high)


_METHODS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "betting": betting_lower,
    "bernstein": empirical_bernstein_lower,
    "hoeffding": _hoeffding_of_samples,
}
