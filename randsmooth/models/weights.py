"""Initial weights of the published networks."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["he_normal_convolutions", "he_truncated_normal_", "initialise"]


# Standard deviation of a standard normal cut at -2 and 2.
_STD_OF_TRUNCATED_NORMAL = 0.87962566103423978


def he_normal_convolutions(net: nn.Module) -> None:
    """Draw the weights of all convolutions He-normal, by their number of outputs."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def initialise(net: nn.Module, draw: Callable[[Tensor], object]) -> None:
    """Draw the weights of a network without normalisation anew and zero its biases."""
    for parameter in net.parameters():
        if parameter.ndim > 1:
            draw(parameter)
        else:
            nn.init.zeros_(parameter)


def he_truncated_normal_(weight: Tensor) -> None:
    """Draw He-normal weights as Keras does: cut at two standard deviations, variance kept."""
    scale = math.sqrt(2.0 / weight[0].numel()) / _STD_OF_TRUNCATED_NORMAL
    nn.init.trunc_normal_(weight, std=scale, a=-2.0 * scale, b=2.0 * scale)
