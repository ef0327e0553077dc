"""Lines under a convex bound on probabilities, so that vote shares can stand in for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.divergences import checked_attack
from randsmooth.bounds.probabilities import probability_pair

__all__ = ["supporting_line", "tight_accuracy_samples", "tight_gap_samples"]

ProbabilityLower = Callable[[ArrayLike, ArrayLike], NDArray[np.float64]]

_EPSILON = float(np.finfo(np.float64).eps)
# How far the bound may be rounded down, as every such function of the package promises.
_ACCURACY = 1e-9
_SMALLEST = 1e-290
# Distances to the neighbours that fix the slope, in units of the distance to the closer end.
_STEPS = (0.3, 0.03, 0.003, 0.0003, 0.00003)
# Anchors are rounded to these, so that the range of a sample is known before any vote is cast.
_ANCHORS = np.linspace(0.01, 0.99, 197)


def supporting_line(
    anchor: ArrayLike, radius: ArrayLike, *, probability_lower: ProbabilityLower
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Line that is nowhere above a convex bound on shifted probabilities.

    For every probability :math:`p` in [0, 1] the line :math:`v + s (p - a)` is at most the bound
    :math:`g(p)` that `probability_lower` rounds down, and next to the anchor :math:`a` nearly as
    large. A vote share with expectation :math:`p` put in for :math:`p` therefore gives an
    expectation of at most :math:`g(p)`. Nothing is random here.

    Parameters
    ----------
    anchor : array-like of float, shape (...)
        Where the line is to be close, strictly between 0 and 1.

    radius : array-like of float, shape (...)
        Length of the shift, at least 0, in the norm of the noise.

    probability_lower : callable
        Takes probabilities and the radius, and returns the bound :math:`g`, such as
        ``noise.probability_lower``. It must be convex in the probability, within [0, p], and
        rounded down by at most :math:`10^{-9}` of it.

    Returns
    -------
    value : ndarray of float64, shape (...)
        The line at the anchor, :math:`v`: within :math:`10^{-5}` of :math:`g(a)` for anchors in
        [0.01, 0.99] and the noises of this package.

    slope : ndarray of float64, shape (...)
        Its slope :math:`s`, at least 0.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `anchor` is outside (0, 1), or `radius` negative or NaN.

    Notes
    -----
    With neighbours at a distance :math:`h` on both sides, any slope :math:`s` gives a line
    through :math:`v = \min_q g(q) - s (q - a)`. That minimum is bounded from below by secants:
    a convex function lies above each of its secants outside of the two points that define it.
    The best of several :math:`h` is taken.

    Examples
    --------
    >>> from randsmooth.bounds.supporting_lines import supporting_line
    >>> value, slope = supporting_line(0.5, 0.2, probability_lower=lambda p, r: p * (1 - r))
    >>> value.round(5), slope.round(5)
    (np.float64(0.4), np.float64(0.8))
    """
    centre = probability_pair(anchor, None).top
    ends = (centre == 0) | (centre == 1)
    if ends.any():
        raise ValueError(f"anchor must lie strictly between 0 and 1, got {centre[ends].item(0)!r}.")
    centre, length = np.broadcast_arrays(centre, checked_attack(radius, name="radius"))
    value, slope = np.full(centre.shape, -np.inf), np.zeros(centre.shape)
    for step in _STEPS:
        reach = step * np.minimum(centre, 1 - centre)
        height, rise = _line_from_neighbours(centre, reach, length, probability_lower)
        slope = np.where(height > value, rise, slope)
        value = np.maximum(height, value)
    return value[()], slope[()]


def tight_gap_samples(
    shares: ArrayLike, anchors: ArrayLike, attack: float, *, probability_lower: ProbabilityLower
) -> tuple[NDArray[np.float64], float]:
    r"""Values whose expectation is at least the accuracy that an attack takes from each input.

    Given the anchor of an input, the expectation of its sample over the votes behind its share
    is at least :math:`p - g(p)`, the most that an attack takes from the probability :math:`p` of
    a right answer. `mean_upper` of the samples is then a confidence bound on the gap of
    accuracy. The anchors must be independent of the shares, given the inputs.

    Parameters
    ----------
    shares : array-like of float, shape (n_inputs,)
        Share of votes for the true class, in [0, 1].

    anchors : array-like of float, shape (n_inputs,)
        Guess of the same probability from other votes, in [0, 1]; rounded to a grid on
        [0.01, 0.99].

    attack : float
        Length of the attack in the norm of the noise, at least 0.

    probability_lower : callable
        The bound on shifted probabilities, as for `supporting_line`.

    Returns
    -------
    samples : ndarray of float64, shape (n_inputs,)
        The samples, in [0, `high`], rounded up.

    high : float
        Upper end of their range. It does not depend on any vote.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a share or anchor is outside [0, 1], or `attack` negative or NaN.

    Examples
    --------
    >>> from randsmooth.bounds.supporting_lines import tight_gap_samples
    >>> samples, high = tight_gap_samples(
    ...     [1.0, 0.5], [0.9, 0.5], 0.2, probability_lower=lambda p, r: p * (1 - r)
    ... )
    >>> samples.round(3), round(high, 3)
    (array([0.2, 0.1]), 0.2)
    """
    share, values, at_zero, at_one = _lines_at(shares, anchors, attack, probability_lower)
    high = float(max((-at_zero).max(), (1 - at_one).max(), 0.0)) + 8 * _EPSILON
    samples = np.clip(share - values + 8 * _EPSILON, 0.0, high)
    return samples, high


def tight_accuracy_samples(
    shares: ArrayLike, anchors: ArrayLike, attack: float, *, probability_lower: ProbabilityLower
) -> tuple[NDArray[np.float64], float]:
    r"""Values whose expectation is at most the probability of a right answer under attack.

    Given the anchor of an input, the expectation of its sample over the votes behind its share
    is at most :math:`g(p)`, what an attack leaves of the probability :math:`p` of a right
    answer. `mean_lower` of the samples is then a confidence bound on the accuracy under attack.
    The anchors must be independent of the shares, given the inputs.

    Parameters
    ----------
    shares : array-like of float, shape (n_inputs,)
        Share of votes for the true class, in [0, 1].

    anchors : array-like of float, shape (n_inputs,)
        Guess of the same probability from other votes, in [0, 1]; rounded to a grid on
        [0.01, 0.99].

    attack : float
        Length of the attack in the norm of the noise, at least 0.

    probability_lower : callable
        The bound on shifted probabilities, as for `supporting_line`.

    Returns
    -------
    samples : ndarray of float64, shape (n_inputs,)
        The samples, in [`low`, 1], rounded down.

    low : float
        Lower end of their range, at most 0. It does not depend on any vote.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a share or anchor is outside [0, 1], or `attack` negative or NaN.

    Examples
    --------
    >>> from randsmooth.bounds.supporting_lines import tight_accuracy_samples
    >>> samples, low = tight_accuracy_samples(
    ...     [1.0, 0.5], [0.9, 0.5], 0.2, probability_lower=lambda p, r: p * (1 - r)
    ... )
    >>> samples.round(3)
    array([0.8, 0.4])
    """
    _, values, at_zero, _ = _lines_at(shares, anchors, attack, probability_lower)
    low = float(min(at_zero.min(), 0.0)) - 8 * _EPSILON
    return np.clip(values - 8 * _EPSILON, low, 1.0), low


def _lines_at(
    shares: ArrayLike, anchors: ArrayLike, attack: float, probability_lower: ProbabilityLower
) -> tuple[NDArray[np.float64], ...]:
    """Return shares, the line of each at its share, and all possible lines at 0 and at 1."""
    share, guess = probability_pair(shares, None).top, probability_pair(anchors, None).top
    value, slope = supporting_line(_ANCHORS, attack, probability_lower=probability_lower)
    spacing = _ANCHORS[1] - _ANCHORS[0]
    nearest = np.rint((guess - _ANCHORS[0]) / spacing).astype(np.int64)
    place = np.clip(nearest, 0, len(_ANCHORS) - 1)
    at_share = value[place] + slope[place] * (share - _ANCHORS[place])
    error = 4 * _EPSILON * (1 + slope)
    at_share = at_share - error[place]
    return (
        share,
        at_share,
        value - slope * _ANCHORS - 2 * error,
        value + slope * (1 - _ANCHORS) - 2 * error,
    )


def _line_from_neighbours(
    centre: NDArray[np.float64],
    reach: NDArray[np.float64],
    radius: NDArray[np.float64],
    probability_lower: ProbabilityLower,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height of a line at its anchor, rounded down, and its slope."""
    left, right = centre - reach, centre + reach
    below, on, above = (np.asarray(probability_lower(p, radius)) for p in (left, centre, right))
    rounding = 2 * _ACCURACY
    below_upper, on_upper, above_upper = (
        g * (1 + rounding) + _SMALLEST for g in (below, on, above)
    )
    slope = np.maximum((above - below) / (2 * reach), 0.0)
    # Secants at their least favourable, all within the rounding of the three values.
    left_least, left_most = (on - below_upper) / reach, (on_upper - below) / reach
    right_least, right_most = (above - on_upper) / reach, (above_upper - on) / reach
    heights = (
        above - slope * reach - np.maximum(slope - right_least, 0) * (1 - right),
        below + slope * reach - np.maximum(left_most - slope, 0) * left,
        on - np.maximum(slope - left_least, 0) * reach,
        on - np.maximum(right_most - slope, 0) * reach,
    )
    height = np.minimum.reduce(heights) - 32 * _EPSILON * (1 + slope)
    return height, slope
