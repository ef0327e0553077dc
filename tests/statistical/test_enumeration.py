"""Failure probabilities of certificates, exact: all votes, all paths, all pilots, all rows."""

from __future__ import annotations

import numpy as np
import pytest

from engine_checks import check_outcomes
from exact_checks import (
    EXACT,
    chances,
    check_all_paths,
    check_all_pilots,
    check_all_predictions,
    check_all_top_k,
    check_all_votes,
    check_rounding,
    check_rows,
    check_rows_of_top_two,
    claims,
    outcomes,
)
from randsmooth.intervals import GroupSequentialTest, sequential_tests
from randsmooth.noise.splitting import DeterministicSplitting
from smoothings import ON_ROWS, SMOOTHINGS, WITH_BOUNDS

EVERY_NOISE = pytest.mark.parametrize("name", SMOOTHINGS)
TIGHT = ("neyman_pearson", "binary")


def test_all_outcomes_are_enumerated() -> None:
    votes = outcomes(7, 3)
    assert len(votes) == len({tuple(row) for row in votes.tolist()}) == 36
    assert (votes.sum(axis=1) == 7).all()
    assert chances(votes, np.array([0.5, 0.3, 0.2])).sum() == pytest.approx(1)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("name", "bound"), WITH_BOUNDS)
def test_radii_and_probabilities_fail_with_probability_at_most_alpha(
    name: str, bound: str, n_classes: int
) -> None:
    one = SMOOTHINGS[name]
    worst = check_all_votes(one.noise, one.radius, bound=bound, n_classes=n_classes)
    if bound in TIGHT:  # what is tight must also use its alpha, here 0.1
        assert worst > 0.085


@pytest.mark.parametrize("bound", TIGHT)
@pytest.mark.parametrize(
    ("n_selection", "n_estimation", "alpha"),
    [(1, 1, 0.9), (2, 5, 0.3), (4, 12, 0.01), (1, 30, 0.05)],
)
def test_the_level_holds_for_any_number_of_draws(
    bound: str, n_selection: int, n_estimation: int, alpha: float
) -> None:
    one = SMOOTHINGS["gaussian"]
    worst = check_all_votes(
        one.noise,
        one.radius,
        bound=bound,
        n_selection=n_selection,
        n_estimation=n_estimation,
        alpha=alpha,
    )
    assert worst > 0.2 * alpha


@EVERY_NOISE
def test_sequential_claims_fail_with_probability_at_most_alpha(name: str) -> None:
    one = SMOOTHINGS[name]
    spread = one.radius(0.9, 0.1)
    worst = check_all_paths(one.noise, one.radius, [0.0, 0.3 * spread, 0.6 * spread, spread])
    assert worst > 0.05


def test_followed_paths_agree_with_the_test_itself() -> None:
    tests = sequential_tests([0.7], 0.05, 60)
    power = GroupSequentialTest(0.7, 0.05, 60).power(0.8)
    assert claims(tests, 0.8)[1] == pytest.approx(power, rel=1e-9)


@EVERY_NOISE
def test_two_stages_fail_with_probability_at_most_alpha(name: str) -> None:
    one = SMOOTHINGS[name]
    assert check_all_pilots(one.noise, one.radius) > 0.085


@pytest.mark.parametrize("n_draws", [6, 12, 18])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_predictions_that_may_abstain_are_wrong_with_probability_at_most_alpha(
    n_draws: int, n_classes: int, alpha: float
) -> None:
    assert check_all_predictions(n_draws=n_draws, n_classes=n_classes, alpha=alpha) > 0.1 * alpha


@pytest.mark.parametrize("name", ["gaussian", "laplace", "uniform", "logistic"])
def test_membership_in_the_top_two_fails_with_probability_at_most_alpha(name: str) -> None:
    one = SMOOTHINGS[name]
    assert check_all_top_k(one.noise, one.worst.law) > 0.02


@pytest.mark.parametrize("name", ON_ROWS)
def test_radii_in_l0_fail_with_probability_at_most_alpha(name: str) -> None:
    check_rows(*ON_ROWS[name])


@pytest.mark.parametrize("name", ON_ROWS)
def test_membership_in_the_top_two_of_rows_fails_with_probability_at_most_alpha(name: str) -> None:
    check_rows_of_top_two(*ON_ROWS[name])


@pytest.mark.parametrize("half_width", [0.125, 0.3, 0.5, 0.8])
def test_radii_without_chance_never_fail(half_width: float) -> None:
    noise = DeterministicSplitting(half_width, levels=8)
    share_exact = check_outcomes(noise)
    assert share_exact > 0.1


@pytest.mark.parametrize("name", EXACT)
def test_radii_are_never_above_the_exact_ones(name: str) -> None:
    assert check_rounding(name) < 1.001e-9
