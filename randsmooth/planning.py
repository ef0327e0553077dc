"""What a certification will take, before there is a cluster to run it on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from randsmooth.certificates.radii import certifying_probabilities
from randsmooth.certificates.rules import asked_radii, check_alpha
from randsmooth.checks import check_count, check_positive
from randsmooth.intervals import sequential_tests
from randsmooth.noise import Noise, noise_from_name

__all__ = ["CostEstimate", "estimate_cost"]

_SIMULATIONS = 10_000  # inputs that the sequential test is simulated for


@dataclass(frozen=True)
class CostEstimate:
    """What a certification takes.

    Parameters
    ----------
    n_inputs : int
        Number of inputs.

    draws_per_input : float
        Mean number of draws, those that choose the class included.

    throughput : float
        Forward passes per second of one worker.

    n_workers : int
        How many there are.
    """

    n_inputs: int
    draws_per_input: float
    throughput: float
    n_workers: int

    @property
    def n_draws(self) -> float:
        """Draws of all inputs together."""
        return self.n_inputs * self.draws_per_input

    @property
    def worker_hours(self) -> float:
        """Hours of all workers together: GPU-hours, where each has one."""
        return self.n_draws / self.throughput / 3600

    @property
    def hours(self) -> float:
        """Hours on the clock, if every worker is busy to the end."""
        return self.worker_hours / self.n_workers

    def __str__(self) -> str:
        workers = "" if self.n_workers == 1 else f" with {self.n_workers} workers"
        return (
            f"{self.n_draws:,.0f} draws ({self.draws_per_input:,.0f} an input), "
            f"{self.worker_hours:,.1f} worker-hours, {self.hours:,.1f} hours{workers}"
        )


def estimate_cost(
    n_inputs: int,
    throughput: float,
    *,
    n_estimation: int = 100_000,
    n_selection: int = 100,
    radii: ArrayLike | None = None,
    p_top: ArrayLike | None = None,
    noise: str | Noise = "gaussian",
    sigma: float | None = None,
    alpha: float = 0.001,
    n_workers: int = 1,
) -> CostEstimate:
    """Return what a certification takes, from the speed of a worker.

    Without `radii` every input takes all draws. With them it takes as many as the sequential test
    needs, which is simulated for inputs like those of `p_top`.

    Parameters
    ----------
    n_inputs : int
        Number of inputs.

    throughput : float
        Forward passes per second of one worker.

    n_estimation : int, default=100_000
        Estimation draws of each input, the most where `radii` are given.

    n_selection : int, default=100
        Draws that choose the class.

    radii : float, array-like of float or None, default=None
        Radii to decide about, None for the largest.

    p_top : array-like of float or None, default=None
        How probable the top class is under noise for inputs like these: shares of the votes in a
        pilot, or ``norm.cdf(radius / sigma)`` of the radii in a published log. Needed with `radii`.

    noise : str or Noise, default="gaussian"
        The noise, by name or as an object. It counts where `radii` are given.

    sigma : float or None, default=None
        Scale of a noise given by name.

    alpha : float, default=0.001
        Failure probability of each input.

    n_workers : int, default=1
        How many workers share the inputs.

    Returns
    -------
    CostEstimate
        Draws and hours.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `p_top` is missing.

    See Also
    --------
    SmoothedClassifier.expected_cost : The same for a fitted classifier, whose speed is measured.

    Examples
    --------
    >>> from randsmooth import estimate_cost
    >>> print(estimate_cost(50_000, throughput=2_500))
    5,005,000,000 draws (100,100 an input), 556.1 worker-hours, 556.1 hours
    >>> shares = [0.4, 0.8, 0.95, 0.999, 0.999]
    >>> cost = estimate_cost(50_000, 2_500, radii=[0.5], p_top=shares, sigma=0.5, n_workers=8)
    >>> cost.worker_hours < 100
    True
    """
    for name, count in (("n_inputs", n_inputs), ("n_workers", n_workers)):
        check_count(name, count)
    for name, count in (("n_estimation", n_estimation), ("n_selection", n_selection)):
        check_count(name, count)
    check_positive("throughput", throughput)
    check_alpha(alpha)
    per_input = float(n_estimation)
    if radii is not None:
        per_input = _mean_sequential_draws(
            asked_radii(radii), p_top, noise_from_name(noise, sigma), alpha, n_estimation
        )
    return CostEstimate(n_inputs, n_selection + per_input, float(throughput), n_workers)


def _mean_sequential_draws(
    radii: ArrayLike, p_top: ArrayLike | None, noise: Noise, alpha: float, n_max: int
) -> float:
    if p_top is None:
        raise ValueError("p_top must be given with radii: what is saved depends on the inputs.")
    shares = np.atleast_1d(np.asarray(p_top, dtype=np.float64))
    if not (shares.size and shares.ndim == 1 and ((shares >= 0) & (shares <= 1)).all()):
        raise ValueError(f"p_top must hold probabilities, got {p_top!r}.")
    _, p0 = certifying_probabilities(np.asarray(radii), noise)
    rng = np.random.default_rng(0)
    simulated = np.resize(shares, max(_SIMULATIONS, shares.size))
    n_draws, _ = sequential_tests(p0, alpha, n_max).simulate(simulated, rng)
    return float(n_draws.mean())
