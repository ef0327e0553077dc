"""How settled the votes of a randomized classifier are: entropy and collisions, from counts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from randsmooth.intervals.validation import (
    checked_alpha,
    checked_class_counts,
    checked_counts,
    checked_integers,
)

__all__ = [
    "collision_probability",
    "deflated_exp_entropy",
    "entropy_correction",
    "entropy_upper",
]

_EPSILON = float(np.finfo(np.float64).eps)
_ROUNDING = 128 * _EPSILON


def deflated_exp_entropy(counts: ArrayLike) -> NDArray[np.float64]:
    r"""Estimate of exp(-entropy) from votes, whose expectation is not above the truth.

    If the counts of an input are of independent draws from class probabilities with Shannon
    entropy :math:`H`, the expectation of the value over those draws is at most :math:`e^{-H}`,
    exactly and for any number of draws. One value proves nothing: what follows is a bound on the
    average over many inputs, from `mean_lower`, with no failure probability for each of them. It
    is rounded down.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_classes)
        Votes for each class, at least one vote for each input. Classes that were never seen
        count too: there must be a column for every possible answer.

    Returns
    -------
    ndarray of float64, shape (...)
        The estimates, above 0 and at most `entropy_correction`, which they are where all votes
        agree. A float64 scalar where there is one input.

    Raises
    ------
    TypeError
        If the counts are not numeric.

    ValueError
        If a count is negative or not a whole number, an input has no votes, or there are fewer
        than two classes.

    See Also
    --------
    entropy_correction : The factor that the estimate owes to the number of draws.
    collision_probability : Simpler, where the noise allows it.

    Notes
    -----
    The value is :math:`\kappa e^{-H_n}` with the entropy :math:`H_n` of the vote shares, in nats.

    Examples
    --------
    >>> from randsmooth.intervals.entropy import deflated_exp_entropy
    >>> deflated_exp_entropy([[100, 0], [90, 10], [50, 50]]).round(3)
    array([0.952, 0.688, 0.476])
    """
    votes, draws = _checked_votes(counts, 1)
    entropy = _plug_in_entropy(votes, draws)
    correction = entropy_correction(draws, votes.shape[-1])
    lowered: NDArray[np.float64] = np.exp(-entropy) * correction * (1 - _ROUNDING * (1 + entropy))
    return lowered[()]


def entropy_correction(n_draws: ArrayLike, n_classes: int) -> NDArray[np.float64]:
    r"""Factor that turns exp(-entropy) of vote shares into an estimate not above the truth.

    It makes up for the entropy of shares being smaller than that of the probabilities on
    average, and for the exponential being convex. Nothing is random here. It is rounded down:
    never above the exact value, and below it by at most :math:`10^{-12}` of it.

    Parameters
    ----------
    n_draws : array-like of int, shape (...)
        Number of independent draws, at least 1.

    n_classes : int
        Number of possible answers, at least 2.

    Returns
    -------
    ndarray of float64, shape (...)
        The factor, in (0, 1). A float64 scalar where `n_draws` is one.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a number of draws is not a whole number of at least 1, or there are fewer than two
        classes.

    Notes
    -----
    With :math:`n` draws and :math:`K` classes it is

    .. math:: \kappa = \frac{e^{-n c^2 / 8}}{1 + (K - 1)/n}, \qquad
       c = \frac1n \Bigl(\ln n + (n - 1) \ln \frac{n}{n - 1}\Bigr).

    The denominator bounds the bias [1]_, and :math:`c` is the most by which one vote can move
    the entropy of the shares [2]_, attained where all agree but one.

    References
    ----------
    .. [1] L. Paninski, "Estimation of entropy and mutual information", Neural Computation 15(6),
       2003, Proposition 1.
    .. [2] C. McDiarmid, "On the method of bounded differences", Surveys in Combinatorics, 1989.

    Examples
    --------
    >>> from randsmooth.intervals.entropy import entropy_correction
    >>> entropy_correction([1, 100, 1000, 10_000], 10).round(4)
    array([0.1   , 0.8822, 0.9834, 0.9978])
    """
    draws = checked_counts("n_draws", n_draws)
    if (draws < 1).any():
        raise ValueError(f"n_draws must be at least 1, got {draws[draws < 1].item(0)!r}.")
    (classes,) = checked_integers("n_classes", [n_classes])
    if classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes!r}.")
    proxy = draws * _largest_difference(draws) ** 2 / 8
    factor = np.exp(-proxy) / (1 + (classes - 1) / draws) * (1 - _ROUNDING)
    return np.asarray(factor)[()]


def collision_probability(counts: ArrayLike) -> NDArray[np.float64]:
    r"""Unbiased estimate of the probability that two independent answers agree.

    If the counts of an input are of independent draws from class probabilities :math:`p`, the
    expectation of the value over those draws is :math:`\sum_i p_i^2`, for any number of draws
    from two on, but for rounding, which is down.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_classes)
        Votes for each class, at least two votes for each input.

    Returns
    -------
    ndarray of float64, shape (...)
        The estimates, in [0, 1]: the share of pairs of votes that agree. A float64 scalar where
        there is one input.

    Raises
    ------
    TypeError
        If the counts are not numeric.

    ValueError
        If a count is negative or not a whole number, an input has fewer than two votes, or there
        are fewer than two classes.

    See Also
    --------
    deflated_exp_entropy : For noise whose densities have no bounded ratio.

    Notes
    -----
    The value is :math:`\sum_i k_i (k_i - 1) / (n (n - 1))` [1]_, and
    :math:`\sum_i p_i^2 \ge e^{-H(p)}` by Jensen's inequality.

    References
    ----------
    .. [1] E. H. Simpson, "Measurement of diversity", Nature 163, 1949.

    Examples
    --------
    >>> from randsmooth.intervals.entropy import collision_probability
    >>> collision_probability([[100, 0], [90, 10], [1, 1]]).round(3)
    array([1.   , 0.818, 0.   ])
    """
    votes, draws = _checked_votes(counts, 2)
    agreeing = (votes.astype(np.float64) * (votes - 1)).sum(axis=-1)
    pairs = draws.astype(np.float64) * (draws - 1)
    return np.asarray(agreeing / pairs * (1 - _ROUNDING))[()]


def entropy_upper(counts: ArrayLike, *, alpha: float) -> NDArray[np.float64]:
    r"""Upper confidence bound on the Shannon entropy of the class probabilities of each input.

    Whatever the probabilities, the bound falls below their entropy with probability at most
    `alpha` over the draws of an input, for each input on its own. It is rounded up. For an
    average over inputs `deflated_exp_entropy` serves better, since this bound is loose.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_classes)
        Votes for each class, at least one vote for each input. There must be a column for every
        possible answer.

    alpha : float
        Failure probability, strictly between 0 and 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The bounds, in nats, at most the logarithm of the number of classes. A float64 scalar
        where there is one input.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), a count is negative or not a whole number, an input has no
        votes, or there are fewer than two classes.

    Notes
    -----
    With :math:`c` as in `entropy_correction` the bound is
    :math:`H_n + \ln(1 + (K - 1)/n) + c \sqrt{n \ln(1/\alpha) / 2}`, by the bound on the bias and
    McDiarmid's inequality [1]_.

    References
    ----------
    .. [1] A. Antos and I. Kontoyiannis, "Convergence properties of functional estimates for
       discrete distributions", Random Structures and Algorithms 19, 2001.

    Examples
    --------
    >>> from randsmooth.intervals.entropy import entropy_upper
    >>> entropy_upper([[10_000, 0], [5000, 5000]], alpha=0.001).round(3)
    array([0.19 , 0.693])
    """
    level = checked_alpha(alpha)
    votes, draws = _checked_votes(counts, 1)
    n_classes = votes.shape[-1]
    bias = np.log1p((n_classes - 1) / draws)
    spread = _largest_difference(draws) * np.sqrt(-draws * math.log(level) / 2)
    bound = np.minimum(_plug_in_entropy(votes, draws) + bias + spread, math.log(n_classes))
    return np.asarray(bound + _ROUNDING * (1 + bound))[()]


def _plug_in_entropy(votes: NDArray[np.int64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Entropy of the vote shares; the terms have one sign, so that their sum is accurate."""
    shares = votes / draws[..., None]
    entropy: NDArray[np.float64] = -xlogy(shares, shares).sum(axis=-1)
    return np.maximum(entropy, 0.0)


def _largest_difference(draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the most by which one vote moves the entropy of the shares."""
    others = np.maximum(draws - 1, 1)  # for a single draw the second term is to vanish
    second = np.where(draws > 1, others * np.log1p(1 / others), 0.0)
    difference: NDArray[np.float64] = (np.log(draws) + second) / draws
    return difference


def _checked_votes(counts: ArrayLike, fewest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    votes = checked_class_counts(counts)
    draws = votes.sum(axis=-1)
    if (draws < fewest).any():
        raise ValueError(
            f"counts must have at least {fewest} vote{'s' * (fewest > 1)} for every input, "
            f"got {draws[draws < fewest].item(0)!r}."
        )
    return votes, draws
