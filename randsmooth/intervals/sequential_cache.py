"""Boundaries of sequential tests in files, so that they need not be computed again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from randsmooth._files import written_whole

__all__ = ["load_boundaries", "store_boundaries"]

_FORMAT = "randsmooth sequential tests, 1"


def load_boundaries(
    data_home: str | os.PathLike[str], parameters: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Read what was stored for these parameters.

    Parameters
    ----------
    data_home : str or path-like
        The folder.

    parameters : mapping
        All that the boundaries depend on, in the types of JSON.

    Returns
    -------
    dict or None
        What was stored. None where there is no such file, or where it is damaged or holds anything
        other than what was stored for exactly these parameters.
    """
    try:
        record = json.loads(_file(data_home, parameters).read_text(encoding="utf-8"))
        boundaries: dict[str, Any] = record["boundaries"]
        intact = bool(record == _record(parameters, boundaries))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return boundaries if intact else None


def store_boundaries(
    data_home: str | os.PathLike[str], parameters: Mapping[str, Any], boundaries: Mapping[str, Any]
) -> None:
    """Write boundaries for `load_boundaries`, whole or not at all.

    A folder that cannot be written to is no error: the boundaries are then computed every time.

    Parameters
    ----------
    data_home : str or path-like
        The folder, made where it does not exist.

    parameters : mapping
        All that the boundaries depend on, in the types of JSON.

    boundaries : mapping
        What to store, in the types of JSON.
    """
    path = _file(data_home, parameters)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(_text(_record(parameters, boundaries)).encode())


def _record(parameters: Mapping[str, Any], boundaries: Mapping[str, Any]) -> dict[str, Any]:
    record = {"format": _FORMAT, "parameters": parameters, "boundaries": boundaries}
    return {**record, "sha256": _digest(record)}


def _file(data_home: str | os.PathLike[str], parameters: Mapping[str, Any]) -> Path:
    return Path(data_home) / "sequential_tests" / f"{_digest([_FORMAT, parameters])[:32]}.json"


def _digest(content: object) -> str:
    return hashlib.sha256(_text(content).encode()).hexdigest()


def _text(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
