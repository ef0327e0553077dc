"""Radii are rounded down: never above the exact value, whatever the arithmetic did."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.validation import checked_scale

_EPSILON = float(np.finfo(np.float64).eps)
_LARGEST = float(np.finfo(np.float64).max)


def rounded_down(
    radius: NDArray[np.float64],
    input_error: NDArray[np.float64],
    numerical_error: NDArray[np.float64],
    *,
    tolerance: float,
) -> NDArray[np.float64]:
    """Lower a radius past the errors of its inputs and of its own evaluation.

    Next to a tie, and next to certainty, the last bit of a probability moves the radius by
    more than any useful tolerance. What is given up for such bits is therefore limited to
    `tolerance` times the radius; the error of the evaluation is always given up in full.

    Parameters
    ----------
    radius : ndarray of float64
        The radius as evaluated, 0 or infinite where that is exact.

    input_error : ndarray of float64
        How far it is too large if each probability was rounded in its favour.

    numerical_error : ndarray of float64
        How far the evaluation may be off.

    tolerance : float
        Largest share of the radius to give up for the inputs.

    Returns
    -------
    ndarray of float64
        The lowered radius, at least 0. An infinite radius stays infinite.
    """
    usable = (radius > 0) & np.isfinite(radius)
    finite = np.where(usable, radius, 0.0)
    given_up = np.minimum(np.where(usable, input_error, 0.0), tolerance * finite)
    lowered = finite - given_up - np.where(usable, numerical_error, 0.0)
    return np.where(np.isinf(radius), np.inf, np.maximum(np.nextafter(lowered, -1.0), 0.0))


def scaled_down(
    name: str, scale: ArrayLike, unit_radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Radius for a noise of any scale, rounded down, from the radius for scale 1.

    Parameters
    ----------
    name : str
        Name of the parameter that holds the scale, for the message.

    scale : array-like of float
        Scale of the noise, positive and finite.

    unit_radius : ndarray of float64
        Radius for scale 1, already rounded down.

    Returns
    -------
    ndarray of float64
        Their product; a float64 scalar where both are scalars.

    Raises
    ------
    TypeError
        If the scale is not numeric.

    ValueError
        If the scale is not positive or not finite.
    """
    array = checked_scale(name, scale)
    with np.errstate(over="ignore", under="ignore"):
        product = array * (unit_radius * (1 - 4 * _EPSILON))
    product = np.where(np.isinf(product) & np.isfinite(unit_radius), _LARGEST, product)
    lowered = np.where(np.isinf(product), np.inf, np.maximum(np.nextafter(product, -1.0), 0.0))
    result: NDArray[np.float64] = lowered[()]
    return result
