"""The approximate intervals that published figures were made with."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randsmooth.intervals import sison_glaz_intervals


def exact_coverage(counts: list[int], c: int) -> mp.mpf:
    """nu(c) summed from the definition with 50 digits."""
    n = sum(counts)
    probability, cumulants = mp.mpf(1), [mp.mpf(0)] * 4
    for k in counts:
        window = range(max(k - c, 0), k + c + 1)
        weights = [mp.exp(-k) * mp.mpf(k) ** x / mp.factorial(x) for x in window]
        mass = mp.fsum(weights)
        mean = mp.fsum(w * x for w, x in zip(weights, window, strict=True)) / mass
        central = [
            mp.fsum(w * (x - mean) ** r for w, x in zip(weights, window, strict=True)) / mass
            for r in (2, 3, 4)
        ]
        probability *= mass
        terms = (mean, central[0], central[1], central[2] - 3 * central[0] ** 2)
        cumulants = [total + term for total, term in zip(cumulants, terms, strict=True)]
    z = (n - cumulants[0]) / mp.sqrt(cumulants[1])
    g1, g2 = cumulants[2] / cumulants[1] ** 1.5, cumulants[3] / cumulants[1] ** 2
    edgeworth = (
        1
        + g1 * (z**3 - 3 * z) / 6
        + g2 * (z**4 - 6 * z**2 + 3) / 24
        + g1**2 * (z**6 - 15 * z**4 + 45 * z**2 - 15) / 72
    )
    density = edgeworth * mp.npdf(z) / mp.sqrt(cumulants[1])
    return probability * density * mp.factorial(n) * mp.exp(n) / mp.mpf(n) ** n


@pytest.mark.parametrize(
    ("counts", "alpha"),
    [([23, 12, 44], 0.05), ([90, 8, 2, 0], 0.05), ([100, 60, 40], 0.001), ([60, 40], 0.95)],
)
def test_sison_glaz_intervals_follow_the_definition(counts: list[int], alpha: float) -> None:
    n, c = sum(counts), 0
    with mp.workdps(50):
        before, after = mp.mpf(0), exact_coverage(counts, 1)
        while after < 1 - alpha:
            c += 1
            before, after = after, exact_coverage(counts, c + 1)
        gamma = float((1 - mp.mpf(alpha) - before) / (after - before))
    lower, upper = sison_glaz_intervals(counts, alpha=alpha)
    shares = np.array(counts) / n
    np.testing.assert_allclose(lower, np.maximum(shares - c / n, 0), rtol=1e-12)
    np.testing.assert_allclose(upper, np.minimum(shares + (c + 2 * gamma) / n, 1), rtol=1e-9)


def test_sison_glaz_intervals_reproduce_the_published_example() -> None:
    # MultinomialCI for R, example of its manual: 23, 12 and 44 votes at 95 %.
    lower, _ = sison_glaz_intervals([23, 12, 44], alpha=0.05)
    np.testing.assert_allclose(lower, np.array([15, 4, 36]) / 79, rtol=1e-12)


@pytest.mark.parametrize("n", [100, 10_000, 100_000])
def test_sison_glaz_intervals_are_stable_up_to_a_hundred_thousand_votes(n: int) -> None:
    counts = [n - n // 10 - n // 50, n // 10, n // 50, 0]
    lower, upper = sison_glaz_intervals(counts, alpha=0.05)
    width = (upper - lower)[:2] * np.sqrt(n)
    # The limit is set by the two large shares, whose spread is about 0.3 / sqrt(n).
    assert ((width > 1.0) & (width < 1.6)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=2, max_size=6), st.floats(0.001, 0.9))
def test_sison_glaz_intervals_contain_the_shares(counts: list[int], alpha: float) -> None:
    lower, upper = sison_glaz_intervals(counts, alpha=alpha)
    assert ((lower >= 0) & (upper <= 1)).all()
    if sum(counts):
        shares = np.array(counts) / sum(counts)
        assert ((lower <= shares) & (shares <= upper)).all()


def test_sison_glaz_intervals_say_nothing_where_there_is_nothing_to_say() -> None:
    # No votes at all, and votes so few that the approximation stays below 1 - alpha.
    lower, upper = sison_glaz_intervals([[0, 0, 0], [3, 3, 3]], alpha=1e-4)
    np.testing.assert_array_equal(lower, 0.0)
    np.testing.assert_array_equal(upper, 1.0)


def test_sison_glaz_intervals_reject_broken_arguments() -> None:
    with pytest.raises(ValueError, match=r"^alpha must lie strictly between 0 and 1, got 0\.$"):
        sison_glaz_intervals([1, 2], alpha=0)
    with pytest.raises(ValueError, match=r"^counts must have at least two classes"):
        sison_glaz_intervals([1], alpha=0.1)
