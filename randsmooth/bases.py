"""Base classifiers behind one small protocol: noisy rows in, votes out.

A vote is the index of a class. Where a network's output is not finite there is no vote, and the
index one past the last class says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import Tensor, nn

from randsmooth.affine_head import AffineHead, affine_head

__all__ = [
    "ArrayBase",
    "Base",
    "NetBase",
    "as_table",
    "module_dtype",
    "module_outputs",
    "net_base",
    "torch_device",
]


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

    head : AffineHead or None, default=None
        The network in two parts, where it begins with an affine map.

    channels_last : bool, default=False
        Whether it takes images in that memory format.

    arithmetic : mapping of str to str or bool, default={}
        How it computes, for the record of a run.

    rebuild : callable () -> NetBase or None, default=None
        Makes the base anew in another process, to which traced networks do not travel.
    """

    forward: Callable[[Tensor], Tensor]
    n_classes: int
    dtype: torch.dtype
    device: torch.device
    threshold: float | None = None
    row_values: int = 1
    head: AffineHead | None = None
    channels_last: bool = False
    arithmetic: Mapping[str, Any] = field(default_factory=dict)
    rebuild: Callable[[], NetBase] | None = None

    # Matrix kernels treat odd sizes differently in the last bit, and a vote must not depend on how
    # many others are taken with it.
    row_multiple: ClassVar[int] = 16

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
        # Finite outputs have a finite sum but for overflow, which is no vote either.
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


def module_outputs(estimator: nn.Module | NeuralNet) -> Callable[[Tensor], Tensor]:
    """Return the function from rows to outputs, in evaluation mode, of a module or a net.

    A skorch net goes through its public `evaluation_step`, so that its own `infer` is honoured. Of
    several outputs the first counts, as in skorch.

    Parameters
    ----------
    estimator : torch.nn.Module or skorch.NeuralNet
        A trained module, or an initialised net.

    Returns
    -------
    callable (Tensor) -> Tensor
        The outputs of each row.
    """
    if isinstance(estimator, NeuralNet):

        def run(rows: Tensor) -> Any:
            return estimator.evaluation_step((rows, None), training=False)
    else:

        def run(rows: Tensor) -> Any:
            return estimator.eval()(rows)

    def outputs(rows: Tensor) -> Tensor:
        result = run(rows)
        first: Tensor = result[0] if isinstance(result, tuple) else result
        return first

    return outputs


def module_dtype(module: nn.Module) -> torch.dtype:
    """Return the type of a module's first floating-point parameter, single precision if none.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Returns
    -------
    torch.dtype
        Its type.
    """
    tensors = (t for ts in (module.parameters(), module.buffers()) for t in ts)
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


def net_base(
    estimator: nn.Module | NeuralNet,
    sample: NDArray[Any],
    device: str = "auto",
    n_classes: int | None = None,
    *,
    shortcuts: bool = False,
) -> NetBase:
    """Return the base behind a trained module or net, after looking at its output for one input.

    Parameters
    ----------
    estimator : torch.nn.Module or skorch.NeuralNet
        A trained module, or an initialised net.

    sample : ndarray of shape (1, ...)
        One input, which tells the number of outputs.

    device : str, default="auto"
        Where a module runs; a net stays where it is.

    n_classes : int or None, default=None
        Number of classes; None is the number of columns. Further columns do not vote.

    shortcuts : bool, default=False
        Whether to look for an affine head.

    Returns
    -------
    NetBase
        The base.

    Raises
    ------
    ValueError
        If the outputs are not one row of at least two columns per input, or fewer than the classes.
    """
    module = estimator.module_ if isinstance(estimator, NeuralNet) else estimator
    on = torch.device(
        estimator.device or "cpu" if isinstance(estimator, NeuralNet) else torch_device(device)
    )
    if isinstance(estimator, nn.Module):
        estimator = estimator.to(on)
    dtype = module_dtype(module)
    forward = module_outputs(estimator)
    row = torch.as_tensor(sample, dtype=dtype, device=on)
    with torch.inference_mode(), _largest_tensor(module) as largest:
        outputs = forward(row)
    base = NetBase(
        forward,
        n_classes or 2,
        dtype,
        on,
        row_values=max([row.numel(), *largest]),
        head=affine_head(module.eval(), row) if shortcuts and is_plain(estimator) else None,
        rebuild=partial(net_base, estimator, sample, device, n_classes, shortcuts=shortcuts),
    )
    if not isinstance(outputs, Tensor) or len(outputs) != 1:
        raise ValueError(
            f"estimator must return one row of outputs per input, got {type(outputs).__name__}"
            f"{f' of shape {tuple(outputs.shape)}' if isinstance(outputs, Tensor) else ''}."
        )
    if isinstance(estimator, NeuralNetBinaryClassifier):
        return replace(base, n_classes=2, threshold=_logit_threshold(estimator))
    n_columns = _columns(outputs)
    if n_columns < (n_classes or 2):
        raise ValueError(
            f"estimator must return one column per class, got {n_columns} columns for the "
            f"{n_classes} classes in y."
        )
    return replace(base, n_classes=n_classes or n_columns)


def is_plain(estimator: nn.Module | NeuralNet) -> bool:
    """Return whether an estimator's outputs are its module's, with nothing of its own around it.

    Parameters
    ----------
    estimator : torch.nn.Module or skorch.NeuralNet
        A module or a net.

    Returns
    -------
    bool
        False for a net whose class changes how rows reach the module.
    """
    if not isinstance(estimator, NeuralNet):
        return True
    return all(
        getattr(type(estimator), step) is getattr(NeuralNet, step) and step not in vars(estimator)
        for step in ("infer", "evaluation_step")
    )


@contextmanager
def _largest_tensor(module: nn.Module) -> Iterator[list[int]]:
    """Collect the sizes of the tensors that the module's parts return."""
    sizes: list[int] = []

    def note(part: nn.Module, args: Any, outputs: Any) -> None:
        if isinstance(outputs, Tensor):
            sizes.append(outputs.numel())

    handles = [part.register_forward_hook(note) for part in module.modules()]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _columns(outputs: Tensor) -> int:
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"estimator must return at least two columns, one per class, got outputs of shape "
            f"{tuple(outputs.shape)} for one input. A single-logit network votes by a threshold: "
            f"wrap it in skorch's NeuralNetBinaryClassifier."
        )
    return outputs.shape[1]


def torch_device(device: str) -> torch.device:
    """Return the device a name stands for; "auto" is a GPU where there is one.

    Parameters
    ----------
    device : str
        A torch device or "auto".

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError
        If torch does not know the name.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got {device!r}."
        ) from error


def _logit_threshold(net: NeuralNetBinaryClassifier) -> float:
    """Return the threshold on the net's raw output that its probability threshold stands for."""
    threshold = float(net.threshold)
    if not isinstance(net.criterion_, nn.BCEWithLogitsLoss):
        return threshold
    if not 0 < threshold < 1:
        return float("inf") if threshold >= 1 else -float("inf")
    return float(np.log(threshold) - np.log1p(-threshold))
