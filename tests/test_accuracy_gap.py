"""Accuracy under attack through the estimator, against a classifier for which it is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from nets import Linear
from randsmooth import SmoothedClassifier
from randsmooth.exceptions import CertificationError
from randsmooth.noise import DeterministicSplitting, Gaussian, Laplace, Logistic, Noise, Uniform
from randsmooth.randomized_accuracy import _independent_votes

SIDES = Linear(torch.tensor([[-1.0], [1.0]]), torch.zeros(2))  # class 1 where x > 0


def fitted(noise: Noise | None = None, **params: Any) -> SmoothedClassifier:
    settings = {"n_selection": 20, "n_estimation": 20, "random_state": 0, **params}
    X = np.array([[-1.0], [1.0]], dtype=np.float32)
    clf = SmoothedClassifier(FrozenEstimator(SIDES), noise=noise or Gaussian(0.5), **settings)
    return clf.fit(X, [0, 1])


LAWS = {
    "gaussian": lambda scale: stats.norm(scale=scale),
    "laplace": lambda scale: stats.laplace(scale=scale),
    "logistic": lambda scale: stats.logistic(scale=scale),
    "uniform": lambda scale: stats.uniform(-scale, 2 * scale),
}


def true_accuracies(noise: Noise, epsilon: float) -> tuple[float, float]:
    """Return the accuracy without and with attack, where x is 0.6 plus a normal number.

    All labels are 1: a vote is right with probability F(x), and an attack moves x down.
    """
    law, density = LAWS[noise.name](noise.scale), stats.norm(0.6, 0.4).pdf
    return tuple(  # type: ignore[return-value]
        integrate.quad(lambda x, shift=shift: density(x) * law.cdf(x - shift), -3, 4, limit=200)[0]
        for shift in (0.0, epsilon)
    )


BOUNDS = {
    Gaussian(0.5): ("auto", "tight", "total_variation", "entropy"),
    Laplace(0.4): ("auto", "tight", "total_variation", "collision", "entropy"),
    Logistic(0.3): ("auto", "tight"),
    Uniform(0.8): ("auto", "tight", "total_variation"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "bound"), [(noise, bound) for noise, bounds in BOUNDS.items() for bound in bounds]
)
def test_gap_and_accuracy_hold_together_but_for_delta(noise: Noise, bound: str) -> None:
    epsilon, delta, n_runs = 0.3, 0.2, 60
    clf = fitted(noise)
    clean, attacked = true_accuracies(noise, epsilon)
    rng = np.random.default_rng(1)
    broken = 0
    for run in range(n_runs):
        X = rng.normal(0.6, 0.4, size=(60, 1)).astype(np.float32)
        record = clf.accuracy_gap(
            X, np.ones(60), epsilon, delta, bound=bound, noise_seed=run, estimate="bernstein"
        )
        broken += record.gap < clean - attacked or record.accuracy > attacked
    assert broken <= stats.binom.isf(1e-4, n_runs, delta)


def test_the_tight_bound_comes_close_where_the_worst_case_is_the_truth() -> None:
    clf = fitted(n_selection=100, n_estimation=300)
    clean, attacked = true_accuracies(Gaussian(0.5), 0.3)
    X = np.random.default_rng(0).normal(0.6, 0.4, size=(3000, 1)).astype(np.float32)
    record = clf.accuracy_gap(X, np.ones(3000), 0.3)
    assert record.bound == "tight"
    assert clean - attacked < record.gap < clean - attacked + 0.03
    assert attacked - 0.03 < record.accuracy < attacked
    assert record.gaps["tight"] < record.gaps["total_variation"] < record.gaps["entropy"]
    assert record.norm == "l2"


def test_no_two_inputs_share_noise_though_they_be_equal() -> None:
    X = np.array([[0.1]] * 3 + [[0.2]] + [[0.1]], dtype=np.float32)
    anchors, counts = _independent_votes(fitted(n_estimation=400, common_noise=True), X, None)
    shares = {tuple(row) for row in np.hstack([anchors, counts])}
    assert len(shares) == 5
    again = _independent_votes(fitted(n_estimation=400, common_noise=False), X, None)
    np.testing.assert_array_equal(again[1], counts)
    # Those of an input do not depend on the others.
    alone = _independent_votes(fitted(n_estimation=400), X[3:], None)
    np.testing.assert_array_equal(alone[1], counts[[3, 0]])


def test_labels_that_no_one_can_answer_are_wrong() -> None:
    X = np.full((200, 1), 3.0, dtype=np.float32) + np.arange(200)[:, None] / 1e3
    known = fitted().accuracy_gap(X, np.ones(200), 0.1)
    half = fitted().accuracy_gap(X, np.arange(200) % 2 * 7 + 1, 0.1)  # 1 and 8
    assert known.accuracy > 0.9
    assert half.accuracy < 0.5
    assert half.clean_accuracy == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epsilon": -0.1}, ValueError, r"^epsilon must be a finite number of at least 0, got -0"),
        ({"epsilon": math.nan}, ValueError, r"^epsilon must be a finite number .*got nan"),
        ({"epsilon": "a"}, ValueError, r"^epsilon must be a finite number .*got 'a'"),
        ({"delta": 0.0}, ValueError, r"^delta must lie strictly between 0 and 1, got 0\.0"),
        ({"delta": 1.5}, ValueError, r"^delta must lie strictly between 0 and 1, got 1\.5"),
        ({"bound": "best"}, ValueError, r"^bound must be one of 'auto', .*got 'best'"),
        ({"estimate": "clt"}, ValueError, r"^(estimate|method) must be"),
        ({"y": [1]}, ValueError, r"^y must have one entry per input, shape \(2,\), got shape"),
        ({"y": ["a", "b"]}, TypeError, r"labels of the same kind"),
        ({"noise_seed": -1}, ValueError, r"^noise_seed must be an integer"),
    ],
)
def test_questions_out_of_range_are_refused(
    change: dict[str, Any], error: Any, message: str
) -> None:
    question = {"y": [0, 1], "epsilon": 0.1, "delta": 0.05} | change
    with pytest.raises(error, match=message):
        fitted().accuracy_gap(np.array([[-1.0], [1.0]], dtype=np.float32), **question)


def test_bounds_that_the_noise_does_not_have_are_refused() -> None:
    X, y = np.array([[-1.0], [1.0]], dtype=np.float32), [0, 1]
    with pytest.raises(ValueError, match=r"^bound must be one that is available .*'entropy'"):
        fitted(Uniform(0.5)).accuracy_gap(X, y, 0.1, bound="entropy")
    clf = SmoothedClassifier(FrozenEstimator(SIDES), noise=DeterministicSplitting(0.5))
    with pytest.raises(ValueError, match=r"^noise must be drawn at random"):
        clf.fit(np.abs(X), y).accuracy_gap(np.abs(X), y, 0.1)


def test_a_noise_of_ones_own_is_bounded_by_what_it_knows() -> None:
    @dataclass(frozen=True)
    class Known(Gaussian):
        name = "known"

        def probability_lower(self, p_lower: Any, radius: Any) -> Any:
            return Noise.probability_lower(self, p_lower, radius)

    X = np.linspace(1, 2, 50, dtype=np.float32)[:, None]
    clf = SmoothedClassifier(
        FrozenEstimator(SIDES),
        noise=Known(0.5),
        bound=lambda low, up, sigma: low * 0,
        n_estimation=9,
    )
    record = clf.fit(X[[0, -1]] * [[-1], [1]], [0, 1]).accuracy_gap(X, np.ones(50), 0.1)
    assert set(record.gaps) == {"total_variation", "collision", "entropy"}


def test_an_unfitted_classifier_is_refused() -> None:
    with pytest.raises(NotFittedError):
        SmoothedClassifier().accuracy_gap([[0.0]], [0], 0.1)


def test_inputs_that_fail_are_named() -> None:
    class Breaks(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / (x < 50)

    module = FrozenEstimator(Breaks(torch.tensor([[-1.0], [1.0]]), torch.zeros(2)))
    X = np.array([[1.0], [1.0], [99.0]], dtype=np.float32)
    clf = fitted().set_params(estimator=module).fit(X, [0, 1, 1])
    with pytest.raises(CertificationError, match=r"rows \[2\]"):
        clf.accuracy_gap(X, [1, 1, 1], 0.1)
