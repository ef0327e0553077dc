"""What a store of votes is headed with: which run it holds, in plain values."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth._archive import storable
from randsmooth.certificates.rules import asked_radii, check_alpha, class_labels
from randsmooth.exceptions import InvalidFileError
from randsmooth.noise import Noise
from randsmooth.noise.names import noise_facts, noise_from_facts
from randsmooth.store.database import LARGEST_VALUE, contradictions_named
from randsmooth.store.votes import BlockVotes

__all__ = [
    "RULES",
    "check_draws",
    "differences",
    "header_of",
    "labels_in",
    "noise_in",
    "read_header",
]

RULES = ("fixed", "two-stage", "sequential", "outcomes", "imported")
"""What may decide on the number of draws."""

# What must agree for a run to go on, and how a message says it.
_IDENTITY = {
    "model": "by another model",
    "noise": "under the noise {theirs}, not {ours}",
    "noise_seed": "with noise_seed={theirs}, not {ours}",
    "common_noise": "with common_noise={theirs}, not {ours}",
    "draws": "with draws {theirs}, not {ours}",
    "classes": "for classes {theirs}, not {ours}",
    "inputs": "for inputs {theirs}, not {ours}",
    # Another arithmetic is another classifier, if only by a hair.
    "execution": "by computing with {theirs}, not {ours}",
}

_KEYS = (*_IDENTITY, "alpha", "bound", "versions")


def header_of(
    *,
    noise: Noise,
    classes: NDArray[Any],
    draws: dict[str, Any],
    alpha: float,
    bound: str,
    noise_seed: int | None,
    versions: dict[str, str],
    model: str | None = None,
    common_noise: bool | None = None,
    inputs: dict[str, Any] | None = None,
    execution: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a header in plain values.

    Parameters
    ----------
    noise : Noise
        The noise, one of `NOISES`.

    classes : ndarray of shape (n_classes,)
        Class labels, numbers or text.

    draws : dict
        How many draws there are, and what decides on it.

    alpha : float
        Failure probability of each input, unless another is asked for.

    bound : str
        Name of the bound, unless another is asked for.

    noise_seed : int or None
        Seed of the noise, None where unknown.

    versions : dict of str to str
        Versions of the packages.

    model : str or None, default=None
        What identifies the weights, None where unknown.

    common_noise : bool or None, default=None
        Whether all inputs share their noise, None where unknown.

    inputs : dict or None, default=None
        Number, shape and type of the inputs, as far as they are known.

    execution : dict or None, default=None
        How the votes are computed.

    Returns
    -------
    dict of str to object
        The header.

    Raises
    ------
    ValueError
        If the noise is not one of `NOISES`.

    TypeError
        If `classes` are Python objects other than strings.
    """
    labels = storable(classes)
    header = {
        "model": model,
        "noise": noise_facts(noise),
        "noise_seed": noise_seed,
        "common_noise": common_noise,
        "draws": draws,
        "classes": {"dtype": labels.dtype.str, "labels": labels.tolist()},
        "inputs": inputs,
        "alpha": alpha,
        "bound": bound,
        "versions": versions,
        "execution": execution or {},
    }
    plain: dict[str, Any] = json.loads(json.dumps(header, default=_plain))
    return plain


def read_header(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return the header of a store.

    Parameters
    ----------
    connection : sqlite3.Connection
        A connection to it.

    Returns
    -------
    dict of str to object
        The header.

    Raises
    ------
    InvalidFileError
        If it is none.
    """
    with contradictions_named():
        rows = connection.execute("SELECT name, value FROM header").fetchall()
        header = {name: json.loads(value) for name, value in rows}
        if set(header) != set(_KEYS):
            raise InvalidFileError(f"has the header {sorted(map(str, header))}.")
        noise, labels = noise_in(header), labels_in(header)
        check_alpha(header["alpha"]) if noise.n_outcomes is None else None
        class_labels(labels, len(labels))
        _check_kinds(header)
    return header


def _check_kinds(header: dict[str, Any]) -> None:
    kinds: dict[str, Any] = {
        "bound": str,
        "draws": dict,
        "versions": dict,
        "execution": dict,
        "inputs": dict | None,
        "noise_seed": int | None,
    }
    for name, kind in kinds.items():
        if not isinstance(header[name], kind):
            raise InvalidFileError(f"has no {name} in its header, but {_short(header[name])}.")
    draws = header["draws"]
    if draws.get("rule") not in RULES:
        raise InvalidFileError(f"has draws by an unknown rule, {_short(draws)}.")
    if draws["rule"] == "sequential":
        radii, p0 = asked_radii(draws["radii"]), np.asarray(draws["p0"], dtype=float)
        if radii.tolist() != draws["radii"] or p0.shape != radii.shape:
            raise InvalidFileError("has radii and probabilities that do not fit.")


def check_draws(draws: dict[str, Any], votes: BlockVotes, failed: NDArray[np.bool_]) -> None:
    """Refuse votes that no run by these draws counts.

    Parameters
    ----------
    draws : dict
        How many draws there are, and what decides on it.

    votes : BlockVotes
        The votes.

    failed : ndarray of bool, shape (n_inputs,)
        Which inputs could not be classified.

    Raises
    ------
    InvalidFileError
        If there are others.
    """
    most = {"fixed": "n_estimation", "two-stage": "n_max", "sequential": "n_max"}
    if draws["rule"] not in most:
        return
    n_selection, n_estimation = votes.selection.sum(axis=1), votes.counts.sum(axis=1)
    right = (n_selection == draws["n_selection"]) & (n_estimation <= draws[most[draws["rule"]]])
    if draws["rule"] == "fixed":
        right &= n_estimation == draws["n_estimation"]
    if not (right | failed).all():
        raise InvalidFileError("holds more or fewer votes for an input than its run draws.")


def noise_in(header: dict[str, Any]) -> Noise:
    """Return the noise of a run."""
    return noise_from_facts(header["noise"])


def labels_in(header: dict[str, Any]) -> NDArray[Any]:
    """Return the class labels of a run."""
    kept = header["classes"]
    dtype = np.dtype(str(kept["dtype"]))
    if dtype.kind not in "biufU" or dtype.itemsize > 2**16:
        raise ValueError(f"class labels cannot be of dtype {dtype}")
    labels = np.array(kept["labels"])
    if labels.ndim != 1 or not 2 <= len(labels):
        raise ValueError("there must be two classes or more")
    if labels.size * dtype.itemsize > LARGEST_VALUE:
        raise ValueError(f"class labels cannot take {labels.size * dtype.itemsize:,} bytes")
    return labels.astype(dtype)


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Return in words what of two headers differs that must not.

    Parameters
    ----------
    theirs, ours : dict
        The headers.

    Returns
    -------
    list of str
        What differs, none where a run can go on.
    """
    found = []
    for name, words in _IDENTITY.items():
        if theirs[name] != ours[name]:
            one, other = theirs[name], ours[name]
            if isinstance(one, dict) and isinstance(other, dict):
                keys = [k for k in {**one, **other} if one.get(k) != other.get(k)]
                one, other = ({k: part.get(k) for k in keys} for part in (one, other))
            found.append(words.format(theirs=_short(one), ours=_short(other)))
    return found


def _short(value: ArrayLike | dict[str, Any] | None) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_short(part)}" for key, part in value.items())
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be kept in a store")
