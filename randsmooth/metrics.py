"""What certificates say about a whole test set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.dataset_level import certified_accuracy_interval, n_invalid_upper

__all__ = [
    "average_certified_radius",
    "certified_accuracy",
    "certified_accuracy_interval",
    "certified_accuracy_scorer",
    "n_invalid_upper",
]


def certified_accuracy(
    y_true: ArrayLike,
    label: ArrayLike,
    radius: ArrayLike,
    radii: ArrayLike,
    *,
    abstained: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Share of inputs that are classified right and certified at each radius.

    It estimates from below the share of inputs that keep their right label under every
    perturbation shorter than the radius. It is random through the test set and through the noise;
    `certified_accuracy_interval` accounts for both.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        True labels.

    label : array-like of shape (n_rows,)
        Predicted labels.

    radius : array-like of float, shape (n_rows,)
        Certified radius of each row. A row counts at every radius up to and including its own.

    radii : array-like of float
        Radii to evaluate, at least 0, in any order and shape.

    abstained : array-like of bool, shape (n_rows,), or None, default=None
        Rows that are certified at no radius, not even 0. By default those with radius 0, which is
        what `certify` returns for them.

    Returns
    -------
    ndarray of float64, shape of `radii`
        Shares, from 0 to 1.

    Raises
    ------
    ValueError
        If the rows do not match, there are none, or a radius is negative or not a number.

    TypeError
        If true and predicted labels are of different kinds.

    Examples
    --------
    >>> from randsmooth.metrics import certified_accuracy
    >>> certified_accuracy([0, 1, 1, 0], [0, 1, 0, 0], [0.5, 0.2, 0.9, 0.0], [0.0, 0.2, 0.4])
    array([0.5 , 0.5 , 0.25])
    """
    correct, certified = correct_rows(y_true, label, radius)
    if abstained is None:
        out = certified == 0
    else:
        out = np.asarray(abstained, dtype=bool)
        _check_one_per_row("abstained", out, certified)
    return share_certified(correct & ~out, certified, radii)


def share_certified(
    correct: NDArray[np.bool_], radius: NDArray[np.float64], radii: ArrayLike
) -> NDArray[np.float64]:
    """Share of rows that are `correct` and whose radius reaches each of `radii`."""
    asked = np.asarray(radii, dtype=float)
    if not (asked >= 0).all():
        raise ValueError(f"radii must be at least 0, got {radii!r}.")
    reached = np.sort(radius[correct])
    n_reaching: NDArray[np.intp] = reached.size - np.searchsorted(reached, asked, side="left")
    return np.asarray(n_reaching / correct.size)


def average_certified_radius(y_true: ArrayLike, label: ArrayLike, radius: ArrayLike) -> float:
    """Mean of the certified radius, counted as 0 where the label is wrong.

    Report the whole curve of `certified_accuracy` rather than this number alone: it is easily
    inflated. A few easy inputs dominate it, and a classifier that answers one constant class
    reaches any value at all with enough draws [1]_.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        True labels.

    label : array-like of shape (n_rows,)
        Predicted labels.

    radius : array-like of float, shape (n_rows,)
        Certified radius of each row, 0 where it abstained.

    Returns
    -------
    float
        The mean, in the units of the radii.

    Raises
    ------
    ValueError
        If the rows do not match, there are none, or a radius is negative or not a number.

    TypeError
        If true and predicted labels are of different kinds.

    References
    ----------
    .. [1] "Average Certified Radius is a Poor Metric for Randomized Smoothing", ICML 2025.

    Examples
    --------
    >>> from randsmooth.metrics import average_certified_radius
    >>> average_certified_radius([0, 1, 1, 0], [0, 1, 0, 0], [0.5, 0.25, 0.75, 0.0])
    0.1875
    """
    correct, certified = correct_rows(y_true, label, radius)
    return float(np.where(correct, certified, 0.0).mean())


def certified_accuracy_scorer(
    radius: float, *, sequential: bool | str = "auto"
) -> CertifiedAccuracyScorer:
    """Return a scorer for grid search: the certified accuracy at one radius.

    Parameters
    ----------
    radius : float
        The radius, at least 0, in the units of what the smoothed classifier is given. Where it is
        the last step of a pipeline, these are the units of the *transformed* inputs.

    sequential : bool or "auto", default="auto"
        Whether the classifier is asked about this radius alone, ``certificates(X,
        radii=[radius])``, so that each input is drawn for only until it is decided. This often
        takes a tenth of the draws or fewer, and does not use the runner-up: with several classes
        the score can be lower by far than that of ``bound="auto"``. "auto" asks where nothing is
        lost: with the binary form of a bound, or with two classes. True always asks, which is the
        cheap way to compare settings; False never does.

    Returns
    -------
    CertifiedAccuracyScorer
        An object for ``scoring=`` of `GridSearchCV` and `cross_val_score`.

    Raises
    ------
    ValueError
        If `radius` is negative or not finite, or `sequential` is something else.

    Examples
    --------
    >>> from randsmooth.metrics import certified_accuracy_scorer
    >>> certified_accuracy_scorer(0.5)
    certified_accuracy_scorer(radius=0.5)
    """
    return CertifiedAccuracyScorer(radius, sequential)


@dataclass(frozen=True)
class CertifiedAccuracyScorer:
    """Score a fitted smoothed classifier by its certified accuracy at one radius.

    Parameters
    ----------
    radius : float
        The radius, at least 0, in the units of what the smoothed classifier is given.

    sequential : bool or "auto", default="auto"
        Whether it is asked about this radius alone, see `certified_accuracy_scorer`.
    """

    radius: float
    sequential: bool | str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.radius < math.inf:
            raise ValueError(f"radius must be at least 0 and finite, got {self.radius!r}.")
        if not (isinstance(self.sequential, bool) or self.sequential == "auto"):
            raise ValueError(f"sequential must be True, False or 'auto', got {self.sequential!r}.")

    def __call__(self, estimator: Any, X: Any, y: ArrayLike) -> float:
        """Return the certified accuracy of a fitted classifier.

        Parameters
        ----------
        estimator : SmoothedClassifier or Pipeline
            A fitted smoothed classifier, or a pipeline whose last step is one.

        X : array-like
            Inputs.

        y : array-like
            True labels.

        Returns
        -------
        float
            The share of inputs that are right and certified at the radius.

        Raises
        ------
        TypeError
            If the estimator does not certify.

        Warns
        -----
        TooFewDrawsWarning
            If the classifier's draws can never certify the radius: the score is then 0.
        """
        smoothed, inputs = certifying_step(estimator, X)
        sequential = self.sequential
        if sequential == "auto":
            sequential = _loses_nothing_sequentially(smoothed)
        asked = {"radii": [self.radius]} if sequential else {}
        record = smoothed.certificates(inputs, **asked)
        return float(record.certified_accuracy(y, [self.radius])[0])

    def __repr__(self) -> str:
        how = "" if self.sequential == "auto" else f", sequential={self.sequential!r}"
        return f"certified_accuracy_scorer(radius={self.radius!r}{how})"


def _loses_nothing_sequentially(smoothed: Any) -> bool:
    """Return whether a classifier certifies as much when it is asked about a given radius."""
    from randsmooth.certificates.from_counts import resolved_bound  # which imports this module

    noise = getattr(smoothed, "noise_", None)
    if noise is None:  # somebody else's classifier, of which only `certificates` is known
        return False
    # A bound of the user's own may be anything: it is asked as it always was.
    of_two = len(smoothed.classes_) == 2 and not callable(smoothed.bound)
    return of_two or not resolved_bound(smoothed.bound, noise)[1]


def certifying_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the smoothed classifier within an estimator, and the inputs as it sees them."""
    inside, inputs = estimator, X
    steps = getattr(estimator, "steps", None)
    if steps:
        inside = steps[-1][1]
    if not hasattr(inside, "certificates"):
        raise TypeError(
            f"estimator must be a SmoothedClassifier, or a pipeline that ends in one, "
            f"got {estimator!r}."
        )
    if steps and len(steps) > 1:
        inputs = estimator[:-1].transform(X)
    return inside, inputs


def correct_rows(
    y_true: ArrayLike, label: ArrayLike, radius: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where the predicted labels are right, and the radii as an array."""
    truth, answer = np.asarray(y_true), np.asarray(label)
    certified = np.asarray(radius, dtype=float)
    if certified.ndim != 1 or not certified.size:
        raise ValueError(f"radius must have one entry per row, got shape {certified.shape}.")
    if not (certified >= 0).all():
        raise ValueError(f"radius must be at least 0, got {radius!r}.")
    _check_one_per_row("y_true", truth, certified)
    _check_one_per_row("label", answer, certified)
    return np.asarray(same_labels(truth, answer)), certified


def same_labels(y_true: NDArray[Any], label: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays of labels agree."""
    if (y_true.dtype.kind in "US") != (label.dtype.kind in "US") and "O" not in (
        y_true.dtype.kind,
        label.dtype.kind,
    ):
        raise TypeError(
            f"y_true and label must be labels of the same kind, got {y_true.dtype} and "
            f"{label.dtype}."
        )
    return np.asarray(y_true == label)


def _check_one_per_row(name: str, column: NDArray[Any], radius: NDArray[np.float64]) -> None:
    if column.shape != radius.shape:
        raise ValueError(
            f"{name} must have one entry per row, shape {radius.shape}, got shape {column.shape}."
        )
