"""Parts that torch.compile leaves as they are. Saying so costs seconds: imported where used."""

from __future__ import annotations

import math
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from randsmooth.acceleration import first_output
from randsmooth.denoised.parts import logarithms
from randsmooth.fitting import voting_base

__all__ = ["ClassifierModule", "NetModule"]


class ClassifierModule(nn.Module):
    """A scikit-learn classifier that takes and returns tensors.

    Parameters
    ----------
    estimator : object
        A fitted classifier.
    """

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.original = estimator
        self.classes_ = estimator.classes_

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, rows: Tensor) -> Tensor:
        """Return logarithms of probabilities, one-hot rows where there are none.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            The rows, on any device.

        Returns
        -------
        Tensor of shape (n_rows, n_classes)
            Columns in the order of `classes_`, of the rows' type and on their device.
        """
        seen = rows.detach().cpu()
        base = voting_base(
            self.original,
            self.classes_,
            seen.numpy(),
            device="cpu",
            feature_names=getattr(self.original, "feature_names_in_", None),
        )
        votes = base.votes(seen)[:, None]
        if not hasattr(self.original, "predict_proba"):
            one_hot = torch.zeros((len(rows), base.n_classes), dtype=rows.dtype)
            return one_hot.scatter_(1, votes, 1).to(rows.device)
        columns = logarithms(base.scores(seen).to(rows.dtype))
        # Ties, rounding, or a rule of its own may let predict choose another than the largest.
        most = columns.amax(dim=1, keepdim=True)
        above = torch.nextafter(most, torch.full_like(most, math.inf))
        own = torch.where(columns.argmax(dim=1, keepdim=True) == votes, most, above)
        return columns.scatter_(1, votes, own).to(rows.device)


class NetModule(nn.Module):
    """A net whose class changes how rows reach its module; it stays where it is.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net.
    """

    def __init__(self, net: NeuralNet) -> None:
        super().__init__()
        self.original = net

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, rows: Tensor) -> Tensor:
        """Return what the net makes of some rows.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            The rows, on any device.

        Returns
        -------
        Tensor
            Its outputs, on their device.
        """
        outputs = first_output(self.original.evaluation_step((rows, None), training=False))
        return outputs.to(rows.device)
