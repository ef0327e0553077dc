r"""Exact draws of a normal variable rounded to the integers, from fair random bits.

A real number :math:`V`, uniform on [0, 1), is read bit by bit, and the answer is the smallest
integer :math:`k` with :math:`V < \Phi((2k + 1) / (2s))`. Its first 64 bits decide that but for one
word in :math:`10^{16}`; then 192 more are read. Thresholds are integers, known to the last unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RoundedNormal", "rounded_normal"]

Words = Callable[[int], NDArray[np.uint64]]
"""Returns the next words of a stream: so many, each of 64 fair bits."""

_BLOCK = 2**15  # words that fit into a core's cache with their indices and answers
_LEADING_BITS = 16
_WORD = 2**64
_REFINED_BITS = 256
# The tail beyond is less than 2**-64 for the first word, less than 2**-192 for all four.
_REACH_OF_A_WORD = 9.3
_REACH = 16.25
# Where the tail, twice over, is nothing beside the last of all bits.
_FAR = 20.0


@lru_cache(maxsize=16)
def rounded_normal(deviation: float, levels: int) -> RoundedNormal:
    """Return the sampler of a normal variable in units of a grid, made once for each.

    Parameters
    ----------
    deviation : float
        Standard deviation before rounding, in the units of the inputs.

    levels : int
        Grid points to one unit of the inputs.

    Returns
    -------
    RoundedNormal
        The sampler.
    """
    return RoundedNormal(deviation, levels)


class RoundedNormal:
    r"""A normal variable of mean 0 that is rounded to the nearest integer.

    Draws follow the law :math:`P(k) = \Phi((2k+1)/(2s)) - \Phi((2k-1)/(2s))` exactly, where
    :math:`s` is the exact product of `deviation` and `levels`, provided that the words are
    independent and fair. Nothing is clipped. An event of probability below :math:`2^{-128}` ends a
    draw with an error.

    Parameters
    ----------
    deviation : float
        Standard deviation before rounding, in the units of the inputs.

    levels : int
        Grid points to one unit of the inputs.
    """

    def __init__(self, deviation: float, levels: int) -> None:
        self._ratio = deviation, levels
        self._extreme = math.ceil(_REACH * deviation * levels) + 1
        self._offset = math.ceil(_REACH_OF_A_WORD * deviation * levels) + 1
        # Twice the bits of a word, so that an error of one unit shows where it matters.
        thresholds = self.thresholds(range(-self._offset, self._offset), 128)
        self._first_words = np.array([_first_word(value) for value in thresholds], dtype=np.uint64)
        unclear = {0, _WORD - 1}
        for value in thresholds:
            unclear |= {_first_word(value - 1), _first_word(value + 1)}
        self._unclear = np.array(sorted(unclear), dtype=np.uint64)
        self._by_leading_bits = self._table_by_leading_bits()

    def thresholds(self, numbers: Iterable[int], bits: int) -> list[int]:
        r"""Return :math:`2^b \Phi((2k + 1) / (2s))` for integers :math:`k`, off by less than one.

        Parameters
        ----------
        numbers : iterable of int
            Which :math:`k`.

        bits : int
            The number of bits, :math:`b`.

        Returns
        -------
        list of int
            For each the integer below, or one of its neighbours.
        """
        # Imported here, since nothing else in the package needs it. The context is a new one, since
        # another thread might be at work in a shared one, at another precision.
        import mpmath

        context: Any = mpmath.mp.clone()
        context.prec = bits + 32
        deviation, levels = self._ratio
        step = 1 / (2 * levels * context.mpf(deviation) * context.sqrt(2))

        @cache
        def tail(k: int) -> int:
            x = (2 * k + 1) * step
            return int(context.ceil(context.ldexp(context.erfc(x), bits - 1))) if x < _FAR else 1

        return [2**bits - tail(k) if k >= 0 else tail(-k - 1) for k in numbers]

    def fill(self, out: NDArray[np.floating], words: Words) -> None:
        """Fill an array with draws, one after the other.

        A draw reads one word, or four where the first does not decide it; the next draw reads on
        from there. So two arrays filled in turn hold what one of their joint length would.

        Parameters
        ----------
        out : ndarray of float32 or float64, one-dimensional
            Contiguous array to overwrite.

        words : callable (int) -> ndarray of uint64
            The stream. No word is taken from it that is not read.

        Raises
        ------
        RuntimeError
            If four words do not decide a draw.
        """
        done, left = 0, np.empty(0, dtype=np.uint64)
        while done < len(out):
            block = left if len(left) else words(min(_BLOCK, len(out) - done))
            draws, decided = self._decided(block)
            out[done : done + decided] = draws[:decided]
            done, left = done + decided, block[decided:]
            if len(left):
                left = np.concatenate([left, words(max(0, 4 - len(left)))])
                out[done] = self.refined(left[:4])
                done, left = done + 1, left[4:]

    def refined(self, words: NDArray[np.uint64]) -> int:
        """Return the draw that four words decide.

        Parameters
        ----------
        words : ndarray of uint64, shape (4,)
            The words, the first one first.

        Returns
        -------
        int
            The draw.

        Raises
        ------
        RuntimeError
            If they do not decide it.
        """
        value = int.from_bytes(words.astype(">u8").tobytes(), "big")
        low, high = -self._extreme, self._extreme - 1
        if not self._below(value, high) or self._below(value, low):
            raise _undecided()
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._below(value, middle) else (middle, high)
        return high

    def _below(self, value: int, k: int) -> bool:
        """Say whether all numbers that begin with these bits lie below a threshold, or none."""
        distance = value - self.thresholds([k], _REFINED_BITS)[0]
        if abs(distance) <= 1:
            raise _undecided()
        return distance < 0

    def _decided(self, words: NDArray[np.uint64]) -> tuple[NDArray[np.float32], int]:
        """Return the draws of words, and how many there are before the first undecided one."""
        leading = (words >> np.uint64(64 - _LEADING_BITS)).view(np.int64)
        draws = self._by_leading_bits.take(leading)
        close = np.flatnonzero(np.isnan(draws))
        rest = words[close]
        draws[close] = self._first_words.searchsorted(rest, "right") - self._offset
        place = self._unclear.searchsorted(rest)
        # The largest word is an unclear one, so that every place is one in the table.
        unclear = np.flatnonzero(self._unclear[place] == rest)
        return draws, int(close[unclear[0]]) if len(unclear) else len(words)

    def _table_by_leading_bits(self) -> NDArray[np.float32]:
        """Return the draw for the leading bits of a word; NaN where they do not decide it."""
        starts = np.arange(2**_LEADING_BITS, dtype=np.uint64) << np.uint64(64 - _LEADING_BITS)
        ends = starts + np.uint64(2 ** (64 - _LEADING_BITS) - 1)
        draws = (self._first_words.searchsorted(starts, "right") - self._offset).astype(np.float32)
        clear = self._unclear.searchsorted(starts) == self._unclear.searchsorted(ends, "right")
        return np.where(clear, draws, np.float32(np.nan))


def _first_word(value: int) -> int:
    """Return the first 64 of 128 bits."""
    return min(max(value >> 64, 0), _WORD - 1)


def _undecided() -> RuntimeError:
    return RuntimeError(
        "a draw could not be decided by 256 random bits, which happens with probability below "
        "2**-128. Check the random generator."
    )
