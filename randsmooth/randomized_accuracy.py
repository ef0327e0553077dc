"""Accuracy of the classifier that answers with a single noisy vote, and what an attack takes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from randsmooth.bounds.accuracy import AccuracyGap, accuracy_gap_from_counts
from randsmooth.certification import CertificationRun, certification_run
from randsmooth.exceptions import CertificationError
from randsmooth.inputs import inputs_as_fitted
from randsmooth.noise import Noise, Stream, row_key
from randsmooth.parameters import checked_seed, most_draws
from randsmooth.questions import check_noise_is_drawn, class_columns, shift_of
from randsmooth.stopping import FixedDraws

__all__ = ["randomized_accuracy_gap"]


def randomized_accuracy_gap(
    clf: Any,
    X: ArrayLike,
    y: ArrayLike,
    epsilon: float,
    delta: float,
    *,
    bound: str,
    estimate: str,
    noise_seed: int | None,
) -> AccuracyGap:
    """Return what an attack can take from the accuracy; see `SmoothedClassifier.accuracy_gap`."""
    check_is_fitted(clf)
    array = inputs_as_fitted(clf, X)
    columns = class_columns(y, clf.classes_, len(array), "y")
    known = _known_of(clf.noise_, epsilon)
    settings: dict[str, Any] = {
        "attack": epsilon,
        "delta": delta,
        "bound": bound,
        "estimate": estimate,
        "norm": clf.noise_.norm,
        **known,
    }
    # A question that cannot be answered is refused before anything is drawn.
    one_vote = np.eye(1, len(clf.classes_), dtype=np.int64) * 2
    accuracy_gap_from_counts(one_vote, one_vote, np.zeros(1, dtype=np.intp), **settings)
    anchors, counts = _independent_votes(clf, array, noise_seed)
    return accuracy_gap_from_counts(counts, anchors, columns, **settings)


def _known_of(noise: Noise, epsilon: float) -> dict[str, Any]:
    """Return what is known of how far an attack can move the noise."""
    if not (isinstance(epsilon, (int, float, np.number)) and 0 <= epsilon < math.inf):
        raise ValueError(f"epsilon must be a finite number of at least 0, got {epsilon!r}.")
    return {
        "divergence": noise.largest_divergence(epsilon, order=1),
        "max_divergence": noise.largest_divergence(epsilon, order=math.inf),
        "total_variation": noise.total_variation(epsilon),
        "probability_lower": shift_of(noise),
    }


def _independent_votes(
    clf: Any, X: NDArray[Any], noise_seed: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return selection and estimation votes of which none share any noise.

    An input's own noise comes from its content. Repeated inputs therefore take another bank each.
    """
    seed = clf.noise_seed_ if noise_seed is None else checked_seed(noise_seed)
    occurrence = _occurrences(X)
    tables = np.zeros((2, len(X), len(clf.classes_)), dtype=np.int64)
    errors: dict[int, Exception] = {}
    for repeat in range(int(occurrence.max()) + 1):
        rows = np.flatnonzero(occurrence == repeat)
        run = certification_run(clf, X[rows], _bank(seed, repeat), common_noise=False)
        check_noise_is_drawn(run)
        tables[:, rows] = _votes(run)
        errors |= {int(rows[row]): error for row, error in run.errors.items()}
    if errors:
        raise CertificationError.of_rows(errors)
    return tables[0], tables[1]


def _votes(run: CertificationRun) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    selection = run.selection()
    rule = FixedDraws(most_draws(run.clf.n_estimation), len(run.X))
    return selection, run.tally(Stream.ESTIMATION, rule).counts


def _occurrences(X: NDArray[Any]) -> NDArray[np.intp]:
    """Return for each input how many equal ones come before it."""
    seen: Counter[bytes] = Counter()
    numbers = np.zeros(len(X), dtype=np.intp)
    for row, key in enumerate(map(row_key, X)):
        numbers[row] = seen[key]
        seen[key] += 1
    return numbers


def _bank(seed: int, repeat: int) -> int:
    """Return the seed of the noise bank of inputs that came up before."""
    if repeat == 0:
        return seed
    mixed = np.random.SeedSequence([seed, repeat]).generate_state(1, np.uint64)
    return int(mixed[0] >> np.uint64(1))
