"""Radii in the l2 norm for Gaussian noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.differential_privacy import unit_privacy_radius
from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.quantiles import normal_quantile_distance
from randsmooth.bounds.renyi import unit_renyi_radius
from randsmooth.bounds.rounding import scaled_down

__all__ = ["neyman_pearson_radius", "pixeldp_radius", "renyi_radius"]


def neyman_pearson_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, sigma: ArrayLike
) -> NDArray[np.float64]:
    r"""Largest l2 radius that two class probabilities certify under Gaussian noise.

    A classifier smoothed with Gaussian noise answers the top class at every point closer
    than this, whatever its base classifier, if `p_lower` and `p_upper` bound its class
    probabilities at the centre. No larger radius follows from them. Nothing is random here.
    The value is never above the exact one, and below it by at most :math:`10^{-9}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    sigma : float or array-like of float
        Standard deviation of the noise, positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `sigma`. It is 0 where `p_lower` <= `p_upper`, infinite
        where `p_lower` is 1 or `p_upper` is 0. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `sigma` is not positive and finite.

    Notes
    -----
    The radius is :math:`\frac{\sigma}{2}(\Phi^{-1}(p_1) - \Phi^{-1}(p_2))` [1]_, which is
    :math:`\sigma \Phi^{-1}(p_1)` where :math:`p_2 = 1 - p_1`. It holds for the open ball.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via
       randomized smoothing", ICML 2019, Theorem 1.

    Examples
    --------
    >>> from randsmooth.bounds import neyman_pearson_radius
    >>> neyman_pearson_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], sigma=0.5).round(3)
    array([0.641, 0.531, 0.   ])
    """
    distance = normal_quantile_distance(probability_pair(p_lower, p_upper))
    return scaled_down("sigma", sigma, distance / 2)


def renyi_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, sigma: ArrayLike
) -> NDArray[np.float64]:
    r"""Radius in l2 that follows from the Renyi divergence of Gaussian noise.

    A classifier smoothed with Gaussian noise answers the top class at every point closer
    than this, if `p_lower` and `p_upper` bound its class probabilities at the centre. It is
    never above `neyman_pearson_radius`, which uses more than the divergence. Nothing is
    random here. The value is never above the exact supremum, and below it by at most
    :math:`10^{-6}` of it, far less away from ties.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    sigma : float or array-like of float
        Standard deviation of the noise, positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `sigma`. It is 0 where `p_lower` <= `p_upper` or `p_lower` is
        below 1e-280, infinite where `p_lower` is 1. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `sigma` is not positive and finite.

    Notes
    -----
    The radius is [1]_

    .. math:: \sup_{\alpha > 1} \sqrt{-\frac{2\sigma^2}{\alpha}
       \ln\bigl(1 - p_1 - p_2 + 2 M_{1-\alpha}(p_1, p_2)\bigr)},
       \qquad M_r(x, y) = \Bigl(\frac{x^r + y^r}{2}\Bigr)^{1/r}.

    Every order :math:`\alpha` gives a sound radius, so that the search over it can only cost
    tightness. The logarithm is evaluated without cancellation: with
    :math:`s = \alpha - 1` and :math:`r = \ln(p_1 / p_2)`, the power mean is
    :math:`\frac{p_1 + p_2}{2}
    \exp\bigl(-\ln\cosh\frac r2 - \frac1s \ln\cosh\frac{sr}2\bigr)`.

    References
    ----------
    .. [1] B. Li, C. Chen, W. Wang and L. Carin, "Certified adversarial robustness with
       additive noise", NeurIPS 2019, Theorem 2.

    Examples
    --------
    >>> from randsmooth.bounds import renyi_radius
    >>> renyi_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], sigma=0.5).round(3)
    array([0.516, 0.456, 0.   ])
    """
    return scaled_down("sigma", sigma, unit_renyi_radius(probability_pair(p_lower, p_upper)))


def pixeldp_radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, *, sigma: ArrayLike
) -> NDArray[np.float64]:
    r"""Radius in l2 that follows from the differential privacy of the Gaussian mechanism.

    A classifier smoothed with Gaussian noise answers the top class at every point closer
    than this, if `p_lower` and `p_upper` bound its class probabilities at the centre.
    Nothing is random here. The value is never above the exact supremum over the privacy
    parameters, and below it by at most :math:`10^{-4}` of it, far less away from ties.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    sigma : float or array-like of float
        Standard deviation of the noise, positive.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius, in the units of `sigma`, at most 0.571 `sigma`. It is 0 where `p_lower`
        <= `p_upper` or `p_lower` is below 1e-280. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If a probability is outside [0, 1] or NaN, or `sigma` is not positive and finite.

    Notes
    -----
    The noise is :math:`(\epsilon, \delta)`-private towards shifts of length :math:`L` if
    :math:`\sigma = \sqrt{2 \ln(1.25/\delta)} L / \epsilon` and :math:`\epsilon \le 1`, and
    the decision holds if :math:`p_1 \ge e^{2\epsilon} p_2 + (1 + e^\epsilon) \delta` [1]_.
    The radius grows with :math:`\delta`, so that only :math:`\epsilon` is left to search:

    .. math:: \max_{0 < \epsilon \le \min(1, \ln(p_1/p_2)/2)}
       \frac{\sigma \epsilon}{\sqrt{2 \ln(1.25/\delta(\epsilon))}}, \qquad
       \delta(\epsilon) = \frac{p_1 - e^{2\epsilon} p_2}{1 + e^\epsilon}.

    References
    ----------
    .. [1] M. Lecuyer, V. Atlidakis, R. Geambasu, D. Hsu and S. Jana, "Certified robustness
       to adversarial examples with differential privacy", IEEE S&P 2019, Proposition 1.

    Examples
    --------
    >>> from randsmooth.bounds import pixeldp_radius
    >>> pixeldp_radius([0.9, 0.8, 0.4], [0.1, 0.1, 0.5], sigma=0.5).round(3)
    array([0.195, 0.181, 0.   ])
    """
    return scaled_down("sigma", sigma, unit_privacy_radius(probability_pair(p_lower, p_upper)))
