"""Certified accuracy as a function of the radius, with its confidence band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.metrics import certified_accuracy_interval, share_certified

__all__ = ["CertifiedAccuracyCurve", "certified_accuracy_curve"]


@dataclass(frozen=True, eq=False)
class CertifiedAccuracyCurve:
    """Certified accuracy as a function of the radius.

    It is a falling step function, continuous from the left: each value holds from just above the
    radius before, up to and including its own. Where only some radii were evaluated, that is a
    lower bound in between.

    Parameters
    ----------
    radii : ndarray of float64, shape (n_radii,)
        Radii in rising order.

    accuracy : ndarray of float64, shape (n_radii,)
        Certified accuracy at each.

    lower, upper : ndarray of float64, shape (n_radii,)
        Ends of the confidence interval at each radius; see
        `randsmooth.metrics.certified_accuracy_interval`.

    band_alpha : float
        Failure probability of each interval.

    norm : str
        Norm of the radii.

    name : str or None, default=None
        Name for the legend.
    """

    radii: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    band_alpha: float
    norm: str
    name: str | None = None


def certified_accuracy_curve(
    correct: NDArray[np.bool_],
    radius: NDArray[np.float64],
    radii: ArrayLike | None = None,
    *,
    certificate_alpha: float,
    norm: str,
    name: str | None = None,
    band_alpha: float = 0.05,
    common_noise: bool = True,
    simultaneous: bool = False,
) -> CertifiedAccuracyCurve:
    """Return the curve of a run.

    Parameters
    ----------
    correct : ndarray of bool, shape (n_rows,)
        Rows that are right and did not abstain.

    radius : ndarray of float64, shape (n_rows,)
        Certified radius of each row.

    radii : array-like of float or None, default=None
        Radii to evaluate. By default 0 and every radius at which the curve drops; the last one
        then comes twice, before its drop and after it.

    certificate_alpha : float
        Failure probability of each certificate.

    norm : str
        Norm of the radii.

    name : str or None, default=None
        Name for the legend.

    band_alpha : float, default=0.05
        Failure probability of the interval at each radius.

    common_noise : bool, default=True
        Whether the inputs shared their noise.

    simultaneous : bool, default=False
        Whether the intervals hold together along the whole curve.

    Returns
    -------
    CertifiedAccuracyCurve
        The curve.

    Raises
    ------
    ValueError
        If a radius to evaluate is negative, or a probability is outside (0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.curves import certified_accuracy_curve
    >>> curve = certified_accuracy_curve(
    ...     np.array([True, True, False]),
    ...     np.array([0.2, 0.5, 0.9]),
    ...     certificate_alpha=0.001,
    ...     norm="l2",
    ... )
    >>> curve.radii, curve.accuracy.round(2)
    (array([0. , 0.2, 0.5, 0.5]), array([0.67, 0.67, 0.33, 0.  ]))
    """
    certain = correct & ~np.isfinite(radius)
    reached = radius[correct & ~certain]
    asked = np.append(reached, 0.0) if radii is None else np.asarray(radii, dtype=float).ravel()
    steps = np.unique(asked)
    accuracy = share_certified(correct, radius, steps)
    if radii is None:
        steps, accuracy = np.append(steps, steps[-1]), np.append(accuracy, certain.mean())
    lower, upper = certified_accuracy_interval(
        np.rint(accuracy * correct.size).astype(np.int64),
        correct.size,
        certificate_alpha=certificate_alpha,
        alpha=band_alpha,
        common_noise=common_noise,
        simultaneous=simultaneous,
    )
    return CertifiedAccuracyCurve(
        radii=steps,
        accuracy=accuracy,
        lower=lower,
        upper=upper,
        band_alpha=band_alpha,
        norm=norm,
        name=name,
    )
