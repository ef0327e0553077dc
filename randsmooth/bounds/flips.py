"""Radii in the l0 norm for random flips of binary and categorical features."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.ablation import checked_radius
from randsmooth.bounds.flip_curves import flip_levels
from randsmooth.bounds.flip_law import FlipLaw, flip_law
from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.validation import checked_integer

__all__ = ["flips_probability_lower", "flips_radius"]


def flips_radius(
    p_lower: ArrayLike,
    p_upper: ArrayLike | None = None,
    *,
    p_add: float,
    p_del: float | None = None,
    n_categories: int = 2,
    n_features: int | None = None,
) -> NDArray[np.float64]:
    r"""Largest number of features that may change under random flips.

    Every feature changes to another category at random, independently. The smoothed classifier
    answers the top class at every point that differs in at most this many features, whichever
    they are and whatever they change from and to, if `p_lower` and `p_upper` bound its class
    probabilities at the centre. No larger number follows from them. Nothing is random here. The
    value is never above the exact one, and below it only if the probabilities are next to a
    tie, or if more changes would be certified than are looked into (see Notes).

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    p_add : float
        Probability that a zero becomes another category, each equally likely, in [0, 1].
        Rounded to a multiple of (`n_categories` - 1) / 2**24; so is `p_del`.

    p_del : float or None, default=None
        Probability that another category changes, to each of the rest equally likely, in
        [0, 1]. None means `p_add`.

    n_categories : int, default=2
        Number of categories, zero included.

    n_features : int or None, default=None
        Number of features, beyond which no more can change.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, an integer; the ball is closed. It is 0 where `p_lower` <= `p_upper`, and
        at most `n_features`. It is infinite without `n_features` if the noise hides all of
        the input. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or a number of categories or features no integer.

    ValueError
        If a probability is outside [0, 1] or NaN, both flip probabilities round to 0, or
        `n_categories` is below 2 or `n_features` below 1.

    Notes
    -----
    It is the largest integer :math:`r` with
    :math:`f_s(p_1) + f_s(1 - p_2) > 1` for all splits :math:`s` of :math:`r` changes into
    additions (of a zero), deletions (to zero) and switches (between others), where
    :math:`f_s` is the curve of Neyman and Pearson: the least probability after the changes
    of an event with probability :math:`p` before them. It is made of the regions of equal
    likelihood ratio [1]_ [2]_, counted in integers. The search ends at 64 changes, at 256 if
    `p_add` = `p_del`, and at 12 if not and `n_categories` > 2.

    References
    ----------
    .. [1] G.-H. Lee, Y. Yuan, S. Chang and T. Jaakkola, "Tight certificates of adversarial
       robustness for randomly smoothed classifiers", NeurIPS 2019, Section 4.
    .. [2] A. Bojchevski, J. Klicpera and S. Günnemann, "Efficient robustness certificates for
       discrete data: sparsity-aware randomized smoothing for graphs, images and more", ICML
       2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.flips import flips_radius
    >>> flips_radius([0.99, 0.9, 0.6, 0.5], p_add=0.2)
    array([2., 1., 0., 0.])
    >>> flips_radius([0.99, 0.9, 0.6, 0.5], [0.001, 0.02, 0.1, 0.5], p_add=0.2)
    array([4., 1., 0., 0.])
    """
    law = flip_law(p_add, p_del, n_categories)
    largest = _checked_features(n_features)
    pair = probability_pair(p_lower, p_upper)
    one_sided = (pair.runner_up == 1 - pair.top).ravel()
    lowered = pair.lowered()
    top, other = lowered.top.ravel(), lowered.runner_up.ravel()
    radius = np.zeros(top.shape)
    decided = top > other
    if law.hides_all:
        radius[decided] = largest
    else:
        alone, both = decided & one_sided, decided & ~one_sided
        radius[alone] = _majority_radius(law, top[alone], largest)
        radius[both] = _lead_radius(law, top[both], other[both], largest)
    result: NDArray[np.float64] = radius.reshape(lowered.top.shape)[()]
    return result


def flips_probability_lower(
    p_lower: ArrayLike,
    radius: ArrayLike,
    *,
    p_add: float,
    p_del: float | None = None,
    n_categories: int = 2,
    n_features: int | None = None,
) -> NDArray[np.float64]:
    r"""How improbable an event can become under random flips.

    If an event has at least the probability `p_lower` at one point, it has at least the
    returned one at every point that differs in at most `radius` features. Nothing is random
    here. The value is never above the exact one.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the event, in [0, 1].

    radius : array-like of float, shape (...)
        Number of features that differ, not negative; its fraction does not count.

    p_add : float
        Probability that a zero becomes another category; see `flips_radius`.

    p_del : float or None, default=None
        Probability that another category changes. None means `p_add`.

    n_categories : int, default=2
        Number of categories, zero included.

    n_features : int or None, default=None
        Number of features, beyond which no more can change.

    Returns
    -------
    ndarray of float64, shape (...)
        The lower bounds; `p_lower` itself where `radius` < 1, and 0 where more features differ
        than are looked into (see `flips_radius`). A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or a number of categories or features no integer.

    ValueError
        If a probability is outside [0, 1] or NaN, a radius negative or NaN, both flip
        probabilities round to 0, or `n_categories` is below 2 or `n_features` below 1.

    Notes
    -----
    It is the largest convex function of :math:`p` below the curves :math:`f_s(p)` of all
    splits :math:`s` of the changes. Where there is one kind of change only, it is their curve.
    See `flips_split_probability_lower` for the curve of one split.

    References
    ----------
    .. [1] G.-H. Lee, Y. Yuan, S. Chang and T. Jaakkola, "Tight certificates of adversarial
       robustness for randomly smoothed classifiers", NeurIPS 2019, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.flips import flips_probability_lower
    >>> flips_probability_lower(0.9, [0, 1, 2, 3], p_add=0.2).round(3)
    array([0.9 , 0.6 , 0.3 , 0.12])
    """
    law = flip_law(p_add, p_del, n_categories)
    largest = _checked_features(n_features)
    p = probability_pair(p_lower, None).top
    changes = np.minimum(checked_radius(radius), largest)
    p, changes = np.broadcast_arrays(p, changes)
    least = p.copy()
    if not law.hides_all:
        levels = flip_levels(law)
        for number in np.unique(changes[changes >= 1]):
            here = changes == number
            if number > levels.largest:
                least[here] = 0.0
            else:
                least[here] = levels.level(int(number)).worst.after(p[here])
    result: NDArray[np.float64] = least[()]
    return result


def _majority_radius(law: FlipLaw, top: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
    """Return the radii of probabilities that must stay above one half."""
    levels, radius = flip_levels(law), np.zeros(top.shape)
    for number in range(1, int(min(levels.largest, largest)) + 1):
        holds = top >= levels.level(number).threshold
        if not holds.any():
            break
        radius[holds] = number
    return radius


def _lead_radius(
    law: FlipLaw, top: NDArray[np.float64], other: NDArray[np.float64], largest: float
) -> NDArray[np.float64]:
    """Return the radii of pairs of probabilities of which one must stay above the other."""
    levels = flip_levels(law)
    pairs, places = np.unique(np.stack([top, other]), axis=1, return_inverse=True)
    radius, active = np.zeros(pairs.shape[1]), np.arange(pairs.shape[1])
    for number in range(1, int(min(levels.largest, largest)) + 1):
        if not len(active):
            break
        for curve in levels.level(number).curves:
            active = active[curve.keeps_lead(*pairs[:, active])]
        radius[active] = number
    result: NDArray[np.float64] = radius[places.ravel()]
    return result


def _checked_features(n_features: int | None) -> float:
    if n_features is None:
        return math.inf
    if checked_integer("n_features", n_features) < 1:
        raise ValueError(f"n_features must be at least 1, got {n_features!r}.")
    return float(n_features)
