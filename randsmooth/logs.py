"""Logs of certification runs in the layout that published ones share: read and check."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.special import ndtri

from randsmooth.exceptions import InvalidFileError
from randsmooth.metrics import share_certified

__all__ = ["CertificationLog", "check_log", "read_log"]

Columns = TypeVar("Columns")

ABSTAINED = "-1"
LOG_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
_DTYPES: dict[str, DTypeLike | None] = {
    "index": np.int64,
    "true_label": None,
    "label": None,
    "radius": np.float64,
    "correct": np.bool_,
    "seconds": np.float64,
}
_CLOCK = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True, eq=False)
class CertificationLog:
    """A certification log, one row per input.

    What a log says is taken at its word; `check_log` finds what cannot be true.

    Parameters
    ----------
    index : ndarray of int64, shape (n_rows,)
        Number of each input in its data set.

    true_label : ndarray of shape (n_rows,)
        True labels: integers where all labels in the log are, strings otherwise.

    label : ndarray of shape (n_rows,)
        Predicted labels, -1 where the classifier abstained.

    radius : ndarray of float64, shape (n_rows,)
        Certified radius.

    correct : ndarray of bool, shape (n_rows,)
        Whether the row is marked as right.

    seconds : ndarray of float64, shape (n_rows,)
        Wall-clock time of each row.
    """

    index: NDArray[np.int64]
    true_label: NDArray[Any]
    label: NDArray[Any]
    radius: NDArray[np.float64]
    correct: NDArray[np.bool_]
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            column = np.array(getattr(self, name), dtype=dtype)
            if column.shape != (len(self.index),):
                raise ValueError(
                    f"{name} must have one entry per row, shape ({len(self.index)},), "
                    f"got shape {column.shape}."
                )
            column.setflags(write=False)
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.index)

    def certified_accuracy(self, radii: ArrayLike) -> NDArray[np.float64]:
        """Return the share of rows marked as right whose radius reaches each of `radii`.

        Parameters
        ----------
        radii : array-like of float
            Radii to evaluate, at least 0.

        Returns
        -------
        ndarray of float64, shape of `radii`
            Shares, from 0 to 1.
        """
        return share_certified(self.correct, self.radius, radii)


def read_log(path: str | os.PathLike[str]) -> CertificationLog:
    """Read a certification log.

    The file has the tab-separated columns ``idx``, ``label``, ``predict``, ``radius``,
    ``correct`` and ``time`` under a header that names them; further columns are passed over.
    ``time`` is in seconds or reads like ``0:00:14.2``.

    Parameters
    ----------
    path : str or path-like
        The file, in UTF-8.

    Returns
    -------
    CertificationLog
        Its rows.

    Raises
    ------
    InvalidFileError
        If the file is missing, empty, damaged or of another kind, or was written without true
        labels.
    """
    _, rows = log_rows(path, _width, _row)
    index, true_label, label, radius, correct, seconds = map(list, zip(*rows, strict=True))
    labels = parsed_labels(true_label + label)
    return CertificationLog(
        index=np.array(index),
        true_label=labels[: len(rows)],
        label=labels[len(rows) :],
        radius=np.array(radius),
        correct=np.array(correct),
        seconds=np.array(seconds),
    )


def check_log(path: str | os.PathLike[str], *, n: int, alpha: float, sigma: float) -> list[str]:
    r"""Return what is impossible in the log of a run with Gaussian noise.

    Only what is certain is listed, so a log without findings may still be wrong: rows missing at
    its end, for one, leave no trace.

    Parameters
    ----------
    path : str or path-like
        The log, as for `read_log`.

    n : int
        Number of estimation draws of each row, at least 1.

    alpha : float
        Failure probability of each row, strictly between 0 and 1.

    sigma : float
        Standard deviation of the noise.

    Returns
    -------
    list of str
        One sentence for each kind of finding, empty when all is well.

    Raises
    ------
    InvalidFileError
        If the file cannot be read as a log.

    ValueError
        If `n`, `alpha` or `sigma` is out of range.

    Notes
    -----
    If all :math:`n` draws agree, the Clopper-Pearson bound is :math:`\alpha^{1/n}`, so no radius
    can exceed :math:`\sigma\,\Phi^{-1}(\alpha^{1/n})`, whichever of the bounds in this package
    was used. Radii are allowed to be rounded to the digits they are printed with, and to three
    significant ones at least. Where -1 is itself a class, abstentions cannot be told from it and
    are not checked.
    """
    if not n >= 1:
        raise ValueError(f"n must be at least 1, got {n!r}.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha!r}.")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma!r}.")
    log = read_log(path)
    largest = float(-sigma * ndtri(-math.expm1(math.log(alpha) / n)))
    return [
        *_impossible_radii(log, largest, f"n={n}, alpha={alpha:g} and sigma={sigma:g}"),
        *_impossible_answers(log),
        *_impossible_order(log),
    ]


def log_rows(
    path: str | os.PathLike[str],
    columns_of: Callable[[list[str], str], Columns],
    row_of: Callable[[list[str], Columns], tuple[Any, ...]],
) -> tuple[Columns, list[tuple[Any, ...]]]:
    """Return the rows of a tab-separated log, or say what is wrong with which line.

    Parameters
    ----------
    path : str or path-like
        The file, in UTF-8.

    columns_of : callable (cells, name) -> columns
        Makes out the columns from the cells of line 1, or raises an InvalidFileError that names
        the file.

    row_of : callable (cells, columns) -> tuple
        Reads a line, or raises a ValueError that says what is wrong with it.

    Returns
    -------
    columns : object
        What `columns_of` returned.

    rows : list of tuple
        What `row_of` returned, at least one.

    Raises
    ------
    InvalidFileError
        If the file is missing, empty, damaged or of another kind.
    """
    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            columns = columns_of(file.readline().rstrip("\n").split("\t"), name)
            rows = []
            for number, line in enumerate(file, start=2):
                try:
                    rows.append(row_of(line.rstrip("\n").split("\t"), columns))
                except ValueError as error:
                    raise InvalidFileError(f"{name}, line {number}: {error}") from error
    except FileNotFoundError as error:
        raise InvalidFileError(f"{name} does not exist.") from error
    except UnicodeDecodeError as error:
        raise InvalidFileError(f"{name} must be text in UTF-8, got {error.reason}.") from error
    if not rows:
        raise InvalidFileError(f"{name} has no rows under its header; it was probably cut short.")
    return columns, rows


def _width(header: list[str], name: str) -> int:
    """Return the number of columns of a header that names ours first."""
    if tuple(header[: len(LOG_COLUMNS)]) != LOG_COLUMNS:
        raise InvalidFileError(
            f"{name} is not a certification log: line 1 must name the columns "
            f"{', '.join(LOG_COLUMNS)}, separated by tabs, got {header[:6]!r}."
        )
    return len(header)


def _row(cells: list[str], n_columns: int) -> tuple[Any, ...]:
    if len(cells) != n_columns:
        raise ValueError(f"the row must have {n_columns} columns, got {len(cells)}.")
    index, true_label, label, radius, correct, time = cells[: len(LOG_COLUMNS)]
    if correct == "NA":
        raise ValueError(
            "the log was written without true labels. Write it anew with to_tsv(path, y)."
        )
    if correct not in ("0", "1"):
        raise ValueError(f"correct must be 0 or 1, got {correct!r}.")
    return (
        parsed_number(int, "idx", index),
        true_label,
        label,
        parsed_number(float, "radius", radius),
        correct == "1",
        parsed_seconds(time),
    )


def parsed_number(kind: Callable[[str], Any], name: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}.") from None


def parsed_seconds(text: str) -> float:
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, rest = (float(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    seconds = float(parsed_number(float, "time", text))
    if not 0 <= seconds < math.inf:
        raise ValueError(f"time must be at least 0 and finite, got {text!r}.")
    return seconds


def parsed_labels(texts: list[str]) -> NDArray[Any]:
    """Integers where every text is one in its plain form, the texts otherwise."""
    if all(re.fullmatch(r"0|-?[1-9]\d{0,17}", text) for text in texts):
        return np.array([int(text) for text in texts], dtype=np.int64)
    return np.array(texts, dtype=np.str_)


def _impossible_radii(log: CertificationLog, largest: float, setting: str) -> list[str]:
    findings = []
    broken = ~(np.isfinite(log.radius) & (log.radius >= 0))
    if broken.any():
        findings.append(
            f"radius is negative or not finite in {broken.sum()} rows: {_some(log.index[broken])}."
        )
    above = np.array([_exceeds(radius, largest) for radius in log.radius.tolist()]) & ~broken
    if above.any():
        findings.append(
            f"radius is above {largest:.6g}, the largest possible with {setting}, in "
            f"{above.sum()} rows, up to {log.radius[above].max():g}: {_some(log.index[above])}."
        )
    return findings


def _exceeds(radius: float, largest: float) -> bool:
    """Whether no rounding to the digits that `radius` has, or to three, explains it."""
    if not math.isfinite(radius):
        return True
    digits = max(3, len(Decimal(repr(radius)).normalize().as_tuple().digits))
    return radius > float(f"{largest:.{digits}g}") * (1 + 1e-9)


def _impossible_answers(log: CertificationLog) -> list[str]:
    minus_one = ABSTAINED if log.label.dtype.kind == "U" else -1
    is_class = bool((log.true_label == minus_one).any())
    abstained = log.label == minus_one
    findings = []
    certified = abstained & (log.correct | (log.radius > 0))
    if certified.any() and not is_class:
        findings.append(
            f"an abstention has a radius or is marked correct in {certified.sum()} rows: "
            f"{_some(log.index[certified])}."
        )
    wrong = (log.correct != (log.true_label == log.label)) & ~abstained
    if wrong.any():
        findings.append(
            f"correct contradicts label and predict in {wrong.sum()} rows: "
            f"{_some(log.index[wrong])}."
        )
    return findings


def _impossible_order(log: CertificationLog) -> list[str]:
    findings = []
    numbers, copies = np.unique(log.index, return_counts=True)
    if (copies > 1).any():
        findings.append(f"idx occurs more than once: {_some(numbers[copies > 1])}.")
    steps = np.diff(numbers)
    if steps.size:
        step, times = Counter(steps.tolist()).most_common(1)[0]
        wide = (steps > step) & (steps % step == 0)
        if 2 * times > steps.size and wide.any():
            gaps = [
                np.arange(start + step, start + width, step)
                for start, width in zip(numbers[:-1][wide], steps[wide], strict=True)
            ]
            missing = np.concatenate(gaps)
            findings.append(f"{missing.size} rows of step {step} are missing: {_some(missing)}.")
    return findings


def _some(numbers: NDArray[np.int64]) -> str:
    shown = ", ".join(f"idx {number}" for number in numbers[:3])
    return shown if len(numbers) <= 3 else f"{shown} and {len(numbers) - 3} more"
