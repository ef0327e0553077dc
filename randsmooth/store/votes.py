"""What is counted for a block of inputs, on its way into a record or a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockVotes"]


@dataclass(frozen=True)
class BlockVotes:
    """What was counted for a block of inputs.

    Parameters
    ----------
    selection : ndarray of int64, shape (n_inputs, n_classes)
        Votes that choose the class.

    counts : ndarray of int64, shape (n_inputs, n_classes)
        Votes that bound its probability.

    claimed : ndarray of int64, shape (n_inputs,)
        How many of the radii asked about were proved.

    seconds : ndarray of float64, shape (n_inputs,)
        Time of each.

    errors : mapping of int to Exception, default={}
        What went wrong with which.
    """

    selection: NDArray[np.int64]
    counts: NDArray[np.int64]
    claimed: NDArray[np.int64]
    seconds: NDArray[np.float64]
    errors: Mapping[int, Exception] = field(default_factory=dict)

    @classmethod
    def none(cls, n_classes: int) -> BlockVotes:
        """Return the votes for no inputs.

        Parameters
        ----------
        n_classes : int
            Number of classes.

        Returns
        -------
        BlockVotes
            No rows.
        """
        nothing = np.zeros((0, n_classes), dtype=np.int64)
        return cls(nothing, nothing, np.zeros(0, dtype=np.int64), np.zeros(0))

    @classmethod
    def joined(cls, parts: Sequence[BlockVotes]) -> BlockVotes:
        """Return the votes of several blocks, one after the other.

        Parameters
        ----------
        parts : sequence of BlockVotes
            The votes of each, one block at least.

        Returns
        -------
        BlockVotes
            All of them.
        """
        errors: dict[int, Exception] = {}
        n_before = 0
        for part in parts:
            errors |= {n_before + row: error for row, error in part.errors.items()}
            n_before += len(part.counts)
        return cls(
            np.concatenate([part.selection for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.claimed for part in parts]),
            np.concatenate([part.seconds for part in parts]),
            errors,
        )

    def take(self, rows: NDArray[np.bool_]) -> BlockVotes:
        """Return the votes for some of the inputs, without what went wrong.

        Parameters
        ----------
        rows : ndarray of bool, shape (n_inputs,)
            Which.

        Returns
        -------
        BlockVotes
            Their votes.
        """
        return BlockVotes(
            self.selection[rows], self.counts[rows], self.claimed[rows], self.seconds[rows]
        )

    def spread(
        self, rows: NDArray[np.intp], n_inputs: int, errors: Mapping[int, Exception]
    ) -> BlockVotes:
        """Return the votes among those of further inputs, which failed and have none.

        Parameters
        ----------
        rows : ndarray of int
            The rows of these inputs among all.

        n_inputs : int
            How many there are with the others.

        errors : mapping of int to Exception
            What went wrong with the others.

        Returns
        -------
        BlockVotes
            The votes of all.
        """

        def filled(column: NDArray[Any]) -> NDArray[Any]:
            whole = np.zeros((n_inputs, *column.shape[1:]), column.dtype)
            whole[rows] = column
            return whole

        own = {int(rows[row]): error for row, error in self.errors.items()}
        return BlockVotes(
            filled(self.selection),
            filled(self.counts),
            filled(self.claimed),
            filled(self.seconds),
            {**own, **errors},
        )
