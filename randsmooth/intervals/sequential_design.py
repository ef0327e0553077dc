"""Boundaries of exact group-sequential tests, from the distribution of those still drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

__all__ = ["DESIGN", "TAIL_SHARE", "Survivors", "boundaries", "curtailed"]

# How alpha and the loss of power are spent over the looks. Tuned on the votes simulated in
# benchmarks/sequential_draws.py, where other values save few draws or lose more certificates.
_LAST_LOOK_SHARE = 0.7  # of alpha; the rest is spent evenly in the logarithm of the draws
_POWER_LOSS = 0.03  # for those that the last look claims with probability _POWER
_POWER = 0.95
_LATENESS = 4  # power of the logarithm of the draws with which the loss grows
_FIRST_STEP = 0.15  # logarithm of draws credited to the first look

# Share of alpha that is charged for the tails of distributions that are cut off.
TAIL_SHARE = 1e-5

# What names a design besides its parameters; changes whenever the boundaries do.
DESIGN = (1, _LAST_LOOK_SHARE, _POWER_LOSS, _POWER, _LATENESS, _FIRST_STEP, TAIL_SHARE)

# Twice the relative error of one operation, so that errors may be added up to first order.
_EPSILON = float(np.finfo(np.float64).eps)


class Survivors:
    """Distribution of the count among those who have not stopped.

    It is kept on a window of counts. Each entry is at least the probability of the paths that end
    there and never left the window, but for a relative error of `rounding`; the paths that left it
    at one look, to either side, weigh at most `tail` together.

    Parameters
    ----------
    p : float
        Probability of a success, in [0, 1].

    tail : float
        Probability that may be lost at each look, positive.
    """

    def __init__(self, p: float, tail: float) -> None:
        self.p, self.tail = p, tail
        self.offset = 0
        self.mass: NDArray[np.float64] = np.ones(1)
        self._operations = 0

    @property
    def rounding(self) -> float:
        """Bound on the relative error of a sum over `mass`."""
        return _EPSILON * (self._operations + len(self.mass) + 100)

    def draw(self, m: int) -> None:
        """Add `m` draws."""
        start, pmf, operations = _binomial_window(m, self.p, self.tail / 2)
        if self.mass.size:
            self._operations += operations + min(len(pmf), len(self.mass)) + 1
            self.mass = np.convolve(self.mass, pmf)
        self.offset += start

    def stop_at_or_above(self, count: int) -> float:
        """Remove the counts from `count` on; return their probability."""
        cut = max(count - self.offset, 0)
        gone = float(self.mass[cut:].sum())
        self.mass = self.mass[:cut]
        return gone

    def stop_at_or_below(self, count: int) -> float:
        """Remove the counts up to `count`; return their probability."""
        cut = max(count + 1 - self.offset, 0)
        gone = float(self.mass[:cut].sum())
        self.mass = self.mass[cut:]
        self.offset += cut
        return gone

    def trim(self) -> None:
        """Remove as many of the smallest counts as weigh a quarter of `tail`."""
        cut = int(np.searchsorted(np.cumsum(self.mass), self.tail / 4))
        self.mass = self.mass[cut:]
        self.offset += cut


@lru_cache(maxsize=1024)
def boundaries(
    p0: float, alpha: float, looks: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """When to claim, when to give up, and the level.

    Parameters
    ----------
    p0 : float
        Probability of a success under the null hypothesis.

    alpha : float
        Most that the level may be.

    looks : tuple of int
        Number of draws at each look.

    Returns
    -------
    upper : ndarray of int64, shape (n_looks,)
        Smallest counts that claim, one more than the draws where none does.

    lower : ndarray of int64, shape (n_looks,)
        Largest counts at which to give up, -1 where none does.

    level : float
        Upper bound on the probability of ever claiming under `p0`, at most `alpha`.
    """
    upper, level = claim_boundary(p0, alpha, looks)
    lower = give_up_boundary(looks, upper)
    upper.setflags(write=False)
    lower.setflags(write=False)
    return upper, lower, level


def claim_boundary(
    p0: float, alpha: float, looks: Sequence[int]
) -> tuple[NDArray[np.int64], float]:
    """Smallest counts that claim, and an upper bound on the probability of a claim under `p0`.

    Parameters
    ----------
    p0 : float
        Probability of a success under the null hypothesis.

    alpha : float
        Most that the level may be.

    looks : sequence of int
        Number of draws at each look.

    Returns
    -------
    upper : ndarray of int64, shape (n_looks,)
        The boundary, one more than the draws where no count claims.

    level : float
        The bound, at most `alpha`.
    """
    upper = np.array(looks, dtype=np.int64) + 1
    if p0 == 1:
        return upper, 0.0
    charge = TAIL_SHARE * alpha / len(looks)
    survivors = Survivors(p0, charge)
    claimed = level = 0.0
    sizes = zip(np.diff(looks, prepend=0).tolist(), _spending(alpha, looks).tolist(), strict=True)
    for k, (m, spent) in enumerate(sizes):
        survivors.draw(m)
        charged = charge * (k + 1)
        slack = 1 + survivors.rounding + k * _EPSILON
        room = (spent - charged) / (slack + 16 * _EPSILON) - claimed
        above = np.append(0.0, np.cumsum(survivors.mass[::-1]))
        n_claiming = int(np.searchsorted(above, room, side="right")) - 1
        if n_claiming >= 0:
            boundary = survivors.offset + len(survivors.mass) - n_claiming
            upper[k] = min(upper[k], boundary)
            claimed += float(above[n_claiming])
            survivors.stop_at_or_above(boundary)
        level = claimed * slack + charged
        survivors.trim()
    return upper, level if (upper <= looks).any() else 0.0


def give_up_boundary(
    looks: Sequence[int], upper: NDArray[np.int64], tail: float = 1e-9
) -> NDArray[np.int64]:
    """Largest counts at which to give up, at little loss of power.

    The probability of having given up by each look is bounded for the proportion that the last
    look alone would claim with probability 0.95.

    Parameters
    ----------
    looks : sequence of int
        Number of draws at each look.

    upper : ndarray of int64, shape (n_looks,)
        Smallest counts that claim.

    tail : float, default=1e-9
        Probability that may be neglected.

    Returns
    -------
    ndarray of int64, shape (n_looks,)
        The boundary, -1 where no count gives up.
    """
    lower = np.array(upper) - 1
    n_max, last = looks[-1], min(int(upper[-1]), looks[-1])
    survivors = Survivors(float(betaincinv(last, n_max - last + 1, _POWER)), tail / len(looks))
    lost = 0.0
    spending = _POWER_LOSS * _log_share(looks) ** _LATENESS
    for k, m in enumerate(np.diff(looks[:-1], prepend=0).tolist()):
        survivors.draw(m)
        survivors.stop_at_or_above(int(upper[k]))
        below = np.append(0.0, np.cumsum(survivors.mass))
        n_lost = max(int(np.searchsorted(below, spending[k] - lost, side="right")) - 1, 0)
        lower[k] = survivors.offset + n_lost - 1
        lost += survivors.stop_at_or_below(int(lower[k]))
        survivors.trim()
    return curtailed(looks, upper, lower)


def curtailed(
    looks: Sequence[int] | NDArray[np.int64], upper: NDArray[np.int64], lower: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give up, too, wherever no later look can claim any more.

    Parameters
    ----------
    looks : sequence of int, shape (n_looks,)
        Number of draws at each look.

    upper : ndarray of int64, shape (..., n_looks)
        Smallest counts that claim.

    lower : ndarray of int64, shape (..., n_looks)
        Largest counts at which one gives up.

    Returns
    -------
    ndarray of int64, shape (..., n_looks)
        At least `lower`; one below `upper` at the last look.
    """
    sizes = np.asarray(looks, dtype=np.int64)
    # With s successes in n draws, all further draws successes, count minus draws stays s - n.
    deficit = np.minimum.accumulate((upper - sizes)[..., ::-1], axis=-1)[..., ::-1]
    hopeless = np.minimum(sizes[:-1] + deficit[..., 1:], upper[..., :-1]) - 1
    earlier = np.clip(lower[..., :-1], hopeless, upper[..., :-1] - 1)
    return np.concatenate([earlier, upper[..., -1:] - 1], axis=-1, dtype=np.int64)


def _log_share(looks: Sequence[int]) -> NDArray[np.float64]:
    """Part of the way from the first to the last look, in the logarithm of the draws."""
    way = np.log(np.array(looks) / looks[0]) + _FIRST_STEP
    share: NDArray[np.float64] = way / way[-1]
    return share


def _spending(alpha: float, looks: Sequence[int]) -> NDArray[np.float64]:
    """Bound on the probability of a claim up to each look."""
    spent = alpha * (1 - _LAST_LOOK_SHARE) * _log_share(looks)
    spent[-1] = alpha
    return spent


def _binomial_window(m: int, p: float, tail: float) -> tuple[int, NDArray[np.float64], int]:
    """First count, probabilities of the counts from there, and their rounding errors.

    The counts left out weigh at most `tail`. Half of it bounds what is beyond the reach of
    Bernstein's inequality, the other half what is trimmed at the two ends. The probabilities are
    scaled to sum to one before the trimming, which only makes them larger.
    """
    q = 1.0 - p
    if q == 0.0 or p == 0.0:
        return (m if q == 0.0 else 0), np.ones(1), 0
    log_tail = math.log(4 / tail)
    reach = log_tail / 3 + math.sqrt(log_tail**2 / 9 + 2 * m * p * q * log_tail) + 1
    low, high = max(math.floor(m * p - reach), 0), min(math.ceil(m * p + reach), m)
    mode = min(math.floor((m + 1) * p), m)
    # Ratios of neighbours, outwards from the mode: five roundings a step.
    up = np.arange(mode, high, dtype=np.float64)
    down = np.arange(mode, low, -1, dtype=np.float64)
    above = np.cumprod((m - up) / (up + 1) * (p / q))
    below = np.cumprod(down / (m - down + 1) * (q / p)) if down.size else down
    pmf = np.concatenate([below[::-1], [1.0], above])
    n_terms = len(pmf)
    pmf /= pmf.sum()
    left = int(np.searchsorted(np.cumsum(pmf), tail / 5))
    right = n_terms - int(np.searchsorted(np.cumsum(pmf[::-1]), tail / 5))
    # Five for a weight, five and one for the sum of them that it is divided by, one to divide.
    return low + left, pmf[left:right], 11 * n_terms + 1
