"""The scorer of certified accuracy: how it asks, what that costs, and what it must agree with."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from randsmooth import SmoothedClassifier, certified_accuracy_scorer
from randsmooth.certificates import Certificates
from randsmooth.exceptions import TooFewDrawsWarning
from randsmooth.noise import DeterministicSplitting

X, y = load_digits(return_X_y=True)
X = X / 16


class Recorded(SmoothedClassifier):
    """Keeps the records of its certifications, those of its clones included."""

    records: list[Certificates] = []  # noqa: RUF012 (shared on purpose, and emptied by every test)

    def certificates(self, X, *, radii=None, noise_seed=None):
        record = super().certificates(X, radii=radii, noise_seed=noise_seed)
        self.records.append(record)
        return record


@pytest.fixture
def records() -> list[Certificates]:
    Recorded.records.clear()
    return Recorded.records


@pytest.fixture(scope="module")
def fitted() -> Recorded:
    clf = Recorded(sigma=0.25, bound="binary", n_estimation=2000, random_state=0)
    return clf.fit(X[:1000], y[:1000])


@pytest.mark.parametrize("radius", [0.0, 0.1, 0.3])
def test_asking_about_the_radius_costs_few_draws_and_scores_as_the_fixed_number_does(
    fitted, records, radius: float
) -> None:
    rows = slice(1000, 1200)
    asked = certified_accuracy_scorer(radius)(fitted, X[rows], y[rows])
    fixed = certified_accuracy_scorer(radius, sequential=False)(fitted, X[rows], y[rows])
    assert records[0].radii is not None
    assert records[1].radii is None
    assert records[0].n_draws.mean() < 0.4 * records[1].n_draws.mean()
    # Of 200 inputs, few have a probability within the resolution of 2,000 draws of the threshold.
    assert asked == pytest.approx(fixed, abs=0.03)
    assert 0.3 < fixed < 1


def test_a_bound_with_a_runner_up_is_not_asked_for_the_binary_one(records) -> None:
    clf = Recorded(sigma=0.25, n_estimation=500, random_state=0).fit(X[:600], y[:600])
    full = certified_accuracy_scorer(0.1)(clf, X[600:700], y[600:700])
    cheap = certified_accuracy_scorer(0.1, sequential=True)(clf, X[600:700], y[600:700])
    assert [record.radii is None for record in records] == [True, False]
    assert cheap <= full


def test_two_classes_have_no_runner_up_to_lose(records) -> None:
    few = y < 2
    clf = Recorded(sigma=0.25, n_estimation=500, random_state=0).fit(X[few][:200], y[few][:200])
    scorer = certified_accuracy_scorer(0.3)
    asked = scorer(clf, X[few][200:], y[few][200:])
    fixed = certified_accuracy_scorer(0.3, sequential=False)(clf, X[few][200:], y[few][200:])
    assert records[0].radii is not None
    assert asked == pytest.approx(fixed, abs=0.03)


def doubled(p_lower, p_upper, *, sigma):
    return 2 * sigma * (np.asarray(p_lower) - np.asarray(p_upper)).clip(0)


@pytest.mark.parametrize("classes", [2, 10])
def test_a_bound_of_the_users_own_is_asked_as_it_always_was(records, classes: int) -> None:
    few = y < classes
    clf = Recorded(bound=doubled, n_estimation=500, random_state=0).fit(X[few][:200], y[few][:200])
    score = certified_accuracy_scorer(0.1)(clf, X[few][200:250], y[few][200:250])
    assert records[0].radii is None
    assert score == records[0].certified_accuracy(y[few][200:250], [0.1])[0]


@pytest.mark.parametrize("sequential", [True, False])
def test_noise_whose_outcomes_are_all_tried_scores_the_same_either_way(sequential: bool) -> None:
    rows = slice(1000, 1050)
    clf = SmoothedClassifier(noise=DeterministicSplitting(1.0, 16), random_state=0)
    images = np.round(X * 16) / 16
    clf = clf.fit(images[:1000], y[:1000])
    record = clf.certificates(images[rows])
    scorer = certified_accuracy_scorer(0.05, sequential=sequential)
    assert scorer(clf, images[rows], y[rows]) == record.certified_accuracy(y[rows], [0.05])[0]


def sixteenths(images):
    return images / 16


def test_a_grid_search_over_pipelines_asks_in_the_transformed_space(records) -> None:
    pipeline = make_pipeline(
        FunctionTransformer(sixteenths),
        Recorded(bound="binary", n_estimation=500, random_state=0),
    )
    search = GridSearchCV(
        pipeline,
        {"recorded__sigma": [0.25, 2.0]},
        scoring=certified_accuracy_scorer(0.15),
        cv=2,
        refit=False,
    ).fit(X[:400] * 16, y[:400])
    assert all(record.radii.tolist() == [0.15] for record in records)
    assert search.best_params_ == {"recorded__sigma": 0.25}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_radius_beyond_the_draws_is_said_aloud_and_scores_zero(fitted) -> None:
    with pytest.warns(TooFewDrawsWarning, match="can never certify radii"):
        score = certified_accuracy_scorer(1.5)(fitted, X[1000:1010], y[1000:1010])
    assert score == 0


class Plain(ClassifierMixin, BaseEstimator):
    """Somebody else's classifier, which knows `certificates(X)` alone."""

    def __init__(self, record=None):
        self.record = record

    def certificates(self, X):
        return self.record


def test_a_classifier_that_cannot_be_asked_about_radii_scores_as_before(fitted) -> None:
    record = fitted.certificates(X[1000:1050])
    expected = record.certified_accuracy(y[1000:1050], [0.2])[0]
    assert certified_accuracy_scorer(0.2)(Plain(record), X[1000:1050], y[1000:1050]) == expected


def test_a_scorer_says_how_it_asks_only_where_that_is_not_the_default() -> None:
    assert repr(certified_accuracy_scorer(0.5)) == "certified_accuracy_scorer(radius=0.5)"
    always = certified_accuracy_scorer(0.5, sequential=True)
    assert repr(always) == "certified_accuracy_scorer(radius=0.5, sequential=True)"
    assert always != certified_accuracy_scorer(0.5)


@pytest.mark.parametrize("sequential", ["yes", None, 2])
def test_another_way_of_asking_is_refused(sequential) -> None:
    with pytest.raises(ValueError, match=r"^sequential must be True, False or 'auto', got "):
        certified_accuracy_scorer(0.5, sequential=sequential)
