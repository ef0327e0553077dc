"""Sison-Glaz simultaneous intervals: asymptotic, kept to reproduce published figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from randsmooth.intervals.validation import checked_alpha, checked_class_counts

__all__ = ["sison_glaz_intervals"]


def sison_glaz_intervals(
    counts: ArrayLike, *, alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Approximate simultaneous intervals for multinomial proportions.

    .. warning::
       **This is not a guarantee.** The coverage tends to 1 - `alpha` only as the number of
       draws grows, and falls short of it for finite samples. Nothing may be certified with
       it; it is here to reproduce figures that were published with it.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_classes)
        Votes for each class, at least two classes.

    alpha : float
        Nominal failure probability of the whole row, strictly between 0 and 1.

    Returns
    -------
    lower : ndarray of float64, shape (..., n_classes)
        Lower ends, in [0, 1].

    upper : ndarray of float64, shape (..., n_classes)
        Upper ends, in [0, 1]. A row without votes, or one for which the approximation never
        reaches 1 - `alpha`, has the intervals [0, 1].

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), or `counts` holds a negative or broken number or fewer
        than two classes.

    See Also
    --------
    simultaneous_intervals : Exact, and meant for certificates.

    Notes
    -----
    With :math:`\hat p_i` the shares of :math:`n` votes and :math:`\nu(c)` the probability
    that a multinomial sample with these shares stays within :math:`c` votes of every count
    (a product of truncated Poisson probabilities times an Edgeworth density, [1]_,
    Section 2), the intervals are :math:`[\hat p_i - c/n, \hat p_i + (c + 2\gamma)/n]`, where
    :math:`\nu(c) < 1 - \alpha \le \nu(c + 1)` and
    :math:`\gamma = (1 - \alpha - \nu(c)) / (\nu(c + 1) - \nu(c))`.

    References
    ----------
    .. [1] C. P. Sison and J. Glaz, "Simultaneous confidence intervals and sample size
       determination for multinomial proportions", JASA 90(429), 1995.

    Examples
    --------
    >>> from randsmooth.intervals import sison_glaz_intervals
    >>> lower, upper = sison_glaz_intervals([23, 12, 44], alpha=0.05)
    >>> lower.round(3)
    array([0.19 , 0.051, 0.456])
    >>> upper.round(3)
    array([0.411, 0.271, 0.676])
    """
    level = checked_alpha(alpha)
    votes = checked_class_counts(counts)
    lower = np.zeros(votes.shape)
    upper = np.ones(votes.shape)
    for row in np.ndindex(votes.shape[:-1]):
        total = int(votes[row].sum())
        reach = _half_width(votes[row], level)
        if reach is not None:
            below, above = reach
            lower[row] = np.maximum((votes[row] - below) / total, 0.0)
            upper[row] = np.minimum((votes[row] + above) / total, 1.0)
    return lower, upper


def _half_width(votes: NDArray[np.int64], alpha: float) -> tuple[float, float] | None:
    """Votes to go below and above each count; None where no half-width is enough."""
    total = int(votes.sum())
    limit = 0
    while limit < total:
        limit = min(max(4 * limit, 64), total)
        coverage = np.append(0.0, _coverage(votes, limit))  # entry c is nu(c); nu(0) taken as 0
        enough = np.flatnonzero(coverage >= 1 - alpha)
        if enough.size:
            c = int(enough[0]) - 1
            gamma = (1 - alpha - coverage[c]) / (coverage[c + 1] - coverage[c])
            return float(c), float(c + 2 * gamma)
    return None


def _coverage(votes: NDArray[np.int64], limit: int) -> NDArray[np.float64]:
    """Approximate probability nu(c) of staying within c votes of every count, c = 1..limit."""
    total = float(votes.sum())
    values, repeats = np.unique(votes, return_counts=True)
    sums = np.zeros((5, limit))  # log probability, then cumulants 1 (minus the counts) to 4
    for value, repeat in zip(values.tolist(), repeats.tolist(), strict=True):
        if value > 0:  # an unseen class is a Poisson variable of mean 0: certain, no spread
            sums += repeat * _truncated_poisson(value, limit)
    log_inside, shift, variance, third, fourth = sums
    z = -shift / np.sqrt(variance)
    skewness, kurtosis = third / variance**1.5, fourth / variance**2
    edgeworth = (
        1
        + skewness * (z**3 - 3 * z) / 6
        + kurtosis * (z**4 - 6 * z**2 + 3) / 24
        + skewness**2 * (z**6 - 15 * z**4 + 45 * z**2 - 15) / 72
    )
    log_poisson = total * np.log(total) - total - gammaln(total + 1)
    log_density = -(z**2) / 2 - np.log(2 * np.pi * variance) / 2
    # The Edgeworth factor is no density and may dip below 0 where the window is narrow.
    with np.errstate(under="ignore", over="ignore"):
        coverage: NDArray[np.float64] = np.maximum(edgeworth, 0.0) * np.exp(
            log_inside + log_density - log_poisson
        )
    return coverage


def _truncated_poisson(mean: int, limit: int) -> NDArray[np.float64]:
    """Log probability and cumulants of Poisson(mean) kept within c of its mean, c = 1..limit."""
    offset = np.arange(limit + 1, dtype=np.float64)
    log_mean, log_peak = np.log(mean), mean * np.log(mean) - mean - gammaln(mean + 1)
    # Weights of mean + c and mean - c relative to the peak; c = 0 is counted once.
    above = np.cumsum(log_mean - np.log(mean + offset[1:]))
    below = np.cumsum(np.log(np.maximum(mean - offset[:-1], 0.5)) - log_mean)
    up = np.append(1.0, np.exp(above))
    down = np.append(0.0, np.where(offset[1:] <= mean, np.exp(below), 0.0))
    mass = np.cumsum(up + down)
    m1, m2, m3, m4 = (
        np.cumsum(offset**power * (up + (-1) ** power * down)) / mass for power in (1, 2, 3, 4)
    )
    variance = m2 - m1**2
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4 - 3 * variance**2
    log_inside = log_peak + np.log(mass)
    return np.stack([log_inside, m1, variance, third, fourth])[:, 1:]
