"""The file of a vote store: one SQLite database, opened with distrust, written by one."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from randsmooth.exceptions import InvalidFileError, StoreReadError

__all__ = [
    "FORMAT_VERSION",
    "LARGEST_VALUE",
    "connected_for_reading",
    "connected_for_writing",
    "contradictions_named",
    "damage_named",
]

FORMAT_VERSION = 1

_APPLICATION = 0x52535653  # "RSVS", at the place where SQLite keeps whose file it is
_TABLES = {
    "header": "CREATE TABLE header (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "votes": (
        "CREATE TABLE votes (input INTEGER PRIMARY KEY, digest BLOB NOT NULL, selection BLOB, "
        "estimation BLOB, claimed INTEGER NOT NULL, seconds REAL NOT NULL, error TEXT, "
        "seal BLOB NOT NULL)"
    ),
}
# What SQLite may say without the file being at fault.
_CIRCUMSTANCES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
LARGEST_VALUE = 2**26
"""Bytes of one value: the labels of a million classes, or their votes."""


def connected_for_reading(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write to a file of votes.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    sqlite3.Connection
        The connection.

    Raises
    ------
    InvalidFileError
        If there is no such file, or it is something else.
    """
    _check_is_database(path)
    with damage_named(path):
        try:
            return _checked(_opened(path, "mode=ro"), path)
        except sqlite3.OperationalError as error:
            # A writer was killed between two modes of the file: what it had begun is taken back.
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK:
                _checked(_opened(path, "mode=rw"), path).close()
                return _checked(_opened(path, "mode=ro"), path)
            # A folder that cannot be written to has no place for what readers and a writer share;
            # nobody writes there, so that the file may be read as it is.
            if os.access(path.parent, os.W_OK) or _beside(path, "wal").exists():
                raise
            return _checked(_opened(path, "immutable=1"), path)


def connected_for_writing(path: Path, header: dict[str, Any]) -> sqlite3.Connection:
    """Return a connection that writes to a file of votes, which is made where there is none.

    Parameters
    ----------
    path : Path
        The file.

    header : dict of str to object
        What a new file is headed with, as JSON has it.

    Returns
    -------
    sqlite3.Connection
        The connection. Every transaction on it survives the loss of power.

    Raises
    ------
    InvalidFileError
        If the file is something else.
    """
    with damage_named(path):
        if not (path.exists() and path.stat().st_size):
            _make(path, header)
        connection = _checked(_opened(path, "mode=rw"), path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection


def _make(path: Path, header: dict[str, Any]) -> None:
    """Make a file without votes: whole from the moment when it has its name, or not at all."""
    draft = path.with_name(f"{path.name}.new")
    for left in (draft, _beside(draft, "journal")):
        left.unlink(missing_ok=True)
    with closing(_opened(draft, "mode=rwc")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.values():
            connection.execute(statement)
        pairs = [(name, json.dumps(value)) for name, value in header.items()]
        connection.executemany("INSERT INTO header VALUES (?, ?)", pairs)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("COMMIT")
    # A log that somebody's removed file left behind would be played into this one.
    for left in (_beside(path, kind) for kind in ("wal", "shm", "journal")):
        left.unlink(missing_ok=True)
    draft.replace(path)
    with suppress(OSError):  # where folders can be opened, the name survives the loss of power too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a damaged or foreign file into an error that names it.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    None
        While the file is used.

    Raises
    ------
    InvalidFileError
        If the file is damaged, or something else.

    StoreReadError
        If it is the disk, or somebody else, that keeps it from being used.
    """
    try:
        yield
    except InvalidFileError as error:
        message = str(error)
        raise InvalidFileError(
            message if message.startswith(os.fspath(path)) else f"{os.fspath(path)} {message}"
        ) from error
    except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CIRCUMSTANCES:
            raise StoreReadError(
                f"{os.fspath(path)} cannot be read now: {error}. What it holds is safe."
            ) from error
        raise InvalidFileError(
            f"{os.fspath(path)} is damaged, or no file of votes: {error}"
        ) from error


@contextmanager
def contradictions_named() -> Iterator[None]:
    """Turn what our own checks say of values from a file into an error about the file.

    Yields
    ------
    None
        While the values are used.

    Raises
    ------
    InvalidFileError
        If they are of the wrong type, or contradict each other.
    """
    try:
        yield
    except InvalidFileError:
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise InvalidFileError(f"contradicts itself: {error}") from error


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        timeout=10,
        isolation_level=None,
        check_same_thread=False,
    )
    # A file from anywhere: nothing in it is run, and nothing it declares is believed.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def _checked(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Return the connection if the file is one of ours, of a version that is known."""
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise InvalidFileError("is a database, but holds no votes of randsmooth.")
        if version != FORMAT_VERSION:
            raise InvalidFileError(
                f"has format version {version}, but this randsmooth reads version "
                f"{FORMAT_VERSION}; a newer release may read it."
            )
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
        ours = [("table", name, name, sql) for name, sql in sorted(_TABLES.items())]
        if connection.execute(query).fetchall() != ours:
            raise InvalidFileError("holds other tables than those of a store of votes.")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_is_database(path: Path) -> None:
    """Refuse what is missing, or no database at all, before SQLite sees it."""
    try:
        with path.open("rb") as file:
            magic = file.read(16)
    except FileNotFoundError as error:
        raise InvalidFileError(f"{path} does not exist.") from error
    except IsADirectoryError as error:
        raise InvalidFileError(f"{path} is a folder, not a file of votes.") from error
    if magic != b"SQLite format 3\0":
        raise InvalidFileError(f"{path} is no file of votes: it does not begin as a database does.")


def _beside(path: Path, kind: str) -> Path:
    """Return where SQLite keeps what is not yet in the file, or no longer."""
    return path.with_name(f"{path.name}-{kind}")
