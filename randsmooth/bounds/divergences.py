"""How far an attack can move a noise: the largest divergence over a ball, rounded up."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "exponential_family_divergence",
    "gaussian_divergence",
    "laplace_divergence",
    "smallest_standard_deviation",
]

_EPSILON = float(np.finfo(np.float64).eps)
_ASYMMETRY = 1e-12
# The evaluation for Laplace noise is off by less than this share.
_SERIES_ERROR = 1e-11
_SMALL = 0.005


def gaussian_divergence(
    attack: ArrayLike,
    *,
    sigma: ArrayLike | None = None,
    covariance: ArrayLike | None = None,
    order: float = 1.0,
) -> NDArray[np.float64]:
    r"""Largest Renyi divergence between Gaussian noise and its copy moved by an attack.

    No vector of l2 norm at most `attack` moves the noise any farther, and whatever is computed
    from the noisy input, the answer of a classifier included, moves no farther either. Nothing
    is random here. The value is rounded up: never below the exact one for the smallest standard
    deviation, and above it by at most :math:`10^{-12}` of it.

    Parameters
    ----------
    attack : array-like of float, shape (...)
        Length of the attack in l2, at least 0; infinity is allowed.

    sigma : float or array-like of float, or None, default=None
        Standard deviation of independent noise, positive. Broadcast against `attack`.

    covariance : array-like of float, shape (d, d), or None, default=None
        Covariance of the noise instead, symmetric and positive definite.

    order : float, default=1.0
        Order of the divergence, at least 1: 1 is the Kullback-Leibler divergence, infinity the
        largest log-ratio of the densities.

    Returns
    -------
    ndarray of float64, shape (...)
        The divergence in nats. It is 0 where `attack` is 0, and infinite at order infinity
        otherwise. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `attack` is negative or NaN, `order` below 1, `sigma` not positive and finite, or not
        exactly one of `sigma` and `covariance` given.

    Notes
    -----
    The value is :math:`\alpha a^2 / (2 \sigma^2)` [1]_, with the square root of the smallest
    eigenvalue for :math:`\sigma` where a covariance is given.

    References
    ----------
    .. [1] M. Gil, F. Alajaji and T. Linder, "Rényi divergence measures for commonly used
       univariate continuous distributions", Information Sciences 249, 2013, Table 2.

    Examples
    --------
    >>> from randsmooth.bounds.divergences import gaussian_divergence
    >>> gaussian_divergence([0.0, 0.25, 0.5], sigma=0.5).round(4)
    array([0.   , 0.125, 0.5  ])
    """
    length, level = checked_attack(attack), _checked_order(order)
    deviation = gaussian_deviation(sigma, covariance)
    with np.errstate(over="ignore", under="ignore"):
        ratio = _raised(length / deviation)
        root = ratio * math.sqrt(level / 2) if level < math.inf else np.full_like(ratio, np.inf)
        divergence = _raised(_raised(root) ** 2)
    return np.where(length == 0, 0.0, divergence)[()]


def laplace_divergence(
    attack: ArrayLike, *, scale: ArrayLike, order: float = 1.0
) -> NDArray[np.float64]:
    r"""Largest Renyi divergence between Laplace noise and its copy moved by an attack.

    No vector of l1 norm at most `attack` moves the noise any farther, and whatever is computed
    from the noisy input, the answer of a classifier included, moves no farther either. Nothing
    is random here. The value is rounded up: never below the exact one, and above it by at most
    :math:`2 \cdot 10^{-11}` of it.

    Parameters
    ----------
    attack : array-like of float, shape (...)
        Length of the attack in l1, at least 0; infinity is allowed.

    scale : float or array-like of float
        Scale of the noise (its mean absolute value), positive. Broadcast against `attack`.

    order : float, default=1.0
        Order of the divergence, at least 1: 1 is the Kullback-Leibler divergence, infinity the
        largest log-ratio of the densities.

    Returns
    -------
    ndarray of float64, shape (...)
        The divergence in nats, 0 where `attack` is 0. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `attack` is negative or NaN, `order` below 1, or `scale` not positive and finite.

    Notes
    -----
    With :math:`t = a / \lambda` the value is [1]_

    .. math:: \frac{1}{\alpha - 1} \ln\Bigl(\frac{\alpha}{2\alpha - 1} e^{(\alpha - 1) t}
       + \frac{\alpha - 1}{2\alpha - 1} e^{-\alpha t}\Bigr),

    :math:`t + e^{-t} - 1` at order 1 and :math:`t` at order infinity. Coordinates add up, and
    each part is convex in the shift of its coordinate and 0 at 0, so that the sum over an l1
    ball is largest at a corner, where one coordinate takes all.

    References
    ----------
    .. [1] B. Li, C. Chen, W. Wang and L. Carin, "Certified adversarial robustness with
       additive noise", NeurIPS 2019, Theorem 3.

    Examples
    --------
    >>> import math
    >>> from randsmooth.bounds.divergences import laplace_divergence
    >>> laplace_divergence([0.0, 0.5, 1.0], scale=0.5, order=math.inf)
    array([0., 1., 2.])
    >>> laplace_divergence(1.0, scale=1.0, order=2.0).round(4)
    np.float64(0.6191)
    """
    length, level = checked_attack(attack), _checked_order(order)
    width = _checked_scale("scale", scale)
    with np.errstate(all="ignore"):
        exact = length / width
        # Division by a power of two, and by 1, leaves nothing to round.
        tame = (np.frexp(width)[0] == 0.5) | (length == 0)
        shift = np.where(tame, exact, _raised(exact))
        spread = 2 * level - 1
        moved = spread * shift
        fallen = np.expm1(-moved)
        stake = (level - 1) / spread if level < math.inf else 0.5
        value = (_exceeding_one(moved) + fallen * _log_ratio_excess(stake * fallen)) / spread
        value = np.where(shift == 0, 0.0, np.nextafter(value * (1 + _SERIES_ERROR), np.inf))
    # No order exceeds the largest, which also stands in where the others overflow.
    usable = np.isfinite(moved)
    return np.where(usable, np.minimum(np.where(usable, value, 0.0), shift), shift)[()]


def exponential_family_divergence(
    parameter_norm: ArrayLike, statistic_modulus: ArrayLike, carrier_modulus: ArrayLike
) -> NDArray[np.float64]:
    r"""Bound on the divergence of any order between exponential-family noise and its moved copy.

    It bounds the log-ratio of the densities everywhere, hence the divergence of every order up
    to infinity, for each shift of at most the size that the moduli are for. Nothing is random
    here. The value is rounded up.

    Parameters
    ----------
    parameter_norm : array-like of float, shape (...)
        Euclidean norm of the natural parameter, at least 0.

    statistic_modulus : array-like of float, shape (...)
        Modulus of continuity of the sufficient statistic at the size of the attack: the most by
        which a shift of that size can move it, in the Euclidean norm. At least 0.

    carrier_modulus : array-like of float, shape (...)
        The same for the logarithm of the carrier measure, at least 0.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound in nats. A float64 scalar where all arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If an argument is negative or NaN.

    Notes
    -----
    For a density :math:`\exp(\langle t(z), \theta \rangle - u(\theta) + k(z))` the value is
    :math:`\|\theta\|_2\, \omega_t(a) + \omega_k(a)` [1]_, by the inequality of Cauchy and
    Schwarz. For noise at an inner layer :math:`a` is the largest change of that layer.

    References
    ----------
    .. [1] R. Pinot, L. Meunier, A. Araujo, H. Kashima, F. Yger, C. Gouy-Pailler and J. Atif,
       "Theoretical evidence for adversarial robustness through randomization", NeurIPS 2019,
       Theorem 3.

    Examples
    --------
    Laplace noise of scale 0.5 has the statistic :math:`\|z\|_1`, which an l1 attack of length
    0.25 changes by at most that, and no carrier:

    >>> from randsmooth.bounds.divergences import exponential_family_divergence
    >>> exponential_family_divergence(1 / 0.5, 0.25, 0.0).round(3)
    np.float64(0.5)
    """
    norm = checked_attack(parameter_norm, name="parameter_norm")
    statistic = checked_attack(statistic_modulus, name="statistic_modulus")
    carrier = checked_attack(carrier_modulus, name="carrier_modulus")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = np.where((norm == 0) | (statistic == 0), 0.0, _raised(norm * statistic))
        total = np.where(product == 0, carrier, _raised(product + carrier))
    return total[()]


def smallest_standard_deviation(covariance: ArrayLike) -> float:
    """Smallest standard deviation that noise of some covariance has in any direction.

    Noise of this standard deviation in every direction is moved farther by any attack, so that
    what is proved for it holds for the covariance too. Nothing is random here. The value is
    rounded down, past the error of the eigenvalues where the matrix is not diagonal.

    Parameters
    ----------
    covariance : array-like of float, shape (d, d)
        Covariance, symmetric up to rounding and positive definite.

    Returns
    -------
    float
        The square root of the smallest eigenvalue, positive.

    Raises
    ------
    TypeError
        If the covariance is not numeric.

    ValueError
        If the covariance is not a square matrix of finite numbers, not symmetric, or not
        positive definite beyond the error of its eigenvalues.

    Examples
    --------
    >>> from randsmooth.bounds.divergences import smallest_standard_deviation
    >>> round(smallest_standard_deviation([[1.25, 0.75], [0.75, 1.25]]), 6)
    0.707107
    """
    matrix = _checked_covariance(covariance)
    lopsided = float(np.linalg.norm(matrix - matrix.T)) / 2
    diagonal = np.diagonal(matrix)
    if np.array_equal(matrix, np.diag(diagonal)):
        smallest = float(diagonal.min())
    else:
        spectrum = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        error = 16 * len(matrix) * _EPSILON * float(np.abs(spectrum).max()) + lopsided
        smallest = float(spectrum[0]) - error
    if smallest <= 0:
        raise ValueError(
            f"covariance must be positive definite, got one whose smallest eigenvalue is at best "
            f"{smallest!r}. Add a small multiple of the identity, and draw the noise from that."
        )
    return math.sqrt(smallest) * (1 - 4 * _EPSILON)


def gaussian_deviation(
    sigma: ArrayLike | None, covariance: ArrayLike | None
) -> NDArray[np.float64]:
    """Smallest standard deviation of Gaussian noise that is given in one of two ways.

    Parameters
    ----------
    sigma : array-like of float or None
        Standard deviation in every direction.

    covariance : array-like of float or None
        Covariance instead.

    Returns
    -------
    ndarray of float64
        The standard deviation.

    Raises
    ------
    ValueError
        If both are given or neither.
    """
    if sigma is None and covariance is not None:
        return np.asarray(smallest_standard_deviation(covariance))
    if sigma is None or covariance is not None:
        raise ValueError(
            f"sigma must be given where covariance is not, and only there, got sigma={sigma!r} "
            f"and covariance={covariance!r}."
        )
    return _checked_scale("sigma", sigma)


def checked_attack(attack: ArrayLike, *, name: str = "attack") -> NDArray[np.float64]:
    """Sizes, none of them negative.

    Parameters
    ----------
    attack : array-like of float
        The candidates.

    name : str, default="attack"
        Name of the parameter, for the message.

    Returns
    -------
    ndarray of float64
        The same numbers.

    Raises
    ------
    TypeError
        If a size is not a real number.

    ValueError
        If a size is negative or NaN.
    """
    array = np.asarray(attack)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a real number, got {attack!r}.")
    array = array.astype(np.float64)
    broken = ~(array >= 0)
    if broken.any():
        raise ValueError(f"{name} must be at least 0, got {array[broken].item(0)!r}.")
    return array


def _checked_order(order: float) -> float:
    if not order >= 1:
        raise ValueError(f"order must be at least 1, got {order!r}.")
    return float(order)


def _checked_scale(name: str, scale: ArrayLike) -> NDArray[np.float64]:
    array = checked_attack(scale, name=name)
    broken = (array == 0) | np.isinf(array)
    if broken.any():
        raise ValueError(f"{name} must be positive and finite, got {array[broken].item(0)!r}.")
    return array


def _checked_covariance(covariance: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(covariance)
    if matrix.dtype.kind not in "biuf":
        raise TypeError(f"covariance must be real numbers, got {covariance!r}.")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"covariance must be a square matrix, got shape {matrix.shape!r}.")
    matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError("covariance must be finite, got a matrix with infinities or NaN.")
    difference = float(np.abs(matrix - matrix.T).max())
    if difference > _ASYMMETRY * np.abs(matrix).max():
        raise ValueError(
            f"covariance must be symmetric, got a matrix that differs from its transpose by "
            f"{difference!r}."
        )
    return matrix


def _raised(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raise a value past a few roundings; 0 becomes the smallest positive number."""
    raised: NDArray[np.float64] = np.nextafter(value * (1 + 4 * _EPSILON), np.inf)
    return raised


def _exceeding_one(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(-t) - 1 + t without cancellation."""
    series = t**2 / 2 * (1 - t / 3 + t**2 / 12 - t**3 / 60 + t**4 / 360)
    return np.where(t < _SMALL, series, t + np.expm1(-t))


def _log_ratio_excess(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln(1 + u)/u - 1 for u in [-1/2, 0] without cancellation."""
    series = -u * (1 / 2 - u * (1 / 3 - u * (1 / 4 - u * (1 / 5 - u * (1 / 6 - u / 7)))))
    direct = np.log1p(u) / np.where(u == 0, 1.0, u) - 1
    return np.where(u > -_SMALL, series, direct)
