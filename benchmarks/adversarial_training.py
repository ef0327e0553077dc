"""Adversarial training in the l-infinity ball on MNIST: every method for the same time.

Trains a small network plainly, adversarially, with TRADES and by adversarial distributional
training, several seeds each, attacks what they have learned, and writes a table and a figure to
``docs/results``::

    python benchmarks/adversarial_training.py --data-home DIR --cache DIR --minutes 40

Each method gets as many epochs as fit into the minutes of processor time, judged by a few batches
of each in turns (``--epochs`` fixes their number instead). Weights stay in the cache, and every
finished row in ``adversarial_training.json`` beside the table, so that an interrupted run goes on
and rows come together from several runs; ``--report-only`` makes the report again.

The training passes run in bfloat16 where gradients are on, which processors with matrix units do
two to three times as fast; the networks are attacked in single precision.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor, nn

from linf_attacks import Feature, Gradient, log_loss, margin, right
from measuring import machine
from randsmooth.datasets import fetch_mnist
from randsmooth.training import (
    TRADES,
    AdversarialDistributionalTraining,
    AdversarialTraining,
    TrainingStrategy,
)
from tables import add_row, read_rows, rest_table, write_page

BATCH_SIZE = 128
NAME = "adversarial_training"

ATTACKS = {
    "PGD-20": Gradient(20, 0.0375, log_loss),
    "PGD-40": Gradient(40, 0.01, log_loss),
    "PGD-100": Gradient(100, 0.01, log_loss),
    "C&W-40": Gradient(40, 0.01, margin),
    "FeaAttack": Feature(50, 0.0375, n_targets=10),
}


class Strided(nn.Module):
    """Two strided convolutions and two dense layers: 3.8 million multiplications an image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 128),
            nn.ReLU(),
        )
        self.head = nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


class BrainFloatStrided(Strided):
    """The same network, whose passes with gradients run in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x.contiguous(memory_format=torch.channels_last)).float()


@dataclass(frozen=True)
class Method:
    """A strategy, given the radius, the epoch that reaches it and the seed."""

    strategy: Callable[[float, int, int], TrainingStrategy | None]
    settings: str = ""


def distributional(variant: str, settings: str, **parameters: Any) -> Method:
    def strategy(eps: float, warm_up: int, seed: int) -> TrainingStrategy:
        return AdversarialDistributionalTraining(
            variant, eps=eps, warm_up=warm_up, random_state=seed, **parameters
        )

    return Method(strategy, settings)


METHODS: Mapping[str, Method] = {
    "plain": Method(lambda eps, warm_up, seed: None),
    "AT": Method(
        lambda eps, warm_up, seed: AdversarialTraining(eps, warm_up=warm_up, random_state=seed),
        "10 steps",
    ),
    "TRADES": Method(
        lambda eps, warm_up, seed: TRADES(6.0, eps, warm_up=warm_up, random_state=seed),
        "beta 6, 10 steps",
    ),
    "ADT-EXP": distributional(
        "exp",
        "initial_std 0.1, 7 steps of 0.6, 1 sample",
        initial_std=0.1,
        step_size=0.6,
        n_samples=1,
    ),
    "ADT-EXP, published": distributional(
        "exp", "initial_std ln 2, 7 steps of 0.3, 5 samples, clipped", within_range=False
    ),
    "ADT-EXP-AM": distributional(
        "exp-am", "width 4, generator_lr 2e-3", width=4, generator_lr=2e-3
    ),
    "ADT-IMP-AM": distributional(
        "imp-am", "width 4, generator_lr 2e-3", width=4, generator_lr=2e-3
    ),
}


@dataclass(frozen=True)
class Row:
    """What one network was trained by, and how it fared."""

    method: str
    seed: int
    epochs: int
    minutes: float
    n_test: int
    eps: float
    accuracy: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """Training images, and evenly spaced test images."""

    X: np.ndarray
    y: np.ndarray
    X_test: Tensor
    y_test: Tensor


class Progress(Callback):
    """Prints the losses of every epoch, with the processor's minutes so far."""

    def on_train_begin(self, net: NeuralNetClassifier, **kwargs: Any) -> None:
        self.started_ = time.process_time()

    def on_epoch_end(self, net: NeuralNetClassifier, **kwargs: Any) -> None:
        row = net.history[-1]
        losses = [f"{name} {row[name]:.4f}" for name in row if name.endswith("loss")]
        minutes = (time.process_time() - self.started_) / 60
        print(f"  epoch {len(net.history)}: {', '.join(losses)}, {minutes:.1f} min", flush=True)


def untrained(
    method: str, args: argparse.Namespace, seed: int, epochs: int, n_batches: int
) -> NeuralNetClassifier:
    """Return a net whose learning rate falls to zero over the second half of its training."""
    warm_up = round(args.warm_up * epochs)
    strategy = METHODS[method].strategy(args.eps, warm_up, seed)
    total = epochs * n_batches
    schedule = LRScheduler(
        "LambdaLR", lr_lambda=lambda batch: min(1.0, 2 - 2 * batch / total), step_every="batch"
    )
    torch.manual_seed(seed)
    return NeuralNetClassifier(
        BrainFloatStrided,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=args.lr,
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[*([strategy] if strategy else []), schedule, Progress()],
        callbacks__print_log=None,
        verbose=0,
    )


def epoch_minutes(args: argparse.Namespace, data: Data) -> dict[str, float]:
    """Return the processor time of an epoch of each method: medians, the methods taking turns."""
    path = args.cache / "epoch_minutes.json"
    if not path.exists():
        n_batches = 16
        rows = slice(0, n_batches * BATCH_SIZE)
        nets, minutes = {}, {}
        for method in METHODS:
            net = untrained(method, args, 0, 1, n_batches)
            nets[method], minutes[method] = net.set_params(callbacks__Progress=None), []
        for method in [*METHODS] * 5:
            started = time.process_time()
            nets[method].partial_fit(data.X[rows], data.y[rows])
            spent = (time.process_time() - started) / 60
            minutes[method].append(spent / n_batches * len(data.X) / BATCH_SIZE)
        # Allocations and kernels are paid for in the first turn.
        path.write_text(
            json.dumps({method: median(spent[1:]) for method, spent in minutes.items()})
        )
    return dict(json.loads(path.read_text()))


def trained(name: str, row: Row, args: argparse.Namespace, data: Data) -> None:
    """Train a network and keep its weights."""
    print(f"training {name} on {len(data.X)} images", flush=True)
    net = untrained(row.method, args, row.seed, row.epochs, -(-len(data.X) // BATCH_SIZE))
    net.fit(data.X, data.y)
    torch.save(net.module_.state_dict(), args.cache / f"{name}.pt")


def attacked(name: str, args: argparse.Namespace, data: Data) -> dict[str, float]:
    """Return the network's accuracy on clean test images, under each attack and under them all."""
    net = Strided()
    net.load_state_dict(torch.load(args.cache / f"{name}.pt", weights_only=True))
    net.eval()
    natural = right(net, data.X_test, data.y_test)
    accuracy, survived = {"natural": natural.float().mean().item()}, natural
    for attack, settings in ATTACKS.items():
        alive = settings.survivors(net, data.X_test, data.y_test, args.eps, seed=0) & natural
        accuracy[attack], survived = alive.float().mean().item(), survived & alive
        print(f"  {attack} {accuracy[attack]:.3f}", flush=True)
    return {**accuracy, "worst case": survived.float().mean().item()}


def complete(method: str, seed: int, args: argparse.Namespace, data: Data) -> None:
    """Train and attack one network, as far as the cache does not have it."""
    minutes = epoch_minutes(args, data)[method]
    epochs = args.epochs or max(1, round(args.minutes / minutes))
    name = f"{method}_e{epochs}_w{args.warm_up:g}_lr{args.lr:g}_s{seed}"
    if args.n_train < 60_000:
        name = f"{name}_n{args.n_train}"
    path, key = args.output / f"{NAME}.json", f"{name}_on_{args.n_test}"
    if key in read_rows(path):
        return
    row = Row(method, seed, epochs, epochs * minutes, args.n_test, args.eps)
    if not (args.cache / f"{name}.pt").exists():
        trained(name, row, args, data)
    row.accuracy.update(attacked(name, args, data))
    add_row(path, key, asdict(row))


def load(args: argparse.Namespace) -> Data:
    X, y = fetch_mnist(data_home=args.data_home, return_X_y=True)
    X_test, y_test = fetch_mnist(data_home=args.data_home, split="test", return_X_y=True)
    step = len(X_test) // args.n_test
    rows = slice(0, step * args.n_test, step)
    return Data(
        X[: args.n_train],
        y[: args.n_train],
        torch.from_numpy(X_test[rows]),
        torch.from_numpy(y_test[rows]),
    )


def all_rows(path: Path) -> list[Row]:
    rows = [Row(**row) for row in read_rows(path).values()]
    order = list(METHODS)
    return sorted(rows, key=lambda row: (order.index(row.method), row.epochs, row.seed))


def grouped(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    """Return the rows of each method and number of epochs, one a seed."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.method, row.epochs), []).append(row)
    return groups


def spread(values: Iterable[float]) -> str:
    """Return mean and standard deviation in per cent; the mean alone of a single value."""
    values = 100 * np.array(list(values))
    mean = f"{values.mean():.1f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(ddof=1):.1f}"


def table(rows: list[Row]) -> str:
    columns = ["natural", *ATTACKS, "worst case"]
    lines = []
    for (method, epochs), group in grouped(rows).items():
        minutes = np.mean([row.minutes for row in group])
        figures = [spread(row.accuracy[column] for row in group) for column in columns]
        settings = METHODS[method].settings
        title = f"{method} ({settings})" if settings else method
        lines.append([title, str(epochs), f"{minutes:.0f}", str(len(group)), *figures])
    return rest_table(["training", "epochs", "minutes", "seeds", *columns], lines)


def figure(rows: list[Row], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = ["natural", *ATTACKS, "worst case"]
    groups = grouped(rows)
    fig, ax = plt.subplots(figsize=(10, 4.2), layout="constrained")
    width = 0.8 / len(groups)
    for k, ((method, epochs), group) in enumerate(groups.items()):
        place = np.arange(len(columns)) + (k - (len(groups) - 1) / 2) * width
        values = np.array([[row.accuracy[column] for column in columns] for row in group])
        label, colour = f"{method}, {epochs} epochs", f"C{k}"
        ax.plot(place, 100 * values.mean(axis=0), "_", color=colour, markersize=14, label=label)
        ax.plot(place, 100 * values.T, ".", color=colour)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    ax.grid(axis="x", which="minor", alpha=0.4)
    ax.grid(axis="y", alpha=0.4)
    ax.tick_params(axis="x", which="both", length=0)
    ax.set_ylabel("accuracy (%)")
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    fig.savefig(path, dpi=110)


def report(args: argparse.Namespace) -> None:
    """Write the table and the figure from every row in the cache."""
    path = args.output / f"{NAME}.json"
    rows = [row for row in all_rows(path) if row.n_test == args.n_test]
    if not rows:
        return
    figure(rows, path.with_suffix(".png"))
    targets = ATTACKS["FeaAttack"].n_targets
    write_page(
        path.with_suffix(".rst"),
        "Adversarial training on MNIST, l-infinity 0.3",
        "Made by ``python benchmarks/adversarial_training.py``. Accuracy in per cent on "
        f"{args.n_test} evenly spaced test images, mean and standard deviation over the seeds; "
        f"minutes are processor time on one of {machine()}, by a few batches of each method in "
        "turns.",
        "Every network has two strided convolutions of 64 channels and 128 dense units and is "
        f"trained by Adam ({args.lr:g}, falling to zero over the second half) in batches of "
        f"{BATCH_SIZE}; the radius grows to its value over {args.warm_up:.0%} of the epochs. The "
        "gradient attacks start at random in the ball and keep the last of 20 steps of 0.0375, or "
        "of 40 or 100 steps of 0.01; C&W climbs the margin of the logits instead of the log-loss; "
        f"FeaAttack pulls the last hidden features towards those of {targets} images of other "
        "classes, 50 steps of 0.0375 each, and every iterate counts. The worst case is an image "
        "that withstands all of them. None of these figures is a certificate.",
        f".. image:: {NAME}.png\n   :alt: Accuracy under each attack",
        table(rows),
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="folder of networks and rows")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="number of networks a method")
    parser.add_argument("--epochs", type=int, default=None, help="instead of --minutes")
    parser.add_argument("--minutes", type=float, default=40.0, help="processor time a network")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--warm-up", type=float, default=0.5, help="share of the epochs")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--n-train", type=int, default=60_000)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--report-only", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    args.cache.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    if not args.report_only:
        data = load(args)
        for seed in range(args.seeds):
            for method in args.methods:
                complete(method, seed, args, data)
    report(args)


if __name__ == "__main__":
    main()
