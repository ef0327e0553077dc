"""Importable networks for the tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Perceptron(nn.Module):
    """A small network that learns whatever number of features and classes it is given."""

    def __init__(self, n_classes: int = 3, n_hidden: int = 32) -> None:
        super().__init__()
        self.hidden = nn.LazyLinear(n_hidden)
        self.output = nn.Linear(n_hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(torch.relu(self.hidden(x.flatten(1))))
        return logits


class Linear(nn.Module):
    """A linear classifier with fixed weights, whose smoothed radius is known exactly."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.flatten(1), self.weight, self.bias)


class SingleLogit(nn.Module):
    """One logit a row, the usual form of a binary network in torch."""

    def __init__(self, n_features: int = 64) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.linear(x.flatten(1))
        return logit.squeeze(1)
