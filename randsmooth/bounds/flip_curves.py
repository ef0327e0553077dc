r"""What flips of categorical features leave of a probability: exact Neyman-Pearson curves.

Between two inputs that differ in some features, every outcome of the noise has a likelihood ratio,
and outcomes of one ratio form a region. Of all events with probability :math:`p` at the first
input, the one made of the regions in falling order of their ratio is the least probable at the
second (Neyman and Pearson). Its probability there is a convex, piecewise linear function of
:math:`p`. All probabilities of regions are multiples of :math:`2^{-24r}`, and are kept as integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cmp_to_key, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from randsmooth.bounds.flip_law import FLIP_UNITS, Atom, FlipLaw
from randsmooth.bounds.ratios import ratio_above, ratio_down, ratio_up

__all__ = ["FlipCurve", "FlipLevel", "FlipLevels", "flip_levels", "split_curve"]

_EPSILON = float(np.finfo(np.float64).eps)

# How many changes are looked into, by the number of kinds of changes.
_LARGEST = {1: 256, 2: 64, 3: 12}

Regions = dict[int, tuple[int, int]]
Points = list[tuple[int, int]]


class FlipCurve:
    """The least probability that an event can have after a change, by the one before it.

    Parameters
    ----------
    points : list of (int, int)
        Where the pieces of the curve end, from (0, 0) on, before and after the change.

    total : int
        What probability 1 is on both axes.
    """

    def __init__(self, points: Points, total: int) -> None:
        self._starts = np.array([ratio_up(p, total) for p, _ in points[:-1]])
        self._rests = np.array([ratio_down(total - p, total) for p, _ in points[:-1]])
        self._floors = np.array([ratio_down(q, total) for _, q in points[:-1]])
        self._slopes = np.array(
            [ratio_down(q1 - q0, p1 - p0) for (p0, q0), (p1, q1) in pairwise(points)]
        )

    def after(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the least probabilities after the change, rounded down.

        Parameters
        ----------
        p : ndarray of float64
            Probabilities before it.

        Returns
        -------
        ndarray of float64
            Probabilities after it.
        """
        return self._at(p, 1 - p)

    def keeps_lead(self, top: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether one event stays more probable than another.

        Parameters
        ----------
        top : ndarray of float64
            Lower bounds on the probability of the one before the change.

        other : ndarray of float64
            Upper bounds on the probability of the other.

        Returns
        -------
        ndarray of bool
            Whether it does.
        """
        # A sum is rounded to more than 1 only if it is more.
        above: NDArray[np.bool_] = self.after(top) + self._at(1 - other, other) > 1
        return above

    def _at(self, p: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the curve at `p`, which is 1 - `rest`; the smaller of the two is exact."""
        high = rest < 0.5
        piece = np.searchsorted(self._starts, p, side="right")
        from_above = np.searchsorted(-self._rests, -rest, side="right")
        piece = np.where(high, from_above, piece) - 1
        # Every piece, continued to the right, lies below the curve: so does its rounded start.
        beyond = np.where(high, self._rests[piece] - rest, p - self._starts[piece])
        value = self._floors[piece] + self._slopes[piece] * beyond
        lowered: NDArray[np.float64] = np.maximum(value * (1 - 4 * _EPSILON) - 5e-324, 0.0)
        return lowered


class FlipLevel:
    """All changes of one number of features.

    Parameters
    ----------
    curves : list of list of (int, int)
        Ends of the pieces of the curve of every split into kinds of changes.

    total : int
        What probability 1 is.
    """

    def __init__(self, curves: list[Points], total: int) -> None:
        self.curves = [FlipCurve(points, total) for points in curves]
        self.threshold = max(_least_majority(points, total) for points in curves)
        hull = _lower_hull(sorted({point for points in curves for point in points}))
        self.worst = FlipCurve(hull, total)


class FlipLevels:
    """The levels of a law, made as they are asked for.

    Parameters
    ----------
    law : FlipLaw
        How features flip.
    """

    def __init__(self, law: FlipLaw) -> None:
        self._atoms = [[atom for atom in kind if atom[1]] for kind in law.kinds]
        self._regions: dict[tuple[int, ...], Regions] = {(0,) * len(self._atoms): {0: (1, 1)}}
        self._levels: list[FlipLevel] = []
        self.largest = _LARGEST[len(self._atoms)]

    def level(self, n_changes: int) -> FlipLevel:
        """Return the level of a number of changes.

        Parameters
        ----------
        n_changes : int
            From 1 to `largest`.

        Returns
        -------
        FlipLevel
            The level.
        """
        while len(self._levels) < n_changes:
            last, number = self._regions, len(self._levels) + 1
            self._regions = {
                split: _with_one_more(last, split, self._atoms)
                for split in _splits(number, len(self._atoms))
            }
            curves = [_ends(regions) for regions in self._regions.values()]
            self._levels.append(FlipLevel(curves, FLIP_UNITS**number))
        return self._levels[n_changes - 1]


@lru_cache(maxsize=16)
def flip_levels(law: FlipLaw) -> FlipLevels:
    """Return the levels of a law, the same object for the same law.

    Parameters
    ----------
    law : FlipLaw
        How features flip.

    Returns
    -------
    FlipLevels
        The levels.
    """
    return FlipLevels(law)


@lru_cache(maxsize=256)
def split_curve(law: FlipLaw, split: tuple[int, ...]) -> FlipCurve:
    """Return the curve of one split of changes into kinds.

    Parameters
    ----------
    law : FlipLaw
        How features flip.

    split : tuple of int
        Number of changes of every kind of the law.

    Returns
    -------
    FlipCurve
        The curve.
    """
    regions: Regions = {0: (1, 1)}
    for number, kind in zip(split, law.kinds, strict=True):
        atoms = [atom for atom in kind if atom[1]]
        for _ in range(number):
            regions = _convolved(regions, atoms)
    return FlipCurve(_ends(regions), FLIP_UNITS ** sum(split))


def _splits(number: int, n_kinds: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write a number as a sum of as many as there are kinds."""
    if n_kinds == 1:
        yield (number,)
        return
    for first in range(number + 1):
        for others in _splits(number - first, n_kinds - 1):
            yield (first, *others)


def _with_one_more(
    last: dict[tuple[int, ...], Regions], split: tuple[int, ...], atoms: list[list[Atom]]
) -> Regions:
    kind = next(index for index, number in enumerate(split) if number)
    fewer = tuple(number - (index == kind) for index, number in enumerate(split))
    return _convolved(last[fewer], atoms[kind])


def _convolved(regions: Regions, atoms: list[Atom]) -> Regions:
    """Return the regions with one more changed feature."""
    result: Regions = {}
    for key, (before, after) in regions.items():
        for step, times_before, times_after in atoms:
            p, q = result.get(key + step, (0, 0))
            result[key + step] = p + before * times_before, q + after * times_after
    return result


def _least_majority(points: Points, total: int) -> float:
    """Return the least double at which a curve is above one half; infinity if it never is."""
    for (p0, q0), (p1, q1) in pairwise(points):
        if 2 * q1 > total:
            numerator = 2 * p0 * (q1 - q0) + (total - 2 * q0) * (p1 - p0)
            return ratio_above(numerator, 2 * (q1 - q0) * total)
    return float("inf")


def _lower_hull(points: Points) -> Points:
    """Return the lower convex hull of sorted points, up to the lowest with the largest abscissa."""
    hull: Points = []
    for x, y in points:
        if hull and hull[-1][0] == x:
            continue
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2:]
            if (x1 - x0) * (y - y0) > (x - x0) * (y1 - y0):
                break
            hull.pop()
        hull.append((x, y))
    return hull


def _ends(regions: Regions) -> Points:
    """Return where the pieces of the curve of some regions end, from (0, 0) on."""

    def order(first: tuple[int, int], second: tuple[int, int]) -> int:
        return first[1] * second[0] - second[1] * first[0]

    points = [(0, 0)]
    for before, after in sorted(regions.values(), key=cmp_to_key(order)):
        points.append((points[-1][0] + before, points[-1][1] + after))
    return points
