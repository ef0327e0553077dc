"""Random ablation: exactly uniform subsets, and what the base classifier sees of them."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.tree import DecisionTreeClassifier

from randsmooth import SmoothedClassifier
from randsmooth.bounds.ablation import ablation_probability_lower, ablation_radius
from randsmooth.noise.ablation import Ablation


class FewWords:
    """A generator whose words for keys repeat; those for ties do not."""

    def __init__(self, n_keys: int) -> None:
        self.source, self.n_keys = np.random.default_rng(0), n_keys

    def integers(self, low: int, high: int, **options: Any) -> np.ndarray:
        words = self.source.integers(low, high, **options)
        words[:, :-1] %= np.uint64(self.n_keys)
        return words


def subset_counts(draws: np.ndarray, k: int) -> list[int]:
    subsets = list(itertools.combinations(range(draws.shape[1]), k))
    rows = [tuple(np.flatnonzero(row)) for row in draws]
    return [rows.count(subset) for subset in subsets]


@pytest.mark.parametrize(("d", "k"), [(5, 2), (4, 1), (4, 3)])
def test_all_subsets_are_equally_likely(d: int, k: int) -> None:
    draws = Ablation(k).draw(4000, (d,), np.random.default_rng(0))
    assert stats.chisquare(subset_counts(draws, k)).pvalue > 1e-3


@pytest.mark.parametrize("n_keys", [1, 2, 3])
def test_all_subsets_are_equally_likely_where_many_keys_are_tied(n_keys: int) -> None:
    out = np.empty((4000, 5), dtype=np.float32)
    Ablation(2).fill_standard(out, FewWords(n_keys))  # type: ignore[arg-type]
    assert (out.sum(axis=1) == 2).all()
    assert stats.chisquare(subset_counts(out, 2)).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_draw_keeps_exactly_that_many(dtype: type) -> None:
    draws = Ablation(45).draw(500, (1, 28, 28), np.random.default_rng(1), dtype=dtype)
    assert draws.dtype == dtype
    assert set(np.unique(draws)) == {0, 1}
    assert (draws.sum(axis=(1, 2, 3)) == 45).all()
    assert (Ablation(3).draw(7, (3,), np.random.default_rng(0)) == 1).all()


def test_fewer_draws_are_a_prefix_of_more_and_pieces_are_the_whole() -> None:
    noise = Ablation(9)
    whole = noise.draw(900, (400,), np.random.default_rng(5))
    generator = np.random.default_rng(5)
    pieces = [noise.draw(n, (400,), generator) for n in (1, 700, 199)]
    assert np.array_equal(whole, np.concatenate(pieces))


def test_kept_features_pass_and_hidden_ones_are_filled() -> None:
    x = torch.arange(1.0, 7.0).reshape(2, 1, 3)
    draws = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])
    out = torch.empty(2, 2, 3)
    Ablation(1, fill=-1.0).corrupt(x, draws, out)
    expected = [[[1, -1, -1], [-1, 2, 3]], [[4, -1, -1], [-1, 5, 6]]]
    assert torch.equal(out, torch.tensor(expected, dtype=torch.float32))


def test_nan_can_stand_for_hidden_features() -> None:
    noisy = Ablation(2, fill=math.nan).corrupted(torch.ones(1, 3), torch.tensor([[1.0, 0.0, 1.0]]))
    assert noisy.isnan().tolist() == [[False, True, False]]
    assert Ablation(2, fill=float("nan")) == Ablation(2, fill=np.nan)


def test_whole_pixels_are_kept_or_hidden_with_all_channels() -> None:
    noise = Ablation(4, unit="pixel").for_inputs((3, 5, 6))
    assert noise.n_features == 30
    assert noise.draw_shape((3, 5, 6)) == (1, 5, 6)
    x = torch.rand(2, 1, 3, 5, 6) + 1
    draws = torch.from_numpy(noise.draw(10, (3, 5, 6), np.random.default_rng(0)))[None]
    out = torch.empty(2, 10, 3, 5, 6)
    noise.corrupt(x, draws, out)
    kept = out != 0
    assert (kept.sum(dim=(3, 4)) == 4).all()
    assert (kept == kept[:, :, :1]).all()


def test_bounds_count_the_features_or_pixels_of_the_inputs() -> None:
    for noise, shape in ((Ablation(5), (2, 5, 10)), (Ablation(5, unit="pixel"), (3, 10, 10))):
        fitted = noise.for_inputs(shape)
        size = {"n_features": 100, "n_kept": 5}
        assert fitted.certified_radius(0.99) == ablation_radius(0.99, **size)
        assert fitted.certified_radius(0.9, 0.01) == ablation_radius(0.9, 0.01, **size)
        assert fitted.probability_lower(0.9, 3) == ablation_probability_lower(0.9, 3, **size)
        assert fitted.for_inputs(shape) == fitted
        assert fitted.has_radius


def test_divergence_is_infinite_for_any_change() -> None:
    assert Ablation(2).renyi_divergence([0.0, 0.0], order=2) == 0
    assert Ablation(2).renyi_divergence([0.0, 0.1], order=2) == math.inf


@pytest.mark.slow
def test_ten_thousand_draws_for_an_image_take_little_time() -> None:
    started = time.perf_counter()
    Ablation(45).draw(10_000, (784,), np.random.default_rng(0))
    assert time.perf_counter() - started < 5


def test_trees_learn_from_missing_values() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 1000)
    X = (random.normal(size=(1000, 6)) / 4 + y[:, None]).astype(np.float32)
    noise = Ablation(2, fill=math.nan)
    noisy = noise.corrupted(torch.from_numpy(X), torch.from_numpy(noise.draw(1000, (6,), random)))
    trees = HistGradientBoostingClassifier(max_iter=20).fit(noisy.numpy()[:500], y[:500])
    assert trees.score(noisy.numpy()[500:], y[500:]) > 0.9


def test_broken_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^n_kept must be an integer, got 2\.0\.$"):
        Ablation(2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^n_kept must be at least 1, got 0\.$"):
        Ablation(0)
    with pytest.raises(ValueError, match=r"^n_features must be at least 1, got 0\.$"):
        Ablation(1, n_features=0)
    with pytest.raises(TypeError, match=r"^fill must be a real number, got 'x'\.$"):
        Ablation(1, fill="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^unit must be 'feature' or 'pixel', got 'row'\.$"):
        Ablation(1, unit="row")
    with pytest.raises(ValueError, match=r"^n_kept must be at most the number of features, 3, got"):
        Ablation(4, n_features=3)
    with pytest.raises(ValueError, match=r"^n_kept must be at most the number of pixels, 4, got 5"):
        Ablation(5, unit="pixel").for_inputs((3, 2, 2))
    with pytest.raises(ValueError, match=r"^unit must be 'feature' unless .* for \(4,\)\.$"):
        Ablation(1, unit="pixel").for_inputs((4,))
    with pytest.raises(
        ValueError, match=r"^n_features must be 4 for inputs of shape \(4,\), got 5"
    ):
        Ablation(1, n_features=5).for_inputs((4,))
    with pytest.raises(ValueError, match=r"^n_features must be known for a radius, got None\."):
        Ablation(1).certified_radius(0.9)
    with pytest.raises(ValueError, match=r"^n_features must be known for a radius, got None\."):
        Ablation(1).probability_lower(0.9, 1)


def test_certificates_hold_for_all_changes_of_as_many_features() -> None:
    points = np.array(list(itertools.product((0.0, 1.0), repeat=5)))
    subsets = np.array(
        [[float(i in kept) for i in range(5)] for kept in itertools.combinations(range(5), 1)]
    )
    seen = np.where(subsets == 1, points[:, None], 0.5).reshape(-1, 5)
    base = DecisionTreeClassifier(random_state=0).fit(seen, (seen == 1).any(axis=1))
    clf = SmoothedClassifier(
        FrozenEstimator(base), noise=Ablation(1, fill=0.5), n_selection=50, n_estimation=3000
    ).fit(points, points[:, 0])
    certificates = clf.certificates(points)
    assert np.array_equal(
        certificates.radius, ablation_radius(certificates.p_lower, n_features=5, n_kept=1)
    )
    exact = base.predict(seen).reshape(len(points), -1).mean(axis=1)
    assert (np.abs(exact - 0.5) <= np.abs(points.mean(axis=1) - 0.5) + 1e-12).all()
    label, distance = exact > 0.5, (points[:, None] != points).sum(axis=2)
    near = distance <= certificates.radius[:, None]
    assert (label == label[:, None])[near].all()
    assert certificates.radius.max() == 2
    # No radius could be larger: three changes of five turn the majority.
    assert not label[distance[-1] == 3].any()
    assert label[-1]


def test_learners_of_missing_values_are_trained_and_certified() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 300)
    X = random.normal(size=(300, 12)) / 4 + y[:, None]
    clf = SmoothedClassifier(
        HistGradientBoostingClassifier(max_iter=10),
        noise=Ablation(3, fill=math.nan),
        n_selection=20,
        n_estimation=500,
    ).fit(X, y)
    assert clf.noise_.n_features == 12
    certificates = clf.certificates(X[:20])
    assert (certificates.label == y[:20]).mean() > 0.9
    assert certificates.radius.max() >= 1
