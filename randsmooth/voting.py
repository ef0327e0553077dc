"""The Monte Carlo engine: votes or scores of a base on noisy inputs, counted on its device.

The rows of a batch are a group of inputs times a piece of a block of noise. Noise is drawn block by
block, so that memory does not grow with the number of draws, added by broadcasting into one buffer,
and the votes are counted by a scatter-add. The host sees counts only when it must decide which
inputs go on: once a look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randsmooth.batch_size import BatchSize
from randsmooth.entrance import Entrance
from randsmooth.noise import row_key
from randsmooth.noise_bank import SHARED, Ballot, noise_bank
from randsmooth.readings import Reading, Votes
from randsmooth.stopping import StoppingRule

__all__ = ["Advance", "RunInterruptedError", "count_votes"]

Advance = Callable[[int, int], None]

# Cutting pieces of noise shorter would cost more than batches that are not quite full.
_FEWEST_DRAWS = 32


class RunInterruptedError(Exception):
    """The run was told to stop."""


def count_votes(
    entrance: Entrance,
    X: NDArray[np.floating],
    ballot: Ballot,
    rule: StoppingRule,
    *,
    batch_size: BatchSize,
    reading: Reading | None = None,
    advance: Advance | None = None,
    stop: Event | None = None,
) -> NDArray[np.int64]:
    """Return how often the base votes for each class on noisy copies of each input.

    The counts of an input depend on the input, the ballot, the rule and the base alone. Inputs that
    are decided leave the batches, which the others fill.

    Parameters
    ----------
    entrance : Entrance
        Who votes, and how inputs and noise reach it.

    X : ndarray of shape (n_inputs, ...)
        The inputs, of the base's type.

    ballot : Ballot
        What is drawn.

    rule : StoppingRule
        How often, for each input.

    batch_size : BatchSize
        Rows of one forward pass; halved as often as the device runs out of memory.

    reading : Reading or None, default=None
        What is noted instead of votes.

    advance : callable (int, int) -> None, default=None
        Told how many draws were made and how many inputs were decided.

    stop : threading.Event or None, default=None
        Ends the run soon after it is set.

    Returns
    -------
    ndarray of int64, shape (n_inputs, n_classes + 1)
        The counts. The last column holds the draws whose output was not finite. Another reading
        has columns of its own.

    Raises
    ------
    MemoryError
        If not even one row fits into memory.

    RunInterruptedError
        If `stop` was set.
    """
    reading = reading or Votes(entrance.base.n_classes)
    counter = _Counter(entrance, X, ballot, reading, batch_size, stop or Event(), advance)
    counts = np.zeros((len(X), reading.n_columns), dtype=np.int64)
    active, drawn = np.arange(len(X)), 0
    for look, n_draws in enumerate(rule.looks):
        counts[active] += counter.count(active, drawn, n_draws)
        undecided = rule.undecided(look, active, counts[active, :-1])
        counter.leave(active[~undecided])
        active, drawn = active[undecided], n_draws
        if not len(active):
            break
    return counts


class _Counter:
    """The buffers of one run: inputs, noise and noisy rows, all on the base's device."""

    def __init__(
        self,
        entrance: Entrance,
        X: NDArray[np.floating],
        ballot: Ballot,
        reading: Reading,
        batch_size: BatchSize,
        stop: Event,
        advance: Advance | None,
    ) -> None:
        self.entrance, self.base, self.reading = entrance, entrance.base, reading
        self.batch_size, self.stop, self.advance = batch_size, stop, advance
        self.keys = [] if ballot.common_noise else [row_key(x) for x in X]
        self.bank = noise_bank(ballot, entrance.noise_shape, X.dtype, self.base.device)
        with torch.inference_mode():
            rows = torch.from_numpy(np.ascontiguousarray(X)).to(self.base.device)
            self.inputs = entrance.inputs(rows)
        self.layout = _layout(self.inputs)
        self.rows = self.inputs[:0]

    def count(self, active: NDArray[np.intp], start: int, stop: int) -> NDArray[np.int64]:
        """Return the votes of the active inputs on a range of draws."""
        counts = torch.zeros(
            (len(active), self.reading.n_columns), dtype=torch.int64, device=self.base.device
        )
        with torch.inference_mode():
            inputs = self.inputs
            if len(active) < len(inputs):
                chosen = inputs[torch.from_numpy(active).to(self.base.device)]
                inputs = chosen.to(memory_format=self.layout)
            while start < stop:
                most = _draws_of_a_full_batch(self.batch_size.rows, stop - start, len(active))
                end = self.bank.end_of_piece(start, stop, most)
                self._count_piece(inputs, active, start, end, counts)
                start = end
        return counts.cpu().numpy()

    def leave(self, decided: NDArray[np.intp]) -> None:
        """Forget the inputs that are decided."""
        if self.keys:
            self.bank.forget([self.keys[row] for row in decided])
        if self.advance is not None and len(decided):
            self.advance(0, len(decided))

    def _count_piece(
        self, inputs: Tensor, active: NDArray[np.intp], first: int, last: int, counts: Tensor
    ) -> None:
        """Count the votes of the inputs on a piece of a block, group by group.

        A piece fits into a batch, so that shared noise stays in the cache while all inputs pass.
        """
        shared = None if self.keys else self._noise([SHARED], first, last)
        start = 0
        while start < len(inputs):
            group = max(1, self.batch_size.rows // (last - first))
            rows = slice(start, min(start + group, len(inputs)))
            noise = shared
            if noise is None:
                noise = self._noise([self.keys[row] for row in active[rows]], first, last)
            self._count_group(inputs[rows, None], active[rows], noise, counts[rows])
            if self.advance is not None:
                self.advance((last - first) * (rows.stop - rows.start), 0)
            start = rows.stop

    def _noise(self, keys: list[bytes], first: int, last: int) -> Tensor:
        drawn = self.bank.piece(keys, first, last)
        noise = self.entrance.noise(drawn.flatten(0, 1))
        return noise.view(*drawn.shape[:2], *noise.shape[1:])

    def _count_group(
        self, x: Tensor, which: NDArray[np.intp], noise: Tensor, counts: Tensor
    ) -> None:
        start = 0
        while start < noise.shape[1]:
            if self.stop.is_set():
                raise RunInterruptedError
            # The whole group, unless the batch was halved since it was chosen.
            size = max(1, self.batch_size.rows // len(x))
            try:
                self._count_batch(x, which, noise[:, start : start + size], counts)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if not self.batch_size.halve():
                    raise MemoryError(
                        f"not even one row of shape {tuple(x.shape[2:])} fits into the memory of "
                        f"{self.base.device} on its way through the estimator"
                    ) from error
                continue
            start += size

    def _count_batch(
        self, x: Tensor, which: NDArray[np.intp], noise: Tensor, counts: Tensor
    ) -> None:
        started = time.perf_counter()
        n_rows = len(x) * noise.shape[1]
        padded = -(-n_rows // self.base.row_multiple) * self.base.row_multiple
        rows = self._buffer(padded)
        self.entrance.meet(x, noise, rows[:n_rows].view(len(x), noise.shape[1], *rows.shape[1:]))
        self.reading.note(self.base, rows, which, noise.shape[1], counts)
        if self.batch_size.searching:
            if self.base.device.type == "cuda":
                torch.cuda.synchronize(self.base.device)
            self.batch_size.record(n_rows, time.perf_counter() - started)

    def _buffer(self, n_rows: int) -> Tensor:
        """Return rows to write into; those past the noisy ones keep older, harmless values."""
        if len(self.rows) < n_rows:
            rows = self.inputs.new_zeros((n_rows, *self.inputs.shape[1:]))
            self.rows = rows.to(memory_format=self.layout)
        return self.rows[:n_rows]


def _layout(rows: Tensor) -> torch.memory_format:
    """Return the order in which images lie in memory; sums in another order would be slow."""
    turned = rows.ndim == 4 and not rows.is_contiguous()
    return torch.channels_last if turned else torch.contiguous_format


def _draws_of_a_full_batch(batch_size: int, left: int, n_inputs: int) -> int:
    """Return how many draws to take at once, so that whole inputs fill the batches."""
    most = batch_size
    while most > max(left, _FEWEST_DRAWS) and n_inputs * left >= 2 * batch_size:
        most //= 2
    return most


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whichever device; torch has no type of its own for the CPU."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in str(error)
