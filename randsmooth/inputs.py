"""Inputs as they come: tensors from anywhere, views of any stride."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

__all__ = ["forward_strides", "inputs_as_fitted", "on_host"]


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


def inputs_as_fitted(clf: Any, X: ArrayLike) -> NDArray[Any]:
    """Return the inputs of a fitted classifier as an array.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    X : array-like of shape (n_inputs, ...)
        The inputs, as the user handed them in.

    Returns
    -------
    ndarray of float32 or float64, shape (n_inputs, ...)
        The inputs.

    Raises
    ------
    ValueError
        If they are not finite numbers of the shape seen in `fit`, or not for this noise.
    """
    X = on_host(X)
    accepted = {"dtype": (np.float64, np.float32), "allow_nd": True}
    array: NDArray[Any]
    if len(clf.input_shape_) == 1 and len(getattr(X, "shape", (0, 0))) <= 2:
        array = validate_data(clf, X, reset=False, **accepted)
    else:
        array = check_array(X, input_name="X", estimator=clf, **accepted)
    if array.shape[1:] != clf.input_shape_:
        raise ValueError(
            f"X must hold inputs of shape {clf.input_shape_}, as seen in fit, got inputs of "
            f"shape {array.shape[1:]}."
        )
    clf.noise_.check_inputs(array)
    return forward_strides(array)
