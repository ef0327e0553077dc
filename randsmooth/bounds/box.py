"""Radii in l1 for uniform noise where the inputs are known to lie in a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.quantiles import uniform_quantile_distance
from randsmooth.bounds.rounding import scaled_down
from randsmooth.bounds.validation import checked_scale

__all__ = ["box_uniform_radius"]

_EPSILON = float(np.finfo(np.float64).eps)
# Coordinates sorted at a time, so that memory does not grow with the number of inputs.
_BLOCK = 2**21


def box_uniform_radius(
    p_lower: ArrayLike,
    p_upper: ArrayLike | None = None,
    *,
    half_width: ArrayLike,
    X: ArrayLike,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
) -> NDArray[np.float64]:
    r"""Largest l1 radius within a box that two class probabilities certify under uniform noise.

    A classifier smoothed with independent uniform noise answers the top class at every point
    *of the box* closer than this in l1, if `p_lower` and `p_upper` bound its class
    probabilities at the centre. It is never below `uniform_radius`, which asks nothing of the
    points, and says nothing about points outside the box. Splitting noise with independent
    offsets obeys it as well. Nothing is random here. The value is never above the exact one,
    and below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (n_inputs,) or ()
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (n_inputs,) or (), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    half_width : float or array-like of float, shape (n_inputs,)
        Half the width of the noise, which is uniform on [-`half_width`, `half_width`], positive.

    X : array-like of float, shape (n_inputs, ...)
        The inputs, inside the box.

    low : float or array-like of float, default=0.0
        Lower ends of the box, finite; broadcast against one input.

    high : float or array-like of float, default=1.0
        Upper ends of the box, finite; broadcast against one input.

    Returns
    -------
    ndarray of float64, shape (n_inputs,)
        The radius, in the units of `half_width` and `X`. It is 0 where `p_lower` <= `p_upper`,
        infinite where no point of the box can change the answer.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, `half_width` is not positive and finite, the
        box is empty or unbounded, a value of `X` is outside the box, or shapes do not match.

    Notes
    -----
    A shift :math:`\delta` leaves the two cubes of noise with
    :math:`\prod_i (1 - |\delta_i| / (2\lambda))_+` of their mass in common, and the answer
    holds while that is above :math:`1 - \frac{p_1 - p_2}{2}`. Coordinate :math:`i` can move by
    at most :math:`b_i = \max(x_i - low, high - x_i)`. For a given l1 length the product is
    smallest if the coordinates with the largest :math:`b_i` are moved all the way, one after
    the other [1]_; the radius is the length at which this leaves too little.

    References
    ----------
    .. [1] V. Voracek and M. Hein, "Improving l1-certified robustness via randomized smoothing
       by leveraging box constraints", ICML 2023.

    Examples
    --------
    >>> from randsmooth.bounds.box import box_uniform_radius
    >>> box_uniform_radius(0.95, half_width=2.0, X=[[0.0, 0.8, 0.4]]).round(3)
    array([2.133])
    """
    rows, lower, upper = _checked_rows(X, low, high)
    gap = uniform_quantile_distance(probability_pair(p_lower, p_upper))
    width = checked_scale("half_width", half_width)
    try:
        gap, width = np.broadcast_to(gap, len(rows)), np.broadcast_to(width, len(rows))
    except ValueError as error:
        raise ValueError(
            "p_lower, p_upper and half_width must have one value or one for each of the "
            f"{len(rows)} inputs, got {np.shape(gap)!r} and {np.shape(width)!r}."
        ) from error
    radius = scaled_down("half_width", width, gap)
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        room = np.maximum(rows[part] - lower, upper - rows[part])
        radius[part] = np.maximum(radius[part], _greedy_radius(gap[part], width[part], room))
    return radius


def _checked_rows(
    X: ArrayLike, low: ArrayLike, high: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows of inputs as float64, and the ends of the box for one of them."""
    array, *ends = (_numbers(n, v) for n, v in (("X", X), ("low", low), ("high", high)))
    if array.ndim == 0:
        raise ValueError(f"X must have one input along the first axis, got {X!r}.")
    try:
        lower, upper = (np.broadcast_to(end, array.shape[1:]) for end in ends)
    except ValueError as error:
        raise ValueError(
            f"low and high must match one input of shape {array.shape[1:]!r}, got "
            f"{ends[0].shape!r} and {ends[1].shape!r}."
        ) from error
    for name, end in (("low", lower), ("high", upper)):
        if not np.isfinite(end).all():
            raise ValueError(f"{name} must be finite, got {end[~np.isfinite(end)].item(0)!r}.")
    if (lower > upper).any():
        raise ValueError(
            f"low must be at most high, got {lower[lower > upper].item(0)!r} above "
            f"{upper[lower > upper].item(0)!r}."
        )
    outside = ~((array >= lower) & (array <= upper))
    if outside.any():
        raise ValueError(
            f"X must lie in the box from low to high, got {array[outside].item(0)!r}; widen the "
            "box to all values that inputs can take."
        )
    size = int(np.prod(array.shape[1:]))
    return array.reshape(len(array), size), lower.reshape(size), upper.reshape(size)


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be real numbers, got {values!r}.")
    return array.astype(np.float64)


def _greedy_radius(
    gap: NDArray[np.float64], width: NDArray[np.float64], room: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Length at which moves of the widest coordinates leave too little overlap, rounded down."""
    # More room only costs radius, so that its rounding error is made harmless upwards.
    room = -np.sort(-np.nextafter(room, np.inf), axis=1)
    count = room.shape[1]
    with np.errstate(all="ignore"):
        share = np.minimum(room / (2 * width[:, None]), 1.0)
        # Lowered past the error of the sum: whether it stays above the budget must be sound.
        spent = np.cumsum(np.log1p(-share), axis=1) * (1 + 2 * _EPSILON * (count + 8))
        budget = np.log1p(-gap / 2) * (1 - 4 * _EPSILON)
        whole = (spent > budget[:, None]).sum(axis=1)
        before = np.pad(spent, ((0, 0), (1, 0)))[np.arange(len(room)), whole]
        last = -2 * width * np.expm1(budget - before)
        length = np.where(np.arange(count) < whole[:, None], room, 0.0).sum(axis=1) + last
        # Sums of so many terms, and a difference of two sums of logarithms.
        error = 2 * _EPSILON * ((count + 8) * length - 2 * width * (whole + 8) * budget)
        lowered = np.maximum(length - error, 0.0)
    return np.where(whole == count, np.where(gap > 0, np.inf, 0.0), lowered)
