"""Records as tab-separated logs, in the layout that published ones share."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth._files import written_whole
from randsmooth.logs import ABSTAINED, LOG_COLUMNS
from randsmooth.metrics import same_labels

if TYPE_CHECKING:
    from randsmooth.certificates.record import Certificates

__all__ = ["write_tsv"]

_OUR_COLUMNS = ("p_lower", "p_upper", "abstained", "n_draws", "top_count", "runner_up_count")


def write_tsv(
    certificates: Certificates,
    path: str | os.PathLike[str],
    y: ArrayLike | None = None,
    *,
    index: ArrayLike | None = None,
) -> None:
    """Write the log of a run; see `Certificates.to_tsv`.

    Parameters
    ----------
    certificates : Certificates
        The record of the run.

    path : str or path-like
        The file to write.

    y : array-like of shape (n_rows,) or None, default=None
        True labels. Without them ``label`` and ``correct`` are written as ``NA``.

    index : array-like of int, shape (n_rows,), or None, default=None
        Numbers of the inputs in their data set, 0, 1, 2, ... by default.

    Raises
    ------
    ValueError
        If `y` or `index` does not have one entry per row, or a label holds a tab or a line break.

    TypeError
        If `y` and the classes are labels of different kinds, or `index` is not of integers.
    """
    record = certificates
    numbers = np.arange(len(record)) if index is None else np.asarray(index)
    if numbers.shape != (len(record),):
        raise ValueError(
            f"index must have one entry per row, shape ({len(record)},), got shape {numbers.shape}."
        )
    if numbers.size and numbers.dtype.kind not in "iu":
        raise TypeError(f"index must hold integers, got dtype {numbers.dtype}.")
    truth, answers, correct = _answers(record, y)
    top, runner_up = record.leading_counts()
    columns: list[Sequence[str]] = [
        [str(number) for number in numbers.tolist()],
        truth,
        answers,
        _rounded(record.radius, 6, ROUND_FLOOR),
        correct,
        [f"{value:.6f}" for value in record.seconds],
        _rounded(record.p_lower, 10, ROUND_FLOOR),
        _rounded(record.p_upper, 10, ROUND_CEILING),
        [str(int(value)) for value in record.abstained],
        *([str(value) for value in values.tolist()] for values in (record.n_draws, top, runner_up)),
    ]
    lines = ["\t".join(row) for row in [LOG_COLUMNS + _OUR_COLUMNS, *zip(*columns, strict=True)]]
    with written_whole(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def _answers(
    record: Certificates, y: ArrayLike | None
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Columns label, predict and correct."""
    if y is None:
        missing = ["NA"] * len(record)
        return missing, _texts(record.label, record.abstained), missing
    truth = np.asarray(y)
    if truth.shape != (len(record),):
        raise ValueError(
            f"y must have one entry per row, shape ({len(record)},), got shape {truth.shape}."
        )
    correct = same_labels(truth, record.label) & ~record.abstained
    common = np.result_type(truth, record.label)
    return (
        _texts(truth.astype(common), np.zeros(len(record), dtype=bool)),
        _texts(record.label.astype(common), record.abstained),
        [str(int(value)) for value in correct],
    )


def _texts(labels: NDArray[Any], abstained: NDArray[np.bool_]) -> list[str]:
    texts = [str(label) for label in labels.tolist()]
    for text in texts:
        if any(mark in text for mark in "\t\n\r"):
            raise ValueError(f"labels must not hold a tab or a line break in a log, got {text!r}.")
    return [ABSTAINED if out else text for text, out in zip(texts, abstained, strict=True)]


def _rounded(values: NDArray[np.float64], digits: int, rounding: str) -> list[str]:
    """Print numbers to some significant digits, rounded in one direction."""
    context = Context(prec=digits, rounding=rounding)
    return [
        f"{context.create_decimal_from_float(value):f}" if 0 < value < math.inf else str(value)
        for value in values.tolist()
    ]
