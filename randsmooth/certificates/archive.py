"""Records of certificates on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

from randsmooth._archive import read_record, storable, write_record
from randsmooth.noise import Noise
from randsmooth.noise.names import known_noise, noise_facts

if TYPE_CHECKING:
    from randsmooth.certificates.confidence import ConfidenceCertificates
    from randsmooth.certificates.record import Certificates

__all__ = ["read_archive", "read_confidence_archive", "write_archive", "write_confidence_archive"]

Kind = TypeVar("Kind")

_STORED = ("radius", "p_lower", "p_upper", "selection_counts", "counts", "seconds", "classes")
_CONFIDENCE_STORED = ("label", "thresholds", "counts", "mean", "classes")


def write_archive(record: Certificates, path: str | os.PathLike[str]) -> None:
    """Write a record to a file; see `Certificates.save`."""
    arrays = {name: getattr(record, name) for name in _STORED}
    arrays["classes"] = storable(record.classes)
    _write("Certificates", path, arrays, record.noise, record.facts)


def write_confidence_archive(record: ConfidenceCertificates, path: str | os.PathLike[str]) -> None:
    """Write a record to a file; see `ConfidenceCertificates.save`."""
    arrays = {name: getattr(record, name) for name in _CONFIDENCE_STORED}
    arrays |= {name: storable(arrays[name]) for name in ("label", "classes")}
    _write("ConfidenceCertificates", path, arrays, record.noise, record.facts)


def read_archive(path: str | os.PathLike[str], kind: Callable[..., Kind]) -> Kind:
    """Return the record in a file; see `Certificates.load`."""
    return read_record("Certificates", path, lambda *content: kind(**_fields(*content)))


def read_confidence_archive(path: str | os.PathLike[str], kind: Callable[..., Kind]) -> Kind:
    """Return the record in a file; see `ConfidenceCertificates.load`."""
    return read_record(
        "ConfidenceCertificates", path, lambda *content: kind(**_confidence(*content))
    )


def _write(
    kind: str,
    path: str | os.PathLike[str],
    arrays: dict[str, Any],
    noise: Noise,
    facts: dict[str, Any],
) -> None:
    noise_facts(noise)  # refuses what could not be read back
    write_record(kind, path, arrays, facts)


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
