"""The part of `throughput` about scikit-learn classifiers on the digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from measuring import Run, interleave, ratios, spread, votes_differ
from peers import ALPHA, N_SELECTION
from randsmooth import SmoothedClassifier
from tables import rest_table

SIGMA = 0.25


@dataclass(frozen=True)
class Case:
    """A classifier, and how much of it is certified, by randsmooth and by the loops."""

    name: str
    classifier: ClassifierMixin
    n_inputs: int
    n_draws: int
    n_loop_inputs: int
    n_loop_draws: int


def cases() -> list[Case]:
    forest = RandomForestClassifier(random_state=0)
    logistic = LogisticRegression(max_iter=1000)
    return [
        Case("LogisticRegression", logistic, 30, 10_000, 10, 1_000),
        Case("RandomForestClassifier, 100 trees", forest, 30, 1_000, 2, 100),
    ]


def one_by_one(classifier: Any, X: NDArray[np.float64], n: int, seed: int) -> NDArray[np.int64]:
    """Count votes with one call of `predict` for each draw."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((len(X), 10), dtype=np.int64)
    for row, x in enumerate(X):
        for _ in range(n):
            noisy = x + rng.normal(scale=SIGMA, size=x.shape)
            counts[row, classifier.predict(noisy[None])[0]] += 1
    return counts


def input_by_input(classifier: Any, X: NDArray[np.float64], n: int, seed: int) -> NDArray[np.int64]:
    """Count votes with one call of `predict` for each input."""
    rng = np.random.default_rng(seed)
    noisy = (x + rng.normal(scale=SIGMA, size=(n, *x.shape)) for x in X)
    return np.array([np.bincount(classifier.predict(rows), minlength=10) for rows in noisy])


def measured(case: Case, n_jobs: int, rounds: int, share: float) -> list[list[str]]:
    """Measure one classifier with a share of the draws, and return its rows of the table."""
    X, y = load_digits(return_X_y=True)
    X, y = X[200:] / 16, y[200:]
    n_draws, n_loop = int(case.n_draws * share), int(case.n_loop_draws * share)
    few, many = X[: case.n_loop_inputs], X[: case.n_inputs]
    classifier = case.classifier.fit(X, y)
    clf = SmoothedClassifier(
        FrozenEstimator(classifier), SIGMA, bound="binary", n_selection=N_SELECTION,
        n_estimation=n_draws, alpha=ALPHA, n_jobs=n_jobs, random_state=0,
    ).fit(X, y)  # fmt: skip
    own = Run("randsmooth", lambda i: clf.certificates(many, noise_seed=i).counts)
    one = Run("one call a draw", lambda i: one_by_one(classifier, few, n_loop, i))
    all_ = Run("one call an input", lambda i: input_by_input(classifier, many, n_draws, i))
    own(rounds)  # a first call, not timed
    interleave([own, one, all_], rounds)
    own_draws = len(many) * (n_draws + N_SELECTION)
    rows = []
    for run, n in ((own, own_draws), (one, len(few) * n_loop), (all_, len(many) * n_draws)):
        micro = [1e6 * seconds / n for seconds in run.cpu]
        slower = [
            ratios([s * own_draws / n for s in theirs], ours)
            for theirs, ours in ((run.cpu, own.cpu), (run.wall, own.wall))
        ]
        p_value = votes_differ(own.result[: len(run.result)], run.result)
        agreement = "" if run is own else f"{p_value:.2g}"
        rows.append([case.name, run.tool, spread(micro), *slower, agreement])
    return rows


def section(n_jobs: int, rounds: int, share: float) -> list[str]:
    """Measure, with a share of the draws, and return the parts of the page."""
    rows = []
    for case in cases():
        print(f"measuring {case.name}", flush=True)
        rows += measured(case, n_jobs, rounds, share)
    header = ["classifier", "tool", "processor, µs per draw", "ratio, processor", "ratio, clock"]
    return [
        "scikit-learn classifiers\n------------------------",
        "Trained on the digits and certified on some of them, beside two plain loops: one call of "
        "`predict` for each draw, and one for all draws of an input. Per draw; the first loop was "
        "timed on fewer.",
        rest_table([*header, "p-value"], rows),
    ]
