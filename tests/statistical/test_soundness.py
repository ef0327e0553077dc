"""Thousands of certificates against the truth, and the worst there is against certificates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator

from classifiers import Ball, Intervals
from engine_checks import (
    ALPHA,
    check_box,
    check_certificates,
    check_confidence,
    check_just_short_of_a_radius,
    check_near_ties,
    check_predictions,
    check_rows_of_a_table,
    check_squares,
    fitted,
    most_violations,
    violated,
)
from nets import Linear
from randsmooth import SmoothedClassifier, certify_counts
from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper
from randsmooth.noise import Gaussian
from randsmooth.two_stage import TwoStage
from smoothings import ON_ROWS, SMOOTHINGS, WITH_BOUNDS

WEIGHT = np.array([[0.0, 0.0, 0.0], [2.0, -1.0, 2.0]])  # of norm 3
TIGHT = ("neyman_pearson", "binary")
RULES: dict[str, dict[str, Any]] = {
    "fixed": {},
    "sequential": {"radii": [0.0, 0.05, 0.1, 0.2]},
    "two_stage": {"n_estimation": TwoStage(n_max=400, n_pilot=50, loss=0.1)},
}
EVERY_NOISE = pytest.mark.parametrize("name", SMOOTHINGS)
WITH_NORMAL = [name for name, one in SMOOTHINGS.items() if hasattr(one.worst, "normal")]


# Violations counted


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("name", "bound"), WITH_BOUNDS)
def test_radii_exceed_the_truth_of_the_worst_classifier_at_most_alpha_of_the_time(
    name: str, bound: str, rule: str
) -> None:
    one = SMOOTHINGS[name]
    broken = check_certificates(
        one.worst, one.noise, bound=bound, n_inputs=one.n_inputs, **RULES[rule]
    )
    if bound in TIGHT and rule != "sequential":  # what is tight must also use its alpha
        assert broken > 0.3 * ALPHA


@pytest.mark.parametrize("rule", RULES)
@EVERY_NOISE
def test_radii_of_three_classes_exceed_the_truth_at_most_alpha_of_the_time(
    name: str, rule: str
) -> None:
    one = SMOOTHINGS[name]
    check_certificates(one.several, one.noise, n_inputs=one.n_inputs, **RULES[rule])


@pytest.mark.parametrize("name", WITH_NORMAL)
def test_sequential_claims_use_most_of_alpha_just_short_of_a_radius(name: str) -> None:
    one = SMOOTHINGS[name]
    n_inputs = min(one.n_inputs, 2000)
    broken = check_just_short_of_a_radius(one.worst, one.noise, n_inputs=n_inputs)
    assert broken > 0.4 * ALPHA


@pytest.mark.parametrize("name", WITH_NORMAL)
def test_claims_next_to_a_boundary_fail_at_most_alpha_of_the_time(name: str) -> None:
    one = SMOOTHINGS[name]
    assert check_near_ties(one.worst, one.noise, n_inputs=one.n_inputs) > 0.4 * ALPHA


@pytest.mark.parametrize("name", WITH_NORMAL)
def test_predictions_next_to_a_boundary_are_wrong_at_most_alpha_of_the_time(name: str) -> None:
    one = SMOOTHINGS[name]
    # Half of what is not abstained from is right by chance.
    assert check_predictions(one.worst, one.noise, n_inputs=one.n_inputs) > 0.1 * ALPHA


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dimension", [2, 10])
def test_radii_of_a_ball_exceed_the_truth_at_most_alpha_of_the_time(
    dimension: int, rule: str
) -> None:
    world = Ball(0.8, dimension, size=0.8 * np.sqrt(dimension) + 0.3)
    check_certificates(world, Gaussian(0.8), **RULES[rule])


@pytest.mark.parametrize("rule", RULES)
def test_radii_of_a_lookup_table_under_uniform_noise_fail_at_most_alpha_of_the_time(
    rule: str,
) -> None:
    assert check_squares(**RULES[rule]) > 0.1


def test_radii_within_a_box_are_those_of_the_worst_classifier() -> None:
    assert check_box() > 0.999


@pytest.mark.parametrize("rule", ["fixed", "sequential"])
@pytest.mark.parametrize("name", ON_ROWS)
def test_radii_in_l0_exceed_the_truth_at_most_alpha_of_the_time(name: str, rule: str) -> None:
    noise, world = ON_ROWS[name]
    radii = [0, 1] if rule == "sequential" else None
    _, positive = check_rows_of_a_table(world, noise, radii=radii, n_seeds=8)
    assert positive > 0


@pytest.mark.parametrize("bound", ["auto", "binary", "renyi", "pixeldp"])
def test_radii_of_a_linear_network_exceed_its_margin_at_most_alpha_of_the_time(bound: str) -> None:
    """For a linear f, the smoothed classifier is f itself: the true radius is the margin."""
    X = np.random.default_rng(5).normal(size=(4000, 3)).astype(np.float32)
    module = Linear(torch.tensor(WEIGHT).float(), torch.tensor([0.0, 0.3]))
    margin = np.abs(X @ WEIGHT[1] + 0.3) / 3
    clf = network(module, X, sigma=0.8, bound=bound, common_noise=False)
    certificates = clf.certificates(X)
    right = certificates.label == (X @ WEIGHT[1] + 0.3 > 0)
    broken = violated(certificates, np.where(right, margin, -1.0))
    assert broken.sum() <= most_violations(4000)
    if bound in ("auto", "binary"):
        assert broken.sum() > 100


@pytest.mark.slow
def test_one_bank_of_noise_keeps_the_level_for_each_input() -> None:
    X = np.array([[0.4, 0.0, 0.0]], dtype=np.float32)  # margin 0.8 / 3
    module = Linear(torch.tensor(WEIGHT).float(), torch.zeros(2))
    clf = network(module, X.repeat(2, 0), sigma=0.5, n_estimation=100)
    radii = np.array([clf.certify(X, noise_seed=seed)[0] for seed in range(1000)])
    broken = (radii > 0.8 / 3).sum()
    assert 20 < broken <= most_violations(1000)


@EVERY_NOISE
def test_one_bank_of_noise_fails_rarely_on_average(name: str) -> None:
    """Under common noise the inputs fail together, so that only the mean can be watched."""
    one = SMOOTHINGS[name]
    X = one.several.inputs(1500, np.random.default_rng(1))
    record = fitted(one.several, one.noise, X, alpha=0.01, common_noise=True).certificates(X)
    broken = violated(record, one.several.radius(X, record.label))
    assert broken.mean() <= 0.1
    assert (~record.abstained).mean() > 0.3


@pytest.mark.parametrize("name", WITH_NORMAL)
def test_confidence_fails_at_most_alpha_of_the_time(name: str) -> None:
    one = SMOOTHINGS[name]
    missed, _ = check_confidence(one.noise, one.worst, n_inputs=min(one.n_inputs, 2000))
    assert missed > 0.4 * ALPHA  # the band is used nearly up


# The worst there is


@EVERY_NOISE
def test_the_worst_classifier_keeps_its_label_within_the_radius_and_loses_it_just_beyond(
    name: str,
) -> None:
    """Closed form, nothing drawn: probabilities at the input, certificate, and both moves."""
    one = SMOOTHINGS[name]
    X = one.worst.inputs(300, np.random.default_rng(8))
    shares = one.worst.probabilities(X)
    label, p = shares.argmax(axis=1), shares.max(axis=1)
    clear = (p > 0.501) & (p < 0.999)
    radius = np.asarray(one.noise.certified_radius(p[clear]))
    direction = getattr(one.worst, "normal", np.eye(1, X.shape[1])[0])
    away = np.where(label[clear] == 1, -1.0, 1.0)[:, np.newaxis] * direction
    for factor, kept in ((0.999, True), (1.001, False)):
        moved = X[clear] + factor * radius[:, np.newaxis] * away
        inside = ((moved >= 0) & (moved <= 1))[:, 0] if "splitting" in name else slice(None)
        own = np.take_along_axis(one.worst.probabilities(moved), label[clear, np.newaxis], axis=1)
        assert ((own[inside, 0] > 0.5) == kept).all()
        assert own[inside].size > 30


@pytest.mark.parametrize("name", WITH_NORMAL)
@pytest.mark.parametrize(("p1", "p2"), [(0.7, 0.1), (0.4, 0.3), (0.9, 0.05), (0.35, 0.34)])
def test_three_classes_attain_the_radius_with_a_runner_up(name: str, p1: float, p2: float) -> None:
    """The runner-up lies beyond the rest, which moves away from the label last."""
    one = SMOOTHINGS[name]
    law = one.worst.law
    world = Intervals(law, [law.ppf(p1), law.isf(p2)], [0, 2, 1], (-8.0, 8.0))
    np.testing.assert_allclose(world.probabilities(np.zeros((1, 2)))[0, :2], [p1, p2], rtol=1e-9)
    radius = float(one.noise.certified_radius(p1, p2))
    for factor, kept in ((0.999, True), (1.001, False)):
        shares = world.probabilities(np.array([[factor * radius, 0.0]]))[0]
        assert (shares[0] > shares[1]) == kept


def test_ablation_attains_its_radius() -> None:
    """A base that sees one feature: each change takes one vote of as many as there are."""
    noise = ON_ROWS["ablation"][0].for_inputs((7,))
    assert noise.certified_radius(1.0) == 3  # four of seven features keep the majority
    assert noise.certified_radius(6 / 7 - 1e-9) == 2


@pytest.mark.slow
def test_no_attack_within_a_certified_radius_changes_the_smoothed_label() -> None:
    """The worst direction is known for a linear network: straight at the boundary."""
    X = np.random.default_rng(2).normal(size=(300, 3)).astype(np.float32)
    module = Linear(torch.tensor(WEIGHT).float(), torch.zeros(2))
    clf = network(module, X, sigma=0.5, n_estimation=2000, alpha=1e-4)
    certificates = clf.certificates(X)
    away = np.where(certificates.label == 1, -1.0, 1.0)[:, None] * WEIGHT[1] / 3
    attacked = (X + 0.999 * certificates.radius[:, None] * away).astype(np.float32)
    certified = ~certificates.abstained
    fresh = clf.set_params(n_selection=5000, n_estimation=1).fit(X, np.arange(300) % 2)
    shares = fresh.predict_proba(attacked[certified])
    own = shares[np.arange(certified.sum()), certificates.label[certified]]
    # The label keeps its majority but for the error of 5000 votes.
    assert own.min() > 0.5 - 5 * 0.5 / np.sqrt(5000)
    assert certified.mean() > 0.8


# How alpha is spent


def test_alpha_is_spent_once_nine_tenths_on_the_label_and_one_on_the_runner_up() -> None:
    selection, counts = [[3, 90, 7]], [[400, 9000, 600]]
    record = certify_counts(selection, counts, sigma=0.5, alpha=0.01)
    assert record.p_lower[0] == clopper_pearson_lower(9000, 10_000, alpha=0.009)
    assert record.p_upper[0] == clopper_pearson_upper(600, 10_000, alpha=0.001)
    binary = record.with_bound("binary")
    assert binary.p_lower[0] == clopper_pearson_lower(9000, 10_000, alpha=0.01)


def test_the_label_comes_from_the_selection_draws_alone() -> None:
    record = certify_counts([[6, 4]], [[100, 9900]], sigma=0.5)
    assert record.label[0] == 0
    assert record.abstained[0]


def network(module: Any, X: Any, **params: Any) -> SmoothedClassifier:
    settings = {"n_selection": 20, "n_estimation": 200, "alpha": ALPHA, "random_state": 0, **params}
    return SmoothedClassifier(FrozenEstimator(module), **settings).fit(X, np.arange(len(X)) % 2)
