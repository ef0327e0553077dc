"""What a run will take: arithmetic where all draws are made, simulation where a test stops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_digits

from randsmooth import SmoothedClassifier, estimate_cost, read_log


def test_without_radii_it_is_arithmetic() -> None:
    cost = estimate_cost(50_000, 1000.0, n_estimation=10_000, n_selection=100, n_workers=4)
    assert cost.draws_per_input == 10_100
    assert cost.n_draws == 505_000_000
    assert cost.worker_hours == pytest.approx(505_000 / 3600)
    assert cost.hours == pytest.approx(505_000 / 3600 / 4)
    assert str(cost) == (
        "505,000,000 draws (10,100 an input), 140.3 worker-hours, 35.1 hours with 4 workers"
    )


def test_it_foretells_what_a_sequential_run_takes() -> None:
    X, y = load_digits(return_X_y=True)
    clf = SmoothedClassifier(sigma=0.25, n_estimation=20_000, random_state=0).fit(X / 16, y)
    record = clf.certificates(X[:150] / 16, radii=[0.2])
    # Unbiased shares, from draws of their own.
    other = clf.set_params(n_estimation=2000).certificates(X[:150] / 16, noise_seed=1)
    shares = other.leading_counts()[0] / 2000
    cost = estimate_cost(
        150, 1.0, n_estimation=20_000, radii=[0.2], p_top=shares, sigma=0.25, n_selection=100
    )
    assert cost.draws_per_input == pytest.approx(100 + record.n_draws.mean(), rel=0.2)


def test_a_published_log_tells_what_a_test_set_takes(shared) -> None:
    log = read_log(shared / "reference/published/cohen2019_cifar10_resnet110_sigma_0.50.tsv")
    shares = np.where(log.label == -1, 0.5, norm.cdf(log.radius / 0.5))
    fixed = estimate_cost(10_000, 6500.0)
    early = estimate_cost(10_000, 6500.0, radii=[0.5], p_top=shares, sigma=0.5, alpha=0.001)
    assert fixed.draws_per_input / early.draws_per_input > 10


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n_inputs": 0}, "^n_inputs must be a positive integer, got 0"),
        ({"throughput": 0.0}, "^throughput must be positive and finite, got 0"),
        ({"n_workers": 1.5}, r"^n_workers must be a positive integer, got 1\.5"),
        ({"n_estimation": "many"}, "^n_estimation must be a positive integer, got 'many'"),
        ({"alpha": 2}, "^alpha must lie strictly between 0 and 1, got 2"),
        ({"radii": [0.5], "sigma": 0.5}, "^p_top must be given with radii"),
        ({"radii": [0.5], "sigma": 0.5, "p_top": [2.0]}, "^p_top must hold probabilities, got"),
        ({"radii": [-1.0], "sigma": 0.5, "p_top": [0.5]}, "^radii must be one or more finite"),
    ],
)
def test_bad_input_is_named(how, message) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_cost(**{"n_inputs": 10, "throughput": 100.0, **how})
