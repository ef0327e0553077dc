"""Questions to a fitted classifier beyond its label, answered from draws of their own."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from randsmooth.bounds.confidence import mean_confidence_lower, mean_confidence_radius
from randsmooth.certificates.confidence import (
    MEASURES,
    ConfidenceCertificates,
    check_measure,
    check_method,
)
from randsmooth.certificates.from_counts import imported_versions
from randsmooth.certificates.top_k import TopKCertificates, certify_top_k_counts, check_k
from randsmooth.certification import CertificationRun
from randsmooth.exceptions import CertificationError
from randsmooth.intervals import dkw_margin
from randsmooth.metrics import same_labels
from randsmooth.noise import Noise, Stream
from randsmooth.parameters import most_draws
from randsmooth.readings import SCORE_UNITS, Scores
from randsmooth.stopping import FixedDraws

__all__ = [
    "certified_confidence",
    "certified_top_k",
    "check_confidence_question",
    "check_noise_is_drawn",
    "class_columns",
    "shift_of",
]

# A sum of this many probabilities in single precision is 1 within this much.
_SUM_TOLERANCE = 1e-3


def certified_confidence(
    run: CertificationRun, measure: str, n_thresholds: int
) -> ConfidenceCertificates:
    """Return how confident a classifier provably stays.

    Parameters
    ----------
    run : CertificationRun
        A run over the inputs, before its first draw.

    measure : {"score", "margin"}
        The measure of confidence.

    n_thresholds : int
        Number of levels, equally far apart, that the scores are compared with.

    Returns
    -------
    ConfidenceCertificates
        The record.

    Raises
    ------
    ValueError
        If `measure` or `n_thresholds` is out of range, or the base's scores are no probabilities.

    TypeError
        If the base gives no probabilities.

    CertificationError
        If some inputs could not be classified. It keeps the record of the others.
    """
    check_measure(measure)
    most = SCORE_UNITS // 2**10
    if not isinstance(n_thresholds, Integral) or not 1 <= n_thresholds <= most:
        raise ValueError(f"n_thresholds must be an integer from 1 to {most}, got {n_thresholds!r}.")
    check_noise_is_drawn(run)
    clf, n_draws = run.clf, most_draws(run.clf.n_estimation)
    check_shift_is_known(clf.noise_)
    dkw_margin(n_draws, alpha=clf.alpha)  # refuses a failure probability above one half
    _check_scores(run)
    labels = run.selection().argmax(axis=1)
    reading = Scores(labels, int(n_thresholds), measure)
    table = run.tally(Stream.ESTIMATION, FixedDraws(n_draws, len(run.X)), reading).counts
    table[np.array(sorted(run.errors), dtype=np.intp)] = 0
    low, high = MEASURES[measure]
    share = table[:, -1] / (SCORE_UNITS * n_draws)

    record = ConfidenceCertificates(
        label=clf.classes_[labels],
        thresholds=_upper_ends(int(n_thresholds), low, high),
        counts=_reaching(table[:, :-1]),
        mean=np.nextafter(np.maximum(low, low + (high - low) * share), low),
        n_draws=n_draws,
        measure=measure,
        noise=clf.noise_,
        alpha=float(clf.alpha),
        classes=clf.classes_,
        noise_seed=run.noise_seed,
        execution=run.facts()["execution"],
        versions=imported_versions(),
    )
    if run.errors:
        raise CertificationError.of_rows(run.errors, record)
    return record


def check_confidence_question(
    clf: Any, radius: ArrayLike | None, threshold: ArrayLike | None, *, measure: str, method: str
) -> None:
    """Refuse a question about confidence that could not be answered, before anything is drawn.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    radius, threshold : float, array-like of float or None
        What is asked; one of them.

    measure : str
        The measure of confidence.

    method : str
        The way to bound it.

    Raises
    ------
    ValueError
        If the question is out of range, or so many draws can never certify the threshold.
    """
    check_is_fitted(clf)
    if (radius is None) == (threshold is None):
        raise ValueError(
            f"radius or threshold must be given, and not both, got radius={radius!r} and "
            f"threshold={threshold!r}. For several questions about the same draws, ask the record "
            f"that confidence_certificates returns."
        )
    check_measure(measure)
    check_method(method)
    check_shift_is_known(clf.noise_)
    low, high = MEASURES[measure]
    ask: Any = mean_confidence_radius if radius is None else mean_confidence_lower
    ask(
        high,  # the largest mean there could be
        most_draws(clf.n_estimation),
        threshold if radius is None else radius,
        alpha=clf.alpha,
        low=low,
        high=high,
        probability_lower=clf.noise_.probability_lower,
    )


def certified_top_k(
    run: CertificationRun, k: int, labels: ArrayLike | None = None
) -> TopKCertificates:
    """Return how far a class provably stays among the `k` most probable ones.

    Parameters
    ----------
    run : CertificationRun
        A run over the inputs, before its first draw.

    k : int
        Among how many classes.

    labels : array-like of shape (n_inputs,) or None, default=None
        The class of each input to certify, chosen without its votes; None is the predicted one.

    Returns
    -------
    TopKCertificates
        The record.

    Raises
    ------
    ValueError
        If `k` is out of range, or a label is not among the classes.

    CertificationError
        If some inputs could not be classified. It keeps the record of the others.
    """
    clf = run.clf
    check_k(k, len(clf.classes_))
    check_noise_is_drawn(run)
    check_shift_is_known(clf.noise_)
    if labels is None:
        columns = run.selection().argmax(axis=1)
    else:
        columns = class_columns(labels, clf.classes_, len(run.X), "labels")
        unknown = columns < 0
        if unknown.any():
            raise ValueError(
                f"labels must be among the classes, {clf.classes_.tolist()[:10]}, got "
                f"{np.asarray(labels)[unknown][0]!r}."
            )
    n_draws = most_draws(clf.n_estimation)
    counts = run.tally(Stream.ESTIMATION, FixedDraws(n_draws, len(run.X))).counts
    counts[np.array(sorted(run.errors), dtype=np.intp)] = 0
    record = certify_top_k_counts(
        counts, columns, k, noise=clf.noise_, alpha=float(clf.alpha), classes=clf.classes_
    )
    if run.errors:
        raise CertificationError.of_rows(run.errors, record)
    return record


def class_columns(
    labels: ArrayLike, classes: NDArray[Any], n_inputs: int, name: str
) -> NDArray[np.intp]:
    """Return the column of each label, -1 where it is none of the classes.

    Parameters
    ----------
    labels : array-like of shape (n_inputs,)
        The labels.

    classes : ndarray of shape (n_classes,)
        The classes.

    n_inputs : int
        Number of inputs.

    name : str
        Name of the parameter, for the message.

    Returns
    -------
    ndarray of int, shape (n_inputs,)
        The columns.

    Raises
    ------
    ValueError
        If there is not one label per input.

    TypeError
        If labels and classes are of different kinds.
    """
    given = np.asarray(labels)
    if given.shape != (n_inputs,):
        raise ValueError(
            f"{name} must have one entry per input, shape {(n_inputs,)}, got shape {given.shape}."
        )
    matches = np.stack([same_labels(given, np.full(n_inputs, label)) for label in classes], axis=1)
    return np.where(matches.any(axis=1), matches.argmax(axis=1), -1)


def check_noise_is_drawn(run: CertificationRun) -> None:
    """Refuse noise whose outcomes are all tried, where a question is about random draws.

    Parameters
    ----------
    run : CertificationRun
        The run.

    Raises
    ------
    ValueError
        If the noise is such a one.
    """
    if run.clf.noise_.n_outcomes is not None:
        raise ValueError(
            f"noise must be drawn at random for this question, got {run.clf.noise_!r}, of which "
            f"every outcome is tried. Only certify and certificates answer for it."
        )


def shift_of(noise: Noise) -> Callable[..., NDArray[np.float64]] | None:
    """Return how far probabilities can fall under a noise.

    Parameters
    ----------
    noise : Noise
        The noise.

    Returns
    -------
    callable (p_lower, radius) -> ndarray, or None
        Its `probability_lower`; None where that is not known.
    """
    try:
        noise.probability_lower(0.5, 0.0)
    except NotImplementedError:
        return None
    return noise.probability_lower


def check_shift_is_known(noise: Noise) -> None:
    """Refuse noise of which nothing is known but the radius, before anything is drawn.

    Parameters
    ----------
    noise : Noise
        The noise.

    Raises
    ------
    ValueError
        If it is such a one.
    """
    if shift_of(noise) is None:
        raise ValueError(
            f"noise must know how far the probability of an event can fall for this question, got "
            f"{noise!r}. Let its class override probability_lower."
        )


def _reaching(cells: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return how many scores reach the upper end of each cell."""
    above = cells[:, ::-1].cumsum(axis=1)[:, ::-1]
    return above[:, 1:].astype(np.int32)


def _upper_ends(n_cells: int, low: float, high: float) -> NDArray[np.float64]:
    """Return the upper ends of cells of equal width, rounded down."""
    ends = low + (high - low) * np.arange(1, n_cells + 1) / n_cells
    return np.nextafter(ends, low)


def _check_scores(run: CertificationRun) -> None:
    """Refuse a base whose scores for the first input, as it is, are no probabilities."""
    base = run.entrance.base
    with torch.inference_mode():
        row = run.entrance.inputs(torch.from_numpy(run.X[:1]).to(base.device))
        scores = base.scores(row).double().cpu().numpy()
    total = scores.sum()
    if np.isfinite(scores).all() and ((scores < -1e-5).any() or total > 1 + _SUM_TOLERANCE):
        raise ValueError(
            f"estimator must give probabilities, from 0 to 1 and adding up to 1, where scores are "
            f"asked for, got scores from {scores.min():.4g} to {scores.max():.4g} with the sum "
            f"{total:.4g}. For a skorch net whose outputs are logits, set "
            f"predict_nonlinearity=lambda x: torch.softmax(x, 1)."
        )
