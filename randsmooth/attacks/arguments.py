"""What users hand to attacks, checked: names, labels, sizes and ranges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.minimal import Boundary, CarliniWagner
from randsmooth.attacks.pgd import PGD, SPSA
from randsmooth.attacks.square import Square
from randsmooth.checks import check_choice, check_clip_range

__all__ = [
    "METHODS",
    "attack_method",
    "class_indices",
    "clip_limits",
    "eps_of_each",
    "rising_sizes",
]

METHODS: dict[str, AttackMethod] = {
    "pgd": PGD(),
    "margin": PGD(loss="margin", average="loss"),
    "cw": CarliniWagner(),
    "boundary": Boundary(),
    "spsa": SPSA(),
    "square": Square(),
}
"""The attacks that have a name."""


def attack_method(method: str | AttackMethod) -> AttackMethod:
    """Return the attack that a name stands for, checked.

    Parameters
    ----------
    method : str or AttackMethod
        A name in `METHODS`, or an attack.

    Returns
    -------
    AttackMethod
        The attack.

    Raises
    ------
    ValueError
        If no attack has that name, or its settings are out of range.

    TypeError
        If it is something else.
    """
    if isinstance(method, str):
        check_choice("method", method, tuple(METHODS))
        method = METHODS[method]
    if not isinstance(method, AttackMethod):
        raise TypeError(
            f"method must be one of {', '.join(map(repr, METHODS))} or an attack of "
            f"randsmooth.attacks such as PGD(n_steps=200), got {method!r}."
        )
    method.check()
    return method


def class_indices(classes: NDArray[Any], y: ArrayLike, n_inputs: int) -> NDArray[np.int64]:
    """Return the class index of each label.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels that there are, sorted.

    y : array-like of shape (n_inputs,)
        Labels.

    n_inputs : int
        How many there must be.

    Returns
    -------
    ndarray of int64, shape (n_inputs,)
        The indices.

    Raises
    ------
    ValueError
        If they are not one label per input, or unknown.
    """
    labels = np.asarray(y)
    if labels.shape != (n_inputs,):
        raise ValueError(
            f"y must hold one label per input, got shape {labels.shape} for {n_inputs} inputs."
        )
    unknown = ~np.isin(labels, classes)
    if unknown.any():
        raise ValueError(
            f"y must hold labels among classes_, {classes[:10].tolist()}, got "
            f"{np.unique(labels[unknown])[:5].tolist()}."
        )
    indices: NDArray[np.int64] = np.searchsorted(classes, labels).astype(np.int64)
    return indices


def eps_of_each(eps: ArrayLike | None, n_inputs: int, method: AttackMethod) -> NDArray[np.float64]:
    """Return the size of each input's perturbation.

    Parameters
    ----------
    eps : float, array-like of shape (n_inputs,) or None
        As handed in.

    n_inputs : int
        Number of inputs.

    method : AttackMethod
        The attack.

    Returns
    -------
    ndarray of float64, shape (n_inputs,)
        The sizes, infinite where none was given.

    Raises
    ------
    ValueError
        If they are not positive numbers, infinite for an attack of a fixed size, or missing.
    """
    if eps is None:
        if method.minimal:
            return np.full(n_inputs, math.inf)
        raise ValueError(f"eps must be a positive size for {method.name!r}, got None.")
    given = _numbers(eps)
    most = math.inf if method.minimal else np.finfo(np.float64).max
    if given.shape not in ((), (n_inputs,)) or not ((given > 0) & (given <= most)).all():
        finite = "" if method.minimal else f" and finite for {method.name!r}"
        raise ValueError(
            f"eps must be positive{finite}, one number or one per input, got {eps!r} for "
            f"{n_inputs} inputs."
        )
    return np.broadcast_to(given, (n_inputs,)).copy()


def clip_limits(
    clip_range: tuple[float, float] | None,
    X: NDArray[Any],
    eps: NDArray[np.float64],
    method: AttackMethod,
) -> tuple[float, float]:
    """Return limits of the coordinates that hold the inputs.

    Parameters
    ----------
    clip_range : tuple of two floats or None
        As handed in.

    X : ndarray
        The inputs.

    eps : ndarray of float64
        Sizes of the perturbations.

    method : AttackMethod
        The attack.

    Returns
    -------
    tuple of two floats
        The limits, as numbers of the inputs' type. Without any, as far from the inputs as the
        largest perturbation reaches, or as the inputs are apart.

    Raises
    ------
    ValueError
        If they are no range, inputs lie outside, or the attack needs finite ones.
    """
    check_clip_range(clip_range)
    least, most = (float(X.min()), float(X.max())) if X.size else (0.0, 1.0)
    if clip_range is None:
        reach = max(most - least, 1.0, *eps[np.isfinite(eps)].tolist())
        return least - reach, most + reach
    # The inputs were rounded to their type, and so are the limits.
    low, high = (float(X.dtype.type(limit)) for limit in clip_range)
    if method.bounded and not math.isfinite(high - low):
        raise ValueError(
            f"clip_range must be finite for {method.name!r}, got {clip_range!r}. Hand in the range "
            f"of the data, or clip_range=None."
        )
    if least < low or most > high:
        raise ValueError(
            f"X must lie within clip_range={clip_range!r}, got values from {least:.6g} to "
            f"{most:.6g}. Hand in the range of the data, or clip_range=None."
        )
    return low, high


def rising_sizes(sizes: ArrayLike) -> NDArray[np.float64]:
    """Return sizes of attacks, in rising order.

    Parameters
    ----------
    sizes : array-like of float, shape (n_sizes,)
        As handed in.

    Returns
    -------
    ndarray of float64, shape (n_sizes,)
        The sizes.

    Raises
    ------
    ValueError
        If there are none, one is negative or not finite, or they do not rise.
    """
    given = np.atleast_1d(_numbers(sizes))
    good = given.ndim == 1 and given.size > 0 and np.isfinite(given).all() and (given >= 0).all()
    if not good or (np.diff(given) <= 0).any():
        raise ValueError(
            f"sizes must be finite numbers of at least 0 in rising order, got {sizes!r}."
        )
    return given


def _numbers(values: ArrayLike) -> NDArray[np.float64]:
    """Return numbers as an array; NaN, which every check refuses, where they are none."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.full((), np.nan)
