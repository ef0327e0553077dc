"""False certificates by floating-point noise, and what noise on the grid costs.

::

    python benchmarks/floating_point.py
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from torch import Tensor, nn

from measuring import Run, digits, interleave, machine, ratios, torch_threads, versions
from randsmooth import SmoothedClassifier
from randsmooth.models import MNISTNet
from randsmooth.noise import DiscreteGaussian, Gaussian, Noise
from randsmooth.noise.discrete_normal import RoundedNormal
from tables import rest_table, write_page

SIGMA = 0.5
N_DRAWS = 100_000
ROUNDS = 7
N_INPUTS = 2


class Possible(nn.Module):
    """Answers 1 where every number could be `origin` plus something, as it is rounded."""

    def __init__(self, origin: NDArray[Any]) -> None:
        super().__init__()
        self.origin = nn.Parameter(torch.from_numpy(origin))

    def forward(self, z: Tensor) -> Tensor:
        possible = (z - self.origin) + self.origin == z
        answer = possible.flatten(1).all(dim=1).to(z.dtype)
        return torch.stack([1 - answer, answer], dim=1)


def counter_example() -> list[list[str]]:
    rows = []
    for steps, dimension in ((204, 1), (51, 16), (17, 144)):
        for dtype in (np.float32, np.float64):
            X = np.array([np.zeros(dimension), np.full(dimension, steps / 255)], dtype=dtype)
            for noise in (Gaussian(SIGMA), DiscreteGaussian(SIGMA, levels=255)):
                clf = SmoothedClassifier(
                    FrozenEstimator(Possible(X[1])),
                    noise=noise,
                    n_estimation=N_DRAWS,
                    alpha=0.001,
                    random_state=0,
                ).fit(X, [0, 1])
                record = clf.certificates(X)
                same = record.label[0] == record.label[1]
                n_false = 0 if same else int((record.radius > np.linalg.norm(X[1])).sum())
                cells = [
                    f"{label}: {radius:.3f}"
                    for label, radius in zip(record.label, record.radius, strict=True)
                ]
                shares = [f"{100 * votes[1] / N_DRAWS:.3f}" for votes in record.counts]
                rows.append(
                    [
                        str(dimension),
                        np.dtype(dtype).name,
                        noise.name,
                        *shares,
                        *cells,
                        str(n_false),
                    ]
                )
    return rows


def sampling_cost() -> list[list[str]]:
    out = np.empty(2**20, dtype=np.float32)
    generator = np.random.Generator(np.random.Philox(0))
    rows = []
    for scale, levels in (
        (0.12, 255),
        (0.25, 255),
        (0.5, 255),
        (1.0, 255),
        (0.25, 4095),
        (0.25, 65535),
    ):
        started = time.process_time()
        RoundedNormal(scale, levels)
        made = time.process_time() - started
        runs = [
            Run(noise.name, lambda _, noise=noise: noise.fill_standard(out, generator))
            for noise in (Gaussian(scale), DiscreteGaussian(scale, levels))
        ]
        interleave(runs, 2 * ROUNDS)
        gaussian, discrete = (run.cpu[2:] for run in runs)
        nanoseconds = [digits(1e9 * np.median(cpu) / out.size) for cpu in (gaussian, discrete)]
        rows.append(
            [f"{scale:g}", str(levels), *nanoseconds, ratios(discrete, gaussian), digits(made)]
        )
    return rows


def certified(clf: SmoothedClassifier, X: NDArray[Any], number: int) -> None:
    clf.certificates(X, noise_seed=number)


def certification_cost() -> list[list[str]]:
    torch.manual_seed(0)
    X = (np.random.default_rng(0).integers(0, 256, (10, 1, 28, 28)) / 255).astype(np.float32)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    networks = {"MNISTNet": (MNISTNet(), 1000), "784-64-10": (dense, 20_000)}
    rows = []
    for name, (network, n_draws) in networks.items():
        network.eval()(torch.zeros(1, 1, 28, 28))
        settings: list[tuple[str, Noise, bool]] = [
            ("discrete_gaussian", DiscreteGaussian(0.25), True),
            ("gaussian, no shortcuts", Gaussian(0.25), False),
            ("gaussian", Gaussian(0.25), True),
        ]
        runs = []
        for setting, noise, shortcuts in settings:
            clf = SmoothedClassifier(
                FrozenEstimator(network),
                noise=noise,
                n_estimation=n_draws,
                shortcuts=shortcuts,
                random_state=0,
            ).fit(X, np.arange(10))
            runs.append(Run(setting, partial(certified, clf, X[:N_INPUTS])))
        interleave(runs, ROUNDS + 1)
        reference = runs[0].cpu[1:]
        for run in runs:
            cost = digits(1e6 * np.median(run.cpu[1:]) / (n_draws * N_INPUTS))
            rows.append([name, run.tool, cost, ratios(reference, run.cpu[1:])])
    return rows


def main() -> None:
    with torch_threads(1):
        false = counter_example()
        drawn, whole = sampling_cost(), certification_cost()
    write_page(
        Path("docs/results/floating_point.rst"),
        "Floating-point noise and noise on the grid",
        f"Made by ``python benchmarks/floating_point.py`` on {machine()}, one thread; "
        f"{versions('randsmooth', 'torch', 'numpy')}. Ratios are of processor time, side by side: "
        "median and quartiles. The theory is in :doc:`/floating_point`.",
        "A false certificate\n-------------------",
        "The base classifier asks of every number z whether it could be the rounded sum of one "
        "fixed number a and something: ``(z - a) + a == z``. It answers 1 where all coordinates "
        "could. The points are x = 0, a vector of zeros, and x' = (a, ..., a), a multiple of "
        f"1/255, at the distance 0.8. Noise of sigma = {SIGMA:g}, {N_DRAWS:,} draws, "
        "alpha = 0.001. Percentages are of votes for class 1, a certificate is *label: radius*. "
        "It is false where its ball holds the other point, whose certificate is for another class.",
        rest_table(
            [
                "dimension",
                "type",
                "noise",
                "votes at x, %",
                "votes at x', %",
                "certificate at x",
                "certificate at x'",
                "false",
            ],
            false,
        ),
        "The published instance certifies a radius of 1.26 around a point with an adversarial "
        "point at the distance 0.8 (Voráček and Hein 2023).",
        "Cost of the draws\n-----------------",
        "Filling 2\\ :sup:`20` numbers of single precision, and the seconds of making the table of "
        "thresholds, once for each sigma and levels.",
        rest_table(
            [
                "sigma",
                "levels",
                "gaussian, ns",
                "discrete_gaussian, ns",
                "ratio",
                "table, s",
            ],
            drawn,
        ),
        "Cost of a certificate\n---------------------",
        "Two images of 28 x 28. A ratio is the cost of discrete_gaussian over that of the row. "
        "Noise on the grid cannot pass the first layer apart from the input, nor be drawn behind "
        "it. Without shortcuts there is no convolution with the channels last either, which noise "
        "on the grid may have.",
        rest_table(["network", "noise", "microseconds a draw", "ratio"], whole),
    )


if __name__ == "__main__":
    main()
