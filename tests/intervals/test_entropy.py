"""Entropy and collisions from votes: expectations by enumeration of every count vector."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from scipy.special import gammaln, xlogy

from randsmooth.intervals.entropy import (
    collision_probability,
    deflated_exp_entropy,
    entropy_correction,
    entropy_upper,
)

ON_COUNTS = pytest.mark.parametrize(
    "estimate",
    [deflated_exp_entropy, collision_probability, lambda counts: entropy_upper(counts, alpha=0.1)],
)


def every_count(n: int, n_classes: int) -> np.ndarray:
    grid = itertools.product(range(n + 1), repeat=n_classes - 1)
    return np.array([(*row, n - sum(row)) for row in grid if sum(row) <= n])


def chances(counts: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Probability of every count vector, for each row of probabilities."""
    ways = gammaln(counts.sum(axis=1) + 1) - gammaln(counts + 1).sum(axis=1)
    return np.exp(ways + xlogy(counts[None], p[:, None]).sum(axis=-1))


def many_probabilities(n_classes: int) -> np.ndarray:
    rng = np.random.default_rng(n_classes)
    rows = [rng.dirichlet(np.full(n_classes, a), 60) for a in (0.05, 0.3, 1, 10)]
    edges = [np.eye(n_classes)[:1], np.full((1, n_classes), 1 / n_classes)]
    for rest in (1e-1, 1e-2, 1e-4, 1e-9):
        row = np.full(n_classes, rest / (n_classes - 1))
        row[0] = 1 - rest
        edges.append(row[None])
    return np.concatenate([*rows, *edges])


def entropy(p: np.ndarray) -> np.ndarray:
    return -xlogy(p, p).sum(axis=-1)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("n", range(1, 13))
def test_expectation_of_the_deflated_estimate_is_never_above_the_truth(
    n: int, n_classes: int
) -> None:
    counts, p = every_count(n, n_classes), many_probabilities(n_classes)
    expectation = chances(counts, p) @ deflated_exp_entropy(counts)
    assert (expectation <= np.exp(-entropy(p)) * (1 + 1e-12)).all()


@pytest.mark.parametrize("n", [2, 6, 12])
def test_the_plug_in_without_correction_is_above_the_truth(n: int) -> None:
    counts, p = every_count(n, 3), many_probabilities(3)
    plug_in = deflated_exp_entropy(counts) / entropy_correction(n, 3)
    assert (chances(counts, p) @ plug_in > np.exp(-entropy(p)) * (1 + 1e-3)).any()


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("n", [2, 3, 7, 12])
def test_share_of_agreeing_pairs_is_unbiased(n: int, n_classes: int) -> None:
    counts, p = every_count(n, n_classes), many_probabilities(n_classes)
    expectation = chances(counts, p) @ collision_probability(counts)
    np.testing.assert_allclose(expectation, (p**2).sum(axis=-1), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 12])
@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.7])
def test_upper_bound_covers_the_entropy(n: int, alpha: float) -> None:
    for n_classes in (2, 3):
        counts, p = every_count(n, n_classes), many_probabilities(n_classes)
        below = entropy_upper(counts, alpha=alpha)[None] < entropy(p)[:, None] - 1e-14
        assert (chances(counts, p) * below).sum(axis=1).max() <= alpha


def test_upper_bound_covers_the_entropy_where_it_is_not_trivial() -> None:
    counts, p = every_count(400, 2), many_probabilities(2)
    bounds = entropy_upper(counts, alpha=0.3)
    assert (bounds < np.log(2) * 0.9).any()
    below = bounds[None] < entropy(p)[:, None] - 1e-13
    assert (chances(counts, p) * below).sum(axis=1).max() <= 0.3


@pytest.mark.parametrize("n", [1, 2, 3, 10, 40])
def test_one_vote_moves_the_entropy_by_no_more_than_is_allowed_for(n: int) -> None:
    # With 0 classes beyond the first the correction is exp(-n c^2 / 8) alone.
    c = np.sqrt(-8 * np.log(entropy_correction(n, 2) * (1 + 1 / n)) / n)
    counts = every_count(n, 3)
    shares = entropy(counts / n)
    largest = 0.0
    for source, target in itertools.permutations(range(3), 2):
        moved = counts[counts[:, source] > 0].copy()
        moved[:, source] -= 1
        moved[:, target] += 1
        change = np.abs(entropy(moved / n) - shares[counts[:, source] > 0])
        largest = max(largest, change.max())
    assert largest == pytest.approx(c, abs=1e-6)


def test_corrections_and_margins_agree_with_golden_values(shared: Path) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())["entropy"]
    for row in values["finite_sample"]:
        n, n_classes = row["n"], row["K"]
        correction = mp.mpf(row["correction_factor"])
        got = mp.mpf(float(entropy_correction(n, n_classes)))
        assert 0 <= (correction - got) / correction <= 1e-9
        counts = np.eye(n_classes, dtype=int)[0] * n
        assert float(deflated_exp_entropy(counts)) == pytest.approx(float(correction), rel=1e-9)
        margin = mp.mpf(row["per_point_entropy_margin_delta_0_001"])
        got = mp.mpf(float(entropy_upper(counts, alpha=0.001)))
        assert 0 <= (got - margin) / margin <= 1e-9
    p = np.array([float(x) for x in values["example_p"]])
    counts = np.round(p * 10**6).astype(int)
    plug_in = deflated_exp_entropy(counts) / entropy_correction(10**6, 3)
    assert plug_in == pytest.approx(float(values["exp_minus_H"]), rel=1e-9)


@pytest.mark.parametrize(("n", "n_classes"), [(1, 2), (2, 2), (100, 10), (10**9, 1000)])
def test_correction_is_just_below_its_formula(n: int, n_classes: int) -> None:
    with mp.workdps(50):
        c = (mp.log(n) + ((n - 1) * mp.log(mp.mpf(n) / (n - 1)) if n > 1 else 0)) / n
        exact = mp.exp(-n * c**2 / 8) / (1 + mp.mpf(n_classes - 1) / n)
        got = mp.mpf(float(entropy_correction(n, n_classes)))
        assert 0 <= (exact - got) / exact <= 1e-12


def test_estimates_are_just_below_their_formulas() -> None:
    rng = np.random.default_rng(0)
    for n, n_classes in [(1, 2), (50, 3), (10**4, 10), (10**9, 1000)]:
        counts = rng.multinomial(n, rng.dirichlet(np.full(n_classes, 0.3)))
        with mp.workdps(50):
            shares = [mp.mpf(int(k)) / n for k in counts if k]
            exact = mp.exp(mp.fsum(s * mp.log(s) for s in shares))
            c = (mp.log(n) + ((n - 1) * mp.log(mp.mpf(n) / (n - 1)) if n > 1 else 0)) / n
            exact *= mp.exp(-n * c**2 / 8) / (1 + mp.mpf(n_classes - 1) / n)
            got = mp.mpf(float(deflated_exp_entropy(counts)))
            assert 0 <= (exact - got) / exact <= 1e-12
            if n > 1:
                pairs = mp.fsum(mp.mpf(int(k)) * (int(k) - 1) for k in counts) / (n * mp.mpf(n - 1))
                assert 0 <= (pairs - float(collision_probability(counts))) / pairs <= 1e-12


def test_collisions_are_at_least_as_likely_as_exp_of_minus_the_entropy() -> None:
    p = many_probabilities(4)
    assert ((p**2).sum(axis=-1) >= np.exp(-entropy(p)) * (1 - 1e-12)).all()


def test_a_single_vote_leaves_one_over_the_number_of_classes() -> None:
    assert deflated_exp_entropy([0, 1, 0, 0]) == pytest.approx(0.25, rel=1e-12)
    assert entropy_upper([0, 1], alpha=0.1) == pytest.approx(np.log(2))


@ON_COUNTS
def test_inputs_are_treated_one_by_one(estimate) -> None:
    counts = np.array([[[5, 3, 2], [10, 0, 0]], [[2, 1, 0], [0, 70, 3]]])
    table = estimate(counts)
    assert table.shape == (2, 2)
    single = estimate(counts[1, 1])
    assert isinstance(single, np.float64)
    assert single == table[1, 1]


@ON_COUNTS
@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([[1, 2], [0, 0]], ValueError, r"^counts must have at least \d votes? for every input, go"),
        ([3, -1], ValueError, r"^counts must be non-negative, got -1\.$"),
        ([3], ValueError, r"^counts must have at least two classes along the last axis"),
        ("a", TypeError, r"^counts must be integers, got 'a'\.$"),
    ],
)
def test_estimates_reject_broken_counts(estimate, counts, error, message: str) -> None:
    with pytest.raises(error, match=message):
        estimate(counts)


def test_collisions_need_a_second_vote() -> None:
    message = r"^counts must have at least 2 votes for every input, got 1\.$"
    with pytest.raises(ValueError, match=message):
        collision_probability([[2, 0], [1, 0]])


@pytest.mark.parametrize(
    ("n_draws", "n_classes", "message"),
    [
        (0, 3, r"^n_draws must be at least 1, got 0\.$"),
        ([5, 0.5], 3, r"^n_draws must be integers, got 0\.5\.$"),
        (5, 1, r"^n_classes must be at least 2, got 1\.$"),
        (5, 2.5, r"^n_classes must be integers, got 2\.5\.$"),
    ],
)
def test_correction_rejects_broken_arguments(n_draws, n_classes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        entropy_correction(n_draws, n_classes)


def test_upper_bound_rejects_alpha_outside_the_unit_interval() -> None:
    with pytest.raises(ValueError, match=r"^alpha must lie strictly between 0 and 1, got 0\.$"):
        entropy_upper([1, 1], alpha=0)
