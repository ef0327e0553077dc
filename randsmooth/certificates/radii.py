"""Which probabilities of the top class certify which radii."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.certificates.from_counts import resolved_bound
from randsmooth.noise import Noise

__all__ = ["certifying_probabilities"]


def certifying_probabilities(
    radii: NDArray[np.float64], noise: Noise, bound: str | Callable[..., ArrayLike] = "auto"
) -> tuple[str, NDArray[np.float64]]:
    """Return how probable the top class must be for the other classes not to reach each radius.

    Every other class has at most the rest of the probability, as in the binary form of each bound.

    Parameters
    ----------
    radii : ndarray of float64, shape (n_radii,)
        The radii, increasing.

    noise : Noise
        The smoothing noise.

    bound : str or callable, default="auto"
        As in `certify_counts`.

    Returns
    -------
    name : str
        Name of the bound in its binary form.

    p0 : ndarray of float64, shape (n_radii,)
        For each radius a probability above one half whose certified radius is at least as large,
        the smallest but for rounding; 1 where only certainty would do, or not even that.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.certificates.radii import certifying_probabilities
    >>> from randsmooth.noise import Gaussian
    >>> certifying_probabilities(np.array([0.0, 0.5]), Gaussian(0.5))[1].round(4)
    array([0.5   , 0.8413])
    """
    name, _, radius_of = resolved_bound(bound, noise)
    low, high = np.full(len(radii), np.nextafter(0.5, 1)), np.ones(len(radii))
    enough = np.asarray(radius_of(low, 1 - low)) >= radii
    high[enough] = low[enough]
    while True:
        middle = low + (high - low) / 2
        halves = (middle > low) & (middle < high)
        if not halves.any():
            break
        enough = np.asarray(radius_of(middle, 1 - middle)) >= radii
        low = np.where(halves & ~enough, middle, low)
        high = np.where(halves & enough, middle, high)
    # A larger radius takes no smaller probability, whatever the last bits of a formula say.
    return "binary" if name == "neyman_pearson" else name, np.maximum.accumulate(high)
