"""Certified confidence through the estimator: against closed forms, and for its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtr
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from skorch import NeuralNetClassifier
from torch import nn

from nets import Linear
from randsmooth import Certificates, SmoothedClassifier, certify_scores
from randsmooth.bounds import distribution_confidence_lower
from randsmooth.certificates.confidence import ConfidenceCertificates
from randsmooth.exceptions import CertificationError, InvalidFileError
from randsmooth.intervals import order_statistic_thresholds
from randsmooth.noise import Ablation, Gaussian, GeneralizedGaussian, Laplace, Noise, Uniform

STEEP = Linear(torch.tensor([[0.0], [200.0]]), torch.zeros(2))  # probability 1 where x > 0


def fitted(estimator: Any = STEEP, **params: Any) -> SmoothedClassifier:
    settings = {
        "sigma": 0.5,
        "n_selection": 50,
        "n_estimation": 1000,
        "alpha": 0.05,
        "random_state": 0,
        **params,
    }
    X = np.array([[-1.0], [1.0]], dtype=np.float32)
    return SmoothedClassifier(FrozenEstimator(estimator), **settings).fit(X, [0, 1])


class Staircase(nn.Module):
    """Gives class 1 a probability that rises in steps, so that its expectation is known."""

    levels = torch.tensor([0.1, 0.4, 0.8, 0.95])
    cuts = torch.tensor([-0.5, 0.2, 0.7])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = self.levels[torch.bucketize(x[:, 0].contiguous(), self.cuts)]
        return torch.stack([1 - score, score], dim=1).log()

    def expected(self, x: np.ndarray, sigma: float) -> np.ndarray:
        edges = np.concatenate([[-np.inf], self.cuts.numpy(), [np.inf]])
        masses = np.diff(ndtr((edges - x[:, None]) / sigma), axis=1)
        return masses @ self.levels.double().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cdf", "mean"])
@pytest.mark.parametrize("measure", ["score", "margin"])
def test_expected_confidence_falls_below_its_bound_at_most_alpha_of_the_time(
    method: str, measure: str
) -> None:
    module, alpha, n = Staircase(), 0.1, 1500
    clf = fitted(module, n_estimation=200, alpha=alpha, common_noise=False)
    X = np.random.default_rng(0).uniform(0.6, 1.5, size=(n, 1)).astype(np.float32)
    record = clf.confidence_certificates(X, measure=measure)
    radii = np.array([0.0, 0.2, 0.5])
    bounds = record.lower_bound(radii, method=method)
    own = record.label == 1
    assert own.mean() > 0.95
    # The score rises with x, so that the worst point within a radius lies to the left.
    truth = np.stack([module.expected(X[:, 0] - r, 0.5) for r in radii], axis=1)
    if measure == "margin":
        truth = 2 * truth - 1
    broken = (bounds > truth).any(axis=1) & own
    assert broken.sum() <= stats.binom.isf(1e-6, n, alpha)
    assert bounds[own].mean() > -0.5


def test_bounds_of_a_step_are_those_of_its_probability() -> None:
    """Where scores are 0 or 1, the distribution tells no more than the share of ones."""
    clf = fitted()
    X = np.array([[0.6]], dtype=np.float32)
    record = clf.confidence_certificates(X)
    share = record.counts[0, 500] / 1000
    margin = np.sqrt(np.log(1 / 0.05) / 2000)
    expected = ndtr(stats.norm.ppf(share - margin) - 0.3 / 0.5)
    assert record.lower_bound(0.3)[0] == pytest.approx(expected, abs=2e-3)
    assert record.lower_bound(0.3, method="mean")[0] == pytest.approx(expected, abs=2e-3)
    assert record.radius(0.5)[0] == pytest.approx(0.5 * stats.norm.ppf(share - margin), abs=1e-2)


@pytest.mark.parametrize("noise", [Gaussian(0.5), Laplace(0.5), Uniform(0.5)])
def test_bounds_fall_with_the_radius_and_invert_to_radii(noise: Any) -> None:
    clf = fitted(Staircase(), noise=noise)
    X = np.linspace(0.5, 2, 7, dtype=np.float32)[:, None]
    record = clf.confidence_certificates(X)
    bounds = record.lower_bound([0.0, 0.1, 0.3, 0.6])
    assert (np.diff(bounds, axis=1) <= 0).all()
    for method in ("cdf", "mean"):
        radii = record.radius(0.5, method=method)
        certified = radii > 0
        assert certified.any()
        within = np.array([record.lower_bound(r, method=method)[i] for i, r in enumerate(radii)])
        beyond = np.array(
            [record.lower_bound(r + 1e-6, method=method)[i] for i, r in enumerate(radii)]
        )
        assert (within[certified] >= 0.5 - 1e-12).all()
        assert (beyond < 0.5).all()


def test_radii_in_l0_are_whole_numbers_that_may_change_themselves() -> None:
    X = np.eye(6)[:3] + 0.1 * np.arange(6)
    base = LogisticRegression(C=20).fit(X, [0, 1, 1])
    clf = SmoothedClassifier(FrozenEstimator(base), noise=Ablation(2), n_estimation=5000)
    record = clf.fit(X, [0, 1, 1]).confidence_certificates(X)
    for threshold in (0.1, 0.2, 0.4):
        radii = record.radius(threshold)
        assert (radii == np.floor(radii)).all()
        within = [record.lower_bound(r)[i] for i, r in enumerate(radii) if r > 0]
        beyond = [record.lower_bound(r + 1)[i] for i, r in enumerate(radii)]
        assert (np.array(within) >= threshold).all()
        assert (np.array(beyond) < threshold).all()
    first, second = (clf.certify_top_k(X, k) for k in (1, 2))
    assert (first == np.floor(first)).all()
    assert np.isinf(second).all()


def test_the_estimator_returns_what_its_record_says() -> None:
    clf = fitted(Staircase())
    X = np.linspace(0.5, 2, 5, dtype=np.float32)[:, None]
    record = clf.confidence_certificates(X, measure="margin")
    settings: dict[str, Any] = {"measure": "margin"}
    asked = [0.0, 0.25]
    np.testing.assert_array_equal(
        clf.certify_confidence(X, radius=asked, **settings), record.lower_bound(asked)
    )
    np.testing.assert_array_equal(
        clf.certify_confidence(X, radius=0.25, method="mean", **settings),
        record.lower_bound(0.25, method="mean"),
    )
    np.testing.assert_array_equal(
        clf.certify_confidence(X, threshold=0.1, **settings), record.radius(0.1)
    )
    np.testing.assert_array_equal(record.label, clf.predict(X))
    other = clf.certify_confidence(X, radius=0.25, noise_seed=5, **settings)
    assert (other != record.lower_bound(0.25)).any()


def test_coarser_thresholds_lose_no_more_than_a_cell() -> None:
    clf = fitted(LogisticRegression().fit([[-1.0], [1.0]], [0, 1]))
    X = np.linspace(-2, 2, 9)[:, None]
    fine = clf.certify_confidence(X, radius=0.2, n_thresholds=4096)
    coarse = clf.certify_confidence(X, radius=0.2, n_thresholds=16)
    assert (coarse <= fine + 1e-9).all()
    assert (fine - coarse <= 1 / 16 + 1e-9).all()


def test_certified_accuracy_counts_right_rows_above_the_threshold() -> None:
    clf = fitted(Staircase())
    X = np.array([[-2.0], [0.5], [2.0], [2.0]], dtype=np.float32)
    record = clf.confidence_certificates(X)
    y = [0, 1, 1, 0]
    above = record.lower_bound([0.0, 0.3]) > 0.5
    expected = (above & (record.label == y)[:, None]).mean(axis=0)
    np.testing.assert_array_equal(record.certified_accuracy(y, [0.0, 0.3]), expected)
    assert record.certified_accuracy(y, 0.3, threshold=0.999) == 0
    with pytest.raises(ValueError, match=r"^y must have one entry per row, shape \(4,\), got"):
        record.certified_accuracy([1], 0.0)


def test_the_record_says_what_it_is() -> None:
    record = fitted().confidence_certificates(np.ones((3, 1), dtype=np.float32), n_thresholds=8)
    expected = "ConfidenceCertificates(n_inputs=3, measure='score', n_draws=1000, norm='l2', "
    assert repr(record) == expected + "alpha=0.05)"
    assert len(record) == 3
    assert record.counts.shape == (3, 8)
    assert record.execution["common_noise"]
    with pytest.raises(ValueError, match="read-only"):
        record.mean[0] = 1


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, r"^radius or threshold must be given, and not both, got radius=None and thr"),
        ({"radius": 0.1, "threshold": 0.5}, r"^radius or threshold must be given, and not both"),
        ({"radius": 0.1, "measure": "entropy"}, r"^measure must be 'score' or 'margin', got 'ent"),
        ({"radius": 0.1, "method": "dkw"}, r"^method must be 'cdf' or 'mean', got 'dkw'"),
        ({"radius": 0.1, "n_thresholds": 0}, r"^n_thresholds must be an integer from 1 to .*got 0"),
        ({"radius": [-0.1]}, r"^radius must be"),
        ({"radius": [[0.1]]}, r"^radius must be a number or a list of them, got shape \(1, 1\)"),
        ({"threshold": 0.99}, r"^threshold must be at most 0\.96.*got 0\.99.*Draw at least"),
        ({"threshold": 1.5}, r"^threshold must"),
    ],
)
def test_questions_out_of_range_are_refused(question: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted().certify_confidence(np.ones((1, 1), dtype=np.float32), **question)


def test_a_base_without_probabilities_is_refused() -> None:
    X, y = np.array([[-1.0], [1.0]]), [0, 1]
    with pytest.raises(TypeError, match=r"^estimator must have predict_proba where scores"):
        fitted(LinearSVC().fit(X, y)).certify_confidence(X, radius=0.1)
    piped = make_pipeline(StandardScaler(), LinearSVC()).fit(X, y)
    with pytest.raises(TypeError, match=r"(?s)predict_proba .*CalibratedClassifierCV"):
        fitted(piped).certify_confidence(X, radius=0.1)


def test_a_noise_that_knows_radii_alone_is_refused_before_anything_is_drawn() -> None:
    class Known(Gaussian):
        name = "known"

        def probability_lower(self, p_lower: Any, radius: Any) -> Any:
            return Noise.probability_lower(self, p_lower, radius)

    X = np.ones((1, 1), dtype=np.float32)
    clf = fitted(noise=Known(0.5), bound=lambda low, up, sigma: low * 0)
    questions = [
        lambda: clf.certify_confidence(X, radius=0.1),
        lambda: clf.confidence_certificates(X),
        lambda: clf.certify_top_k(X, 1),
    ]
    for ask in questions:
        with pytest.raises(ValueError, match=r"^noise must know how far .*override probability_l"):
            ask()


def test_a_failure_probability_above_one_half_is_refused_before_anything_is_drawn() -> None:
    clf = fitted(alpha=0.6)
    with pytest.raises(ValueError, match=r"^alpha must be at most 0\.5, .*got 0\.6"):
        clf.confidence_certificates(np.ones((1, 1), dtype=np.float32))


def test_scores_that_are_no_probabilities_are_refused() -> None:
    net = NeuralNetClassifier(STEEP, criterion=nn.MultiMarginLoss).initialize()
    with pytest.raises(ValueError, match=r"^estimator must give probabilities, .* got scores from"):
        fitted(net).certify_confidence(np.ones((1, 1), dtype=np.float32), radius=0.1)


def test_inputs_that_fail_are_named_and_the_others_kept() -> None:
    class Breaks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, torch.where(x > 50, torch.nan, -x)], dim=1)

    X = np.array([[1.0], [60.0], [2.0]], dtype=np.float32)
    clf = fitted(Breaks())
    with pytest.raises(CertificationError, match=r"rows \[1\]") as caught:
        clf.certify_confidence(X, radius=0.1)
    record = caught.value.certificates
    assert isinstance(record, ConfidenceCertificates)
    assert record.lower_bound(0.1)[1] == 0
    assert (record.lower_bound(0.1)[[0, 2]] > 0.5).all()


@pytest.mark.parametrize(("measure", "low"), [("score", 0.0), ("margin", -1.0)])
def test_scores_of_others_give_the_bounds_of_their_thresholds(measure: str, low: float) -> None:
    scores = low + (1 - low) * np.random.default_rng(0).beta(5, 1, size=(3, 2000))
    settings: dict[str, Any] = {"sigma": 0.25, "alpha": 0.01, "measure": measure}
    every = certify_scores(scores, ["a", "b", "a"], **settings)
    fewer = certify_scores(scores, ["a", "b", "a"], n_thresholds=50, **settings)
    thresholds, counts = order_statistic_thresholds(scores, low=low)
    expected = distribution_confidence_lower(
        counts, thresholds, 2000, [0.0, 0.3], sigma=0.25, alpha=0.01, low=low
    )
    np.testing.assert_allclose(every.lower_bound([0.0, 0.3]), expected, rtol=1e-9)
    assert fewer.counts.shape == (3, 50)
    loss = every.lower_bound([0.0, 0.3]) - fewer.lower_bound([0.0, 0.3])
    assert (loss > 0).all()
    assert (loss < 0.03 * (1 - low)).all()
    assert (every.mean <= scores.mean(axis=1)).all()
    np.testing.assert_allclose(every.mean, scores.mean(axis=1), atol=1e-9)
    assert every.classes.tolist() == ["a", "b"]
    # With every score for a threshold, the mean never tells more.
    by_mean = every.lower_bound([0.0, 0.3], method="mean")
    assert (by_mean <= every.lower_bound([0.0, 0.3]) + 1e-8).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [0.5, 0.5]}, r"^scores must have shape \(n_rows, n_draws\) with one label"),
        ({"label": [0, 1]}, r"^scores must have shape .* got shapes \(1, 2\) and \(2,\)"),
        ({"scores": [[0.5, 1.5]]}, r"^scores must .*1\.5"),
        ({"scores": [[0.5, np.nan]]}, r"^scores must .*nan"),
        ({"alpha": 0.0}, r"^alpha must lie strictly between 0 and 1, got 0\.0"),
        ({"measure": "odds"}, r"^measure must be 'score' or 'margin', got 'odds'"),
        ({"n_thresholds": 0}, r"^n_thresholds must"),
    ],
)
def test_scores_of_others_are_checked(change: dict[str, Any], message: str) -> None:
    question: dict[str, Any] = {"scores": [[0.5, 0.6]], "label": [0], "sigma": 0.5} | change
    with pytest.raises(ValueError, match=message):
        certify_scores(**question)


@pytest.mark.parametrize("noise", [Gaussian(0.5), GeneralizedGaussian(0.5, exponent=3)])
def test_a_saved_record_comes_back_exactly(noise: Any, tmp_path: Any) -> None:
    X = np.linspace(0.5, 2, 5, dtype=np.float32)[:, None]
    record = fitted(Staircase(), noise=noise).confidence_certificates(X, measure="margin")
    record.save(tmp_path / "record.npz")
    loaded = ConfidenceCertificates.load(tmp_path / "record.npz")
    assert loaded.facts == record.facts
    assert loaded.noise == noise
    for name in ("label", "thresholds", "counts", "mean", "classes"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(record, name))
    np.testing.assert_array_equal(loaded.lower_bound([0, 0.1]), record.lower_bound([0, 0.1]))
    with pytest.raises(InvalidFileError, match=r"holds 'randsmooth.ConfidenceCertificates', not"):
        Certificates.load(tmp_path / "record.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "record.npz").read_bytes()[:300])
    with pytest.raises(InvalidFileError, match=r"not a file that ConfidenceCertificates\.save"):
        ConfidenceCertificates.load(tmp_path / "torn.npz")


def test_fields_that_contradict_each_other_are_refused() -> None:
    record = fitted().confidence_certificates(np.ones((3, 1), dtype=np.float32), n_thresholds=8)
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"^counts must have one row per label and one column"):
        ConfidenceCertificates(**fields | {"mean": np.zeros(2)})
