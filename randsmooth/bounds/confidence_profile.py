"""Expected scores as weighted sums of probabilities: their bounds at radii, and the radii back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from randsmooth.bounds.shifts import gaussian_probability_lower
from randsmooth.intervals.distribution import dkw_band, dkw_margin
from randsmooth.intervals.ranges import checked_within
from randsmooth.intervals.validation import checked_counts, checked_integers

Shift = Callable[..., Any]
"""A lower bound on a probability after a shift: ``shift(p, radius)``, which broadcasts."""

_EPSILON = float(np.finfo(np.float64).eps)
_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)
# Numbers worked on at a time: few enough for the cache, enough to hide Python.
_BLOCK = 2**17
_TABLES = 2**23
# Search: shared radii to begin with, relative width to end at, and steps at most.
_GRID, _WIDTH, _STEPS = 8, 1e-12, 400


@dataclass(frozen=True)
class Profile:
    """For each input, steps of the score and lower bounds on the probabilities to reach them.

    The expected score is at least `low` plus the sum of step times probability. Probabilities
    are stored once each, since counts repeat.

    Parameters
    ----------
    levels : ndarray of float64, shape (n_levels,)
        The probabilities that occur.

    places : ndarray of int, shape (n_rows, n_steps)
        Which of them belongs to each step of each row.

    thresholds : ndarray of float64, shape (1, n_steps) or (n_rows, n_steps)
        Where the steps end. The first begins at `low`.

    shape : tuple of int
        Shape in which the rows came.

    low, high : float
        Range of a score.

    shift : callable
        Lower bound on a probability after a shift.
    """

    levels: NDArray[np.float64]
    places: NDArray[Any]
    thresholds: NDArray[np.float64]
    shape: tuple[int, ...]
    low: float
    high: float
    shift: Shift

    def at_common(self, radii: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the bound of every row at every radius, shape (n_rows, n_radii)."""
        bound = np.empty((len(self.places), len(radii)))
        for columns in _blocks(len(radii), len(self.levels), _TABLES):
            tables = [self._shifted(self.levels, radius) for radius in radii[columns]]
            for rows in _blocks(*self.places.shape):
                places, widths = self._part(rows)
                for column, table in enumerate(tables, columns.start):
                    bound[rows, column] = self._sum(table.take(places, mode="clip"), widths)
        return bound

    def at_own(self, radii: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the bound of some rows, each at a radius of its own, shape (len(rows),)."""
        bound = np.empty(len(rows))
        for part in _blocks(len(rows), self.places.shape[1]):
            places, widths = self._part(rows[part])
            shifted = self._shifted(self.levels.take(places), radii[part, np.newaxis])
            bound[part] = self._sum(shifted, widths)
        return bound

    def share(self, score: ArrayLike) -> NDArray[np.float64]:
        """Return where in the range a score lies, from 0 to 1."""
        return (np.asarray(score) - self.low) / (self.high - self.low)

    def _part(self, rows: slice | NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        thresholds = self.thresholds if len(self.thresholds) == 1 else self.thresholds[rows]
        widths = np.diff(thresholds.astype(np.float64, copy=False), axis=-1, prepend=self.low)
        return self.places[rows].astype(np.intp, copy=False), widths

    def _shifted(self, p: NDArray[np.float64], radius: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(self.shift(p, radius), dtype=np.float64)

    def _sum(
        self, probabilities: NDArray[np.float64], widths: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Round the sum down: every one of its n terms and additions may be off by half a unit."""
        n = widths.shape[-1]
        with np.errstate(under="ignore"):
            # Not a dot product: its last bit depends on how many rows there are, and on strides.
            total = (probabilities * widths).sum(axis=-1)
            total = total * (1 - (n + 8) * _EPSILON) - n * _SMALLEST
        bound: NDArray[np.float64] = np.nextafter(self.low + total, -np.inf)
        return np.maximum(bound, self.low)


def mean_profile(
    mean: ArrayLike,
    trials: ArrayLike,
    alpha: float,
    score_range: tuple[float, float],
    shift: Shift,
) -> Profile:
    """Return the profile of one step over the whole range, of which only the mean is known."""
    low, high = score_range
    margin = dkw_margin(trials, alpha=alpha)
    values, margin = np.broadcast_arrays(checked_within("mean", mean, low, high), margin)
    # Nothing here cancels but the last difference, which is off by half a unit.
    share = (values - low) / (high - low) * (1 - 4 * _EPSILON)
    levels = np.maximum(np.nextafter(share - margin, -np.inf), 0.0).ravel()
    places = np.arange(levels.size)[:, np.newaxis]
    return Profile(levels, places, np.array([[high]]), values.shape, low, high, shift)


def counts_profile(
    counts: ArrayLike,
    thresholds: ArrayLike,
    trials: int,
    alpha: float,
    score_range: tuple[float, float],
    shift: Shift,
) -> Profile:
    """Return the profile of one step for each threshold, from how many scores reach it."""
    low, high = score_range
    n = _single_count(trials)
    array = np.asarray(counts)
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        array = checked_integers("counts", counts)
    steps = np.asarray(thresholds)
    if array.ndim == 0 or steps.shape not in (array.shape[-1:], array.shape):
        raise ValueError(
            f"thresholds must be one row for all inputs or one for each, as wide as counts of "
            f"shape {array.shape!r}, got shape {steps.shape!r}."
        )
    if not array.shape[-1]:
        raise ValueError("thresholds must not be empty, got none.")
    shape = array.shape[:-1]
    places = array.reshape(math.prod(shape), array.shape[-1])
    rows_of_steps = _number("thresholds", steps).reshape(-1, array.shape[-1])
    _check_thresholds(rows_of_steps, low, high)
    _check_counts(places, n)
    if n < places.size:
        levels = dkw_band(np.arange(n + 1), n, alpha=alpha)
    else:
        levels = dkw_band(places.ravel(), n, alpha=alpha)
        places = np.arange(places.size).reshape(places.shape)
    return Profile(levels, places, rows_of_steps, shape, low, high, shift)


def confidence_at(profile: Profile, radius: ArrayLike) -> NDArray[np.float64]:
    """Return the bounds of a profile, shaped like its rows and then like the radii."""
    radii = _number("radius", radius)
    if radii.ndim > 1:
        raise ValueError(f"radius must be a number or a list of them, got shape {radii.shape!r}.")
    broken = ~((radii >= 0) & np.isfinite(radii))
    if broken.any():
        raise ValueError(f"radius must be non-negative and finite, got {radii[broken].item(0)!r}.")
    bound = profile.at_common(radii.ravel().astype(np.float64))
    result: NDArray[np.float64] = bound.reshape(profile.shape + radii.shape)[()]
    return result


def radius_where(
    profile: Profile, threshold: ArrayLike, trials: ArrayLike, alpha: float
) -> NDArray[np.float64]:
    """Return the radii of a profile, shaped like its rows and then like the thresholds."""
    levels = _number("threshold", threshold)
    if levels.ndim > 1:
        raise ValueError(
            f"threshold must be a number or a list of them, got shape {levels.shape!r}."
        )
    _check_attainable(levels, int(np.max(trials, initial=1)), alpha, profile.low, profile.high)
    at_input = profile.at_common(np.zeros(1))[:, 0]
    columns = [_largest_radius(profile, at_input, float(level)) for level in levels.ravel()]
    radii = np.reshape(columns, (levels.size, len(at_input))).T
    result: NDArray[np.float64] = radii.reshape(profile.shape + levels.shape)[()]
    return result


def checked_range(low: float, high: float) -> tuple[float, float]:
    """Return the range of a score if it is one."""
    for name, value in (("low", low), ("high", high)):
        if not isinstance(value, Real):
            raise TypeError(f"{name} must be a real number, got {value!r}.")
    if not (low < high and math.isfinite(float(high) - float(low))):
        raise ValueError(f"low must be below high, and both finite, got {low!r} and {high!r}.")
    return float(low), float(high)


def checked_shift(sigma: float | None, probability_lower: Shift | None) -> Shift:
    """Return the given bound on shifted probabilities, or that of Gaussian noise."""
    if sigma is None and probability_lower is not None:
        return probability_lower
    if sigma is None or probability_lower is not None:
        raise TypeError(
            f"sigma must be given for Gaussian noise, or else probability_lower, and not both, "
            f"got {sigma!r} and {probability_lower!r}."
        )
    if np.ndim(sigma):
        raise TypeError(f"sigma must be a real number, got {sigma!r}.")
    gaussian_probability_lower(0.5, 0.0, sigma=sigma)  # refuses a bad one before any work
    return partial(gaussian_probability_lower, sigma=sigma)


def _largest_radius(
    profile: Profile, at_input: NDArray[np.float64], threshold: float
) -> NDArray[np.float64]:
    """Radius of every row, by a search over all rows at once that keeps to the safe side."""
    radius = np.zeros(len(at_input))
    rows = np.flatnonzero(at_input > threshold)
    if threshold == profile.low:
        radius[rows] = np.inf
    elif rows.size:
        grid = np.linspace(0.0, _reach(profile, threshold), _GRID + 1)
        on_grid = profile.at_common(grid)[rows]
        on_grid[:, -1] = profile.low  # out of reach by construction
        cell = np.argmin(on_grid >= threshold, axis=1)
        ends = [_End(grid[k], on_grid[np.arange(rows.size), k]) for k in (cell - 1, cell)]
        radius[rows] = _narrowed(profile, threshold, rows, *ends)
    return radius


@dataclass
class _End:
    """One end of the brackets of many roots: radii, and the bounds there."""

    radius: NDArray[np.float64]
    bound: NDArray[np.float64]


def _narrowed(
    profile: Profile, threshold: float, rows: NDArray[np.intp], lower: _End, upper: _End
) -> NDArray[np.float64]:
    """Lower ends of the brackets, narrowed by false position on the scale of normal quantiles.

    On that scale the bound is nearly straight, for Gaussian noise. The Illinois rule moves the
    end that would stay, a push past the estimate makes both ends close in, and every eighth step
    halves. Whatever the estimates, a lower end has been seen to hold.
    """
    target = ndtri(profile.share(threshold))
    above, below = (ndtri(profile.share(end.bound)) - target for end in (lower, upper))
    push = np.zeros(len(rows))
    for step in range(1, _STEPS):
        width = upper.radius - lower.radius
        (active,) = np.nonzero(width > _WIDTH * upper.radius)
        if not active.size:
            break
        high, low = above[active], below[active]
        with np.errstate(all="ignore"):
            part = np.where((step % 8 == 0) | np.isinf(low), 0.5, high / (high - low))
            part += push[active] * _WIDTH * upper.radius[active] / width[active]
        part = np.where((part > 0) & (part < 1), part, 0.5)
        middle = lower.radius[active] + part * width[active]
        bound = profile.at_own(middle, rows[active])
        holds = bound >= threshold
        value = ndtri(profile.share(bound)) - target
        lower.radius[active[holds]] = middle[holds]
        upper.radius[active[~holds]] = middle[~holds]
        again = push[active] == np.where(holds, 0.4, -0.4)
        above[active] = np.where(holds, value, np.where(again, high / 2, high))
        below[active] = np.where(holds, np.where(again, low / 2, low), value)
        push[active] = np.where(holds, 0.4, -0.4)
    return lower.radius


def _reach(profile: Profile, threshold: float) -> float:
    """Radius at which even the most probable step, were it the whole range, falls too low."""
    top, share = profile.levels.max(), float(profile.share(threshold))
    reach = 1.0
    while reach < 1e300 and profile.shift(top, reach) >= share:
        reach *= 2
    while reach > 1e-300 and profile.shift(top, reach / 2) < share:
        reach /= 2
    return reach


def _blocks(n_rows: int, width: int, size: int = _BLOCK) -> Iterator[slice]:
    """Slices of rows, about `size` numbers each."""
    step = max(size // max(width, 1), 1)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


def _number(name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got {values!r}.")
    return array


def _single_count(trials: int) -> int:
    array = checked_counts("trials", trials)
    if array.ndim:
        raise ValueError(f"trials must be one number for all inputs, got {trials!r}.")
    if array < 1:
        raise ValueError(f"trials must be at least 1, got {trials!r}.")
    return int(array)


def _check_thresholds(thresholds: NDArray[Any], low: float, high: float) -> None:
    for rows in _blocks(*thresholds.shape):
        part = checked_within("thresholds", thresholds[rows], low, high)
        falls = part[:, 1:] < part[:, :-1]
        if falls.any():
            raise ValueError(
                f"thresholds must not decrease along the last axis, got "
                f"{part[:, 1:][falls].item(0)!r} after {part[:, :-1][falls].item(0)!r}."
            )


def _check_counts(counts: NDArray[Any], trials: int) -> None:
    for rows in _blocks(*counts.shape):
        part = counts[rows]
        outside = (part < 0) | (part > trials)
        if outside.any():
            raise ValueError(
                f"counts must lie between 0 and trials ({trials}), got {part[outside].item(0)!r}."
            )
        rises = part[:, 1:] > part[:, :-1]
        if rises.any():
            raise ValueError(
                f"counts must not increase along the thresholds, got "
                f"{part[:, 1:][rises].item(0)!r} after {part[:, :-1][rises].item(0)!r}. Each is "
                f"the number of scores at or above its threshold."
            )


def _check_attainable(
    levels: NDArray[Any], trials: int, alpha: float, low: float, high: float
) -> None:
    lost = (high - low) * float(dkw_margin(trials, alpha=alpha))
    largest = max(high - lost, low)
    above = levels[~((levels >= low) & (levels <= largest))]
    if not above.size:
        return
    value = above.item(0)
    if not low <= value < high:
        raise ValueError(f"threshold must be at least {low!r} and below {high!r}, got {value!r}.")
    enough = math.ceil(-math.log(alpha) / 2 * ((high - low) / (high - value)) ** 2)
    raise ValueError(
        f"threshold must be at most {largest!r}, the most that {trials} draws can certify at "
        f"alpha={alpha:g}, got {value!r}. Draw at least {enough} scores, or raise alpha."
    )
