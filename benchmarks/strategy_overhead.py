"""What the mechanism of the training strategies costs beyond the passes that a method needs.

::

    OMP_NUM_THREADS=1 python benchmarks/strategy_overhead.py

Each strategy is timed beside a skorch net without one, whose `train_step_single` makes the same
forward and backward passes by hand, on the same noise, drawn before. The difference is the
mechanism: hooks, checks, terms recorded in the history. Steps alternate, so that a busy moment hits
all alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNetClassifier
from skorch.dataset import unpack_data
from torch import Tensor, nn

from measuring import Run, interleave, spread
from randsmooth.models import LeNet
from randsmooth.noise import Gaussian
from randsmooth.training import GaussianAugmentation, NoisyTraining, StabilityTraining
from tables import rest_table, write_page

SIGMA = 0.5
GOAL = 0.03

ByHand = Callable[[NeuralNetClassifier, Tensor, Tensor, Tensor], Tensor]


def augmentation(net: NeuralNetClassifier, X: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    X = X + noise
    return net.get_loss(net.infer(X), y, X=X, training=True)


def stability(net: NeuralNetClassifier, X: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    clean, noisy = net.infer(X), net.infer(X + noise)
    loss = net.get_loss(clean, y, X=X, training=True)
    log_p, log_q = clean.log_softmax(1), noisy.log_softmax(1)
    return loss - (log_p.exp() * log_q).sum(1).mean()


@dataclass(frozen=True)
class Case:
    """A strategy, and its loss written by hand."""

    strategy: type[NoisyTraining]
    by_hand: ByHand


CASES = [Case(GaussianAugmentation, augmentation), Case(StabilityTraining, stability)]


@dataclass(frozen=True)
class Network:
    """A network, the shape of its batches and how many steps are timed together."""

    name: str
    module: Callable[[], nn.Module]
    shape: tuple[int, ...]
    n_steps: int


class Line(nn.Sequential):
    """Next to no arithmetic: what a step takes is Python."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 10))


class Perceptron(nn.Sequential):
    """One hidden layer of 256 units."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


NETWORKS = [
    Network("linear, 4-10, 8 rows", Line, (8, 4), 100),
    Network("perceptron, 784-256-10, 256 rows", Perceptron, (256, 784), 10),
    Network("LeNet, 28 x 28, 256 rows", LeNet, (256, 1, 28, 28), 1),
]


class ByHandNet(NeuralNetClassifier):
    """A net whose user wrote the passes of a strategy into its training step."""

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        self._set_training(True)
        X, y = unpack_data(batch)
        loss = self.by_hand_(self, X, y, self.noise_)
        loss.backward()
        return {"loss": loss, "y_pred": None}


def on_drawn_noise(kind: type[NoisyTraining], noise: Tensor) -> NoisyTraining:
    """Return a strategy whose noise has been drawn before."""

    class Drawn(kind):  # type: ignore[misc, valid-type]
        """The strategy, but for its noise."""

        def draw(self, inputs: Tensor, n_draws: int = 1) -> Tensor:
            return noise

    return Drawn(noise=Gaussian(SIGMA), random_state=0)


def ready(kind: type[NeuralNetClassifier], network: Network, *callbacks: Any) -> Any:
    """Return a net at the beginning of its first epoch."""
    torch.manual_seed(0)
    net = kind(
        network.module, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=0.01,
        optimizer__momentum=0.9, train_split=None, verbose=0, callbacks=list(callbacks),
    ).initialize()  # fmt: skip
    net.notify("on_train_begin", X=None, y=None)
    net.notify("on_epoch_begin", dataset_train=None, dataset_valid=None)
    return net


def steps(net: Any, X: Tensor, y: Tensor, n_steps: int) -> Callable[[int], None]:
    """Return what trains on a batch as skorch's own loop does, callbacks included."""

    def run(number: int) -> None:
        batches = ([X, y] for _ in range(n_steps))  # each is dropped as the next one comes
        net.run_single_epoch(batches, training=True, prefix="train", step_fn=net.train_step)

    return run


def timings(case: Case, network: Network, rounds: int) -> list[NDArray[np.float64]]:
    """Return the seconds of a step: with the strategy, by hand, plain, and of drawing noise."""
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(network.shape, generator=generator)
    y = torch.arange(len(X)) % 10
    noise = SIGMA * torch.randn(X.shape, generator=generator)
    with_strategy = ready(NeuralNetClassifier, network, on_drawn_noise(case.strategy, noise))
    by_hand = ready(ByHandNet, network)
    by_hand.by_hand_, by_hand.noise_ = case.by_hand, noise
    plain = ready(NeuralNetClassifier, network)
    drawing = case.strategy(noise=Gaussian(SIGMA), random_state=0)
    ready(NeuralNetClassifier, network, drawing)
    n = network.n_steps
    runs = [
        Run("strategy", steps(with_strategy, X, y, n)),
        Run("by hand", steps(by_hand, X, y, n)),
        Run("plain", steps(plain, X, y, n)),
        Run("drawing", lambda number: [drawing.draw(X) for _ in range(n)]),
    ]
    interleave(runs, 3)  # first steps, not counted
    for run in runs:
        run.costs.clear()
    interleave(runs, rounds)
    check_equal(with_strategy, by_hand)
    return [np.array(run.cpu) / n for run in runs]


def measured(case: Case, rounds: int) -> list[list[str]]:
    """Time one strategy on every network and return its rows of the table."""
    rows = []
    for network in NETWORKS:
        print(f"measuring {case.strategy.__name__} on {network.name}", flush=True)
        ours, theirs, plain, drawn = timings(case, network, rounds)
        share = np.median(ours - theirs) / np.median(plain)
        rows.append([
            case.strategy.__name__, network.name, spread(1e3 * plain), spread(1e3 * theirs),
            spread(1e6 * (ours - theirs)), spread(ours / theirs), f"{share:.1%}",
            f"{np.median(drawn) / np.median(plain):.1%}",
        ])  # fmt: skip
    return rows


def check_equal(one: Any, other: Any) -> None:
    """Refuse to compare nets that did not do the same."""
    for ours, theirs in zip(one.module_.parameters(), other.module_.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = [row for case in CASES for row in measured(case, rounds)]
    write_page(
        Path("docs/results/strategy_overhead.rst"),
        "Cost of the strategy mechanism",
        "Made by ``OMP_NUM_THREADS=1 python benchmarks/strategy_overhead.py --rounds "
        f"{rounds}``: training steps, one thread, process time, steps alternating; medians and "
        "quartiles over the rounds. Each strategy stands beside a skorch net without one, into "
        "whose training step the same forward and backward passes were written by hand, on the "
        "same noise, drawn before; both arrive at the same weights. *Plain* is a step on clean "
        "inputs. The *mechanism* is the difference of the first two: hooks, checks of the batch, "
        "finite terms recorded in the history. Its "
        "share is the median difference relative to the median plain step. "
        "Drawing the noise is apart: a method needs it, however it is written. Once an epoch the "
        "strategy also copies the weights, which is not in a step.",
        rest_table(
            [
                "strategy", "network", "plain step, ms", "step by hand, ms", "difference, µs",
                "ratio to the step by hand", "difference / plain step", "drawing / plain step",
            ],
            rows,
        ),
        f"The goal is a difference below {GOAL:.0%} of a plain step.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
