"""The networks of Li et al. (2019) for MNIST and CIFAR-10."""

from __future__ import annotations

import math
from numbers import Real

from torch import nn

from randsmooth.models.layers import ImageClassifier, SameMaxPool2d, check_n_classes
from randsmooth.models.weights import he_truncated_normal_, initialise

__all__ = ["CIFARNet", "MNISTNet"]


class MNISTNet(ImageClassifier):
    """The MNIST network of the additive-noise paper.

    Two 5x5 convolutions of 64 channels without padding, dropout of 0.25, a dense layer of 128,
    dropout of 0.5, and the logits [1]_. Images have the shape (1, 28, 28). Weights start
    Glorot-uniform, biases at zero. For ten classes it has 3,382,346 parameters.

    Parameters
    ----------
    n_classes : int, default=10
        Number of logits, at least 1.

    Raises
    ------
    ValueError
        If `n_classes` is no integer of at least 1.

    See Also
    --------
    CIFARNet : The network of the same paper for CIFAR-10.

    References
    ----------
    .. [1] B. Li, C. Chen, W. Wang and L. Carin, "Certified Adversarial Robustness with Additive
       Noise", NeurIPS 2019: the MNIST model of the published code.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models import MNISTNet
    >>> MNISTNet()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        check_n_classes(n_classes)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 64, 5),
            nn.ReLU(),
            nn.Conv2d(64, 64, 5),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(64 * 20 * 20, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, n_classes),
        )
        initialise(self, nn.init.xavier_uniform_)


class CIFARNet(ImageClassifier):
    """The CIFAR-10 network of the additive-noise paper.

    Seven convolutions with ELU, two max-poolings padded as in TensorFlow, each followed by
    dropout of 0.5, and global average pooling of the last convolution's channels, which are the
    logits [1]_. Images have the shape (3, 32, 32). Weights start He-normal (cut at two standard
    deviations, as in Keras), biases at zero. For ten classes and `width=1` it has 1,025,642
    parameters.

    Parameters
    ----------
    n_classes : int, default=10
        Number of logits, at least 1.

    width : float, default=1.0
        Factor on the channels of every hidden layer, which are rounded and at least 1. The paper's
        network has 1.0; 0.25 takes about an eighth of its time and suits a CPU.

    Raises
    ------
    ValueError
        If `n_classes` is no integer of at least 1, or `width` no positive finite number.

    See Also
    --------
    MNISTNet : The network of the same paper for MNIST.
    ResNet110 : The network of most later papers on CIFAR-10.

    Notes
    -----
    The paper adds to the loss an L2 penalty, 1e-4 times the sum of squares of each convolution's
    kernel, biases left out. Its gradient is 2e-4 times the kernel, so in torch it is a weight
    decay of 2e-4 on the weights alone, in an optimiser whose decay is a gradient (`torch.optim.SGD`
    or `torch.optim.Adam`, not `torch.optim.AdamW`). With skorch:
    ``optimizer__param_groups=[("*.weight", {"weight_decay": 2e-4})]``.

    References
    ----------
    .. [1] B. Li, C. Chen, W. Wang and L. Carin, "Certified Adversarial Robustness with Additive
       Noise", NeurIPS 2019: the CIFAR-10 model of the published code.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models import CIFARNet
    >>> CIFARNet(width=0.25)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        check_n_classes(n_classes)
        if not isinstance(width, Real) or not 0 < width < math.inf:
            raise ValueError(f"width must be a positive finite number, got {width!r}.")
        first, second, third = (max(1, round(width * n_full)) for n_full in (96, 192, 256))
        self.layers = nn.Sequential(
            *_conv_elu(3, first, 5),
            *_conv_elu(first, first, 1),
            SameMaxPool2d(3, stride=2),
            nn.Dropout(0.5),
            *_conv_elu(first, second, 5),
            *_conv_elu(second, second, 1),
            SameMaxPool2d(3, stride=2),
            nn.Dropout(0.5),
            *_conv_elu(second, third, 3),
            *_conv_elu(third, third, 1),
            nn.Conv2d(third, n_classes, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        initialise(self, he_truncated_normal_)


def _conv_elu(in_channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2), nn.ELU()
