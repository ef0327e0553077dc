"""From the votes on every outcome of the noise to a record that is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from randsmooth.certificates.from_counts import imported_versions
from randsmooth.certificates.record import Certificates
from randsmooth.noise import Noise

__all__ = ["EXACT", "certify_outcomes"]

EXACT = "exact"
"""Name of the bound of records in which nothing is random."""


def certify_outcomes(
    counts: NDArray[np.int64],
    *,
    noise: Noise,
    radii: NDArray[np.float64] | None = None,
    classes: NDArray[Any],
    **facts: Any,
) -> Certificates:
    """Return the record of a run that tried every outcome of the noise.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_rows, n_classes)
        Votes on all outcomes; a row without any abstains.

    noise : Noise
        The noise.

    radii : ndarray of float64, shape (n_radii,), or None, default=None
        Radii that were asked about, increasing; None for the largest there is.

    classes : ndarray of shape (n_classes,)
        Class labels.

    **facts : dict
        Further fields of the record.

    Returns
    -------
    Certificates
        The record. Its `alpha` is 0, and its probabilities are the shares of the votes.
    """
    label = counts.argmax(axis=1)
    voted = counts.sum(axis=1) > 0
    ordered = np.sort(counts, axis=1)
    total = np.maximum(counts.sum(axis=1), 1)
    p_lower, p_upper = ordered[:, -1] / total, np.where(voted, ordered[:, -2] / total, 1.0)
    sure = p_lower > p_upper
    radius = np.where(sure, noise.exact_radius(counts, label), 0.0)
    if radii is not None:
        reached = np.searchsorted(radii, radius, side="right")
        sure &= reached > 0
        p_upper = np.where(sure, p_upper, 1.0)
        radius = np.where(sure, radii[np.maximum(reached - 1, 0)], 0.0)
    return Certificates(
        label=classes[label],
        radius=radius,
        abstained=~sure,
        p_lower=p_lower,
        p_upper=p_upper,
        selection_counts=counts,
        counts=counts,
        n_draws=counts.sum(axis=1),
        noise=noise,
        bound=EXACT,
        alpha=0.0,
        classes=classes,
        radii=radii,
        versions=imported_versions(),
        **facts,
    )
