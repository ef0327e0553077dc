"""Networks as bases: a trained torch module or skorch net, looked at once and ready to vote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import Tensor, nn

from randsmooth.acceleration import first_output
from randsmooth.bases import NetBase, softmax

__all__ = ["is_plain", "module_dtype", "module_outputs", "net_base", "torch_device"]


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
        return first_output(run(rows))

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
        probabilities=_probabilities(estimator),
        module=module if is_plain(estimator) else None,
        rebuild=partial(net_base, estimator, sample, device, n_classes),
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


def _probabilities(estimator: nn.Module | NeuralNet) -> Callable[[Tensor], Tensor]:
    """Return what turns outputs into probabilities, as skorch's own `predict_proba` does."""
    if not isinstance(estimator, NeuralNet):
        return softmax
    chosen: Callable[[Tensor], Tensor] | str | None = estimator.predict_nonlinearity
    if callable(chosen):
        return chosen
    if chosen == "auto":
        if isinstance(estimator.criterion_, nn.CrossEntropyLoss):
            return softmax
        if isinstance(estimator.criterion_, nn.BCEWithLogitsLoss):
            return _both_sides
    return _as_they_are


def _both_sides(logits: Tensor) -> Tensor:
    positive = torch.sigmoid(logits[:, :1])
    return torch.cat([1 - positive, positive], dim=1)


def _as_they_are(outputs: Tensor) -> Tensor:
    return outputs


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
