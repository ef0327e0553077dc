"""Group-sequential tests, against enumeration of all paths and against other ways to sum them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv, ndtr
from scipy.stats import binom

from randsmooth.intervals import (
    GroupSequentialTest,
    NestedTests,
    geometric_looks,
    sequential_design,
    sequential_tests,
)
from randsmooth.intervals.sequential_design import DESIGN, Survivors, boundaries

HALF = float(np.nextafter(0.5, 1))

# (p0, alpha, looks): next to one half, next to one, and below one half.
SMALL = [
    (0.5, 0.05, (3, 5, 8, 11)),
    (HALF, 0.01, (4, 8, 12)),
    (0.7, 0.2, (1, 2, 3, 5, 8, 12)),
    (0.99, 0.5, (4, 8, 12)),
    (0.1, 1e-6, (2, 6, 12)),
    (1e-9, 1e-12, (1, 12)),
    (0.6, 0.1, (12,)),
]


def design(p0: float, alpha: float, looks: Sequence[int]) -> GroupSequentialTest:
    return GroupSequentialTest(p0, alpha, looks[-1], looks)


def path_weights(p: float, n: int) -> list[Fraction]:
    """Probability of a path of n draws, by its number of successes."""
    success = Fraction(p)
    return [success**s * (1 - success) ** (n - s) for s in range(n + 1)]


def enumerated(test: GroupSequentialTest, p: float, *, give_up: bool) -> tuple[Fraction, Fraction]:
    """Probability of a claim and mean draws, by following the rule along all paths of draws."""
    looks = test.looks.tolist()
    weights = path_weights(p, looks[-1])
    claimed = draws = Fraction(0)
    for path in itertools.product((0, 1), repeat=looks[-1]):
        weight = weights[sum(path)]
        for n, upper, lower in zip(looks, test.upper, test.lower, strict=True):
            count = sum(path[:n])
            if count >= upper:
                claimed += weight
                break
            if give_up and count <= lower:
                break
        draws += weight * n
    return claimed, draws


def crossed_by_look(p: float, looks: Sequence[int], upper: Sequence[int]) -> list[mp.mpf]:
    """Probability of a claim up to each look, in 40 digits and without any window."""
    with mp.workdps(40):
        success = mp.mpf(p)
        mass, before, crossed = [mp.mpf(1)], 0, [mp.mpf(0)]
        for n, boundary in zip(looks, upper, strict=True):
            m, before = n - before, n
            pmf = [mp.binomial(m, i) * success**i * (1 - success) ** (m - i) for i in range(m + 1)]
            after = [mp.mpf(0)] * (len(mass) + m)
            for s, weight in enumerate(mass):
                for i, step in enumerate(pmf):
                    after[s + i] += weight * step
            crossed.append(crossed[-1] + mp.fsum(after[boundary:]))
            mass = after[:boundary]
        return crossed[1:]


def crossed_backwards(p: float, looks: Sequence[int], upper: Sequence[int]) -> float:
    """Probability of a claim, by the recursion from the last look to the first.

    Increments more than twelve standard deviations from their mean are left out.
    """
    n = looks[-1]
    reach = math.ceil(20 + 12 * math.sqrt(n * p * (1 - p)))
    chance = (np.arange(n + 1) >= upper[-1]).astype(float)
    for k in range(len(looks) - 2, -2, -1):
        before, m = (looks[k], looks[k + 1] - looks[k]) if k >= 0 else (0, looks[0])
        steps = np.arange(max(math.floor(m * p) - reach, 0), min(math.ceil(m * p) + reach, m) + 1)
        lo = max(math.floor(before * p) - reach, 0)
        hi = min(math.ceil(before * p) + reach, before)
        window = chance[lo + steps[0] : hi + steps[-1] + 1]
        value = np.correlate(window, binom.pmf(steps, m, p), mode="valid")
        chance = (np.arange(before + 1) > hi).astype(float)
        chance[lo : hi + 1] = value
        if k >= 0:
            chance[upper[k] :] = 1.0
    return float(chance[0])


def spending(alpha: float, looks: Sequence[int]) -> list[float]:
    """Spend 30 % evenly in the logarithm of draws, a step of 0.15 for the first look."""
    way = [math.log(n / looks[0]) + 0.15 for n in looks]
    return [0.3 * alpha * part / way[-1] for part in way[:-1]] + [alpha]


# The level


@pytest.mark.parametrize(("p0", "alpha", "looks"), SMALL)
def test_probabilities_and_draws_agree_with_enumeration_of_all_paths(
    p0: float, alpha: float, looks: tuple[int, ...]
) -> None:
    test = design(p0, alpha, looks)
    for p in (0.0, p0 / 2, p0, (1 + p0) / 2, 1.0):
        ever, _ = enumerated(test, p, give_up=False)
        claimed, draws = enumerated(test, p, give_up=True)
        tail = min(1e-12, 1e-6 * alpha)
        assert test.claim_probability(p) == pytest.approx(float(ever), rel=1e-12, abs=tail)
        assert test.power(p) == pytest.approx(float(claimed), rel=1e-12, abs=tail)
        assert test.expected_draws(p) == pytest.approx(float(draws), rel=1e-11)


@pytest.mark.parametrize(("p0", "alpha", "looks"), SMALL)
def test_level_bounds_the_enumerated_level(p0: float, alpha: float, looks: tuple[int, ...]) -> None:
    test = design(p0, alpha, looks)
    exact, _ = enumerated(test, p0, give_up=False)
    assert exact <= Fraction(test.level) <= Fraction(alpha)
    assert test.level <= float(exact) + 1.1e-5 * alpha


@settings(max_examples=150, deadline=None)
@given(
    p0=st.floats(1e-6, 1.0, exclude_max=True),
    log_alpha=st.floats(-12, -0.31),
    looks=st.sets(st.integers(1, 24), min_size=1),
)
def test_level_holds_for_any_design(p0: float, log_alpha: float, looks: set[int]) -> None:
    alpha, sizes = 10**log_alpha, sorted(looks)
    test = design(p0, alpha, sizes)
    exact = crossed_by_look(p0, sizes, test.upper.tolist())[-1]
    assert exact <= test.level <= alpha
    assert crossed_by_look(0.9 * p0, sizes, test.upper.tolist())[-1] <= test.level


@pytest.mark.parametrize("p0", [1e-9, 0.1, 0.5, HALF, 0.6, 0.84, 0.9772, 0.99865, 0.99999])
@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.5])
def test_level_holds_at_every_proportion_up_to_p0(p0: float, alpha: float) -> None:
    test = GroupSequentialTest(p0, alpha, 3000)
    looks, upper = test.looks.tolist(), test.upper.tolist()
    at_p0 = crossed_backwards(p0, looks, upper)
    assert at_p0 <= test.level * (1 + 1e-9)
    assert test.level <= alpha
    np.testing.assert_allclose(test.claim_probability(p0), at_p0, rtol=1e-9, atol=1e-6 * alpha)
    below = [crossed_backwards(share * p0, looks, upper) for share in (0.5, 0.9, 0.99, 0.999)]
    assert all(low <= high + 1e-40 for low, high in itertools.pairwise([*below, at_p0]))


@pytest.mark.slow
@pytest.mark.parametrize("p0", [HALF, 0.8413, 0.99865])
@pytest.mark.parametrize("n_max", [100_000, 1_000_000])
def test_level_holds_and_is_used_up_to_a_million_draws(p0: float, n_max: int) -> None:
    test = GroupSequentialTest(p0, 0.001, n_max)
    exact = crossed_backwards(p0, test.looks.tolist(), test.upper.tolist())
    assert 0.95e-3 < exact <= test.level * (1 + 1e-7) <= 1e-3 * (1 + 1e-7)


def test_level_is_used_up_to_the_steps_of_the_counts() -> None:
    levels = [GroupSequentialTest(p0, 0.001, 10_000).level for p0 in np.linspace(0.5, 0.95, 46)]
    assert min(levels) > 0.9e-3


@pytest.mark.parametrize(("p0", "alpha", "looks"), [*SMALL, (0.8, 0.01, (20, 30, 40, 60))])
def test_every_boundary_is_the_smallest_within_what_may_be_spent(
    p0: float, alpha: float, looks: tuple[int, ...]
) -> None:
    upper = design(p0, alpha, looks).upper.tolist()
    spent = spending(alpha, looks)
    crossed = crossed_by_look(p0, looks, upper)
    for k, most in enumerate(spent):
        assert crossed[k] <= most
        lowered = [*upper[:k], upper[k] - 1, *upper[k + 1 :]]
        assert crossed_by_look(p0, looks, lowered)[k] > most - 1e-5 * alpha


def test_cut_tails_are_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = (10, 20, 40, 80)
    plain = boundaries.__wrapped__(0.6, 0.05, looks)
    monkeypatch.setattr(sequential_design, "TAIL_SHARE", 0.5)
    upper, _, level = boundaries.__wrapped__(0.6, 0.05, looks)
    exact = crossed_by_look(0.6, looks, upper.tolist())[-1]
    assert exact <= level <= 0.05
    assert level >= 0.5 * 0.05  # what may have been lost counts as claimed
    assert (upper >= plain[0]).all()


@settings(max_examples=40, deadline=None)
@given(
    p=st.integers(0, 2**20).map(lambda i: i / 2**20),
    tail=st.sampled_from([0.2, 0.01, 1e-6, 1e-30]),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
)
def test_survivors_lose_no_more_than_they_say(p: float, tail: float, sizes: list[int]) -> None:
    survivors = Survivors(p, tail)
    for m in sizes:
        survivors.draw(m)
        survivors.trim()
    n = sum(sizes)
    exact = [math.comb(n, s) * weight for s, weight in enumerate(path_weights(p, n))]
    kept = [Fraction(mass) * Fraction(1 + survivors.rounding) for mass in survivors.mass.tolist()]
    window = exact[survivors.offset : survivors.offset + len(kept)]
    short = sum((max(e - k, Fraction(0)) for e, k in zip(window, kept, strict=True)), Fraction(0))
    # Paths that left the window and came back are lost in it, the others outside.
    assert short + 1 - sum(window) <= len(sizes) * Fraction(tail)
    if tail == 1e-30:
        assert float(short) <= 4e-30


@pytest.mark.parametrize("p", [0.5, 0.84, 0.99865, 1e-4])
def test_rounding_errors_stay_below_their_allowance(p: float) -> None:
    n_max, survivors = 100_000, Survivors(p, 1e-40)
    for m in np.diff(geometric_looks(n_max), prepend=0).tolist():
        survivors.draw(m)
    # Nobody has stopped, so that the count is binomial.
    with mp.workdps(40):
        for i in np.linspace(0, len(survivors.mass) - 1, 60).astype(int).tolist():
            count = survivors.offset + i
            ways = mp.binomial(n_max, count)
            exact = ways * mp.mpf(p) ** count * (1 - mp.mpf(p)) ** (n_max - count)
            if exact > 1e-20:
                assert abs(mp.mpf(float(survivors.mass[i])) / exact - 1) < survivors.rounding
    assert survivors.rounding < 1e-10


def test_claims_are_rare_where_the_null_hypothesis_holds_with_equality() -> None:
    tests = sequential_tests([0.6], alpha=0.05, n_max=400)
    repeats = 40_000
    _, claimed = tests.simulate(np.full(repeats, 0.6), np.random.default_rng(3))
    expected = GroupSequentialTest(0.6, 0.05, 400).power(0.6)
    assert expected <= 0.05
    assert abs(claimed.sum() - repeats * expected) < 5 * math.sqrt(repeats * 0.05)


# The boundaries


def test_boundaries_are_the_known_ones() -> None:
    # Golden: whoever changes a boundary must change DESIGN, since it names the files on disk.
    assert DESIGN == (1, 0.7, 0.03, 0.95, 4, 0.15, 1e-5)
    test = GroupSequentialTest(0.5, 0.001, 100)
    assert test.looks.tolist() == [50, 57, 66, 76, 87, 100]
    assert test.upper.tolist() == [39, 43, 49, 55, 61, 66]
    assert test.lower.tolist() == [22, 29, 36, 44, 53, 65]


@pytest.mark.parametrize("p0", [0.2, HALF, 0.84, 0.99865, 0.999999, 1.0])
@pytest.mark.parametrize("n_max", [1, 2, 49, 51, 3000])
def test_boundaries_are_in_order(p0: float, n_max: int) -> None:
    test = GroupSequentialTest(p0, 0.001, n_max)
    assert (test.lower >= -1).all()
    assert (test.lower < test.upper).all()
    assert test.lower[-1] == test.upper[-1] - 1
    assert (test.upper <= test.looks + 1).all()
    assert not any(array.flags.writeable for array in (test.looks, test.upper, test.lower))


def test_a_count_that_can_still_claim_is_never_out_of_reach_of_it() -> None:
    # Curtailment: above `lower`, further successes alone always lead to a claim.
    test = GroupSequentialTest(0.9, 0.001, 200)
    for k, n in enumerate(test.looks[:-1].tolist()):
        best = test.lower[k] + 1 + test.looks[k + 1 :] - n
        assert (best >= test.upper[k + 1 :]).any()


def test_giving_up_costs_little_power_and_saves_most_draws() -> None:
    test = GroupSequentialTest(0.84, 0.001, 100_000)
    last = int(test.upper[-1])
    p1 = float(betaincinv(last, 100_000 - last + 1, 0.95))  # where the last look claims 95 %
    assert binom.sf(last - 1, 100_000, p1) == pytest.approx(0.95)
    assert 0.01 < test.claim_probability(p1) - test.power(p1) < 0.03
    assert test.power(0.85) > 0.999
    assert test.expected_draws(0.5) < 60
    assert test.expected_draws(0.8) < 1000
    assert test.expected_draws(0.99) < 100


def test_looks_are_geometric_unless_told_otherwise() -> None:
    looks = geometric_looks(100_000)
    assert looks[0] == 50
    assert looks[-1] == 100_000
    assert len(looks) == 55
    ratios = looks[1:] / looks[:-1]
    assert (ratios > 1.07).all()
    assert (ratios < 1.24).all()
    assert geometric_looks(50).tolist() == [50]
    assert geometric_looks(7).tolist() == [7]
    assert geometric_looks(12, first=1, ratio=1.0001).tolist() == list(range(1, 13))
    assert GroupSequentialTest(0.5, 0.1, 100).looks.tolist() == geometric_looks(100).tolist()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**7), st.integers(1, 200), st.floats(1.01, 10))
def test_looks_strictly_increase_to_n_max(n_max: int, first: int, ratio: float) -> None:
    looks = geometric_looks(n_max, first=first, ratio=ratio)
    assert (looks[-1] == n_max and looks[0] == min(first, n_max)) or len(looks) == 1
    assert (np.diff(looks, prepend=0) > 0).all()


def test_one_may_look_after_every_draw() -> None:
    test = design(0.5, 0.01, range(1, 301))
    assert crossed_backwards(0.5, range(1, 301), test.upper.tolist()) <= test.level <= 0.01
    assert test.level > 0.8 * 0.01
    assert (np.diff(test.upper[:-1]) >= 0).all()


def test_the_smallest_number_of_draws_that_can_claim_is_known() -> None:
    for p0, alpha in [(0.5, 0.001), (0.9, 0.05), (0.99865, 0.001), (1e-3, 0.5)]:
        n = GroupSequentialTest(p0, alpha, 1).smallest_n_max
        assert n is not None
        assert GroupSequentialTest(p0, alpha, n).can_claim
        assert n == 1 or not GroupSequentialTest(p0, alpha, n - 1).can_claim


@pytest.mark.parametrize(("p0", "n_max"), [(0.99999, 1000), (0.5, 9), (1.0, 100)])
def test_a_test_that_cannot_claim_says_so_and_gives_up_at_once(p0: float, n_max: int) -> None:
    test = GroupSequentialTest(p0, 0.001, n_max)
    assert not test.can_claim
    assert test.level == 0.0
    assert test.claim_probability(1.0) == 0.0
    assert test.expected_draws(1.0) == test.looks[0]


def test_nothing_ever_claims_certainty() -> None:
    assert GroupSequentialTest(1.0, 0.5, 10).smallest_n_max is None


def test_probabilities_increase_with_the_proportion_and_keep_its_shape() -> None:
    test = GroupSequentialTest(0.7, 0.01, 2000)
    p = np.linspace(0, 1, 41)
    for values in (test.claim_probability(p), test.power(p)):
        assert (np.diff(values) >= -1e-12).all()
        assert values[0] == 0
        assert values[-1] == pytest.approx(1)
    assert test.power(p.reshape(41, 1)).shape == (41, 1)
    assert isinstance(test.expected_draws(0.5), np.float64)


# Nested tests


@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.5])
def test_tests_are_nested_over_fine_grids_and_at_the_extremes(alpha: float) -> None:
    grids = [
        np.linspace(0.5, 0.6, 101),
        ndtr(np.linspace(0, 9, 60)),
        0.84 + np.arange(40) * 1e-9,
        [1e-9, 0.1, 0.1, 0.5, HALF, 0.99999, 1 - 2**-53, 1.0],
    ]
    for grid in grids:
        tests = sequential_tests(grid, alpha, 1000)
        for values in (tests.upper, tests.lower):
            assert (np.diff(values, axis=0) >= 0).all()
        assert (tests.lower < tests.upper).all()
        assert (tests.upper[:, -1] - tests.lower[:, -1] == 1).all()
        assert (tests.level <= alpha).all()


def test_nesting_changes_next_to_nothing() -> None:
    p0s = ndtr(np.arange(0, 1, 0.25) / 0.25)
    tests = sequential_tests(p0s, 0.001, 100_000)
    for j, p0 in enumerate(p0s):
        single = GroupSequentialTest(p0, 0.001, 100_000)
        np.testing.assert_array_equal(tests.upper[j], single.upper)
        assert (tests.lower[j] <= single.lower).all()
        assert tests.level[j] == single.level


def test_one_alpha_covers_all_tests_on_every_path() -> None:
    looks = (2, 4, 6, 9, 12)
    p0s = [0.4, 0.5, 0.55, 0.7]
    tests = sequential_tests(p0s, 0.2, 12, looks)
    for p in (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7):
        weights, wrong = path_weights(p, 12), Fraction(0)
        for path in itertools.product((0, 1), repeat=12):
            claimed, open_end = tests.start(1)
            for k, n in enumerate(looks):  # whoever does not stop claims most
                claimed, open_end = tests.step(k, [sum(path[:n])], claimed, open_end)
            if claimed[0] > np.searchsorted(p0s, p, side="left"):
                wrong += weights[sum(path)]
        assert wrong <= Fraction(tests.level.max()) <= Fraction(0.2)


def literal_run(tests: NestedTests, counts: Sequence[int]) -> list[tuple[int, bool]]:
    """Tests claimed, and whether any is undecided, after each look: one test after the other."""
    claimed, given_up = [False] * len(tests.p0), [False] * len(tests.p0)
    states = []
    for k, count in enumerate(counts):
        for j in range(len(tests.p0)):
            claimed[j] |= bool(count >= tests.upper[j, k])
            given_up[j] |= bool(count <= tests.lower[j, k])
        undecided = any(not (c or g) for c, g in zip(claimed, given_up, strict=True))
        states.append((sum(claimed), undecided))
    return states


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), p=st.floats(0.3, 1))
def test_steps_do_what_each_test_would_do_by_itself(seed: int, p: float) -> None:
    tests = sequential_tests([0.4, 0.5, 0.7, 0.9, 0.999, 1.0], 0.1, 400)
    rng = np.random.default_rng(seed)
    # Steps of changing probability lead to paths that give up and then claim.
    rates = rng.choice([p, rng.random()], size=len(tests.looks))
    counts = np.cumsum(rng.binomial(np.diff(tests.looks, prepend=0), rates)).tolist()
    claimed, open_end = np.zeros(1, dtype=np.int64), np.full(1, 6)
    for k, expected in enumerate(literal_run(tests, counts)):
        claimed, open_end = tests.step(k, [counts[k]], claimed, open_end)
        assert (claimed[0], bool(claimed[0] < open_end[0])) == expected


def test_a_claim_stays_whatever_the_later_counts() -> None:
    tests = sequential_tests([0.5, 0.9], 0.001, 200)
    claimed, open_end = tests.step(0, [50], *tests.start(1))
    assert claimed.tolist() == [1]
    last = len(tests.looks) - 1
    claimed, open_end = tests.step(last, [50], claimed, open_end)
    assert (claimed[0], open_end[0]) == (1, 0)


def test_giving_up_does_not_bind() -> None:
    tests = sequential_tests([0.5, 0.9], 0.001, 200)
    claimed, open_end = tests.step(0, [40], *tests.start(1))
    assert (claimed[0], open_end[0]) == (1, 1)  # 0.9 is given up, and nothing else is open
    claimed, open_end = tests.step(len(tests.looks) - 1, [200], claimed, open_end)
    assert claimed.tolist() == [2]


def test_every_input_is_decided_at_the_last_look() -> None:
    tests = sequential_tests([0.5, 0.9, 0.99], 0.001, 200)
    counts = np.arange(201)
    claimed, open_end = tests.step(len(tests.looks) - 1, counts, *tests.start(201))
    assert (claimed >= open_end).all()


def test_tests_that_cannot_be_claimed_are_not_waited_for() -> None:
    tests = sequential_tests([0.5, 0.99999, 1.0], 0.001, 1000)
    claimed, open_end = tests.start(2)
    assert claimed.tolist() == [0, 0]
    assert open_end.tolist() == [1, 1]
    n_draws, claimed = tests.simulate([1.0, 1.0], np.random.default_rng(0))
    assert n_draws.tolist() == [50, 50]
    assert claimed.tolist() == [1, 1]


def test_no_test_takes_no_draw() -> None:
    tests = sequential_tests([], 0.001, 1000)
    assert tests.upper.shape == (0, len(tests.looks))
    n_draws, claimed = tests.simulate([0.3, 0.9], np.random.default_rng(0))
    assert n_draws.tolist() == claimed.tolist() == [0, 0]
    claimed, open_end = tests.step(0, [3, 40], [0, 0], [0, 0])
    assert claimed.tolist() == open_end.tolist() == [0, 0]


def test_simulation_agrees_with_the_exact_power_and_draws() -> None:
    single = GroupSequentialTest(0.7, 0.01, 2000)
    tests = sequential_tests([0.7], 0.01, 2000)
    for p in (0.5, 0.71, 0.74, 0.9):
        n_draws, claimed = tests.simulate(np.full((100, 100), p), np.random.default_rng(1))
        assert n_draws.shape == claimed.shape == (100, 100)
        spread = n_draws.std() / 100 + 1e-9
        assert abs(n_draws.mean() - single.expected_draws(p)) < 5 * spread
        power = single.power(p)
        assert abs(claimed.mean() - power) <= 5 * math.sqrt(power * (1 - power)) / 100 + 1e-9


# Files


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def designed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record of the proportions that boundaries were computed for."""
    calls: list[float] = []

    def recorded(p0: float, alpha: float, looks: tuple[int, ...]) -> Any:
        calls.append(p0)
        return boundaries(p0, alpha, looks)

    monkeypatch.setattr("randsmooth.intervals.sequential.boundaries", recorded)
    return calls


def assert_same(one: NestedTests, other: NestedTests) -> None:
    for name in ("p0", "looks", "upper", "lower", "level"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


def test_boundaries_are_computed_once_in_a_process() -> None:
    boundaries.cache_clear()
    for _ in range(3):
        GroupSequentialTest(0.6, 0.01, 100)
    assert boundaries.cache_info().misses == 1


def test_boundaries_are_read_from_files(tmp_path: Path, designed: list[float]) -> None:
    first = sequential_tests([0.5, 0.8], 0.01, 300, data_home=tmp_path / "new")
    assert designed == [0.5, 0.8]
    second = sequential_tests([0.5, 0.8], 0.01, 300, data_home=str(tmp_path / "new"))
    assert designed == [0.5, 0.8]
    assert_same(first, second)
    assert_same(first, sequential_tests([0.5, 0.8], 0.01, 300))
    assert len(files_in(tmp_path)) == 1


def test_other_parameters_have_other_files(tmp_path: Path) -> None:
    sequential_tests([0.5], 0.01, 300, data_home=tmp_path)
    sequential_tests([HALF], 0.01, 300, data_home=tmp_path)
    sequential_tests([0.5], 0.011, 300, data_home=tmp_path)
    sequential_tests([0.5], 0.01, 301, data_home=tmp_path)
    sequential_tests([0.5], 0.01, 300, [150, 300], data_home=tmp_path)
    assert len(files_in(tmp_path)) == 5


def tampered(record: dict[str, Any]) -> str:
    record["boundaries"]["upper"][0][0] -= 1
    return json.dumps(record)


def misplaced(record: dict[str, Any]) -> str:
    record["parameters"]["alpha"] = (0.5).hex()
    return json.dumps(record)


def of_another_version(record: dict[str, Any]) -> str:
    record["format"] = "another"
    return json.dumps(record)


@pytest.mark.parametrize(
    "damage",
    [
        tampered,
        misplaced,
        of_another_version,
        lambda record: json.dumps(record)[:-40],
        lambda record: "",
        lambda record: "[1, 2]",
        lambda record: '{"sha256": 0}',
        lambda record: "[" * 100_000,
        lambda record: "\udcff\udcfe",
    ],
)
def test_a_damaged_or_foreign_file_is_replaced(
    tmp_path: Path, designed: list[float], damage: Any
) -> None:
    good = sequential_tests([0.5], 0.01, 300, data_home=tmp_path)
    (path,) = files_in(tmp_path)
    content = path.read_bytes()
    path.write_text(damage(json.loads(content)), encoding="utf-8", errors="surrogateescape")
    assert_same(good, sequential_tests([0.5], 0.01, 300, data_home=tmp_path))
    assert designed == [0.5, 0.5]
    assert path.read_bytes() == content
    assert files_in(tmp_path) == [path]


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    tests = sequential_tests([0.5], 0.01, 300, data_home=blocked)
    assert_same(tests, sequential_tests([0.5], 0.01, 300))


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.0, 0.1, 10), ValueError, r"^p0 must be above 0 and at most 1, got 0\.0\.$"),
        ((1.1, 0.1, 10), ValueError, r"^p0 must be above 0 and at most 1, got 1\.1\.$"),
        ((math.nan, 0.1, 10), ValueError, r"^p0 must be above 0 and at most 1, got nan\.$"),
        (("0.5", 0.1, 10), TypeError, r"^p0 must be a real number, got '0\.5'\.$"),
        ((0.5, 0, 10), ValueError, r"^alpha must lie strictly between 0 and 1, got 0\.$"),
        ((0.5, None, 10), TypeError, r"^alpha must be a real number, got None\.$"),
        ((0.5, 1e-101, 10), ValueError, r"^alpha must be at least 1e-100, got 1e-101\.$"),
        ((0.5, 0.1, 0), ValueError, r"^n_max must be at least 1, got 0\.$"),
        ((0.5, 0.1, 10.0), TypeError, r"^n_max must be an integer, got 10\.0\.$"),
        ((0.5, 0.1, 10, [5, 9]), ValueError, r"^looks must end at n_max \(10\), got \[5, 9\]\.$"),
        ((0.5, 0.1, 10, [5, 5, 10]), ValueError, r"^looks must be strictly increasing and posi"),
        ((0.5, 0.1, 10, [0, 10]), ValueError, r"^looks must be strictly increasing and positive"),
        ((0.5, 0.1, 10, []), ValueError, r"^looks must be strictly increasing and positive, got"),
        ((0.5, 0.1, 10, [[10]]), ValueError, r"^looks must be strictly increasing and positive"),
        ((0.5, 0.1, 10, [2.5, 10]), ValueError, r"^looks must be integers, got 2\.5\.$"),
        ((0.5, 0.1, 10, "ten"), TypeError, r"^looks must be integers, got 'ten'\.$"),
    ],
)
def test_broken_arguments_are_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        GroupSequentialTest(*arguments)
    p0, *others = arguments
    with pytest.raises(error, match=message):
        sequential_tests([p0], *others)


def test_proportions_must_be_a_sorted_list() -> None:
    with pytest.raises(ValueError, match=r"^p0s must be non-decreasing, got \[0\.6, 0\.5\]\. Sort"):
        sequential_tests([0.6, 0.5], 0.1, 10)
    with pytest.raises(ValueError, match=r"^p0s must be one-dimensional, got an array of shape \("):
        sequential_tests(0.5, 0.1, 10)


def test_proportions_to_evaluate_must_be_probabilities() -> None:
    test = GroupSequentialTest(0.5, 0.1, 10)
    for evaluate in (test.power, test.claim_probability, test.expected_draws):
        with pytest.raises(ValueError, match=r"^p must lie in \[0, 1\], got 1\.5\.$"):
            evaluate([0.5, 1.5])
    with pytest.raises(ValueError, match=r"^p must lie in \[0, 1\], got nan\.$"):
        sequential_tests([0.5], 0.1, 10).simulate(math.nan, np.random.default_rng(0))


def test_geometric_looks_refuse_broken_arguments() -> None:
    with pytest.raises(ValueError, match=r"^ratio must be above 1 and finite, got 1\.$"):
        geometric_looks(100, ratio=1)
    with pytest.raises(TypeError, match=r"^ratio must be a real number, got '2'\.$"):
        geometric_looks(100, ratio="2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^first must be at least 1, got 0\.$"):
        geometric_looks(100, first=0)
    with pytest.raises(TypeError, match=r"^n_max must be an integer, got None\.$"):
        geometric_looks(None)  # type: ignore[arg-type]


def nested_arrays(**changes: Any) -> dict[str, Any]:
    arrays = {"p0": [0.5, 0.6], "looks": [10, 20], "level": [0.1, 0.1]}
    arrays |= {"upper": [[9, 15], [10, 16]], "lower": [[3, 14], [4, 15]]}
    return arrays | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upper": [[9, 15]]}, r"^upper and lower must have shape \(2, 2\) and level shape \(2,\)"),
        ({"level": [0.1]}, r"got \(2, 2\), \(2, 2\) and \(1,\)\.$"),
        ({"p0": [0.6, 0.5]}, r"^p0, upper and lower must be non-decreasing from test to test\.$"),
        ({"upper": [[10, 15], [9, 16]]}, r"^p0, upper and lower must be non-decreasing from"),
        ({"lower": [[4, 14], [3, 15]]}, r"^p0, upper and lower must be non-decreasing from"),
        ({"lower": [[9, 14], [9, 15]]}, r"^lower must be below upper, and one below it at the"),
        ({"lower": [[3, 13], [4, 15]]}, r"^lower must be below upper, and one below it at the"),
    ],
)
def test_tests_that_are_not_nested_are_refused(changes: dict[str, Any], message: str) -> None:
    NestedTests(**nested_arrays())
    with pytest.raises(ValueError, match=message):
        NestedTests(**nested_arrays(**changes))
