"""From a radius in one norm to a radius in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["l1_radius_from_l2", "linf_radius_from_l2"]


def linf_radius_from_l2(radius: ArrayLike, *, dimension: int) -> NDArray[np.float64]:
    r"""Radius of the largest l-infinity ball inside an l2 ball.

    What holds in the open l2 ball holds in this open l-infinity ball. The value is rounded
    down: never above the exact one.

    Parameters
    ----------
    radius : array-like of float, shape (...)
        Radius in l2, at least 0; infinity is allowed.

    dimension : int
        Number of coordinates of an input, at least 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius in l-infinity; a float64 scalar where `radius` is a scalar.

    Raises
    ------
    TypeError
        If `radius` is not numeric or `dimension` not an integer.

    ValueError
        If a radius is negative or NaN, or `dimension` is below 1.

    Notes
    -----
    A corner of the cube is :math:`\sqrt d` times as far away as its faces, so that the
    radius is :math:`r / \sqrt d`.

    Examples
    --------
    >>> from randsmooth.bounds import linf_radius_from_l2
    >>> linf_radius_from_l2([0.0, 1.0], dimension=16).round(3)
    array([0.  , 0.25])
    """
    exact, size = _checked_radius(radius), _checked_dimension(dimension)
    with np.errstate(under="ignore"):
        quotient = exact / np.sqrt(float(size))
    # Two roundings, each by at most half a unit: two steps down are below the exact value.
    lowered = np.maximum(np.nextafter(np.nextafter(quotient, -1.0), -1.0), 0.0)
    converted: NDArray[np.float64] = np.where(np.isinf(exact) | (size == 1), exact, lowered)[()]
    return converted


def l1_radius_from_l2(radius: ArrayLike, *, dimension: int) -> NDArray[np.float64]:
    r"""Radius of the largest l1 ball inside an l2 ball: the same.

    What holds in the open l2 ball holds in this open l1 ball. The value is exact.

    Parameters
    ----------
    radius : array-like of float, shape (...)
        Radius in l2, at least 0; infinity is allowed.

    dimension : int
        Number of coordinates of an input, at least 1. The answer does not depend on it.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius in l1; a float64 scalar where `radius` is a scalar.

    Raises
    ------
    TypeError
        If `radius` is not numeric or `dimension` not an integer.

    ValueError
        If a radius is negative or NaN, or `dimension` is below 1.

    Notes
    -----
    No vector is longer in l2 than in l1 (:math:`\|\delta\|_2 \le \|\delta\|_1`), so that a
    shift of l1 length below :math:`r` has an l2 length below :math:`r`. Along an axis the two
    are equal, so that no larger l1 ball fits.

    Examples
    --------
    >>> from randsmooth.bounds import l1_radius_from_l2
    >>> l1_radius_from_l2([0.0, 1.0], dimension=16)
    array([0., 1.])
    """
    _checked_dimension(dimension)
    converted: NDArray[np.float64] = _checked_radius(radius)[()]
    return converted


def _checked_radius(radius: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(radius)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"radius must be real numbers, got {radius!r}.")
    array = array.astype(np.float64)
    broken = ~(array >= 0)
    if broken.any():
        raise ValueError(f"radius must be non-negative, got {array[broken].item(0)!r}.")
    return array


def _checked_dimension(dimension: int) -> int:
    if isinstance(dimension, bool) or not isinstance(dimension, (int, np.integer)):
        raise TypeError(f"dimension must be an integer, got {dimension!r}.")
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension!r}.")
    return int(dimension)
