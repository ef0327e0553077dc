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
    contradictions_named,
    damage_named,
)
from randsmooth.store.header import differences, read_header
from randsmooth.store.packing import packed
from randsmooth.store.seals import row_seal, run_key, sealed_rows
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
        self.path = _place(path)
        self._lock = _locked(self.path)
        try:
            if self.path.exists() and self.path.stat().st_size:
                self._compare(header)  # before anything is changed
            with _failures_named(self.path):
                self._connection = connected_for_writing(self.path, header)
                self._key = run_key(self._header())
        except BaseException:
            self._lock.close()
            raise

    def _compare(self, header: dict[str, Any]) -> None:
        with closing(connected_for_reading(self.path)) as connection, damage_named(self.path):
            different = differences(read_header(connection), header)
        if different:
            raise StoreMismatchError.of(self.path, "; ".join(different), "set back what differs")

    def _header(self) -> dict[str, Any]:
        """Return the header that is there; what cannot be read is not kept open."""
        try:
            with damage_named(self.path):
                return read_header(self._connection)
        except BaseException:
            self._connection.close()
            raise

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
        with _failures_named(self.path), damage_named(self.path), contradictions_named():
            for number, digest, *_, error in sealed_rows(self._connection, self._key):
                yield int(number), bytes(digest), error is not None

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
        rows = [self._row(int(number), digests[i], votes, i) for i, number in enumerate(inputs)]
        with _failures_named(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def _row(self, number: int, digest: bytes, votes: BlockVotes, i: int) -> tuple[Any, ...]:
        row = (
            number,
            digest,
            packed(votes.selection[i]),
            packed(votes.counts[i]),
            int(votes.claimed[i]),
            float(votes.seconds[i]),
            _text(votes.errors[i]) if i in votes.errors else None,
        )
        return *row, row_seal(self._key, row)


def _text(error: Exception) -> str:
    """Return what an error says, in letters that a file can hold."""
    return str(error).encode("utf-8", "replace").decode()


def _place(path: str | os.PathLike[str]) -> Path:
    """Return where a store is to lie: one place, whatever links lead there."""
    place = Path(os.fsdecode(path)).resolve()
    if place.is_dir():
        raise StoreWriteError(f"store must be a file, got the folder {os.fspath(path)!r}.")
    if not place.parent.is_dir():
        raise StoreWriteError(
            f"store must lie in a folder that is there, got {os.fspath(path)!r}. Make "
            f"{os.fspath(place.parent)!r} first."
        )
    return place


def _locked(path: Path) -> sqlite3.Connection:
    """Return what keeps others from writing until it is closed, or its process ends.

    The lock is on a file beside the store, so that readers are not held up.
    """
    lock = path.with_name(f"{path.name}.lock")
    with _failures_named(path):
        connection = sqlite3.connect(lock, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            connection.close()
            if "locked" in str(error):
                raise StoreBusyError(
                    f"store {os.fspath(path)!r} is being written by another run. Wait for it, or "
                    f"hand in another path; it can be read meanwhile."
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise StoreWriteError(
                f"store must have a lock beside it, but {os.fspath(lock)!r} is something else: "
                f"{error}. Hand in another path, or remove that file."
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
