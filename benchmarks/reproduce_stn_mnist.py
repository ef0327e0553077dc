"""Figure 1 and Table 1 of Li et al. (2019) on real data, from training to certified accuracy.

Trains the paper's network with stability training, with Gaussian augmentation and plainly,
certifies test images for every noise scale, and writes tables and a figure to ``docs/results``::

    python benchmarks/reproduce_stn_mnist.py --data-home DIR --cache DIR
    python benchmarks/reproduce_stn_mnist.py --dataset cifar10 --data-home DIR --cache DIR

Networks and votes are kept in the cache, so that an interrupted run goes on and the report can be
made again without them (``--report-only``). ``--methods``, ``--sigmas`` and ``--n-estimation``
choose what is added to it; the tables show every record, the figure those with the most draws.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler

from randsmooth import Certificates, CertifiedAccuracyDisplay, SmoothedClassifier
from randsmooth.bounds import renyi_radius
from randsmooth.datasets import fetch_cifar10, fetch_mnist
from randsmooth.intervals import sison_glaz_intervals
from randsmooth.models import CIFARNet, MNISTNet
from randsmooth.noise import Gaussian
from randsmooth.training import GaussianAugmentation, StabilityTraining
from tables import rest_table, write_page

METHODS = ("stability", "augmentation", "plain")
ALPHA = 0.05  # "95 % confidence" in the paper
BOUNDS = {
    "neyman_pearson": "Neyman-Pearson with runner-up",
    "binary": "Neyman-Pearson, binary",
    "renyi": "Rényi (Li et al.)",
    "pixeldp": "PixelDP",
}


@dataclass(frozen=True)
class Experiment:
    """What differs between the paper's two data sets."""

    dataset: str
    sigmas: tuple[float, ...]
    row_sigma: float  # of Table 1
    row_radius: float
    row_title: str
    published: tuple[float, float]  # natural and certified accuracy of Table 1
    radii: tuple[float, ...]


EXPERIMENTS = {
    "mnist": Experiment(
        "mnist",
        (0.25, 0.5, 0.7, 1.0),
        0.7,
        1.58,
        "1.58",
        (0.989, 0.690),
        (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.58, 2.0),
    ),
    "cifar10": Experiment(
        "cifar10",
        (100 / 255,),
        100 / 255,
        36 / 255,
        "36/255",
        (0.805, 0.656),
        (0.0, 36 / 255, 0.25, 0.5, 0.75, 1.0),
    ),
}


@dataclass(frozen=True)
class Run:
    """One network under one noise scale."""

    dataset: str
    method: str
    sigma: float
    epochs: int
    gamma: float
    width: float
    seed: int
    stage: str = ""

    @property
    def network(self) -> str:
        """Name of the network's file; a plainly trained one serves every scale."""
        sigma = 0 if self.method == "plain" else self.sigma
        width = "" if self.width == 1 else f"_w{self.width:g}"
        return (
            f"{self.dataset}_{self.method}_{sigma:.4g}_e{self.epochs}_g{self.gamma:g}"
            f"{width}_s{self.seed}{self.stage}"
        )

    def record(self, n_estimation: int) -> str:
        """Name of the file of votes."""
        return f"{self.network}_at_{self.sigma:.4g}_n{n_estimation}"


def load(dataset: str, split: str, data_home: Path | None) -> tuple[np.ndarray, np.ndarray]:
    fetch = fetch_mnist if dataset == "mnist" else fetch_cifar10
    return fetch(data_home=data_home, split=split, return_X_y=True)


def untrained(run: Run, n_batches: int, device: str) -> NeuralNetClassifier:
    """Return the paper's net with its optimiser, and a learning rate that falls to zero."""
    smoothing = {
        "stability": StabilityTraining(run.gamma, noise=Gaussian(run.sigma), random_state=run.seed),
        "augmentation": GaussianAugmentation(noise=Gaussian(run.sigma), random_state=run.seed),
    }.get(run.method)
    schedule = LRScheduler("CosineAnnealingLR", T_max=run.epochs * n_batches, step_every="batch")
    callbacks = [("lr", schedule)] if smoothing is None else [("s", smoothing), ("lr", schedule)]
    cifar = {"module__width": run.width} if run.dataset == "cifar10" else {}
    decay = [("*.weight", {"weight_decay": 2e-4})] if run.dataset == "cifar10" else []
    return NeuralNetClassifier(
        CIFARNet if run.dataset == "cifar10" else MNISTNet,
        **cifar,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=decay,
        lr=1e-3,
        batch_size=128,
        max_epochs=run.epochs,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=callbacks,
        device=device,
    )


def trained(
    run: Run, data_home: Path | None, cache: Path, device: str, start: Path | None
) -> NeuralNetClassifier:
    """Return the network, from the cache or trained on the whole training set."""
    path = cache / f"{run.network}.pt"
    if path.exists():
        net = untrained(run, 1, device).initialize()
        net.module_.load_state_dict(torch.load(path, map_location=device, weights_only=True))
        return net
    X, y = load(run.dataset, "train", data_home)
    print(f"training {run.network} on {len(X)} images", flush=True)
    torch.manual_seed(run.seed)
    net = untrained(run, -(-len(X) // 128), device).initialize()
    if start is not None:
        net.module_.load_state_dict(torch.load(start, map_location=device, weights_only=True))
    net.partial_fit(X, y)
    torch.save(net.module_.state_dict(), path)
    return net


def certified(
    run: Run, net: NeuralNetClassifier, X: np.ndarray, y: np.ndarray, n: int, cache: Path
) -> None:
    """Draw the votes for the test images and keep them."""
    path = cache / f"{run.record(n)}.npz"
    if path.exists():
        return
    print(f"certifying {run.record(n)}", flush=True)
    clf = SmoothedClassifier(
        FrozenEstimator(net), run.sigma, n_estimation=n, alpha=ALPHA, random_state=0, verbose=1
    ).fit(X, y)
    clf.certificates(X).save(path)


def stage(start: Path | None) -> str:
    """Return what a network's name says of the epochs before a restart of the learning rate."""
    if start is None:
        return ""
    epochs = re.findall(r"_e(\d+)", start.stem)
    return f"_after_e{sum(map(int, epochs))}"


@dataclass(frozen=True)
class Result:
    """One record in the cache, and what its name says."""

    method: str
    sigma: float
    path: Path

    @property
    def certificates(self) -> Certificates:
        return Certificates.load(self.path)

    @property
    def network(self) -> str:
        return self.path.stem.split("_at_")[0]

    @property
    def epochs(self) -> list[str]:
        """Epochs of each stage of the training."""
        return re.findall(r"_e(\d+)", self.network)[::-1]

    @property
    def n_draws(self) -> int:
        return int(self.path.stem.rpartition("_n")[2])


def all_results(experiment: Experiment, cache: Path) -> list[Result]:
    """Return every record in the cache, by method, noise scale, training and draws."""
    found = []
    for path in cache.glob(f"{experiment.dataset}_*_at_*.npz"):
        method = path.stem.split("_")[1]
        sigma = float(path.stem.split("_at_")[1].partition("_")[0])
        found.append(Result(method, sigma, path))
    return sorted(
        found, key=lambda r: (METHODS.index(r.method), r.sigma, len(r.epochs), r.epochs, r.n_draws)
    )


def most_draws(results: list[Result]) -> dict[tuple[str, float], Certificates]:
    """Return for each method and scale the record with the most draws, the latest of several."""
    best: dict[tuple[str, float], Result] = {}
    for result in results:
        key = (result.method, result.sigma)
        if key not in best or result.n_draws >= best[key].n_draws:
            best[key] = result
    return {key: result.certificates for key, result in best.items()}


def as_published(counts: np.ndarray, y: np.ndarray, sigma: float, radius: float) -> float:
    """Return certified accuracy by the released code's limits, which hold 5 % of the time."""
    lower, upper = sison_glaz_intervals(counts, alpha=0.95)
    rows, label = np.arange(len(counts)), counts.argmax(axis=1)
    p_lower = lower[rows, label]
    upper[rows, label] = 0
    radii = renyi_radius(p_lower, np.minimum(upper.max(axis=1), 1 - p_lower), sigma=sigma)
    return float(np.mean((label == y) & (radii > radius)))


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def curve_table(experiment: Experiment, results: list[Result], y: np.ndarray) -> str:
    radii = [f"r = {r:.3g}" for r in experiment.radii]
    rows = []
    for result in results:
        accuracy = result.certificates.certified_accuracy(y, experiment.radii)
        settings = [f"{result.sigma:.3g}", " + ".join(result.epochs), str(result.n_draws)]
        rows.append([result.method, *settings, *map(percent, accuracy), f"``{result.network}``"])
    return rest_table(["training", "sigma", "epochs", "draws", *radii, "network"], rows)


def row_table(experiment: Experiment, results: list[Result], y: np.ndarray) -> str:
    radius, rows = experiment.row_radius, []
    natural, published = map(percent, experiment.published)
    rows.append(["published", "", "", "100", natural, "", "", "", "", published])
    for result in results:
        record, sigma, n = result.certificates, result.sigma, result.n_draws
        honest = [
            percent(record.with_bound(bound).certified_accuracy(y, [radius])[0]) for bound in BOUNDS
        ]
        votes = percent(float(np.mean(record.label == y)))
        few = percent(as_published(record.selection_counts, y, sigma, radius))
        many = percent(as_published(record.counts, y, sigma, radius))
        settings = [f"{sigma:.3g}", " + ".join(result.epochs), str(n), votes]
        variant = f"{few} (100 draws), {many} ({n} draws)"
        rows.append([result.method, *settings, *honest, variant])
    header = ["training", "sigma", "epochs", "draws", "natural", *BOUNDS.values()]
    header.append("5 % limits, Rényi")
    return rest_table(header, rows)


def figure(
    experiment: Experiment,
    records: dict[tuple[str, float], Certificates],
    y: np.ndarray,
    path: Path,
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(14, 4.6), sharey=True, layout="constrained")
    for (method, sigma), record in records.items():
        if method == "stability":
            CertifiedAccuracyDisplay.from_certificates(
                record, y, name=f"σ = {sigma:.2g}", ax=axes[0], show_band=False
            )
    axes[0].set_title("Stability training, Neyman-Pearson bound")
    styles = {"neyman_pearson": "-", "renyi": "--", "pixeldp": ":"}
    colours = dict(zip(METHODS, ("C0", "C1", "C2"), strict=True))
    for method in METHODS:
        if (votes := records.get((method, round(experiment.row_sigma, 4)))) is None:
            continue
        for bound, style in styles.items():
            record = votes.with_bound(bound)
            CertifiedAccuracyDisplay.from_certificates(
                record,
                y,
                name=f"{method}, {BOUNDS[bound]}",
                ax=axes[1],
                show_band=False,
                color=colours[method],
                linestyle=style,
            )
    axes[1].set_title(
        f"Three trainings, three bounds from the same votes, σ = {experiment.row_sigma:.2g}"
    )
    axes[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    fig.savefig(path, dpi=110)


def report(experiment: Experiment, cache: Path, y: np.ndarray, output: Path, command: str) -> None:
    """Write the tables and the figure from every record in the cache."""
    results = all_results(experiment, cache)
    output.mkdir(parents=True, exist_ok=True)
    name = f"stn_{experiment.dataset}"
    figure(experiment, most_draws(results), y, output / f"{name}.png")
    title = {"mnist": "Stability training on MNIST", "cifar10": "Stability training on CIFAR-10"}
    write_page(
        output / f"{name}.rst",
        title[experiment.dataset],
        f"Made by ``{command}``, one run after the other with the ``--methods``, ``--sigmas``, "
        "``--epochs``, ``--gamma``, ``--width`` and ``--n-estimation`` that the columns give (a "
        "network's name: epochs e, gamma g, width w or 1, seed s; ``after`` where it went on from "
        "``--start``). The trainings are far shorter than those behind published tables.",
        f"{len(y)} evenly spaced test images; 100 selection draws; 95 % limits (alpha = {ALPHA}) "
        "on every certificate; certified accuracy in per cent.",
        f".. image:: {name}.png\n   :alt: Certified accuracy against radius",
        "Certified accuracy by radius, tightest bound\n" + "-" * 44,
        curve_table(experiment, results, y),
        "The published row, and what the same votes give under each bound\n" + "-" * 64,
        f"Certified accuracy at radius {experiment.row_title}. The last column repeats the "
        "published computation: Sison-Glaz limits at the 5 % level that the released code used "
        "until December 2020, once with the votes that chose the label, as the paper did (100 "
        "draws), and once with the estimation votes. Those limits hold for one input in twenty "
        "and are no certificate: they give a unanimous vote the probability 1 and with it an "
        "infinite radius, whatever sigma and the number of draws. The paper does not say which "
        "sigma its row is for. The other columns cannot exceed what unanimous draws certify.",
        row_table(experiment, results, y),
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=EXPERIMENTS, default="mnist")
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="folder of networks and votes")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--sigmas", nargs="+", type=float, default=None)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--gamma", type=float, default=2.0)
    parser.add_argument("--width", type=float, default=1.0, help="width of the CIFAR-10 net")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-test", type=int, default=500)
    parser.add_argument("--n-estimation", type=int, default=1000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--start", type=Path, default=None, help="file of weights from the cache to go on from"
    )
    parser.add_argument("--report-only", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    experiment = EXPERIMENTS[args.dataset]
    args.cache.mkdir(parents=True, exist_ok=True)
    X, y = load(args.dataset, "test", args.data_home)
    step = len(X) // args.n_test
    X, y = X[::step][: args.n_test], y[::step][: args.n_test]
    started = time.perf_counter()
    for method in () if args.report_only else args.methods:
        for sigma in args.sigmas or experiment.sigmas:
            run = Run(
                args.dataset,
                method,
                sigma,
                args.epochs,
                args.gamma,
                args.width,
                args.seed,
                stage(args.start),
            )
            net = trained(run, args.data_home, args.cache, args.device, args.start)
            certified(run, net, X, y, args.n_estimation, args.cache)
            print(f"{time.perf_counter() - started:.0f} s so far", flush=True)
    command = "python benchmarks/reproduce_stn_mnist.py" + (
        "" if args.dataset == "mnist" else f" --dataset {args.dataset}"
    )
    report(experiment, args.cache, y, args.output, command)


if __name__ == "__main__":
    main()
