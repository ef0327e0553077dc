"""Attacks within an l-infinity ball that measure how robust a network is: its inputs in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from randsmooth.training.perturbation import Ball, ascend, frozen

RowLoss = Callable[[Tensor, Tensor], Tensor]
BATCH = 250


@dataclass(frozen=True)
class Gradient:
    """Projected gradient ascent on a row's loss from a random start; the last iterate counts."""

    n_steps: int
    step_size: float
    loss: RowLoss

    def survivors(self, net: nn.Module, X: Tensor, y: Tensor, eps: float, seed: int) -> Tensor:
        """Return which rows are still classified correctly."""
        ball, rng = Ball(eps, "linf", (0.0, 1.0)), np.random.default_rng(seed)

        def survive(x: Tensor, labels: Tensor) -> Tensor:
            moved = ascend(
                lambda rows: self.loss(net(rows), labels).sum(),
                ball.random_point(x, rng),
                x,
                ball=ball,
                n_steps=self.n_steps,
                step_size=self.step_size,
            )
            return right(net, moved, labels)

        with frozen(net):
            return torch.cat(
                [survive(*pair) for pair in zip(X.split(BATCH), y.split(BATCH), strict=True)]
            )


@dataclass(frozen=True)
class Feature:
    """Pull the penultimate features towards those of images of other classes.

    The cosine distance is descended from a random start, for several target images in turn; a row
    survives if no iterate for any of them is misclassified (Dong et al. 2020, appendix).
    """

    n_steps: int
    step_size: float
    n_targets: int

    def survivors(self, net: nn.Module, X: Tensor, y: Tensor, eps: float, seed: int) -> Tensor:
        """Return which rows are still classified correctly."""
        ball, rng = Ball(eps, "linf", (0.0, 1.0)), np.random.default_rng(seed)
        with frozen(net):
            alive = right(net, X, y)
            for _ in range(self.n_targets):
                targets = torch.tensor(
                    [int(rng.choice(np.flatnonzero(y.numpy() != label))) for label in y.tolist()]
                )
                for rows in alive.nonzero()[:, 0].split(BATCH):
                    goal = X[targets[rows]]
                    alive[rows] = self._survive(net, X[rows], y[rows], goal, ball, rng)
        return alive

    def _survive(
        self,
        net: nn.Module,
        x: Tensor,
        y: Tensor,
        goal: Tensor,
        ball: Ball,
        rng: np.random.Generator,
    ) -> Tensor:
        """Return the rows that no iterate on the way to one goal misclassifies."""
        with torch.no_grad():
            wanted = net.features(goal)
        alive = torch.ones(len(x), dtype=torch.bool)

        def similarity(rows: Tensor) -> Tensor:
            features = net.features(rows)
            with torch.no_grad():
                alive.logical_and_(net.head(features).argmax(1) == y)
            return nn.functional.cosine_similarity(features, wanted).sum()

        last = ascend(
            similarity,
            ball.random_point(x, rng),
            x,
            ball=ball,
            n_steps=self.n_steps,
            step_size=self.step_size,
        )
        return alive & right(net, last, y)


def right(net: nn.Module, X: Tensor, y: Tensor) -> Tensor:
    """Return which rows a network classifies correctly."""
    with torch.no_grad():
        return torch.cat([net(rows).argmax(1) for rows in X.split(BATCH)]) == y


def log_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the best other class leads, up to 50 (Carlini and Wagner 2017)."""
    own = nn.functional.one_hot(labels, logits.shape[1]).bool()
    lead = logits.masked_fill(own, -torch.inf).amax(1) - logits.masked_select(own)
    return lead.clamp_max(50.0)
