"""What may stand in a denoised classifier, made into modules: functions, nets, estimators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn

from randsmooth.acceleration import first_output
from randsmooth.network import is_plain

__all__ = ["classifying_module", "denoising_module", "logarithms", "part_name"]


class _Function(nn.Module):
    """A callable on tensors."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.original = function

    def forward(self, rows: Tensor) -> Tensor:
        return self.original(rows)


class _Columns(nn.Module):
    """A module whose outputs are made into one column a class."""

    def __init__(self, module: nn.Module, columns: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.columns = columns

    def forward(self, rows: Tensor) -> Tensor:
        return self.columns(first_output(self.module(rows)))


class _LogProbabilities:
    """Logarithms of what a nonlinearity makes of outputs."""

    def __init__(self, nonlinearity: Callable[[Tensor], Tensor] | None = None) -> None:
        self.nonlinearity = nonlinearity

    def __call__(self, outputs: Tensor) -> Tensor:
        probabilities = outputs if self.nonlinearity is None else self.nonlinearity(outputs)
        return logarithms(probabilities)


class _TwoSides:
    """Zero, and by how much the logit of the second class exceeds a threshold."""

    def __init__(self, threshold: float, *, of_logits: bool) -> None:
        self.of_logits = of_logits
        self.threshold = math.log(threshold) - math.log1p(-threshold)

    def __call__(self, outputs: Tensor) -> Tensor:
        logit = outputs.reshape(len(outputs), -1)[:, :1]
        if not self.of_logits:
            logit = torch.logit(logit, eps=torch.finfo(logit.dtype).eps)
        return torch.cat([torch.zeros_like(logit), logit - self.threshold], dim=1)


def denoising_module(denoiser: Any) -> nn.Module:
    """Return a denoiser as a module.

    Parameters
    ----------
    denoiser : torch.nn.Module, skorch.NeuralNet or callable (Tensor) -> Tensor
        The denoiser.

    Returns
    -------
    torch.nn.Module
        The module itself, or one around what was handed in.

    Raises
    ------
    TypeError
        If it is none of these.

    NotFittedError
        If a net is not fitted.
    """
    if isinstance(denoiser, nn.Module):
        return denoiser
    if isinstance(denoiser, NeuralNet):
        return _module_of(denoiser, "denoiser")
    if callable(denoiser) and not isinstance(denoiser, type):
        return _Function(denoiser)
    raise TypeError(
        f"denoiser must be a torch module, a fitted skorch net or a callable on tensors, got "
        f"{denoiser!r}."
    )


def classifying_module(base: Any) -> nn.Module:
    """Return a trained classifier as a module with one column a class.

    Parameters
    ----------
    base : torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        The classifier.

    Returns
    -------
    torch.nn.Module
        The module itself, or one around what was handed in, whose largest column is that of the
        class which `predict` returns.

    Raises
    ------
    TypeError
        If it is none of these.

    NotFittedError
        If a net or classifier is not fitted.

    ValueError
        If the threshold of a binary net is not inside (0, 1).
    """
    if isinstance(base, FrozenEstimator):
        base = base.estimator
    if isinstance(base, nn.Module):
        return base
    if isinstance(base, NeuralNet):
        module, columns = _module_of(base, "base"), _columns_of(base)
        return module if columns is None else _Columns(module, columns)
    if isinstance(base, type) or not (hasattr(base, "fit") and hasattr(base, "predict")):
        raise TypeError(
            f"base must be a torch module, a fitted skorch net or a fitted scikit-learn "
            f"classifier, got {base!r}."
        )
    if not hasattr(base, "classes_"):
        raise NotFittedError(f"base must be a fitted classifier, got {base!r}. Fit it first.")
    from randsmooth.denoised.uncompiled import ClassifierModule

    return ClassifierModule(base)


def logarithms(probabilities: Tensor) -> Tensor:
    """Return finite logarithms, of zeros too.

    Parameters
    ----------
    probabilities : Tensor
        Of any shape.

    Returns
    -------
    Tensor
        Their logarithms.
    """
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _module_of(net: NeuralNet, name: str) -> nn.Module:
    if not net.initialized_:
        raise NotFittedError(f"{name} must be fitted, got {type(net).__name__}. Fit it first.")
    if is_plain(net):
        module: nn.Module = net.module_
        return module
    from randsmooth.denoised.uncompiled import NetModule

    return NetModule(net)


def _columns_of(net: NeuralNet) -> Callable[[Tensor], Tensor] | None:
    """Return what makes logits of a net's outputs, None where they are logits."""
    if isinstance(net, NeuralNetBinaryClassifier):
        if not 0 < net.threshold < 1:
            raise ValueError(f"base must have a threshold inside (0, 1), got {net.threshold!r}.")
        of_logits = isinstance(net.criterion_, nn.BCEWithLogitsLoss)
        return _TwoSides(net.threshold, of_logits=of_logits)
    if callable(net.predict_nonlinearity):
        return _LogProbabilities(net.predict_nonlinearity)
    if isinstance(net, NeuralNetClassifier) and isinstance(net.criterion_, nn.NLLLoss):
        return _LogProbabilities()
    return None


def part_name(part: nn.Module) -> str:
    """Return the name of the class of what was handed in as a part.

    Parameters
    ----------
    part : torch.nn.Module
        What `denoising_module` or `classifying_module` returned.

    Returns
    -------
    str
        The name, for a message.
    """
    return type(getattr(part, "original", part)).__name__
