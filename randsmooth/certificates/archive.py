"""Records on disk: a NumPy archive with a JSON header, without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from randsmooth._files import written_whole
from randsmooth.exceptions import InvalidFileError
from randsmooth.noise import NOISES, noise_from_name

if TYPE_CHECKING:
    from randsmooth.certificates.record import Certificates

__all__ = ["read_archive", "write_archive"]

Record = TypeVar("Record", bound="Certificates")

_FORMAT = "randsmooth.Certificates"
_FORMAT_VERSION = 1
_STORED = ("radius", "p_lower", "p_upper", "selection_counts", "counts", "seconds", "classes")


def write_archive(record: Certificates, path: str | os.PathLike[str]) -> None:
    """Write a record to a file; see `Certificates.save`."""
    if type(record.noise) is not NOISES.get(record.noise.name):
        names = ", ".join(map(repr, NOISES))
        raise ValueError(f"noise must be one of {names} to be saved, got {record.noise!r}.")
    arrays = {name: getattr(record, name) for name in _STORED}
    arrays["classes"] = _storable(record.classes)
    header = {"format": _FORMAT, "format_version": _FORMAT_VERSION} | record.facts
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with written_whole(path) as file:
        np.savez_compressed(file, header=text, **arrays)


def read_archive(path: str | os.PathLike[str], kind: type[Record]) -> Record:
    """Return the record in a file; see `Certificates.load`."""
    name = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InvalidFileError(f"{name} does not exist.") from error
    try:
        return kind(**_fields(BytesIO(content)))
    except InvalidFileError as error:
        raise InvalidFileError(f"{name} {error}") from error
    except Exception as error:  # damage can surface as any error of zipfile, zlib, json or NumPy
        raise InvalidFileError(
            f"{name} is damaged, or not a file that Certificates.save wrote: {error!r}"
        ) from error


def _fields(file: BytesIO) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
        arrays = {name: archive[name] for name in _STORED if name in archive}
    if header["format"] != _FORMAT:
        raise InvalidFileError(f"holds {header['format']!r}, not a record of certificates.")
    if header["format_version"] != _FORMAT_VERSION:
        raise InvalidFileError(
            f"has format version {header['format_version']!r}, but this randsmooth reads version "
            f"{_FORMAT_VERSION}; a newer release may read it."
        )
    return {
        **arrays,
        "label": arrays["classes"][arrays["selection_counts"].argmax(axis=1)],
        "abstained": ~(arrays["p_lower"] > arrays["p_upper"]),
        "n_draws": arrays["counts"].sum(axis=1),
        "noise": noise_from_name(header["noise"], header["sigma"]),
        **{name: header[name] for name in ("bound", "alpha", "noise_seed", "versions")},
        # Absent from files of earlier releases.
        "radii": header.get("radii"),
        "execution": header.get("execution", {}),
    }


def _storable(classes: NDArray[Any]) -> NDArray[Any]:
    if classes.dtype.kind in "biufU":
        return classes
    labels: Sequence[Any] = classes.tolist()
    fixed = np.array(labels, dtype=np.str_)
    if not all(isinstance(label, str) for label in labels) or fixed.tolist() != labels:
        raise TypeError(f"classes must be numbers or strings to be saved, got {labels!r}.")
    return fixed
