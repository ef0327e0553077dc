"""Records on disk: a NumPy archive with a JSON header, without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from randsmooth._files import written_whole
from randsmooth.exceptions import InvalidFileError

__all__ = ["read_record", "storable", "write_record"]

Kind = TypeVar("Kind")

_FORMAT_VERSION = 1


def write_record(
    kind: str,
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    facts: Mapping[str, Any],
) -> None:
    """Write a record, whole or not at all.

    Parameters
    ----------
    kind : str
        Name of its class.

    path : str or path-like
        The file to write.

    arrays : mapping of str to ndarray
        Its arrays, of numbers or text.

    facts : mapping of str to object
        What else it knows, as JSON has it.
    """
    header = {"format": f"randsmooth.{kind}", "format_version": _FORMAT_VERSION, **facts}
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    content: dict[str, Any] = {"header": text, **arrays}
    with written_whole(path) as file:
        np.savez_compressed(file, **content)


def read_record(
    kind: str,
    path: str | os.PathLike[str],
    build: Callable[[dict[str, Any], dict[str, NDArray[Any]]], Kind],
) -> Kind:
    """Return the record in a file.

    Parameters
    ----------
    kind : str
        Name of its class.

    path : str or path-like
        The file.

    build : callable (dict, dict) -> object
        From its header and its arrays to the record.

    Returns
    -------
    object
        The record.

    Raises
    ------
    InvalidFileError
        If there is no such file, or it does not hold such a record.
    """
    name = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InvalidFileError(f"{name} does not exist.") from error
    try:
        return build(*_content(kind, BytesIO(content)))
    except InvalidFileError as error:
        raise InvalidFileError(f"{name} {error}") from error
    except Exception as error:  # damage can surface as any error of zipfile, zlib, json or NumPy
        raise InvalidFileError(
            f"{name} is damaged, or not a file that {kind}.save wrote: {error!r}"
        ) from error


def _content(kind: str, file: BytesIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return header and arrays of a file that is of a kind and of a version to be read."""
    with np.load(file, allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
        arrays = {name: archive[name] for name in archive if name != "header"}
    if header["format"] != f"randsmooth.{kind}":
        raise InvalidFileError(f"holds {header['format']!r}, not a randsmooth.{kind}.")
    if header["format_version"] != _FORMAT_VERSION:
        raise InvalidFileError(
            f"has format version {header['format_version']!r}, but this randsmooth reads version "
            f"{_FORMAT_VERSION}; a newer release may read it."
        )
    return header, arrays


def storable(classes: NDArray[Any]) -> NDArray[Any]:
    """Return labels as an array that needs no pickle.

    Parameters
    ----------
    classes : ndarray
        Labels.

    Returns
    -------
    ndarray of numbers or of fixed-length text
        The same labels.

    Raises
    ------
    TypeError
        If they are neither.
    """
    if classes.dtype.kind in "biufU":
        return classes
    labels: Sequence[Any] = classes.tolist()
    fixed = np.array(labels, dtype=np.str_)
    if not all(isinstance(label, str) for label in labels) or fixed.tolist() != labels:
        raise TypeError(f"classes must be numbers or strings to be saved, got {labels!r}.")
    return fixed
