"""Values in a declared range: checked on the way in, bounds on means rounded on the way out."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Pairwise sums along the last axis are off by less than this many units, up to 2**40 samples.
_SUM_ERROR = 64 * float(np.finfo(np.float64).eps)

DECLARE = "Declare the range with low and high."
"""What to do about values outside a range that callers state."""


def checked_width(low: float, high: float) -> float:
    """Width of a range.

    Parameters
    ----------
    low, high : float
        Its ends.

    Returns
    -------
    float
        The distance between them.

    Raises
    ------
    TypeError
        If an end is not a real number.

    ValueError
        If an end is not finite, or the range empty.
    """
    for name, end in (("low", low), ("high", high)):
        if not isinstance(end, Real):
            raise TypeError(f"{name} must be a real number, got {end!r}.")
        if not math.isfinite(end):
            raise ValueError(f"{name} must be finite, got {end!r}.")
    if not low < high:
        raise ValueError(f"low must be below high ({high!r}), got {low!r}.")
    return float(high) - float(low)


def checked_within(
    name: str, values: ArrayLike, low: float, high: float, *, remedy: str = ""
) -> NDArray[np.float64]:
    """Real numbers, all of them in a range.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.

    values : array-like of float
        The candidates.

    low, high : float
        The range, ends included.

    remedy : str, default=""
        What to do where it is another one, for the message.

    Returns
    -------
    ndarray of float64
        The same numbers.

    Raises
    ------
    TypeError
        If the values are not real numbers.

    ValueError
        If a value is outside the range or NaN.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got {values!r}.")
    array = array.astype(np.float64)
    outside = ~((array >= low) & (array <= high))
    if outside.any():
        found = f"{name} must lie in [{low!r}, {high!r}], got {array[outside].item(0)!r}."
        raise ValueError(f"{found} {remedy}".rstrip())
    return array


def checked_samples(samples: ArrayLike, low: float, high: float) -> NDArray[np.float64]:
    """Values of bounded variables along the last axis, at least one.

    Parameters
    ----------
    samples : array-like of float, shape (..., n_samples)
        The candidates.

    low, high : float
        The range, ends included.

    Returns
    -------
    ndarray of float64, shape (..., n_samples)
        The same numbers, contiguous along the last axis, so that they are summed in pairs.

    Raises
    ------
    TypeError
        If the samples are not real numbers.

    ValueError
        If a sample is outside the range or NaN, or there are none.
    """
    values = checked_within("samples", samples, low, high, remedy=DECLARE)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(
            f"samples must have at least one value along the last axis, got shape {values.shape!r}."
        )
    return np.ascontiguousarray(values)


def lowered_within(
    bound: NDArray[np.float64], margin: NDArray[np.float64], low: float, high: float
) -> NDArray[np.float64]:
    """Lower bound on a mean, lowered past rounding and clipped to the range.

    Parameters
    ----------
    bound : ndarray of float64
        The bound as evaluated: a mean along the last axis, less the margin.

    margin : ndarray of float64
        What was subtracted.

    low, high : float
        The range.

    Returns
    -------
    ndarray of float64
        The lowered bound; a float64 scalar where it is one.
    """
    error = _SUM_ERROR * (max(abs(low), abs(high)) + margin)
    clipped: NDArray[np.float64] = np.clip(bound - error, low, high)[()]
    return clipped
