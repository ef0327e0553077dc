"""Where random numbers come from: numbered blocks of disjoint streams.

Draws come in numbered blocks. A block's generator is the counter-based Philox: its key holds the
noise seed, its counter the stream and the block. Under one seed, no two blocks therefore use the
same counter, by construction; another seed is another permutation of all counters. A block is the
same whatever the batch size, the order of the inputs or the number of jobs.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stream", "block_generator", "draws_per_block", "row_key"]


class Stream(IntEnum):
    """What the draws of a stream are for. Streams share no draw."""

    SELECTION = 0
    ESTIMATION = 1
    TRAINING = 2
    PILOT = 3
    ATTACK = 4
    JUDGEMENT = 5
    CONFIRMATION = 6
    REVIEW = 7


def block_generator(
    noise_seed: int, stream: Stream, block: int, *, row: bytes = b""
) -> np.random.Generator:
    """Return the generator of one block of draws.

    `noise_seed` and `row` are the key of a Philox generator, `stream` and `block` the high words of
    its counter: a block would have to hold 2**128 numbers to reach the next one, and another key
    is another permutation of all counters.

    Parameters
    ----------
    noise_seed : int
        Seed of the whole noise bank, from 0 to 2**63 - 1.

    stream : Stream
        What the draws are for.

    block : int
        Number of the block within the stream.

    row : bytes, default=b""
        Key of the input (see `row_key`) whose own noise this is; empty for noise shared by all
        inputs.

    Returns
    -------
    numpy.random.Generator
        The generator, at the start of the block.
    """
    words = np.frombuffer(row or bytes(8), dtype=np.uint64)
    key = np.array([noise_seed, words[0]], dtype=np.uint64)
    counter = np.array([0, 0, block, int(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def row_key(row: NDArray[np.floating]) -> bytes:
    """Return the 8 bytes that stand for an input where every input has noise of its own.

    Equal inputs have equal keys, whatever their place in the batch. Different inputs have different
    keys but for a chance of 2**-64 a pair, and even then each input's own draws are independent.

    Parameters
    ----------
    row : ndarray
        One input.

    Returns
    -------
    bytes
        Its key, never that of the shared noise.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=8).digest()
    return digest if any(digest) else bytes(7) + b"\x01"


def draws_per_block(n_values: int) -> int:
    """Return how many draws a block holds, for inputs of `n_values` numbers each.

    A block is about four megabytes of single precision, at most 1024 draws and at least one. The
    number depends on the input's size alone, so that nothing else can change the noise.

    Parameters
    ----------
    n_values : int
        Numbers in one input.

    Returns
    -------
    int
        Draws in a block.
    """
    return min(1024, max(1, 2**20 // n_values))
