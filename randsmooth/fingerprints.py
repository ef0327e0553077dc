"""What identifies a model and an input: a store of votes must go on with the same ones."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.neighbors import BallTree, KDTree
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from randsmooth.content_digest import ContentDigest, attributes, parts

__all__ = ["criterion_kind", "input_digests", "model_fingerprint"]

_WITHOUT_EFFECT = ("n_jobs", "verbose", "memory")
_BOOKKEEPING = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules"}
_COMPILED = ("_compiled_call_impl", "_is_torch_compile")
# What a net trained with, or learned about its training. Its module says what it was made with.
_TRAINING = (
    vars(NeuralNetClassifier(nn.Module)).keys()
    | {"callbacks_", "classes_inferred_", "criterion_", "init_context_", "module_", "optimizer_"}
    | {"_modules", "_criteria", "_optimizers", "prefixes_", "cuda_dependent_attributes_"}
    | {"_trimmed_for_prediction", "_metadata_request"}
)
_OF_TRAINING = re.compile("(module|criterion|optimizer|iterator_.*|dataset|callbacks)__")


def model_fingerprint(estimator: Any) -> str:
    """Return text that changes with all that decides the votes of a trained model.

    That is its class, weights, buffers and further attributes, whatever their type, and those of
    every part. Models that were saved and loaded, asked before, or trained twice from the same
    seed have the same; so have those that differ in `n_jobs`, in `verbose` or in how a net was
    trained. Code is known by its name only: who edits ``forward`` must start another store. A
    module that changes its own attributes when it is called is another model each time.

    Parameters
    ----------
    estimator : torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        The model.

    Returns
    -------
    str
        A digest.

    Raises
    ------
    TypeError
        If its class cannot be imported, or an attribute somewhere in it cannot be known again,
        such as an open file.
    """
    kind = type(estimator).__qualname__
    if "<locals>" in kind and not isinstance(estimator, nn.Module):
        raise TypeError(
            f"estimator must be of an importable class for a store to know it again, got {kind}. "
            f"Define the class at the top of a module."
        )
    try:
        return ContentDigest().of(estimator).hex()
    except Exception as error:  # attributes can be anything
        raise TypeError(
            f"estimator must consist of values that can be known again, got "
            f"{kind}: {error}. Keep no such attribute on it, or certify without a store."
        ) from error


def criterion_kind(net: NeuralNet) -> type[nn.Module]:
    """Return what the criterion of a net says about its outputs, as skorch reads it.

    Parameters
    ----------
    net : skorch.NeuralNet
        An initialised net.

    Returns
    -------
    type
        `CrossEntropyLoss` or `BCEWithLogitsLoss` where outputs are logits, otherwise `NLLLoss`.
    """
    for kind in (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss):
        if isinstance(net.criterion_, kind):
            return kind
    return nn.NLLLoss


@parts.register(nn.Module)
def _(value: nn.Module) -> list[Any]:
    original = value._modules.get("_orig_mod")
    if original is not None:  # what torch.compile made
        return list(parts(original))
    return [type(value), attributes(vars(value), {*_BOOKKEEPING, *_COMPILED})]


@parts.register(torch.jit.ScriptModule)
def _(value: Any) -> list[Any]:
    children = dict(value.named_children())
    methods = [value._c._get_method(name) for name in sorted(value._c._method_names())]
    # The number in a mangled name says how many were compiled before.
    code = [re.sub(r"___torch_mangle_\d+\.", "", method.code) for method in methods]
    read = sorted({name for text in code for name in re.findall(r"\.(\w+)", text)} - {*children})
    own = [(name, value._c.getattr(name)) for name in read if value._c.hasattr(name)]
    constants = [method.code_with_constants[1] for method in methods]
    return [type(value), value.original_name, code, constants, own, children]


@parts.register(NeuralNet)
def _(value: NeuralNet) -> list[Any]:
    if not hasattr(value, "module_"):  # what a search or an ensemble was made with
        return [type(value), value.module, value.get_params_for("module")]
    own = {
        name: item
        for name, item in vars(value).items()
        if name not in _TRAINING and not _OF_TRAINING.match(name)
    }
    outputs = value.predict_nonlinearity, criterion_kind(value)
    if type(value) is NeuralNetClassifier and not own and outputs == ("auto", nn.CrossEntropyLoss):
        return list(parts(value.module_))  # votes as the module itself does
    if isinstance(value, NeuralNetBinaryClassifier):
        own["threshold"] = float(own["threshold"])
    return [type(value), value.module_, outputs, attributes(own)]


@parts.register(BaseEstimator)
def _(value: Any) -> list[Any]:
    return [type(value), attributes(vars(value), _WITHOUT_EFFECT)]


@parts.register(BaseSearchCV)
def _(value: Any) -> list[Any]:
    if not hasattr(value, "best_estimator_"):
        return [type(value), attributes(value.get_params(deep=False), _WITHOUT_EFFECT)]
    return [type(value), value.best_estimator_]


@parts.register(KDTree)
@parts.register(BallTree)
def _(value: Any) -> list[Any]:
    # The rest follows from these, but for the counters of its queries.
    points, leaf_size, metric, weights = (value.__getstate__()[part] for part in (0, 4, 11, 12))
    return [type(value), points, leaf_size, metric, weights]


def input_digests(X: NDArray[Any]) -> list[bytes]:
    """Return what identifies each input.

    Parameters
    ----------
    X : ndarray of shape (n_inputs, ...)
        The inputs.

    Returns
    -------
    list of bytes
        A digest of the bits of each.
    """
    return [blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in X]
