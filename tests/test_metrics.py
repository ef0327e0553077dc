"""What certificates say about a test set: hand-counted shares and exact coverage."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from randsmooth.certificates import certify_counts
from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper
from randsmooth.metrics import (
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_interval,
    certified_accuracy_scorer,
    n_invalid_upper,
)

ROWS = ([0, 1, 1, 0], [0, 1, 0, 0], [0.5, 0.2, 0.9, 0.0])


class Halfspace(ClassifierMixin, BaseEstimator):
    """Answers [x > threshold]; its counts make the margin in units of sigma the radius."""

    def __init__(self, threshold=0.0):
        self.threshold = threshold

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return (X[:, 0] > self.threshold).astype(int)

    def certificates(self, X):
        votes = np.array([[0, 10_000], [10_000, 0]])[1 - self.predict(X)]

        def margin(p_lower, p_upper, *, sigma):
            return np.abs(X[:, 0] - self.threshold)

        return certify_counts(votes, votes.copy(), sigma=1.0, bound=margin)


class TestCertifiedAccuracy:
    def test_row_counts_up_to_and_including_its_radius(self):
        above = np.nextafter(0.5, 1)
        assert certified_accuracy(*ROWS, [0.2, 0.21, 0.5, above]).tolist() == [0.5, 0.25, 0.25, 0]

    def test_row_of_radius_zero_counts_as_an_abstention(self):
        assert certified_accuracy(*ROWS, 0.0) == 0.5

    def test_row_of_radius_zero_counts_where_it_is_said_not_to_abstain(self):
        assert certified_accuracy(*ROWS, [0.0], abstained=[False] * 4).tolist() == [0.75]

    def test_abstention_counts_nowhere(self):
        abstained = [True, False, False, True]
        assert certified_accuracy(*ROWS, [0.0, 0.2], abstained=abstained).tolist() == [0.25, 0.25]

    def test_shape_is_that_of_the_radii_in_any_order(self):
        shares = certified_accuracy(*ROWS, [[0.4, 0.0], [0.2, 9.0]])
        assert shares.tolist() == [[0.25, 0.5], [0.5, 0.0]]
        assert certified_accuracy(*ROWS, 0.4).shape == ()

    def test_strings_are_labels_too(self):
        assert certified_accuracy(["a", "b"], ["a", "a"], [1.0, 1.0], [1.0]).tolist() == [0.5]

    @given(st.lists(st.tuples(st.booleans(), st.floats(0, 9)), min_size=1, max_size=30))
    def test_share_is_the_count_of_rows_one_by_one(self, rows):
        right = np.array([correct for correct, _ in rows], dtype=int)
        radius = np.array([length for _, length in rows])
        radii = np.append(radius, [0.0, 4.5])
        expected = [
            sum(c and length >= max(r, 5e-324) for c, length in rows) / len(rows) for r in radii
        ]
        shares = certified_accuracy(np.ones(len(rows), int), right, radius, radii)
        assert shares.tolist() == expected

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"y_true": [0, 1]}, r"y_true must have one entry per row, shape \(4,\), got"),
            ({"label": [0, 1]}, r"label must have one entry per row"),
            ({"radius": 1.0}, r"radius must have one entry per row, got shape \(\)"),
            ({"y_true": [], "label": [], "radius": []}, r"radius must have one entry per row"),
            ({"radius": [0, 1, -1, 0]}, "radius must be at least 0, got"),
            ({"radius": [0, 1, np.nan, 0]}, "radius must be at least 0, got"),
            ({"radii": [-0.1]}, r"radii must be at least 0, got \[-0.1\]"),
            ({"radii": [np.nan]}, r"radii must be at least 0, got \[nan\]"),
            ({"abstained": [True]}, "abstained must have one entry per row"),
        ],
    )
    def test_rows_that_do_not_fit_are_refused(self, change, message):
        given = dict(zip(("y_true", "label", "radius"), ROWS, strict=True)) | {"radii": [0.0]}
        with pytest.raises(ValueError, match=message):
            certified_accuracy(**(given | change))

    def test_labels_of_different_kinds_are_refused(self):
        with pytest.raises(TypeError, match="y_true and label must be labels of the same kind"):
            certified_accuracy(["0", "1"], [0, 1], [1.0, 1.0], [0.0])


class TestAverageCertifiedRadius:
    def test_wrong_rows_count_as_zero(self):
        assert average_certified_radius(*ROWS) == pytest.approx((0.5 + 0.2) / 4)

    def test_it_is_the_area_under_the_curve_of_certified_accuracy(self):
        grid = np.linspace(0, 1, 100_001)
        area = certified_accuracy(*ROWS, grid[1:]).sum() * grid[1]
        assert average_certified_radius(*ROWS) == pytest.approx(area, abs=1e-9)

    def test_infinite_radius_of_a_wrong_row_does_not_matter(self):
        assert average_certified_radius([0, 1], [0, 0], [1.0, np.inf]) == 0.5

    def test_constant_classifier_has_a_large_one(self):
        # Half the inputs of a coin toss, each at the largest radius there is.
        assert average_certified_radius([0, 1], [0, 0], [3.8, 3.8]) == 1.9


class TestInvalidCertificates:
    def test_published_setting_has_the_known_bound(self):
        # ImageNet, 500 inputs, alpha = rho = 0.001: q = 4.
        q = n_invalid_upper(500, certificate_alpha=0.001, alpha=0.001, common_noise=False)
        assert q == 4
        assert 0.458 - q / 500 == pytest.approx(0.450)

    @given(st.integers(1, 2000), st.floats(1e-6, 0.5), st.floats(1e-6, 0.5))
    def test_bound_is_the_smallest_that_holds_for_independent_rows(self, n, certificate, alpha):
        q = n_invalid_upper(n, certificate_alpha=certificate, alpha=alpha, common_noise=False)
        assert binom.sf(q, n, certificate) <= alpha * (1 + 1e-9)
        assert q == 0 or binom.sf(q - 1, n, certificate) > alpha * (1 - 1e-9)

    @given(st.integers(1, 2000), st.floats(1e-6, 0.5), st.floats(1e-6, 0.5))
    def test_bound_under_shared_noise_is_the_smallest_of_markov(self, n, certificate, alpha):
        q = n_invalid_upper(n, certificate_alpha=certificate, alpha=alpha)
        assert q == n or n * certificate / (q + 1) <= alpha * (1 + 1e-9)
        assert q == 0 or n * certificate / q > alpha * (1 - 1e-9)

    def test_shared_noise_can_fail_all_rows_at_once(self):
        # Ten certificates at level 0.06 may all fail together with probability 0.06 > 0.05.
        assert n_invalid_upper(10, certificate_alpha=0.06, alpha=0.05) == 10

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"n_rows": 0}, "n_rows must be at least 1, got 0"),
            ({"certificate_alpha": 1.0}, "certificate_alpha must lie strictly between 0 and 1"),
            ({"alpha": 1.0}, "alpha must lie strictly between 0 and 1, got 1.0"),
        ],
    )
    def test_settings_out_of_range_are_refused(self, change, message):
        with pytest.raises(ValueError, match=message):
            n_invalid_upper(**({"n_rows": 5, "certificate_alpha": 0.1} | change))

    def test_exact_certificates_are_all_valid(self):
        assert n_invalid_upper(10, certificate_alpha=0, alpha=0.05) == 0


class TestConfidenceInterval:
    @pytest.mark.parametrize("common_noise", [True, False])
    def test_exact_certificates_cost_the_sampling_of_the_test_set_alone(self, common_noise):
        lower, upper = certified_accuracy_interval(
            70, 100, certificate_alpha=0, common_noise=common_noise
        )
        assert lower == clopper_pearson_lower(70, 100, alpha=0.025)
        assert upper == clopper_pearson_upper(70, 100, alpha=0.025)

    @pytest.mark.slow
    @pytest.mark.parametrize("n_rows", [5, 60])
    def test_simultaneous_lower_ends_hold_at_every_radius_at_once(self, n_rows):
        """Exact certificates with uniform radii: the share at radius r is 1 - r."""
        alpha, n_runs = 0.2, 4000
        radii = np.sort(np.random.default_rng(0).random((n_runs, n_rows)), axis=1)
        # Just below the k-th smallest radius n - k + 1 rows are certified, just above it n - k.
        reaching = n_rows - np.arange(n_rows)
        settings = {"certificate_alpha": 0, "alpha": alpha, "simultaneous": True}
        lower, _ = certified_accuracy_interval(reaching, n_rows, **settings)
        _, upper = certified_accuracy_interval(reaching - 1, n_rows, **settings)
        broken = ((lower > 1 - radii) | (upper < 1 - radii)).any(axis=1)
        assert broken.sum() <= binom.isf(1e-6, n_runs, alpha)
        assert broken.sum() > 0.3 * alpha * n_runs
        pointwise, _ = certified_accuracy_interval(
            reaching, n_rows, certificate_alpha=0, alpha=alpha
        )
        assert (pointwise > 1 - radii).any(axis=1).mean() > alpha

    def test_simultaneous_allowances_are_those_of_a_single_radius(self):
        settings = {"certificate_alpha": 0.01, "alpha": 0.1, "simultaneous": True}
        exact, _ = certified_accuracy_interval(40, 50, **settings | {"certificate_alpha": 0})
        own, _ = certified_accuracy_interval(40, 50, **settings, common_noise=False)
        assert own == pytest.approx(exact - 0.01)
        shared, _ = certified_accuracy_interval(40, 50, **settings)
        assert shared == pytest.approx(0.8 - np.sqrt(np.log(1 / 0.01) / 100) - 0.01 / 0.04)

    def test_simultaneous_counts_above_the_rows_are_refused(self):
        with pytest.raises(ValueError, match=r"^n_correct must be at most n_rows, got 6 of 5\.$"):
            certified_accuracy_interval(6, 5, certificate_alpha=0.01, simultaneous=True)

    @pytest.mark.parametrize("m", [20, 300])
    @pytest.mark.parametrize("certificate_alpha", [0.001, 0.05])
    def test_independent_rows_cover_at_worst_case_failures(self, m, certificate_alpha):
        # Every certificate that may be invalid is: a row counts with probability v + alpha_c.
        counts = np.arange(m + 1)
        lower, _ = certified_accuracy_interval(
            counts, m, certificate_alpha=certificate_alpha, alpha=0.1, common_noise=False
        )
        for accuracy in np.linspace(0, 1 - certificate_alpha, 101):
            chances = binom.pmf(counts, m, accuracy + certificate_alpha)
            assert chances[lower > accuracy].sum() <= 0.05 * (1 + 1e-9)

    @pytest.mark.parametrize("m", [20, 300])
    @pytest.mark.parametrize("certificate_alpha", [1e-5, 0.001, 0.02])
    def test_shared_noise_covers_when_certificates_fail_together(self, m, certificate_alpha):
        # A bank of noise is bad with probability b; then a share alpha_c / b of all rows fails.
        counts = np.arange(m + 1)
        lower, _ = certified_accuracy_interval(
            counts, m, certificate_alpha=certificate_alpha, alpha=0.1
        )
        for bad in np.geomspace(certificate_alpha, 1, 20):
            for accuracy in np.linspace(0, 1, 21):
                missed = np.flatnonzero(lower > accuracy)
                inflated = min(1.0, accuracy + certificate_alpha / bad)
                chance = (1 - bad) * binom.pmf(missed, m, accuracy).sum()
                chance += bad * binom.pmf(missed, m, inflated).sum()
                assert chance <= 0.05 * (1 + 1e-9)

    @pytest.mark.parametrize("common_noise", [True, False])
    def test_upper_end_covers_the_share_that_the_procedure_certifies(self, common_noise):
        counts, m = np.arange(51), 50
        _, upper = certified_accuracy_interval(
            counts, m, certificate_alpha=0.001, alpha=0.1, common_noise=common_noise
        )
        for share in np.linspace(0, 1, 101):
            assert binom.pmf(counts, m, share)[upper < share].sum() <= 0.05 * (1 + 1e-9)

    def test_interval_holds_the_estimate_and_shared_noise_widens_it(self):
        own = certified_accuracy_interval(300, 500, certificate_alpha=0.001, common_noise=False)
        shared = certified_accuracy_interval(300, 500, certificate_alpha=0.001)
        assert shared[0] < own[0] < 0.6 < own[1] == shared[1]

    def test_interval_stays_within_zero_and_one(self):
        lower, upper = certified_accuracy_interval([0, 5], 5, certificate_alpha=0.01)
        assert lower[0] == 0
        assert upper[1] == 1

    @pytest.mark.parametrize(
        ("name", "value"), [("certificate_alpha", 1.0), ("alpha", 0.0), ("alpha", np.nan)]
    )
    def test_probabilities_out_of_range_are_refused(self, name, value):
        given = {"certificate_alpha": 0.001} | {name: value}
        with pytest.raises(ValueError, match=f"{name} must lie strictly between 0 and 1"):
            certified_accuracy_interval(3, 5, **given)


class TestScorer:
    X = np.array([[-2.0], [-0.5], [0.5], [2.0]])
    y = np.array([0, 0, 1, 1])

    def test_score_is_the_certified_accuracy_at_the_radius(self):
        clf = Halfspace().fit(self.X, self.y)
        assert certified_accuracy_scorer(0.5)(clf, self.X, self.y) == 1.0
        assert certified_accuracy_scorer(0.51)(clf, self.X, self.y) == 0.5
        assert certified_accuracy_scorer(0.5)(clf, self.X, 1 - self.y) == 0.0

    def test_last_step_of_a_pipeline_certifies_in_the_transformed_space(self):
        pipeline = make_pipeline(StandardScaler(), Halfspace()).fit(self.X, self.y)
        scaled_margin = 0.5 / self.X.std()
        assert certified_accuracy_scorer(scaled_margin - 0.01)(pipeline, self.X, self.y) == 1.0
        assert certified_accuracy_scorer(scaled_margin + 0.01)(pipeline, self.X, self.y) == 0.5

    def test_pipeline_of_one_step_is_the_step(self):
        pipeline = make_pipeline(Halfspace()).fit(self.X, self.y)
        assert certified_accuracy_scorer(0.51)(pipeline, self.X, self.y) == 0.5

    def test_grid_search_finds_the_threshold_with_the_largest_margin(self):
        X, y = np.tile(self.X, (5, 1)), np.tile(self.y, 5)
        search = GridSearchCV(
            Halfspace(),
            {"threshold": [-0.3, 0.0, 0.3]},
            scoring=certified_accuracy_scorer(0.4),
            cv=2,
        )
        assert clone(search).fit(X, y).best_params_ == {"threshold": 0.0}
        assert cross_val_score(Halfspace(), X, y, scoring=search.scoring, cv=2).tolist() == [1, 1]

    def test_scorer_can_be_pickled_cloned_and_compared(self):
        scorer = certified_accuracy_scorer(0.5)
        assert pickle.loads(pickle.dumps(scorer)) == scorer
        assert clone(scorer, safe=False) == scorer
        assert scorer != certified_accuracy_scorer(0.25)
        assert repr(scorer) == "certified_accuracy_scorer(radius=0.5)"

    @pytest.mark.parametrize("radius", [-0.1, np.inf, np.nan])
    def test_radius_out_of_range_is_refused(self, radius):
        with pytest.raises(ValueError, match="radius must be at least 0 and finite, got"):
            certified_accuracy_scorer(radius)

    @pytest.mark.parametrize("wrap", [lambda clf: clf, make_pipeline])
    def test_estimator_that_does_not_certify_is_refused(self, wrap):
        plain = wrap(LogisticRegression()).fit(self.X, self.y)
        with pytest.raises(TypeError, match="estimator must be a SmoothedClassifier, or a pipe"):
            certified_accuracy_scorer(0.5)(plain, self.X, self.y)
