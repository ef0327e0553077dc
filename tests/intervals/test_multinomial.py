"""Several proportions: joint intervals, and the top class against its runner-up."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import multinomial

from randsmooth.intervals import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    simultaneous_intervals,
    top_class_interval,
)

DISTRIBUTIONS = [
    (0.98, 0.01, 0.01),
    (0.7, 0.2, 0.1),
    (0.5, 0.5, 0.0),
    (0.4, 0.35, 0.25),
    (0.34, 0.33, 0.33),
    (0.2, 0.1, 0.7),
]


def outcomes(n: int) -> np.ndarray:
    """Every count vector of n votes for three classes."""
    return np.array(
        [(a, b, n - a - b) for a, b in itertools.product(range(n + 1), repeat=2) if a + b <= n]
    )


@pytest.mark.parametrize("p", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.6])
def test_simultaneous_intervals_cover_all_classes_jointly(p, n: int, alpha: float) -> None:
    counts = outcomes(n)
    lower, upper = simultaneous_intervals(counts, alpha=alpha)
    missed = ((lower > p) | (upper < p)).any(axis=-1)
    assert multinomial.pmf(counts[missed], n, p).sum() <= alpha


@pytest.mark.parametrize("p", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [5, 30])
@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.6])
@pytest.mark.parametrize("runner_up", [True, False])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_top_class_interval_covers_top_class_and_runner_up(
    p, n: int, alpha: float, runner_up: bool, label: int
) -> None:
    counts = outcomes(n)
    labels = np.full(len(counts), label)
    p_lower, p_upper = top_class_interval(counts, labels, alpha=alpha, runner_up=runner_up)
    missed = (p_lower > p[label]) | (p_upper < max(np.delete(p, label)))
    assert multinomial.pmf(counts[missed], n, p).sum() <= alpha


def test_top_class_interval_spends_nine_tenths_on_the_top_class() -> None:
    p_lower, p_upper = top_class_interval([40, 900, 60], 1, alpha=0.01)
    assert p_lower == clopper_pearson_lower(900, 1000, alpha=0.009)
    assert p_upper == pytest.approx(clopper_pearson_upper(60, 1000, alpha=0.001), rel=1e-12)


def test_top_class_interval_without_runner_up_spends_all_on_the_top_class() -> None:
    p_lower, p_upper = top_class_interval([40, 900, 60], 1, alpha=0.01, runner_up=False)
    assert p_lower == clopper_pearson_lower(900, 1000, alpha=0.01)
    assert p_upper == 1 - p_lower


def test_top_class_interval_of_no_votes_says_nothing() -> None:
    for runner_up in (True, False):
        p_lower, p_upper = top_class_interval(
            [[0, 0], [9, 0]], [0, 0], alpha=0.1, runner_up=runner_up
        )
        assert (p_lower[0], p_upper[0]) == (0.0, 1.0)
        assert p_lower[1] > 0.5 > p_upper[1]


def test_simultaneous_intervals_of_no_votes_say_nothing() -> None:
    lower, upper = simultaneous_intervals([[0, 0, 0], [1, 2, 3]], alpha=0.1)
    np.testing.assert_array_equal(lower[0], 0.0)
    np.testing.assert_array_equal(upper[0], 1.0)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.int64, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=st.integers(0, 500)
    ),
    st.floats(1e-6, 0.5),
    st.booleans(),
)
def test_top_class_interval_never_allows_more_than_the_complement(
    counts: np.ndarray, alpha: float, runner_up: bool
) -> None:
    p_lower, p_upper = top_class_interval(
        counts, counts.argmax(axis=1), alpha=alpha, runner_up=runner_up
    )
    assert ((p_lower >= 0) & (p_upper <= 1)).all()
    assert (p_upper <= np.nextafter(1 - p_lower, 2)).all()
    binary = top_class_interval(counts, counts.argmax(axis=1), alpha=alpha, runner_up=False)
    assert (p_lower <= binary[0]).all()


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e-3))
def test_top_class_interval_rounds_the_complement_up(alpha: float) -> None:
    p_lower, p_upper = top_class_interval([3, 50], 0, alpha=max(alpha, 1e-300), runner_up=False)
    assert Fraction(float(p_upper)) >= 1 - Fraction(float(p_lower))


def test_intervals_broadcast_over_leading_axes_and_give_scalars_for_one_row() -> None:
    counts = np.arange(24).reshape(2, 3, 4)
    lower, upper = simultaneous_intervals(counts, alpha=0.1)
    assert lower.shape == upper.shape == (2, 3, 4)
    p_lower, p_upper = top_class_interval(counts, 3, alpha=0.1)
    assert p_lower.shape == p_upper.shape == (2, 3)
    single = top_class_interval(counts[1, 2], 3, alpha=0.1)
    assert all(isinstance(end, np.float64) for end in single)
    assert single == (p_lower[1, 2], p_upper[1, 2])


@pytest.mark.parametrize(
    ("counts", "label", "error", "message"),
    [
        ([1, 2], 2, ValueError, r"^label must lie between 0 and 1, got 2\.$"),
        ([1, 2], -1, ValueError, r"^label must lie between 0 and 1, got -1\.$"),
        ([1, 2], 0.5, ValueError, r"^label must be integers, got 0\.5\.$"),
        ([1, 2], "a", TypeError, r"^label must be integers, got 'a'\.$"),
        (
            [[1, 2]],
            [0, 1],
            ValueError,
            r"^label must have one entry for each row of counts, shape \(1,\)",
        ),
        (
            [1],
            0,
            ValueError,
            r"^counts must have at least two classes .* got an array of shape \(1,\)\.$",
        ),
        (5, 0, ValueError, r"^counts must have at least two classes"),
        ([1, -2], 0, ValueError, r"^counts must be non-negative, got -2\.$"),
    ],
)
def test_top_class_interval_rejects_broken_arguments(counts, label, error, message: str) -> None:
    with pytest.raises(error, match=message):
        top_class_interval(counts, label, alpha=0.1)


@pytest.mark.parametrize(
    "intervals", [simultaneous_intervals, lambda c, alpha: top_class_interval(c, 0, alpha=alpha)]
)
def test_intervals_reject_alpha_outside_unit_interval(intervals) -> None:
    with pytest.raises(ValueError, match=r"^alpha must lie strictly between 0 and 1, got 1\.5\.$"):
        intervals([1, 2], alpha=1.5)


def test_simultaneous_intervals_reject_broken_counts() -> None:
    with pytest.raises(ValueError, match=r"^counts must be integers, got 1\.5\.$"):
        simultaneous_intervals([1.5, 2], alpha=0.1)
