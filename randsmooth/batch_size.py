"""How many rows one forward pass takes: found while working, so that nothing is spent on it."""

from __future__ import annotations

import math
from threading import Lock

import numpy as np

from randsmooth.bases import ArrayBase, Base, NetBase

__all__ = ["BatchSize", "automatic_batch_size"]

# Two sizes whose times differ by less are as good as each other.
_GAIN = 0.97
_TRIALS = 3
_MOST_STEPS = 2


class BatchSize:
    """The number of rows of a forward pass: fixed, or searched for among powers of two.

    Votes do not depend on it, so the search costs nothing: the first batches of a run are timed
    while they are counted. Threads may share it.

    Parameters
    ----------
    start : int
        The number to begin with.

    searched : bool, default=False
        Whether to look for a faster one.

    multiple : int, default=1
        What every number searched must be a multiple of.
    """

    def __init__(self, start: int, *, searched: bool = False, multiple: int = 1) -> None:
        self.rows = start
        self.searching = searched
        self._multiple = multiple
        self._times: dict[int, list[float]] = {}
        self._largest = start * 2**_MOST_STEPS
        self._smallest = max(multiple, start // 2**_MOST_STEPS)
        self._lock = Lock()

    def record(self, rows: int, seconds: float) -> None:
        """Note what a forward pass took.

        Parameters
        ----------
        rows : int
            Its rows. Passes that were not full tell nothing.

        seconds : float
            Its time.
        """
        with self._lock:
            if self.searching and rows == self.rows:
                self._times.setdefault(rows, []).append(seconds / rows)
                if len(self._times[rows]) >= _TRIALS + 1:  # the first pass only warms up
                    self._step()

    def halve(self) -> bool:
        """Go down after memory ran out.

        Returns
        -------
        bool
            Whether there was anything to halve.
        """
        with self._lock:
            self.searching = False
            halved, self.rows = self.rows > 1, max(1, self.rows // 2)
            return halved

    def _step(self) -> None:
        """Try the next size: upwards while that helps, else downwards, else stay with the best."""
        best = min(self._times, key=self._time)
        for size in (best * 2, best // 2):
            if self._smallest <= size <= self._largest and size % self._multiple == 0:
                if size not in self._times:
                    self.rows = size
                    return
        self.rows, self.searching = best, False

    def _time(self, rows: int) -> float:
        # Smaller batches keep memory small, so that a larger one must be clearly faster.
        handicap: float = _GAIN ** -math.log2(rows)
        return min(self._times[rows][1:]) * handicap

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _lock=Lock())


def automatic_batch_size(base: Base, shape: tuple[int, ...]) -> BatchSize:
    """Return a batch size that keeps a batch's activations in the cache, or the GPU busy.

    Parameters
    ----------
    base : Base
        Who votes.

    shape : tuple of int
        Shape of one row.

    Returns
    -------
    BatchSize
        A good guess, to be searched from.
    """
    n_values = int(np.prod(shape))
    if isinstance(base, ArrayBase):
        return BatchSize(int(np.clip(2**20 // n_values, 256, 8192)), searched=True)
    row_values = max(n_values, base.row_values if isinstance(base, NetBase) else 1)
    tensor_values, largest = (2**20, 512) if base.device.type == "cpu" else (2**28, 16384)
    fitting = min(largest, tensor_values // row_values)
    rows = max(1, -(-fitting // base.row_multiple)) * base.row_multiple
    return BatchSize(rows, searched=True, multiple=base.row_multiple)
