"""Bases that are never trained: which label stands behind each of their classes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from skorch import NeuralNet
from torch import nn

from randsmooth.fitting import input_dtype, is_net
from randsmooth.network import net_base

__all__ = ["frozen_classes"]


def frozen_classes(estimator: Any, X: NDArray[Any], y: NDArray[Any], device: str) -> NDArray[Any]:
    """Return the labels of a trained estimator's classes, in the order of their indices.

    Parameters
    ----------
    estimator : object
        The trained estimator.

    X : ndarray of shape (n_samples, ...)
        Inputs, of which the first is classified to count a net's columns.

    y : ndarray of shape (n_samples,)
        Their labels.

    device : str
        Where a module runs.

    Returns
    -------
    ndarray of shape (n_classes,)
        A scikit-learn classifier's own classes, or a module's that has some. For another net the
        sorted labels of `y` where their number is that of its columns, else 0 to K - 1.

    Raises
    ------
    ValueError
        If `y` holds a label that the estimator cannot return.

    NotFittedError
        If the estimator was never trained.
    """
    _check_trained(estimator)
    seen = np.unique(y)
    if not is_net(estimator) or (
        isinstance(estimator, nn.Module) and hasattr(estimator, "classes_")
    ):
        classes = np.asarray(estimator.classes_)
        _check_known(seen, classes, "Hand fit labels that the trained estimator knows.")
        return classes
    sample = X[:1].astype(input_dtype(estimator, X.dtype), copy=False)
    n_classes = net_base(estimator, sample, device).n_classes
    if len(seen) == n_classes:
        return seen
    numbers = np.arange(n_classes)
    remedy = f"Hand fit all {n_classes} labels, or labels from 0 to {n_classes - 1}."
    _check_known(seen, numbers, remedy)
    warnings.warn(
        f"y holds {len(seen)} labels but the frozen net has {n_classes} columns: the columns are "
        f"taken to be the labels 0 to {n_classes - 1}.",
        UserWarning,
        stacklevel=3,
    )
    return numbers


def _check_known(seen: NDArray[Any], classes: NDArray[Any], remedy: str) -> None:
    # Text is never a number, though NumPy would compare "0" with 0 as text.
    text = [labels.dtype.kind in "OUS" for labels in (seen, classes)]
    unknown = np.setdiff1d(seen, classes) if text[0] == text[1] else seen
    if len(unknown):
        raise ValueError(
            f"y must hold labels that the frozen estimator knows, got {unknown[:5].tolist()}, "
            f"which are not among {classes[:10].tolist()}. {remedy}"
        )


def _check_trained(estimator: Any) -> None:
    trained = isinstance(estimator, nn.Module)
    if isinstance(estimator, NeuralNet):
        trained = estimator.initialized_
    elif not trained and not isinstance(estimator, type):
        trained = hasattr(estimator, "classes_")
    if not trained:
        raise NotFittedError(
            f"estimator must be trained before it is frozen, got {estimator!r}. Fit it first, or "
            f"hand it in without FrozenEstimator."
        )
