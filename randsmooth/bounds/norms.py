"""From a radius in one norm to a radius in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.validation import checked_integer, checked_radius

__all__ = ["converted_radius", "l1_radius_from_l2", "linf_radius_from_l2"]

_NORMS = ("l1", "l2", "linf")


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
    exact, size = checked_radius(radius), checked_dimension(dimension)
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
    checked_dimension(dimension)
    converted: NDArray[np.float64] = checked_radius(radius)[()]
    return converted


def converted_radius(
    radius: ArrayLike, *, norm: str, to: str, dimension: int
) -> NDArray[np.float64]:
    r"""Radius of the largest ball of one norm inside a ball of another.

    What holds in the open ball of `radius` in `norm` holds in the open ball of this radius in
    the norm `to`. The value is rounded down: never above the exact one.

    Parameters
    ----------
    radius : array-like of float, shape (...)
        Radius in `norm`, at least 0; infinity is allowed.

    norm : {"l1", "l2", "linf"}
        Norm that `radius` is measured in.

    to : {"l1", "l2", "linf"}
        Norm of the answer.

    dimension : int
        Number of coordinates of an input, at least 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius in `to`; a float64 scalar where `radius` is a scalar.

    Raises
    ------
    TypeError
        If `radius` is not numeric or `dimension` not an integer.

    ValueError
        If a norm is unknown, a radius is negative or NaN, or `dimension` is below 1.

    Notes
    -----
    From :math:`\ell_p` to :math:`\ell_q` it is :math:`r` for :math:`q \le p`, since no vector
    is longer in :math:`\ell_p` than in :math:`\ell_q`, and :math:`r d^{1/q - 1/p}` for
    :math:`q > p`, which is attained by a vector of equal coordinates.

    Examples
    --------
    >>> from randsmooth.bounds.norms import converted_radius
    >>> converted_radius([0.0, 1.0], norm="l1", to="linf", dimension=16)
    array([0.    , 0.0625])
    """
    for name, value in (("norm", norm), ("to", to)):
        if value not in _NORMS:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, _NORMS))}, got {value!r}."
            )
    exact, size = checked_radius(radius), checked_dimension(dimension)
    if _NORMS.index(to) <= _NORMS.index(norm) or size == 1:
        same: NDArray[np.float64] = exact[()]
        return same
    if (norm, to) != ("l1", "linf"):
        return linf_radius_from_l2(exact, dimension=size)
    with np.errstate(under="ignore"):
        quotient = exact / float(size)
    lowered = np.maximum(np.nextafter(np.nextafter(quotient, -1.0), -1.0), 0.0)
    converted: NDArray[np.float64] = np.where(np.isinf(exact), exact, lowered)[()]
    return converted


def checked_dimension(dimension: int) -> int:
    """Dimension of an input, at least 1.

    Parameters
    ----------
    dimension : int
        The candidate.

    Returns
    -------
    int
        The same number.

    Raises
    ------
    TypeError
        If it is not an integer.

    ValueError
        If it is below 1.
    """
    size = checked_integer("dimension", dimension)
    if size < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension!r}.")
    return size
