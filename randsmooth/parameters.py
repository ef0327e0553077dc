"""Checks of what the constructor of `SmoothedClassifier` only stores."""

from __future__ import annotations

import sys
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randsmooth.certificates.from_counts import resolved_bound
from randsmooth.exceptions import TooFewDrawsWarning
from randsmooth.intervals import GroupSequentialTest, smallest_certifying_trials
from randsmooth.intervals.multinomial import TOP_SHARE
from randsmooth.noise import noise_from_name
from randsmooth.speed import AUTOCAST_TYPES
from randsmooth.two_stage import TwoStage

__all__ = [
    "check_parameters",
    "checked_seed",
    "most_draws",
    "two_stage_of",
    "warn_of_draws",
    "warn_of_too_few_draws",
    "warn_of_vain_radii",
]


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
    _check_positive_integer("n_selection", clf.n_selection)
    if two_stage_of(clf.n_estimation) is None:
        _check_positive_integer(
            "n_estimation", clf.n_estimation, "'two-stage', a TwoStage object or "
        )
    if clf.batch_size != "auto":
        _check_positive_integer("batch_size", clf.batch_size, "'auto' or ")
    for name in ("shortcuts", "compile", "common_noise"):
        if not isinstance(getattr(clf, name), bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {getattr(clf, name)!r}.")
    if clf.autocast is not None and clf.autocast not in AUTOCAST_TYPES:
        names = ", ".join(map(repr, AUTOCAST_TYPES))
        raise ValueError(f"autocast must be None, {names}, got {clf.autocast!r}.")
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
    needed = smallest_certifying_trials(alpha=clf.alpha * (TOP_SHARE if runner_up else 1.0))
    n_draws = most_draws(clf.n_estimation)
    if n_draws < needed:
        warn_of_draws(
            f"n_estimation={n_draws} draws can never certify at alpha={clf.alpha}: every "
            f"input abstains. The smallest number that can is {needed}."
        )


def warn_of_vain_radii(
    radii: NDArray[np.float64], p0: NDArray[np.float64], n_max: int, alpha: float
) -> None:
    """Warn of radii that no outcome of the draws can certify.

    Parameters
    ----------
    radii : ndarray of float64, shape (n_radii,)
        The radii asked about.

    p0 : ndarray of float64, shape (n_radii,)
        The probability that certifies each.

    n_max : int
        The most draws.

    alpha : float
        Failure probability.

    Warns
    -----
    TooFewDrawsWarning
        With the smallest number of draws that can certify them all, where there is one.
    """
    vain = p0 == 1
    if vain.any():
        warn_of_draws(
            f"radii {radii[vain].tolist()} are beyond what any number of draws can certify with "
            f"this noise. Give it a larger scale."
        )
    # The designs are those of the run, and computed once.
    tests = [GroupSequentialTest(float(p), alpha, n_max) for p in p0[~vain]]
    late = [pair for pair in zip(radii.tolist(), tests, strict=False) if not pair[1].can_claim]
    if late:
        warn_of_draws(
            f"n_estimation={n_max} draws can never certify radii {[r for r, _ in late]} at "
            f"alpha={alpha}. The smallest number that can is {late[-1][1].smallest_n_max}."
        )


def two_stage_of(n_estimation: Any) -> TwoStage | None:
    """Return the plan of a two-stage estimation, None for a fixed number of draws.

    Parameters
    ----------
    n_estimation : int, "two-stage" or TwoStage
        What the user handed in.

    Returns
    -------
    TwoStage or None
        The plan.
    """
    if isinstance(n_estimation, TwoStage):
        return n_estimation
    is_name = isinstance(n_estimation, str) and n_estimation == "two-stage"
    return TwoStage() if is_name else None


def most_draws(n_estimation: Any) -> int:
    """Return the most estimation draws that an input may take.

    Parameters
    ----------
    n_estimation : int, "two-stage" or TwoStage
        What the user handed in.

    Returns
    -------
    int
        The number.
    """
    two_stage = two_stage_of(n_estimation)
    return int(n_estimation) if two_stage is None else two_stage.n_max


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


def warn_of_draws(message: str) -> None:
    """Warn of too few draws, at the line of the user who asked for them.

    Parameters
    ----------
    message : str
        What can never happen with so few, and how many it takes.

    Warns
    -----
    TooFewDrawsWarning
        Always.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("randsmooth."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, TooFewDrawsWarning, stacklevel=level)


def _check_positive_integer(name: str, value: Any, alternative: str = "") -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be {alternative}a positive integer, got {value!r}.")
