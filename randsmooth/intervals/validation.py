"""What every interval asks of its arguments: a failure probability, and whole-number counts."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray


def checked_alpha(alpha: float) -> float:
    """Failure probability, strictly between 0 and 1.

    Parameters
    ----------
    alpha : float
        The candidate.

    Returns
    -------
    float
        The same number.

    Raises
    ------
    TypeError
        If `alpha` is not a real number.

    ValueError
        If `alpha` is outside (0, 1).
    """
    if not isinstance(alpha, Real):
        raise TypeError(f"alpha must be a real number, got {alpha!r}.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha!r}.")
    return float(alpha)


def checked_integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers, in whatever numeric type they came.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.

    values : array-like
        The candidates.

    Returns
    -------
    ndarray of int64
        The same numbers.

    Raises
    ------
    TypeError
        If the values are not numbers.

    ValueError
        If a value is not a whole number.
    """
    array = np.asarray(values)
    if array.dtype.kind in "iu" and array.dtype != np.uint64:
        return array.astype(np.int64)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be integers, got {values!r}.")
    broken = ~((array == np.floor(array)) & (np.abs(array.astype(np.float64)) < 2.0**63))
    if broken.any():
        raise ValueError(f"{name} must be integers, got {array[broken].item(0)!r}.")
    return array.astype(np.int64)


def checked_counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers, none of them negative.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.

    values : array-like
        The candidates.

    Returns
    -------
    ndarray of int64
        The same numbers.

    Raises
    ------
    TypeError
        If the values are not numbers.

    ValueError
        If a value is negative or not a whole number.
    """
    counts = checked_integers(name, values)
    negative = counts < 0
    if negative.any():
        raise ValueError(f"{name} must be non-negative, got {counts[negative].item(0)!r}.")
    return counts


def checked_class_counts(values: ArrayLike) -> NDArray[np.int64]:
    """Votes for each class, classes along the last axis.

    Parameters
    ----------
    values : array-like of int, shape (..., n_classes)
        The candidates.

    Returns
    -------
    ndarray of int64, shape (..., n_classes)
        The same numbers.

    Raises
    ------
    TypeError
        If the values are not numbers.

    ValueError
        If a value is negative or not a whole number, or there are fewer than two classes.
    """
    counts = checked_counts("counts", values)
    if counts.ndim == 0 or counts.shape[-1] < 2:
        raise ValueError(
            "counts must have at least two classes along the last axis, "
            f"got an array of shape {counts.shape!r}."
        )
    return counts
