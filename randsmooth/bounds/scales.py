"""Lengths measured in the scale of a noise, and products without rounding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.validation import checked_radius, checked_scale


def exact_product(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Product of two numbers as a sum of two doubles (Dekker 1971).

    Parameters
    ----------
    first : ndarray of float64
        One factor, below 1e290 in size.

    second : ndarray of float64
        The other.

    Returns
    -------
    product : ndarray of float64
        The rounded product.

    rest : ndarray of float64
        What is missing; exact where it is above the smallest number.
    """
    product = first * second
    (high1, low1), (high2, low2) = _halves(first), _halves(second)
    rest = ((high1 * high2 - product) + high1 * low2 + low1 * high2) + low1 * low2
    return product, rest


def _halves(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper and lower half of the digits (Veltkamp)."""
    spread = x * 134217729.0
    high = spread - (spread - x)
    return high, x - high


def length_in_scales(radius: ArrayLike, name: str, scale: ArrayLike) -> NDArray[np.float64]:
    """Length of a shift in units of the scale of a noise, rounded up.

    Parameters
    ----------
    radius : array-like of float
        Length of the shift, at least 0; infinity is allowed.

    name : str
        Name of the parameter that holds the scale, for the message.

    scale : array-like of float
        Scale of the noise, positive and finite.

    Returns
    -------
    ndarray of float64
        Their quotient, 0 only where the length is.
    """
    length, unit = checked_radius(radius), checked_scale(name, scale)
    with np.errstate(all="ignore"):
        shift = np.where(length > 0, np.nextafter(length / unit, np.inf), 0.0)
    return shift
