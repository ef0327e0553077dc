"""The Monte Carlo engine: votes of a base on noisy inputs, counted on its device.

The rows of a batch are a group of inputs times a piece of a block of noise. Noise is drawn block by
block, so that memory does not grow with the number of draws, added by broadcasting into one buffer,
and the votes are counted by a scatter-add; nothing is copied to the host before the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randsmooth.bases import ArrayBase, Base, NetBase
from randsmooth.noise import Noise, Stream, draws_per_block, row_key

__all__ = ["Ballot", "automatic_batch_size", "count_votes"]


@dataclass(frozen=True)
class Ballot:
    """What is drawn for every input: which noise, from which stream, how often.

    Parameters
    ----------
    noise : Noise
        The smoothing noise.

    noise_seed : int
        Seed of the noise bank.

    stream : Stream
        What the draws are for.

    n_draws : int
        Draws per input.

    common_noise : bool
        Whether all inputs share one bank of noise, or each has its own.
    """

    noise: Noise
    noise_seed: int
    stream: Stream
    n_draws: int
    common_noise: bool

    def blocks(self, n_values: int) -> list[int]:
        """Return the number of draws in each block.

        Parameters
        ----------
        n_values : int
            Numbers in one input.

        Returns
        -------
        list of int
            Sizes that add up to `n_draws`.
        """
        full = draws_per_block(n_values)
        sizes = [full] * (self.n_draws // full)
        return [*sizes, rest] if (rest := self.n_draws % full) else sizes

    def block(self, index: int, size: int, X: NDArray[np.floating]) -> Tensor:
        """Return one block of noise for a group of inputs.

        Parameters
        ----------
        index : int
            Number of the block.

        size : int
            Draws in it.

        X : ndarray of shape (n_inputs, ...)
            The inputs, which choose the noise unless it is common.

        Returns
        -------
        Tensor of shape (1 or n_inputs, size, ...)
            The noise.
        """
        rows = [b""] if self.common_noise else [row_key(x) for x in X]
        drawn = [
            self.noise.block(
                size,
                X.shape[1:],
                noise_seed=self.noise_seed,
                stream=self.stream,
                block=index,
                row=row,
                dtype=X.dtype,
            )
            for row in rows
        ]
        return torch.from_numpy(np.stack(drawn))


def automatic_batch_size(base: Base, shape: tuple[int, ...]) -> int:
    """Return a batch size that keeps a batch's activations in the cache, or the GPU busy.

    Parameters
    ----------
    base : Base
        Who votes.

    shape : tuple of int
        Shape of one input.

    Returns
    -------
    int
        Rows of one forward pass.
    """
    n_values = int(np.prod(shape))
    if isinstance(base, ArrayBase):
        return int(np.clip(2**20 // n_values, 256, 8192))
    row_values = max(n_values, base.row_values if isinstance(base, NetBase) else 1)
    tensor_values, largest = (2**20, 512) if base.device.type == "cpu" else (2**28, 16384)
    fitting = min(largest, tensor_values // row_values)
    return max(1, -(-fitting // base.row_multiple)) * base.row_multiple


def count_votes(
    base: Base,
    X: NDArray[np.floating],
    ballot: Ballot,
    *,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.int64]:
    """Return how often the base votes for each class on noisy copies of each input.

    The counts of an input depend on the input, the ballot and the base alone.

    Parameters
    ----------
    base : Base
        Who votes.

    X : ndarray of shape (n_inputs, ...)
        The inputs, of the base's type.

    ballot : Ballot
        What is drawn.

    batch_size : int
        Rows of one forward pass; halved as often as the device runs out of memory.

    advance : callable (int) -> None, default=None
        Told how many draws were made.

    Returns
    -------
    ndarray of int64, shape (n_inputs, n_classes + 1)
        The counts. The last column holds the draws whose output was not finite.
    """
    counter = _Counter(base, X, batch_size)
    for index, size in enumerate(ballot.blocks(X[0].size)):
        shared = ballot.block(index, size, X) if ballot.common_noise else None
        group = max(1, batch_size // size)
        for start in range(0, len(X), group):
            inputs = slice(start, min(start + group, len(X)))
            noise = ballot.block(index, size, X[inputs]) if shared is None else shared
            counter.count(inputs, noise)
            if advance is not None:
                advance(size * (inputs.stop - inputs.start))
    return counter.counts.cpu().numpy()


class _Counter:
    """The buffers of one run: inputs, noisy rows and counts, all on the base's device."""

    def __init__(self, base: Base, X: NDArray[np.floating], batch_size: int) -> None:
        self.base = base
        self.inputs = torch.from_numpy(np.ascontiguousarray(X)).to(base.device)
        self.batch_size = batch_size
        self.rows = self.inputs.new_zeros((0, *X.shape[1:]))
        self.counts = torch.zeros(
            (len(X), base.n_classes + 1), dtype=torch.int64, device=base.device
        )

    def count(self, inputs: slice, noise: Tensor) -> None:
        """Count the votes of a group of inputs on a block of noise."""
        noise = noise.to(self.base.device)
        group, start = inputs.stop - inputs.start, 0
        while start < noise.shape[1]:
            # A group of more than one input was chosen to fit the batch with the whole block.
            size = max(1, self.batch_size // group)
            try:
                self._count_piece(inputs, noise[:, start : start + size])
            except torch.OutOfMemoryError:
                if self.batch_size <= 1:
                    raise
                self.batch_size //= 2
                continue
            start += size

    def _count_piece(self, inputs: slice, noise: Tensor) -> None:
        x = self.inputs[inputs, None]
        n_rows = len(x) * noise.shape[1]
        padded = -(-n_rows // self.base.row_multiple) * self.base.row_multiple
        rows = self._buffer(padded)
        noisy = rows[:n_rows].view(len(x), noise.shape[1], *x.shape[2:])
        with torch.inference_mode():
            torch.add(x, noise, out=noisy)
            votes = self.base.votes(rows)[:n_rows].view(len(x), -1)
            self.counts[inputs].scatter_add_(1, votes, torch.ones_like(votes))

    def _buffer(self, n_rows: int) -> Tensor:
        """Return rows to write into; those past the noisy ones keep older, harmless values."""
        if len(self.rows) < n_rows:
            self.rows = self.inputs.new_zeros((n_rows, *self.inputs.shape[1:]))
        return self.rows[:n_rows]
