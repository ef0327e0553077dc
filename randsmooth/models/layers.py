"""Layers that more than one network needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["ImageClassifier", "Normalize", "SameMaxPool2d", "check_n_classes"]


class ImageClassifier(nn.Module):
    """A network that applies its children one after the other."""

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        X : Tensor of shape (n, channels, height, width)
            Images in [0, 1], noise added or not.

        Returns
        -------
        Tensor of shape (n, n_classes)
            One row of logits per image.
        """
        for layer in self.children():
            X = layer(X)
        return X


class SameMaxPool2d(nn.Module):
    """Max-pooling that pads as TensorFlow's ``padding="same"``.

    The output has ``ceil(size / stride)`` rows and columns. The padding is minus infinity, and
    where it cannot be split evenly the odd row or column goes to the bottom and the right, which
    `torch.nn.MaxPool2d` cannot express.

    Parameters
    ----------
    kernel_size : int
        Side of the pooling window.

    stride : int
        Step between windows.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models import SameMaxPool2d
    >>> SameMaxPool2d(3, stride=2)(torch.arange(16.0).reshape(1, 1, 4, 4))
    tensor([[[[10., 11.],
              [14., 15.]]]])
    """

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, X: Tensor) -> Tensor:
        """Return the maxima.

        Parameters
        ----------
        X : Tensor of shape (n, channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (n, channels, ceil(height / stride), ceil(width / stride))
            The largest value of each window.
        """
        above, below = self._padding(X.shape[-2])
        left, right = self._padding(X.shape[-1])
        padded = F.pad(X, (left, right, above, below), value=-math.inf)
        return F.max_pool2d(padded, self.kernel_size, self.stride)

    def _padding(self, size: int) -> tuple[int, int]:
        n_windows = -(-size // self.stride)
        total = max(0, (n_windows - 1) * self.stride + self.kernel_size - size)
        return total // 2, total - total // 2

    def extra_repr(self) -> str:
        """Return the arguments, for the module's representation.

        Returns
        -------
        str
            The constructor's arguments.
        """
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class Normalize(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Noise is added to images in [0, 1] and the radius is measured there, so a network that wants
    standardised inputs must standardise inside: put this module first, and the noise keeps its
    scale.

    Parameters
    ----------
    mean : sequence of float
        What is subtracted from each channel.

    std : sequence of float
        What each channel is divided by; positive, as long as `mean`.

    Raises
    ------
    ValueError
        If `mean` and `std` differ in length, are empty, or hold a value that is not finite, or a
        value of `std` is not positive.

    Notes
    -----
    Both are buffers that follow the module between devices and stay out of its state dict, so the
    weights of a network that normalises with constants, ``"1.conv1.weight"`` and so on, load into
    ``nn.Sequential(Normalize(mean, std), network)`` as they are.

    The usual constants are mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225) for ImageNet,
    and mean (0.4914, 0.4822, 0.4465) and std (0.2023, 0.1994, 0.2010) for CIFAR-10.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from randsmooth.models import Normalize, ResNet20
    >>> normalize = Normalize(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    >>> net = nn.Sequential(normalize, ResNet20()).eval()
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        mean_, std_ = torch.tensor(mean), torch.tensor(std)
        if mean_.ndim != 1 or mean_.shape != std_.shape or len(mean_) == 0:
            raise ValueError(
                f"mean and std must hold one number per channel each, got {mean!r} and {std!r}."
            )
        if not mean_.isfinite().all():
            raise ValueError(f"mean must be finite, got {mean!r}.")
        if not (std_.isfinite() & (std_ > 0)).all():
            raise ValueError(f"std must be positive and finite, got {std!r}.")
        dtype = torch.get_default_dtype()
        self.register_buffer("mean", mean_.to(dtype).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", std_.to(dtype).reshape(-1, 1, 1), persistent=False)

    def forward(self, X: Tensor) -> Tensor:
        """Return the standardised images.

        Parameters
        ----------
        X : Tensor of shape (n, channels, height, width)
            Images.

        Returns
        -------
        Tensor of shape (n, channels, height, width)
            ``(X - mean) / std``.
        """
        return (X - self.mean) / self.std

    def extra_repr(self) -> str:
        """Return the constants, for the module's representation.

        Returns
        -------
        str
            The constructor's arguments.
        """
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def check_n_classes(n_classes: int) -> None:
    """Refuse a number of classes that is no integer of at least 2."""
    if not isinstance(n_classes, Integral) or n_classes < 1:
        raise ValueError(f"n_classes must be an integer of at least 1, got {n_classes!r}.")
