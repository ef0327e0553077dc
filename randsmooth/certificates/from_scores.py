"""From scores that something else has drawn to a record of certified confidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from randsmooth.certificates.confidence import MEASURES, ConfidenceCertificates, check_measure
from randsmooth.certificates.from_counts import imported_versions
from randsmooth.certificates.rules import check_alpha
from randsmooth.intervals import equal_count_thresholds, order_statistic_thresholds
from randsmooth.noise import Noise, noise_from_name

__all__ = ["certify_scores"]


def certify_scores(
    scores: ArrayLike,
    label: ArrayLike,
    *,
    noise: str | Noise = "gaussian",
    sigma: float | None = None,
    alpha: float = 0.001,
    measure: str = "score",
    n_thresholds: int | None = None,
    classes: ArrayLike | None = None,
) -> ConfidenceCertificates:
    """Certify the confidence in a class from its scores on noisy copies of each input.

    Each row holds with probability at least 1 - `alpha` over its draws, whoever made them, provided
    that they are independent draws of the noise and that the class was chosen without them.

    Parameters
    ----------
    scores : array-like of float, shape (n_rows, n_draws)
        The score or the margin of the class in each draw.

    label : array-like of shape (n_rows,)
        The class of each row.

    noise : str or Noise, default="gaussian"
        The noise that was added, by name or as an object.

    sigma : float or None, default=None
        Scale of a noise given by name.

    alpha : float, default=0.001
        Failure probability of each row, strictly between 0 and 1.

    measure : {"score", "margin"}, default="score"
        What the scores are: probabilities from 0 to 1, or margins from -1 to 1.

    n_thresholds : int or None, default=None
        At most so many thresholds, with equally many scores between them; None takes every score
        for one, which is closest and keeps all of them.

    classes : array-like of shape (n_classes,) or None, default=None
        All class labels; by default those in `label`.

    Returns
    -------
    ConfidenceCertificates
        The record.

    Raises
    ------
    ValueError
        If a score is outside the range of the measure, `alpha` is outside (0, 1), or the shapes do
        not match.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.certificates import certify_scores
    >>> scores = np.random.default_rng(0).beta(9, 1, size=(1, 10_000))
    >>> record = certify_scores(scores, ["bee"], sigma=0.25)
    >>> record.lower_bound([0.0, 0.25]).round(2)
    array([[0.88, 0.7 ]])
    """
    check_measure(measure)
    check_alpha(alpha)
    given, labels = np.asarray(scores), np.asarray(label)
    if given.ndim != 2 or labels.shape != given.shape[:1]:
        raise ValueError(
            f"scores must have shape (n_rows, n_draws) with one label per row, got shapes "
            f"{given.shape} and {labels.shape}."
        )
    low, high = MEASURES[measure]
    if n_thresholds is None:
        thresholds, counts = order_statistic_thresholds(given, low=low, high=high)
    else:
        thresholds, counts = equal_count_thresholds(given, n_thresholds, low=low, high=high)
    n_draws = given.shape[1]
    # A sum of so many numbers, each of at most 1, is off by less than this.
    slack = n_draws * np.finfo(np.float64).eps
    mean = given.mean(axis=1, dtype=np.float64) - slack
    return ConfidenceCertificates(
        label=labels,
        thresholds=thresholds,
        counts=counts,
        mean=np.maximum(mean, low),
        n_draws=n_draws,
        measure=measure,
        noise=noise_from_name(noise, sigma),
        alpha=float(alpha),
        classes=np.unique(labels) if classes is None else np.asarray(classes),
        versions=imported_versions(),
    )
