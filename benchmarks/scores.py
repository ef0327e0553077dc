"""What scores cost beside votes, and what deterministic splitting costs beside random draws.

Both sides of every ratio are the same network or classifier, run in turn::

    python benchmarks/scores.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from measuring import Run, interleave, machine, ratios, spread, torch_threads, versions
from randsmooth import SmoothedClassifier
from randsmooth.models import MNISTNet
from randsmooth.noise import DeterministicSplitting
from tables import rest_table, write_page
from throughput_networks import Case, cases, smoothed

N_RANDOM = 100_000
LEVELS = 255
# Half-widths of the noise in which the literature reports splitting noise.
HALF_WIDTHS = (0.5, 1.0, 2.0, 3.5 * 3**0.5)


def seconds(runs: list[Run]) -> list[str]:
    return [f"{spread(run.wall)}" for run in runs]


def in_turn(one: Callable[[], object], other: Callable[[], object], rounds: int) -> list[Run]:
    runs = [Run("", lambda _: one()), Run("", lambda _: other())]
    for run in runs:
        run.action(0)
    interleave(runs, rounds)
    return runs


def network_row(case: Case, rounds: int) -> list[str]:
    clf = smoothed(case, 1, {})
    X = case.inputs
    runs = in_turn(partial(clf.certificates, X), partial(clf.confidence_certificates, X), rounds)
    return row_of(case.name, case.n_inputs, case.n_draws, runs)


def classifier_row(name: str, estimator: Any, rounds: int) -> list[str]:
    X, y = load_digits(return_X_y=True)
    estimator = estimator.fit(X / 16, y)
    clf = SmoothedClassifier(FrozenEstimator(estimator), n_estimation=2_000, random_state=0)
    clf = clf.fit(X / 16, y)
    rows = X[:30] / 16
    runs = in_turn(
        partial(clf.certificates, rows), partial(clf.confidence_certificates, rows), rounds
    )
    noisy = np.random.default_rng(0).normal(size=(8192, 64))
    bare = in_turn(
        partial(estimator.predict, noisy), partial(estimator.predict_proba, noisy), 4 * rounds
    )
    row = row_of(name, len(rows), 2_000, runs)
    return [*row[:-1], ratios(bare[1].cpu, bare[0].cpu)]


def row_of(name: str, n_inputs: int, n_draws: int, runs: list[Run]) -> list[str]:
    votes, scores = runs
    return [
        name,
        f"{n_inputs} x {n_draws:,}",
        *seconds(runs),
        ratios(scores.wall, votes.wall),
        ratios(scores.cpu, votes.cpu),
        "",
    ]


def splitting_rows() -> list[list[str]]:
    """Return what all outcomes of splitting noise take beside random draws on the same net."""
    torch.manual_seed(0)
    X = np.rint(np.random.default_rng(0).random((1, 1, 28, 28)) * LEVELS) / LEVELS
    X = X.astype(np.float32)
    y = np.arange(20) % 10
    net = FrozenEstimator(MNISTNet().eval())
    drawn = SmoothedClassifier(net, n_estimation=N_RANDOM, random_state=0, shortcuts=False)
    drawn = drawn.fit(np.zeros((20, 1, 28, 28), dtype=np.float32), y)
    drawn.set_params(n_estimation=1_000).certificates(X)  # warms up
    slow = Run("", lambda _: drawn.set_params(n_estimation=N_RANDOM).certificates(X))
    rows = []
    for half_width in HALF_WIDTHS:
        noise = DeterministicSplitting(half_width, levels=LEVELS)
        exact = SmoothedClassifier(net, noise=noise, random_state=0, shortcuts=False)
        exact = exact.fit(np.zeros((20, 1, 28, 28), dtype=np.float32), y)
        exact.certificates(X)
        slow.costs.clear()
        quick = Run("", lambda _, exact=exact: exact.certificates(X))
        interleave([quick, slow, quick], 1)
        rows.append(
            [
                f"{half_width:.3g}",
                f"{noise.n_outcomes:,}",
                f"{(N_RANDOM + 100) / noise.n_outcomes:.0f}",
                *seconds([slow, quick]),
                ratios(slow.wall * 2, quick.wall),
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with torch_threads(1):
        compared = [network_row(case, arguments.rounds) for case in cases()]
        compared += [
            classifier_row("logistic regression", LogisticRegression(max_iter=2000), 5),
            classifier_row("random forest", RandomForestClassifier(50, random_state=0), 3),
        ]
        exact = splitting_rows()
    write_page(
        Path("docs/results/scores.rst"),
        "Scores beside votes, all outcomes beside random draws",
        f"Made by ``python benchmarks/scores.py`` on a machine of {machine()}, with one thread; "
        f"{versions('torch', 'scikit-learn', 'numpy')}. Medians, with quartiles in brackets; the "
        f"two sides of a ratio ran in turn, {arguments.rounds} rounds.",
        "Certified confidence sorts the score of each draw into one of 1,024 cells; a certified "
        "radius counts votes. Both draw the same noise and run the same network. What "
        "scikit-learn's ``predict_proba`` costs beside ``predict`` on the same rows is in the last "
        "column.",
        rest_table(
            [
                "base",
                "inputs x draws",
                "votes, s",
                "scores, s",
                "times the votes",
                "processor",
                "predict_proba / predict",
            ],
            compared,
        ),
        f"Deterministic splitting noise tries each of its outcomes once. Beside it, {N_RANDOM:,} "
        f"Gaussian draws and 100 that choose the label, for one input of MNISTNet: once, between "
        f"two runs of all outcomes.",
        rest_table(
            [
                "half-width",
                "outcomes",
                "times fewer passes",
                "random draws, s",
                "all outcomes, s",
                "times cheaper",
            ],
            exact,
        ),
    )


if __name__ == "__main__":
    main()
