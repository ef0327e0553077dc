"""Exact group-sequential tests: draw until it is decided, and no further."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.intervals.group_sequential import GroupSequentialTest
from randsmooth.intervals.sequential_arguments import (
    checked_looks,
    checked_p0,
    checked_proportions,
    checked_sequential_alpha,
    geometric_looks,
)
from randsmooth.intervals.sequential_cache import load_boundaries, store_boundaries
from randsmooth.intervals.sequential_design import DESIGN, boundaries, curtailed

__all__ = ["GroupSequentialTest", "NestedTests", "geometric_looks", "sequential_tests"]


@dataclass(frozen=True, eq=False)
class NestedTests:
    r"""Tests of several proportions on the same draws, all for one failure probability.

    Whatever the true proportion p, the probability that *any* of the claims "p > `p0` [j]" is
    false is at most the largest of `level`. Random are the draws: independent, and looked at
    no earlier than at `looks`. Giving up has no influence on this guarantee.

    `sequential_tests` makes these; the constructor checks the shapes and the nesting, and
    takes the levels at their word.

    Parameters
    ----------
    p0 : ndarray of float64, shape (n_tests,)
        Proportions to exceed, non-decreasing.

    looks : ndarray of int64, shape (n_looks,)
        Strictly increasing sample sizes at which to look.

    upper : ndarray of int64, shape (n_tests, n_looks)
        The smallest counts that claim, non-decreasing in the tests.

    lower : ndarray of int64, shape (n_tests, n_looks)
        The largest counts at which one gives up, below `upper` and non-decreasing in the
        tests. At the last look they are one below `upper`.

    level : ndarray of float64, shape (n_tests,)
        Upper bounds on the probability of ever claiming each test under its `p0`.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the tests are not nested.

    See Also
    --------
    sequential_tests : Makes them.

    Notes
    -----
    Since `upper` is nested, who claims one of the tests has claimed all before it. So a false
    claim, wherever in the list, means that the first of the tests with p <= `p0` [j] was
    claimed, and its level bounds the probability of that.

    State of a run are two integers for each input: how many tests are `claimed` (always the
    first ones), and `open_end`, from which test on all were given up. An input is undecided
    while ``claimed < open_end``. A claim stays, whatever the later counts; and a test that
    was given up may still be claimed while others are being decided.
    """

    p0: NDArray[np.float64]
    looks: NDArray[np.int64]
    upper: NDArray[np.int64]
    lower: NDArray[np.int64]
    level: NDArray[np.float64]

    def __post_init__(self) -> None:
        kinds = {"p0": np.float64, "level": np.float64}
        for name in ("p0", "looks", "upper", "lower", "level"):
            array = np.array(getattr(self, name), dtype=kinds.get(name, np.int64))
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        shape = (len(self.p0), len(self.looks))
        if not (self.upper.shape == self.lower.shape == shape and self.level.shape == shape[:1]):
            raise ValueError(
                f"upper and lower must have shape {shape!r} and level shape {shape[:1]!r}, got "
                f"{self.upper.shape!r}, {self.lower.shape!r} and {self.level.shape!r}."
            )
        nested = [np.diff(values, axis=0) >= 0 for values in (self.p0, self.upper, self.lower)]
        if not all(steps.all() for steps in nested):
            raise ValueError("p0, upper and lower must be non-decreasing from test to test.")
        gap = self.upper - self.lower
        if not ((gap > 0).all() and (gap[:, -1] == 1).all()):
            raise ValueError("lower must be below upper, and one below it at the last look.")

    def start(self, n_inputs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """State before the first draw: nothing claimed, and nothing given up that can be claimed.

        Parameters
        ----------
        n_inputs : int
            Number of inputs.

        Returns
        -------
        claimed : ndarray of int64, shape (n_inputs,)
            How many tests are claimed.

        open_end : ndarray of int64, shape (n_inputs,)
            From which test on all were given up.
        """
        n_claimable = int((self.upper <= self.looks).any(axis=1).sum())
        return np.zeros(n_inputs, dtype=np.int64), np.full(n_inputs, n_claimable, dtype=np.int64)

    def step(
        self, k: int, top_counts: ArrayLike, claimed: ArrayLike, open_end: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """State after look number `k`.

        Parameters
        ----------
        k : int
            Which look, from 0.

        top_counts : array-like of int, shape (n_inputs,)
            Successes in the first ``looks[k]`` draws.

        claimed : array-like of int, shape (n_inputs,)
            How many tests were claimed before.

        open_end : array-like of int, shape (n_inputs,)
            From which test on all were given up before.

        Returns
        -------
        claimed : ndarray of int64, shape (n_inputs,)
            How many tests are claimed; the first ones.

        open_end : ndarray of int64, shape (n_inputs,)
            From which test on all are given up. Below `claimed` where a test was claimed
            after it had been given up.
        """
        crossed = np.searchsorted(self.upper[:, k], top_counts, side="right")
        hopeful = np.searchsorted(self.lower[:, k], top_counts, side="left")
        return np.maximum(claimed, crossed), np.minimum(open_end, hopeful)

    def simulate(
        self, p: ArrayLike, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw until every test is decided, for simulated inputs.

        Parameters
        ----------
        p : array-like of float, shape (...)
            True proportion of each input, in [0, 1].

        rng : numpy.random.Generator
            Where the draws come from.

        Returns
        -------
        n_draws : ndarray of int64, shape (...)
            How many draws each input took.

        claimed : ndarray of int64, shape (...)
            How many tests were claimed; the first ones.

        Raises
        ------
        ValueError
            If a proportion is outside [0, 1].
        """
        proportions = checked_proportions(p)
        flat = proportions.ravel()
        claimed, open_end = self.start(flat.size)
        counts, n_draws = np.zeros_like(claimed), np.zeros_like(claimed)
        for k, m in enumerate(np.diff(self.looks, prepend=0).tolist()):
            rows = np.flatnonzero(claimed < open_end)
            counts[rows] += rng.binomial(m, flat[rows])
            n_draws[rows] += m
            claimed[rows], open_end[rows] = self.step(
                k, counts[rows], claimed[rows], open_end[rows]
            )
        return n_draws.reshape(proportions.shape), claimed.reshape(proportions.shape)


def sequential_tests(
    p0s: ArrayLike,
    alpha: float,
    n_max: int,
    looks: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    data_home: str | os.PathLike[str] | None = None,
) -> NestedTests:
    """Nested exact group-sequential tests of several proportions.

    Whatever the true proportion p, the probability that any of the claims "p > p0" is false
    is at most `alpha`.

    Parameters
    ----------
    p0s : array-like of float, shape (n_tests,)
        Proportions to exceed, above 0 and at most 1, non-decreasing.

    alpha : float
        Failure probability of all tests together, strictly between 0 and 1 and at least
        1e-100.

    n_max : int
        The most that is drawn, at least 1.

    looks : sequence of int, default=None
        Strictly increasing sample sizes at which to look, ending at `n_max`. None stands for
        ``geometric_looks(n_max)``.

    data_home : str or path-like, default=None
        Folder in which boundaries are kept for the next time. A file that is damaged, or made
        for anything else, is computed anew and replaced; against forgery there is no guard.
        None keeps none: a dozen tests of 100,000 draws take a tenth of a second.

    Returns
    -------
    NestedTests
        The tests.

    Raises
    ------
    TypeError
        If an argument is not a number of its kind.

    ValueError
        If an argument is out of range, or `p0s` or `looks` do not increase.

    See Also
    --------
    GroupSequentialTest : One of them.

    Notes
    -----
    Boundaries of the single tests are nested by raising: `upper` to the largest of all tests
    up to each, which can only lower the levels, and `lower` down to the smallest of all from
    each on.

    Examples
    --------
    >>> from randsmooth.intervals import sequential_tests
    >>> tests = sequential_tests([0.5, 0.84], alpha=0.001, n_max=10_000)
    >>> n_draws, claimed = tests.simulate([0.3, 0.7, 0.99], np.random.default_rng(0))
    >>> claimed
    array([0, 1, 2])
    """
    proportions = _checked_p0s(p0s)
    level, sizes = checked_sequential_alpha(alpha), checked_looks(looks, n_max)
    parameters = {
        "design": list(DESIGN),
        "p0": [p0.hex() for p0 in proportions],
        "alpha": level.hex(),
        "looks": list(sizes),
    }
    stored = None if data_home is None else load_boundaries(data_home, parameters)
    nested = stored or _nested(proportions, level, sizes)
    if data_home is not None and not stored:
        store_boundaries(data_home, parameters, nested)
    shape = (len(proportions), len(sizes))
    return NestedTests(
        p0=np.array(proportions),
        looks=np.array(sizes),
        upper=np.reshape(nested["upper"], shape),
        lower=np.reshape(nested["lower"], shape),
        level=np.array([float.fromhex(text) for text in nested["level"]]),
    )


def _nested(p0s: list[float], alpha: float, looks: tuple[int, ...]) -> dict[str, Any]:
    """Nested boundaries, as they are stored."""
    designs = [boundaries(p0, alpha, looks) for p0 in p0s]
    shape = (2, len(p0s), len(looks))
    single = np.reshape([[d[0] for d in designs], [d[1] for d in designs]], shape).astype(np.int64)
    upper = np.maximum.accumulate(single[0], axis=0)
    lower = np.minimum.accumulate(single[1, ::-1], axis=0)[::-1]
    lower = curtailed(looks, upper, lower)
    return {
        "upper": upper.tolist(),
        "lower": lower.tolist(),
        "level": [design[2].hex() for design in designs],
    }


def _checked_p0s(p0s: ArrayLike) -> list[float]:
    array = np.asarray(p0s)
    if array.ndim != 1:
        raise ValueError(f"p0s must be one-dimensional, got an array of shape {array.shape!r}.")
    proportions = [checked_p0(p0) for p0 in array.tolist()]
    if sorted(proportions) != proportions:
        raise ValueError(f"p0s must be non-decreasing, got {p0s!r}. Sort them.")
    return proportions
