"""Random flips: their law is the one that the certificate is of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.tree import DecisionTreeClassifier

from randsmooth import SmoothedClassifier
from randsmooth.bounds.flips import flips_probability_lower, flips_radius
from randsmooth.noise.flips import Flips

WORDS = 1 << 24


def all_words(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(WORDS, dtype=dtype)[:, None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p_add", "p_del", "n_categories", "dtype"),
    [
        (0.1, None, 2, torch.float32),
        (0.013, 0.6, 2, torch.float64),
        (0.3, None, 3, torch.float32),
        (0.2, 0.77, 5, torch.float32),
        (0.0, 1.0, 4, torch.float64),
    ],
)
def test_all_words_together_have_the_certified_law_exactly(
    p_add: float, p_del: float | None, n_categories: int, dtype: torch.dtype
) -> None:
    noise = Flips(p_add, p_del, n_categories)
    for value in (0, n_categories - 1):
        each = noise.law.from_other if value else noise.law.from_zero
        noisy = torch.empty(1, WORDS, 1, dtype=dtype)
        x = torch.full((1, 1, 1), value, dtype=dtype)
        noise.corrupt(x, all_words(dtype)[None], noisy)
        counts = torch.bincount(noisy.long().ravel(), minlength=n_categories)
        expected = torch.full((n_categories,), each)
        expected[value] = WORDS - (n_categories - 1) * each
        assert torch.equal(counts, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_are_uniform_integers(dtype: type) -> None:
    draws = Flips(0.1).draw(1000, (5, 20), np.random.default_rng(0), dtype=dtype)
    assert draws.dtype == dtype
    assert (draws == np.floor(draws)).all()
    assert 0 <= draws.min()
    assert draws.max() < WORDS
    for part in (draws.astype(np.int64) >> 20, draws.astype(np.int64) & 15):
        assert stats.chisquare(np.bincount(part.ravel(), minlength=16)).pvalue > 1e-3


def test_draws_on_a_device_are_uniform_integers() -> None:
    draws = torch.empty(100_000)
    assert Flips(0.1).fill_standard_on_device(draws, torch.Generator().manual_seed(0))
    assert torch.equal(draws, draws.floor())
    assert 0 <= draws.min()
    assert draws.max() < WORDS
    for part in (draws.long() >> 20, draws.long() & 15):
        assert stats.chisquare(np.bincount(part.numpy(), minlength=16)).pvalue > 1e-3


def test_fewer_draws_are_a_prefix_of_more_and_pieces_are_the_whole() -> None:
    noise = Flips(0.1)
    whole = noise.draw(100, (7,), np.random.default_rng(5))
    generator = np.random.default_rng(5)
    pieces = [noise.draw(n, (7,), generator) for n in (1, 70, 29)]
    assert np.array_equal(whole, np.concatenate(pieces))


def test_rows_and_shared_draws_broadcast() -> None:
    noise = Flips(0.3, 0.5, 3)
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    draws = torch.from_numpy(noise.draw(50, (2,), np.random.default_rng(0)))
    out = torch.empty(2, 50, 2)
    noise.corrupt(x[:, None], draws[None], out)
    for row, rows in zip(x, out, strict=True):
        assert torch.equal(rows, noise.corrupted(row.expand(50, 2).clone(), draws))
    assert set(out.unique().tolist()) == {0, 1, 2}


def test_bounds_are_those_of_the_law_and_the_number_of_features() -> None:
    noise = Flips(0.3, 0.45, 3).for_inputs((2, 2))
    law = {"p_add": 0.3, "p_del": 0.45, "n_categories": 3, "n_features": 4}
    assert noise.parameters == law
    assert noise.for_inputs((4,)) == noise
    assert noise.has_radius
    p = np.array([0.7, 0.9, 0.99999])
    assert np.array_equal(noise.certified_radius(p), flips_radius(p, **law))
    assert np.array_equal(noise.certified_radius(p, 0.0), flips_radius(p, 0.0, **law))
    assert np.array_equal(noise.probability_lower(p, 2), flips_probability_lower(p, 2, **law))
    assert Flips(0.2) == Flips(0.2, 0.2, 2)


@pytest.mark.parametrize("order", [1, 1.5, 4, math.inf])
def test_divergence_is_that_of_two_rows_of_the_transition_matrix(order: float) -> None:
    def divergence(p: list[float], q: list[float]) -> float:
        ratios = np.log(p) - np.log(q)
        if order == 1:
            return float(np.sum(p * ratios))
        if order == math.inf:
            return float(ratios.max())
        return float(np.log(np.sum(np.array(p) * np.exp((order - 1) * ratios))) / (order - 1))

    binary = Flips(0.25, 0.5)
    zero, one = [0.75, 0.25], [0.5, 0.5]
    both = divergence(zero, one) + divergence(one, zero)
    assert binary.renyi_divergence([1, 0, -1], order=order) == pytest.approx(both, rel=1e-12)
    many = Flips(0.375, 0.75, 4)
    rows = np.full((4, 4), 0.25)
    rows[0] = [0.625, 0.125, 0.125, 0.125]
    for shift in (-3, -1, 1, 2, 3):
        worst = max(divergence(rows[x], rows[x + shift]) for x in range(4) if 0 <= x + shift < 4)
        assert many.renyi_divergence(shift, order=order) == pytest.approx(worst, rel=1e-12)
    same = Flips(0.375, None, 4).renyi_divergence([1, 2], order=order)
    one_of_them = divergence([0.625, 0.125, 0.125, 0.125], [0.125, 0.625, 0.125, 0.125])
    assert same == pytest.approx(2 * one_of_them, rel=1e-12)


def test_divergence_of_impossible_shifts_and_of_certain_features_is_infinite() -> None:
    assert Flips(0.1).renyi_divergence([0.0], order=2) == 0
    assert Flips(0.1).renyi_divergence([0.5], order=2) == math.inf
    assert Flips(0.1).renyi_divergence([2.0], order=2) == math.inf
    assert Flips(0.0, 0.5).renyi_divergence([1.0], order=2) == pytest.approx(math.log(2))
    assert Flips(0.0, 0.5).renyi_divergence([-1.0], order=2) == math.inf


def test_inputs_that_are_no_categories_are_refused() -> None:
    Flips(0.1, n_categories=3).check_inputs(np.array([[0.0, 1.0, 2.0]], dtype=np.float32))
    for value, text in ((3.0, "3.0"), (0.5, "0.5"), (-1.0, "-1.0"), (math.nan, "nan")):
        with pytest.raises(ValueError, match=rf"^X must hold integers from 0 to 2, got {text}\."):
            Flips(0.1, n_categories=3).check_inputs(np.array([[0.0, value]]))


def test_broken_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^p_del must lie in \[0, 1\], got -1\.$"):
        Flips(0.1, -1)
    with pytest.raises(ValueError, match=r"^n_features must be at least 1, got 0\.$"):
        Flips(0.1, n_features=0)
    with pytest.raises(TypeError, match=r"^n_features must be an integer, got 1\.5\.$"):
        Flips(0.1, n_features=1.5)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"^n_features must be 4 for inputs of shape \(4,\), got 5"
    ):
        Flips(0.1, n_features=5).for_inputs((4,))


@pytest.mark.parametrize("noise", [Flips(0.1, 0.3), Flips(0.2)])
def test_certificates_hold_for_all_changes_of_as_many_features(noise: Flips) -> None:
    points = np.array(list(itertools.product((0.0, 1.0), repeat=6)))
    base = DecisionTreeClassifier(random_state=0).fit(points, points.sum(axis=1) > 2)
    clf = SmoothedClassifier(
        FrozenEstimator(base), noise=noise, n_selection=50, n_estimation=3000
    ).fit(points, points[:, 0])
    certificates = clf.certificates(points)
    law = noise.for_inputs((6,)).parameters
    assert np.array_equal(certificates.radius, flips_radius(certificates.p_lower, **law))
    flipped = np.where(points == 1, noise.law.from_other, noise.law.from_zero) / WORDS
    same = points[:, None] == points
    chances = np.where(same, 1 - flipped[:, None], flipped[:, None]).prod(axis=2)
    label, distance = chances @ base.predict(points) > 0.5, (~same).sum(axis=2)
    near = distance <= certificates.radius[:, None]
    assert (label == label[:, None])[near].all()
    assert certificates.radius.max() >= 1
    assert not (label == label[:, None]).all()


def test_the_base_is_trained_on_flipped_rows() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 300)
    X = (random.random((300, 15)) < np.where(y, 0.9, 0.1)[:, None]).astype(float)
    clf = SmoothedClassifier(
        DecisionTreeClassifier(max_depth=4, random_state=0),
        noise=Flips(0.05, 0.2),
        n_selection=20,
        n_estimation=500,
    ).fit(X, y)
    assert clf.noise_.n_features == 15
    assert (clf.certificates(X[:20]).label == y[:20]).mean() > 0.8
    with pytest.raises(ValueError, match=r"^X must hold integers from 0 to 1, got 0\.5\."):
        clf.certificates(np.full((1, 15), 0.5))
