"""Seals of rows: what was counted belongs to one run, and is what was written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from randsmooth.exceptions import InvalidFileError

__all__ = ["row_seal", "run_key", "sealed_rows"]

_COLUMNS = "input, digest, selection, estimation, claimed, seconds, error"


def run_key(header: dict[str, Any]) -> bytes:
    """Return what the rows of a run are sealed with.

    Parameters
    ----------
    header : dict of str to object
        The header of its store.

    Returns
    -------
    bytes
        A digest of the header.
    """
    return blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16).digest()


def row_seal(key: bytes, row: tuple[Any, ...]) -> bytes:
    """Return the seal of a row.

    It tells accidents from what was written, and the rows of one run from those of another; whoever
    means to forge a row can make its seal too.

    Parameters
    ----------
    key : bytes
        What the rows of the run are sealed with.

    row : tuple
        What stands in the row, the seal left out.

    Returns
    -------
    bytes
        A digest of both.
    """
    return blake2b(repr(row).encode(), key=key, digest_size=16).digest()


def sealed_rows(connection: sqlite3.Connection, key: bytes) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a store, in the order of the inputs.

    Parameters
    ----------
    connection : sqlite3.Connection
        A connection to it.

    key : bytes
        What the rows of the run are sealed with.

    Yields
    ------
    tuple
        Number of the input, its digest, packed votes of selection and estimation, claims, seconds
        and what went wrong.

    Raises
    ------
    InvalidFileError
        If a row is not what was written for this run.
    """
    for *row, seal in connection.execute(f"SELECT {_COLUMNS}, seal FROM votes ORDER BY input"):
        if seal != row_seal(key, tuple(row)):
            raise InvalidFileError(
                f"holds votes for input {row[0]} that are not those that its run wrote there."
            )
        yield tuple(row)
