"""Predictions that abstain, against the exact test and the true answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.frozen import FrozenEstimator

from nets import Linear
from randsmooth import SmoothedClassifier
from randsmooth.exceptions import TooFewDrawsWarning

SIDES = Linear(torch.tensor([[0.0], [1.0]]), torch.zeros(2))  # class 1 where x > 0


def fitted(y=(0, 1), **params):
    settings = {"sigma": 1.0, "n_selection": 100, "alpha": 0.05, "random_state": 0, **params}
    X = np.array([[-1.0], [1.0]], dtype=np.float32)
    return SmoothedClassifier(FrozenEstimator(SIDES), **settings).fit(X, np.array(y))


def test_it_abstains_exactly_where_the_binomial_test_does_not_reject_a_tie() -> None:
    clf = fitted()
    X = np.linspace(-1.5, 1.5, 41, dtype=np.float32)[:, None]
    answers = clf.predict(X, abstain=-1)
    votes = np.rint(clf.predict_proba(X) * 100).astype(int)
    expected = [stats.binomtest(int(v.max()), 100).pvalue > 0.05 for v in votes]
    np.testing.assert_array_equal(answers == -1, expected)
    assert 0 < np.mean(expected) < 1
    np.testing.assert_array_equal(answers[answers >= 0], clf.predict(X)[answers >= 0])


@pytest.mark.slow
def test_an_answer_is_wrong_at_most_alpha_of_the_time_next_to_a_tie() -> None:
    clf = fitted(common_noise=False, alpha=0.1)
    rng = np.random.default_rng(3)
    X = rng.uniform(0.001, 0.02, size=(3000, 1)).astype(np.float32)  # all of class 1
    wrong = clf.predict(X, abstain=-1) == 0
    assert wrong.sum() <= stats.binom.isf(1e-6, 3000, 0.1)
    assert wrong.sum() > 50  # the level is nearly used up where the classes are all but tied


def test_a_sentinel_of_text_may_be_longer_than_the_labels() -> None:
    clf = fitted(("ant", "bee"))
    X = np.array([[-3.0], [0.0], [3.0]], dtype=np.float32)
    assert clf.predict(X, abstain="cannot tell").tolist() == ["ant", "cannot tell", "bee"]


@pytest.mark.parametrize(
    ("y", "abstain", "error", "message"),
    [
        ((0, 1), 1, ValueError, r"^abstain must not be one of the classes, \[0, 1\], got 1\.$"),
        ((0, 1), "none", TypeError, r"^abstain must be of the kind of the classes, int64, got 'no"),
        (("a", "b"), -1, TypeError, r"^abstain must be of the kind of the classes, <U1, got -1"),
        ((0, 1), [-1, -1], ValueError, r"^abstain must be a single label, got \[-1, -1\]"),
    ],
)
def test_sentinels_that_could_be_mistaken_for_labels_are_refused(
    y, abstain, error, message
) -> None:
    with pytest.raises(error, match=message):
        fitted(y).predict(np.zeros((1, 1), dtype=np.float32), abstain=abstain)


def test_too_few_draws_to_ever_answer_are_said_aloud() -> None:
    message = r"^n_selection=5 draws can never tell .* alpha=0\.05.* smallest .* is 6\.$"
    with pytest.warns(TooFewDrawsWarning, match=message):
        answers = fitted(n_selection=5).predict([[9.0]], abstain=-1)
    assert answers.tolist() == [-1]
