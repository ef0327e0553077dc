"""Exact joint bounds on several class probabilities from one sample of votes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.intervals.binomial import clopper_pearson_lower, clopper_pearson_upper
from randsmooth.intervals.validation import (
    checked_alpha,
    checked_class_counts,
    checked_integers,
)

__all__ = ["simultaneous_intervals", "top_class_interval"]

# Share of the failure probability that bounds the top class when a runner-up is bounded too.
TOP_SHARE = 0.9


def simultaneous_intervals(
    counts: ArrayLike, *, alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Intervals that hold for all classes at once.

    With probability at least 1 - `alpha` over the draw of the counts, every class
    probability lies within its interval. The statement is joint, so that classes may be
    picked by looking at these very counts.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_classes)
        Votes for each class, at least two classes.

    alpha : float
        Failure probability of the whole row, strictly between 0 and 1.

    Returns
    -------
    lower : ndarray of float64, shape (..., n_classes)
        Lower ends, rounded down.

    upper : ndarray of float64, shape (..., n_classes)
        Upper ends, rounded up. A row without votes has the intervals [0, 1].

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), or `counts` holds a negative or broken number or
        fewer than two classes.

    See Also
    --------
    top_class_interval : Sharper where the class was chosen by other draws.

    Notes
    -----
    Each of the :math:`2K` ends is a Clopper-Pearson bound at level :math:`\alpha / (2K)`,
    and the union bound adds them up. Level :math:`\alpha / K` for each end, as it is found
    in the literature [1]_, only gives a joint level of :math:`1 - 2\alpha`.

    References
    ----------
    .. [1] B. Li, C. Chen, W. Wang and L. Carin, "Certified adversarial robustness with
       additive noise", NeurIPS 2019, Section 4.

    Examples
    --------
    >>> from randsmooth.intervals import simultaneous_intervals
    >>> lower, upper = simultaneous_intervals([90, 8, 2], alpha=0.05)
    >>> lower.round(3)
    array([0.806, 0.029, 0.001])
    >>> upper.round(3)
    array([0.959, 0.169, 0.084])
    """
    level = checked_alpha(alpha)
    votes = checked_class_counts(counts)
    total = votes.sum(axis=-1, keepdims=True)
    share = level / (2 * votes.shape[-1])
    trials = np.maximum(total, 1)
    lower = clopper_pearson_lower(votes, trials, alpha=share)
    upper = clopper_pearson_upper(votes, trials, alpha=share)
    return lower, np.where(total == 0, 1.0, upper)


def top_class_interval(
    counts: ArrayLike, label: ArrayLike, *, alpha: float, runner_up: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Lower bound on one class's probability, upper bound on that of every other class.

    With probability at least 1 - `alpha` over the draw of the counts, the class `label`
    has probability at least `p_lower` and no other class has more than `p_upper`. This
    needs `label` to be fixed without these counts: chosen by independent draws, or known
    beforehand.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_classes)
        Votes for each class, at least two classes.

    label : array-like of int, shape (...)
        Index of the class that was chosen, from 0 to n_classes - 1.

    alpha : float
        Failure probability of each row, strictly between 0 and 1.

    runner_up : bool, default=True
        Whether a tenth of `alpha` is spent on the runner-up. Otherwise all of it bounds
        the top class, and the others are only known to share what is left.

    Returns
    -------
    p_lower : ndarray of float64, shape (...)
        Lower bound on the probability of `label`, rounded down.

    p_upper : ndarray of float64, shape (...)
        Upper bound on the probability of each other class, rounded up and at most
        1 - `p_lower`. A row without votes has the pair (0, 1).

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `alpha` is outside (0, 1), `counts` holds a negative or broken number or fewer
        than two classes, or `label` is no class or does not broadcast to the rows.

    See Also
    --------
    simultaneous_intervals : Where the class is picked from the same counts.

    Notes
    -----
    `p_lower` is the Clopper-Pearson bound for the class at level :math:`0.9\alpha`.
    `p_upper` is the smaller of

    - the Clopper-Pearson upper bound, at level :math:`0.1\alpha`, for the largest count
      among the other classes. The true runner-up is one fixed class, its own bound holds
      with that probability, and its count is at most the largest, so that no union over
      the classes is needed;
    - :math:`1 - p_\mathrm{lower}`, free of charge: wherever `p_lower` holds, all other
      classes together have at most that much. The subtraction is rounded *up*, since a
      number below the exact difference would claim more than `p_lower` implies.

    Examples
    --------
    >>> from randsmooth.intervals import top_class_interval
    >>> p_lower, p_upper = top_class_interval([[90, 6, 4], [5, 2, 3]], [0, 0], alpha=0.01)
    >>> p_lower.round(3)
    array([0.807, 0.147])
    >>> p_upper.round(3)
    array([0.17 , 0.795])
    """
    level = checked_alpha(alpha)
    votes = checked_class_counts(counts)
    chosen = _checked_label(label, votes)
    total = votes.sum(axis=-1)
    trials = np.maximum(total, 1)
    hits = np.take_along_axis(votes, chosen[..., np.newaxis], axis=-1)[..., 0]
    if not runner_up:
        p_lower = clopper_pearson_lower(hits, trials, alpha=level)
        return p_lower, _complement_rounded_up(p_lower)
    p_lower = clopper_pearson_lower(hits, trials, alpha=TOP_SHARE * level)
    others = np.arange(votes.shape[-1]) != chosen[..., np.newaxis]
    rival = np.max(votes, axis=-1, where=others, initial=0)
    ceiling = clopper_pearson_upper(rival, trials, alpha=(1 - TOP_SHARE) * level)
    ceiling = np.where(total == 0, 1.0, ceiling)
    return p_lower, np.minimum(ceiling, _complement_rounded_up(p_lower))


def _checked_label(label: ArrayLike, votes: NDArray[np.int64]) -> NDArray[np.int64]:
    classes = checked_integers("label", label)
    outside = (classes < 0) | (classes >= votes.shape[-1])
    if outside.any():
        raise ValueError(
            f"label must lie between 0 and {votes.shape[-1] - 1}, got {classes[outside].item(0)!r}."
        )
    try:
        return np.broadcast_to(classes, votes.shape[:-1])
    except ValueError as error:
        raise ValueError(
            f"label must have one entry for each row of counts, shape {votes.shape[:-1]!r}, "
            f"got shape {classes.shape!r}."
        ) from error


def _complement_rounded_up(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """One minus p; the next number above where the subtraction rounded down."""
    complement = 1.0 - p
    lost = (1.0 - complement) - p  # exact: what the rounded difference misses
    rounded: NDArray[np.float64] = np.where(lost > 0, np.nextafter(complement, 2.0), complement)
    return rounded[()]
