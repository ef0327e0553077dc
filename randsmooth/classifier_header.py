"""The header of a classifier's file: plain values, of which none is believed before it is seen."""

from __future__ import annotations

import json
import math
import os
import zipfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from randsmooth._archive import storable
from randsmooth.exceptions import InvalidFileError
from randsmooth.noise.names import noise_facts, noise_from_facts
from randsmooth.two_stage import TwoStage

__all__ = [
    "HEADER",
    "SKLEARN",
    "TENSORS",
    "described",
    "is_plain_value",
    "parameters_of",
    "read_members",
    "sealed",
]

HEADER, TENSORS, SKLEARN = "classifier.json", "weights.safetensors", "base.skops"

_FORMAT = {"format": "randsmooth.SmoothedClassifier", "format_version": 1}
_NETS = ("NeuralNetClassifier", "NeuralNetBinaryClassifier")
_CRITERIA = ("CrossEntropyLoss", "BCEWithLogitsLoss", "NLLLoss")
_LEFT_OUT = ("estimator", "noise", "n_estimation", "training", "random_state")
_MOST_VALUES = 2**24  # of one input
_MOST_BYTES = 2**26  # of all labels


def is_plain_value(value: Any) -> bool:
    """Return whether JSON keeps a value as it is.

    Parameters
    ----------
    value : object
        The value.

    Returns
    -------
    bool
        Whether it is a number, text, True, False or None.
    """
    return isinstance(value, bool | int | float | str | None)


def sealed(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header with format and digest.

    Parameters
    ----------
    header : dict
        What it says.

    Returns
    -------
    dict
        The same, and what tells whether it was changed.
    """
    header = {**_FORMAT, **{name: item for name, item in header.items() if name != "digest"}}
    text = json.dumps(header, sort_keys=True).encode()
    return {**header, "digest": blake2b(text, digest_size=16).hexdigest()}


def described(clf: Any) -> dict[str, Any]:
    """Return parameters of a classifier and what was learned, in plain values.

    Parameters
    ----------
    clf : SmoothedClassifier
        The classifier, fitted.

    Returns
    -------
    dict
        Its ``"parameters"`` and what is ``"fitted"``.

    Raises
    ------
    ValueError
        If the bound is a function, or a parameter no plain value.

    TypeError
        If labels are objects other than text.
    """
    if not isinstance(clf.bound, str):
        raise ValueError(f"bound must be a name to be saved, got {clf.bound!r}.")
    given = {name: _plain(value) for name, value in clf.get_params(deep=False).items()}
    for name, value in given.items():
        if name not in _LEFT_OUT and not is_plain_value(value):
            raise ValueError(f"{name} must be a number or a name to be saved, got {value!r}.")
    n_draws, seed = given["n_estimation"], given["random_state"]
    classes = storable(clf.classes_)
    names = getattr(clf, "feature_names_in_", None)
    return {
        "parameters": {
            **{name: value for name, value in given.items() if name not in _LEFT_OUT},
            "noise": clf.noise if isinstance(clf.noise, str) else noise_facts(clf.noise),
            "n_estimation": vars(n_draws) if isinstance(n_draws, TwoStage) else n_draws,
            "training": clf.training if isinstance(clf.training, str | None) else "auto",
            "random_state": seed if isinstance(seed, int | None) else None,
        },
        "fitted": {
            "classes": classes.tolist(),
            "classes_dtype": classes.dtype.str,
            "input_shape": list(clf.input_shape_),
            "noise": noise_facts(clf.noise_),
            "noise_seed": int(clf.noise_seed_),
            "n_features_in_": getattr(clf, "n_features_in_", None),
            "feature_names_in_": None if names is None else [str(name) for name in names],
        },
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def parameters_of(header: dict[str, Any], estimator: Any) -> dict[str, Any]:
    """Return the parameters of the classifier that a header describes.

    Parameters
    ----------
    header : dict
        The header.

    estimator : object
        Its base.

    Returns
    -------
    dict
        Parameters of `SmoothedClassifier`.
    """
    parameters = dict(header["parameters"])
    if isinstance(parameters["noise"], dict):
        parameters["noise"] = noise_from_facts(parameters["noise"])
    if isinstance(parameters["n_estimation"], dict):
        parameters["n_estimation"] = TwoStage(**parameters["n_estimation"])
    return {**parameters, "estimator": estimator}


def read_members(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    """Return header and content of a file.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    header : dict
        Its header, in which all that a classifier needs is there and of the right kind.

    content : bytes
        The base.

    Raises
    ------
    InvalidFileError
        If the file is missing, damaged, or something else.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            # Stored as they are: a small file cannot grow into a large one.
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise InvalidFileError(f"{name} is compressed, which no saved classifier is.")
            if len(members) != 2 or HEADER not in names or not names & {TENSORS, SKLEARN}:
                raise InvalidFileError(f"{name} is no saved classifier: it holds {sorted(names)}.")
            header = json.loads(archive.read(HEADER))
            (other,) = names - {HEADER}
            content = archive.read(other)
        _check_header(header, other)
    except InvalidFileError:
        raise
    except FileNotFoundError as error:
        raise InvalidFileError(f"{name} does not exist.") from error
    except Exception as error:  # damage can surface as any error of zipfile, zlib or json
        raise InvalidFileError(f"{name} is damaged, or no saved classifier: {error!r}") from error
    return header, content


def _check_header(header: dict[str, Any], member: str) -> None:
    if {name: header[name] for name in _FORMAT} != _FORMAT:
        raise InvalidFileError(
            f"it is {header['format']!r} of version {header['format_version']!r}, and this "
            f"randsmooth reads version {_FORMAT['format_version']}; a newer release may read it."
        )
    _check_base(header["base"])
    if (header["base"]["kind"] == "sklearn") != (member == SKLEARN):
        raise InvalidFileError(f"its base is {header['base']['kind']!r}, but it holds {member!r}.")
    _check_classes(header["fitted"])
    _check_inputs(header["fitted"])
    noise_from_facts(header["fitted"]["noise"])
    parameters_of(header, None)
    if sealed(header) != header:
        raise InvalidFileError("its header was changed after it was saved.")


def _check_base(base: dict[str, Any]) -> None:
    if base["kind"] not in ("sklearn", "module", *_NETS):
        raise InvalidFileError(f"its base is of an unknown kind, {base['kind']!r}.")
    _check(base, "frozen", isinstance(base["frozen"], bool), "True or False")
    _check(base, "fingerprint", isinstance(base["fingerprint"], str), "text")
    if base["kind"] == "sklearn":
        return
    arguments, not_kept = base["arguments"], base["not_kept"]
    plain = isinstance(arguments, dict) and all(map(is_plain_value, arguments.values()))
    _check(base, "module", isinstance(base["module"], str), "text")
    _check(base, "arguments", plain, "numbers and text by name")
    _check(base, "not_kept", _is_list(not_kept, str), "a list of names")
    if base["kind"] in _NETS:
        _check(base, "threshold", isinstance(base["threshold"], float), "a number")
        _check(base, "criterion", base["criterion"] in _CRITERIA, f"one of {_CRITERIA}")
        _check(base, "nonlinearity", base["nonlinearity"] in ("auto", None), "'auto' or None")


def _check_classes(fitted: dict[str, Any]) -> None:
    classes = fitted["classes"]
    _check(fitted, "classes", _is_list(classes, bool | int | float | str), "a list of labels")
    _check(fitted, "classes", len(classes) >= 2, "at least two labels")
    dtype = np.dtype(fitted["classes_dtype"])
    if dtype.kind not in "biufU":
        raise InvalidFileError(f"its labels are of dtype {fitted['classes_dtype']!r}.")
    fits = dtype.itemsize * len(classes) <= _MOST_BYTES
    _check(fitted, "classes_dtype", fits, f"at most {_MOST_BYTES:,} bytes for all labels")
    labels = np.array(classes, dtype=dtype)
    same = labels.tolist() == classes and len(set(classes)) == len(classes)
    _check(fitted, "classes", same, f"different labels of dtype {dtype.str}")


def _check_inputs(fitted: dict[str, Any]) -> None:
    shape, n_features, names = (
        fitted[name] for name in ("input_shape", "n_features_in_", "feature_names_in_")
    )
    whole = _is_list(shape, int) and len(shape) > 0 and all(size > 0 for size in shape)
    _check(fitted, "input_shape", whole, "a list of positive whole numbers")
    fits = math.prod(shape) <= _MOST_VALUES
    _check(fitted, "input_shape", fits, f"at most {_MOST_VALUES:,} values")
    agrees = n_features in (None, shape[0])
    _check(fitted, "n_features_in_", agrees, f"that of the shape {shape}, or None")
    named = names is None or (_is_list(names, str) and len(names) == shape[0])
    _check(fitted, "feature_names_in_", named, f"{shape[0]} names, or None")
    seed = fitted["noise_seed"]
    known = isinstance(seed, int) and 0 <= seed < 2**31
    _check(fitted, "noise_seed", known, "a whole number from 0 to 2**31 - 1")


def _is_list(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _check(section: dict[str, Any], name: str, holds: bool, must: str) -> None:
    if not holds:
        raise InvalidFileError(f"its {name} must be {must}, got {str(section[name])[:100]}.")
