"""Radii in l1 for splitting noise, random or tried out on all its outcomes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.quantiles import uniform_quantile_distance
from randsmooth.bounds.rounding import scaled_down
from randsmooth.bounds.scales import exact_product
from randsmooth.bounds.validation import checked_integer
from randsmooth.intervals.validation import checked_class_counts, checked_integers

__all__ = ["deterministic_splitting_radius", "splitting_radius"]

_MOST_LEVELS = 2**40
_MOST_STEPS = 2**53


def splitting_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, half_width: ArrayLike
) -> NDArray[np.float64]:
    r"""Largest l1 radius that two class probabilities certify under splitting noise.

    A classifier smoothed with splitting noise answers the top class at every point closer than
    this in l1, if `p_lower` and `p_upper` bound its class probabilities at the centre, whatever
    the joint law of the offsets of the coordinates. Nothing is random here. The value is never
    above the exact one, and below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    half_width : float or array-like of float
        Half the width of a cell, positive: offsets are uniform on [0, 2 `half_width`).

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `half_width`. It is 0 where `p_lower` <= `p_upper`.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `half_width` is not positive and finite.

    Notes
    -----
    The radius is :math:`\lambda (p_1 - p_2)` [1]_: a shift :math:`\delta` changes what the
    classifier sees with a probability of at most :math:`\|\delta\|_1 / (2\lambda)`.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Improved, deterministic smoothing for L1 certified
       robustness", ICML 2021, Theorem 2.

    Examples
    --------
    >>> from randsmooth.bounds.splitting import splitting_radius
    >>> splitting_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], half_width=0.5).round(3)
    array([0.4 , 0.35, 0.  ])
    """
    distance = uniform_quantile_distance(probability_pair(p_lower, p_upper))
    return scaled_down("half_width", half_width, distance)


def deterministic_splitting_radius(
    counts: ArrayLike, label: ArrayLike, *, levels: int
) -> NDArray[np.float64]:
    r"""Largest l1 radius that the votes on all outcomes of splitting noise certify.

    A classifier that takes the vote over all :math:`q` outcomes answers `label` at every point
    of the grid no farther than this in l1. Nothing is random: the votes are all there are, no
    failure probability is spent, and the count is in integers. The ball is closed, and it is
    one of grid points: nothing is said about points between them.

    Parameters
    ----------
    counts : array-like of int, shape (..., n_classes)
        Votes for each class over all :math:`q` outcomes.

    label : array-like of int, shape (...)
        The class with the most votes, the first of several.

    levels : int
        Steps of the grid from 0 to 1: inputs are multiples of 1/`levels`.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, a multiple of 1/`levels` rounded down to a float64; 0 where a single step
        may change the answer. A float64 scalar for a single input.

    Raises
    ------
    TypeError
        If an argument is not numeric, or `levels` not an integer.

    ValueError
        If a count is negative or no whole number, there are fewer than two classes, shapes do
        not match, `label` is not the winner of its row, or `levels` is outside [1, 2**40].

    Notes
    -----
    A step changes what the classifier sees on at most one of the outcomes, and so turns at
    most one vote from :math:`A` to :math:`B`. The radius is [1]_

    .. math:: \min_{B \ne A} \Bigl\lfloor \frac{n_A - n_B - 1[B < A]}{2} \Bigr\rfloor
       \cdot \frac{1}{\mathrm{levels}} .

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Improved, deterministic smoothing for L1 certified
       robustness", ICML 2021, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.splitting import deterministic_splitting_radius
    >>> deterministic_splitting_radius([[8, 1, 3], [4, 4, 4]], [0, 0], levels=4)
    array([0.5, 0. ])
    """
    votes, winner = checked_class_counts(counts), checked_integers("label", label)
    grid = _checked_levels(levels)
    if winner.shape != votes.shape[:-1]:
        raise ValueError(
            f"label must have the shape {votes.shape[:-1]!r}, one for each row of counts, got "
            f"{winner.shape!r}."
        )
    broken = winner != votes.argmax(axis=-1)
    if broken.any():
        row = votes[broken][0].tolist()
        raise ValueError(
            "label must be the class with the most votes, the first of several, got "
            f"{winner[broken].item(0)!r} for the votes {row!r}."
        )
    return _down_to_multiple(_steps(votes, winner[..., None]), grid)


def _checked_levels(levels: int) -> int:
    grid = checked_integer("levels", levels)
    if not 1 <= grid <= _MOST_LEVELS:
        raise ValueError(f"levels must lie in [1, {_MOST_LEVELS}], got {levels!r}.")
    return grid


def _steps(votes: NDArray[np.int64], winner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fewest votes any other class is away from winning, in pairs."""
    classes = np.arange(votes.shape[-1])
    lead = np.take_along_axis(votes, winner, axis=-1) - votes
    pairs = (lead - (classes < winner)) // 2
    steps: NDArray[np.int64] = np.where(classes == winner, _MOST_STEPS, pairs).min(axis=-1)
    return steps


def _down_to_multiple(steps: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
    """Return the largest float64 that is not above steps / levels."""
    whole = steps.astype(np.float64)
    nearest = whole / levels
    product, rest = exact_product(nearest, np.asarray(levels, dtype=np.float64))
    above = (product - whole) + rest > 0
    radius: NDArray[np.float64] = np.where(above, np.nextafter(nearest, 0.0), nearest)[()]
    return radius
