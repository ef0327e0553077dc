"""What bounds ask of their arguments: scales, radii and whole numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def checked_scale(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Scale of a noise: positive and finite.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.

    values : array-like of float
        The candidates.

    Returns
    -------
    ndarray of float64
        The same numbers.

    Raises
    ------
    TypeError
        If the values are not numeric.

    ValueError
        If a value is not positive or not finite.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a real number, got {values!r}.")
    array = array.astype(np.float64)
    broken = ~((array > 0) & np.isfinite(array))
    if broken.any():
        raise ValueError(f"{name} must be positive and finite, got {array[broken].item(0)!r}.")
    return array


def checked_radius(radius: ArrayLike) -> NDArray[np.float64]:
    """Radii as float64, at least 0; infinity is allowed.

    Parameters
    ----------
    radius : array-like of float
        The candidates.

    Returns
    -------
    ndarray of float64
        The same numbers.

    Raises
    ------
    TypeError
        If the radii are not numeric.

    ValueError
        If a radius is negative or NaN.
    """
    array = np.asarray(radius)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"radius must be real numbers, got {radius!r}.")
    array = array.astype(np.float64)
    broken = ~(array >= 0)
    if broken.any():
        raise ValueError(f"radius must be non-negative, got {array[broken].item(0)!r}.")
    return array


def checked_integer(name: str, number: int) -> int:
    """Check that a number is an integer.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.

    number : int
        The number.

    Returns
    -------
    int
        The same.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool):
        raise TypeError(f"{name} must be an integer, got {number!r}.")
    return int(number)
