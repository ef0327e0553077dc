"""Inputs that need not be in memory at once: data sets, batches, arrays on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, IterableDataset

from randsmooth.inputs import on_host

__all__ = ["Source", "in_batches", "is_stream", "source_of"]


class Source(Protocol):
    """Inputs in the order of their numbers, a block at a time."""

    n_inputs: int | None
    """How many there are; None where that shows in the end."""

    def next(self, n_most: int) -> Any:
        """Return the next inputs.

        Parameters
        ----------
        n_most : int
            How many at most.

        Returns
        -------
        array-like of shape (n, ...)
            The inputs; none at the end.
        """
        ...


class _Numbered:
    """Inputs that can be asked for by their numbers."""

    def __init__(self, n_inputs: int, take: Callable[[int, int], Any]) -> None:
        self.n_inputs: int | None = n_inputs
        self._take, self._at = take, 0

    def next(self, n_most: int) -> Any:
        start, stop = self._at, min(self._at + n_most, self.n_inputs or 0)
        self._at = stop
        return self._take(start, stop)


class _Stream:
    """Inputs that come as they come."""

    n_inputs: int | None = None

    def __init__(self, rows: Iterator[NDArray[Any]]) -> None:
        self._rows = rows

    def next(self, n_most: int) -> Any:
        return _stacked(islice(self._rows, n_most))


def in_batches(X: Any, n_dimensions: int) -> Any:
    """Return batches in a list, or in what else can be gone through, one after the other.

    Parameters
    ----------
    X : object
        The inputs as handed in.

    n_dimensions : int
        Dimensions of one input.

    Returns
    -------
    object
        An iterator of batches; all else as it is.
    """
    if isinstance(X, list | tuple):
        held = len(X) > 0 and getattr(_without_labels(X[0]), "ndim", 0) == n_dimensions + 1
        return iter(X) if held else X
    known = isinstance(X, Dataset | DataLoader | Sized | str) or hasattr(X, "__array__")
    return iter(X) if isinstance(X, Iterable) and not known else X


def is_stream(X: Any) -> bool:
    """Return whether inputs are to be read a block at a time.

    Parameters
    ----------
    X : object
        The inputs as handed in.

    Returns
    -------
    bool
        Whether they are a torch data set, batches one after the other, or an array on disk.
    """
    return isinstance(X, Dataset | DataLoader | Iterator | np.memmap)


def source_of(X: Any) -> Source:
    """Return inputs as a source of blocks.

    Parameters
    ----------
    X : array-like, Dataset, DataLoader, or iterator of batches
        The inputs as handed in. Where an item of a data set, or a batch, is a tuple or a list, its
        first entry counts.

    Returns
    -------
    Source
        The source.
    """
    if isinstance(X, IterableDataset):
        return _Stream(_input(item) for item in X)
    if isinstance(X, Dataset):
        items: Any = X
        return _Numbered(
            len(items),
            lambda start, stop: _stacked(_input(items[number]) for number in range(start, stop)),
        )
    if isinstance(X, DataLoader | Iterator):
        return _Stream(row for batch in X for row in _input(batch))
    rows = on_host(X)
    rows = rows if hasattr(rows, "shape") else np.asarray(rows)
    n_inputs = int(rows.shape[0]) if rows.shape else 0
    # A table's columns have names, which are checked.
    sliced = rows.iloc if hasattr(rows, "iloc") else rows
    return _Numbered(n_inputs, lambda start, stop: sliced[start:stop])


def _input(item: Any) -> NDArray[Any]:
    """Return an item, or a batch, without its labels."""
    array: NDArray[Any] = np.asarray(on_host(_without_labels(item)))
    return array


def _without_labels(item: Any) -> Any:
    return item[0] if isinstance(item, tuple | list) and len(item) else item


def _stacked(rows: Iterable[NDArray[Any]]) -> Any:
    """Return inputs as one array, or as they are where they differ in shape."""
    kept = list(rows)
    return np.stack(kept) if len({row.shape for row in kept}) == 1 else kept
