"""Errors and warnings of randsmooth: one base each, few children."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AttackError",
    "AttackFailedWarning",
    "CertificationError",
    "ClusterLostError",
    "InvalidFileError",
    "NotCompiledWarning",
    "RandsmoothError",
    "RandsmoothWarning",
    "StoreBusyError",
    "StoreMismatchError",
    "StoreReadError",
    "StoreWriteError",
    "TooFewDrawsWarning",
    "TrainingDivergedError",
    "WeightLeakWarning",
]


class RandsmoothError(Exception):
    """Base of every error that randsmooth defines itself."""


class InvalidFileError(RandsmoothError, ValueError):
    """A file is missing, cut short, corrupted, or not of the expected kind."""


class StoreMismatchError(RandsmoothError, ValueError):
    """A store of votes holds another run than the one that was to go on."""

    @classmethod
    def of(cls, path: Any, difference: str, remedy: str) -> Self:
        """Return the error for a store.

        Parameters
        ----------
        path : str or path-like
            The store.

        difference : str
            How its run was made, where that differs.

        remedy : str
            What to do if it is not to be another store.

        Returns
        -------
        StoreMismatchError
            The error, to be raised.
        """
        return cls(
            f"store must be a new file or one of the same run, got {str(path)!r}, which was made "
            f"{difference}. Hand in another path, or {remedy}."
        )


class StoreBusyError(RandsmoothError, RuntimeError):
    """A store of votes is being written by somebody else."""


class StoreReadError(RandsmoothError, OSError):
    """A store of votes cannot be read at the moment; what it holds is safe."""


class StoreWriteError(RandsmoothError, OSError):
    """A store of votes cannot be written to; what it holds is safe."""


class ClusterLostError(RandsmoothError, RuntimeError):
    """A cluster has had no worker for a while, so that a run cannot go on."""


class TrainingDivergedError(RandsmoothError, FloatingPointError):
    """The loss of a net in training is no longer finite; its last good weights are kept.

    Parameters
    ----------
    message : str
        Which term became what, in which batch of which epoch, and what to do.

    net : skorch.NeuralNet
        The net, with the last weights at the end of an epoch, or from before training, that gave
        a finite loss; with those it was given where none did.

    epoch : int
        The epoch, from 1.

    batch : int
        The batch within the epoch, from 1.
    """

    def __init__(self, message: str, net: Any, epoch: int, batch: int) -> None:
        super().__init__(message)
        self.net = net
        self.epoch = epoch
        self.batch = batch

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), (str(self), self.net, self.epoch, self.batch)


class CertificationError(RandsmoothError, RuntimeError):
    """Some inputs of a run could not be classified; the others are kept.

    Parameters
    ----------
    message : str
        What went wrong, for which rows, and what to do.

    certificates : Certificates or None
        The record of the whole run, of the kind that was asked for. Rows that failed abstain with
        radius 0 and no draws.

    failed : ndarray of int
        The rows that failed.
    """

    def __init__(self, message: str, certificates: Any, failed: NDArray[np.intp]) -> None:
        super().__init__(message)
        self.certificates = certificates
        self.failed = failed

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), (str(self), self.certificates, self.failed)

    @classmethod
    def of_rows(cls, errors: Mapping[int, Exception], certificates: Any = None) -> Self:
        """Return the error for some rows, caused by that of the first.

        Parameters
        ----------
        errors : mapping of int to Exception
            What each failing row raised.

        certificates : Certificates or None, default=None
            The record of the whole run, to be kept.

        Returns
        -------
        CertificationError
            The error, to be raised.
        """
        failed, rows, first = _failed_rows(errors)
        kept = "" if certificates is None else " The other rows are in this error's `certificates`."
        error = cls(
            f"X has {len(failed)} inputs that the base could not classify, rows {rows}; the first: "
            f"{first}. Check these inputs, or the base's weights.{kept}",
            certificates,
            failed,
        )
        error.__cause__ = first
        return error


class AttackError(RandsmoothError, RuntimeError):
    """Some inputs could not be attacked; what came of the others is kept.

    Parameters
    ----------
    message : str
        What went wrong, for which rows, and what to do.

    result : AttackResult or RobustAccuracyCurve
        The result of the whole run. Rows that failed have no success and no distance.

    failed : ndarray of int
        The rows that failed.
    """

    def __init__(self, message: str, result: Any, failed: NDArray[np.intp]) -> None:
        super().__init__(message)
        self.result = result
        self.failed = failed

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), (str(self), self.result, self.failed)

    @classmethod
    def of_rows(cls, errors: Mapping[int, Exception], result: Any) -> Self:
        """Return the error for some rows, caused by that of the first.

        Parameters
        ----------
        errors : mapping of int to Exception
            What each failing row raised.

        result : AttackResult
            The result of the whole run, to be kept.

        Returns
        -------
        AttackError
            The error, to be raised.
        """
        failed, rows, first = _failed_rows(errors)
        error = cls(
            f"X has {len(failed)} inputs that could not be attacked, rows {rows}; the first: "
            f"{first}. What came of the others is in this error's `result`.",
            result,
            failed,
        )
        error.__cause__ = first
        return error


def _failed_rows(errors: Mapping[int, Exception]) -> tuple[NDArray[np.intp], str, Exception]:
    """Return the rows that failed, the first of them as text, and the first's error."""
    failed = np.array(sorted(errors), dtype=np.intp)
    shown = f"{failed[:5].tolist()}{'...' if len(failed) > 5 else ''}"
    return failed, shown, errors[int(failed[0])]


class RandsmoothWarning(UserWarning):
    """Base of every warning that randsmooth defines itself."""


class AttackFailedWarning(RandsmoothWarning):
    """Some inputs of a curve could not be attacked, or not certified; its record says why."""


class TooFewDrawsWarning(RandsmoothWarning):
    """The number of draws can never certify anything at this failure probability."""


class WeightLeakWarning(RandsmoothWarning):
    """A trained module instance carries its weights into every clone of the estimator."""


class NotCompiledWarning(RandsmoothWarning):
    """Compilation was asked for and is not possible here; results are right, but take longer."""
