"""Logs of certified confidence in the published layout: read, and recompute from themselves."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.special import ndtr, ndtri

from randsmooth.bounds.confidence_profile import checked_range
from randsmooth.certificates.confidence import check_method
from randsmooth.exceptions import InvalidFileError
from randsmooth.logs import ABSTAINED, log_rows, parsed_labels, parsed_number, parsed_seconds

__all__ = [
    "ConfidenceLog",
    "mean_bound_agreement",
    "read_confidence_log",
    "recomputed_mean_bound",
]

_FIRST, _LAST = ("idx", "label", "predict"), ("correct", "time")
_BOUND = re.compile(r"exp_(cdf_)?(\d{2,})")
_DTYPES: dict[str, DTypeLike | None] = {
    "index": np.int64,
    "true_label": None,
    "label": None,
    "correct": np.bool_,
    "seconds": np.float64,
}


@dataclass(frozen=True, eq=False)
class ConfidenceLog:
    """A log of certified confidence, one row per input and one column per radius.

    What a log says is taken at its word.

    Parameters
    ----------
    index : ndarray of int64, shape (n_rows,)
        Number of each input in its data set.

    true_label : ndarray of shape (n_rows,)
        True labels: integers where all labels in the log are, strings otherwise.

    label : ndarray of shape (n_rows,)
        Predicted labels, -1 where the classifier abstained.

    radii : ndarray of float64, shape (n_radii,)
        Radii at which confidence was bounded, in the units of the inputs.

    distribution_bound : ndarray of float64, shape (n_rows, n_radii)
        Lower bounds on the expected confidence, from the distribution of the scores. The
        published logs have zeros where the classifier abstained.

    mean_bound : ndarray of float64, shape (n_rows, n_radii)
        The same from the mean of the scores.

    correct : ndarray of bool, shape (n_rows,)
        Whether the row is marked as right.

    seconds : ndarray of float64, shape (n_rows,)
        Wall-clock time of each row.
    """

    index: NDArray[np.int64]
    true_label: NDArray[Any]
    label: NDArray[Any]
    radii: NDArray[np.float64]
    distribution_bound: NDArray[np.float64]
    mean_bound: NDArray[np.float64]
    correct: NDArray[np.bool_]
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        radii = np.array(self.radii, dtype=np.float64)
        if radii.ndim != 1 or not ((radii >= 0) & np.isfinite(radii)).all():
            raise ValueError(f"radii must be a list of finite numbers of at least 0, got {radii}.")
        self._freeze("radii", radii)
        n_rows = len(self.index)
        for name, dtype in _DTYPES.items():
            self._freeze(name, np.array(getattr(self, name), dtype=dtype), (n_rows,))
        for name in ("distribution_bound", "mean_bound"):
            bound = np.array(getattr(self, name), dtype=np.float64)
            self._freeze(name, bound, (n_rows, radii.size))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Where the classifier abstained."""
        minus_one = ABSTAINED if self.label.dtype.kind == "U" else int(ABSTAINED)
        return np.asarray(self.label == minus_one)

    def certified_accuracy(
        self, threshold: ArrayLike, *, method: str = "cdf"
    ) -> NDArray[np.float64]:
        """Return the share of rows marked as right whose confidence stays above a threshold.

        Abstentions count among all rows, as in the published tables.

        Parameters
        ----------
        threshold : float or array-like of float, shape (n_levels,)
            What the bound must exceed.

        method : {"cdf", "mean"}, default="cdf"
            Which of the two bounds: `distribution_bound` or `mean_bound`.

        Returns
        -------
        ndarray of float64, shape (n_radii,) or (n_levels, n_radii)
            Shares at each of `radii`, from 0 to 1.

        Raises
        ------
        ValueError
            If a threshold is NaN, or `method` is unknown.
        """
        check_method(method)
        levels = np.asarray(threshold, dtype=np.float64)
        if np.isnan(levels).any():
            raise ValueError(f"threshold must be a number, got {threshold!r}.")
        bound = self.distribution_bound if method == "cdf" else self.mean_bound
        above = bound > levels[..., np.newaxis, np.newaxis]
        return np.asarray((above & self.correct[:, np.newaxis]).mean(axis=-2))

    def _freeze(
        self, name: str, column: NDArray[Any], shape: tuple[int, ...] | None = None
    ) -> None:
        if shape is not None and column.shape != shape:
            raise ValueError(
                f"{name} must have one entry per row, and bounds one per radius, shape {shape}, "
                f"got shape {column.shape}."
            )
        column.setflags(write=False)
        object.__setattr__(self, name, column)


def read_confidence_log(path: str | os.PathLike[str]) -> ConfidenceLog:
    """Read a log of certified confidence.

    The file has tab-separated columns under a header that names them: ``idx``, ``label``,
    ``predict``, then ``exp_cdf_00``, ``exp_cdf_25`` and so on for the bounds from the
    distribution, with the radius in hundredths, ``exp_00``, ``exp_25`` and so on for those from
    the mean, at the same radii, and ``correct`` and ``time``.

    Parameters
    ----------
    path : str or path-like
        The file, in UTF-8.

    Returns
    -------
    ConfidenceLog
        Its rows.

    Raises
    ------
    InvalidFileError
        If the file is missing, empty, damaged or of another kind.

    References
    ----------
    .. [1] A. Kumar, A. Levine, S. Feizi and T. Goldstein, "Certifying confidence via randomized
       smoothing", NeurIPS 2020. The layout is that of the logs published with it.
    """
    columns, rows = log_rows(path, _columns, _row)
    index, true_label, label, by_distribution, by_mean, correct, seconds = map(
        list, zip(*rows, strict=True)
    )
    labels = parsed_labels(true_label + label)
    return ConfidenceLog(
        index=np.array(index),
        true_label=labels[: len(rows)],
        label=labels[len(rows) :],
        radii=np.array(columns.radii),
        distribution_bound=np.array(by_distribution),
        mean_bound=np.array(by_mean),
        correct=np.array(correct),
        seconds=np.array(seconds),
    )


def recomputed_mean_bound(
    log: ConfidenceLog, *, sigma: float, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    r"""Bounds from the mean at every radius of a log, from its bound at radius 0 alone.

    Nothing is random here. The values are as precise as the logged bound at radius 0: they are to
    compare with, not to certify.

    Parameters
    ----------
    log : ConfidenceLog
        The log, of a run with Gaussian noise. One of its radii must be 0.

    sigma : float
        Standard deviation of the noise.

    low, high : float, default=0.0 and 1.0
        Range of a score: (-1, 1) for margins.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_radii)
        The bounds, and 0 where the classifier abstained, as in published logs.

    Raises
    ------
    ValueError
        If no radius is 0, `sigma` is not positive, or a bound at radius 0 is out of range.

    Notes
    -----
    With :math:`B` the bound at radius 0 and scores in :math:`[a, b]`, the bound at :math:`R` is
    :math:`a + (b - a) \Phi(\Phi^{-1}((B - a)/(b - a)) - R/\sigma)`.
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma!r}.")
    checked_range(low, high)
    start = _at_zero(log)
    outside = ~((start >= low) & (start <= high)) & ~log.abstained
    if outside.any():
        raise ValueError(
            f"mean_bound must lie in [{low!r}, {high!r}], got {start[outside].item(0)!r}. Declare "
            f"the range of another measure with low and high."
        )
    bound = _moved(start, log.radii / sigma, low, high)
    return np.where(log.abstained[:, np.newaxis], 0.0, bound)


def mean_bound_agreement(
    log: ConfidenceLog,
    *,
    sigma: float,
    low: float = 0.0,
    high: float = 1.0,
    digits: int = 3,
) -> NDArray[np.bool_]:
    """Where the logged bounds from the mean agree with those recomputed from radius 0.

    Numbers are written with few digits: two agree if some number that rounds to the logged bound
    at radius 0 leads to one that rounds to the logged bound at the radius.

    Parameters
    ----------
    log : ConfidenceLog
        The log, of a run with Gaussian noise. One of its radii must be 0.

    sigma, low, high : float
        As for `recomputed_mean_bound`.

    digits : int, default=3
        Significant digits that the log was written with.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_radii)
        Where they agree; for an abstention, where the logged bound is 0.

    Raises
    ------
    ValueError
        As `recomputed_mean_bound`, or if `digits` is not at least 1.
    """
    if not digits >= 1:
        raise ValueError(f"digits must be at least 1, got {digits!r}.")
    recomputed_mean_bound(log, sigma=sigma, low=low, high=high)  # refuses what is out of range
    least, most = (
        _moved(np.clip(start, low, high), log.radii / sigma, low, high)
        for start in _before_rounding(_at_zero(log), digits)
    )
    below, above = _before_rounding(log.mean_bound, digits)
    slack = 1e-9 * np.abs(log.mean_bound)  # for the arithmetic; no digit that was written
    agrees = (above + slack >= least) & (below - slack <= most)
    return np.where(log.abstained[:, np.newaxis], log.mean_bound == 0, agrees)


def _at_zero(log: ConfidenceLog) -> NDArray[np.float64]:
    (column,) = np.nonzero(log.radii == 0)
    if not column.size:
        raise ValueError(f"log must have a bound at radius 0, got radii {log.radii.tolist()!r}.")
    return log.mean_bound[:, column[0]]


def _moved(
    start: NDArray[np.float64], shifts: NDArray[np.float64], low: float, high: float
) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        z = ndtri((start - low) / (high - low))[:, np.newaxis]
        return np.asarray(low + (high - low) * ndtr(z - shifts))


def _before_rounding(
    values: NDArray[np.float64], digits: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and largest number that may have been rounded to each value."""
    size = np.where(values == 0, 1.0, np.abs(values))
    # Digits are finer just below a power of ten than at it.
    units = (
        10.0 ** (np.floor(np.log10(size * near)) + 1 - digits) for near in (1 - 1e-9, 1 + 1e-9)
    )
    inner, outer = (np.where(values == 0, 0.0, unit / 2) for unit in units)
    return (
        values - np.where(values > 0, inner, outer),
        values + np.where(values > 0, outer, inner),
    )


@dataclass(frozen=True)
class _Columns:
    """Where in a row everything is."""

    width: int
    by_distribution: list[int]
    by_mean: list[int]
    radii: list[float]


def _columns(header: list[str], name: str) -> _Columns:
    found: dict[str, dict[str, int]] = {"cdf_": {}, "": {}}
    for place, title in enumerate(header[len(_FIRST) : -len(_LAST)], start=len(_FIRST)):
        match = _BOUND.fullmatch(title)
        if match:
            found[match[1] or ""][match[2]] = place
    named = tuple(header[: len(_FIRST)]) == _FIRST and tuple(header[-len(_LAST) :]) == _LAST
    if not (named and found[""] and list(found[""]) == list(found["cdf_"])):
        raise InvalidFileError(
            f"{name} is not a log of certified confidence: line 1 must name the columns "
            f"{', '.join(_FIRST)}, then exp_cdf_00, ..., exp_00, ... at the same radii, then "
            f"{', '.join(_LAST)}, separated by tabs, got {header!r}."
        )
    return _Columns(
        width=len(header),
        by_distribution=list(found["cdf_"].values()),
        by_mean=list(found[""].values()),
        radii=[int(radius) / 100 for radius in found[""]],
    )


def _row(cells: list[str], columns: _Columns) -> tuple[Any, ...]:
    if len(cells) != columns.width:
        raise ValueError(f"the row must have {columns.width} columns, got {len(cells)}.")
    correct, time = cells[-2:]
    if correct not in ("0", "1"):
        raise ValueError(f"correct must be 0 or 1, got {correct!r}.")
    return (
        parsed_number(int, "idx", cells[0]),
        cells[1],
        cells[2],
        [_bound(cells[place]) for place in columns.by_distribution],
        [_bound(cells[place]) for place in columns.by_mean],
        correct == "1",
        parsed_seconds(time),
    )


def _bound(text: str) -> float:
    bound = float(parsed_number(float, "a bound", text))
    if not math.isfinite(bound):
        raise ValueError(f"a bound must be finite, got {text!r}.")
    return bound
