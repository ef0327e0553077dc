"""Fitted classifiers on disk, without pickle: tensors, plain values, and names that are allowed."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from randsmooth._files import written_whole
from randsmooth.classifier_header import (
    HEADER,
    SKLEARN,
    TENSORS,
    described,
    is_plain_value,
    parameters_of,
    read_members,
    sealed,
)
from randsmooth.classifier_modules import filled, made_module, tensors_of
from randsmooth.entrance_memory import EntranceMemory
from randsmooth.exceptions import InvalidFileError
from randsmooth.fingerprints import criterion_kind, model_fingerprint
from randsmooth.fitting import is_net, unwrap
from randsmooth.network import net_base
from randsmooth.noise.names import noise_from_facts
from randsmooth.parameters import check_parameters

__all__ = ["ClassifierFiles"]

_NETS = {kind.__name__: kind for kind in (NeuralNetClassifier, NeuralNetBinaryClassifier)}
_MOST_TIMES_LARGER = 1000  # what compression of honest content reaches
_CRITERIA = {
    "CrossEntropyLoss": nn.CrossEntropyLoss,
    "BCEWithLogitsLoss": nn.BCEWithLogitsLoss,
    "NLLLoss": nn.NLLLoss,  # stands for all whose inputs are probabilities already
}


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
            If the noise is not one of `randsmooth.noise.NOISES`, or the bound or what a net makes
            of its outputs a function.

        TypeError
            If the base is a net of a class of its own, or inside a Pipeline, or something else that
            skops cannot save, or labels are objects other than text.

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
        fingerprint = model_fingerprint(self.estimator_)
        base = {"kind": kind, "fingerprint": fingerprint, **facts}
        header = sealed({"base": base, **described(self)})
        with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr(HEADER, json.dumps(header))
            archive.writestr(SKLEARN if kind == "sklearn" else TENSORS, content)

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
            A module of the right layers, or what makes one. A class is called with the arguments
            that the file keeps: numbers, text, True, False and None. Anything else is called
            without. None makes the class that the file names, if that is one of
            `randsmooth.models`.

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
            If the file names a module or a type that is not allowed, or `module` has other layers
            or attributes, or is a class that needs arguments which the file does not keep.

        ImportError
            If the base needs skops and it is not installed.
        """
        header, content = read_members(path)
        base, name = header["base"], os.fspath(path)
        if base["kind"] == "sklearn":
            trained = _from_skops(content, trusted)
            template = clone(trained) if hasattr(trained, "get_params") else trained
        else:
            tensors = tensors_of(content, name)
            trained = template = _net(filled(made_module(module, base, tensors), tensors), base)
        with _as_invalid(name):
            clf = cls(
                **parameters_of(header, FrozenEstimator(trained) if base["frozen"] else template)
            )
            check_parameters(clf)
            clf._restore(header, trained)
            _check_shapes(clf, base["frozen"])
        if model_fingerprint(trained) != base["fingerprint"]:
            if module is None:
                raise InvalidFileError(f"{name} is damaged: its base is not what was saved.")
            raise ValueError(
                f"module must be as it was when the classifier was saved, got {module!r}, which "
                f"with the weights of the file has another attribute, buffer or class. Hand in a "
                f"function that makes it with the same arguments."
            )
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

    given = {} if kind == "module" else trained.get_params_for("module")
    facts = {
        "frozen": frozen,
        "module": f"{type(module).__module__}:{type(module).__qualname__}",
        "arguments": {name: value for name, value in given.items() if is_plain_value(value)},
        "not_kept": [name for name, value in given.items() if not is_plain_value(value)],
        **({} if kind == "module" else _outputs(trained)),
    }
    content: bytes = save(_state(module))
    return kind, facts, content


def _state(module: nn.Module) -> dict[str, torch.Tensor]:
    state = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"estimator must have tensors only in its state to be saved, got "
                f"{type(value).__name__} in {name}. Let get_extra_state return a tensor."
            )
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}


def _outputs(net: Any) -> dict[str, Any]:
    """Return what a net makes of the outputs of its module."""
    if net.predict_nonlinearity not in ("auto", None):
        raise ValueError(
            f"predict_nonlinearity must be 'auto' or None to be saved, got "
            f"{net.predict_nonlinearity!r}. Make it the module's last layer."
        )
    return {
        "threshold": float(getattr(net, "threshold", 0.5)),
        "criterion": criterion_kind(net).__name__,
        "nonlinearity": net.predict_nonlinearity,
    }


def _net(module: nn.Module, base: dict[str, Any]) -> Any:
    """Return the module as the kind of base that was saved."""
    outputs = base.get("nonlinearity"), base.get("criterion")
    binary = base["kind"] == NeuralNetBinaryClassifier.__name__
    if base["kind"] == "module" or (not binary and outputs == ("auto", "CrossEntropyLoss")):
        return module  # its outputs are logits
    how = {"train_split": None, "verbose": 0, "predict_nonlinearity": outputs[0]}
    if binary:
        how["threshold"] = base["threshold"]
    net = _NETS[base["kind"]](module, criterion=_CRITERIA[base["criterion"]], **how)
    return net.initialize()


def _check_shapes(clf: Any, frozen: bool) -> None:
    """Refuse labels and a shape of inputs that the base does not have."""
    trained, shape, n_classes = clf.estimator_, clf.input_shape_, len(clf.classes_)
    if is_net(trained):
        row = np.zeros((1, *shape), dtype=np.float32)
        if net_base(trained, row, "cpu", n_classes).n_classes != n_classes:
            raise ValueError(f"its base has two classes, not {n_classes}")
        return
    labels = clf.classes_ if frozen else np.arange(n_classes)
    if not np.array_equal(trained.classes_, labels):
        raise ValueError(f"its base has the classes {trained.classes_}, not {labels}")
    if len(shape) == 1 and shape[0] != getattr(trained, "n_features_in_", shape[0]):
        raise ValueError(f"its base has {trained.n_features_in_} features, not {shape}")


@contextmanager
def _as_invalid(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidFileError:
        raise
    except Exception as error:  # whatever a value that no classifier has leads to
        raise InvalidFileError(f"{name} holds no classifier: {error}") from error


def _to_skops(trained: Any) -> bytes:
    skops = _skops()
    try:
        content: bytes = skops.dumps(trained)
        again = skops.loads(content, trusted=skops.get_untrusted_types(data=content))
        if model_fingerprint(again) != model_fingerprint(trained):
            raise ValueError("it would come back changed")
    except Exception as error:  # a method of somebody else's
        raise TypeError(
            f"estimator must be made of what skops can save, got {type(trained).__name__}: "
            f"{error}. Make what is before a net in a Pipeline the first layer of its module."
        ) from error
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
