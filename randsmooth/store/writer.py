"""The one that writes to a store of votes, a block of inputs at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from randsmooth.exceptions import (
    StoreBusyError,
    StoreMismatchError,
    StoreReadError,
    StoreWriteError,
)
from randsmooth.store.database import (
    connected_for_reading,
    connected_for_writing,
    damage_named,
)
from randsmooth.store.header import differences, read_header
from randsmooth.store.packing import packed
from randsmooth.store.votes import BlockVotes

__all__ = ["StoreWriter", "write_counts"]


class StoreWriter:
    """The one that writes to a store of votes, and holds its lock as long as it lives.

    Parameters
    ----------
    path : str or path-like
        The file. It is made where there is none.

    header : dict of str to object
        What the run is.

    Raises
    ------
    StoreMismatchError
        If the file holds another run.

    StoreBusyError
        If somebody else writes to it.

    StoreWriteError
        If it cannot be written to.

    InvalidFileError
        If it is something else.
    """

    def __init__(self, path: str | os.PathLike[str], header: dict[str, Any]) -> None:
        self.path = Path(path).resolve()  # one lock, whatever links lead there
        self._lock = _locked(self.path)
        try:
            if self.path.exists() and self.path.stat().st_size:
                self._compare(header)  # before anything is changed
            with _failures_named(self.path):
                self._connection = connected_for_writing(self.path, header)
        except BaseException:
            self._lock.close()
            raise

    def _compare(self, header: dict[str, Any]) -> None:
        with closing(connected_for_reading(self.path)) as connection, damage_named(self.path):
            different = differences(read_header(connection), header)
        if different:
            raise StoreMismatchError.of(self.path, "; ".join(different), "set back what differs")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the file and its lock; what lies beside the file goes into it."""
        # A reader keeps it as it is, and so does a full disk: neither loses anything.
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        self._lock.close()

    def known(self) -> Iterator[tuple[int, bytes, bool]]:
        """Return which inputs are there.

        Yields
        ------
        input : int
            Number of an input.

        digest : bytes
            What identifies it.

        failed : bool
            Whether it could not be classified.
        """
        query = "SELECT input, digest, error IS NOT NULL FROM votes ORDER BY input"
        with _failures_named(self.path), damage_named(self.path):
            for number, digest, failed in self._connection.execute(query):
                yield int(number), bytes(digest), bool(failed)

    def add(self, inputs: NDArray[np.intp], digests: list[bytes], votes: BlockVotes) -> None:
        """Write what was counted for a block: all of it or nothing.

        Parameters
        ----------
        inputs : ndarray of int, shape (n_inputs,)
            Numbers of the inputs.

        digests : list of bytes
            What identifies them.

        votes : BlockVotes
            Their votes. Inputs that failed have none.

        Raises
        ------
        StoreWriteError
            If it cannot be written.
        """
        rows = [
            (
                int(number),
                digests[i],
                packed(votes.selection[i]),
                packed(votes.counts[i]),
                int(votes.claimed[i]),
                float(votes.seconds[i]),
                str(votes.errors[i]) if i in votes.errors else None,
            )
            for i, number in enumerate(inputs)
        ]
        with _failures_named(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )


def _locked(path: Path) -> sqlite3.Connection:
    """Return what keeps others from writing until it is closed, or its process ends.

    The lock is on a file beside the store, so that readers are not held up.
    """
    lock = path.with_name(f"{path.name}.lock")
    with _failures_named(path):
        connection = sqlite3.connect(lock, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" not in str(error):
                raise
            raise StoreBusyError(
                f"store {os.fspath(path)!r} is being written by another run. Wait for it, or hand "
                f"in another path; it can be read meanwhile."
            ) from error
    return connection


@contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.OperationalError, PermissionError, StoreReadError) as error:
        why = error.__cause__ if isinstance(error, StoreReadError) else error
        raise StoreWriteError(
            f"store must be a file that can be written to, got {os.fspath(path)!r}: {why}. What "
            f"it holds is safe: free some space, or hand in another path, and call again."
        ) from error


def write_counts(
    path: str | os.PathLike[str],
    header: dict[str, Any],
    inputs: NDArray[np.intp],
    votes: BlockVotes,
    *,
    at_once: int = 1024,
) -> None:
    """Write counts that were made elsewhere.

    Parameters
    ----------
    path : str or path-like
        A new file.

    header : dict of str to object
        What the run is.

    inputs : ndarray of int, shape (n_inputs,)
        Numbers of the inputs.

    votes : BlockVotes
        Their votes.

    at_once : int, default=1024
        Inputs of one transaction.
    """
    with closing(StoreWriter(path, header)) as writer:
        for start in range(0, len(inputs), at_once):
            some = slice(start, start + at_once)
            part = BlockVotes(
                votes.selection[some],
                votes.counts[some],
                votes.claimed[some],
                votes.seconds[some],
            )
            writer.add(inputs[some], [b""] * len(inputs[some]), part)
