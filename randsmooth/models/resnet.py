"""Residual networks of He et al. (2016) for CIFAR-10 and ImageNet."""

from __future__ import annotations

from torch import Tensor, nn

from randsmooth.models.layers import ImageClassifier, check_n_classes
from randsmooth.models.weights import he_normal_convolutions

__all__ = ["BasicBlock", "Bottleneck", "ResNet20", "ResNet50", "ResNet110"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, the block of small residual networks.

    Where the shape changes, the shortcut is a 1x1 convolution with batch normalisation (option B
    of [1]_).

    Parameters
    ----------
    in_channels : int
        Channels of the input.

    width : int
        Channels of the convolutions and of the output.

    stride : int, default=1
        Stride of the first convolution.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, figure 5 left.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, X: Tensor) -> Tensor:
        """Return the block's feature maps.

        Parameters
        ----------
        X : Tensor of shape (n, in_channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (n, width, height / stride, width / stride)
            Feature maps.
        """
        out = self.relu(self.bn1(self.conv1(X)))
        out = self.bn2(self.conv2(out))
        out += X if self.downsample is None else self.downsample(X)
        result: Tensor = self.relu(out)
        return result


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution around a shortcut, the block of deep residual networks.

    The stride sits in the 3x3 convolution ("version 1.5", which most published weights follow),
    not in the first 1x1 as in [1]_.

    Parameters
    ----------
    in_channels : int
        Channels of the input.

    width : int
        Channels of the first two convolutions; the output has four times as many.

    stride : int, default=1
        Stride of the 3x3 convolution.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, figure 5 right.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, X: Tensor) -> Tensor:
        """Return the block's feature maps.

        Parameters
        ----------
        X : Tensor of shape (n, in_channels, height, width)
            Feature maps.

        Returns
        -------
        Tensor of shape (n, 4 * width, height / stride, width / stride)
            Feature maps.
        """
        out = self.relu(self.bn1(self.conv1(X)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += X if self.downsample is None else self.downsample(X)
        result: Tensor = self.relu(out)
        return result


class _CIFARResNet(ImageClassifier):
    """A residual network for 32x32 images: three stages of `n_blocks` basic blocks."""

    def __init__(self, n_blocks: int, n_classes: int) -> None:
        super().__init__()
        check_n_classes(n_classes)
        self.conv1 = _conv(3, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(BasicBlock, 16, 16, n_blocks)
        self.layer2 = _stage(BasicBlock, 16, 32, n_blocks, stride=2)
        self.layer3 = _stage(BasicBlock, 32, 64, n_blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, n_classes)
        he_normal_convolutions(self)


class ResNet20(_CIFARResNet):
    """The residual network of 20 layers for CIFAR-10.

    Three stages of three basic blocks with 16, 32 and 64 channels ([1]_, section 4.2), with
    1x1 convolutions on the shortcuts that change shape. For ten classes it has 272,474
    parameters. It works on standardised images: compose it with `Normalize`.

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
    ResNet110 : The deeper one that papers on randomized smoothing use.
    Normalize : Standardises the images inside the network.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models import ResNet20
    >>> ResNet20().eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__(n_blocks=3, n_classes=n_classes)


class ResNet110(_CIFARResNet):
    """The residual network of 110 layers for CIFAR-10.

    Three stages of 18 basic blocks with 16, 32 and 64 channels ([1]_, section 4.2), with
    1x1 convolutions on the shortcuts that change shape: the network of most tables on
    randomized smoothing [2]_, whose weights load by name. For ten classes it has 1,730,714
    parameters. It works on standardised images: compose it with `Normalize`.

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
    ResNet20 : The same with 20 layers.
    Normalize : Standardises the images inside the network.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016.

    .. [2] J. Cohen, E. Rosenfeld and J. Z. Kolter, "Certified Adversarial Robustness via
       Randomized Smoothing", ICML 2019.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models import ResNet110
    >>> ResNet110().eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__(n_blocks=18, n_classes=n_classes)


class ResNet50(ImageClassifier):
    """The residual network of 50 layers for ImageNet.

    Four stages of 3, 4, 6 and 3 bottleneck blocks ([1]_, table 1), with the stride in the 3x3
    convolutions. For 1000 classes it has 25,557,032 parameters. Their names are those of
    torchvision (``conv1``, ``bn1``, ``layer1.0.conv1``, ..., ``fc``), so published weights load.
    It works on standardised images: compose it with `Normalize`.

    Parameters
    ----------
    n_classes : int, default=1000
        Number of logits, at least 1.

    Raises
    ------
    ValueError
        If `n_classes` is no integer of at least 1.

    See Also
    --------
    Normalize : Standardises the images inside the network.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016.

    Examples
    --------
    >>> from torch import nn
    >>> from randsmooth.models import Normalize, ResNet50
    >>> normalize = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    >>> net = nn.Sequential(normalize, ResNet50())
    """

    def __init__(self, n_classes: int = 1000) -> None:
        super().__init__()
        check_n_classes(n_classes)
        self.conv1 = _conv(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(Bottleneck, 64, 64, 3)
        self.layer2 = _stage(Bottleneck, 256, 128, 4, stride=2)
        self.layer3 = _stage(Bottleneck, 512, 256, 6, stride=2)
        self.layer4 = _stage(Bottleneck, 1024, 512, 3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(2048, n_classes)
        he_normal_convolutions(self)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size at stride 1, without bias: batch normalisation follows."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Bring a block's input to the shape of its output; None where it has it already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    width: int,
    n_blocks: int,
    stride: int = 1,
) -> nn.Sequential:
    """Stack blocks of one width, the first of which changes the shape."""
    first = block(in_channels, width, stride)
    rest = [block(width * block.expansion, width) for _ in range(n_blocks - 1)]
    return nn.Sequential(first, *rest)
