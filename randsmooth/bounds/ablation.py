"""Radii in the l0 norm for random ablation: all but a few features are hidden."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.ratios import ratio_above, ratio_up
from randsmooth.bounds.validation import checked_integer

__all__ = ["ablation_probability_lower", "ablation_radius"]


def ablation_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, n_features: int, n_kept: int
) -> NDArray[np.float64]:
    r"""Largest number of features that may change under random ablation.

    The base classifier sees `n_kept` features, a uniformly random subset, and a constant in
    place of the others. The smoothed classifier answers the top class at every point that
    differs in at most this many features, if `p_lower` and `p_upper` bound its class
    probabilities at the centre. Nothing is random here. The value is never above the exact
    one, and below it only if the probabilities are within a few units in the last place of a
    tie.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    n_features : int
        Number of features :math:`d`, or of pixels where whole pixels are ablated.

    n_kept : int
        Number :math:`k` of them that the base classifier sees, from 1 to `n_features`.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, an integer; the ball is closed. It is 0 where `p_lower` <= `p_upper`, and
        at most `n_features` - `n_kept`. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or a number of features no integer.

    ValueError
        If a probability is outside [0, 1] or NaN, or a number of features out of range.

    Notes
    -----
    It is the largest integer :math:`\rho` with :math:`p_1 - \Delta > p_2 + \Delta`, where
    :math:`\Delta = 1 - \binom{d-\rho}{k} / \binom{d}{k}` is the probability that a changed
    feature is among those kept [1]_. The binomials are computed as integers.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Robustness certificates for sparse adversarial attacks by
       randomized ablation", AAAI 2020, Theorem 1.

    Examples
    --------
    >>> from randsmooth.bounds.ablation import ablation_radius
    >>> ablation_radius([0.999, 0.9, 0.5], n_features=784, n_kept=45)
    array([11.,  8.,  0.])
    """
    pair = probability_pair(p_lower, p_upper).lowered()
    _, leads = _losses(*_checked_numbers(n_features, n_kept))
    lead = pair.top - pair.runner_up
    # What the subtraction lost, exactly (Knuth's two-sum).
    back = pair.top - lead
    lost = (pair.top - (lead + back)) + (back - pair.runner_up)
    lead = np.where(lost < 0, np.nextafter(lead, -2.0), lead)
    radius = np.maximum(np.searchsorted(leads, lead, side="right") - 1, 0)
    result: NDArray[np.float64] = radius.astype(np.float64)[()]
    return result


def ablation_probability_lower(
    p_lower: ArrayLike, radius: ArrayLike, *, n_features: int, n_kept: int
) -> NDArray[np.float64]:
    r"""How improbable an event can become under random ablation.

    If an event has at least the probability `p_lower` at one point, it has at least the
    returned one at every point that differs in at most `radius` features. Nothing is random
    here. The value is never above the exact one, and below it by at most two units in the last
    place of `p_lower`.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the event, in [0, 1].

    radius : array-like of float, shape (...)
        Number of features that differ, not negative; its fraction does not count.

    n_features : int
        Number of features :math:`d`, or of pixels where whole pixels are ablated.

    n_kept : int
        Number :math:`k` of them that the base classifier sees, from 1 to `n_features`.

    Returns
    -------
    ndarray of float64, shape (...)
        The lower bounds, at least 0; `p_lower` itself where `radius` < 1. A float64 scalar
        where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric, or a number of features no integer.

    ValueError
        If a probability is outside [0, 1] or NaN, a radius negative or NaN, or a number of
        features out of range.

    Notes
    -----
    The value is :math:`\max(p - \Delta, 0)`, with :math:`\Delta` as in `ablation_radius` [1]_.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Robustness certificates for sparse adversarial attacks by
       randomized ablation", AAAI 2020, proof of Theorem 1.

    Examples
    --------
    >>> from randsmooth.bounds.ablation import ablation_probability_lower
    >>> ablation_probability_lower(0.9, [0, 1, 5, 50], n_features=784, n_kept=45).round(4)
    array([0.9   , 0.8426, 0.6435, 0.    ])
    """
    p = probability_pair(p_lower, None).top
    changed = checked_radius(radius)
    losses, _ = _losses(*_checked_numbers(n_features, n_kept))
    loss = losses[np.minimum(changed, len(losses) - 1).astype(np.intp)]
    lowered = np.where(loss > 0, np.nextafter(p - loss, -2.0), p)
    result: NDArray[np.float64] = np.maximum(lowered, 0.0)[()]
    return result


def checked_radius(radius: ArrayLike) -> NDArray[np.float64]:
    """Check numbers of changed features.

    Parameters
    ----------
    radius : array-like of float
        The numbers.

    Returns
    -------
    ndarray of float64
        The same, rounded down to integers.

    Raises
    ------
    TypeError
        If they are not numeric.

    ValueError
        If one is negative or NaN.
    """
    array = np.asarray(radius)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"radius must be a real number, got {radius!r}.")
    array = array.astype(np.float64)
    broken = ~(array >= 0)
    if broken.any():
        raise ValueError(f"radius must not be negative, got {array[broken].item(0)!r}.")
    changed: NDArray[np.float64] = np.floor(array)
    return changed


def _checked_numbers(n_features: int, n_kept: int) -> tuple[int, int]:
    for name, number in (("n_features", n_features), ("n_kept", n_kept)):
        checked_integer(name, number)
    if not 1 <= n_kept <= n_features:
        raise ValueError(
            f"n_kept must lie from 1 to n_features, got {n_kept!r} of {n_features!r} features."
        )
    return int(n_features), int(n_kept)


@lru_cache(maxsize=64)
def _losses(d: int, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for every radius the loss, rounded up, and the least lead that it leaves positive."""
    losses, leads = [0.0], [ratio_above(0, 1)]
    untouched = total = math.comb(d, k)
    while losses[-1] < 1:
        radius = len(losses)
        untouched = untouched * (d - radius + 1 - k) // (d - radius + 1)
        losses.append(ratio_up(total - untouched, total))
        leads.append(ratio_above(2 * (total - untouched), total))
    return np.array(losses), np.array(leads)
