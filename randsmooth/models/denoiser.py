"""Denoisers: networks that return rows of the shape they are given, with the noise taken off."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral
from typing import Any

from torch import Tensor, nn

__all__ = ["DenseDenoiser", "DnCNN"]


class ResidualDenoiser(nn.Module):
    """A network whose layers predict the noise, which is taken off its input."""

    layers: nn.Sequential

    def forward(self, rows: Tensor) -> Tensor:
        """Return the rows without the noise that the layers see in them.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy rows.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            Denoised rows, not clipped to any range.
        """
        denoised: Tensor = rows - self.layers(rows)
        return denoised


class DnCNN(ResidualDenoiser):
    """Convolutional denoiser for images of any size (Zhang et al. [1]_).

    `depth` convolutions of 3 x 3 that keep the size of the image, with ReLU between them and batch
    normalisation in the middle ones, predict the noise. With the defaults it is the DnCNN-S of the
    paper, of 556,096 parameters, and the size that Salman et al. [2]_ put in front of their
    classifiers. Weights start as torch starts them.

    Parameters
    ----------
    n_channels : int, default=1
        Channels of an image.

    width : int, default=64
        Channels of every hidden layer.

    depth : int, default=17
        Number of convolutions, at least 2. Images of MNIST are served well by 6, at a third of the
        time.

    Raises
    ------
    ValueError
        If a parameter is no integer, or too small.

    See Also
    --------
    DenseDenoiser : For tables.
    randsmooth.denoised.DenoisedClassifier : Puts a denoiser in front of a classifier.

    References
    ----------
    .. [1] K. Zhang, W. Zuo, Y. Chen, D. Meng and L. Zhang, "Beyond a Gaussian denoiser: residual
       learning of deep CNN for image denoising", IEEE Transactions on Image Processing 26(7), 2017,
       section III.

    .. [2] H. Salman, M. Sun, G. Yang, A. Kapoor and J. Z. Kolter, "Denoised smoothing: a provable
       defense for pretrained classifiers", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models.denoiser import DnCNN
    >>> DnCNN(depth=4, width=8).eval()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, n_channels: int = 1, width: int = 64, depth: int = 17) -> None:
        super().__init__()
        _check_size("n_channels", n_channels)
        _check_size("width", width)
        _check_size("depth", depth, least=2)
        layers: list[nn.Module] = [nn.Conv2d(n_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, n_channels, 3, padding=1, bias=False))


class DenseDenoiser(ResidualDenoiser):
    """Dense denoiser for tables: hidden layers with ReLU predict the noise.

    Parameters
    ----------
    n_features : int
        Columns of the table.

    width : int, default=256
        Units of every hidden layer.

    n_hidden : int, default=2
        Number of hidden layers.

    Raises
    ------
    ValueError
        If a parameter is no positive integer.

    See Also
    --------
    DnCNN : For images.
    randsmooth.denoised.DenoisedClassifier : Puts a denoiser in front of a classifier.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models.denoiser import DenseDenoiser
    >>> DenseDenoiser(64)(torch.zeros(2, 64)).shape
    torch.Size([2, 64])
    """

    def __init__(self, n_features: int, width: int = 256, n_hidden: int = 2) -> None:
        super().__init__()
        _check_size("n_features", n_features)
        _check_size("width", width)
        _check_size("n_hidden", n_hidden)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise([n_features, *[width] * n_hidden]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_features))


def _check_size(name: str, value: Any, *, least: int = 1) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
