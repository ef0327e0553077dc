"""What an attack was run with, as plain values that a later run can be compared with."""

from __future__ import annotations

from dataclasses import fields
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from randsmooth.attacks.method import AttackMethod
from randsmooth.fingerprints import model_fingerprint
from randsmooth.fitting import unwrap

__all__ = ["array_digest", "certification_identity", "described", "trained_identity"]

_CERTIFICATION = ("alpha", "bound", "n_selection", "n_estimation", "common_noise")


def described(method: AttackMethod) -> dict[str, Any]:
    """Return the settings of an attack as plain values.

    Parameters
    ----------
    method : AttackMethod
        The attack.

    Returns
    -------
    dict of str to object
        Numbers and text; an attack within by name and settings, a classifier by `trained_identity`,
        an array by its digest.
    """
    return {setting.name: _plain(getattr(method, setting.name)) for setting in fields(method)}


def trained_identity(clf: Any) -> dict[str, Any]:
    """Return what tells a trained classifier from others.

    Parameters
    ----------
    clf : SmoothedClassifier, torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        The classifier.

    Returns
    -------
    dict of str to object
        Its class and a digest of its weights, None where that cannot be had; the noise, its seed
        and the precision of one that is smoothed.
    """
    smoothed = hasattr(clf, "certificates")
    base = clf.estimator_ if smoothed else unwrap(FrozenEstimator(clf))[0]
    try:
        weights = model_fingerprint(base)
    except TypeError:
        weights = None
    identity: dict[str, Any] = {"class": type(base).__name__, "model": weights}
    if smoothed:
        identity["noise"] = repr(clf.noise_)
        identity["noise_seed"] = int(clf.noise_seed_)
        identity["base_autocast"] = clf.autocast
    return identity


def certification_identity(clf: Any) -> dict[str, Any]:
    """Return what certificates depend on, apart from the model and the noise.

    Parameters
    ----------
    clf : SmoothedClassifier or other classifier
        The classifier.

    Returns
    -------
    dict of str to object
        Its parameters; empty where there are no certificates.
    """
    if not hasattr(clf, "certificates"):
        return {}
    return {name: _parameter(getattr(clf, name)) for name in _CERTIFICATION}


def array_digest(array: NDArray[Any]) -> str:
    """Return text that changes with any bit of an array.

    Parameters
    ----------
    array : ndarray
        Numbers or text of a fixed length.

    Returns
    -------
    str
        A digest of type, shape and bits.
    """
    digest = blake2b(f"{array.dtype} {array.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, AttackMethod):
        return {"name": value.name} | described(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return array_digest(value)
    return trained_identity(value)


def _parameter(value: Any) -> Any:
    """Return a parameter of a classifier; a function by its name, since its address changes."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not callable(value):
        return repr(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
