"""What identifies a model and an input: a store of votes must go on with the same ones."""

from __future__ import annotations

from hashlib import blake2b
from pickle import PicklingError
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn

__all__ = ["input_digests", "model_fingerprint"]


def model_fingerprint(estimator: Any) -> str:
    """Return text that changes with any weight of a trained model.

    Parameters
    ----------
    estimator : torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        The model.

    Returns
    -------
    str
        A digest: of the layers, names, types and bits of a network; of everything in another model.

    Raises
    ------
    TypeError
        If another model is of a class that cannot be imported.
    """
    module = estimator.module_ if isinstance(estimator, NeuralNet) else estimator
    if not isinstance(module, nn.Module):
        try:
            return str(joblib.hash(estimator))
        except PicklingError as error:
            raise TypeError(
                f"estimator must be of an importable class for a store to know it again, got "
                f"{type(estimator).__qualname__}: {error}"
            ) from error
    digest = blake2b(f"{type(module).__qualname__} {module}".encode(), digest_size=16)
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(bits.numpy().data)
    return digest.hexdigest()


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
