"""Inputs as they come: tensors from anywhere, views of any stride."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

__all__ = ["forward_strides", "on_host"]


def forward_strides(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that torch can share: it knows no negative strides.

    Parameters
    ----------
    array : ndarray
        Any array.

    Returns
    -------
    ndarray
        The array itself, or a copy where a stride is negative.
    """
    return array.copy() if min(array.strides) < 0 else array


def on_host(X: Any) -> Any:
    """Return a tensor as an array, wherever it is, and anything else as it is.

    Parameters
    ----------
    X : object
        The inputs.

    Returns
    -------
    object
        The inputs, where NumPy can see them.
    """
    return X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else X
