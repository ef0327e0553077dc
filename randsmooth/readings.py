"""What is noted of the base's answers on noisy inputs: votes, or scores sorted into cells.

A reading adds up integers alone, so that its table does not depend on how rows came in batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randsmooth.bases import Base

__all__ = ["SCORE_UNITS", "Reading", "Scores", "Votes"]

Indices = NDArray[np.intp]

_SCORE_BITS = 30
SCORE_UNITS = 2**_SCORE_BITS
"""Into how many units the range of a score is divided before scores are added up."""

# Probabilities computed in single precision may miss their range by this much.
_TOLERANCE = 1e-5


class Reading(Protocol):
    """A table of integers, one row per input, to which batches of answers are added.

    The last column counts the draws on which there was nothing to note.
    """

    @property
    def n_columns(self) -> int:
        """Number of columns of the table."""
        ...

    @property
    def missing(self) -> str:
        """What to say of the draws on which there was nothing to note."""
        ...

    def note(self, base: Base, rows: Tensor, inputs: Indices, n_copies: int, table: Tensor) -> None:
        """Add the answers on noisy copies of some inputs to the table.

        Parameters
        ----------
        base : Base
            Who answers.

        rows : Tensor of shape (n_rows, ...)
            The copies of the first input, of the second, and so on; then rows that only fill up
            the batch.

        inputs : ndarray of int, shape (n_inputs,)
            Which inputs they are.

        n_copies : int
            Number of copies of each.

        table : Tensor of int64, shape (n_inputs, n_columns)
            Their rows of the table, to be added to.
        """
        ...

    def n_draws(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many draws each row of a table stands for."""
        ...

    def take(self, rows: Indices) -> Self:
        """Return the reading for some of the inputs."""
        ...


@dataclass(frozen=True)
class Votes:
    """Votes: one column a class.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    """

    n_classes: int

    @property
    def n_columns(self) -> int:
        """One for each class, and one for outputs that are not finite."""
        return self.n_classes + 1

    @property
    def missing(self) -> str:
        """Outputs that are not finite."""
        return "network outputs are not finite"

    def note(self, base: Base, rows: Tensor, inputs: Indices, n_copies: int, table: Tensor) -> None:
        """Add votes; see `Reading.note`."""
        votes = base.votes(rows)[: len(inputs) * n_copies].view(len(inputs), n_copies)
        table.scatter_add_(1, votes, torch.ones_like(votes))

    def n_draws(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sums of the votes."""
        sums: NDArray[np.int64] = table.sum(axis=1)
        return sums

    def take(self, rows: Indices) -> Votes:
        """Return the reading itself: it is the same for every input."""
        return self


@dataclass(frozen=True)
class Scores:
    """Scores of one class per input, sorted into cells of equal width and added up.

    A score is first rounded down to a multiple of 1 / `SCORE_UNITS` of its range. The number of
    scores at or above a threshold between two cells is then never overstated, nor is their sum.

    Parameters
    ----------
    labels : ndarray of int, shape (n_inputs,)
        The class of each input whose confidence is asked about.

    n_cells : int
        Number of cells of the range. Memory is proportional to it.

    measure : {"score", "margin"}
        The probability of the class, or by how much it exceeds the largest of the others.
    """

    labels: Indices
    n_cells: int
    measure: str

    @property
    def n_columns(self) -> int:
        """One for each cell, one for the largest score, one for the sum, one for no score."""
        return self.n_cells + 3

    @property
    def missing(self) -> str:
        """Scores that are no probabilities."""
        return "scores are not finite, or outside [0, 1]"

    def note(self, base: Base, rows: Tensor, inputs: Indices, n_copies: int, table: Tensor) -> None:
        """Add scores; see `Reading.note`."""
        shape = len(inputs), n_copies
        n_rows = len(inputs) * n_copies
        labels = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        labels[:n_rows].view(shape).copy_(torch.from_numpy(self.labels[inputs])[:, None])
        share = base.confidence(rows, labels, self.measure)[:n_rows]
        missing = _out_of_range(share)
        if missing is not None:
            share = torch.where(missing, 0.0, share).clamp_(0, 1)
        # The factor is a power of two: nothing is rounded before the fraction is cut off.
        units = (share * SCORE_UNITS).long()
        cells = (units * self.n_cells).bitwise_right_shift_(_SCORE_BITS)
        if missing is not None:
            cells[missing] = self.n_cells + 2
        cells = cells.view(shape)
        table.scatter_add_(1, cells, torch.ones_like(cells))
        table[:, -2] += units.view(shape).sum(dim=1)

    def n_draws(self, table: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many scores there are, and draws without one."""
        sums: NDArray[np.int64] = table.sum(axis=1) - table[:, -2]
        return sums

    def take(self, rows: Indices) -> Scores:
        """Return the reading for some of the inputs."""
        return replace(self, labels=self.labels[rows])


def _out_of_range(share: Tensor) -> Tensor | None:
    """Return where there is no share of a range, None if that is nowhere and all is in range."""
    if share.device.type == "cpu":  # asking costs a GPU a wait
        least, most = (bound.item() for bound in share.aminmax())
        if least >= 0 and most <= 1:
            return None
    return ~((share >= -_TOLERANCE) & (share <= 1 + _TOLERANCE))
