"""Rows of votes as bytes: no wider than their numbers, zeros left out where that is shorter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randsmooth.exceptions import InvalidFileError

__all__ = ["packed", "unpacked"]

# The first byte of a row: the bytes of one number, and whether columns are named.
_WIDTHS: dict[int, Any] = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
_SPARSE = 0x80
_COLUMN: Any = np.dtype("<u4")

_MOST_BYTES = 2**34  # of a table, however little of it a file spells out
_MOST = 2**48  # so that no sum of them leaves 64 bits


def packed(votes: NDArray[np.int64]) -> bytes:
    """Return a row of votes as bytes.

    Parameters
    ----------
    votes : ndarray of int64, shape (n_classes,)
        The votes, none of them negative.

    Returns
    -------
    bytes
        A byte that tells the form, and the numbers.
    """
    width = next(w for w in _WIDTHS if int(votes.max(initial=0)) < 256**w)
    columns = np.flatnonzero(votes)
    if len(columns) * (_COLUMN.itemsize + width) >= len(votes) * width:
        return bytes([width]) + votes.astype(_WIDTHS[width]).tobytes()
    named = columns.astype(_COLUMN).tobytes(), votes[columns].astype(_WIDTHS[width]).tobytes()
    return bytes([width | _SPARSE]) + b"".join(named)


def unpacked(rows: Sequence[bytes], n_classes: int) -> NDArray[np.int64]:
    """Return rows of votes from their bytes.

    Parameters
    ----------
    rows : sequence of bytes
        What `packed` returned.

    n_classes : int
        Number of columns.

    Returns
    -------
    ndarray of int64, shape (n_rows, n_classes)
        The votes, read-only.

    Raises
    ------
    InvalidFileError
        If a row is nothing that `packed` returns, or there are too many of them.
    """
    if len(rows) * n_classes * 8 > _MOST_BYTES:
        raise InvalidFileError(
            f"holds {len(rows):,} inputs of {n_classes:,} classes, whose votes are more than "
            f"{_MOST_BYTES / 2**30:.0f} GiB."
        )
    votes = np.zeros((len(rows), n_classes), dtype=np.int64)
    for row, content in zip(votes, rows, strict=True):
        _unpack(content, row)
    votes.setflags(write=False)
    return votes


def _unpack(content: bytes, out: NDArray[np.int64]) -> None:
    width = content[0] & ~_SPARSE if content else 0
    if width not in _WIDTHS:
        raise InvalidFileError("holds votes in no known form.")
    if not content[0] & _SPARSE:
        if len(content) != 1 + width * len(out):
            raise InvalidFileError(f"holds votes that are not for {len(out)} classes.")
        numbers = np.frombuffer(content, _WIDTHS[width], offset=1)
        columns = np.arange(len(out))
    else:
        n_named, left = divmod(len(content) - 1, _COLUMN.itemsize + width)
        columns = np.frombuffer(content, _COLUMN, n_named, offset=1).astype(np.int64)
        if left or (np.diff(columns) <= 0).any() or (columns >= len(out)).any():
            raise InvalidFileError(f"holds votes that are not for {len(out)} classes.")
        numbers = np.frombuffer(content, _WIDTHS[width], offset=1 + columns.size * 4)
    if width == 8 and (numbers > _MOST).any():
        raise InvalidFileError(f"holds more than {_MOST} votes for a class.")
    out[columns] = numbers
