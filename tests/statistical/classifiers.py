"""Classifiers whose smoothed class probabilities and radii are known in closed form.

Each is a base classifier together with the law of the noise. `votes` is the base; `radius` is the
exact distance within which the smoothed classifier keeps a label, below 0 where the label is not
the single most probable class.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

_BISECTIONS = 60


class Voter(ClassifierMixin, BaseEstimator):
    """A base classifier that is ready to vote."""

    def __init__(self, world: Any = None) -> None:
        self.world = world
        self.classes_ = np.arange(world.n_classes if world else 2)

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.world.votes(X)


class HalfSpace:
    """Class 1 beyond a hyperplane, for noise whose projection on its normal has a symmetric law.

    The normal is of length one in the dual of the noise's norm, so that a distance in that norm is
    a difference of margins. No other base classifier has smaller radii at the same probabilities.
    """

    n_classes = 2

    def __init__(self, law: Any, normal: Floats) -> None:
        self.law, self.normal = law, normal

    def inputs(self, n_inputs: int, rng: np.random.Generator) -> Floats:
        return self.at(self.law.std() * rng.uniform(-1.7, 1.7, n_inputs), rng)

    def at(self, margins: Floats, rng: np.random.Generator) -> Floats:
        """Random inputs of given margins."""
        X = rng.normal(size=(len(margins), len(self.normal)))
        return X + np.outer(margins - X @ self.normal, self.normal / (self.normal @ self.normal))

    def votes(self, rows: Floats) -> Labels:
        return (rows @ self.normal > 0).astype(np.intp)

    def probabilities(self, X: Floats) -> Floats:
        above = self.law.cdf(X @ self.normal)
        return np.stack([1 - above, above], axis=1)

    def radius(self, X: Floats, label: Labels) -> Floats:
        margin = np.where(label == 1, 1, -1) * (X @ self.normal)
        return np.where(margin > 0, margin, -1.0)


class Ball:
    """Class 1 inside a ball, for Gaussian noise: the norm of a noisy input is noncentral chi."""

    n_classes = 2

    def __init__(self, sigma: float, dimension: int, size: float) -> None:
        self.sigma, self.dimension, self.size = sigma, dimension, size
        near, far = 0.0, 10 * (size + sigma)
        for _ in range(_BISECTIONS):
            middle = (near + far) / 2
            near, far = (middle, far) if self._inside(middle) > 0.5 else (near, middle)
        self.boundary = near

    def _inside(self, distance: Any) -> Any:
        square = np.square(np.asarray(distance) / self.sigma)
        return stats.ncx2.cdf((self.size / self.sigma) ** 2, self.dimension, square)

    def inputs(self, n_inputs: int, rng: np.random.Generator) -> Floats:
        direction = rng.normal(size=(n_inputs, self.dimension))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return direction * rng.uniform(0, 2 * self.boundary, (n_inputs, 1))

    def votes(self, rows: Floats) -> Labels:
        return (np.square(rows).sum(axis=1) < self.size**2).astype(np.intp)

    def probabilities(self, X: Floats) -> Floats:
        inside = self._inside(np.linalg.norm(X, axis=1))
        return np.stack([1 - inside, inside], axis=1)

    def radius(self, X: Floats, label: Labels) -> Floats:
        margin = np.where(label == 1, 1, -1) * (self.boundary - np.linalg.norm(X, axis=1))
        return np.where(margin > 0, margin, -1.0)


class OneDimensional(ABC):
    """A classifier whose probabilities depend on the first of two coordinates alone."""

    def __init__(self, cuts: Any, labels: Any, domain: tuple[float, float]) -> None:
        self.cuts, self.labels, self.domain = np.asarray(cuts), np.asarray(labels), domain
        self.n_classes = int(self.labels.max()) + 1
        self.changes, self.best = self._changes(np.linspace(*domain, 4001))

    @abstractmethod
    def masses(self, x: Floats) -> Floats:
        """Probability of each interval under noise around x."""

    def inputs(self, n_inputs: int, rng: np.random.Generator) -> Floats:
        return rng.uniform(*self.domain, size=(n_inputs, 2))

    def votes(self, rows: Floats) -> Labels:
        return self.labels[np.searchsorted(self.cuts, rows[:, 0])]

    def probabilities(self, X: Floats) -> Floats:
        return self._shares(X[:, 0])

    def radius(self, X: Floats, label: Labels) -> Floats:
        cell = np.searchsorted(self.changes, X[:, 0])
        edges = np.concatenate([[-np.inf], self.changes, [np.inf]])
        distance = np.minimum(X[:, 0] - edges[cell], edges[cell + 1] - X[:, 0])
        return np.where(label == self.best[cell], distance, -1.0)

    def _shares(self, x: Floats) -> Floats:
        members = self.labels[:, np.newaxis] == np.arange(self.n_classes)
        return self.masses(x) @ members

    def _changes(self, grid: Floats) -> tuple[Floats, Labels]:
        """Return where the most probable class changes, and which it is in between."""
        best = self._shares(grid).argmax(axis=1)
        at = np.flatnonzero(np.diff(best))
        left, right = grid[at], grid[at + 1]
        for _ in range(_BISECTIONS):
            middle = (left + right) / 2
            shares, rows = self._shares(middle), np.arange(len(at))
            ahead = shares[rows, best[at]] > shares[rows, best[at + 1]]
            left, right = np.where(ahead, middle, left), np.where(ahead, right, middle)
        return left, best[np.append(at, len(grid) - 1)]


class Intervals(OneDimensional):
    """Labels by intervals, for noise of any law that is added to every coordinate."""

    def __init__(self, law: Any, cuts: Any, labels: Any, domain: tuple[float, float]) -> None:
        self.law = law
        super().__init__(cuts, labels, domain)

    def masses(self, x: Floats) -> Floats:
        edges = np.concatenate([[-np.inf], self.cuts, [np.inf]])
        return np.diff(self.law.cdf(edges - x[:, np.newaxis]), axis=1)


class GridIntervals(Intervals):
    """Labels by intervals, for inputs and noise on a grid: cuts lie between its points.

    Rounding to the grid is then a part of the base, and the law that of the noise not rounded.
    """

    def __init__(
        self, law: Any, cuts: Any, labels: Any, domain: tuple[float, float], levels: int
    ) -> None:
        self.levels = levels
        between = (np.floor(np.asarray(cuts) * levels) + 0.5) / levels
        super().__init__(law, between, labels, domain)

    def inputs(self, n_inputs: int, rng: np.random.Generator) -> Floats:
        return np.round(super().inputs(n_inputs, rng) * self.levels) / self.levels


class SplitIntervals(OneDimensional):
    """Labels by intervals of what splitting noise shows of an input.

    The cell of x starts anywhere in (x - width, x], and the middle of what lies of it in [0, 1]
    does not fall as the start rises.
    """

    def __init__(self, half_width: float, cuts: Any, labels: Any) -> None:
        self.width = 2 * half_width
        super().__init__(cuts, labels, (0.0, 1.0))

    def masses(self, x: Floats) -> Floats:
        starts = np.where(
            self.cuts < min(self.width, 1.0) / 2, 2 * self.cuts - self.width, 2 * self.cuts - 1
        )
        if self.width < 1:
            whole = (self.cuts >= self.width / 2) & (self.cuts <= 1 - self.width / 2)
            starts = np.where(whole, self.cuts - self.width / 2, starts)
        below = np.clip((starts - x[:, np.newaxis]) / self.width + 1, 0, 1)
        return np.diff(below, axis=1, prepend=0, append=1)


class Squares:
    """A lookup table of squares in the plane, for uniform noise: probabilities are areas."""

    def __init__(self, half_width: float, table: Any, size: float) -> None:
        self.half_width, self.table, self.size = half_width, np.asarray(table), size
        self.n_classes = int(self.table.max()) + 1
        inner = size * np.arange(1, len(self.table))
        self.edges = np.concatenate([[-np.inf], inner, [np.inf]])

    def inputs(self, n_inputs: int, rng: np.random.Generator) -> Floats:
        return rng.uniform(0, self.size * len(self.table), size=(n_inputs, 2))

    def votes(self, rows: Floats) -> Labels:
        inner = self.edges[1:-1]
        return self.table[np.searchsorted(inner, rows[:, 0]), np.searchsorted(inner, rows[:, 1])]

    def probabilities(self, X: Floats) -> Floats:
        law = stats.uniform(-self.half_width, 2 * self.half_width)
        shares = np.diff(law.cdf(self.edges - X[..., np.newaxis]), axis=-1)
        members = self.table[..., np.newaxis] == np.arange(self.n_classes)
        return np.einsum("...i,...j,ijc->...c", shares[..., 0, :], shares[..., 1, :], members)

    def lead(self, X: Floats, label: Labels) -> Floats:
        """By how much a label is more probable than any other class."""
        shares = self.probabilities(X)
        own = np.take_along_axis(shares, label[..., np.newaxis], axis=-1)[..., 0]
        others = np.where(np.arange(self.n_classes) == label[..., np.newaxis], -1.0, shares)
        return own - others.max(axis=-1)

    def broken(self, X: Floats, label: Labels, radius: Floats) -> NDArray[np.bool_]:
        """Whether a label is lost at some point of a fine net in the l1 ball."""
        turn = np.linspace(0, 4, 48, endpoint=False)
        side = 1 - np.abs((turn + 1) % 4 - 2)
        around = np.stack([1 - np.abs(turn - 2), side], axis=1)
        sizes = np.array([0.2, 0.4, 0.6, 0.8, 0.999999])
        net = (around * sizes[:, np.newaxis, np.newaxis]).reshape(-1, 2)
        points = X[:, np.newaxis] + radius[:, np.newaxis, np.newaxis] * net
        labels = np.broadcast_to(label[:, np.newaxis], points.shape[:2])
        return (self.lead(points, labels) <= 0).any(axis=1)


class Rows:
    """A lookup table on all rows of few categories, for noise with a finite number of outcomes.

    The law is a table: how probable each seen row is for each row. The radius is the largest number
    of features such that no change of so many takes the label its lead.
    """

    def __init__(
        self, law: dict[tuple[float, ...], dict[tuple[float, ...], float]], fewest_ones: int
    ) -> None:
        self.law = law
        self.rows = sorted(law)
        self.n_classes = 3
        seen = sorted(set().union(*law.values()))
        # As many ones as that make class 1; a tenth of what is seen is another class.
        third = np.random.default_rng(3).random(len(seen)) < 0.1
        self.labels = {
            row: 2 if other else int(row.count(1.0) >= fewest_ones)
            for row, other in zip(seen, third.tolist(), strict=True)
        }

    def votes(self, rows: Floats) -> Labels:
        return np.array([self.labels[tuple(row)] for row in rows.tolist()], dtype=np.intp)

    def inputs(self, n_inputs: int, rng: np.random.Generator) -> Floats:
        return np.array(self.rows, dtype=float)

    def probabilities(self, X: Floats) -> Floats:
        shares = np.zeros((len(X), self.n_classes))
        for i, row in enumerate(X.tolist()):
            for seen, chance in self.law[tuple(row)].items():
                shares[i, self.labels[seen]] += chance
        return shares

    def radius(self, X: Floats, label: Labels) -> Floats:
        everywhere = np.array(self.rows, dtype=float)
        shares = self.probabilities(everywhere)
        own = shares[:, label]
        others = np.where(
            np.arange(self.n_classes)[:, np.newaxis] == label, -1.0, shares[:, :, np.newaxis]
        ).max(axis=1)
        lost = own <= others + 1e-12
        distance = (everywhere[:, np.newaxis] != X).sum(axis=2)
        return np.where(lost, distance, X.shape[1] + 1).min(axis=0) - 1.0

    def top_two_ends(self, X: Floats, label: Labels) -> Floats:
        """Smallest number of changes by which two classes reach a label."""
        everywhere = np.array(self.rows, dtype=float)
        shares = self.probabilities(everywhere)
        lost = (shares[:, :, np.newaxis] >= shares[:, label][:, np.newaxis] - 1e-12).sum(axis=1) > 2
        distance = (everywhere[:, np.newaxis] != X).sum(axis=2)
        return np.where(lost, distance, np.inf).min(axis=0)


def binary_rows(n_features: int) -> list[tuple[float, ...]]:
    return list(itertools.product((0.0, 1.0), repeat=n_features))


def ablation_law(
    n_features: int, n_kept: int, fill: float
) -> dict[tuple[float, ...], dict[tuple[float, ...], float]]:
    """How probable each seen row is under ablation, for every binary row."""
    subsets = list(itertools.combinations(range(n_features), n_kept))
    return {
        row: {
            tuple(row[i] if i in subset else fill for i in range(n_features)): 1 / len(subsets)
            for subset in subsets
        }
        for row in binary_rows(n_features)
    }


def flip_law_of_rows(
    n_features: int, p_add: float, p_del: float
) -> dict[tuple[float, ...], dict[tuple[float, ...], float]]:
    """How probable each seen row is under independent flips, for every binary row."""

    def chance(value: float, seen: float) -> float:
        flips = p_del if value else p_add
        return flips if value != seen else 1 - flips

    rows = binary_rows(n_features)
    return {row: {seen: math.prod(map(chance, row, seen)) for seen in rows} for row in rows}
