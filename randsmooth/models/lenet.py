"""The small convolutional network of the MNIST tables of the smoothing literature."""

from __future__ import annotations

from torch import nn

from randsmooth.models.layers import ImageClassifier, check_n_classes

__all__ = ["LeNet"]


class LeNet(ImageClassifier):
    """Network for 28 x 28 images of one channel (Jeong and Shin, 2020, section 4.1).

    Two convolutions of 5 x 5 with 20 and 50 filters, each with 2 x 2 max-pooling and ReLU, a dense
    layer of 500 units and one of logits: 431,080 parameters for ten classes. ReLU comes after the
    pooling, with which it commutes, since there it costs a quarter. Weights start as torch starts
    them.

    Parameters
    ----------
    n_classes : int, default=10
        Number of logits.

    Raises
    ------
    ValueError
        If `n_classes` is not a positive integer.

    References
    ----------
    .. [1] J. Jeong and J. Shin, "Consistency regularization for certified robustness of smoothed
       classifiers", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.models import LeNet
    >>> LeNet().eval()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        check_n_classes(n_classes)
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.relu2 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.dense = nn.Linear(50 * 4 * 4, 500)
        self.relu3 = nn.ReLU()
        self.logits = nn.Linear(500, n_classes)
