"""The networks of the published tables, as plain torch modules that return logits.

Every class takes plain values and keeps no state but its weights, so that it can be handed to
skorch, or to `SmoothedClassifier`, as a class or as an instance. Initial weights come from
torch's global generator: call `torch.manual_seed` first to repeat them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "CIFARNet",
    "MNISTNet",
    "Normalize",
    "ResNet20",
    "ResNet50",
    "ResNet110",
    "SameMaxPool2d",
]


class _ImageClassifier(nn.Module):
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


class MNISTNet(_ImageClassifier):
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
        _check_n_classes(n_classes)
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
        _initialise(self, nn.init.xavier_uniform_)


class CIFARNet(_ImageClassifier):
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
        _check_n_classes(n_classes)
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
        _initialise(self, _he_truncated_normal_)


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


class _CIFARResNet(_ImageClassifier):
    """A residual network for 32x32 images: three stages of `n_blocks` basic blocks."""

    def __init__(self, n_blocks: int, n_classes: int) -> None:
        super().__init__()
        _check_n_classes(n_classes)
        self.conv1 = _conv(3, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(BasicBlock, 16, 16, n_blocks)
        self.layer2 = _stage(BasicBlock, 16, 32, n_blocks, stride=2)
        self.layer3 = _stage(BasicBlock, 32, 64, n_blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, n_classes)
        _he_normal_convolutions(self)


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


class ResNet50(_ImageClassifier):
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
        _check_n_classes(n_classes)
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
        _he_normal_convolutions(self)


def _check_n_classes(n_classes: int) -> None:
    if not isinstance(n_classes, Integral) or n_classes < 1:
        raise ValueError(f"n_classes must be an integer of at least 1, got {n_classes!r}.")


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size at stride 1, without bias: batch normalisation follows."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )


def _conv_elu(in_channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2), nn.ELU()


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


def _he_normal_convolutions(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _initialise(net: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Draw the weights of a network without normalisation anew and zero its biases."""
    for parameter in net.parameters():
        if parameter.ndim > 1:
            draw(parameter)
        else:
            nn.init.zeros_(parameter)


def _he_truncated_normal_(weight: Tensor) -> None:
    """Draw He-normal weights as Keras does: cut at two standard deviations, variance kept."""
    scale = math.sqrt(2.0 / weight[0].numel()) / _STD_OF_TRUNCATED_NORMAL
    nn.init.trunc_normal_(weight, std=scale, a=-2.0 * scale, b=2.0 * scale)


# Standard deviation of a standard normal cut at -2 and 2.
_STD_OF_TRUNCATED_NORMAL = 0.87962566103423978
