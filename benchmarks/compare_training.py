"""Every training strategy on the same net and data: certified accuracy, radius and time.

Trains LeNet on MNIST with each strategy by the published recipe (SGD, learning rate 0.01 that falls
tenfold after each third of the epochs, momentum 0.9, weight decay 1e-4, 256 noisy rows a batch, one
noise scale for training and certification), certifies test images, and writes a table and a figure
to ``docs/results``::

    python benchmarks/compare_training.py --data-home DIR --cache DIR
    python benchmarks/compare_training.py --data-home DIR --cache DIR --time

Weights go to the cache, and every finished row into ``compare_training.json`` beside the table, so
that an interrupted run goes on and rows come together from several runs; ``--methods`` and
``--epochs`` choose what is added, ``--report-only`` writes the page again. ``--time`` measures the
time of an epoch beside that of plain training, the two interleaved.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor

from randsmooth import SmoothedClassifier
from randsmooth.datasets import fetch_mnist
from randsmooth.metrics import average_certified_radius
from randsmooth.models import LeNet
from randsmooth.training import (
    CATRS,
    MACER,
    TRADES,
    AdversarialDistributionalTraining,
    AdversarialTraining,
    Consistency,
    GaussianAugmentation,
    SmoothAdv,
    SmoothMix,
    StabilityTraining,
    TrainingStrategy,
)
from tables import rest_table, write_page

ALPHA = 0.001
RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
CURVE = tuple(np.round(np.arange(0, 2.01, 0.02), 2).tolist())
NAME = "compare_training"


@dataclass(frozen=True)
class Method:
    """A strategy with its published settings for MNIST at sigma 0.5."""

    title: str
    strategy: Callable[[int], TrainingStrategy | None]  # of the number of epochs
    settings: str = ""
    rows_per_input: int = 1  # a batch of 256 rows holds that many times fewer inputs
    published: tuple[float, float] | None = None  # radius at 100,000 draws; the same at 10,000


METHODS = {
    "plain": Method("plain", lambda epochs: None),
    "augmentation": Method(
        "Gaussian augmentation", lambda epochs: GaussianAugmentation(), published=(1.558, 1.393)
    ),
    "stability": Method(
        "stability training",
        lambda epochs: StabilityTraining(2.0),
        "gamma 2",
        published=(1.572, 1.404),
    ),
    "consistency": Method(
        "consistency",
        lambda epochs: Consistency(5.0, entropy_weight=0.5, n_draws=2),
        "weight 5, entropy 0.5, 2 draws",
        2,
        published=(1.655, 1.453),
    ),
    "macer": Method(
        "MACER",
        lambda epochs: MACER(16.0, n_draws=16, beta=16.0, margin=8.0, start_epoch=epochs // 3 + 1),
        "weight 16, beta 16, margin 8, 16 draws of 256 inputs, after a third of the epochs",
        published=(1.590, 1.408),
    ),
    "smoothadv": Method(
        "SmoothAdv",
        lambda epochs: SmoothAdv(1.0, n_draws=2, n_steps=4, warm_up=min(10, epochs // 3)),
        "eps 1, 2 draws, 4 steps (published: 4 draws, 10 steps)",
        2,
        published=(1.687, 1.466),
    ),
    "smoothmix": Method(
        "SmoothMix",
        lambda epochs: SmoothMix(5.0, n_draws=2, warm_up=min(10, epochs // 3)),
        "eta 5, 2 draws, 4 steps of 1 (published: 4 draws)",
        2,
        published=(1.693, 1.466),
    ),
    "catrs": Method(
        "CAT-RS",
        lambda epochs: CATRS(1.0, eps=1.0, n_draws=4, n_steps=4),
        "weight 1, eps 1, 4 draws, 4 steps",
        4,
    ),
    "adversarial": Method(
        "adversarial training, l2",
        lambda epochs: AdversarialTraining(1.0, norm="l2", n_steps=4, warm_up=min(10, epochs // 3)),
        "eps 1, 4 steps, no noise",
    ),
    "trades": Method(
        "TRADES, l2",
        lambda epochs: TRADES(6.0, 1.0, norm="l2", n_steps=4, warm_up=min(10, epochs // 3)),
        "beta 6, eps 1, 4 steps, no noise",
    ),
    "adt": Method(
        "ADT-EXP, l-infinity",
        lambda epochs: AdversarialDistributionalTraining("exp", 0.3, n_steps=4, n_samples=1),
        "eps 0.3, 4 steps, 1 sample, no noise",
    ),
}


@dataclass
class Row:
    """What one training came to."""

    method: str
    sigma: float
    epochs: int
    seed: int
    n_train: int
    n_test: int
    n_estimation: int
    natural: float = 0.0
    radius_binary: float = 0.0
    radius: float = 0.0
    standard_error: float = 0.0
    accuracy: list[float] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    minutes: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.method}-s{self.sigma:g}-e{self.epochs}-seed{self.seed}-n{self.n_estimation}"

    @property
    def weights(self) -> str:
        return f"{self.method}-s{self.sigma:g}-e{self.epochs}-seed{self.seed}.pt"


class TrainedLeNet(LeNet):
    """LeNet whose training passes run in bfloat16, channels last.

    The same net, two to three times as fast on processors that multiply such numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to(memory_format=torch.channels_last)

    def forward(self, X: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(X)
        with torch.autocast(X.device.type, torch.bfloat16):
            return super().forward(X.contiguous(memory_format=torch.channels_last)).float()


class Progress(Callback):
    """Prints an epoch's loss as it ends."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_epoch_end(self, net: NeuralNetClassifier, **kwargs: Any) -> None:
        row = net.history[-1]
        print(
            f"{self.name} epoch {len(net.history)}: {row['train_loss']:.4f}, {row['dur']:.1f} s",
            flush=True,
        )


def untrained(method: Method, epochs: int, device: str, *callbacks: Any) -> NeuralNetClassifier:
    """Return the net with the published recipe."""
    schedule = LRScheduler("StepLR", step_size=max(1, epochs // 3), gamma=0.1)
    return NeuralNetClassifier(
        TrainedLeNet,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=0.01,
        optimizer__momentum=0.9,
        optimizer__weight_decay=1e-4,
        batch_size=256 // method.rows_per_input,
        max_epochs=epochs,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[("schedule", schedule), *callbacks],
        device=device,
        verbose=0,
    )


def smoothed(row: Row, device: str, *callbacks: Any) -> SmoothedClassifier:
    method = METHODS[row.method]
    return SmoothedClassifier(
        untrained(method, row.epochs, device, *callbacks),
        row.sigma,
        training=method.strategy(row.epochs),
        n_estimation=row.n_estimation,
        alpha=ALPHA,
        device=device,
        random_state=row.seed,
    )


def trained(row: Row, X: np.ndarray, y: np.ndarray, cache: Path, device: str) -> Any:
    """Return the fitted net, from the cache or trained now."""
    path = cache / row.weights
    if path.exists():
        net = untrained(METHODS[row.method], 1, device).initialize()
        kept = torch.load(path, map_location=device, weights_only=True)
        row.minutes = kept.pop("minutes", torch.tensor(0.0)).item()
        net.module_.load_state_dict(kept)
        return net
    started = time.perf_counter()
    net = smoothed(row, device, ("progress", Progress(row.method))).fit(X, y).estimator_
    row.minutes = (time.perf_counter() - started) / 60
    torch.save({**net.module_.state_dict(), "minutes": torch.tensor(row.minutes)}, path)
    return net


def certify(row: Row, net: Any, X: np.ndarray, y: np.ndarray, device: str) -> None:
    """Fill in what the net's votes for the test images say."""
    clf = SmoothedClassifier(
        FrozenEstimator(net),
        row.sigma,
        n_estimation=row.n_estimation,
        alpha=ALPHA,
        autocast="bfloat16",
        device=device,
        random_state=0,
    ).fit(X, y)
    record = clf.certificates(X)
    binary = record.with_bound("binary")
    row.natural = float(np.mean(record.label == y))
    row.radius = average_certified_radius(y, record.label, record.radius)
    row.radius_binary = average_certified_radius(y, binary.label, binary.radius)
    counted = np.where(binary.label == y, binary.radius, 0.0)
    row.standard_error = float(counted.std(ddof=1) / np.sqrt(len(y)))
    row.accuracy = binary.certified_accuracy(y, RADII).tolist()
    row.curve = binary.certified_accuracy(y, CURVE).tolist()


def relative_times(rows: list[Row], X: np.ndarray, y: np.ndarray, device: str) -> dict[str, float]:
    """Return the time of each method's epoch beside a plain one's, medians of interleaved runs."""

    def seconds(method: str) -> float:
        row = Row(method, 0.5, 3, 0, len(X), 0, 100)
        clf = smoothed(row, device).fit(X, y)
        return median(clf.estimator_.history[:, "dur"][1:])

    methods = sorted({row.method for row in rows}, key=list(METHODS).index)
    ratios = {}
    for method in methods:
        pairs = [(seconds("plain"), seconds(method)) for _ in range(3)]
        ratios[method] = median(own / plain for plain, own in pairs)
        print(f"{method}: {ratios[method]:.2f} times plain", flush=True)
    return ratios


def report(path: Path, command: str) -> None:
    """Write the page and the figure from the rows that there are."""
    kept = json.loads(path.read_text())
    rows = sorted(
        (Row(**row) for row in kept["rows"].values()),
        key=lambda row: (list(METHODS).index(row.method), -row.epochs, row.seed),
    )
    figure(rows, path.with_suffix(".png"))
    header = ["training", "epochs", "time", "natural", *(f"r = {r:g}" for r in RADII)]
    header += ["ACR, binary", "published, at 10,000 draws", "as published", "ACR, runner-up"]
    cells = []
    for row in rows:
        method, ratio = METHODS[row.method], kept["times"].get(row.method)
        settings = f" ({method.settings})" if method.settings else ""
        cells.append(
            [
                f"{method.title}{settings}",
                str(row.epochs),
                "" if ratio is None else f"{ratio:.1f}",
                *(f"{100 * value:.1f}" for value in (row.natural, *row.accuracy)),
                f"{row.radius_binary:.3f} ± {row.standard_error:.3f}",
                "" if method.published is None else f"{method.published[1]:.3f}",
                "" if method.published is None else f"{method.published[0]:.3f}",
                f"{row.radius:.3f}",
            ]
        )
    first = rows[0]
    write_page(
        path.with_suffix(".rst"),
        "Training strategies side by side",
        f"Made by ``{command}``, with the ``--methods`` and ``--epochs`` that the columns give, "
        f"and ``--time``. LeNet on the {first.n_train} training images of MNIST, sigma "
        f"{first.sigma:g} in training and certification, SGD by the recipe of Jeong and Shin "
        "(2020): learning rate 0.01, tenfold smaller after each third of the epochs, momentum "
        "0.9, weight decay 1e-4, batches of 256 noisy rows. Training and voting in bfloat16, so "
        "that the certificates are for the network in that arithmetic.",
        f"{first.n_test} evenly spaced test images; 100 selection draws, {first.n_estimation} "
        f"estimation draws, alpha = {ALPHA}. Certified accuracy in per cent and the average "
        "certified radius (ACR) are by the binary bound of the published tables; the runner-up "
        "bound certifies more from the same votes. Natural accuracy is that of the votes. ± is the "
        "standard error over the test images. Time is that of an epoch beside a plain one, "
        "interleaved, where it was measured.",
        "Published radii are means over the published logs of Jeong and Shin (2020) and Jeong et "
        "al. (2021), of all test images, most of them five seeds, with 100,000 draws. Those "
        "certify up to 1.907 and 10,000 up to 1.600, so that the same network has a smaller radius "
        "here. "
        "The logs say how many of the 100,000 votes each label had at the least; with that share "
        "as its probability, the expected radius from 10,000 votes is what the column has.",
        rest_table(header, cells),
        f".. image:: {NAME}.png\n   :alt: Certified accuracy of each strategy against radius",
        *([kept["remarks"]] if kept.get("remarks") else []),
    )


def figure(rows: list[Row], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    shown: dict[str, Row] = {}
    for row in rows:
        shown.setdefault(row.method, row)
    colours = plt.get_cmap("tab20")
    for i, row in enumerate(shown.values()):
        ax.step(
            CURVE,
            row.curve,
            where="pre",
            color=colours(i),
            label=f"{METHODS[row.method].title}, {row.epochs} epochs: {row.radius_binary:.3f}",
        )
    ax.set(xlabel="radius (l2)", ylabel="certified accuracy", xlim=(0, 1.65), ylim=(0, 1))
    ax.legend(fontsize=8, frameon=False, title="average certified radius")
    fig.savefig(path, dpi=110)
    plt.close(fig)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="folder of weights")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-train", type=int, default=60_000)
    parser.add_argument("--n-test", type=int, default=1000)
    parser.add_argument("--n-estimation", type=int, default=10_000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--time", action="store_true", help="measure the time of an epoch, only")
    parser.add_argument("--report-only", action="store_true")
    return parser.parse_args()


def update(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the file of rows, as it is now: other runs may have added to it."""
    kept = json.loads(path.read_text()) if path.exists() else {"rows": {}, "times": {}}
    change(kept)
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    args.cache.mkdir(parents=True, exist_ok=True)
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{NAME}.json"
    update(path, lambda kept: None)
    X, y = fetch_mnist(data_home=args.data_home, split="train", return_X_y=True)
    X, y = X[: args.n_train], y[: args.n_train]
    X_test, y_test = fetch_mnist(data_home=args.data_home, split="test", return_X_y=True)
    step = len(X_test) // args.n_test
    X_test, y_test = X_test[::step][: args.n_test], y_test[::step][: args.n_test]
    sizes = (args.seed, len(X), len(X_test), args.n_estimation)
    rows = [Row(method, args.sigma, args.epochs, *sizes) for method in args.methods]
    if args.time:
        times = relative_times(rows, X[:5120], y[:5120], args.device)
        update(path, lambda kept: kept["times"].update(times))
        rows = []
    for row in () if args.report_only else rows:
        if row.key in json.loads(path.read_text())["rows"]:
            continue
        net = trained(row, X, y, args.cache, args.device)
        certify(row, net, X_test, y_test, args.device)
        update(path, lambda kept, row=row: kept["rows"].update({row.key: asdict(row)}))
        print(f"{row.key}: ACR {row.radius_binary:.4f} binary, {row.radius:.4f}", flush=True)
    report(path, "python benchmarks/compare_training.py --data-home DIR --cache DIR")


if __name__ == "__main__":
    main()
