"""Records on disk: a NumPy archive with a JSON header, without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from randsmooth._files import written_whole
from randsmooth.exceptions import InvalidFileError
from randsmooth.noise import NOISES, Noise
from randsmooth.noise.names import known_noise

if TYPE_CHECKING:
    from randsmooth.certificates.confidence import ConfidenceCertificates
    from randsmooth.certificates.record import Certificates

__all__ = ["read_archive", "read_confidence_archive", "write_archive", "write_confidence_archive"]

Kind = TypeVar("Kind")

_FORMAT_VERSION = 1
_STORED = ("radius", "p_lower", "p_upper", "selection_counts", "counts", "seconds", "classes")
_CONFIDENCE_STORED = ("label", "thresholds", "counts", "mean", "classes")


def write_archive(record: Certificates, path: str | os.PathLike[str]) -> None:
    """Write a record to a file; see `Certificates.save`."""
    arrays = {name: getattr(record, name) for name in _STORED}
    arrays["classes"] = _storable(record.classes)
    _write("Certificates", path, arrays, record.noise, record.facts)


def write_confidence_archive(record: ConfidenceCertificates, path: str | os.PathLike[str]) -> None:
    """Write a record to a file; see `ConfidenceCertificates.save`."""
    arrays = {name: getattr(record, name) for name in _CONFIDENCE_STORED}
    arrays |= {name: _storable(arrays[name]) for name in ("label", "classes")}
    _write("ConfidenceCertificates", path, arrays, record.noise, record.facts)


def read_archive(path: str | os.PathLike[str], kind: Callable[..., Kind]) -> Kind:
    """Return the record in a file; see `Certificates.load`."""
    return _read("Certificates", path, lambda *content: kind(**_fields(*content)))


def read_confidence_archive(path: str | os.PathLike[str], kind: Callable[..., Kind]) -> Kind:
    """Return the record in a file; see `ConfidenceCertificates.load`."""
    return _read("ConfidenceCertificates", path, lambda *content: kind(**_confidence(*content)))


def _write(
    kind: str,
    path: str | os.PathLike[str],
    arrays: dict[str, Any],
    noise: Noise,
    facts: dict[str, Any],
) -> None:
    if type(noise) is not NOISES.get(noise.name):
        names = ", ".join(map(repr, NOISES))
        raise ValueError(f"noise must be one of {names} to be saved, got {noise!r}.")
    header = {"format": f"randsmooth.{kind}", "format_version": _FORMAT_VERSION} | facts
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with written_whole(path) as file:
        np.savez_compressed(file, header=text, **arrays)


def _read(
    kind: str,
    path: str | os.PathLike[str],
    build: Callable[[dict[str, Any], dict[str, NDArray[Any]]], Kind],
) -> Kind:
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
        raise InvalidFileError(f"holds {header['format']!r}, not a record of certificates.")
    if header["format_version"] != _FORMAT_VERSION:
        raise InvalidFileError(
            f"has format version {header['format_version']!r}, but this randsmooth reads version "
            f"{_FORMAT_VERSION}; a newer release may read it."
        )
    return header, arrays


def _fields(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    return {
        **{name: arrays[name] for name in _STORED if name in arrays},
        "label": arrays["classes"][arrays["selection_counts"].argmax(axis=1)],
        "abstained": ~(arrays["p_lower"] > arrays["p_upper"]),
        "n_draws": arrays["counts"].sum(axis=1),
        "noise": _noise(header),
        **{name: header[name] for name in ("bound", "alpha", "noise_seed", "versions")},
        # Absent from files of earlier releases.
        "radii": header.get("radii"),
        "execution": header.get("execution", {}),
    }


def _confidence(header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    facts = ("n_draws", "measure", "alpha", "noise_seed", "execution", "versions")
    return {
        **{name: arrays[name] for name in _CONFIDENCE_STORED},
        "noise": _noise(header),
        **{name: header[name] for name in facts},
    }


def _noise(header: dict[str, Any]) -> Noise:
    # Absent from files of earlier releases, whose noises have one parameter.
    parameters = header.get("noise_parameters") or {"scale": header["sigma"]}
    return known_noise(header["noise"])(**parameters)


def _storable(classes: NDArray[Any]) -> NDArray[Any]:
    if classes.dtype.kind in "biufU":
        return classes
    labels: Sequence[Any] = classes.tolist()
    fixed = np.array(labels, dtype=np.str_)
    if not all(isinstance(label, str) for label in labels) or fixed.tolist() != labels:
        raise TypeError(f"classes must be numbers or strings to be saved, got {labels!r}.")
    return fixed
