"""Radii in the l1 norm for uniform noise, independent in every coordinate."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.quantiles import uniform_quantile_distance
from randsmooth.bounds.rounding import scaled_down

__all__ = ["uniform_radius"]


def uniform_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, half_width: ArrayLike
) -> NDArray[np.float64]:
    r"""Largest l1 radius that two class probabilities certify under uniform noise.

    A classifier smoothed with independent uniform noise answers the top class at every point
    closer than this in l1, if `p_lower` and `p_upper` bound its class probabilities at the
    centre. Nothing is random here. The value is never above the exact one, and below it by at most
    :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    half_width : float or array-like of float
        Half the width of the noise, which is uniform on [-`half_width`, `half_width`], positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `half_width`. It is 0 where `p_lower` <= `p_upper`.
        A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `half_width` is not positive and finite.

    Notes
    -----
    The radius is :math:`\lambda (p_1 - p_2)`: a shift :math:`\delta` leaves the two cubes of
    noise with at least :math:`1 - \|\delta\|_1 / (2\lambda)` of their mass in common. With
    :math:`p_2 = 1 - p_1` it is the radius of [1]_.

    References
    ----------
    .. [1] G. Yang, T. Duan, J. E. Hu, H. Salman, I. Razenshteyn and J. Li, "Randomized
       smoothing of all shapes and sizes", ICML 2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds import uniform_radius
    >>> uniform_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], half_width=0.5).round(3)
    array([0.4 , 0.35, 0.  ])
    """
    distance = uniform_quantile_distance(probability_pair(p_lower, p_upper))
    return scaled_down("half_width", half_width, distance)
