"""Row-wise losses of predictions, as functions of log-probabilities.

Everything here is differentiable in its arguments and reduces over the classes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from skorch import NeuralNet, NeuralNetClassifier
from torch import Tensor, nn

__all__ = [
    "DIVERGENCES",
    "cross_entropy",
    "entropy",
    "kl_divergence",
    "log_probabilities",
    "mean_log_probabilities",
    "negative_log_likelihood",
]


def log_probabilities(net: NeuralNet, outputs: Tensor) -> Tensor:
    """Return the log-probabilities behind a module's outputs, as the net's criterion reads them.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.

    outputs : Tensor of shape (n_rows, n_classes) or (n_rows,)
        What its module returned: probabilities for a classifier under ``NLLLoss``, one logit a row
        under ``BCEWithLogitsLoss``, one probability under ``BCELoss``, logits or log-probabilities
        of at least two classes under anything else.

    Returns
    -------
    Tensor of shape (n_rows, n_classes)
        Log-probabilities, in single precision where the outputs have less.

    Raises
    ------
    ValueError
        If there is one column, and the criterion does not say what it means.
    """
    if outputs.dtype in (torch.float16, torch.bfloat16):
        outputs = outputs.float()
    if isinstance(net.criterion_, nn.BCEWithLogitsLoss):
        logit = outputs.reshape(len(outputs), -1)[:, :1]
        return nn.functional.logsigmoid(torch.cat([-logit, logit], dim=1))
    if isinstance(net.criterion_, nn.BCELoss):
        p = outputs.reshape(len(outputs), -1)[:, :1]
        return torch.log(torch.cat([1 - p, p], dim=1) + torch.finfo(p.dtype).eps)
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"estimator must return one column per class under {type(net.criterion_).__name__}, "
            f"got outputs of shape {tuple(outputs.shape)}. Take BCEWithLogitsLoss for one logit."
        )
    if isinstance(net.criterion_, nn.NLLLoss) and isinstance(net, NeuralNetClassifier):
        return torch.log(outputs + torch.finfo(outputs.dtype).eps)
    return nn.functional.log_softmax(outputs, dim=1)


def negative_log_likelihood(log_p: Tensor, targets: Tensor) -> Tensor:
    r"""Return :math:`-\ln p_{y}` of each row.

    Parameters
    ----------
    log_p : Tensor of shape (..., n_rows, n_classes)
        Log-probabilities.

    targets : Tensor of shape (n_rows,) or (n_rows, 1)
        Class indices, of any type.

    Returns
    -------
    Tensor of shape (..., n_rows)
        The losses.

    Raises
    ------
    ValueError
        If the targets are not one class index a row.
    """
    if targets.numel() != log_p.shape[-2]:
        raise ValueError(
            f"y must hold one class index per input, got targets of shape {tuple(targets.shape)} "
            f"for {log_p.shape[-2]} inputs."
        )
    index = targets.long().reshape(-1, 1).expand(*log_p.shape[:-1], 1)
    return -log_p.gather(-1, index).squeeze(-1)


def cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Return :math:`H(p, q) = -\sum_j p_j \ln q_j` of each row.

    Parameters
    ----------
    log_p : Tensor of shape (..., n_classes)
        Log-probabilities of the target.

    log_q : Tensor of shape (..., n_classes)
        Log-probabilities of the prediction.

    Returns
    -------
    Tensor of shape (...)
        The cross-entropies.
    """
    return -(log_p.exp() * log_q).sum(dim=-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    r"""Return :math:`D(p \| q) = \sum_j p_j (\ln p_j - \ln q_j)` of each row.

    Parameters
    ----------
    log_p : Tensor of shape (..., n_classes)
        Log-probabilities of the target.

    log_q : Tensor of shape (..., n_classes)
        Log-probabilities of the prediction.

    Returns
    -------
    Tensor of shape (...)
        The divergences.
    """
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def entropy(log_p: Tensor) -> Tensor:
    r"""Return :math:`-\sum_j p_j \ln p_j` of each row.

    Parameters
    ----------
    log_p : Tensor of shape (..., n_classes)
        Log-probabilities.

    Returns
    -------
    Tensor of shape (...)
        The entropies, in nats.
    """
    return cross_entropy(log_p, log_p)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "kl": kl_divergence,
}
"""What may tie two predictions, by the names that strategies give as `divergence`."""


def mean_log_probabilities(log_p: Tensor) -> Tensor:
    """Return the logarithm of the average probabilities over the first dimension.

    Parameters
    ----------
    log_p : Tensor of shape (n_draws, n_rows, n_classes)
        Log-probabilities under each draw.

    Returns
    -------
    Tensor of shape (n_rows, n_classes)
        Log-probabilities of the soft smoothed classifier, as these draws see it.
    """
    return torch.logsumexp(log_p, dim=0) - math.log(len(log_p))
