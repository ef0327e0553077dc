"""A whole table of certified accuracy, drawn sequentially, beside the loop with its fixed draws.

::

    python benchmarks/sequential_table.py --data-home DIR --cache DIR --cohen path/to/core.py

Trains the MNIST net of Li et al. under noise, asks randsmooth which of four radii hold for test
images, and compares the cost with the reference loop of Cohen et al. at 100,000 draws an image, and
the table with one from 100,000 draws. The network and those draws are kept in the cache, so that an
interrupted run goes on.
"""

from __future__ import annotations

import argparse
import inspect
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from torch import nn

from measuring import N_CORES, Cost, digits, machine, spread, timed, torch_threads, versions
from peers import (
    ALPHA,
    AS_PUBLISHED,
    BATCH_SIZES,
    N_SELECTION,
    Peer,
    ReferenceLoop,
    Setting,
    chosen_settings,
    present,
    try_settings,
)
from randsmooth import Certificates, SmoothedClassifier, certify_counts
from randsmooth.datasets import fetch_mnist
from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper
from randsmooth.models import MNISTNet
from tables import rest_table, write_page

SIGMA, N_DRAWS, TRAINING_BATCH = 0.25, 100_000, 128
RADII = (0.0, 0.25, 0.5, 0.75)
N_TIMED = 2_000  # draws of the reference loop that are timed in each round
PACKAGES = ("randsmooth", "torch", "numpy", "scipy")
OTHER_SEEDS = 10**6  # those of the fixed draws start here, those of the sequential ones at 0


def trained(data_home: Path | None, path: Path, n_images: int, n_epochs: int) -> nn.Module:
    """Return the network, from the file of its weights or trained on noisy images."""
    torch.manual_seed(0)
    net = MNISTNet()
    if not path.exists():
        X, y = fetch_mnist(data_home=data_home, split="train", return_X_y=True)
        print(f"training on {n_images} images", flush=True)
        train(net, torch.from_numpy(X[:n_images]), torch.from_numpy(y[:n_images]), n_epochs)
        torch.save(net.state_dict(), path)
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def train(net: nn.Module, X: torch.Tensor, y: torch.Tensor, n_epochs: int) -> None:
    """Train by Adam with Gaussian noise on every image, the learning rate falling to zero."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    n_steps = n_epochs * -(-len(X) // TRAINING_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    net.train()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X)).split(TRAINING_BATCH):
            noisy = X[rows] + SIGMA * torch.randn_like(X[rows])
            loss = nn.functional.cross_entropy(net(noisy), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def smoothed(net: nn.Module, n_jobs: int) -> SmoothedClassifier:
    clf = SmoothedClassifier(
        FrozenEstimator(net),
        SIGMA,
        bound="binary",
        n_selection=N_SELECTION,
        n_estimation=N_DRAWS,
        alpha=ALPHA,
        n_jobs=n_jobs,
        random_state=0,
    )
    return clf.fit(np.zeros((10, 1, 28, 28), dtype=np.float32), np.arange(10))


@dataclass(frozen=True)
class Images:
    """Test images, and where they stand in the test set."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    numbers: NDArray[np.intp]

    def __getitem__(self, rows: slice) -> Images:
        return Images(self.X[rows], self.y[rows], self.numbers[rows])

    def groups(self, size: int) -> list[Images]:
        return [self[start : start + size] for start in range(0, len(self.X), size)]


def test_images(data_home: Path | None, n_images: int) -> Images:
    """Return a random sample of the test images; a smaller one is the beginning of a larger."""
    X, y = fetch_mnist(data_home=data_home, split="test", return_X_y=True)
    numbers = np.random.default_rng(0).permutation(len(X))[:n_images]
    return Images(X[numbers], y[numbers], numbers)


@dataclass
class Measured:
    """Groups of images: our record and cost, and the reference loop's for one image."""

    records: list[Certificates]
    own: list[Cost]  # per image
    reference: dict[str, list[Cost]]  # per image, scaled to all draws; empty without a checkout
    settings: list[tuple[str, Setting]]  # of the loop


def measured(
    clf: SmoothedClassifier, images: Images, loop: Peer | None, n_jobs: int, group: int
) -> Measured:
    """Certify group by group, with the reference loop on one image in between."""
    settings = []
    if loop is not None:
        tried = try_settings(
            loop, images.X[:1], 1000, batch_sizes=BATCH_SIZES, n_threads=(1, n_jobs)
        )
        settings = chosen_settings(loop, tried)
    clf.certificates(images.X[:n_jobs], radii=[RADII[0]])  # a first call
    result = Measured([], [], {}, settings)
    for number, part in enumerate(images.groups(group)):
        cost = timed(
            lambda part=part, number=number: result.records.append(
                clf.certificates(part.X, radii=RADII, noise_seed=number)
            )
        )
        result.own.append(Cost(cost.cpu / len(part.X), cost.wall / len(part.X)))
        if loop is not None:
            for tool, cost in reference_costs(loop, part.X[:1], settings).items():
                result.reference.setdefault(tool, []).append(cost)
        print(f"group {number}: {result.own[-1]} an image", flush=True)
    return result


def reference_costs(
    loop: Peer, X: NDArray[np.float32], settings: list[tuple[str, Setting]]
) -> dict[str, Cost]:
    """Return what one image costs the loop at all draws, from fewer: the cost is proportional."""
    scale = (N_DRAWS + N_SELECTION) / (N_TIMED + N_SELECTION)
    costs: dict[str, Cost] = {}
    for tool, setting in settings:
        with torch_threads(setting.n_threads):
            cost = timed(partial(loop.certify, X, N_TIMED, setting.batch_size))
        best = costs.get(tool, Cost(np.inf, np.inf))
        costs[tool] = Cost(min(best.cpu, scale * cost.cpu), min(best.wall, scale * cost.wall))
    return costs


def with_all_draws(
    clf: SmoothedClassifier, images: Images, weights: Path, n_jobs: int
) -> list[Certificates]:
    """Return records of the images from all draws, the votes from the cache where they are there.

    The noise is other than the sequential draws had.
    """
    records = []
    for number, part in enumerate(images.groups(2 * n_jobs)):
        seed, name = OTHER_SEEDS + number, f"{len(part.X)}_images_from_{part.numbers[0]}"
        path = weights.with_name(f"{weights.stem}_n{N_DRAWS}_seed{seed}_{name}.npz")
        if not path.exists():
            print(f"{N_DRAWS} draws for each of the images {part.numbers.tolist()}", flush=True)
            record = clf.certificates(part.X, noise_seed=seed)
            np.savez(path, selection=record.selection_counts, estimation=record.counts)
        with np.load(path) as votes:
            records.append(
                certify_counts(
                    votes["selection"], votes["estimation"], noise="gaussian", sigma=SIGMA,
                    alpha=ALPHA, bound="binary",
                )
            )  # fmt: skip
    return records


def certified(records: list[Certificates], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each image and radius whether it is classified right and certified."""
    label = np.concatenate([record.label for record in records])
    radius = np.concatenate([record.radius for record in records])
    abstained = np.concatenate([record.abstained for record in records])
    right = (label == y[: len(label)]) & ~abstained
    return right[:, None] & (radius[:, None] >= RADII)


def cost_table(result: Measured) -> str:
    """Return the table of draws and seconds per image, and of how many times more others need."""
    draws = np.concatenate([record.n_draws for record in result.records]) + N_SELECTION
    sizes, all_draws = [len(record) for record in result.records], N_DRAWS + N_SELECTION
    cpu = np.average([cost.cpu for cost in result.own], weights=sizes)
    wall = np.average([cost.wall for cost in result.own], weights=sizes)
    rows = [
        [
            f"randsmooth, {len(RADII)} radii",
            f"{draws.mean():.0f}",
            "",
            digits(cpu),
            "",
            digits(wall),
            "",
        ]
    ]
    fewer = digits(all_draws / draws.mean())
    for tool in (ReferenceLoop.name, AS_PUBLISHED):
        row = [tool, str(all_draws), fewer]
        if costs := result.reference.get(tool):
            for seconds, own in (([c.cpu for c in costs], cpu), ([c.wall for c in costs], wall)):
                row += [spread(seconds), digits(np.median(seconds) / own)]
        rows.append(row if costs else [*row, "absent", "", "absent", ""])
    header = ["tool", "draws per image", "ratio", "processor, s per image", "ratio"]
    return rest_table([*header, "clock, s per image", "ratio"], rows)


def accuracy_table(ours: NDArray[np.bool_], others: NDArray[np.bool_]) -> str:
    """Return both certified accuracies, where they differ, and binomial limits."""
    n, n_others = len(ours), len(others)
    same = ours[:n_others]
    rows = []
    for i, radius in enumerate(RADII):
        kept = others[:, i].sum()
        low = clopper_pearson_lower(kept, n_others, alpha=0.025)
        high = clopper_pearson_upper(kept, n_others, alpha=0.025)
        gained, lost = (same[:, i] & ~others[:, i]).sum(), (~same[:, i] & others[:, i]).sum()
        shares = [f"{100 * part[:, i].mean():.1f}" for part in (ours, same, others)]
        limits = f"{100 * low:.1f} to {100 * high:.1f}"
        rows.append([f"{radius:g}", *shares, limits, str(gained), str(lost)])
    header = [
        "radius", f"sequential, {n} images, %", f"sequential, {n_others} of them, %",
        f"{N_DRAWS} draws, the same, %", "its binomial limits, 95 %", "only sequential",
        f"only {N_DRAWS}",
    ]  # fmt: skip
    return rest_table(header, rows)


def write(
    result: Measured, images: Images, others: list[Certificates], args: argparse.Namespace
) -> None:
    """Write the page."""
    draws = np.concatenate([record.n_draws for record in result.records])
    command = "python benchmarks/sequential_table.py --data-home DIR --cache DIR"
    command += " --cohen core.py" if args.cohen else ""
    command += f" --n-images {args.n_images} --n-fixed {args.n_fixed}"
    settings = "; ".join(f"{tool}: {setting}" for tool, setting in result.settings)
    settings = settings or "absent here"
    write_page(
        args.output / "sequential_table.rst",
        "A table of certified accuracy, drawn sequentially",
        f"Made by ``{command}`` on {machine()}; {versions(*PACKAGES)}. MNISTNet, trained for "
        f"{args.epochs} epochs on {args.n_training} images with Gaussian noise of sigma = "
        f'{SIGMA:g}; alpha = {ALPHA:g} an image for the whole table, bound "binary", {N_SELECTION} '
        "selection draws.",
        f"*randsmooth*: ``certificates(X, radii={list(RADII)})`` with at most {N_DRAWS} draws, for "
        f"{len(images.X)} test images drawn at random, in {len(result.own)} groups; half of the "
        f"images took at most {np.median(draws):.0f} draws, one in ten more than "
        f"{np.quantile(draws, 0.9):.0f}. *Reference loop*: ``Smooth.certify`` with {N_DRAWS} "
        f"draws, its cost scaled from {N_TIMED} draws of one image of each group, since it is "
        f"proportional to the draws; quartiles over the groups. It stands here in the best of "
        f"several settings and with the batches of its published runs ({settings}).",
        cost_table(result),
        f"The loop would take hours for the other column of the table below, so its {N_DRAWS} "
        "draws are those of randsmooth without ``radii``: the same law, the same limits, other "
        "noise than the sequential draws. The limits are those of a share of so many images. "
        "The last columns count the images on which the two disagree.",
        accuracy_table(certified(result.records, images.y), certified(others, images.y)),
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="folder of networks and votes")
    parser.add_argument("--cohen", type=Path, help="core.py of the repository locuslab/smoothing")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--jobs", type=int, default=N_CORES)
    parser.add_argument("--n-training", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--n-images", type=int, default=100)
    parser.add_argument("--n-fixed", type=int, default=20, help="how many get all draws")
    parser.add_argument("--group", type=int, default=20, help="images certified together")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    if "radii" not in inspect.signature(SmoothedClassifier.certificates).parameters:
        raise SystemExit("This version of randsmooth has no certificates(X, radii=...).")
    args.cache.mkdir(parents=True, exist_ok=True)
    name = f"mnist_net_sigma_{SIGMA:g}_{args.n_training}_images_{args.epochs}_epochs"
    weights = args.cache / f"{name}.pt"
    net = trained(args.data_home, weights, args.n_training, args.epochs)
    images = test_images(args.data_home, args.n_images)
    clf = smoothed(net, args.jobs)
    peers = present(args.cohen, net, (1, 28, 28), sigma=SIGMA)
    loop = next((peer for peer in peers if peer.name == ReferenceLoop.name), None)
    result = measured(clf, images, loop, args.jobs, args.group)
    others = with_all_draws(clf, images[: args.n_fixed], weights, args.jobs)
    write(result, images, others, args)


if __name__ == "__main__":
    main()
