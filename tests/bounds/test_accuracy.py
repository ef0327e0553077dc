"""Accuracy under attack: expectations by enumeration, coverage, and classifiers in closed form."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from randsmooth.bounds.accuracy import (
    AccuracyGap,
    accuracy_gap_from_counts,
    gaussian_total_variation,
    laplace_total_variation,
)
from randsmooth.bounds.divergences import gaussian_divergence, laplace_divergence
from randsmooth.intervals.means import mean_lower

ESTIMATES = ("betting", "bernstein", "hoeffding")
BOUNDS = ("tight", "total_variation", "collision", "entropy")


def gaussian(p, radius):
    return ndtr(ndtri(p) - radius) * (1 - 1e-11)


def laplace(p, radius):
    p = np.asarray(p)
    grown = (1 - p) * np.exp(radius)
    beyond = np.exp(-radius) / (4 * np.maximum(1 - p, 1e-300))
    high = np.where(grown <= 0.5, 1 - grown, beyond)
    return np.where(p <= 0.5, p * np.exp(-radius), high) * (1 - 1e-12)


def known_of_gaussian(attack: float) -> dict[str, object]:
    return {
        "attack": attack,
        "divergence": gaussian_divergence(attack, sigma=1.0),
        "total_variation": gaussian_total_variation(attack, sigma=1.0),
        "probability_lower": gaussian,
    }


def known_of_laplace(attack: float) -> dict[str, object]:
    return {
        "attack": attack,
        "divergence": laplace_divergence(attack, scale=1.0),
        "max_divergence": laplace_divergence(attack, scale=1.0, order=math.inf),
        "total_variation": laplace_total_variation(attack, scale=1.0),
        "probability_lower": laplace,
    }


def votes(p: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.multinomial(n, np.column_stack([p, 0.7 * (1 - p), 0.3 * (1 - p)]))


# -- from counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("known", [known_of_gaussian, known_of_laplace])
@pytest.mark.slow
def test_bounds_hold_together_as_often_as_they_promise(known, estimate: str) -> None:
    # A binary linear classifier far out: an attack takes exactly what the tight form says.
    rng = np.random.default_rng(2)
    delta, attack, m, n, runs = 0.2, 0.5, 60, 12, 80
    noise = known(attack)["probability_lower"]
    points = np.array([0.999, 0.9, 0.6, 0.05])
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    accuracy = shares @ noise(points, attack)
    gap = shares @ points - accuracy
    for bound in ("auto", *BOUNDS):
        if bound == "collision" and known is known_of_gaussian:
            continue
        failures, repeats = 0, runs if bound in ("auto", "tight") else 25
        for _ in range(repeats):
            p = rng.choice(points, m, p=shares)
            record = accuracy_gap_from_counts(
                votes(p, n, rng),
                votes(p, n, rng),
                np.zeros(m, dtype=int),
                delta=delta,
                bound=bound,
                estimate=estimate,
                **known(attack),
            )
            failures += record.gap < gap or record.accuracy > accuracy
        assert binom.sf(failures - 1, repeats, delta) > 1e-4


def test_accuracy_bound_covers_exactly_where_all_outcomes_can_be_listed() -> None:
    # One kind of input, three points with two votes each: all 4^3 outcomes, entropy and all.
    n, m, attack, delta = 2, 3, 0.05, 0.6
    tables = list(itertools.product(range(n + 1), repeat=m))
    for bound in ("entropy", "total_variation", "collision"):
        known = known_of_laplace(attack)
        records = [
            accuracy_gap_from_counts(
                np.column_stack([row, n - np.array(row)]),
                None,
                np.zeros(m, dtype=int),
                delta=delta,
                bound=bound,
                **known,
            )
            for row in tables
        ]
        for p in (0.5, 0.8, 0.97, 0.999):
            chance = np.array([binom.pmf(row, n, p).prod() for row in tables])
            left = laplace(p, attack)
            failed = [r.gap < p - left - 1e-11 or r.accuracy > left + 1e-11 for r in records]
            assert chance[np.array(failed)].sum() <= delta


def test_tight_bound_comes_close_to_a_linear_classifier_under_its_worst_attack() -> None:
    rng = np.random.default_rng(3)
    m, n, attack = 20_000, 1000, 0.5
    margin = rng.normal(1.0, 1.0, m)
    p = ndtr(margin)
    record = accuracy_gap_from_counts(
        votes(p, n, rng),
        votes(p, n, rng),
        np.zeros(m, dtype=int),
        delta=0.001,
        **known_of_gaussian(attack),
    )
    accuracy, attacked = ndtr(1 / math.sqrt(2)), ndtr(0.5 / math.sqrt(2))
    assert record.bound == record.accuracy_bound == "tight"
    assert accuracy - attacked <= record.gap <= accuracy - attacked + 0.01
    assert attacked - 0.02 <= record.accuracy <= attacked
    assert record.clean_accuracy == pytest.approx(accuracy, abs=0.01)
    assert record.gaps["tight"] < record.gaps["total_variation"] < record.gaps["entropy"]


def test_anchors_are_taken_from_the_other_votes() -> None:
    rng, p, attack = np.random.default_rng(6), np.full(3000, 0.8), 0.5
    record = accuracy_gap_from_counts(
        votes(p, 1, rng),
        votes(p, 1000, rng),
        np.zeros(3000, dtype=int),
        delta=0.001,
        bound="tight",
        **known_of_gaussian(attack),
    )
    assert 0.55 < record.accuracy <= gaussian(0.8, attack)
    assert 0.8 - gaussian(0.8, attack) <= record.gap < 0.25


def test_entropy_bound_wins_where_votes_agree_and_only_the_divergence_is_known() -> None:
    counts = np.tile([10_000, 0], (3000, 1))
    record = accuracy_gap_from_counts(
        counts, None, np.zeros(3000, dtype=int), attack=0.1, delta=0.01, divergence=0.02
    )
    assert record.bound == "entropy"
    assert set(record.gaps) == {"entropy", "total_variation"}
    assert record.gap < record.gaps["total_variation"]
    assert record.accuracy_bound == "entropy"


def test_collisions_are_closer_than_entropy() -> None:
    rng = np.random.default_rng(4)
    counts = votes(np.full(2000, 0.95), 1000, rng)
    record = accuracy_gap_from_counts(
        counts, None, np.zeros(2000, dtype=int), delta=0.01, **known_of_laplace(0.02)
    )
    assert record.gaps["collision"] < record.gaps["entropy"]
    assert "tight" not in record.gaps


def record_of(**changes: object) -> AccuracyGap:
    rng = np.random.default_rng(5)
    p = rng.uniform(0.8, 1, 300)
    arguments = {
        "counts": votes(p, 100, rng),
        "anchor_counts": votes(p, 100, rng),
        "true_class": np.zeros(300, dtype=int),
        "delta": 0.01,
        "norm": "l1",
        **known_of_laplace(0.3),
        **changes,
    }
    return accuracy_gap_from_counts(**arguments)


def test_auto_spends_all_of_its_level_on_the_tight_bound() -> None:
    auto, tight = record_of(), record_of(bound="tight")
    assert auto.gap == min(tight.gap, auto.gaps["total_variation"])
    assert auto.accuracy == tight.accuracy


def test_half_of_the_level_bounds_the_accuracy() -> None:
    counts = np.column_stack([np.arange(300), np.arange(300, 0, -1)])
    distance = {"attack": 1.0, "total_variation": 0.1}
    record = accuracy_gap_from_counts(counts, None, np.zeros(300, dtype=int), delta=0.2, **distance)
    lower = mean_lower(np.arange(300) / 300, alpha=0.1)
    assert record.accuracy == pytest.approx(float(lower) - 0.1, abs=1e-12)


def test_auto_divides_its_level_where_the_tight_bound_is_missing() -> None:
    auto = record_of(anchor_counts=None)
    for name in ("collision", "entropy"):
        alone = record_of(anchor_counts=None, bound=name, delta=0.01 / 2)
        assert auto.gap <= alone.gap
        alone = record_of(anchor_counts=None, bound=name, delta=0.01 / 3)
        assert auto.accuracy >= alone.accuracy


@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_weaken_with_the_attack_and_with_confidence(bound: str) -> None:
    small, large = (record_of(bound=bound, **known_of_laplace(a)) for a in (0.1, 0.4))
    assert small.gap <= large.gap
    assert small.accuracy >= large.accuracy
    sure = record_of(bound=bound, delta=1e-6, **known_of_laplace(0.1))
    assert small.gap <= sure.gap
    assert small.accuracy >= sure.accuracy
    assert small.bound == small.accuracy_bound == bound
    assert 0 <= small.accuracy <= 1


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_gaps_are_those_of_each_bound_at_the_whole_level(estimate: str) -> None:
    gaps = record_of(estimate=estimate).gaps
    assert set(gaps) == set(BOUNDS)
    for name in BOUNDS:
        # Half of twice the level.
        assert record_of(bound=name, estimate=estimate, delta=0.02).gap == gaps[name]


def test_total_variation_alone_costs_no_confidence_in_the_gap() -> None:
    only = {"divergence": None, "max_divergence": None, "probability_lower": None}
    record = record_of(anchor_counts=None, **only)
    assert record.gap == laplace_total_variation(0.3, scale=1.0)
    assert set(record.gaps) == {"total_variation"}
    record = record_of(divergence=None, total_variation=None)
    assert record.gaps["total_variation"] == pytest.approx(0.387298, abs=1e-6)


def test_labels_that_the_classifier_does_not_know_count_as_wrong() -> None:
    labels = np.zeros(300, dtype=int)
    labels[:150] = -1
    for bound in BOUNDS:
        record = record_of(true_class=labels, bound=bound)
        assert record.clean_accuracy < 0.5
        assert record.accuracy < 0.5
    assert record_of(true_class=labels).gap < record_of().gap
    none = record_of(true_class=np.full(300, -1))
    assert none.clean_accuracy == none.accuracy == 0


def test_an_infinite_divergence_leaves_nothing() -> None:
    record = record_of(divergence=None, max_divergence=math.inf, bound="collision")
    assert record.gap == 1
    assert record.accuracy == 0
    assert record.gaps["entropy"] == 1


def test_collisions_need_two_votes_on_every_input() -> None:
    counts = np.eye(3, dtype=int)[np.zeros(300, dtype=int)]
    assert "collision" not in record_of(counts=counts).gaps


def test_record_tells_what_it_says() -> None:
    record = record_of()
    assert repr(record).startswith("AccuracyGap(attack of 0.3 in l1: gap <= 0.")
    assert repr(record).endswith("delta=0.01, 300 inputs, 100 draws each)")
    assert "attack of 0.3:" in repr(record_of(norm=None))
    assert (record.n_inputs, record.n_draws, record.norm) == (300, 100, "l1")
    shown = float(repr(record).split("gap <= ")[1].split()[0])
    assert record.gap <= shown <= record.gap + 1e-4
    shown = float(repr(record).split("accuracy >= ")[1].split()[0])
    assert record.accuracy - 1e-4 <= shown <= record.accuracy


# -- what is refused -------------------------------------------------------------------------------

NOTHING: dict[str, object] = dict.fromkeys(
    ("divergence", "max_divergence", "total_variation", "probability_lower")
)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"delta": 0}, ValueError, r"^delta must lie strictly between 0 and 1, got 0\.$"),
        ({"delta": np.nan}, ValueError, r"^delta must lie strictly between 0 and 1, got nan\.$"),
        ({"delta": "x"}, TypeError, r"^delta must be a real number, got 'x'\.$"),
        ({"attack": -0.1}, ValueError, r"^attack must be at least 0, got -0\.1\.$"),
        ({"attack": np.nan}, ValueError, r"^attack must be at least 0, got nan\.$"),
        ({"attack": [0.1]}, ValueError, r"^attack must be a single number, got shape \(1,\)\.$"),
        ({"divergence": -1}, ValueError, r"^divergence must be at least 0, got -1\.0\.$"),
        ({"max_divergence": "x"}, TypeError, r"^max_divergence must be a real number, got 'x'\.$"),
        ({"total_variation": 1.5}, ValueError, r"^total_variation must be at most 1, got 1\.5\.$"),
        ({"counts": [3, 4]}, ValueError, r"^counts must have one row for each of at least one"),
        ({"counts": np.zeros((0, 2), int)}, ValueError, r"^counts must have one row for each"),
        ({"counts": np.zeros((300, 3), int)}, ValueError, r"^counts must have a vote in every row"),
        (
            {"anchor_counts": np.zeros((300, 3), int)},
            ValueError,
            r"^anchor_counts must have a vote in every row, got a row of zeros\.$",
        ),
        (
            {"anchor_counts": np.ones((300, 2), int)},
            ValueError,
            r"^anchor_counts must have the shape of counts, \(300, 3\), got \(300, 2\)\.$",
        ),
        ({"anchor_counts": "x"}, TypeError, r"^anchor_counts must be integers, got 'x'\.$"),
        ({"true_class": [0, 1]}, ValueError, r"^true_class must have one entry for each of the 30"),
        (
            {"true_class": np.full(300, 3)},
            ValueError,
            r"^true_class must be a column of counts, below 3, or -1, got 3\.$",
        ),
        ({"true_class": np.full(300, -2)}, ValueError, r"^true_class must be .* or -1, got -2\.$"),
        (
            {"bound": "best"},
            ValueError,
            r"^bound must be one of 'auto', 'tight', .*, 'entropy', got 'best'\.$",
        ),
        (
            {"bound": "tight", "anchor_counts": None},
            ValueError,
            r"^bound must be one that is available \('total_variation', 'collision', 'entropy'\), "
            r"got 'tight', which needs probability_lower and anchor_counts\.$",
        ),
        (NOTHING, ValueError, r"^divergence, max_divergence, total_variation or probability_lower"),
        (
            {"estimate": "chernoff"},
            ValueError,
            r"^estimate must be one of 'betting', 'bernstein', 'hoeffding', got 'chernoff'\.$",
        ),
    ],
)
def test_broken_arguments_are_rejected(changes, error, message: str) -> None:
    with pytest.raises(error, match=message):
        record_of(**changes)
