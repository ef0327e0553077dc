"""Statements about whole test sets, against the worst that their hypotheses allow.

Each check returns the largest failure probability, and raises an AssertionError where it is above
what was promised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from engine_checks import fitted, most_violations
from exact_checks import chances, outcomes, proportions
from randsmooth import dataset_level
from randsmooth.intervals.entropy import collision_probability, deflated_exp_entropy
from smoothings import SMOOTHINGS

SHARES = np.concatenate([np.linspace(0, 0.999, 40), [1e-4, 0.9999]])


def ends(n_rows: int, **settings: float | bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the interval for every number of correct rows."""
    return dataset_level.certified_accuracy_interval(np.arange(n_rows + 1), n_rows, **settings)


def check_own_noise(n_rows: int = 40, *, certificate_alpha: float = 0.02) -> float:
    """Independent rows: as many certificates as may be invalid add to the correct ones."""
    alpha, worst = 0.1, 0.0
    lower, upper = ends(
        n_rows, certificate_alpha=certificate_alpha, alpha=alpha, common_noise=False
    )
    for share in adversarial(lower):
        seen = min(share + certificate_alpha, 1.0)
        chance = stats.binom.pmf(np.arange(n_rows + 1), n_rows, seen)
        too_high, too_low = chance @ (lower > share + 1e-12), chance @ (upper < seen - 1e-12)
        assert too_high <= alpha / 2 * (1 + 1e-9), f"the lower end fails at {share}"
        assert too_low <= alpha / 2 * (1 + 1e-9), f"the upper end fails at {share}"
        worst = max(worst, too_high)
    return float(worst)


def check_shared_noise(
    n_rows: int = 40, *, certificate_alpha: float = 0.002, common_noise: bool = True
) -> float:
    """Certificates fail together: with small probability all noise is bad, and for many rows."""
    alpha, worst = 0.1, 0.0
    lower, _ = ends(
        n_rows, certificate_alpha=certificate_alpha, alpha=alpha, common_noise=common_noise
    )
    counts = np.arange(n_rows + 1)
    for share in adversarial(lower):
        good = stats.binom.pmf(counts, n_rows, share) @ (lower > share + 1e-12)
        for bad_noise in np.geomspace(certificate_alpha, 0.5, 60):
            seen = min(share + certificate_alpha / bad_noise, 1.0)
            bad = stats.binom.pmf(counts, n_rows, seen) @ (lower > share + 1e-12)
            failed = bad_noise * bad + (1 - bad_noise) * good
            assert failed <= alpha / 2 * (1 + 1e-9), f"the lower end fails at {share}"
            worst = max(worst, failed)
    return float(worst)


def adversarial(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """True shares: evenly spread, and just below what some count claims."""
    claimed = lower[lower > 0] * (1 - 1e-6)
    return np.concatenate([SHARES, claimed])


def check_whole_curve(n_rows: int = 60, *, n_repeats: int = 4000) -> float:
    """Simulated curves whose radii are uniform: is any radius's lower end too high?"""
    alpha = 0.2
    radii = np.sort(np.random.default_rng(0).random((n_repeats, n_rows)), axis=1)
    # The lower end is furthest above the truth just at the radius of a row.
    lower, upper = dataset_level.certified_accuracy_interval(
        np.arange(n_rows, -1, -1),
        np.full(n_rows + 1, n_rows),
        certificate_alpha=0.0,
        alpha=alpha,
        simultaneous=True,
    )
    too_high = (lower[:-1] > 1 - radii).any(axis=1).mean()
    too_low = (upper[1:] < 1 - radii).any(axis=1).mean()
    most = stats.binom.isf(1e-6, n_repeats, alpha / 2) / n_repeats
    assert max(too_high, too_low) <= most, f"curves fail {too_high} and {too_low} of the time"
    return float(too_high)


def check_number_of_invalid(n_rows: int = 50, *, certificate_alpha: float = 0.01) -> float:
    """Independent failures, and failures of any number of rows together."""
    alpha = 0.05
    own = dataset_level.n_invalid_upper(
        n_rows, certificate_alpha=certificate_alpha, alpha=alpha, common_noise=False
    )
    worst = float(stats.binom.sf(own, n_rows, certificate_alpha))
    assert worst <= alpha, "independent certificates fail more often"
    shared = dataset_level.n_invalid_upper(n_rows, certificate_alpha=certificate_alpha, alpha=alpha)
    for together in range(1, n_rows + 1):
        chance = min(n_rows * certificate_alpha / together, 1.0)
        failed = chance if together > shared else 0.0
        assert failed <= alpha * (1 + 1e-9), f"{together} certificates fail together"
        worst = max(worst, failed)
    return worst


def check_accuracy_gap(
    name: str = "gaussian",
    *,
    bound: str = "auto",
    estimate: str = "betting",
    n_draws: int = 20,
    delta: float = 0.2,
    n_repeats: int = 60,
) -> float:
    """Accuracy of a half-space that votes once, under the attack straight at its boundary.

    The test points come from five equally probable margins. Returns the share that fails.
    """
    world, noise = SMOOTHINGS[name].worst, SMOOTHINGS[name].noise
    margins, attack = np.array([-0.5, 0.1, 0.4, 1.0, 2.0]) * world.law.std(), 0.4
    before, after = world.law.cdf(margins), world.law.cdf(margins - attack)
    rng, failed = np.random.default_rng(11), 0
    clf = fitted(world, noise, world.inputs(4, rng), n_estimation=n_draws)
    for seed in range(n_repeats):
        X = world.at(rng.choice(margins, 100), rng)
        claim = clf.accuracy_gap(
            X, np.ones(100, int), attack, delta, bound=bound, estimate=estimate, noise_seed=seed
        )
        failed += claim.gap < (before - after).mean() or claim.accuracy > after.mean()
    assert failed <= most_violations(n_repeats, delta), f"{failed} of {n_repeats} gaps fail"
    return failed / n_repeats


def check_agreement(*, n_classes: int = 3) -> float:
    """Estimates of exp(-entropy) and of the collision probability, averaged over all votes.

    The first must be below the truth on average and the second equal to it. Returns the largest
    shortfall of the first.
    """
    shortfall = 0.0
    for n_draws in (2, 3, 5, 9, 14):
        votes = outcomes(n_draws, n_classes)
        estimates, agreement = deflated_exp_entropy(votes), collision_probability(votes)
        for p in proportions(8, n_classes, 0.1):
            exact = float(np.exp(-stats.entropy(p)))
            mean = float(chances(votes, p) @ estimates)
            assert mean <= exact * (1 + 1e-12), f"the entropy of {p} fails"
            squares = float(chances(votes, p) @ agreement)
            assert abs(squares - p @ p) <= 1e-9, f"the collisions of {p} fail"
            shortfall = max(shortfall, exact - mean)
    return shortfall
