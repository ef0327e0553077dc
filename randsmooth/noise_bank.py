"""Where the draws of a run come from: consecutive noise, the same however it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from randsmooth.noise import Noise, Stream, block_generator, draws_per_block

__all__ = [
    "SHARED",
    "Ballot",
    "DeviceNoiseBank",
    "NoiseBank",
    "OutcomeBank",
    "noise_bank",
    "philox_offset",
]

SHARED = b""
"""The key of noise that all inputs share."""


@dataclass(frozen=True)
class Ballot:
    """What is drawn for every input: which noise, from which stream.

    Parameters
    ----------
    noise : Noise
        The smoothing noise.

    noise_seed : int
        Seed of the noise bank.

    stream : Stream
        What the draws are for.

    common_noise : bool
        Whether all inputs share one bank of noise, or each has its own.
    """

    noise: Noise
    noise_seed: int
    stream: Stream
    common_noise: bool


class NoiseBank:
    """The draws of one ballot, drawn on the host by NumPy.

    Draws are numbered. The draw of a number depends on the ballot, the key and the shape alone:
    not on which others were asked for, and not on the device that will use it. Consecutive
    requests are cheapest, since the generators stay open in between.

    Parameters
    ----------
    ballot : Ballot
        What is drawn.

    shape : tuple of int
        Shape of one draw.

    dtype : dtype
        Type of the draws, float32 or float64.

    device : torch.device
        Where they are needed.
    """

    def __init__(
        self, ballot: Ballot, shape: tuple[int, ...], dtype: DTypeLike, device: torch.device
    ) -> None:
        self.ballot = ballot
        self.shape = shape
        self.device = device
        self.per_block = draws_per_block(int(np.prod(shape)))
        self._dtype = np.dtype(dtype)
        self._buffer = np.empty(0, dtype=self._dtype)
        self._open: dict[bytes, tuple[int, np.random.Generator]] = {}

    def end_of_piece(self, start: int, stop: int, most: int) -> int:
        """Return where a piece of draws ends that does not cross the end of a block.

        Parameters
        ----------
        start : int
            First draw.

        stop : int
            End of the draws that are wanted.

        most : int
            Most draws in the piece.

        Returns
        -------
        int
            End of the piece.
        """
        return min(stop, start + most, (start // self.per_block + 1) * self.per_block)

    def piece(self, keys: Sequence[bytes], start: int, stop: int) -> Tensor:
        """Return the draws of a piece.

        Parameters
        ----------
        keys : sequence of bytes
            Whose noise: `SHARED`, or the key of each input (see `row_key`).

        start : int
            First draw.

        stop : int
            End of the piece, within the same block.

        Returns
        -------
        Tensor of shape (n_keys, stop - start, *shape)
            The noise, on the device. It is valid until the next call.
        """
        out = self._reused((len(keys), stop - start, *self.shape))
        for part, key in zip(out, keys, strict=True):
            self._fill(part, key, start, stop)
        out *= out.dtype.type(self.ballot.noise.draw_factor)
        return torch.from_numpy(out).to(self.device)

    def forget(self, keys: Sequence[bytes]) -> None:
        """Close the generators of inputs that need no further draws.

        Parameters
        ----------
        keys : sequence of bytes
            Their keys.
        """
        for key in keys:
            self._open.pop(key, None)

    def _fill(self, out: NDArray[np.floating], key: bytes, start: int, stop: int) -> None:
        position, generator = self._open.pop(key, (-1, None))
        if generator is None or position != start:
            block, skipped = divmod(start, self.per_block)
            generator = block_generator(self.ballot.noise_seed, self.ballot.stream, block, row=key)
            if skipped:
                passed: NDArray[np.floating] = np.empty((skipped, *self.shape), self._dtype)
                self.ballot.noise.fill_standard(passed, generator)
        self.ballot.noise.fill_standard(out, generator)
        if stop % self.per_block:
            self._open[key] = stop, generator

    def _reused(self, shape: tuple[int, ...]) -> NDArray[np.floating]:
        size = int(np.prod(shape))
        if self._buffer.size < size:
            self._buffer = np.empty(size, dtype=self._dtype)
        out: NDArray[np.floating] = self._buffer[:size].reshape(shape)
        return out


class OutcomeBank(NoiseBank):
    """All outcomes of a noise that has finitely many, one after the other."""

    def _fill(self, out: NDArray[np.floating], key: bytes, start: int, stop: int) -> None:
        self.ballot.noise.fill_outcomes(out, start, stop)


class DeviceNoiseBank(NoiseBank):
    """The draws of one ballot, drawn on a CUDA device by its own counter-based generator.

    The generator is Philox again: the noise seed is its key, and stream and block are the high
    bits of its counter. Numbers differ from those of the host, and may differ between models of
    device. Blocks are drawn whole, since a device's generator has no prefixes.
    """

    _block: tuple[int, bytes, Tensor] | None = None

    def piece(self, keys: Sequence[bytes], start: int, stop: int) -> Tensor:
        """Return the draws of a piece; see `NoiseBank.piece`."""
        block, first = divmod(start, self.per_block)
        parts = [self._whole(block, key)[first : first + stop - start] for key in keys]
        return parts[0][None] if len(parts) == 1 else torch.stack(parts)

    def _whole(self, block: int, key: bytes) -> Tensor:
        if self._block is not None and self._block[:2] == (block, key):
            return self._block[2]
        generator = _device_generator(
            self.device,
            _device_seed(self.ballot.noise_seed, key),
            philox_offset(self.ballot.stream, block),
        )
        dtype = torch.from_numpy(np.empty(0, self._dtype)).dtype
        noise = torch.empty((self.per_block, *self.shape), dtype=dtype, device=self.device)
        self.ballot.noise.fill_standard_on_device(noise, generator)
        noise *= self.ballot.noise.draw_factor
        self._block = block, key, noise
        return noise


def philox_offset(stream: Stream, block: int) -> int:
    """Return where in a device generator's counter a block starts.

    A block has 2**28 steps of four numbers for every thread of the device to itself, far more than
    its four megabytes need; a stream has 2**28 blocks.

    Parameters
    ----------
    stream : Stream
        What the draws are for.

    block : int
        Number of the block, less than 2**28.

    Returns
    -------
    int
        The offset, a multiple of four.

    Raises
    ------
    ValueError
        If the block is out of range.
    """
    if not 0 <= block < 2**28:
        raise ValueError(f"block must lie from 0 to 2**28 - 1 on a device, got {block!r}.")
    return (int(stream) << 58) | (block << 30)


def noise_bank(
    ballot: Ballot, shape: tuple[int, ...], dtype: DTypeLike, device: torch.device
) -> NoiseBank:
    """Return the bank that draws where the noise is needed.

    Parameters
    ----------
    ballot : Ballot
        What is drawn.

    shape : tuple of int
        Shape of one draw.

    dtype : dtype
        Type of the draws.

    device : torch.device
        Where they are needed.

    Returns
    -------
    NoiseBank
        The list of outcomes where there is one. Else on a CUDA device its own generator, for noise
        that knows how; NumPy's otherwise.
    """
    if ballot.noise.n_outcomes is not None:
        return OutcomeBank(ballot, shape, dtype, device)
    if device.type == "cuda":
        probe = torch.empty(1, device=device)
        if ballot.noise.fill_standard_on_device(probe, torch.Generator(device=device)):
            return DeviceNoiseBank(ballot, shape, dtype, device)
    return NoiseBank(ballot, shape, dtype, device)


def _device_generator(device: torch.device, seed: int, offset: int) -> torch.Generator:
    """Return a device's own Philox generator, its key and its counter set."""
    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    generator.set_offset(offset)
    return generator


def _device_seed(noise_seed: int, key: bytes) -> int:
    """Return the 64 bits of a device generator's key: the seed alone, or mixed with the row's."""
    if key == SHARED:
        return noise_seed
    mixed = np.random.SeedSequence([noise_seed, int.from_bytes(key, "little")])
    return int(mixed.generate_state(1, np.uint64)[0] | np.uint64(1 << 63))
