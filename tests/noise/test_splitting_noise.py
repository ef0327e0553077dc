"""Splitting noise: the map, how often it tells inputs apart, and the exact certificate."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.tree import DecisionTreeClassifier

from randsmooth import SmoothedClassifier
from randsmooth.noise.splitting import DeterministicSplitting, Splitting


def split_value(x: Fraction, offset: Fraction, width: Fraction) -> Fraction:
    """Return the middle of the cell of a coordinate, cut to [0, 1]."""
    cell = math.ceil((x - offset) / width)
    start, end = offset + width * (cell - 1), offset + width * cell
    return (min(end, Fraction(1)) + max(start, Fraction(0))) / 2


def split_all(noise: DeterministicSplitting, X: np.ndarray) -> np.ndarray:
    """Return what the base sees of all inputs in all outcomes."""
    draws = np.empty((noise.n_outcomes, *X.shape[1:]), dtype=X.dtype)
    noise.fill_outcomes(draws, 0, noise.n_outcomes)
    out = torch.empty(len(X), *draws.shape, dtype=torch.from_numpy(X).dtype)
    noise.corrupt(torch.from_numpy(X)[:, None], torch.from_numpy(draws)[None], out)
    return out.numpy()


# -- random offsets --------------------------------------------------------------------------------


@pytest.mark.parametrize("half_width", [0.5, 0.75, 2.0, 0.25, 0.0625, 0.3])
def test_noisy_values_are_the_middles_of_cells(half_width: float) -> None:
    noise, width = Splitting(half_width), 2 * Fraction(half_width)
    x = np.linspace(0, 1, 33)
    draws = noise.draw(60, (33,), np.random.default_rng(0), dtype=np.float64)
    out = torch.empty(1, 60, 33, dtype=torch.float64)
    noise.corrupt(torch.from_numpy(x)[None, None], torch.from_numpy(draws)[None], out)
    assert 0 <= draws.min()
    assert draws.max() <= width
    for row, offsets in zip(out[0].numpy(), draws, strict=True):
        for value, place, offset in zip(row, x, offsets, strict=True):
            exact = split_value(Fraction(place), Fraction(offset), width)
            assert value == pytest.approx(float(exact), abs=1e-15)


@pytest.mark.parametrize("half_width", [0.5, 1.0, 0.125])
def test_neighbours_are_told_apart_as_often_as_their_distance_over_the_width(
    half_width: float,
) -> None:
    noise = Splitting(half_width)
    x, y = torch.tensor([[[0.2, 0.7]]]), torch.tensor([[[0.25, 0.69]]])
    draws = torch.from_numpy(noise.draw(20_000, (2,), np.random.default_rng(0)))[None]
    seen = [torch.empty(1, 20_000, 2) for _ in range(2)]
    noise.corrupt(x, draws, seen[0])
    noise.corrupt(y, draws, seen[1])
    apart = (seen[0] != seen[1])[0].float().mean(dim=0)
    assert apart.tolist() == pytest.approx([0.025 / half_width, 0.005 / half_width], rel=0.15)


def test_draws_on_a_device_are_uniform() -> None:
    draws = torch.empty(10_000)
    assert Splitting(1.0).fill_standard_on_device(draws, torch.Generator().manual_seed(0))
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1


def test_radius_and_shifted_probability_are_those_of_the_half_width() -> None:
    for noise in (Splitting(1.5), DeterministicSplitting(1.5, levels=10)):
        assert noise.has_radius
        assert noise.norm == "l1"
        assert not noise.additive
        assert noise.certified_radius(0.9, 0.05) == pytest.approx(1.5 * 0.85, rel=1e-9)
        assert noise.certified_radius(0.9, 0.05) <= 1.5 * 0.85
        assert noise.probability_lower(0.9, 0.6) == pytest.approx(0.7, rel=1e-9)
        assert noise.renyi_divergence([0.0], order=2) == 0
        assert noise.renyi_divergence([0.1], order=2) == math.inf


def test_inputs_outside_the_unit_interval_are_refused() -> None:
    Splitting(1.0).check_inputs(np.array([[0.0, 1.0]]))
    for value in (1.25, -0.5, math.nan):
        message = rf"^X must lie in \[0, 1\] for splitting noise, got {value}\. Scale the inputs"
        with pytest.raises(ValueError, match=message):
            Splitting(1.0).check_inputs(np.array([[0.5, value]]))
    with pytest.raises(ValueError, match=r"^sigma must be positive and finite, got 0"):
        Splitting(0)


# -- all offsets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("levels", "n_outcomes"), [(7, 21), (7, 7), (7, 5), (7, 1), (60, 45), (60, 90), (4, 9)]
)
def test_noisy_values_are_the_middles_of_cells_correctly_rounded(
    levels: int, n_outcomes: int, dtype: type
) -> None:
    noise = DeterministicSplitting(n_outcomes / (2 * levels), levels=levels)
    assert noise.n_outcomes == n_outcomes
    X = (np.arange(levels + 1) / levels).astype(dtype)[:, None]
    seen = split_all(noise, X)[:, :, 0]
    offsets = np.empty((n_outcomes, 1), dtype=dtype)
    noise.fill_outcomes(offsets, 0, n_outcomes)
    width = Fraction(n_outcomes, levels)
    for j, offset in enumerate(offsets[:, 0]):
        middle = Fraction(2 * int(offset) + 1, 2 * levels)
        for step in range(levels + 1):
            exact = split_value(Fraction(step, levels), middle, width)
            ratio = dtype(exact.numerator) / dtype(exact.denominator)
            assert seen[step, j] == ratio


@pytest.mark.parametrize(("levels", "n_outcomes"), [(6, 15), (6, 6), (6, 4), (5, 2)])
def test_one_coordinate_is_told_apart_in_exactly_as_many_outcomes_as_steps(
    levels: int, n_outcomes: int
) -> None:
    noise = DeterministicSplitting(n_outcomes / (2 * levels), levels=levels, seed=3)
    seen = split_all(noise, (np.arange(levels + 1) / levels)[:, None])[:, :, 0]
    for a, b in itertools.product(range(levels + 1), repeat=2):
        assert np.count_nonzero(seen[a] != seen[b]) == min(abs(a - b), n_outcomes)


@pytest.mark.parametrize(("levels", "n_outcomes"), [(3, 9), (3, 3), (3, 2), (4, 7)])
def test_points_are_told_apart_in_at_most_as_many_outcomes_as_steps(
    levels: int, n_outcomes: int
) -> None:
    steps = np.array(list(itertools.product(range(levels + 1), repeat=3)))
    distance = np.abs(steps[:, None] - steps).sum(axis=2)
    for seed in range(4):
        noise = DeterministicSplitting(n_outcomes / (2 * levels), levels=levels, seed=seed)
        seen = split_all(noise, steps / levels)
        apart = (seen[:, None] != seen).any(axis=3).sum(axis=2)
        assert (apart <= distance).all()


def test_winner_of_all_outcomes_never_changes_within_the_exact_radius() -> None:
    levels, random, tight, certified = 3, np.random.default_rng(0), 0, 0
    steps = np.array(list(itertools.product(range(levels + 1), repeat=3)))
    distance = np.abs(steps[:, None] - steps).sum(axis=2)
    for seed in range(60):
        noise = DeterministicSplitting([1.5, 2.0, 3.0][seed % 3], levels=levels, seed=seed)
        seen = split_all(noise, steps / levels)
        _, cells = np.unique(seen.reshape(-1, 3), axis=0, return_inverse=True)
        # A lookup table with one class for most rows, so that something is certified.
        table = random.choice(3, size=cells.max() + 1, p=random.dirichlet([3, 0.5, 0.5]))
        votes = table[cells.reshape(len(steps), -1)]
        counts = np.stack([(votes == label).sum(axis=1) for label in range(3)], axis=1)
        label = counts.argmax(axis=1)
        reach = np.rint(noise.exact_radius(counts, label) * levels)
        other = label[:, None] != label
        assert not (other & (distance <= reach[:, None])).any()
        certified += np.count_nonzero((reach > 0) & other.any(axis=1))
        tight += np.count_nonzero(np.where(other, distance, 99).min(axis=1) == reach + 1)
    assert certified > 100
    assert tight > 100


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_of_bytes_are_recovered_exactly_however_they_were_scaled(dtype: type) -> None:
    noise = DeterministicSplitting(1.0)
    steps = np.arange(256)
    scaled = [
        (steps / 255).astype(dtype),
        steps.astype(dtype) / dtype(255),
        steps.astype(dtype) * dtype(1 / 255),
    ]
    for X in scaled:
        noise.check_inputs(X[:, None])
        assert np.array_equal(split_all(noise, X[:, None]), split_all(noise, scaled[0][:, None]))


def test_noisy_values_are_equal_in_single_and_double_precision() -> None:
    noise = DeterministicSplitting(0.8, levels=255)
    X = np.random.default_rng(0).integers(0, 256, (5, 4)) / 255
    single, double = split_all(noise, X.astype(np.float32)), split_all(noise, X)
    assert np.array_equal(single, double.astype(np.float32))


def test_outcomes_can_be_filled_in_pieces_and_random_ones_are_among_them() -> None:
    noise = DeterministicSplitting(0.1, seed=1)
    whole = np.empty((51, 2, 3), dtype=np.float32)
    noise.fill_outcomes(whole, 0, 51)
    pieces = [np.empty((n, 2, 3), dtype=np.float32) for n in (20, 31)]
    noise.fill_outcomes(pieces[0], 0, 20)
    noise.fill_outcomes(pieces[1], 20, 51)
    assert np.array_equal(whole, np.concatenate(pieces))
    assert np.array_equal(np.sort(whole, axis=0)[:, 0, 0], np.arange(51))
    random = noise.draw(3000, (2, 3), np.random.default_rng(0)).reshape(3000, 6)
    found, counts = np.unique(random, axis=0, return_counts=True)
    assert np.array_equal(found, np.unique(whole.reshape(51, 6), axis=0))
    assert counts.min() > 25
    generator = np.random.default_rng(0)
    parts = [noise.draw(n, (2, 3), generator).reshape(n, 6) for n in (1, 1000, 1999)]
    assert np.array_equal(random, np.concatenate(parts))


def test_phases_are_those_of_the_seed_and_the_shape_for_good() -> None:
    def first(seed: int, shape: tuple[int, ...]) -> list[float]:
        out = np.empty((1, *shape))
        DeterministicSplitting(1.0, seed=seed).fill_outcomes(out, 0, 1)
        return out.ravel().tolist()

    assert first(0, (5,)) == [266, 328, 229, 129, 305]
    assert first(0, (5,)) != first(1, (5,))
    assert first(0, (2, 3)) != first(0, (6,))
    assert len(set(first(0, (500,)))) > 250


def test_half_widths_are_rounded_down_to_whole_outcomes() -> None:
    assert DeterministicSplitting(0.3).n_outcomes == 153
    assert DeterministicSplitting(0.3005).n_outcomes == 153
    assert DeterministicSplitting(0.15 * 3**0.5).n_outcomes == 132
    assert all(DeterministicSplitting(q / 510).n_outcomes == q for q in range(1, 1500))
    radius = DeterministicSplitting(0.3005).certified_radius(1.0)
    assert radius == pytest.approx(0.3, rel=1e-9)
    assert radius <= Fraction(3, 10)


def test_inputs_off_the_grid_are_refused() -> None:
    message = (
        r"^X must hold multiples of 1/4 in \[0, 1\], got 0\.3; the nearest is 0\.25\. Round the "
        r"inputs to the grid, or set levels to that of the data\.$"
    )
    with pytest.raises(ValueError, match=message):
        DeterministicSplitting(1.0, levels=4).check_inputs(np.array([[0.5, 0.3]]))
    for value, nearest in ((1.25, "1.0"), (-0.25, "0.0"), (math.nan, "nan")):
        with pytest.raises(ValueError, match=rf"got {value}; the nearest is {nearest}\."):
            DeterministicSplitting(1.0, levels=4).check_inputs(np.array([[value]]))


@pytest.mark.parametrize("levels", [65535, 2**20])
def test_fine_grids_are_recovered_in_single_precision(levels: int) -> None:
    noise = DeterministicSplitting(0.5, levels=levels)
    steps = np.arange(levels + 1)
    X = (steps / levels).astype(np.float32)
    noise.check_inputs(X)
    # An offset at every second point: below it the middle is that of the cell before.
    offsets = np.minimum(steps - steps % 2, levels - 1).astype(np.float32)
    seen = noise.corrupted(torch.from_numpy(X)[None], torch.from_numpy(offsets)[None])[0].numpy()
    doubled = 2 * offsets.astype(np.int64) + 1 + 2 * levels * (steps > offsets)
    assert np.array_equal(seen, doubled.astype(np.float32) / np.float32(4 * levels))


def test_broken_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^levels must be an integer, got 2\.5\.$"):
        DeterministicSplitting(1.0, levels=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^levels must be at least 1, got 0\.$"):
        DeterministicSplitting(1.0, levels=0)
    with pytest.raises(ValueError, match=r"^levels must be at most 1048576, got 1048577\.$"):
        DeterministicSplitting(1.0, levels=2**20 + 1)
    with pytest.raises(ValueError, match=r"^seed must be at least 0, got -1\.$"):
        DeterministicSplitting(1.0, seed=-1)
    with pytest.raises(ValueError, match=r"^sigma must lie from 0\.00196078 to 4112\.06 for 255"):
        DeterministicSplitting(0.001)
    with pytest.raises(ValueError, match=r"^sigma must lie from .* got 5000\.0\.$"):
        DeterministicSplitting(5000.0)


# -- through the classifier ------------------------------------------------------------------------


def test_exact_certificates_of_all_grid_points_agree_with_each_other() -> None:
    levels = 3
    X = np.array(list(itertools.product(range(levels + 1), repeat=3))) / levels
    noise = DeterministicSplitting(2.0, levels=levels)
    rows = np.unique(split_all(noise, X).reshape(-1, 3), axis=0)
    table = rows.sum(axis=1) + np.random.default_rng(0).normal(size=len(rows)) / 4 > 1.6
    base = DecisionTreeClassifier(random_state=0).fit(rows, table.astype(int))
    clf = SmoothedClassifier(FrozenEstimator(base), noise=noise).fit(X, X[:, 0] > 0)
    certificates = clf.certificates(X)
    votes = base.predict(split_all(noise, X).reshape(-1, 3)).reshape(len(X), -1)
    assert np.array_equal(certificates.counts[:, 1], votes.sum(axis=1))
    assert certificates.alpha == 0
    label = certificates.counts.argmax(axis=1)
    distance = np.abs(X[:, None] - X).sum(axis=2)
    near = distance <= certificates.radius[:, None] + 1e-9
    assert (label == label[:, None])[near].all()
    assert len(np.unique(certificates.radius)) > 3
    with pytest.raises(ValueError, match=r"^X must hold multiples of 1/3 in \[0, 1\], got 0\.5;"):
        clf.certificates(np.full((1, 3), 0.5))


@pytest.mark.parametrize("noise", [Splitting(1.0), Splitting(0.25), DeterministicSplitting(1.0)])
def test_the_base_is_trained_on_split_values(noise: Splitting | DeterministicSplitting) -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 300)
    X = np.rint(np.clip(random.normal(size=(300, 10)) / 4 + y[:, None], 0, 1) * 255) / 255
    clf = SmoothedClassifier(
        DecisionTreeClassifier(max_depth=4, random_state=0),
        noise=noise,
        n_selection=20,
        n_estimation=500,
    ).fit(X, y)
    certificates = clf.certificates(X[:20])
    assert (certificates.label == y[:20]).mean() > 0.8
    assert certificates.radius.max() > 0.2
    with pytest.raises(ValueError, match=r"^X must "):
        clf.certificates(np.full((1, 10), 1.5))
