"""How much accuracy an attack can take from a randomized classifier whose votes agree often."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.divergences import checked_attack
from randsmooth.bounds.probabilities import probability_pair

__all__ = ["collision_gap", "entropy_gap"]

_EPSILON = float(np.finfo(np.float64).eps)


def entropy_gap(exp_entropy: ArrayLike, divergence: ArrayLike) -> NDArray[np.float64]:
    r"""Bound on the accuracy lost to an attack, from the entropy of the votes.

    A classifier that answers with one noisy vote loses at most this much accuracy to attacks
    that move its noise by at most `divergence`, if `exp_entropy` is at most the average of
    exp(-entropy) of its class probabilities over the inputs. Nothing is random here. The value
    is rounded up: never below the exact one, and above it by at most :math:`10^{-14}` of it.

    Parameters
    ----------
    exp_entropy : array-like of float, shape (...)
        Lower bound on :math:`E_x[e^{-H(M(x))}]`, entropy in nats, in [0, 1].

    divergence : array-like of float, shape (...)
        Upper bound on the Kullback-Leibler divergence between the answers at an input and at
        any attacked one, at least 0. A Renyi divergence of any order from 1 on bounds it.

    Returns
    -------
    ndarray of float64, shape (...)
        The gap between the risk under attack and the risk, in [0, 1]. A float64 scalar where
        both arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `exp_entropy` is outside [0, 1], or `divergence` negative or NaN.

    See Also
    --------
    collision_gap : Closer at the same divergence, but in need of that of order infinity.

    Notes
    -----
    The value is :math:`1 - e^{-\epsilon} E_x[e^{-H(M(x))}]` [1]_. It does not vanish with the
    attack unless the answers are certain.

    References
    ----------
    .. [1] R. Pinot, L. Meunier, A. Araujo, H. Kashima, F. Yger, C. Gouy-Pailler and J. Atif,
       "Theoretical evidence for adversarial robustness through randomization", NeurIPS 2019.

    Examples
    --------
    >>> from randsmooth.bounds.accuracy import entropy_gap
    >>> entropy_gap([0.4485, 0.99], 0.125).round(3)
    array([0.604, 0.126])
    """
    agreement = probability_pair(exp_entropy, None).top
    bits = checked_attack(divergence, name="divergence")
    fallen = np.exp(-bits)
    # Without cancellation where the attack is small and the votes nearly certain.
    gap = -np.expm1(-bits) + fallen * (1.0 - agreement)
    return np.minimum(gap * (1 + 16 * _EPSILON), 1.0)[()]


def collision_gap(collision: ArrayLike, max_divergence: ArrayLike) -> NDArray[np.float64]:
    r"""Bound on the accuracy lost to an attack, from how often two votes agree.

    A classifier that answers with one noisy vote loses at most this much accuracy to attacks
    that change no density by more than a factor, if `collision` is at most the probability that
    two of its votes on an input agree, on average over the inputs. Nothing is random here. The
    value is rounded up: never below the exact one, and above it by at most :math:`10^{-14}` of
    it.

    Parameters
    ----------
    collision : array-like of float, shape (...)
        Lower bound on :math:`E_x[\sum_i p_i(x)^2]`, in [0, 1].

    max_divergence : array-like of float, shape (...)
        Upper bound on the log-ratio of the densities of the noise and of its moved copy, at
        least 0. For Gaussian noise it is infinite, and the gap 1.

    Returns
    -------
    ndarray of float64, shape (...)
        The gap between the risk under attack and the risk, in [0, 1]. A float64 scalar where
        both arguments are.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If `collision` is outside [0, 1], or `max_divergence` negative or NaN.

    See Also
    --------
    entropy_gap : For noise whose densities have no bounded ratio.

    Notes
    -----
    Independent votes at the input and at the attacked one agree with probability
    :math:`\sum_i p_i q_i \ge e^{-\epsilon} \sum_i p_i^2`, and the value is one minus this. It is
    never above `entropy_gap` at the same divergence, since
    :math:`\sum_i p_i^2 \ge e^{-H(p)}`. The entropy, though, needs the Kullback-Leibler divergence
    only, which is far smaller for small attacks.

    Examples
    --------
    >>> from randsmooth.bounds.accuracy import collision_gap
    >>> collision_gap([0.54, 0.99], 0.125).round(3)
    array([0.523, 0.126])
    """
    probability_pair(collision, None)
    checked_attack(max_divergence, name="max_divergence")
    return entropy_gap(collision, max_divergence)
