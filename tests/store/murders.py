"""A base that kills the process that it is in: where inputs are bright, a given number of times."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from runs import X, y
from sklearn.linear_model import LogisticRegression

from randsmooth import SmoothedClassifier


class Murderous(LogisticRegression):
    """Every kill leaves a file in a folder, whose name is how many there may be."""

    def predict(self, X: Any) -> Any:
        if np.abs(X[:, 0] - 9).min() < 3:
            folder = Path(self.folder)
            for number in range(int(folder.name)):
                try:
                    (folder / str(number)).touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(X)


def murderous_run(
    tmp_path: Path, n_murders: int
) -> tuple[SmoothedClassifier, np.ndarray, Callable[[], int]]:
    """A classifier, inputs of which the last is bright, and what counts its victims."""
    folder = tmp_path / str(n_murders)
    folder.mkdir()
    clf = SmoothedClassifier(
        Murderous(max_iter=2000), 0.25, n_selection=50, n_estimation=300, random_state=0
    ).fit(X[:600], y[:600])
    clf.estimator_.folder = str(folder)
    inputs = X[:30].copy()
    inputs[-1, 0] = 9
    return clf, inputs, lambda: len(os.listdir(folder))
