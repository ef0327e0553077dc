"""Lines under convex bounds on shifted probabilities, and the samples that follow from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from randsmooth.bounds.supporting_lines import (
    supporting_line,
    tight_accuracy_samples,
    tight_gap_samples,
)


def gaussian(p, radius):
    return ndtr(ndtri(p) - radius) * (1 - 1e-11)


def laplace(p, radius):
    p = np.asarray(p)
    grown = (1 - p) * np.exp(radius)
    beyond = np.exp(-radius) / (4 * np.maximum(1 - p, 1e-300))
    high = np.where(grown <= 0.5, 1 - grown, beyond)
    return np.where(p <= 0.5, p * np.exp(-radius), high) * (1 - 1e-12)


def uniform(p, radius):
    return np.maximum(p - radius / 2, 0.0)


NOISES = pytest.mark.parametrize("noise", [gaussian, laplace, uniform])


@NOISES
@pytest.mark.parametrize("radius", [0.0, 0.01, 0.5, 1.3, 5.0])
def test_supporting_line_is_nowhere_above_and_close_at_its_anchor(noise, radius: float) -> None:
    anchors = np.concatenate([[1e-4], np.linspace(0.01, 0.99, 99), [1 - 1e-4]])
    value, slope = supporting_line(anchors, radius, probability_lower=noise)
    p = np.linspace(0, 1, 2001)
    line = value[:, None] + slope[:, None] * (p - anchors[:, None])
    assert (line <= noise(p, radius)).all()
    assert (slope >= 0).all()
    assert (noise(anchors, radius) - value)[1:-1].max() <= 1e-5


def test_supporting_line_has_the_slope_of_the_bound() -> None:
    anchors = np.linspace(0.05, 0.95, 19)
    _, slope = supporting_line(anchors, 0.5, probability_lower=gaussian)
    np.testing.assert_allclose(slope, np.exp(0.5 * ndtri(anchors) - 0.125), rtol=1e-3)


def test_supporting_line_withstands_the_rounding_that_it_allows_for() -> None:
    rng = np.random.default_rng(1)

    def rounded(p, radius):
        return gaussian(p, radius) * (1 - 9e-10 * rng.random(np.shape(p)))

    anchors, p = np.linspace(0.01, 0.99, 99), np.linspace(0, 1, 2001)
    value, slope = supporting_line(anchors, 0.1, probability_lower=rounded)
    assert (value[:, None] + slope[:, None] * (p - anchors[:, None]) <= gaussian(p, 0.1)).all()


@NOISES
@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_tight_samples_are_on_the_safe_side_for_every_anchor_and_share(noise, n: int) -> None:
    k, p = np.arange(n + 1), np.linspace(0, 1, 101)
    pmf = binom.pmf(k, n, p[:, None])
    for attack in (0.1, 0.7, 3.0):
        for anchor in (0.0, 0.01, 0.333, 0.5, 0.987, 1.0):
            anchors = np.full(n + 1, anchor)
            lost, high = tight_gap_samples(k / n, anchors, attack, probability_lower=noise)
            left, low = tight_accuracy_samples(k / n, anchors, attack, probability_lower=noise)
            assert (lost >= 0).all()
            assert (lost <= high).all()
            assert (left >= low).all()
            assert (left <= 1).all()
            assert (pmf @ lost >= p - noise(p, attack) - 1e-13).all()
            assert (pmf @ left <= noise(p, attack) + 1e-13).all()


@pytest.mark.parametrize("anchor", [0.0, 1.0])
def test_anchors_at_the_ends_are_rejected(anchor: float) -> None:
    with pytest.raises(ValueError, match=r"^anchor must lie strictly between 0 and 1, got "):
        supporting_line(anchor, 0.1, probability_lower=gaussian)
