"""Errors and warnings of randsmooth: one base each, few children."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from randsmooth.certificates import Certificates

__all__ = [
    "CertificationError",
    "InvalidFileError",
    "RandsmoothError",
    "RandsmoothWarning",
    "TooFewDrawsWarning",
    "WeightLeakWarning",
]


class RandsmoothError(Exception):
    """Base of every error that randsmooth defines itself."""


class InvalidFileError(RandsmoothError, ValueError):
    """A file is missing, cut short, corrupted, or not of the expected kind."""


class CertificationError(RandsmoothError, RuntimeError):
    """Some inputs of a run could not be classified; the others are kept.

    Parameters
    ----------
    message : str
        What went wrong, for which rows, and what to do.

    certificates : Certificates or None
        The record of the whole run. Rows that failed abstain with radius 0 and no draws.

    failed : ndarray of int
        The rows that failed.
    """

    def __init__(
        self, message: str, certificates: Certificates | None, failed: NDArray[np.intp]
    ) -> None:
        super().__init__(message)
        self.certificates = certificates
        self.failed = failed


class RandsmoothWarning(UserWarning):
    """Base of every warning that randsmooth defines itself."""


class TooFewDrawsWarning(RandsmoothWarning):
    """The number of draws can never certify anything at this failure probability."""


class WeightLeakWarning(RandsmoothWarning):
    """A trained module instance carries its weights into every clone of the estimator."""
