"""What certificates say about a whole test set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper

__all__ = [
    "average_certified_radius",
    "certified_accuracy",
    "certified_accuracy_interval",
    "certified_accuracy_scorer",
    "n_invalid_upper",
]

# Shares of the band's failure probability that the lower end spends under shared noise: on the
# noise drawn, and on the test set drawn. The first is the dearer one.
_SHARED_NOISE, _TEST_SET = 0.4, 0.1


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


def n_invalid_upper(
    n_rows: int, *, certificate_alpha: float, alpha: float = 0.05, common_noise: bool = True
) -> int:
    r"""Upper bound on how many of some certificates are invalid.

    With probability at least 1 - `alpha` over the noise, at most this many of `n_rows` given
    inputs have an invalid certificate. The certified accuracy *of these very inputs* is then at
    least the observed one less ``n_invalid_upper(...) / n_rows``.

    Parameters
    ----------
    n_rows : int
        Number of inputs, at least 1.

    certificate_alpha : float
        Failure probability of each certificate.

    alpha : float, default=0.05
        Failure probability of the bound.

    common_noise : bool, default=True
        Whether the inputs shared their noise, so that their certificates may fail together.

    Returns
    -------
    int
        The bound, from 0 to `n_rows`.

    Raises
    ------
    ValueError
        If a probability is outside (0, 1) or `n_rows` is not positive.

    Notes
    -----
    Independent certificates fail as rarely as :math:`\mathrm{Bin}(m, \alpha_c)` at worst: the
    bound is the smallest :math:`q` with :math:`P(\mathrm{Bin}(m, \alpha_c) > q) \le \alpha`.
    Under shared noise only the expected number :math:`m \alpha_c` is known, and Markov's
    inequality :math:`P(N > q) \le m \alpha_c / (q + 1)` gives the bound.

    Examples
    --------
    >>> from randsmooth.metrics import n_invalid_upper
    >>> n_invalid_upper(500, certificate_alpha=0.001, alpha=0.001, common_noise=False)
    4
    """
    _check_probability("certificate_alpha", certificate_alpha)
    _check_probability("alpha", alpha)
    if n_rows < 1:
        raise ValueError(f"n_rows must be at least 1, got {n_rows!r}.")
    if common_noise:
        return min(n_rows, max(0, math.ceil(n_rows * certificate_alpha / alpha) - 1))
    return int(binom.isf(alpha, n_rows, certificate_alpha))


def certified_accuracy_interval(
    n_correct: ArrayLike,
    n_rows: ArrayLike,
    *,
    certificate_alpha: float,
    alpha: float = 0.05,
    common_noise: bool = True,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Confidence interval for certified accuracy beyond a finite test set.

    With probability at least 1 - `alpha` over the test set and the noise together, both ends
    hold: the share of *all* inputs that keep their right label under every perturbation shorter
    than the radius is at least the lower end, invalid certificates accounted for; and the share
    that the same procedure certifies is at most the upper end. The interval is for one radius
    chosen in advance, not for a whole curve at once.

    Parameters
    ----------
    n_correct : array-like of int
        Number of rows that were right and certified at the radius.

    n_rows : array-like of int
        Number of rows, drawn independently of each other and of training.

    certificate_alpha : float
        Failure probability of each certificate.

    alpha : float, default=0.05
        Failure probability of the interval, half of it for each end.

    common_noise : bool, default=True
        Whether all rows shared their noise. Their certificates may then fail together, and the
        lower end allows for it.

    Returns
    -------
    lower : ndarray of float64
        Lower end, at least 0.

    upper : ndarray of float64
        Upper end, at most 1.

    Raises
    ------
    ValueError
        If a probability is outside (0, 1) or a count is outside [0, `n_rows`].

    Notes
    -----
    Let :math:`Z` say that a row was right and certified, :math:`V` that its certificate is true.
    One certificate fails with probability at most :math:`\alpha_c`, so
    :math:`P(Z, \neg V) \le \alpha_c`.

    *Own noise for each row.* The rows are independent, :math:`E Z \le E V + \alpha_c`, and the
    Clopper-Pearson bound at level :math:`\alpha / 2` for :math:`E Z`, less :math:`\alpha_c`, is
    the lower end.

    *Shared noise* :math:`B`. Given :math:`B` the rows are still independent, and
    :math:`E[Z \mid B] \le E V + \delta(B)` where :math:`E\,\delta(B) \le \alpha_c`. By Markov's
    inequality :math:`\delta(B) \le \alpha_c / (0.4 \alpha)` but for a probability of
    :math:`0.4 \alpha`; the Clopper-Pearson bound at level :math:`0.1 \alpha`, less that
    allowance, is the lower end. The allowance is wide unless :math:`\alpha_c` is far below
    :math:`\alpha`: certify at a small `alpha`, which costs little radius, or with noise of its
    own for each row.

    The upper end is the Clopper-Pearson bound at level :math:`\alpha / 2`.

    Examples
    --------
    >>> from randsmooth.metrics import certified_accuracy_interval
    >>> lower, upper = certified_accuracy_interval(
    ...     300, 500, certificate_alpha=0.001, common_noise=False
    ... )
    >>> print(f"{lower:.3f} {upper:.3f}")
    0.555 0.643
    """
    _check_probability("certificate_alpha", certificate_alpha)
    _check_probability("alpha", alpha)
    level, allowance = alpha / 2, certificate_alpha
    if common_noise:
        level, allowance = _TEST_SET * alpha, certificate_alpha / (_SHARED_NOISE * alpha)
    lower = clopper_pearson_lower(n_correct, n_rows, alpha=level) - allowance
    upper = clopper_pearson_upper(n_correct, n_rows, alpha=alpha / 2)
    return np.maximum(lower, 0.0), upper


def certified_accuracy_scorer(radius: float) -> CertifiedAccuracyScorer:
    """Return a scorer for grid search: the certified accuracy at one radius.

    Parameters
    ----------
    radius : float
        The radius, at least 0, in the units of what the smoothed classifier is given. Where it is
        the last step of a pipeline, these are the units of the *transformed* inputs.

    Returns
    -------
    CertifiedAccuracyScorer
        An object for ``scoring=`` of `GridSearchCV` and `cross_val_score`.

    Raises
    ------
    ValueError
        If `radius` is negative or not finite.

    Examples
    --------
    >>> from randsmooth.metrics import certified_accuracy_scorer
    >>> certified_accuracy_scorer(0.5)
    certified_accuracy_scorer(radius=0.5)
    """
    return CertifiedAccuracyScorer(radius)


@dataclass(frozen=True)
class CertifiedAccuracyScorer:
    """Score a fitted smoothed classifier by its certified accuracy at one radius.

    Parameters
    ----------
    radius : float
        The radius, at least 0, in the units of what the smoothed classifier is given.
    """

    radius: float

    def __post_init__(self) -> None:
        if not 0 <= self.radius < math.inf:
            raise ValueError(f"radius must be at least 0 and finite, got {self.radius!r}.")

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
        """
        smoothed, inputs = certifying_step(estimator, X)
        return float(smoothed.certificates(inputs).certified_accuracy(y, [self.radius])[0])

    def __repr__(self) -> str:
        return f"certified_accuracy_scorer(radius={self.radius!r})"


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


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}.")
