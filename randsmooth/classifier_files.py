"""Fitted classifiers on disk, without pickle: tensors, plain values, and names that are allowed."""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from randsmooth._archive import storable
from randsmooth._files import written_whole
from randsmooth.entrance_memory import EntranceMemory
from randsmooth.exceptions import InvalidFileError
from randsmooth.fitting import unwrap
from randsmooth.noise.names import noise_facts, noise_from_facts
from randsmooth.two_stage import TwoStage

__all__ = ["ClassifierFiles"]

_FORMAT = {"format": "randsmooth.SmoothedClassifier", "format_version": 1}
_HEADER, _TENSORS, _SKLEARN = "classifier.json", "weights.safetensors", "base.skops"
_ALLOWED = ("randsmooth.models",)
_NETS = {kind.__name__: kind for kind in (NeuralNetClassifier, NeuralNetBinaryClassifier)}
_MOST_TIMES_LARGER = 1000  # what compression of honest content reaches
_LEFT_OUT = ("estimator", "noise", "n_estimation", "training", "random_state")


class ClassifierFiles:
    """Methods of `SmoothedClassifier` that write it down and read it back."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier to one file, without pickle.

        Weights are kept as safetensors, parameters as JSON, a scikit-learn base by skops. The
        training strategy is not kept, unless it is known by name, nor is a skorch net's optimiser.

        Parameters
        ----------
        path : str or path-like
            The file to write, whole or not at all.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.

        ValueError
            If the noise is not one of `randsmooth.noise.NOISES`, or the bound a function.

        TypeError
            If the base is a net of a class of its own, or labels are objects other than text.

        ImportError
            If the base needs skops and it is not installed.

        Examples
        --------
        >>> import os, tempfile
        >>> from randsmooth import SmoothedClassifier
        >>> from randsmooth.models import LeNet
        >>> import numpy as np
        >>> X = np.random.default_rng(0).random((20, 1, 28, 28), dtype=np.float32)
        >>> clf = SmoothedClassifier(LeNet, training=None, n_estimation=100, random_state=0)
        >>> clf = clf.fit(X, np.arange(20) % 10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.save(os.path.join(folder, "clf.rs"))
        ...     again = SmoothedClassifier.load(os.path.join(folder, "clf.rs"))
        >>> bool((again.certificates(X).counts == clf.certificates(X).counts).all())
        True
        """
        check_is_fitted(self)
        kind, facts, content = _base_content(self)
        header = {**_FORMAT, "base": {"kind": kind, **facts}, **_described(self)}
        with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr(_HEADER, json.dumps(header))
            archive.writestr(_SKLEARN if kind == "sklearn" else _TENSORS, content)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        module: Any = None,
        trusted: Sequence[str] | None = None,
    ) -> Self:
        """Return a classifier that `save` wrote. It gives the same votes, bit for bit.

        Parameters
        ----------
        path : str or path-like
            The file.

        module : torch.nn.Module, callable () -> torch.nn.Module, or None, default=None
            A module of the right layers, or what makes one, such as its class. None makes the
            class that the file names, if that is one of `randsmooth.models`.

        trusted : sequence of str or None, default=None
            Types that a scikit-learn base may be made of, beside those that skops trusts by itself;
            trees and their ensembles need ``["sklearn.tree._tree.Tree"]``.

        Returns
        -------
        SmoothedClassifier
            The classifier, fitted.

        Raises
        ------
        InvalidFileError
            If the file is missing, damaged, or something else.

        ValueError
            If the file names a module or a type that is not allowed, or `module` has other layers.

        ImportError
            If the base needs skops and it is not installed.
        """
        header, content = _read(path)
        base = header["base"]
        if base["kind"] == "sklearn":
            trained = _from_skops(content, trusted)
            template = clone(trained)
        else:
            trained = _filled(_made(module, base), content, path)
            if base["kind"] == NeuralNetBinaryClassifier.__name__:
                trained = NeuralNetBinaryClassifier(trained, threshold=base["threshold"])
                trained.initialize()
            template = trained
        clf = cls(**_parameters(header, FrozenEstimator(trained) if base["frozen"] else template))
        clf._restore(header, trained)
        return clf

    def _restore(self: Any, header: dict[str, Any], trained: Any) -> None:
        fitted = header["fitted"]
        self.estimator_ = trained
        self.classes_ = np.array(fitted["classes"], dtype=fitted["classes_dtype"])
        self.input_shape_ = tuple(fitted["input_shape"])
        self.noise_ = noise_from_facts(fitted["noise"])
        self.noise_seed_ = int(fitted["noise_seed"])
        self._memory = EntranceMemory()
        for name in ("n_features_in_", "feature_names_in_"):
            if fitted.get(name) is not None:
                value = fitted[name]
                setattr(self, name, np.array(value, dtype=object) if name[0] == "f" else value)


def _base_content(clf: Any) -> tuple[str, dict[str, Any], bytes]:
    """Return what kind of base there is, what is known of it, and its bytes."""
    trained = clf.estimator_
    frozen = unwrap(clf.estimator)[1]
    module = trained if isinstance(trained, nn.Module) else getattr(trained, "module_", None)
    if module is None:
        return "sklearn", {"frozen": frozen}, _to_skops(trained)
    kind = "module" if module is trained else type(trained).__name__
    if kind != "module" and _NETS.get(kind) is not type(trained):
        raise TypeError(
            f"estimator must be a torch module or a {' or a '.join(_NETS)} to be saved, got "
            f"{type(trained).__name__}. Wrap its module_ in FrozenEstimator, and fit that."
        )
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in module.state_dict().items()
    }
    given = {} if kind == "module" else trained.get_params_for("module")
    facts = {
        "frozen": frozen,
        "module": f"{type(module).__module__}:{type(module).__qualname__}",
        "arguments": {name: value for name, value in given.items() if _is_plain(value)},
        "threshold": float(getattr(trained, "threshold", 0.5)),
    }
    content: bytes = save(tensors)
    return kind, facts, content


def _described(clf: Any) -> dict[str, Any]:
    """Return parameters and what was learned, in plain values."""
    if not isinstance(clf.bound, str):
        raise ValueError(f"bound must be a name to be saved, got {clf.bound!r}.")
    parameters = {
        name: value
        for name, value in clf.get_params(deep=False).items()
        if name not in _LEFT_OUT and _is_plain(value)
    }
    n_draws = clf.n_estimation
    classes = storable(clf.classes_)
    names = getattr(clf, "feature_names_in_", None)
    return {
        "parameters": {
            **parameters,
            "noise": clf.noise if isinstance(clf.noise, str) else noise_facts(clf.noise),
            "n_estimation": vars(n_draws) if isinstance(n_draws, TwoStage) else n_draws,
            "training": clf.training if isinstance(clf.training, str | None) else "auto",
            "random_state": clf.random_state if isinstance(clf.random_state, int | None) else None,
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


def _parameters(header: dict[str, Any], estimator: Any) -> dict[str, Any]:
    parameters = dict(header["parameters"])
    if isinstance(parameters["noise"], dict):
        parameters["noise"] = noise_from_facts(parameters["noise"])
    if isinstance(parameters["n_estimation"], dict):
        parameters["n_estimation"] = TwoStage(**parameters["n_estimation"])
    return {**parameters, "estimator": estimator}


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    """Return header and content of a file, of which nothing is believed before it is seen."""
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(Path(path)) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            # Stored as they are: a small file cannot grow into a large one.
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise InvalidFileError(f"{name} is compressed, which no saved classifier is.")
            if len(members) != 2 or _HEADER not in names or not names & {_TENSORS, _SKLEARN}:
                raise InvalidFileError(f"{name} is no saved classifier: it holds {sorted(names)}.")
            header = json.loads(archive.read(_HEADER))
            (other,) = names - {_HEADER}
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
    base, fitted = header["base"], header["fitted"]
    if base["kind"] not in ("sklearn", "module", *_NETS):
        raise InvalidFileError(f"its base is of an unknown kind, {base['kind']!r}.")
    if (base["kind"] == "sklearn") != (member == _SKLEARN):
        raise InvalidFileError(f"its base is {base['kind']!r}, but it holds {member!r}.")
    if np.dtype(fitted["classes_dtype"]).kind not in "biufU":
        raise InvalidFileError(f"its labels are of dtype {fitted['classes_dtype']!r}.")
    noise_from_facts(fitted["noise"])


def _made(module: Any, base: dict[str, Any]) -> nn.Module:
    """Return a module of the layers that the file is about, from the caller or by its name."""
    if isinstance(module, nn.Module):
        return _checked_module(clone(module, safe=False))
    if module is not None:
        return _checked_module(module())
    package, _, name = str(base["module"]).partition(":")
    if not any(package == allowed or package.startswith(f"{allowed}.") for allowed in _ALLOWED):
        raise ValueError(
            f"module must be given for a class outside {' and '.join(_ALLOWED)}: the file names "
            f"{package}.{name}. Call load(path, module={name.rpartition('.')[2]})."
        )
    kind = getattr(importlib.import_module(package), name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InvalidFileError(f"the file names {package}.{name}, which is no module.")
    return _checked_module(kind(**base["arguments"]))


def _checked_module(made: Any) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise TypeError(f"module must make a torch module, got {made!r}.")
    return made


def _filled(module: nn.Module, content: bytes, path: str | os.PathLike[str]) -> nn.Module:
    """Return the module with the weights of the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InvalidFileError(f"{os.fspath(path)} holds no weights: {error}") from error
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"module must have the layers of the file: {error}") from error
    return module.eval()


def _to_skops(trained: Any) -> bytes:
    content: bytes = _skops().dumps(trained)
    return content


def _from_skops(content: bytes, trusted: Sequence[str] | None) -> Any:
    skops = _skops()
    allowed = set(trusted or ())
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST_TIMES_LARGER * len(content):
            raise InvalidFileError(f"it would unpack to {size:,} bytes.")
        unknown = sorted(set(skops.get_untrusted_types(data=content)) - allowed)
    except Exception as error:  # damage can surface as any error of zipfile, json or NumPy
        raise InvalidFileError(f"the base of the file is damaged: {error!r}") from error
    if unknown:
        raise ValueError(
            f"trusted must name every type that skops does not trust by itself, got {trusted!r} "
            f"for a file with {', '.join(unknown)}. Add those that you trust."
        )
    try:
        return skops.loads(content, trusted=sorted(allowed))
    except Exception as error:
        raise InvalidFileError(f"the base of the file is damaged: {error!r}") from error


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "scikit-learn bases are saved by skops, which is not installed: "
            "pip install 'randsmooth[skops]'."
        ) from error
    return skops.io


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | None)
