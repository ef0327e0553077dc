"""Arguments of sequential tests: what they must be, and when to look unless told otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.intervals.validation import checked_alpha, checked_integers

__all__ = [
    "checked_looks",
    "checked_p0",
    "checked_proportions",
    "checked_sequential_alpha",
    "geometric_looks",
]

# The design leaves the range of float64 below this failure probability.
_SMALLEST_ALPHA = 1e-100


def geometric_looks(n_max: int, *, first: int = 50, ratio: float = 1.15) -> NDArray[np.int64]:
    """Sample sizes at which to look, each a fixed factor above the one before.

    Parameters
    ----------
    n_max : int
        The last look, at least 1.

    first : int, default=50
        The first look, at least 1. With `n_max` at or below it there is a single look.

    ratio : float, default=1.15
        The factor, above 1. Looks are rounded, and the last step is shorter or longer.

    Returns
    -------
    ndarray of int64, shape (n_looks,)
        Strictly increasing, `n_max` the last.

    Raises
    ------
    TypeError
        If an argument is not a number of its kind.

    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from randsmooth.intervals import geometric_looks
    >>> geometric_looks(100)
    array([ 50,  57,  66,  76,  87, 100])
    """
    last, n = _checked_size("n_max", n_max), float(_checked_size("first", first))
    if not isinstance(ratio, Real):
        raise TypeError(f"ratio must be a real number, got {ratio!r}.")
    if not 1 < ratio < math.inf:
        raise ValueError(f"ratio must be above 1 and finite, got {ratio!r}.")
    looks = set()
    while n < last / math.sqrt(ratio):
        looks.add(round(n))
        n = max(n * float(ratio), round(n) + 1.0)
    return np.array([*sorted(looks), last], dtype=np.int64)


def checked_sequential_alpha(alpha: float) -> float:
    """Failure probability that a design can be computed for.

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
        If `alpha` is outside [1e-100, 1).
    """
    level = checked_alpha(alpha)
    if level < _SMALLEST_ALPHA:
        raise ValueError(f"alpha must be at least {_SMALLEST_ALPHA:g}, got {alpha!r}.")
    return level


def checked_p0(p0: float) -> float:
    """Proportion to exceed.

    Parameters
    ----------
    p0 : float
        The candidate.

    Returns
    -------
    float
        The same number.

    Raises
    ------
    TypeError
        If `p0` is not a real number.

    ValueError
        If `p0` is outside (0, 1].
    """
    if not isinstance(p0, Real):
        raise TypeError(f"p0 must be a real number, got {p0!r}.")
    if not 0 < p0 <= 1:
        raise ValueError(f"p0 must be above 0 and at most 1, got {p0!r}.")
    return float(p0)


def checked_proportions(values: ArrayLike) -> NDArray[np.float64]:
    """Proportions to evaluate a test at.

    Parameters
    ----------
    values : array-like of float
        The candidates.

    Returns
    -------
    ndarray of float64
        The same numbers.

    Raises
    ------
    ValueError
        If one is outside [0, 1].
    """
    proportions = np.asarray(values, dtype=np.float64)
    broken = ~((proportions >= 0) & (proportions <= 1))
    if broken.any():
        raise ValueError(f"p must lie in [0, 1], got {proportions[broken].item(0)!r}.")
    return proportions


def checked_looks(looks: Sequence[int] | NDArray[np.int64] | None, n_max: int) -> tuple[int, ...]:
    """Sample sizes at which to look.

    Parameters
    ----------
    looks : sequence of int or None
        The candidates, None for the geometric ones.

    n_max : int
        What the last of them must be.

    Returns
    -------
    tuple of int
        The sample sizes.

    Raises
    ------
    TypeError
        If an argument is not made of integers.

    ValueError
        If `n_max` is below 1, or the looks do not strictly increase from 1 or more to `n_max`.
    """
    last = _checked_size("n_max", n_max)
    if looks is None:
        return tuple(geometric_looks(last).tolist())
    sizes = checked_integers("looks", looks)
    if sizes.ndim != 1 or not sizes.size or (np.diff(sizes, prepend=0) < 1).any():
        raise ValueError(f"looks must be strictly increasing and positive, got {looks!r}.")
    if sizes[-1] != last:
        raise ValueError(f"looks must end at n_max ({last}), got {looks!r}.")
    return tuple(sizes.tolist())


def _checked_size(name: str, size: int) -> int:
    if not isinstance(size, Integral):
        raise TypeError(f"{name} must be an integer, got {size!r}.")
    if size < 1:
        raise ValueError(f"{name} must be at least 1, got {size!r}.")
    return int(size)
