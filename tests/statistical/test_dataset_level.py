"""Statements about test sets hold against the worst dependence that certificates may have."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_checks import (
    check_accuracy_gap,
    check_agreement,
    check_number_of_invalid,
    check_own_noise,
    check_shared_noise,
    check_whole_curve,
)
from engine_checks import fitted
from randsmooth.metrics import certified_accuracy_interval
from smoothings import SMOOTHINGS


@pytest.mark.parametrize("n_rows", [1, 7, 40, 200])
@pytest.mark.parametrize("certificate_alpha", [0.0, 0.001, 0.02])
def test_the_interval_holds_where_each_row_has_noise_of_its_own(
    n_rows: int, certificate_alpha: float
) -> None:
    worst = check_own_noise(n_rows, certificate_alpha=certificate_alpha)
    assert worst > 0.4 * 0.05 or n_rows < 40  # most of the lower end's half of alpha is used


@pytest.mark.parametrize("n_rows", [1, 7, 40, 200])
@pytest.mark.parametrize("certificate_alpha", [1e-6, 0.002, 0.01])
def test_the_lower_end_holds_where_all_certificates_fail_together(
    n_rows: int, certificate_alpha: float
) -> None:
    check_shared_noise(n_rows, certificate_alpha=certificate_alpha)


def test_the_interval_for_own_noise_fails_where_all_certificates_fail_together() -> None:
    with pytest.raises(AssertionError, match="lower end"):
        check_shared_noise(200, certificate_alpha=0.02, common_noise=False)


def test_bands_hold_for_whole_curves() -> None:
    assert check_whole_curve() > 0.05  # of 0.1 for either side


@pytest.mark.parametrize("n_rows", [1, 50, 500])
@pytest.mark.parametrize("certificate_alpha", [0.001, 0.01, 0.3])
def test_the_number_of_invalid_certificates_is_bounded(
    n_rows: int, certificate_alpha: float
) -> None:
    check_number_of_invalid(n_rows, certificate_alpha=certificate_alpha)


@pytest.mark.parametrize("common_noise", [True, False])
def test_the_interval_of_a_run_covers_the_true_robust_share(common_noise: bool) -> None:
    """End to end on a half-space, where the true share of robust rows is an integral."""
    world, noise = SMOOTHINGS["gaussian"].worst, SMOOTHINGS["gaussian"].noise
    rng, radius, failed = np.random.default_rng(4), 0.3, 0
    spread = 1.7 * world.law.std()
    truth = 1 - radius / spread  # margins are uniform, labels those of the smoothed classifier
    for seed in range(20):
        X = world.inputs(150, rng)
        y = (X @ world.normal > 0).astype(int)
        clf = fitted(world, noise, X, alpha=1e-4, common_noise=common_noise)
        record = clf.certificates(X, noise_seed=seed)
        correct = (record.label == y) & ~record.abstained & (record.radius >= radius)
        lower, _ = certified_accuracy_interval(
            correct.sum(), 150, certificate_alpha=1e-4, alpha=0.1, common_noise=common_noise
        )
        failed += lower > truth
    assert failed <= 5


@pytest.mark.parametrize("estimate", ["betting", "bernstein", "hoeffding"])
def test_accuracy_under_attack_is_bounded_with_every_estimate(estimate: str) -> None:
    check_accuracy_gap(estimate=estimate, bound="tight", n_repeats=30)


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("gaussian", "auto"),
        ("gaussian", "entropy"),
        ("gaussian", "total_variation"),
        ("laplace", "auto"),
        ("laplace", "collision"),
        ("uniform", "auto"),
    ],
)
def test_accuracy_under_attack_is_bounded_for_every_noise_and_bound(name: str, bound: str) -> None:
    check_accuracy_gap(name, bound=bound, n_repeats=30)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_agreement_of_votes_is_not_overestimated(n_classes: int) -> None:
    check_agreement(n_classes=n_classes)
