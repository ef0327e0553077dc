"""A classifier and a run that the tests of stores share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from randsmooth import SmoothedClassifier

X, y = load_digits(return_X_y=True)
X = X / 16
N_INPUTS = 60


def classifier(**parameters: Any) -> SmoothedClassifier:
    settings = {"sigma": 0.25, "n_selection": 50, "n_estimation": 300, "random_state": 0}
    base = LogisticRegression(max_iter=2000)
    return SmoothedClassifier(base, **{**settings, **parameters}).fit(X[:600], y[:600])


def stored(path: Path, clf: SmoothedClassifier | None = None, **how: Any) -> Any:
    clf = classifier() if clf is None else clf
    return clf.certificates(X[:N_INPUTS], store=path, **how)


def same_counts(one: Any, other: Any) -> bool:
    return np.array_equal(one.counts, other.counts) and np.array_equal(
        one.selection_counts, other.selection_counts
    )
