"""The encoding of ablated images: hidden pixels look like no colour at all."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["ComplementEncoding"]


class ComplementEncoding(nn.Module):
    r"""First layer of a network for ablated images, which tells hidden pixels from dark ones.

    A value :math:`v` becomes the pair :math:`(v, 1 - v)`, a hidden one :math:`(0, 0)` [1]_: twice
    as many channels. It has no weights. A radius is proved whatever the network; this only helps it
    to learn.

    Parameters
    ----------
    fill : float, default=nan
        What the noise puts in place of a hidden value; see `randsmooth.noise.Ablation`.

    Raises
    ------
    TypeError
        If `fill` is not numeric.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Robustness certificates for sparse adversarial attacks by
       randomized ablation", AAAI 2020.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models.complement import ComplementEncoding
    >>> ComplementEncoding()(torch.tensor([[0.25, float("nan")]]))
    tensor([[0.2500, 0.0000, 0.7500, 0.0000]])
    """

    def __init__(self, fill: float = math.nan) -> None:
        super().__init__()
        if not isinstance(fill, (int, float)):
            raise TypeError(f"fill must be a real number, got {fill!r}.")
        self.fill = float(fill)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pairs.

        Parameters
        ----------
        x : Tensor of shape (n, channels, ...)
            Images with hidden values.

        Returns
        -------
        Tensor of shape (n, 2 * channels, ...)
            All values, then all complements.
        """
        hidden = x.isnan() if math.isnan(self.fill) else x == self.fill
        pairs = torch.cat([x, 1 - x], dim=1)
        return pairs.masked_fill(torch.cat([hidden, hidden], dim=1), 0.0)
