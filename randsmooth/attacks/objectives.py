"""What attacks climb: losses of a smoothed classifier, averaged over draws in either way."""

from __future__ import annotations

import torch
from torch import Tensor

from randsmooth.attacks.smoothed_module import averaged

__all__ = ["LOSSES", "margin", "row_losses"]

LOSSES = ("log_loss", "margin")
"""What an attack may climb."""


def row_losses(log_p: Tensor, labels: Tensor, *, loss: str, average: str, kappa: float) -> Tensor:
    """Return the loss of each row.

    Parameters
    ----------
    log_p : Tensor of shape (n_rows, n_noise, n_classes)
        Log-probabilities under each draw.

    labels : Tensor of int64, shape (n_rows,)
        The classes to lead away from.

    loss : {"log_loss", "margin"}
        The log-loss, or the margin.

    average : {"loss", "probability"}
        The average of the draws' losses, or the loss of the average probability.

    kappa : float
        Where a margin is cut off.

    Returns
    -------
    Tensor of shape (n_rows,)
        The losses.
    """
    if loss == "margin" and average == "loss":
        return margin(log_p, labels[:, None].expand(log_p.shape[:2]), kappa).mean(dim=1)
    averages = averaged(log_p, average)
    if loss == "margin":
        return margin(averages, labels, kappa)
    return -averages.gather(1, labels[:, None])[:, 0]


def margin(log_p: Tensor, labels: Tensor, kappa: float) -> Tensor:
    """Return by how much the best other class leads, at most `kappa` (Carlini and Wagner 2017).

    Parameters
    ----------
    log_p : Tensor of shape (..., n_classes)
        Log-probabilities, or logits: the margin is the same.

    labels : Tensor of int64, shape (...)
        The classes to lead away from.

    kappa : float
        Where the margin is cut off.

    Returns
    -------
    Tensor of shape (...)
        The margins.
    """
    own = log_p.gather(-1, labels[..., None])[..., 0]
    others = log_p.scatter(-1, labels[..., None], -torch.inf).amax(dim=-1)
    return (others - own).clamp_max(kappa)
