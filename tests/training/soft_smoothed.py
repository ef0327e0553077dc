"""The attack on the soft smoothed classifier written out by hand, and nets to try it on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn

SIGMA = 0.5
N_CLASSES = 3


class TableNet(nn.Module):
    """A smooth network on rows of five, in double precision, with dropout that must stay off."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, N_CLASSES)
        ).double()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class ImageNet(nn.Module):
    """A smooth network on images of one channel, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, N_CLASSES)
        ).double()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class Probabilities(TableNet):
    """The network on a table, returning probabilities."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


MODULES = {"table": TableNet, "image": ImageNet}


class Recorder(Callback):
    """Keeps the rows that the net trains on, batch by batch."""

    def on_train_begin(self, net, **kwargs: Any) -> None:
        self.rows_: list[Tensor] = []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs: Any) -> None:
        if training:
            self.rows_.append(batch[0].clone())


def data(kind: str = "table", n_rows: int = 12) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return inputs well within the unit box, and classes."""
    rng = np.random.default_rng(0)
    shape = {"table": (5,), "image": (1, 6, 6)}[kind]
    return rng.uniform(0.3, 0.7, size=(n_rows, *shape)), rng.integers(N_CLASSES, size=n_rows)


def make_net(*callbacks: Any, kind: type[NeuralNet] = NeuralNetClassifier, **params: Any) -> Any:
    """Return a net whose step can be computed by hand: plain gradient descent on one batch."""
    torch.manual_seed(0)
    settings = {
        "module": TableNet,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 1,
        "batch_size": -1,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=list(callbacks), **settings)


def begun(strategy: Any, net: Any = None) -> Any:
    """Return a copy of a strategy that stands where training begins, to replay its draws."""
    copy = clone(strategy)
    copy.on_train_begin(make_net().initialize() if net is None else net)
    copy.on_train_end(net)
    return copy


def soft_smoothed_loss(module: nn.Module, x: Tensor, y: Tensor, draws: list[Tensor]) -> Tensor:
    """Return equation 6 of Salman et al. (2019) for each row, one draw after the other."""
    mean = sum(module(x + draw).softmax(dim=1) for draw in draws) / len(draws)
    return -mean[torch.arange(len(y)), y].log()


def attacked_by_hand(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    draws: list[Tensor],
    *,
    radius: float,
    n_steps: int,
    step_size: float,
) -> list[Tensor]:
    """Return every iterate of projected gradient ascent in the l2 ball and the unit box."""
    iterates = [x]
    for _ in range(n_steps):
        rows = []
        for i in range(len(x)):
            point = iterates[-1][i : i + 1].clone().requires_grad_()
            loss = soft_smoothed_loss(module, point, y[i : i + 1], [d[i : i + 1] for d in draws])
            (gradient,) = torch.autograd.grad(loss.sum(), [point])
            delta = point.detach() + step_size * gradient / gradient.norm() - x[i : i + 1]
            if delta.norm() > radius:
                delta *= radius / delta.norm()
            rows.append((x[i : i + 1] + delta).clamp(0, 1))
        iterates.append(torch.cat(rows))
    return iterates


def stepped(module: nn.Module, loss: Tensor, lr: float = 0.1) -> list[NDArray[np.float64]]:
    """Return the weights after one step of gradient descent."""
    module.zero_grad()
    loss.backward()
    return [(p - lr * p.grad).detach().numpy() for p in module.parameters()]


def weights(net: Any) -> list[NDArray[np.float64]]:
    """Return a trained net's weights."""
    return [p.detach().numpy().copy() for p in net.module_.parameters()]
