"""Base classifiers behind one small protocol: noisy rows in, votes out.

A vote is the index of a class. Where a network's output is not finite there is no vote, and the
index one past the last class says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["ArrayBase", "Base", "NetBase", "as_table"]


class Base(Protocol):
    """A fitted, deterministic classifier that votes."""

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type of the rows it takes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it takes them."""
        ...

    @property
    def row_multiple(self) -> int:
        """Batches are filled up to a multiple of this many rows."""
        ...

    def votes(self, rows: Tensor) -> Tensor:
        """Return the vote of each row.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs of the base's type, on its device.

        Returns
        -------
        Tensor of int64, shape (n_rows,)
            Class indices; `n_classes` where the output was not finite.
        """
        ...


@dataclass(frozen=True)
class NetBase:
    """A torch module or a skorch net.

    Parameters
    ----------
    forward : callable (Tensor) -> Tensor
        Outputs in evaluation mode; see `module_outputs`.

    n_classes : int
        Number of classes. Columns past them do not vote.

    dtype : torch.dtype
        Type of the network's parameters.

    device : torch.device
        Where it takes the rows.

    threshold : float or None, default=None
        For a single output per row: vote for class 1 above it. None for one column a class.

    row_values : int, default=1
        Numbers in the largest tensor that one row passes through.

    module : torch.nn.Module or None, default=None
        The network, where `forward` is its outputs and nothing else: it may then be taken apart.

    row_multiple : int, default=16
        Batches are filled up to a multiple of this many rows.

    rebuild : callable () -> NetBase or None, default=None
        Makes the base anew in another process, to which `forward` may not travel.
    """

    forward: Callable[[Tensor], Tensor]
    n_classes: int
    dtype: torch.dtype
    device: torch.device
    threshold: float | None = None
    row_values: int = 1
    module: nn.Module | None = None
    # Matrix kernels treat odd sizes differently in the last bit, and a vote must not depend on how
    # many others are taken with it.
    row_multiple: int = 16
    rebuild: Callable[[], NetBase] | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return super().__reduce_ex__(protocol) if self.rebuild is None else (self.rebuild, ())

    def votes(self, rows: Tensor) -> Tensor:
        """Return the index of the largest output, or the side of the threshold.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs.

        Returns
        -------
        Tensor of int64, shape (n_rows,)
            Class indices; `n_classes` where an output was not finite.
        """
        # Noise is added in single precision at least; a network may be narrower inside.
        outputs = self.forward(rows.to(self.dtype)).reshape(len(rows), -1)
        if self.threshold is None:
            votes = outputs[:, : self.n_classes].argmax(dim=1)
        else:
            votes = (outputs[:, 0] > self.threshold).long()
        # A sum is finite only where all its terms are. Asking for one costs a GPU a wait.
        if self.device.type == "cpu" and math.isfinite(outputs.sum().item()):
            return votes
        # Overflow of a sum is no vote either, but in double precision that is a matter of theory.
        return torch.where(outputs.double().sum(dim=1).isfinite(), votes, self.n_classes)


@dataclass(frozen=True)
class ArrayBase:
    """A scikit-learn classifier.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    labels : ndarray of shape (n_classes,)
        Its labels in the order of the classes, sorted.

    dtype : torch.dtype
        Type of the rows it takes.

    flat : bool, default=False
        Whether it sees each input as one flat row.

    feature_names : ndarray of str or None, default=None
        Column names, for a classifier that was fitted on a table.
    """

    estimator: Any
    labels: NDArray[Any]
    dtype: torch.dtype
    flat: bool = False
    feature_names: NDArray[Any] | None = None

    row_multiple: ClassVar[int] = 1

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where scikit-learn works: the CPU."""
        return torch.device("cpu")

    def votes(self, rows: Tensor) -> Tensor:
        """Return the index of the predicted label.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs.

        Returns
        -------
        Tensor of int64, shape (n_rows,)
            Class indices.
        """
        array: Any = rows.flatten(1).numpy() if self.flat else rows.numpy()
        if self.feature_names is not None:
            array = as_table(array, self.feature_names)
        predicted = np.asarray(self.estimator.predict(array))
        votes = np.searchsorted(self.labels, predicted)
        return torch.from_numpy(votes.astype(np.int64, copy=False))


def as_table(array: NDArray[Any], feature_names: NDArray[Any]) -> Any:
    """Return an array as a pandas table, for classifiers that choose columns by name.

    Parameters
    ----------
    array : ndarray of shape (n_rows, n_features)
        The values.

    feature_names : ndarray of str, shape (n_features,)
        The column names.

    Returns
    -------
    pandas.DataFrame
        The table.
    """
    import pandas as pd

    return pd.DataFrame(array, columns=feature_names, copy=False)
