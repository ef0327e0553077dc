"""Roots of many falling functions at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_STEPS = 20


def falling_root(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Where each function falls through 0 between 0 and its upper end.

    Meant for the derivative of a function to be maximised: an end point is returned where
    there is no change of sign, 0 if the function starts at or below 0, `upper` if it is still
    positive there. The bracket is kept at every step, so that the answer is always in range.

    Parameters
    ----------
    function : callable
        Takes one argument for each function, returns their values.

    upper : ndarray of float64
        Upper ends.

    Returns
    -------
    ndarray of float64
        The roots, found by the Illinois variant of the false position.
    """
    left, right = np.zeros_like(upper), upper.copy()
    above, below = function(left), function(right)
    at_left, at_right = above <= 0, below >= 0
    settled = at_left | at_right
    above, below = np.where(settled, 1.0, above), np.where(settled, -1.0, below)
    side = np.zeros(upper.shape, dtype=np.int8)
    middle = left
    for _ in range(_STEPS):
        middle = (left * below - right * above) / (below - above)
        value = function(middle)
        rises = value > 0
        stuck_right = rises & (side > 0)
        stuck_left = ~rises & (side < 0)
        left, right = np.where(rises, middle, left), np.where(rises, right, middle)
        above, below = np.where(rises, value, above), np.where(rises, below, value)
        above = np.where(stuck_left, above / 2, above)
        below = np.where(stuck_right, below / 2, below)
        side = np.where(rises, 1, -1).astype(np.int8)
    return np.where(at_left, 0.0, np.where(at_right, upper, middle))
