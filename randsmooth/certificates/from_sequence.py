"""From the claims of sequential tests to a record."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from randsmooth.certificates.from_counts import imported_versions
from randsmooth.certificates.record import Certificates
from randsmooth.noise import Noise

__all__ = ["certify_claims"]


def certify_claims(
    selection_counts: NDArray[np.int64],
    counts: NDArray[np.int64],
    claimed: NDArray[np.int64],
    *,
    radii: NDArray[np.float64],
    p0: NDArray[np.float64],
    noise: Noise,
    bound: str,
    alpha: float,
    classes: NDArray[Any],
    **facts: Any,
) -> Certificates:
    """Return the record of a run whose draws stopped when nested tests were decided.

    Parameters
    ----------
    selection_counts : ndarray of int64, shape (n_rows, n_classes)
        Votes of the draws that chose the class.

    counts : ndarray of int64, shape (n_rows, n_classes)
        Votes of the draws until each input was decided.

    claimed : ndarray of int64, shape (n_rows,)
        How many of the radii, from the smallest, were certified.

    radii : ndarray of float64, shape (n_radii,)
        The radii that were asked about, increasing.

    p0 : ndarray of float64, shape (n_radii,)
        The probability of the top class that certifies each.

    noise : Noise
        The noise that was added.

    bound : str
        Name of the bound behind `p0`.

    alpha : float
        Failure probability of all claims on one input together.

    classes : ndarray of shape (n_classes,)
        Class labels.

    **facts : dict
        Further fields of the record.

    Returns
    -------
    Certificates
        The record.
    """
    sure = claimed > 0
    last = np.maximum(claimed - 1, 0)
    p_lower = np.where(sure, p0[last], 0.0)
    return Certificates(
        label=classes[selection_counts.argmax(axis=1)],
        radius=np.where(sure, radii[last], 0.0),
        abstained=~sure,
        p_lower=p_lower,
        p_upper=1 - p_lower,
        selection_counts=selection_counts,
        counts=counts,
        n_draws=counts.sum(axis=1),
        noise=noise,
        bound=bound,
        alpha=alpha,
        classes=classes,
        radii=radii,
        versions=imported_versions(),
        **facts,
    )
