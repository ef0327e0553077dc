"""The pair of probabilities that every radius starts from, checked and clipped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOO_SMALL = 1e-280
"""Below it numbers lose digits on their way: nothing is certified by what needs them all."""


@dataclass(frozen=True)
class ProbabilityPair:
    """Bounds on the probabilities of the top class and of its runner-up.

    A probability that was written down in decimals reaches a function as the nearest double.
    The errors say by how much each may have been moved towards a larger radius, so that a
    radius can make up for it. The end points 0 and 1 are taken to be meant exactly.

    Parameters
    ----------
    top : ndarray of float64
        Lower bound on the probability of the top class.

    runner_up : ndarray of float64
        Upper bound on the probability of every other class, at most 1 - `top`.

    top_error : ndarray of float64
        Half a unit in the last place of `top`.

    runner_up_error : ndarray of float64
        The same for `runner_up`; that of `top` where the one is the complement of the other.
    """

    top: NDArray[np.float64]
    runner_up: NDArray[np.float64]
    top_error: NDArray[np.float64]
    runner_up_error: NDArray[np.float64]

    def lowered(self) -> ProbabilityPair:
        """Lower it to the least favourable pair that rounds to this one.

        Returns
        -------
        ProbabilityPair
            A lower `top`, a higher `runner_up`.
        """
        top = np.where(self.top_error > 0, np.nextafter(self.top, 0.0), self.top)
        moved = np.nextafter(self.runner_up + self.runner_up_error, 2.0)
        runner_up = np.where(self.runner_up_error > 0, moved, self.runner_up)
        return ProbabilityPair(
            top, np.minimum(runner_up, 1.0), self.top_error, self.runner_up_error
        )


def probability_pair(p_lower: ArrayLike, p_upper: ArrayLike | None) -> ProbabilityPair:
    """Check two bounds on probabilities and clip the second to what the first leaves.

    Parameters
    ----------
    p_lower : array-like of float
        Lower bound on the probability of the top class.

    p_upper : array-like of float or None
        Upper bound on the probability of every other class. None means 1 - `p_lower`.

    Returns
    -------
    ProbabilityPair
        The two, broadcast against each other.

    Raises
    ------
    TypeError
        If a bound is not numeric.

    ValueError
        If a bound is outside [0, 1] or NaN.
    """
    top = _checked_probability("p_lower", p_lower)
    complement = 1.0 - top  # exact from one half on; below it the radius is 0 all the same
    top_error = _half_unit(top)
    if p_upper is None:
        return ProbabilityPair(top, complement, top_error, top_error)
    given = _checked_probability("p_upper", p_upper)
    clipped = given > complement
    runner_up = np.where(clipped, complement, given)
    # Clipping against a `top` that was rounded up may cut off both half units.
    error = np.where(clipped, 2 * top_error, _half_unit(given))
    top, top_error = (np.broadcast_to(part, runner_up.shape) for part in (top, top_error))
    return ProbabilityPair(top, runner_up, top_error, error)


def _checked_probability(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got {values!r}.")
    array = array.astype(np.float64)
    outside = ~((array >= 0) & (array <= 1))
    if outside.any():
        raise ValueError(f"{name} must lie in [0, 1], got {array[outside].item(0)!r}.")
    return array


def _half_unit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((p == 0) | (p == 1), 0.0, np.spacing(p) / 2)
