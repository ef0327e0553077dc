"""Violations counted over seeded certificates of the public classifier.

Each check returns the share of certificates that fail, and raises an AssertionError where there are
more than chances at alpha allow once in a million runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.frozen import FrozenEstimator

from classifiers import Squares, Voter
from exact_checks import exceeds
from randsmooth import Certificates, SmoothedClassifier
from randsmooth.bounds.box import box_uniform_radius
from randsmooth.intervals.distribution import dkw_band
from randsmooth.noise import Noise, Uniform
from randsmooth.noise.splitting import DeterministicSplitting

ALPHA = 0.1


def most_violations(n: int, alpha: float = ALPHA) -> int:
    """Return the failures that n independent chances at alpha exceed once in a million runs."""
    return int(stats.binom.isf(1e-6, n, alpha))


def fitted(world: Any, noise: Noise, X: NDArray[Any], **params: Any) -> SmoothedClassifier:
    settings = {"n_selection": 20, "n_estimation": 200, "alpha": ALPHA, "random_state": 0}
    settings |= {"common_noise": False, **params}
    estimator = settings.pop("estimator", Voter(world))
    clf = SmoothedClassifier(FrozenEstimator(estimator), noise=noise, **settings)
    return clf.fit(X, np.arange(len(X)) % world.n_classes)


def violated(record: Certificates, truth: NDArray[np.float64]) -> NDArray[np.bool_]:
    return ~record.abstained & exceeds(record.radius, truth)


def check_certificates(
    world: Any,
    noise: Noise,
    *,
    n_inputs: int = 3000,
    radii: Any = None,
    X: Any = None,
    seed: int = 1,
    **params: Any,
) -> float:
    """Certify many inputs, each with noise of its own, and compare with their true radii."""
    rng = np.random.default_rng(seed)
    X = world.inputs(n_inputs, rng) if X is None else X
    record = fitted(world, noise, X, **params).certificates(X, radii=radii)
    broken = violated(record, world.radius(X, record.label))
    assert broken.sum() <= most_violations(len(X)), f"{broken.sum()} of {len(X)} fail"
    assert not record.abstained.all(), "nothing is certified"
    return float(broken.mean())


def next_to_the_boundary(world: Any, n_inputs: int) -> NDArray[np.float64]:
    return world.at(np.resize([-1e-7, 1e-7], n_inputs), np.random.default_rng(2))


def check_near_ties(world: Any, noise: Noise, *, n_inputs: int = 3000, **params: Any) -> float:
    """Certify inputs next to a decision boundary, where any claim is nearly always false."""
    return check_certificates(world, noise, X=next_to_the_boundary(world, n_inputs), **params)


def check_just_short_of_a_radius(
    world: Any, noise: Noise, *, n_inputs: int = 2000, **params: Any
) -> float:
    """Ask for one radius at inputs whose true radius is just short of it."""
    asked = 0.5 * world.law.std()
    X = world.at(np.full(n_inputs, asked * (1 - 1e-6)), np.random.default_rng(3))
    return check_certificates(world, noise, X=X, radii=[0.0, asked], **params)


def check_predictions(world: Any, noise: Noise, *, n_inputs: int = 3000, **params: Any) -> float:
    """Predict next to a decision boundary, with the leave to abstain."""
    X = next_to_the_boundary(world, n_inputs)
    labels = fitted(world, noise, X, **params).predict(X, abstain=-1)
    wrong = (labels != -1) & (labels != (X @ world.normal > 0))
    assert wrong.sum() <= most_violations(n_inputs), f"{wrong.sum()} predictions fail"
    return float(wrong.mean())


def check_failures_are_apart(world: Any, noise: Noise, *, n_seeds: int = 12) -> float:
    """Certify inputs of one margin: with noise of their own, their failures scatter.

    Returns the largest share that fails under one seed.
    """
    X = world.at(np.full(300, 0.3), np.random.default_rng(10))
    clf = fitted(world, noise, X)
    records = [clf.certificates(X, noise_seed=seed) for seed in range(n_seeds)]
    worst = max(violated(record, world.radius(X, record.label)).mean() for record in records)
    assert worst * len(X) <= most_violations(len(X)), f"up to {worst} of the inputs fail together"
    return float(worst)


def check_rows_of_a_table(
    world: Any, noise: Noise, *, radii: Any = None, n_seeds: int = 20, **params: Any
) -> tuple[float, float]:
    """Certify all rows of a lookup table under many seeds of the noise.

    Returns the share that fails and the share of radii above 0.
    """
    X = world.inputs(0, np.random.default_rng(0))
    clf = fitted(world, noise, X, **params)
    broken, positive = [], []
    for seed in range(n_seeds):
        record = clf.certificates(X, radii=radii, noise_seed=seed)
        broken.append(violated(record, world.radius(X, record.label)))
        positive.append(record.radius > 0)
    n_failed = int(np.sum(broken))
    assert n_failed <= most_violations(n_seeds * len(X)), f"{n_failed} rows fail"
    return float(np.mean(broken)), float(np.mean(positive))


def check_squares(*, n_inputs: int = 1500, radii: Any = None, **params: Any) -> float:
    """Certify under uniform noise a lookup table in the plane, whose probabilities are areas.

    Returns the share of radii that are no trifle.
    """
    table = np.random.default_rng(6).choice(3, p=[0.6, 0.3, 0.1], size=(6, 6))
    world = Squares(0.9, table, size=0.7)
    X = world.inputs(n_inputs, np.random.default_rng(7))
    record = fitted(world, Uniform(0.9), X, **params).certificates(X, radii=radii)
    broken = world.broken(X, record.label, record.radius) & ~record.abstained
    assert broken.sum() <= most_violations(n_inputs), f"{broken.sum()} of {n_inputs} fail"
    return float((record.radius > 0.1).mean())


def check_box(*, n_inputs: int = 400) -> float:
    """Compare radii under uniform noise in a box of the plane with the worst classifier's.

    It gives to the label what only the cube of noise around the input covers, to the runner-up what
    only that around the moved input covers, and halves the rest between them. Moves are searched
    over a fine grid. Returns the smallest ratio of radius to shortest move.
    """
    rng = np.random.default_rng(7)
    half_width, X = 0.6, rng.random((n_inputs, 2))
    p = rng.uniform(0.55, 0.999, n_inputs)
    given = box_uniform_radius(p, half_width=half_width, X=X)
    lost = (2 * p - 1)[:, np.newaxis] / 2
    most = np.maximum(X, 1 - X)
    moves = np.linspace(0, 1, 2001) * most[:, :1]
    second = 2 * half_width * (1 - (1 - lost) / (1 - moves / (2 * half_width)))
    possible = second <= most[:, 1:]
    shortest = np.where(possible, moves + np.maximum(second, 0), np.inf).min(axis=1)
    assert not exceeds(given, shortest).any(), "radii fail within the box"
    finite = np.isfinite(shortest)
    return float((given[finite] / shortest[finite]).min())


def check_outcomes(noise: DeterministicSplitting, *, n_tables: int = 40) -> float:
    """Compare certain radii with all pairs of inputs on a small grid; not one may fail.

    Returns the share of radii that are exact: a point just past them has another label.
    """
    steps = np.arange(noise.levels + 1) / noise.levels
    X = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    distance = np.abs(X[:, np.newaxis] - X).sum(axis=2)
    reached = []
    for seed in range(n_tables):
        world = CellTable(seed)
        record = fitted(world, noise, X).certificates(X)
        assert (record.alpha, record.bound) == (0.0, "exact")
        # Tied votes are broken by the order of the classes, which is part of the classifier.
        other = record.label[:, np.newaxis] != record.label
        lost = other & (distance <= record.radius[:, np.newaxis] + 1e-9)
        assert not lost[~record.abstained].any(), "a certain radius fails"
        nearest = np.where(other, distance, np.inf).min(axis=1)
        past = nearest <= record.radius + 1.5 / noise.levels
        reached.append(past[~record.abstained].mean())
    return float(np.mean(reached))


class CellTable:
    """Random labels by what is seen of two coordinates, the first of them the weightier."""

    n_classes = 3

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weights, self.bias = rng.normal(size=(2, 3)) * [[2.0], [0.5]], rng.normal(size=3) / 2

    def votes(self, rows: NDArray[Any]) -> NDArray[np.intp]:
        return ((rows - 0.5) @ self.weights + self.bias / 2).argmax(axis=1)


class Ramp(Voter):
    """Two classes whose scores follow a normal distribution function of the first coordinate."""

    width = 0.5

    def predict_proba(self, X):
        score = stats.norm.cdf(X[:, 0] / self.width)
        return np.stack([1 - score, score], axis=1)

    def predict(self, X):
        return (X[:, 0] > 0).astype(np.intp)


def check_confidence(
    noise: Noise, world: Any, *, n_inputs: int = 2000, n_draws: int = 200
) -> tuple[float, float]:
    """Compare bands and lower bounds on the confidence with the exact ones of a ramp.

    Returns the shares of bands and of curves of lower bounds that fail.
    """
    law, width = world.law, Ramp.width
    X = np.random.default_rng(5).uniform(-1, 1, size=(n_inputs, 2))
    clf = fitted(world, noise, X, estimator=Ramp(world), n_estimation=n_draws)
    record = clf.confidence_certificates(X, n_thresholds=256)
    position = np.where(record.label == 1, X[:, 0], -X[:, 0])[:, np.newaxis]
    band = dkw_band(record.counts, n_draws, alpha=record.alpha)
    missed = (band > law.sf(width * stats.norm.ppf(record.thresholds) - position) + 1e-9).any(
        axis=1
    )
    radii = np.array([0.0, 0.3, 0.8])
    # Scores are monotone in the noise, whose quantiles take the place of an integral.
    grid, draws = np.linspace(-2, 1, 301), law.ppf((np.arange(4000) + 0.5) / 4000)
    expected = stats.norm.cdf((grid[:, np.newaxis] + draws) / width).mean(axis=1)
    lowest = np.interp(position - radii, grid, expected) + 1e-4
    failed = [
        (record.lower_bound(radii, method=method) > lowest).any(axis=1)
        for method in ("cdf", "mean")
    ]
    for broken in (missed, *failed):
        assert broken.sum() <= most_violations(n_inputs), f"{broken.sum()} confidences fail"
    return float(missed.mean()), float(np.mean(failed))
