"""Checks of what the constructor of `SmoothedClassifier` only stores."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np

from randsmooth.certificates.from_counts import resolved_bound
from randsmooth.exceptions import TooFewDrawsWarning
from randsmooth.intervals import smallest_certifying_trials
from randsmooth.noise import noise_from_name

__all__ = ["check_parameters", "checked_seed", "warn_of_too_few_draws"]


def check_parameters(clf: Any) -> None:
    """Refuse parameters that are out of range.

    Parameters
    ----------
    clf : SmoothedClassifier
        The classifier.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the bound is not for the noise.

    TypeError
        If a parameter is of the wrong kind.
    """
    resolved_bound(clf.bound, noise_from_name(clf.noise, clf.sigma))
    for name in ("n_selection", "n_estimation"):
        _check_positive_integer(name, getattr(clf, name))
    if clf.batch_size != "auto":
        _check_positive_integer("batch_size", clf.batch_size, "'auto' or ")
    if not (isinstance(clf.alpha, Real) and 0 < float(clf.alpha) < 1):
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {clf.alpha!r}.")


def warn_of_too_few_draws(clf: Any) -> None:
    """Warn where no outcome of the estimation draws can certify anything.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    Warns
    -----
    TooFewDrawsWarning
        With the smallest number of draws that can.
    """
    _, runner_up, _ = resolved_bound(clf.bound, clf.noise_)
    needed = smallest_certifying_trials(alpha=clf.alpha * (0.9 if runner_up else 1.0))
    if clf.n_estimation < needed:
        warnings.warn(
            f"n_estimation={clf.n_estimation} draws can never certify at alpha={clf.alpha}: every "
            f"input abstains. The smallest number that can is {needed}.",
            TooFewDrawsWarning,
            stacklevel=4,
        )


def checked_seed(noise_seed: Any) -> int:
    """Return a seed of the noise, checked.

    Parameters
    ----------
    noise_seed : int
        What the user handed in.

    Returns
    -------
    int
        The same.

    Raises
    ------
    ValueError
        If it is not an integer from 0 to 2**63 - 1.
    """
    if not isinstance(noise_seed, (int, np.integer)) or not 0 <= noise_seed < 2**63:
        raise ValueError(f"noise_seed must be an integer from 0 to 2**63 - 1, got {noise_seed!r}.")
    return int(noise_seed)


def _check_positive_integer(name: str, value: Any, alternative: str = "") -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be {alternative}a positive integer, got {value!r}.")
