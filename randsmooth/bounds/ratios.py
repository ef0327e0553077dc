"""Ratios of large integers as doubles, rounded to a stated side."""

from __future__ import annotations

import math
import sys

__all__ = ["ratio_above", "ratio_down", "ratio_up"]


def ratio_down(numerator: int, denominator: int) -> float:
    """Largest finite double that is not above a ratio.

    Parameters
    ----------
    numerator : int
        Not negative.

    denominator : int
        Positive.

    Returns
    -------
    float
        The double.
    """
    try:
        nearest = numerator / denominator
    except OverflowError:
        return sys.float_info.max
    return nearest if _side(nearest, numerator, denominator) <= 0 else math.nextafter(nearest, -1)


def ratio_up(numerator: int, denominator: int) -> float:
    """Smallest double that is not below a ratio.

    Parameters
    ----------
    numerator : int
        Not negative.

    denominator : int
        Positive, and not so small that the ratio overflows.

    Returns
    -------
    float
        The double.
    """
    nearest = numerator / denominator
    above = math.nextafter(nearest, math.inf)
    return nearest if _side(nearest, numerator, denominator) >= 0 else above


def ratio_above(numerator: int, denominator: int) -> float:
    """Smallest double that is greater than a ratio.

    Parameters
    ----------
    numerator : int
        Not negative.

    denominator : int
        Positive, and not so small that the ratio overflows.

    Returns
    -------
    float
        The double.
    """
    nearest = numerator / denominator
    above = math.nextafter(nearest, math.inf)
    return nearest if _side(nearest, numerator, denominator) > 0 else above


def _side(value: float, numerator: int, denominator: int) -> int:
    """Return a number of the sign of a double minus a ratio, exactly."""
    top, bottom = value.as_integer_ratio()
    return top * denominator - numerator * bottom
