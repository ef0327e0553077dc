"""Gaussian noise on a grid: its law, its bits, its sums and the certificates that follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logsumexp
from sklearn.frozen import FrozenEstimator

from nets import Linear
from randsmooth import SmoothedClassifier
from randsmooth.bounds import neyman_pearson_radius
from randsmooth.noise import DiscreteGaussian, Gaussian, Stream, block_generator
from randsmooth.noise.discrete_normal import RoundedNormal, rounded_normal

LAST = 2**64 - 1


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(200):
        yield


def exact_cell_ends(k: int, scale: float, levels: int) -> tuple[mp.mpf, mp.mpf]:
    """Return where the draws equal to k begin and end on the unit interval."""
    ends = [mp.mpf(2 * j + 1) / (2 * levels * mp.mpf(scale)) for j in (k - 1, k)]
    low, high = (mp.erfc(-z / mp.sqrt(2)) / 2 for z in ends)
    return low, high


def stream(words: list[int]) -> Callable[[int], NDArray[np.uint64]]:
    """Return a source that hands out the given words once."""
    left = list(words)

    def take(number: int) -> NDArray[np.uint64]:
        taken, left[:] = left[:number], left[number:]
        assert len(taken) == number
        return np.array(taken, dtype=np.uint64)

    return take


def draws(sampler: RoundedNormal, words: list[int], number: int) -> list[float]:
    """Return draws that must use up the words."""
    source = stream(words)
    out = np.full(number, np.nan, dtype=np.float32)
    sampler.fill(out, source)
    with pytest.raises(AssertionError):
        source(1)
    return out.tolist()


# -- the law -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "levels"), [(0.25, 255), (1.0, 3), (0.12, 255), (1e-3, 255), (0.7, 1), (0.1, 2)]
)
@pytest.mark.parametrize("bits", [128, 256])
def test_thresholds_are_the_normal_distribution_function_to_the_last_unit(
    scale: float, levels: int, bits: int
) -> None:
    sampler = RoundedNormal(scale, levels)
    reach = math.ceil(10 * scale * levels) + 2
    numbers = range(-reach, reach, max(1, reach // 40))
    for k, threshold in zip(numbers, sampler.thresholds(numbers, bits), strict=True):
        exact = exact_cell_ends(k, scale, levels)[1] * mp.mpf(2) ** bits
        assert abs(exact - threshold) < 1


@pytest.mark.parametrize(("scale", "levels"), [(0.25, 255), (0.5, 4), (3.0, 100)])
def test_each_word_gives_the_cell_of_the_numbers_that_begin_with_it(
    scale: float, levels: int
) -> None:
    """Words at both ends of cells, next to each other, and a random one from each cell."""
    sampler = rounded_normal(scale, levels)
    rng = np.random.default_rng(0)
    reach = math.ceil(6 * scale * levels)
    for k in range(-reach, reach + 1, max(1, reach // 60)):
        low, high = exact_cell_ends(k, scale, levels)
        first, last = int(mp.floor(low * 2**64)) + 1, int(mp.floor(high * 2**64)) - 1
        words = [first, last, first + int(rng.random() * (last - first))]
        assert draws(sampler, words, 3) == [k, k, k]


def test_probabilities_are_those_of_the_definition() -> None:
    """The number of words of each cell, counted by bisection: 2**64 times its probability."""
    sampler = rounded_normal(0.5, 3)

    def first_word_of(k: int) -> int:
        low, high = 0, LAST
        while high - low > 1:
            middle = (low + high) // 2
            drawn = draws(sampler, [middle], 1)[0] if middle not in unclear else k - 1
            low, high = (middle, high) if drawn < k else (low, middle)
        return high

    unclear = {int(word) for word in sampler._unclear}
    for k in range(-9, 10):
        low, high = exact_cell_ends(k, 0.5, 3)
        assert abs(first_word_of(k + 1) - first_word_of(k) - (high - low) * 2**64) <= 2


@pytest.mark.parametrize("scale", [0.02, 0.25])
def test_draws_have_the_stated_law(scale: float) -> None:
    noise = DiscreteGaussian(scale)
    drawn = noise.draw(400_000, (1,), np.random.default_rng(7), dtype=np.float64).ravel()
    steps = np.arange(-math.ceil(4 * scale * 255), math.ceil(4 * scale * 255) + 1)
    ends = stats.norm(scale=scale * 255).cdf(steps[:-1] + 0.5)
    expected = np.diff(np.concatenate([[0.0], ends, [1.0]])) * len(drawn)
    seen = np.bincount((np.clip(drawn, steps[0], steps[-1]) - steps[0]).astype(int))
    assert stats.chisquare(seen, expected).pvalue > 1e-3
    assert drawn.mean() == pytest.approx(0, abs=5 * scale * 255 / math.sqrt(len(drawn)))


def test_a_word_whose_successors_count_reads_three_more() -> None:
    sampler = rounded_normal(0.25, 255)
    shifts = (192, 128, 64, 0)
    for k in (-150, -1, 0, 3, 150):
        (threshold,) = sampler.thresholds([k], 256)
        words = [(threshold >> shift) & LAST for shift in shifts]
        above, below = [*words[:3], words[3] ^ 2**62], [*words[:2], words[2] ^ 2**62, words[3]]
        for refined in (above, below):
            value = sum(word << shift for word, shift in zip(refined, shifts, strict=True))
            expected = k if value < threshold else k + 1
            assert draws(sampler, [2**63, *refined, 2**63], 3)[1] == expected


def test_both_tails_are_refined_and_not_clipped() -> None:
    sampler = rounded_normal(0.25, 255)
    low = draws(sampler, [0, 0, 2**40, 5], 1)[0]
    assert draws(sampler, [LAST, LAST, LAST - 2**40, 5], 1) == [-low]
    # P(K <= low) first exceeds 2**40 / 2**192.
    z = (2 * low + 1) / (2 * 255 * 0.25)
    assert float(mp.ncdf(z)) == pytest.approx(2.0**-152, rel=0.2)
    assert z < -14


@pytest.mark.parametrize("rest", [[0, 0, 0], [0, 0, 1], [0, 0, 2**59]])
def test_a_draw_beyond_256_bits_is_an_error(rest: list[int]) -> None:
    sampler = rounded_normal(0.25, 255)
    with pytest.raises(RuntimeError, match=r"^a draw could not be decided by 256 random bits"):
        draws(sampler, [0, *rest], 1)
    with pytest.raises(RuntimeError, match=r"Check the random generator\.$"):
        draws(sampler, [LAST, *(LAST - word for word in rest)], 1)


@pytest.mark.parametrize("distance", [-1, 0, 1])
def test_numbers_at_a_threshold_are_an_error(distance: int) -> None:
    sampler = rounded_normal(0.25, 255)
    value = sampler.thresholds([40], 256)[0] + distance
    words = [(value >> shift) & LAST for shift in (192, 128, 64, 0)]
    with pytest.raises(RuntimeError, match="could not be decided"):
        sampler.refined(np.array(words, dtype=np.uint64))


def test_the_chance_of_an_error_is_below_two_to_the_minus_128() -> None:
    """Both tails, and three numbers at each threshold, of all noise that is accepted."""
    for scale, levels in [(0.25, 255), (2**16 / 255, 255), (1e-3, 1)]:
        extreme = RoundedNormal.__new__(RoundedNormal)
        extreme._ratio = scale, levels
        reach = math.ceil(16.25 * scale * levels) + 1
        tail = 2 * mp.mpf(extreme.thresholds([-reach], 256)[0] + 1)
        assert (tail + 4 * 2 * reach) / mp.mpf(2) ** 256 < mp.mpf(2) ** -128


# -- the stream --------------------------------------------------------------------------------


def test_pieces_of_a_stream_are_the_stream_even_where_draws_read_more_words() -> None:
    sampler = rounded_normal(0.25, 255)
    rng = np.random.default_rng(3)
    words: list[int] = []
    for _ in range(120):
        words += rng.choice(np.array([0, LAST, 2**63, 12345 << 48], dtype=np.uint64), 1).tolist()
        words += rng.integers(2**62, 2**63, 3).tolist()
    whole = np.empty(80)
    sampler.fill(whole, stream(words))
    for ends in ([1, 2, 3, 50, 80], [7, 7, 79, 80]):
        source, parts, start = stream(words), [], 0
        for end in ends:
            parts.append(np.empty(end - start))
            sampler.fill(parts[-1], source)
            start = end
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    # The same by the definition: one draw after the other.
    one_by_one, source = [], stream(words)
    for _ in range(80):
        drawn = np.empty(1)
        sampler.fill(drawn, source)
        one_by_one.append(drawn.item())
    assert one_by_one == whole.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_consecutive_draws_are_one_stream_whatever_their_type(dtype: Any) -> None:
    noise = DiscreteGaussian(0.25)
    together = noise.draw(1001, (3, 17), block_generator(5, Stream.ESTIMATION, 2))
    generator = block_generator(5, Stream.ESTIMATION, 2)
    parts = [noise.draw(n, (3, 17), generator, dtype=dtype) for n in (1, 700, 300)]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    assert together.dtype == np.float32
    assert np.array_equal(together, np.rint(together))


def test_an_array_that_is_not_contiguous_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^out must be contiguous, got strides \(4, 12\)\.$"):
        DiscreteGaussian(0.25).fill_standard(
            np.empty((4, 3), dtype=np.float32).T, np.random.default_rng(0)
        )


# -- the sums ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [1, 10, 255, 256, 65535])
def test_noisy_inputs_depend_on_the_sum_of_integers_alone(dtype: Any, levels: int) -> None:
    """All ways to reach the same grid point give the same number: the nearest to it."""
    rng = np.random.default_rng(1)
    steps = rng.integers(-(2**20) + 1, 2**20, (200, 1, 5))
    shifts = rng.integers(-(2**20), 2**20, (1, 30, 5))
    # Division, or multiplication by the reciprocal as in some loaders of images.
    for x in ((steps / dtype(levels)).astype(dtype), steps.astype(dtype) * dtype(1 / levels)):
        out = torch.empty((200, 30, 5), dtype=torch.from_numpy(x).dtype)
        DiscreteGaussian(0.1, levels).corrupt(
            torch.from_numpy(x), torch.from_numpy(shifts.astype(dtype)), out
        )
        expected = (steps + shifts).astype(dtype) / dtype(levels)
        np.testing.assert_array_equal(out.numpy(), expected)


def test_noisy_images_are_the_same_in_either_memory_layout() -> None:
    noise = DiscreteGaussian(0.5)
    x = torch.randint(0, 256, (2, 1, 3, 4, 5)).float() / 255
    drawn = torch.from_numpy(noise.draw(6, (3, 4, 5), np.random.default_rng(0)))[None]
    plain, other = torch.empty(2, 6, 3, 4, 5), torch.empty(12, 3, 4, 5)
    turned = other.to(memory_format=torch.channels_last).view(2, 6, 3, 4, 5)
    noise.corrupt(x, drawn, plain)
    noise.corrupt(x, drawn, turned)
    assert torch.equal(plain, turned)
    assert torch.equal(noise.corrupted(x[:, 0], drawn[0, :2]), plain[[0, 1], [0, 1]])


# -- the inputs --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inputs_on_the_grid_are_accepted_however_they_were_divided(dtype: Any) -> None:
    steps = np.arange(-300, 2**20, 997)
    for levels in (1, 255, 1000):
        noise = DiscreteGaussian(0.1, levels)
        noise.check_inputs((steps / dtype(levels)).astype(dtype))
        noise.check_inputs(steps.astype(dtype) * dtype(1 / levels))
        noise.check_inputs((steps / levels).astype(np.float32).astype(dtype))


def test_inputs_off_the_grid_are_refused_with_the_nearest_point() -> None:
    noise = DiscreteGaussian(0.25)
    X = np.array([[0.2, 0.3, 0.4]])
    remedy = r"Quantise X first, np.rint\(X \* 255\) / 255, or set levels= to those of X\."
    message = (
        r"^X must hold multiples of 1/255 for discrete_gaussian noise, got 0\.3; the nearest is "
        rf"0\.2980392156862745\. {remedy}$"
    )
    with pytest.raises(ValueError, match=message):
        noise.check_inputs(X)
    noise.check_inputs(np.rint(X * 255) / 255)
    DiscreteGaussian(0.25, levels=10).check_inputs(X)
    with pytest.raises(ValueError, match="got nan"):
        noise.check_inputs(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="must hold multiples"):
        noise.check_inputs(np.array([[1e-5]]))


def test_inputs_too_many_steps_from_zero_are_refused() -> None:
    message = r"^X must lie within 2\*\*20 / levels = 4112\.06 of 0 .*, got -5000\.0\. Set fewer"
    with pytest.raises(ValueError, match=message):
        DiscreteGaussian(0.25).check_inputs(np.array([[1.0, -5000.0]]))
    with pytest.raises(ValueError, match="X must lie within"):
        DiscreteGaussian(0.25).check_inputs(np.array([[np.inf]]))


@pytest.mark.parametrize("levels", [0, -3, 1.5, True, "255", 2**20 + 1, None])
def test_levels_must_be_a_whole_number_of_steps(levels: Any) -> None:
    with pytest.raises(ValueError, match=r"^levels must be an integer from 1 to 2\*\*20, got "):
        DiscreteGaussian(0.25, levels=levels)


def test_the_scale_must_be_positive_and_not_too_many_steps() -> None:
    with pytest.raises(ValueError, match=r"^sigma must be positive and finite, got -1"):
        DiscreteGaussian(-1)
    message = r"^sigma must be at most 2\*\*16 / levels = 257\.004, got 300\.0\. Choose a coarser"
    with pytest.raises(ValueError, match=message):
        DiscreteGaussian(300)
    assert DiscreteGaussian(np.float32(0.5), levels=np.int64(7)).parameters == {
        "scale": 0.5,
        "levels": 7,
    }


# -- the certificates --------------------------------------------------------------------------


def test_bounds_are_those_of_gaussian_noise() -> None:
    noise = DiscreteGaussian(0.25)
    assert noise.has_radius
    assert noise.certified_radius(0.9) == neyman_pearson_radius(0.9, sigma=0.25)
    assert noise.draw_factor == 1
    assert noise.renyi_divergence([3 / 255], order=2) == Gaussian(0.25).renyi_divergence(
        [3 / 255], order=2
    )


def test_probabilities_nearby_are_those_of_gaussian_noise() -> None:
    lower = DiscreteGaussian(0.25).probability_lower([0.9, 0.6], 0.1)
    np.testing.assert_array_equal(lower, Gaussian(0.25).probability_lower([0.9, 0.6], 0.1))


def test_divergences_of_an_attack_are_those_of_gaussian_noise() -> None:
    grid, gaussian = DiscreteGaussian(0.25), Gaussian(0.25)
    assert grid.largest_divergence(0.3, order=2) == gaussian.largest_divergence(0.3, order=2)
    assert grid.total_variation(0.3) == gaussian.total_variation(0.3)


@pytest.mark.parametrize("order", [1.5, 2.0, 8.0])
def test_the_divergence_is_bounded_by_that_of_gaussian_noise(order: float) -> None:
    noise, shift = DiscreteGaussian(0.4, levels=5), 2
    k = np.arange(-40, 41)
    law = stats.norm(scale=0.4 * 5)
    here, there = (
        np.where(at < 0, law.cdf(at + 0.5) - law.cdf(at - 0.5), law.sf(at - 0.5) - law.sf(at + 0.5))
        for at in (k, k - shift)
    )
    kept = (here > 0) & (there > 0)
    log_terms = order * np.log(there[kept]) + (1 - order) * np.log(here[kept])
    exact = logsumexp(log_terms) / (order - 1)
    bound = noise.renyi_divergence([shift / 5], order=order)
    assert 0.8 * bound < exact <= bound


def test_no_event_on_the_grid_beats_the_gaussian_bound() -> None:
    """All likelihood-ratio sets, which are worst, by exact enumeration; they attain the bound."""
    sigma, levels, shift = 0.3, 10, 4
    noise = stats.norm(scale=sigma * levels)
    cuts = np.arange(-12, 13)  # the events "at most c", seen from 0 and from `shift`
    here, there = noise.cdf(cuts + 0.5), noise.cdf(cuts - shift + 0.5)
    bound = stats.norm.cdf(stats.norm.ppf(here) - shift / levels / sigma)
    np.testing.assert_allclose(there, bound, rtol=1e-10)
    k = np.arange(-60, 61)
    mass = np.diff(noise.cdf(np.arange(-61, 61) + 0.5))
    rng = np.random.default_rng(2)
    for _ in range(300):
        event = rng.random(121) < rng.random()
        near = mass[event].sum()
        far = np.interp(k - shift, k, mass)[event].sum()
        assert far >= stats.norm.cdf(stats.norm.ppf(near) - shift / levels / sigma) - 1e-12


def test_smoothed_classifiers_certify_grid_inputs_and_refuse_others() -> None:
    """A half-space between grid points, whose true radius is known."""
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    module = Linear(weight, torch.tensor([0.0, -100.5 / 255]))
    X = np.array([[100, 7], [140, 0], [30, 255]]) / 255
    clf = SmoothedClassifier(
        FrozenEstimator(module), noise=DiscreteGaussian(0.25), n_estimation=20_000, random_state=0
    ).fit(X, [0, 1, 0])
    record = clf.certificates(X)
    assert record.label.tolist() == [0, 1, 0]
    assert (record.radius <= np.abs(X[:, 0] - 100.5 / 255)).all()
    assert record.radius[1] == pytest.approx(39.5 / 255, rel=0.1)
    np.testing.assert_array_equal(record.radius, clf.certificates(X[::-1]).radius[::-1])
    with pytest.raises(ValueError, match=r"^X must hold multiples of 1/255"):
        clf.certificates(X + 0.001)
    with pytest.raises(ValueError, match=r"^X must hold multiples of 1/255"):
        clf.fit(X + 0.001, [0, 1, 0])
