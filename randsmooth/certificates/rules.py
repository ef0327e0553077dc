"""What must hold of the numbers in a record."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.noise import Noise

if TYPE_CHECKING:
    from randsmooth.certificates.record import Certificates

__all__ = ["asked_radii", "check_alpha", "check_facts", "check_rows", "class_labels", "vote_counts"]


def vote_counts(
    selection_counts: ArrayLike, counts: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both tables of votes as integers, read-only, or say what is wrong with them."""
    votes = []
    for name, given in (("selection_counts", selection_counts), ("counts", counts)):
        array = np.asarray(given)
        if array.ndim != 2 or array.shape[1] < 2:
            raise ValueError(
                f"{name} must have shape (n_rows, n_classes) with at least 2 classes, "
                f"got shape {array.shape}."
            )
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name} must hold integers, got dtype {array.dtype}.")
        if (array < 0).any():
            raise ValueError(f"{name} must not be negative, got {array.min()}.")
        # What nobody can change any more need not be copied: such tables can be large.
        shared = array.dtype == np.int64 and array.base is None and not array.flags.writeable
        kept = array if shared else array.astype(np.int64)
        kept.setflags(write=False)
        votes.append(kept)
    if votes[0].shape != votes[1].shape:
        raise ValueError(
            f"selection_counts and counts must have the same shape, "
            f"got {votes[0].shape} and {votes[1].shape}."
        )
    return votes[0], votes[1]


def class_labels(classes: ArrayLike, n_classes: int) -> NDArray[Any]:
    """Return the class labels as an array, or say what is wrong with them."""
    labels = np.array(classes)
    if labels.shape != (n_classes,) or len(set(labels.tolist())) != n_classes:
        raise ValueError(
            f"classes must be {n_classes} different labels, one per column of counts, "
            f"got {classes!r}."
        )
    return labels


def asked_radii(radii: ArrayLike) -> NDArray[np.float64]:
    """Return the radii somebody asks about, sorted and without repetitions.

    Parameters
    ----------
    radii : float or array-like of float
        The radii, in any order.

    Returns
    -------
    ndarray of float64, shape (n_radii,)
        The radii.

    Raises
    ------
    ValueError
        If there is none, or one is negative or not finite.

    Examples
    --------
    >>> from randsmooth.certificates.rules import asked_radii
    >>> asked_radii([0.5, 0.0, 0.5])
    array([0. , 0.5])
    """
    try:
        asked = np.unique(np.asarray(radii, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"radii must be numbers, got {radii!r}.") from error
    if not (asked.size and np.isfinite(asked).all() and (asked >= 0).all()):
        raise ValueError(f"radii must be one or more finite numbers of at least 0, got {radii!r}.")
    return asked


def check_alpha(alpha: float) -> None:
    """Refuse a failure probability outside (0, 1)."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha!r}.")


def check_facts(record: Certificates) -> None:
    """Refuse a record whose facts of the run are of the wrong type or range."""
    if not isinstance(record.noise, Noise):
        raise TypeError(f"noise must be a randsmooth.noise.Noise, got {record.noise!r}.")
    if record.noise.n_outcomes is None or record.alpha != 0:
        check_alpha(record.alpha)
    if not isinstance(record.bound, str):
        raise TypeError(f"bound must be the name of a bound, got {record.bound!r}.")
    if record.bound in ("", "auto"):
        raise ValueError(f"bound must name the bound that was used, got {record.bound!r}.")
    if not isinstance(record.noise_seed, Integral | None):
        raise TypeError(f"noise_seed must be an integer or None, got {record.noise_seed!r}.")


def check_rows(record: Certificates) -> None:
    """Refuse a record whose rows contradict themselves or the counts."""
    lower, upper = record.p_lower, record.p_upper
    chosen = record.classes[record.selection_counts.argmax(axis=1)]
    rules = {
        "p_lower must lie between 0 and 1": (lower >= 0) & (lower <= 1),
        "p_upper must lie between 0 and 1": (upper >= 0) & (upper <= 1),
        "abstained must be where p_lower is not above p_upper": record.abstained
        == ~(lower > upper),
        "radius must be at least 0, and 0 where abstained": np.where(
            record.abstained, record.radius == 0, record.radius >= 0
        ),
        "n_draws must be the sum of the counts": record.n_draws == record.counts.sum(axis=1),
        "label must be the class with the most selection votes": record.label == chosen,
        "seconds must be finite and at least 0": (record.seconds >= 0)
        & np.isfinite(record.seconds),
    }
    if record.radii is not None:
        rules["radius must be one of radii, or 0"] = np.isin(record.radius, [0.0, *record.radii])
    for rule, holds in rules.items():
        if not np.all(holds):
            raise ValueError(f"{rule}, got otherwise in row {int(np.argmin(holds))}.")
