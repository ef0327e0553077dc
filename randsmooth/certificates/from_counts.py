"""From votes to a record: statistics, then geometry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds import BOUNDS
from randsmooth.certificates.record import Certificates
from randsmooth.certificates.rules import check_alpha, class_labels, vote_counts
from randsmooth.intervals import top_class_interval
from randsmooth.noise import Noise, noise_from_name

__all__ = ["certify_counts", "imported_versions", "resolved_bound"]

# What each noise certifies best, with the runner-up and without.
_TIGHTEST = ("neyman_pearson", "binary")

Radius = Callable[[NDArray[np.float64], NDArray[np.float64]], ArrayLike]


def certify_counts(
    selection_counts: ArrayLike,
    counts: ArrayLike,
    *,
    noise: str | Noise = "gaussian",
    sigma: float | None = None,
    alpha: float = 0.001,
    bound: str | Callable[..., ArrayLike] = "auto",
    classes: ArrayLike | None = None,
    noise_seed: int | None = None,
    seconds: ArrayLike | None = None,
    versions: Mapping[str, str] | None = None,
    execution: Mapping[str, Any] | None = None,
) -> Certificates:
    """Certify inputs from the votes of a classifier on noisy copies of them.

    Each row holds with probability at least 1 - `alpha` over its estimation draws, whoever drew
    them, provided that they are independent draws of the noise and independent of the selection
    draws.

    Parameters
    ----------
    selection_counts : array-like of int, shape (n_rows, n_classes)
        Votes of the draws that choose the class.

    counts : array-like of int, shape (n_rows, n_classes)
        Votes of separate draws that bound the probability of the chosen class. A row without any
        abstains.

    noise : str or Noise, default="gaussian"
        The noise that was added, by name or as an object.

    sigma : float or None, default=None
        Scale of a noise given by name, in the units of the inputs.

    alpha : float, default=0.001
        Failure probability of each row, strictly between 0 and 1.

    bound : str or callable, default="auto"
        A name in `randsmooth.bounds.BOUNDS`, "auto" for the tightest sound one for this noise, or
        a function called as ``bound(p_lower, p_upper, sigma=noise.scale)`` that returns radii.

    classes : array-like of shape (n_classes,) or None, default=None
        Class labels of the columns, 0, 1, 2, ... by default.

    noise_seed : int or None, default=None
        Seed of the noise, for the record.

    seconds : array-like of float, shape (n_rows,), or None, default=None
        Wall-clock time of each row, for the record.

    versions : mapping of str to str or None, default=None
        Versions of the packages that drew the votes, those now imported by default.

    execution : mapping or None, default=None
        How the votes were drawn, for the record.

    Returns
    -------
    Certificates
        The record.

    Raises
    ------
    ValueError
        If the counts are not whole votes, `alpha` is outside (0, 1), the bound is unknown or does
        not fit the noise, or a bound of your own returns impossible radii.

    TypeError
        If `bound` is neither a name nor a function.

    Examples
    --------
    >>> from randsmooth.certificates import certify_counts
    >>> votes = [[0, 9_950, 50]]
    >>> record = certify_counts([[0, 99, 1]], votes, sigma=0.25, classes=["ant", "bee", "fly"])
    >>> print(record.label[0], record.radius.round(3)[0])
    bee 0.607
    """
    if selection_counts is counts:
        raise ValueError(
            "selection_counts and counts must come from separate draws, got one array for both."
        )
    selection_counts, counts = vote_counts(selection_counts, counts)
    n_rows, n_classes = counts.shape
    noise = noise_from_name(noise, sigma)
    bound_name, runner_up, radius_of = resolved_bound(bound, noise)
    check_alpha(alpha)
    chosen, n_draws = selection_counts.argmax(axis=1), counts.sum(axis=1)
    p_lower, p_upper = top_class_interval(counts, chosen, alpha=alpha, runner_up=runner_up)
    sure, radius = p_lower > p_upper, np.zeros(n_rows)
    if sure.any():
        given = radius_of(p_lower[sure], p_upper[sure])
        radius[sure] = _checked_radii(given, bound_name, int(sure.sum()))
    classes = class_labels(np.arange(n_classes) if classes is None else classes, n_classes)
    return Certificates(
        label=classes[chosen],
        radius=radius,
        abstained=~sure,
        p_lower=p_lower,
        p_upper=p_upper,
        selection_counts=selection_counts,
        counts=counts,
        n_draws=n_draws,
        seconds=np.zeros(n_rows) if seconds is None else np.asarray(seconds, dtype=float),
        noise=noise,
        bound=bound_name,
        alpha=alpha,
        classes=classes,
        noise_seed=noise_seed,
        versions=imported_versions() if versions is None else versions,
        execution=execution or {},
    )


def resolved_bound(bound: str | Callable[..., ArrayLike], noise: Noise) -> tuple[str, bool, Radius]:
    """Return a bound's name, whether it uses the runner-up, and its radius for this noise.

    Parameters
    ----------
    bound : str or callable
        A name in `randsmooth.bounds.BOUNDS`, "auto" or a function.

    noise : Noise
        The noise it is for.

    Returns
    -------
    name : str
        Its name, never "auto".

    runner_up : bool
        Whether part of the failure probability is spent on the runner-up.

    radius : callable (p_lower, p_upper) -> radii
        The formula.

    Raises
    ------
    ValueError
        If the name is unknown or the bound is not for this noise.

    TypeError
        If it is neither a name nor a function.
    """
    if callable(bound):
        named = bound if hasattr(bound, "__qualname__") else type(bound)
        name = f"{named.__module__}.{named.__qualname__}"
        return name, True, lambda lower, upper: bound(lower, upper, sigma=noise.scale)
    if not isinstance(bound, str):
        raise TypeError(f"bound must be a name or a function, got {bound!r}.")
    if not noise.has_radius:
        raise ValueError(
            f"bound must be a function bound(p_lower, p_upper, sigma=...) for {noise.name} noise, "
            f"for which no bound is known by name, got {bound!r}."
        )
    name = "neyman_pearson" if bound == "auto" else bound
    if name not in BOUNDS:
        names = ", ".join(map(repr, ("auto", *BOUNDS)))
        raise ValueError(f"bound must be one of {names}, or a function, got {bound!r}.")
    known = BOUNDS[name]
    if name in _TIGHTEST:
        return name, known.runner_up, noise.certified_radius
    family = noise.family or noise.name
    if family not in known.radii:
        raise ValueError(
            f"bound must be one for {noise.name} noise, got {bound!r}, which is for "
            f"{' and '.join(known.radii)} noise. Use 'auto' for the tightest that fits."
        )
    formula = known.radii[family]
    return name, known.runner_up, lambda lower, upper: formula(lower, upper, noise.scale)


def _checked_radii(radii: ArrayLike, bound: str, n_rows: int) -> NDArray[np.float64]:
    checked = np.asarray(radii, dtype=np.float64)
    if checked.shape != (n_rows,):
        raise ValueError(
            f"bound must return one radius per input, shape {(n_rows,)}, "
            f"got shape {checked.shape} from {bound!r}."
        )
    if not (checked >= 0).all():
        wrong = checked[~(checked >= 0)][0]
        raise ValueError(f"bound must return radii of at least 0, got {wrong} from {bound!r}.")
    return checked


def imported_versions() -> dict[str, str]:
    """Return the versions of the packages behind a record that is made now."""
    import randsmooth

    versions = {
        "randsmooth": randsmooth.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    if "torch" in sys.modules:
        versions["torch"] = str(sys.modules["torch"].__version__)
    return versions
