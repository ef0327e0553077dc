"""What the voting engine costs beside the bare network and beside a plain loop.

::

    python benchmarks/engine_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from randsmooth.bases import NetBase, net_base
from randsmooth.models import MNISTNet
from randsmooth.noise import Gaussian, Stream
from randsmooth.voting import Ballot, automatic_batch_size, count_votes
from tables import rest_table, write_page

SIGMA, ROUNDS = 0.5, 3


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...], int, int]]:
    """Return each network with its input shape, number of inputs and draws per input."""
    torch.manual_seed(0)
    perceptron = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip
    small = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 10),
    )  # fmt: skip
    return {
        "perceptron 784-128-128-10": (perceptron, (1, 28, 28), 20, 10_000),
        "two convolutions, 8 x 8": (small, (1, 8, 8), 20, 5_000),
        "MNIST net of Li et al.": (MNISTNet(), (1, 28, 28), 4, 256),
    }


def bare(base: NetBase, X: np.ndarray, n_draws: int, batch_size: int) -> None:
    """Run the network alone on as many rows, without noise or counting."""
    rows = torch.zeros((batch_size, *X.shape[1:]))
    with torch.inference_mode():
        for _ in range(-(-len(X) * n_draws // batch_size)):
            base.forward(rows)


def plain_loop(base: NetBase, X: np.ndarray, n_draws: int, batch_size: int) -> None:
    """Certify one input at a time, with fresh noise for each and a copy of the votes per batch."""
    with torch.inference_mode():
        for x in torch.from_numpy(X):
            counts = np.zeros(10, dtype=int)
            for start in range(0, n_draws, batch_size):
                rows = x.repeat((min(batch_size, n_draws - start), *[1] * x.ndim))
                votes = base.forward(rows + torch.randn_like(rows) * SIGMA).argmax(1)
                counts += np.bincount(votes.numpy(), minlength=10)


def engine(base: NetBase, X: np.ndarray, n_draws: int, batch_size: int) -> None:
    ballot = Ballot(Gaussian(SIGMA), 0, Stream.ESTIMATION, n_draws, common_noise=True)
    count_votes(base, X, ballot, batch_size=batch_size)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, (network, shape, n_inputs, n_draws) in networks().items():
        X = np.random.default_rng(0).random((n_inputs, *shape), dtype=np.float32)
        base = net_base(network.eval(), X[:1], "cpu")
        batch_size = automatic_batch_size(base, shape)
        runs: list[tuple[str, Callable[..., None], int]] = [
            ("bare network", bare, batch_size),
            ("engine", engine, batch_size),
            ("plain loop, batch 400", plain_loop, 400),
        ]
        best = dict.fromkeys((title for title, _, _ in runs), float("inf"))
        for _ in range(ROUNDS):  # interleaved, so that a busy moment hits all alike
            for title, run, size in runs:
                started = time.process_time()
                run(base, X, n_draws, size)
                best[title] = min(best[title], time.process_time() - started)
        per_draw = {title: 1e6 * t / (n_inputs * n_draws) for title, t in best.items()}
        own = per_draw["bare network"]
        rows.append([name, *[f"{t:.1f} ({t / own:.2f})" for t in per_draw.values()]])
    write_page(
        Path("docs/results/engine_speed.rst"),
        "Speed of the engine",
        "Made by ``python benchmarks/engine_speed.py``: microseconds of process time per draw on "
        "one core, best of three interleaved rounds, and in brackets the ratio to the bare network "
        "at the engine's batch size.",
        rest_table(["network", "bare network", "engine", "plain loop, batch 400"], rows),
    )


if __name__ == "__main__":
    main()
