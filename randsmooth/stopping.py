"""How many draws each input gets: a fixed number, one planned for it, or until it is decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from randsmooth.intervals import NestedTests

__all__ = ["FixedDraws", "PlannedDraws", "SequentialDraws", "StoppingRule"]

Indices = NDArray[np.intp]

_SIMULATIONS = 20


class StoppingRule(Protocol):
    """When the votes on an input are enough. Rules for different inputs do not know each other."""

    @property
    def looks(self) -> Sequence[int]:
        """Numbers of draws after which one looks, increasing; the last is the most there are."""
        ...

    @property
    def claimed(self) -> NDArray[np.int64]:
        """For each input, how many of the hypotheses asked about have been proved so far."""
        ...

    def undecided(self, look: int, rows: Indices, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which inputs need more draws.

        Parameters
        ----------
        look : int
            Which look this is.

        rows : ndarray of int
            The inputs that were still undecided.

        counts : ndarray of int64, shape (len(rows), n_classes)
            All their votes so far.

        Returns
        -------
        ndarray of bool, shape (len(rows),)
            Whether each goes on.
        """
        ...

    def expected_draws(self) -> float:
        """Return how many draws all inputs together are expected to take."""
        ...

    def take(self, rows: Indices) -> Self:
        """Return the rule for some of the inputs, at its beginning.

        Parameters
        ----------
        rows : ndarray of int
            Which.

        Returns
        -------
        StoppingRule
            Their rule.
        """
        ...


class FixedDraws:
    """The same number of draws for every input.

    Parameters
    ----------
    n_draws : int
        The number.

    n_inputs : int
        Number of inputs.
    """

    def __init__(self, n_draws: int, n_inputs: int) -> None:
        self.looks = (n_draws,)
        self.claimed = np.zeros(n_inputs, dtype=np.int64)

    def undecided(self, look: int, rows: Indices, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return that no input needs more."""
        return np.zeros(len(rows), dtype=np.bool_)

    def expected_draws(self) -> float:
        """Return how many draws all inputs together take."""
        return float(self.looks[0] * len(self.claimed))

    def take(self, rows: Indices) -> FixedDraws:
        """Return the rule for some of the inputs."""
        return FixedDraws(self.looks[0], len(rows))


class PlannedDraws:
    """For each input the number of draws that was planned for it in advance.

    Parameters
    ----------
    n_draws : ndarray of int, shape (n_inputs,)
        The numbers.
    """

    def __init__(self, n_draws: NDArray[np.int64]) -> None:
        self.n_draws = n_draws
        self.looks = tuple(np.unique(n_draws).tolist())
        self.claimed = np.zeros(len(n_draws), dtype=np.int64)

    def undecided(self, look: int, rows: Indices, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which inputs have draws left."""
        left: NDArray[np.bool_] = self.n_draws[rows] > self.looks[look]
        return left

    def expected_draws(self) -> float:
        """Return how many draws all inputs together take."""
        return float(self.n_draws.sum())

    def take(self, rows: Indices) -> PlannedDraws:
        """Return the rule for some of the inputs."""
        return PlannedDraws(self.n_draws[rows])


class SequentialDraws:
    """Draws until every one of some nested hypotheses on the chosen class is decided.

    Parameters
    ----------
    tests : NestedTests
        The tests of the hypotheses, from the easiest to the hardest.

    selection : ndarray of int64, shape (n_inputs, n_classes)
        Votes of independent draws, which choose the class of each input.
    """

    def __init__(self, tests: NestedTests, selection: NDArray[np.int64]) -> None:
        self.tests = tests
        self.selection = selection
        self.claimed, self._open_end = tests.start(len(selection))
        # Nothing is drawn where nothing can be claimed.
        self.looks = tuple(int(n) for n in tests.looks) if self._open_end.any() else (0,)
        self._chosen = selection.argmax(axis=1)

    def undecided(self, look: int, rows: Indices, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which inputs have a hypothesis that is neither proved nor given up."""
        top = np.take_along_axis(counts, self._chosen[rows, np.newaxis], axis=1)[:, 0]
        claimed, open_end = self.tests.step(look, top, self.claimed[rows], self._open_end[rows])
        self.claimed[rows], self._open_end[rows] = claimed, open_end
        undecided: NDArray[np.bool_] = claimed < open_end
        return undecided

    def expected_draws(self) -> float:
        """Return how many draws all inputs together are expected to take, by simulation.

        The probability of each chosen class is drawn from what its selection votes tell.
        """
        rng = np.random.default_rng(0)
        top = self.selection.max(axis=1)
        others = self.selection.sum(axis=1) - top
        p = rng.beta(top + 0.5, others + 0.5, size=(_SIMULATIONS, len(top)))
        n_draws, _ = self.tests.simulate(p.ravel(), rng)
        return float(n_draws.sum()) / _SIMULATIONS

    def take(self, rows: Indices) -> SequentialDraws:
        """Return the rule for some of the inputs."""
        return SequentialDraws(self.tests, self.selection[rows])
