"""An exact group-sequential test of one proportion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.intervals.sequential_arguments import (
    checked_looks,
    checked_p0,
    checked_proportions,
    checked_sequential_alpha,
)
from randsmooth.intervals.sequential_design import TAIL_SHARE, Survivors, boundaries

__all__ = ["GroupSequentialTest"]

# Share of alpha, and most, that may be lost when probabilities of a design are evaluated.
_EVALUATION_TAIL_SHARE, _EVALUATION_TAIL = 1e-6, 1e-12


@dataclass(frozen=True, eq=False)
class GroupSequentialTest:
    r"""Exact test whether a proportion exceeds `p0`, with looks at the draws on the way.

    Whatever the true proportion p <= `p0`, a test that claims "p > `p0`" as soon as the
    count of successes at one of the looks is in `upper` or above does so with probability
    at most `level`, and `level` is at most `alpha`. Random are the draws: independent, and
    looked at no earlier than at the looks. Whether one stops at `lower`, or stops at any
    other time for any other reason, has no influence on this guarantee.

    Parameters
    ----------
    p0 : float
        Proportion to exceed, above 0 and at most 1. At 1 nothing is ever claimed.

    alpha : float
        Failure probability, strictly between 0 and 1 and at least 1e-100.

    n_max : int
        The most that is drawn, at least 1.

    looks : sequence of int, default=None
        Strictly increasing sample sizes at which to look, ending at `n_max`. None stands
        for ``geometric_looks(n_max)``.

    Attributes
    ----------
    upper : ndarray of int64, shape (n_looks,)
        The smallest count that claims p > `p0` at each look, one more than the draws where
        none can.

    lower : ndarray of int64, shape (n_looks,)
        The largest count at which one gives up at each look, -1 where none. At the last
        look it is one below `upper`.

    level : float
        Upper bound on the probability of ever claiming under `p0`, rounding errors and
        cut tails included.

    Raises
    ------
    TypeError
        If an argument is not a number of its kind.

    ValueError
        If an argument is out of range, or the looks do not lead to `n_max`.

    See Also
    --------
    sequential_tests : Several proportions for one `alpha`.

    Notes
    -----
    At each look the boundary is the smallest count for which the probability under `p0` of
    a claim up to this look is within what may be spent by then [1]_: 30 % of `alpha` evenly
    in the logarithm of the draws, the rest at the last look. The probability is that of all
    paths of the count: the distribution of those who have not claimed is convolved with the
    binomial distribution of the next draws. The count that gives up is found in the same
    way, for a proportion that the last look alone would claim with probability 0.95: at
    most three points of these are spent, mostly at late looks. Giving up is *non-binding*:
    it is left out of the computation of the level [2]_.

    References
    ----------
    .. [1] K. K. G. Lan and D. L. DeMets, "Discrete sequential boundaries for clinical
       trials", Biometrika 70(3), 1983.
    .. [2] C. Jennison and B. W. Turnbull, "Group sequential methods with applications to
       clinical trials", Chapman & Hall, 2000.

    Examples
    --------
    >>> from randsmooth.intervals import GroupSequentialTest
    >>> test = GroupSequentialTest(p0=0.5, alpha=0.001, n_max=100)
    >>> test.upper
    array([39, 43, 49, 55, 61, 66])
    >>> test.power([0.4, 0.7]).round(3)
    array([0.   , 0.839])
    >>> test.expected_draws([0.4, 0.7]).round()
    array([52., 81.])
    """

    p0: float
    alpha: float
    n_max: int
    looks: Sequence[int] | NDArray[np.int64] | None = None
    upper: NDArray[np.int64] = field(init=False, repr=False)
    lower: NDArray[np.int64] = field(init=False, repr=False)
    level: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        p0, alpha = checked_p0(self.p0), checked_sequential_alpha(self.alpha)
        looks = checked_looks(self.looks, self.n_max)
        upper, lower, level = boundaries(p0, alpha, looks)
        sizes = np.array(looks, dtype=np.int64)
        sizes.setflags(write=False)
        object.__setattr__(self, "looks", sizes)
        object.__setattr__(self, "upper", upper)
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "level", level)

    @property
    def can_claim(self) -> bool:
        """Whether there is any outcome that claims."""
        return bool((self.upper <= self._sizes).any())

    @property
    def smallest_n_max(self) -> int | None:
        """The smallest `n_max` with which unanimous draws claim; None where there is none."""
        if self.p0 == 1:
            return None
        return max(math.ceil(math.log(self.alpha * (1 - TAIL_SHARE)) / math.log(self.p0)), 1)

    def claim_probability(self, p: ArrayLike) -> NDArray[np.float64]:
        """Probability of ever claiming, where one never gives up.

        It increases with `p`, and up to `p0` is at most `level`.

        Parameters
        ----------
        p : array-like of float, shape (...)
            True proportions, in [0, 1].

        Returns
        -------
        ndarray of float64, shape (...)
            Probabilities, too small by at most 1e-12, and exact to a relative 1e-9 otherwise.

        Raises
        ------
        ValueError
            If a proportion is outside [0, 1].
        """
        return self._outcomes(p, np.full_like(self.lower, -1))[0]

    def power(self, p: ArrayLike) -> NDArray[np.float64]:
        """Probability of a claim, where one stops at `lower`.

        Parameters
        ----------
        p : array-like of float, shape (...)
            True proportions, in [0, 1].

        Returns
        -------
        ndarray of float64, shape (...)
            Probabilities, too small by at most 1e-12, and exact to a relative 1e-9 otherwise.

        Raises
        ------
        ValueError
            If a proportion is outside [0, 1].
        """
        return self._outcomes(p, self.lower)[0]

    def expected_draws(self, p: ArrayLike) -> NDArray[np.float64]:
        """Mean number of draws until one claims or gives up.

        Parameters
        ----------
        p : array-like of float, shape (...)
            True proportions, in [0, 1].

        Returns
        -------
        ndarray of float64, shape (...)
            Means, too small by at most 1e-12 of `n_max`, and exact to a relative 1e-9 otherwise.

        Raises
        ------
        ValueError
            If a proportion is outside [0, 1].
        """
        return self._outcomes(p, self.lower)[1]

    @property
    def _sizes(self) -> NDArray[np.int64]:
        return cast("NDArray[np.int64]", self.looks)

    def _outcomes(
        self, p: ArrayLike, lower: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probability of a claim, and mean number of draws."""
        proportions = checked_proportions(p)
        outcomes = np.empty((2, *proportions.shape))
        for place in np.ndindex(proportions.shape):
            outcomes[:, *place] = self._outcome(float(proportions[place]), lower)
        return outcomes[0], outcomes[1]

    def _outcome(self, p: float, lower: NDArray[np.int64]) -> tuple[float, float]:
        tail = min(_EVALUATION_TAIL, _EVALUATION_TAIL_SHARE * self.alpha) / len(self.upper)
        survivors = Survivors(p, tail)
        claimed = draws = 0.0
        steps = zip(np.diff(self._sizes, prepend=0), self.upper, lower, strict=True)
        for m, highest, lowest in steps:
            draws += float(m) * float(survivors.mass.sum())
            survivors.draw(int(m))
            claimed += survivors.stop_at_or_above(int(highest))
            survivors.stop_at_or_below(int(lowest))
            survivors.trim()
        return claimed, draws
