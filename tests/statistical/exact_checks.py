"""Failure probabilities by enumeration of all outcomes.

Each check returns the largest failure probability over a grid of true probabilities, and raises an
AssertionError where it is above alpha.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import mpmath as mp
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from randsmooth import certification, sentinel
from randsmooth.bounds import BOUNDS
from randsmooth.certificates import certify_counts
from randsmooth.certificates.radii import certifying_probabilities
from randsmooth.certificates.top_k import certify_top_k_counts
from randsmooth.intervals import clopper_pearson_lower
from randsmooth.noise import Gaussian, Noise
from randsmooth.two_stage import TwoStage

Floats = NDArray[np.float64]
Truth = Callable[[Any, Any], Any]

# A radius may exceed the truth by what the reference, in doubles, is in error.
SLACK = 1e-9


def outcomes(n_draws: int, n_classes: int) -> NDArray[np.int64]:
    """All tables of votes."""
    bars = itertools.combinations(range(n_draws + n_classes - 1), n_classes - 1)
    ends = np.array([[-1, *bar, n_draws + n_classes - 1] for bar in bars])
    return np.diff(ends, axis=1) - 1


def chances(votes: NDArray[np.int64], p: Floats) -> Floats:
    return stats.multinomial.pmf(votes, n=votes[0].sum(), p=p)


def proportions(n_draws: int, n_classes: int, alpha: float) -> Iterator[Floats]:
    """True probabilities: evenly spread, and just below what some count claims."""
    counts = np.arange(n_draws // 2, n_draws + 1)
    claimed = [
        clopper_pearson_lower(counts, n_draws, alpha=share * alpha) * (1 - 1e-6)
        for share in (0.9, 1.0)
    ]
    first = np.concatenate([np.linspace(0.34, 0.99, 12), *claimed])
    if n_classes == 2:
        yield from (np.array([p, 1 - p]) for p in (0.5, *first))
        return
    yield np.full(3, 1 / 3)
    for p, share in itertools.product(first[first > 0.3], (0.02, 0.3, 0.5, 0.8, 1.0)):
        yield np.array([p, share * (1 - p), (1 - share) * (1 - p)])


def true_radii(p: Floats, radius: Truth) -> Floats:
    """The radius of each class, in the worst case; below 0 where it is not on top alone."""
    second, first = np.sort(p)[-2:]
    on_top = (p == first) & (first > second)
    return np.where(on_top, radius(first, second) if first < 1 else np.inf, -1.0)


def exceeds(radius: Floats, truth: Floats) -> NDArray[np.bool_]:
    return radius > truth + SLACK * np.abs(truth)


def check_all_votes(
    noise: Noise,
    radius: Truth,
    *,
    bound: str = "auto",
    n_selection: int = 3,
    n_estimation: int = 20,
    n_classes: int = 3,
    alpha: float = 0.1,
) -> float:
    """Certify all pairs of selection and estimation votes; radius and interval must both hold."""
    chosen, votes = outcomes(n_selection, n_classes), outcomes(n_estimation, n_classes)
    pairs = np.repeat(chosen, len(votes), axis=0), np.tile(votes, (len(chosen), 1))
    record = certify_counts(*pairs, noise=noise, bound=bound, alpha=alpha)
    worst = 0.0
    for p in proportions(n_estimation, n_classes, alpha):
        weight = np.outer(chances(chosen, p), chances(votes, p)).ravel()
        truth = true_radii(p, radius)[record.label]
        rival = np.array([np.delete(p, c).max() for c in range(n_classes)])[record.label]
        broken = ~record.abstained & exceeds(record.radius, truth)
        missed = (record.p_lower > p[record.label] + 1e-12) | (record.p_upper < rival - 1e-12)
        assert weight @ missed <= alpha * (1 + SLACK), f"probabilities fail at {p}"
        assert weight @ broken <= alpha * (1 + SLACK), f"radii fail at {p}"
        worst = max(worst, float(weight @ broken))
    return worst


def check_all_paths(
    noise: Noise, radius: Truth, radii: Any, *, n_max: int = 100, alpha: float = 0.1
) -> float:
    """Follow all counts from look to look, as a run that is asked about `radii` does."""
    asked = np.asarray(radii, dtype=float)
    _, p0 = certifying_probabilities(asked, noise)
    tests = certification.sequential_tests(p0, alpha, n_max)
    worst = 0.0
    below = p0[p0 < 1] * (1 - 1e-9)
    for p in (*below, *np.linspace(0.05, 0.99, 15)):
        failed = 0.0
        for own, chosen in ((p, p), (1 - p, 1 - p)):  # either class may have been chosen
            truth = radius(own, 1 - own) if own > 0.5 else -1.0
            shares = claims(tests, own)
            reached = np.array([-np.inf, *asked])
            failed += chosen * float(shares @ exceeds(reached, np.full(len(reached), truth)))
        assert failed <= alpha * (1 + SLACK), f"sequential claims fail at {p}"
        worst = max(worst, failed)
    return worst


def claims(tests: Any, p: float) -> Floats:
    """How probable it is that a run ends with each number of claims."""
    claimed, open_end = tests.start(1)
    states = {(0, int(claimed[0]), int(open_end[0])): 1.0}
    final = np.zeros(len(tests.p0) + 1)
    for look, n_draws in enumerate(np.diff(tests.looks, prepend=0).tolist()):
        steps = stats.binom.pmf(np.arange(n_draws + 1), n_draws, p)
        after: dict[tuple[int, int, int], float] = {}
        for (count, done, end), mass in states.items():
            if done >= end:
                final[done] += mass
                continue
            top = count + np.arange(n_draws + 1)
            now, last = tests.step(look, top, np.full_like(top, done), np.full_like(top, end))
            for state, chance in zip(
                zip(top.tolist(), now.tolist(), last.tolist(), strict=True), steps, strict=True
            ):
                after[state] = after.get(state, 0.0) + mass * chance
        states = after
    for (_, done, _), mass in states.items():
        final[done] += mass
    return final


def check_all_pilots(
    noise: Noise, radius: Truth, *, n_pilot: int = 20, n_max: int = 400, alpha: float = 0.1
) -> float:
    """Follow all pilots and the votes on as many draws as each plans, for the first class."""
    pilots = outcomes(n_pilot, 2)
    plan = TwoStage(n_max=n_max, n_pilot=n_pilot, loss=0.1).n_draws(
        pilots, np.zeros(len(pilots), dtype=int), alpha=alpha, bound="binary", noise=noise
    )
    records = {}
    for n in np.unique(plan).tolist():
        votes = outcomes(n, 2)
        chosen = np.tile([1, 0], (len(votes), 1))
        record = certify_counts(chosen, votes, noise=noise, bound="binary", alpha=alpha)
        records[n] = votes, record
    assert len(records) > 1
    worst = 0.0
    for p in proportions(int(plan.min()), 2, alpha):
        truth = true_radii(p, radius)[0]
        failed = {
            n: float(
                chances(votes, p)
                @ (~record.abstained & exceeds(record.radius, np.full(n + 1, truth)))
            )
            for n, (votes, record) in records.items()
        }
        total = float(chances(pilots, p) @ [failed[n] for n in plan.tolist()])
        assert total <= alpha * (1 + SLACK), f"two stages fail at {p}"
        worst = max(worst, total)
    return worst


def check_all_predictions(*, n_draws: int = 18, n_classes: int = 2, alpha: float = 0.1) -> float:
    """Predictions that may abstain: an answer is wrong if another class is more probable.

    Ties are counted as if one class led by next to nothing.
    """
    votes = outcomes(n_draws, n_classes)
    clf = SimpleNamespace(alpha=alpha, n_selection=n_draws, noise_=Gaussian(1.0))
    answered = ~sentinel.undecided_votes(votes, clf)
    worst = 0.0
    for p in proportions(n_draws, n_classes, alpha):
        wrong = answered & (votes.argmax(axis=1) != p.argmax())
        failed = float(chances(votes, p) @ wrong)
        assert failed <= alpha * (1 + SLACK), f"predictions fail at {p}"
        worst = max(worst, failed)
    return worst


def check_all_top_k(noise: Noise, law: Any, *, n_draws: int = 20, alpha: float = 0.1) -> float:
    """Membership in the top two of three classes of a line, which is cut at two points.

    Where a class leaves the top two is read off a fine grid, never short of the truth by more than
    one of its steps and never before it.
    """
    votes = outcomes(n_draws, 3)
    records = [
        certify_top_k_counts(votes, np.full(len(votes), label), 2, noise=noise, alpha=alpha)
        for label in range(3)
    ]
    grid = np.linspace(-8, 8, 3201)
    worst = 0.0
    for p in proportions(n_draws, 3, alpha):
        edges = np.array([-np.inf, law.ppf(p[0]), law.isf(p[2]), np.inf])
        shares = np.diff(law.cdf(edges - grid[:, np.newaxis]), axis=1)
        for label, record in enumerate(records):
            others = np.delete(shares, label, axis=1)
            lost = (others >= shares[:, [label]]).all(axis=1)
            truth = np.abs(grid[lost]).min() if lost.any() else np.inf
            failed = float(chances(votes, p) @ (record.radius > truth))
            assert failed <= alpha * (1 + SLACK), f"top two fail at {p}"
            worst = max(worst, failed)
    return worst


def check_rows(noise: Noise, world: Any, *, n_draws: int = 20, alpha: float = 0.1) -> float:
    """All votes on every row of a lookup table, against its true l0 radii."""
    X = world.inputs(0, np.random.default_rng(0))
    votes, chosen = outcomes(n_draws, 3), outcomes(3, 3)
    pairs = np.repeat(chosen, len(votes), axis=0), np.tile(votes, (len(chosen), 1))
    record = certify_counts(*pairs, noise=noise.for_inputs(X.shape[1:]), alpha=alpha)
    truth = np.stack([world.radius(X, np.full(len(X), c)) for c in range(3)], axis=1)
    worst = 0.0
    for p, true in zip(world.probabilities(X), truth, strict=True):
        weight = np.outer(chances(chosen, p), chances(votes, p)).ravel()
        failed = float(weight @ (~record.abstained & (record.radius > true[record.label])))
        assert failed <= alpha * (1 + SLACK), f"l0 radii fail at {p}"
        worst = max(worst, failed)
    return worst


def check_rows_of_top_two(
    noise: Noise, world: Any, *, n_draws: int = 20, alpha: float = 0.1
) -> float:
    """The same for membership in the top two, at every row no farther than the radius."""
    X = world.inputs(0, np.random.default_rng(0))
    votes = outcomes(n_draws, 3)
    fitted = noise.for_inputs(X.shape[1:])
    shares = world.probabilities(X)
    worst = 0.0
    for label in range(3):
        columns = np.full(len(votes), label)
        record = certify_top_k_counts(votes, columns, 2, noise=fitted, alpha=alpha)
        ends = world.top_two_ends(X, np.full(len(X), label))
        for p, end in zip(shares, ends.tolist(), strict=True):
            # A radius of 0 claims nothing, and where there is no end any is right.
            broken = (record.radius > 0) & (record.radius >= end) & (end < np.inf)
            failed = float(chances(votes, p) @ broken)
            assert failed <= alpha * (1 + SLACK), f"top two of rows fail at {p}"
            worst = max(worst, failed)
    return worst


def exact_gaussian(p1: float, p2: float, sigma: float) -> mp.mpf:
    def quantile(p: float) -> mp.mpf:
        return -mp.sqrt(2) * mp.erfinv(1 - 2 * mp.mpf(p))

    return mp.mpf(sigma) * (quantile(p1) - quantile(p2)) / 2


def exact_laplace(p1: float, p2: float, scale: float) -> mp.mpf:
    def quantile(p: float) -> mp.mpf:
        q = mp.mpf(p)
        return mp.log(2 * q) if q <= 0.5 else -mp.log(2 * (1 - q))

    return mp.mpf(scale) * (quantile(p1) - quantile(p2)) / 2


def exact_uniform(p1: float, p2: float, half_width: float) -> mp.mpf:
    return mp.mpf(half_width) * (mp.mpf(p1) - mp.mpf(p2))


EXACT = {"gaussian": exact_gaussian, "laplace": exact_laplace, "uniform": exact_uniform}


def check_rounding(noise: str, *, n_pairs: int = 200) -> float:
    """Radii are never above the exact ones; returns the largest share that is given up."""
    rng = np.random.default_rng(7)
    p1 = np.concatenate([rng.uniform(0.3, 1, n_pairs), 1 - 10.0 ** rng.uniform(-12, -1, n_pairs)])
    near = p1 - 10.0 ** rng.uniform(-12, -1, 2 * n_pairs)
    p2 = np.clip(np.where(rng.random(2 * n_pairs) < 0.5, near, rng.random(2 * n_pairs)), 1e-6, 1)
    p2 = np.minimum(p2, np.nextafter(1 - p1, 0))
    scale = rng.uniform(0.1, 2, 2 * n_pairs)
    given = BOUNDS["neyman_pearson"].radii[noise](p1, p2, scale)
    loss = 0.0
    with mp.workdps(40):
        for radius, arguments in zip(
            given.tolist(), np.stack([p1, p2, scale], axis=1).tolist(), strict=True
        ):
            exact = EXACT[noise](*arguments)
            assert radius <= max(exact, 0), f"{noise} radius above the exact one at {arguments}"
            if exact > 0:
                loss = max(loss, float(1 - radius / exact))
    return loss
