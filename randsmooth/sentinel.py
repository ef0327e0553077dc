"""Predictions that abstain: when, and what they return instead of a label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from randsmooth.intervals import binomial_test, smallest_certifying_trials
from randsmooth.parameters import warn_of_draws

__all__ = ["check_sentinel", "undecided_votes"]


def check_sentinel(abstain: Any, classes: NDArray[Any]) -> None:
    """Refuse a sentinel that could be mistaken for a label.

    Parameters
    ----------
    abstain : object
        What is to be returned instead of a label.

    classes : ndarray of shape (n_classes,)
        The labels.

    Raises
    ------
    ValueError
        If it is one of them, or not a scalar.

    TypeError
        If it is text and they are numbers, or the other way round.
    """
    sentinel = np.asarray(abstain)
    if sentinel.ndim:
        raise ValueError(f"abstain must be a single label, got {abstain!r}.")
    if classes.dtype.kind != "O" and (sentinel.dtype.kind in "US") != (classes.dtype.kind in "US"):
        raise TypeError(
            f"abstain must be of the kind of the classes, {classes.dtype}, got {abstain!r}."
        )
    if abstain in classes.tolist():
        raise ValueError(
            f"abstain must not be one of the classes, {classes.tolist()[:10]}, got {abstain!r}."
        )


def undecided_votes(votes: NDArray[np.int64], clf: Any) -> NDArray[np.bool_]:
    """Return where votes leave open which class is the most probable.

    Parameters
    ----------
    votes : ndarray of int64, shape (n_inputs, n_classes)
        The votes.

    clf : SmoothedClassifier
        The fitted classifier, whose `alpha` is the level.

    Returns
    -------
    ndarray of bool, shape (n_inputs,)
        Where the exact binomial test between the two leading classes does not reject a tie; where
        they are tied, if all outcomes of the noise were tried.

    Warns
    -----
    TooFewDrawsWarning
        If no outcome of so many draws can reject a tie.
    """
    leading = np.sort(votes, axis=1)[:, -2:]
    if clf.noise_.n_outcomes is not None:
        tied: NDArray[np.bool_] = leading[:, 0] == leading[:, 1]
        return tied
    needed = smallest_certifying_trials(alpha=clf.alpha / 2)
    if clf.n_selection < needed:
        warn_of_draws(
            f"n_selection={clf.n_selection} draws can never tell two classes apart at "
            f"alpha={clf.alpha}: every prediction abstains. The smallest number that can is "
            f"{needed}."
        )
    undecided: NDArray[np.bool_] = binomial_test(leading[:, 1], leading[:, 0]) > clf.alpha
    return undecided
