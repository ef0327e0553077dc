"""Radii within which a class stays among the k most probable ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.shifts import gaussian_probability_lower, gaussian_probability_upper
from randsmooth.bounds.validation import checked_integer, checked_scale

__all__ = ["top_k_radius"]

ShiftedProbability = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

_EPSILON = float(np.finfo(np.float64).eps)
# A radius is bracketed by powers of two before it is bisected.
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -1000, 1000
_BISECTIONS = 42


def top_k_radius(
    p_lower: ArrayLike,
    p_upper: ArrayLike,
    k: int,
    *,
    sigma: float | None = None,
    probability_lower: ShiftedProbability | None = None,
    probability_upper: ShiftedProbability | None = None,
) -> NDArray[np.float64]:
    r"""Radius within which a class stays among the `k` most probable ones.

    The class is among the `k` most probable classes of the smoothed classifier, ties counted
    against it, at every point closer than this, if `p_lower` bounds its probability at the
    centre and `p_upper` those of all others, at once. Nothing is random here. The value is
    never above the supremum that the bounds allow, and below it by what
    `probability_lower` gives up and at most :math:`10^{-12}` of it.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the class, in [0, 1].

    p_upper : array-like of float, shape (..., n_classes - 1)
        Upper bounds on the probabilities of all other classes, in [0, 1], in any order.

    k : int
        How many classes are counted as the top, at least 1.

    sigma : float or None, default=None
        Standard deviation of Gaussian noise; the radius is then in l2. Exactly one of this
        and `probability_lower` is given.

    probability_lower : callable or None, default=None
        For another noise: a function of a probability and a radius, of equal shapes, that
        returns how far the probability of an event can fall within the radius, rounded down,
        such as those of `randsmooth.bounds.shifts`. The radius is in the norm of that function.

    probability_upper : callable or None, default=None
        The same for how far it can rise, rounded up. None stands for the complement of what
        `probability_lower` says of the complement, which rounds to about 1e-16.

    Returns
    -------
    ndarray of float64, shape (...)
        The radius. It is 0 where `p_lower` does not exceed the k-th largest of `p_upper` even
        by any average, infinite where `k` is at least the number of classes or where no
        radius is too large; probabilities below 1e-300 count as 0 for the class. A float64
        scalar for a single input.

    Raises
    ------
    TypeError
        If an argument is not numeric, `k` not an integer, or a function not callable.

    ValueError
        If a probability is outside [0, 1] or NaN, `k` is below 1, `sigma` is not positive and
        finite, shapes do not match, or not exactly one noise is given.

    Notes
    -----
    Let :math:`b_1 \ge \dots \ge b_k` be the largest of `p_upper`. If the class left the top, `k`
    others would be at least as probable. Any :math:`t` of them have together at most the
    probability that :math:`\min(b_{k - t + 1} + \dots + b_k, 1 - p)` can rise to, so that one of
    them has at most a :math:`t`-th of that. The radius is the largest one at which this is
    below what :math:`p` can fall to for some :math:`t \le k` [1]_. With `k` = 1 it is
    `neyman_pearson_radius` for Gaussian noise.

    References
    ----------
    .. [1] J. Jia, X. Cao, B. Wang and N. Z. Gong, "Certified robustness for top-k predictions
       against adversarial perturbations via randomized smoothing", ICLR 2020, Theorem 1.

    Examples
    --------
    >>> from randsmooth.bounds.top_k import top_k_radius
    >>> top_k_radius([0.6, 0.35], [[0.3, 0.2, 0.1], [0.4, 0.3, 0.1]], 2, sigma=0.5).round(3)
    array([0.342, 0.035])
    """
    top, others = _checked_probabilities(p_lower, p_upper)
    number = _checked_k(k)
    lower, upper = _functions(sigma, probability_lower, probability_upper)
    if number > others.shape[-1]:
        everywhere: NDArray[np.float64] = np.full(top.shape, np.inf)[()]
        return everywhere
    # Exact from one half on, and below it a bound on what is left all the same.
    rest = np.where(top < 0.5, np.nextafter(1.0 - top, 2.0), 1.0 - top)
    largest = np.sort(others, axis=-1)[..., ::-1][..., :number][..., ::-1]
    sums = np.cumsum(largest, axis=-1) * (1 + number * _EPSILON)
    sums = np.minimum(sums, np.minimum(rest, 1.0)[..., None])
    top = np.broadcast_to(top[..., None], sums.shape)
    sizes = np.arange(1, number + 1, dtype=np.float64)

    def holds(radius: NDArray[np.float64]) -> NDArray[np.bool_]:
        share = lower(top, radius) * sizes * (1 - 2 * _EPSILON)
        return np.asarray(upper(sums, radius) < share)

    radius: NDArray[np.float64] = _largest_radius(holds, sums.shape).max(axis=-1)[()]
    return radius


def _checked_probabilities(
    p_lower: ArrayLike, p_upper: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    top = probability_pair(p_lower, None).top
    others = probability_pair(0.0, p_upper).runner_up
    if others.ndim == 0 or others.shape[:-1] != top.shape:
        raise ValueError(
            "p_upper must have the shape of p_lower and the other classes along a last axis, "
            f"got {others.shape!r} for {top.shape!r}."
        )
    return top, others


def _checked_k(k: int) -> int:
    number = checked_integer("k", k)
    if number < 1:
        raise ValueError(f"k must be at least 1, got {k!r}.")
    return number


def _functions(
    sigma: float | None,
    probability_lower: ShiftedProbability | None,
    probability_upper: ShiftedProbability | None,
) -> tuple[ShiftedProbability, ShiftedProbability]:
    """How far a probability can fall and rise, for Gaussian noise or as handed in."""
    if sigma is not None and probability_lower is None and probability_upper is None:
        scale = checked_scale("sigma", sigma)
        return (
            lambda p, r: gaussian_probability_lower(p, r, sigma=scale),
            lambda p, r: gaussian_probability_upper(p, r, sigma=scale),
        )
    if sigma is not None or probability_lower is None:
        raise ValueError(
            "sigma must be given alone, or probability_lower for another noise, got "
            f"{sigma!r} and {probability_lower!r}."
        )
    for name, function in (
        ("probability_lower", probability_lower),
        ("probability_upper", probability_upper),
    ):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function of p and radius, got {function!r}.")
    return probability_lower, probability_upper or _complement(probability_lower)


def _complement(lower: ShiftedProbability) -> ShiftedProbability:
    """How far a probability can rise: what its complement, rounded down, can fall to."""

    def upper(p: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.float64]:
        rest = 1.0 - p
        # The complement of what is below one half may round; one step down makes up for it.
        rest = np.where(p < 0.5, np.nextafter(rest, 0.0), rest)
        return np.nextafter(1.0 - np.asarray(lower(rest, radius)), 2.0)

    return upper


def _largest_radius(
    holds: Callable[[NDArray[np.float64]], NDArray[np.bool_]], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Largest radius at which a condition that can only be lost still holds."""
    low = np.full(shape, _SMALLEST_EXPONENT, dtype=np.int64)
    high = np.full(shape, _LARGEST_EXPONENT, dtype=np.int64)
    never, always = ~holds(np.ldexp(1.0, low)), holds(np.ldexp(1.0, high))
    while (high - low > 1).any():
        middle = (low + high) // 2
        still = holds(np.ldexp(1.0, middle))
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    left, right = np.ldexp(1.0, low), np.ldexp(1.0, high)
    for _ in range(_BISECTIONS):
        between = (left + right) / 2
        still = holds(between)
        left, right = np.where(still, between, left), np.where(still, right, between)
    return np.where(never, 0.0, np.where(always, np.inf, left))
