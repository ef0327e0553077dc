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

__all__ = ["ArrayBase", "Base", "NetBase", "as_table", "softmax"]


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

    def scores(self, rows: Tensor) -> Tensor:
        """Return the probability that the classifier gives each class.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs of the base's type, on its device.

        Returns
        -------
        Tensor of a floating-point type, shape (n_rows, n_classes)
            Probabilities; anything but numbers from 0 to 1 where there are none.

        Raises
        ------
        TypeError
            If it gives no probabilities.
        """
        ...

    def confidence(self, rows: Tensor, labels: Tensor, measure: str) -> Tensor:
        """Return how confident the classifier is in one class for each row.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs of the base's type, on its device.

        labels : Tensor of int64, shape (n_rows,)
            Which class.

        measure : {"score", "margin"}
            Its probability, or by how much that exceeds the largest of the others.

        Returns
        -------
        Tensor of a floating-point type, shape (n_rows,)
            Where the measure lies in its range, from 0 to 1; any other number where there is none.
        """
        ...


def softmax(outputs: Tensor) -> Tensor:
    """Return the probabilities behind logits.

    Parameters
    ----------
    outputs : Tensor of shape (n_rows, n_columns)
        Logits.

    Returns
    -------
    Tensor of shape (n_rows, n_columns)
        Probabilities.
    """
    return torch.softmax(outputs, dim=1)


def confidence_of(scores: Tensor, labels: Tensor, measure: str) -> Tensor:
    """Return the confidence in one class for each row of probabilities.

    Parameters
    ----------
    scores : Tensor of shape (n_rows, n_classes)
        Probabilities.

    labels : Tensor of int64, shape (n_rows,)
        Which class.

    measure : {"score", "margin"}
        Its probability, or by how much that exceeds the largest of the others.

    Returns
    -------
    Tensor of shape (n_rows,)
        Where the measure lies in its range, from 0 to 1.
    """
    own = scores.gather(1, labels[:, None])[:, 0]
    if measure == "score":
        return own
    others = scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return (own - others + 1) / 2


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

    probabilities : callable (Tensor) -> Tensor, default=softmax
        From outputs to one probability per column.

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
    probabilities: Callable[[Tensor], Tensor] = softmax
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
        return self.votes_of(self.forward(rows.to(self.dtype)))

    def votes_of(self, outputs: Tensor) -> Tensor:
        """Return the votes behind outputs.

        Parameters
        ----------
        outputs : Tensor of shape (n_rows, ...)
            What the network returned for each row.

        Returns
        -------
        Tensor of int64, shape (n_rows,)
            Class indices; `n_classes` where an output was not finite.
        """
        outputs = outputs.reshape(len(outputs), -1)
        if self.threshold is None:
            votes = outputs[:, : self.n_classes].argmax(dim=1)
        else:
            votes = (outputs[:, 0] > self.threshold).long()
        # A sum is finite only where all its terms are. Asking for one costs a GPU a wait.
        if self.device.type == "cpu" and math.isfinite(outputs.sum().item()):
            return votes
        # Overflow of a sum is no vote either, but in double precision that is a matter of theory.
        return torch.where(outputs.double().sum(dim=1).isfinite(), votes, self.n_classes)

    def scores(self, rows: Tensor) -> Tensor:
        """Return the probability of each class.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs.

        Returns
        -------
        Tensor of shape (n_rows, n_classes)
            Probabilities. Columns past the classes take their share and are left out.
        """
        return self.probabilities(self._outputs(rows))[:, : self.n_classes]

    def confidence(self, rows: Tensor, labels: Tensor, measure: str) -> Tensor:
        """Return the confidence in one class for each row.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs.

        labels : Tensor of int64, shape (n_rows,)
            Which class.

        measure : {"score", "margin"}
            Its probability, or its margin.

        Returns
        -------
        Tensor of shape (n_rows,)
            Where the measure lies in its range.
        """
        if self.probabilities is not softmax or measure != "score":
            return confidence_of(self.scores(rows), labels, measure)
        # A softmax of which one number is wanted.
        outputs = self._outputs(rows)
        odds = (outputs - outputs.gather(1, labels[:, None])).exp_()
        return torch.mv(odds, odds.new_ones(odds.shape[1])).reciprocal_()

    def _outputs(self, rows: Tensor) -> Tensor:
        outputs = self.forward(rows.to(self.dtype)).reshape(len(rows), -1)
        # A softmax in reduced precision would miss the range of probabilities.
        return outputs.float() if outputs.element_size() < 4 else outputs


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
        predicted = np.asarray(self.estimator.predict(self._as_seen(rows)))
        votes = np.searchsorted(self.labels, predicted)
        return torch.from_numpy(votes.astype(np.int64, copy=False))

    def scores(self, rows: Tensor) -> Tensor:
        """Return the classifier's `predict_proba`.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs.

        Returns
        -------
        Tensor of float64, shape (n_rows, n_classes)
            Probabilities.

        Raises
        ------
        TypeError
            If the classifier has no `predict_proba`.
        """
        if not hasattr(self.estimator, "predict_proba"):
            raise TypeError(
                f"estimator must have predict_proba where scores are asked for, got "
                f"{self.estimator!r}. Wrap it in sklearn.calibration.CalibratedClassifierCV, or "
                f"certify its votes."
            )
        given = np.asarray(self.estimator.predict_proba(self._as_seen(rows)), dtype=np.float64)
        if given.shape[1] == self.n_classes:
            return torch.from_numpy(given)
        scores = np.zeros((len(given), self.n_classes))
        scores[:, np.searchsorted(self.labels, self.estimator.classes_)] = given
        return torch.from_numpy(scores)

    def confidence(self, rows: Tensor, labels: Tensor, measure: str) -> Tensor:
        """Return the confidence in one class for each row.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs.

        labels : Tensor of int64, shape (n_rows,)
            Which class.

        measure : {"score", "margin"}
            Its probability, or its margin.

        Returns
        -------
        Tensor of float64, shape (n_rows,)
            Where the measure lies in its range.
        """
        return confidence_of(self.scores(rows), labels, measure)

    def _as_seen(self, rows: Tensor) -> Any:
        array: Any = rows.flatten(1).numpy() if self.flat else rows.numpy()
        return array if self.feature_names is None else as_table(array, self.feature_names)


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
