"""Estimation in two stages: a pilot tells how many draws an input is worth, fresh draws certify."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from randsmooth.certificates.from_counts import certify_counts, resolved_bound
from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper
from randsmooth.intervals.multinomial import TOP_SHARE
from randsmooth.intervals.validation import checked_counts, checked_integers
from randsmooth.noise import Noise

__all__ = ["TwoStage"]

# The numbers to choose from are ten a decade, from the smallest to `n_max`.
_FEWEST_DRAWS, _PER_DECADE = 100, 10

# What the pilot leaves open about the top class is averaged over this many equally likely values.
_N_VALUES = 3

# The runner-up's share of the votes that the top class leaves is rounded up to one of so many
# steps: it is not known better, and fewer outcomes are left to work out.
_SHARE_STEPS = 20

# Price of `n_max` draws over the radius that `loss` stands for. Where the radius grows as
# r - c / sqrt(n), the best number of draws at a price of x falls short of `n_max` by at most
# 8/27 x. What is left to 27/8 covers radii that grow otherwise and what a pilot cannot tell.
_PRICE = 2.5


@dataclass(frozen=True)
class TwoStage:
    r"""As many draws for each input as its radius is worth.

    A small pilot shows how clear the votes on an input are, and so what more draws would add to
    its radius. The number of draws is planned from that, and so many fresh draws are made.

    The guarantee is that of any number of draws fixed in advance: the pilot's draws are not
    counted in the certificate, and the number is settled before the first draw that is. The whole
    of alpha is spent on those. Nothing is guaranteed of the plan itself; a poor one costs draws or
    radius, never soundness.

    Parameters
    ----------
    n_max : int, default=100_000
        The most draws that an input may take, the pilot not included.

    n_pilot : int, default=1_000
        Draws of the pilot, the same for every input and fewer than `n_max`. A hundredth of `n_max`
        does well.

    loss : float, default=0.02
        Share of the average radius to give up against `n_max` draws for every input, strictly
        between 0 and 1. It is met on average and roughly; single inputs lose more or less.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    See Also
    --------
    randsmooth.SmoothedClassifier : Takes it as `n_estimation`.

    Notes
    -----
    The number of draws maximises

    .. math:: E[R(n)] - 2.5 \, \lambda \, u \, n / n_\mathrm{max}

    over numbers from 100 to :math:`n_\mathrm{max}`, ten a decade. :math:`R(n)` is the radius that
    the expected votes certify, :math:`E` its mean over what the pilot leaves open about the
    probability of the top class (a Beta law with Jeffreys' prior), :math:`\lambda` is `loss`, and
    :math:`u` is :math:`E[R(n_\mathrm{max})]`, or half of the largest radius that
    :math:`n_\mathrm{max}` draws can certify if that is more. All inputs with small radii thus pay
    the same price for a draw, which is what makes the average radius as large as the draws allow;
    to hold each of them to a share of its own radius would spend many draws on near ties, for tiny
    radii. Inputs whose votes are nearly tied therefore get the fewest draws and mostly abstain,
    though `n_max` draws might have certified something.

    Input-specific sample sizes are due to [1]_, where however the pilot also chooses the class and
    is counted in the certificate.

    References
    ----------
    .. [1] R. Chen, J. Li, J. Yan, P. Li and B. Sheng, "Input-specific robustness certification for
       randomized smoothing", AAAI 2022.

    Examples
    --------
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.two_stage import TwoStage
    >>> pilot = [[1_000, 0], [900, 100], [520, 480], [200, 800]]
    >>> plan = TwoStage(n_max=100_000, n_pilot=1_000, loss=0.02)
    >>> plan.n_draws(pilot, [0, 0, 0, 0], alpha=0.001, bound="auto", noise=Gaussian(0.25))
    array([63000, 20000, 13000,   100])
    """

    n_max: int = 100_000
    n_pilot: int = 1_000
    loss: float = 0.02

    def __post_init__(self) -> None:
        for name in ("n_max", "n_pilot"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
            object.__setattr__(self, name, int(value))
        if self.n_pilot >= self.n_max:
            raise ValueError(
                f"n_pilot must be smaller than n_max={self.n_max}, got {self.n_pilot}. For so few "
                f"draws a fixed number is better: n_estimation={self.n_max}."
            )
        if not isinstance(self.loss, Real) or not 0 < float(self.loss) < 1:
            raise ValueError(f"loss must lie strictly between 0 and 1, got {self.loss!r}.")
        object.__setattr__(self, "loss", float(self.loss))

    def n_draws(
        self,
        pilot_counts: ArrayLike,
        chosen: ArrayLike,
        *,
        alpha: float,
        bound: str | Callable[..., ArrayLike],
        noise: Noise,
    ) -> NDArray[np.int64]:
        """Return how many fresh draws to make for each input.

        An input's number depends on its own votes and the parameters alone, whatever other inputs
        it comes with. Nothing is random here.

        Parameters
        ----------
        pilot_counts : array-like of int, shape (n_inputs, n_classes)
            Votes of the pilot. An input without any gets the fewest draws.

        chosen : array-like of int, shape (n_inputs,)
            Index of the class to certify, chosen by draws other than those to come.

        alpha : float
            Failure probability of each certificate.

        bound : str or callable
            As in `randsmooth.certify_counts`.

        noise : Noise
            The noise.

        Returns
        -------
        ndarray of int64, shape (n_inputs,)
            The numbers, from 100 (or `n_max` if that is less) to `n_max`.

        Raises
        ------
        ValueError
            If the votes are not whole votes for two classes or more, `chosen` does not match them,
            `alpha` is outside (0, 1), or the bound is unknown, does not fit the noise or returns
            impossible radii.

        TypeError
            If the votes are no numbers, or `bound` is neither a name nor a function.
        """
        outcomes, place = _outcomes(pilot_counts, chosen)
        unanimous = certify_counts(
            [[1, 0]], [[self.n_max, 0]], noise=noise, alpha=alpha, bound=bound
        )
        numbers = _numbers(self.n_max)
        radius = _expected_radius(outcomes, numbers, alpha=alpha, bound=bound, noise=noise)
        unit = np.maximum(radius[:, -1:], unanimous.radius / 2)
        price = _PRICE * self.loss * unit / self.n_max
        planned: NDArray[np.int64] = numbers[(radius - price * numbers).argmax(axis=1)]
        return planned[place]


def _outcomes(
    pilot_counts: ArrayLike, chosen: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the different outcomes of the pilot, and which of them is each input's.

    An outcome is the votes for the chosen class, those for others, and the runner-up's share of
    the latter in steps.
    """
    votes = checked_counts("pilot_counts", pilot_counts)
    if votes.ndim != 2 or votes.shape[1] < 2:
        raise ValueError(
            f"pilot_counts must have shape (n_inputs, n_classes) with at least 2 classes, "
            f"got shape {votes.shape}."
        )
    column = checked_integers("chosen", chosen)
    if column.shape != votes.shape[:1]:
        raise ValueError(
            f"chosen must have one entry per input, shape {votes.shape[:1]}, "
            f"got shape {column.shape}."
        )
    outside = (column < 0) | (column >= votes.shape[1])
    if outside.any():
        raise ValueError(
            f"chosen must lie between 0 and {votes.shape[1] - 1}, got {column[outside][0]}."
        )
    is_chosen = np.arange(votes.shape[1]) == column[:, np.newaxis]
    top = votes.sum(axis=1, where=is_chosen)
    others = votes.sum(axis=1, where=~is_chosen)
    rival = votes.max(axis=1, where=~is_chosen, initial=0)
    steps = np.ceil(_SHARE_STEPS * (rival + 0.5) / (others + 0.5)).astype(np.int64)
    found, place = np.unique(np.column_stack([top, others, steps]), axis=0, return_inverse=True)
    return found, place.ravel()


def _numbers(n_max: int) -> NDArray[np.int64]:
    """Return the numbers of draws to choose from: rising, of two digits, then `n_max` itself."""
    fewest = min(_FEWEST_DRAWS, n_max)
    n_steps = math.ceil(_PER_DECADE * math.log10(n_max / fewest))
    spaced = np.geomspace(fewest, n_max, n_steps + 1)
    digit = 10.0 ** (np.floor(np.log10(spaced)) - 1)
    rounded = (np.rint(spaced / digit) * digit).astype(np.int64)
    return np.unique(np.append(rounded[rounded < n_max], n_max))


def _expected_radius(
    outcomes: NDArray[np.int64],
    n: NDArray[np.int64],
    *,
    alpha: float,
    bound: str | Callable[..., ArrayLike],
    noise: Noise,
) -> NDArray[np.float64]:
    """Return the radius to expect after each outcome of the pilot (row) and number (column)."""
    _, runner_up, radius_of = resolved_bound(bound, noise)
    top, others, steps = outcomes.T
    quantiles = (np.arange(_N_VALUES) + 0.5) / _N_VALUES
    p = betaincinv(top[:, np.newaxis] + 0.5, others[:, np.newaxis] + 0.5, quantiles)
    hits = p[..., np.newaxis] * n
    if runner_up:
        rivals = np.ceil(steps[:, np.newaxis, np.newaxis] / _SHARE_STEPS * (n - hits))
        ceiling = clopper_pearson_upper(rivals, n, alpha=(1 - TOP_SHARE) * alpha)
        p_lower = _lower_between(hits, n, TOP_SHARE * alpha)
        p_upper = np.minimum(ceiling, 1 - p_lower)
    else:
        p_lower = _lower_between(hits, n, alpha)
        p_upper = 1 - p_lower
    radius, sure = np.zeros(p_lower.shape), p_lower > p_upper
    if sure.any():
        radius[sure] = radius_of(p_lower[sure], p_upper[sure])
    radius[top + others == 0] = 0
    expected: NDArray[np.float64] = radius.mean(axis=1)
    return expected


def _lower_between(
    hits: NDArray[np.float64], n: NDArray[np.int64], alpha: float
) -> NDArray[np.float64]:
    """Return the lower bound at broken counts, on the line between those at whole ones."""
    below = np.minimum(np.floor(hits), n - 1)
    low = clopper_pearson_lower(below, n, alpha=alpha)
    high = clopper_pearson_lower(below + 1, n, alpha=alpha)
    line: NDArray[np.float64] = low + (hits - below) * (high - low)
    return line
