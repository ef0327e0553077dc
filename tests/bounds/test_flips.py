"""Bounds for random flips, against enumeration of all outcomes and all base classifiers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from randsmooth.bounds.flip_law import FLIP_UNITS, flip_law
from randsmooth.bounds.flip_splits import certified_flips, flips_split_probability_lower
from randsmooth.bounds.flips import flips_probability_lower, flips_radius
from randsmooth.bounds.validation import checked_integer

# Probabilities with few binary digits, so that sums over outcomes are exact in doubles.
LAWS = [
    (0.25, 0.25, 2),
    (0.25, 0.5, 2),
    (0.125, 0.75, 2),
    (0.0, 0.5, 2),
    (0.5, 0.5, 3),
    (0.25, 0.5, 3),
    (1.0, 0.25, 3),
]


def transition(p_add: float, p_del: float, n_categories: int) -> list[list[Fraction]]:
    """Return the rounded probabilities of all categories, given each."""
    rows = []
    for start in range(n_categories):
        p = p_del if start else p_add
        each = Fraction(round(p * FLIP_UNITS / (n_categories - 1)), FLIP_UNITS)
        rows.append([each] * n_categories)
        rows[-1][start] = 1 - (n_categories - 1) * each
    return rows


def outcome_law(x: Sequence[int], rows: list[list[Fraction]]) -> list[Fraction]:
    """Return the probability of every outcome around an input."""
    law = [Fraction(1)]
    for value in x:
        law = [p * q for p in law for q in rows[value]]
    return law


def least_after(p: Fraction, before: list[Fraction], after: list[Fraction]) -> Fraction:
    """Return the least probability after of an event with probability p before, by sorting."""
    ratios = sorted((q / b, b, q) for b, q in zip(before, after, strict=True) if b)
    least, left = Fraction(0), p
    for ratio, b, _ in ratios:
        share = min(left, b)
        least, left = least + share * ratio, left - share
    return least


def kinds_of_change(x: Sequence[int], y: Sequence[int]) -> dict[str, int]:
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a != b]
    n_added, n_deleted = sum(a == 0 for a, _ in pairs), sum(b == 0 for _, b in pairs)
    return {
        "n_added": n_added,
        "n_deleted": n_deleted,
        "n_switched": len(pairs) - n_added - n_deleted,
    }


def all_events(n_outcomes: int) -> NDArray[np.float64]:
    return np.array(list(itertools.product((0.0, 1.0), repeat=n_outcomes)))


@pytest.mark.parametrize(("p_add", "p_del", "n_categories"), LAWS)
def test_no_base_classifier_falls_below_the_bound_and_some_attain_it(
    p_add: float, p_del: float, n_categories: int
) -> None:
    flips = {"p_add": p_add, "p_del": p_del, "n_categories": n_categories}
    rows = transition(p_add, p_del, n_categories)
    d = 3 if n_categories == 2 else 2
    events = all_events(n_categories**d)
    for x, y in itertools.product(itertools.product(range(n_categories), repeat=d), repeat=2):
        before, after = (np.array(outcome_law(z, rows), dtype=float) for z in (x, y))
        p, q = events @ before, events @ after
        changes = kinds_of_change(x, y)
        bound = flips_split_probability_lower(p, **changes, **flips)
        assert (bound <= q).all()
        worst = flips_probability_lower(p, sum(changes.values()), **flips)
        assert (worst <= bound + 1e-15).all()
        # The events with the largest likelihood ratios meet the bound.
        order = np.argsort(
            np.divide(-before, after, out=np.full_like(after, -np.inf), where=after > 0)
        )
        prefix = np.tri(len(order))[:, np.argsort(order)]
        met = flips_split_probability_lower(np.minimum(prefix @ before, 1), **changes, **flips)
        possible = before[order].cumsum() > 0
        usable = (before[order] > 0) & possible
        assert np.allclose(met[usable], (prefix @ after)[usable], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("p_add", "p_del", "n_categories", "changes"),
    [
        (0.2, 0.2, 2, (1, 2, 0)),
        (0.01, 0.6, 2, (2, 2, 0)),
        (0.01, 0.6, 2, (0, 4, 0)),
        (1e-6, 0.9, 2, (1, 1, 0)),
        (0.3, 0.3, 4, (1, 1, 1)),
        (0.1, 0.7, 3, (1, 1, 2)),
    ],
)
def test_bound_is_just_below_the_exact_one_up_to_the_ends_of_the_interval(
    p_add: float, p_del: float, n_categories: int, changes: tuple[int, int, int]
) -> None:
    added, deleted, switched = changes
    rows = transition(p_add, p_del, n_categories)
    x = [0] * added + [1] * (deleted + switched)
    y = [1] * added + [0] * deleted + [2] * switched
    before, after = outcome_law(x, rows), outcome_law(y, rows)
    random = np.random.default_rng(0)
    ends = 10.0 ** random.uniform(-16, -1, 60)
    p = np.concatenate([random.random(60), ends, 1 - ends, [0.0, 0.5, 1.0, 5e-324, 1e-300]])
    bound = flips_split_probability_lower(
        p,
        n_added=added,
        n_deleted=deleted,
        n_switched=switched,
        p_add=p_add,
        p_del=p_del,
        n_categories=n_categories,
    )
    for probability, value in zip(p, bound, strict=True):
        exact = least_after(Fraction(float(probability)), before, after)
        assert 0 <= Fraction(float(value)) <= exact
        assert exact - Fraction(float(value)) <= exact / 10**9 + Fraction(1, 10**290)


@pytest.mark.parametrize(
    ("p_add", "p_del", "n_categories"),
    [(0.2, 0.2, 2), (0.1, 0.6, 2), (0.45, 0.3, 2), (0.4, 0.4, 3), (0.2, 0.6, 3)],
)
def test_radius_is_the_largest_that_all_splits_certify(
    p_add: float, p_del: float, n_categories: int
) -> None:
    d, random = 4 if n_categories == 2 else 3, np.random.default_rng(1)
    rows = transition(p_add, p_del, n_categories)
    categories = range(n_categories)
    laws = {}
    for x in itertools.product(categories, repeat=d):
        for y in itertools.product(categories, repeat=d):
            changes = tuple(kinds_of_change(x, y).values())
            if sum(changes) and changes not in laws:
                laws[changes] = outcome_law(x, rows), outcome_law(y, rows)
    tops = 1 - random.random(25) ** 2 / 2
    others = np.where(np.arange(25) < 12, 1 - tops, (1 - tops) * random.random(25))
    flips = {"p_add": p_add, "p_del": p_del, "n_categories": n_categories, "n_features": d}
    got = flips_radius(tops, others, **flips)
    assert np.array_equal(got[:12], flips_radius(tops[:12], **flips))
    for top, other, radius in zip(tops, others, got, strict=True):
        failing = [
            sum(changes)
            for changes, law in laws.items()
            if least_after(Fraction(top), *law) + least_after(1 - Fraction(other), *law) <= 1
        ]
        assert radius == min(failing, default=d + 1) - 1
    assert len(set(got)) > 2


def test_threshold_of_one_symmetric_flip_is_that_of_the_closed_form() -> None:
    flip = 0.25
    threshold = 1 - flip + (0.5 - flip) * flip / (1 - flip)
    around = threshold + np.array([-1e-12, 1e-12])
    assert flips_radius(around, p_add=flip).tolist() == [0, 1]


def test_radius_holds_for_random_base_classifiers_on_all_points_around() -> None:
    rows, d = transition(0.2, 0.4, 2), 4
    points = list(itertools.product((0, 1), repeat=d))
    laws = np.array([outcome_law(x, rows) for x in points], dtype=float)
    distance = (np.array(points)[:, None] != np.array(points)).sum(axis=2)
    random, certified = np.random.default_rng(0), 0
    for _ in range(300):
        # Votes that lean to one class, or nothing is certified.
        votes = np.eye(3)[random.choice(3, size=2**d, p=random.dirichlet([4, 0.3, 0.2]))]
        probabilities = laws @ votes
        label = probabilities.argmax(axis=1)
        top = probabilities.max(axis=1)
        second = np.sort(probabilities, axis=1)[:, -2]
        radius = flips_radius(
            np.minimum(top, 1), np.minimum(second, 1), p_add=0.2, p_del=0.4, n_features=d
        )
        near = distance <= radius[:, None]
        assert (label[None, :] == label[:, None])[near].all()
        certified += int(((radius > 0) & (radius < d)).sum())
    assert certified > 300


@pytest.mark.parametrize(("p_add", "p_del", "n_categories"), LAWS)
def test_worst_case_is_convex_and_monotone(p_add: float, p_del: float, n_categories: int) -> None:
    p = np.linspace(0, 1, 401)
    last = p
    for radius in range(1, 6):
        flips = {"p_add": p_add, "p_del": p_del, "n_categories": n_categories}
        least = flips_probability_lower(p, radius, **flips)
        assert (np.diff(least) >= -1e-15).all()
        assert (np.diff(least, n=2) >= -1e-14).all()
        assert (least <= last + 1e-15).all()
        last = least


def test_table_of_additions_and_deletions_agrees_with_the_bounds_of_each_split() -> None:
    top, other = np.array([0.99, 0.9, 0.5]), np.array([0.001, 0.05, 0.5])
    flips = {"p_add": 0.02, "p_del": 0.6}
    table = certified_flips(top, other, **flips, n_added=3, n_deleted=5)
    assert table.shape == (3, 4, 6)
    for added, deleted in itertools.product(range(4), range(6)):
        split = {"n_added": added, "n_deleted": deleted, **flips}
        least = flips_split_probability_lower(top, **split)
        most = 1 - flips_split_probability_lower(1 - other, **split)
        assert np.array_equal(table[:, added, deleted], least > most)
    assert table[0, 1, 3]
    assert not table[2].any()
    # Whatever is certified, so is everything nearer; and the radius counts the worst split.
    assert (table[:, :-1] >= table[:, 1:]).all()
    assert (table[:, :, :-1] >= table[:, :, 1:]).all()
    radius = flips_radius(top, other, **flips)
    for row, value in enumerate(radius[:2].astype(int)):
        assert all(table[row, added, value - added] for added in range(min(value, 3) + 1))


def test_symmetric_flips_do_not_tell_kinds_of_changes_apart() -> None:
    flips = {"p_add": 0.3, "n_categories": 3}
    splits = [(3, 0, 0), (0, 3, 0), (1, 1, 1), (0, 0, 3)]
    values = {
        float(
            flips_split_probability_lower(
                0.9, n_added=added, n_deleted=deleted, n_switched=switched, **flips
            )
        )
        for added, deleted, switched in splits
    }
    assert values == {float(flips_probability_lower(0.9, 3, **flips))}


def test_noise_that_hides_all_of_the_input_certifies_everything() -> None:
    assert np.array_equal(flips_radius([0.6, 0.4], p_add=0.5), [np.inf, 0])
    assert np.array_equal(flips_radius([0.6, 0.4], p_add=0.25, p_del=0.75, n_features=7), [7, 0])
    assert flips_probability_lower(0.6, 5, p_add=0.5) == 0.6


def test_search_ends_at_the_number_of_features_or_of_changes_looked_into() -> None:
    assert flips_radius(1 - 1e-9, p_add=0.45, n_features=4) == 4
    assert flips_radius(1.0, 0.0, p_add=0.45, n_features=4) == 4
    assert flips_radius(1 - 1e-9, p_add=0.1, p_del=0.5, n_categories=40) <= 12
    assert flips_radius([1 - 1e-12], [1e-12], p_add=0.3, p_del=0.6, n_categories=3) == 12
    assert flips_radius(0.9999, p_add=0.3, p_del=0.6, n_categories=3) == 12
    assert flips_probability_lower(1.0, 13, p_add=0.1, p_del=0.5, n_categories=3) == 0
    assert flips_probability_lower(0.9, np.inf, p_add=0.4) == 0
    few = flips_probability_lower(0.9, [3, 5, np.inf], p_add=0.4, n_features=3)
    assert (few == few[0]).all()


def test_many_regions_of_extreme_ratios_are_counted_without_overflow() -> None:
    least = flips_probability_lower([0.5, 0.999, 1.0], 60, p_add=1e-6)
    assert least.tolist() == sorted(least)
    assert (least >= 0).all()
    assert flips_radius([1 - 1e-5, 1 - 1e-7], p_add=1e-6).tolist() == [0, 1]


def test_certainty_ends_where_outcomes_become_possible_that_were_not() -> None:
    # Where all outcomes are possible, a certain event stays so: only the search ends.
    assert flips_radius(1.0, p_add=0.2, n_features=20) == 20
    assert flips_radius(1.0, p_add=0.0, p_del=0.25) == 0
    assert flips_radius(1.0, p_add=0.0, p_del=0.75) == 2


def test_bounds_broadcast_and_return_scalars_for_scalars() -> None:
    assert flips_radius([[0.9], [0.99]], [0.001, 0.01], p_add=0.2).shape == (2, 2)
    assert isinstance(flips_radius(0.9, p_add=0.2), np.float64)
    assert flips_probability_lower([0.9, 0.8], [[1], [2], [0]], p_add=0.2).shape == (3, 2)
    assert isinstance(flips_probability_lower(0.9, 1, p_add=0.2), np.float64)
    split = {"n_added": 0, "n_deleted": 0, "p_add": 0.2}
    assert isinstance(flips_split_probability_lower(0.9, **split), np.float64)
    assert certified_flips(0.9, p_add=0.2, n_added=0, n_deleted=1).shape == (1, 2)


def test_flip_probabilities_are_rounded_to_what_a_word_decides() -> None:
    law = flip_law(0.3, 1.0, 4)
    assert (law.from_zero, law.from_other) == (round(0.1 * 2**24), 2**24 // 3)
    assert flip_law(0.3, None, 4).from_other == law.from_zero


def test_flip_laws_refuse_what_is_none() -> None:
    with pytest.raises(ValueError, match=r"^n_categories must lie from 2 to 4096, got 1\.$"):
        flip_law(0.1, None, 1)
    with pytest.raises(TypeError, match=r"^n_categories must be an integer, got 2\.5\.$"):
        flip_law(0.1, None, 2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^n must be an integer, got True\.$"):
        checked_integer("n", True)
    with pytest.raises(ValueError, match=r"^p_add must lie in \[0, 1\], got nan\.$"):
        flip_law(float("nan"))
    with pytest.raises(ValueError, match=r"^p_del must lie in \[0, 1\], got 1\.5\.$"):
        flip_law(0.1, 1.5)
    with pytest.raises(TypeError, match=r"^p_add must be a real number, got 'a'\.$"):
        flip_law("a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^p_add or p_del must be positive, got 1e-09 and None"):
        flip_law(1e-9)


def test_bounds_refuse_broken_arguments() -> None:
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got 2\.0\.$"):
        flips_radius(2.0, p_add=0.1)
    with pytest.raises(ValueError, match=r"^n_features must be at least 1, got 0\.$"):
        flips_radius(0.9, p_add=0.1, n_features=0)
    with pytest.raises(ValueError, match=r"^radius must not be negative, got -1\.0\.$"):
        flips_probability_lower(0.9, -1, p_add=0.1)
    with pytest.raises(ValueError, match=r"^n_added must not be negative, got -1\.$"):
        flips_split_probability_lower(0.9, n_added=-1, n_deleted=0, p_add=0.1)
    with pytest.raises(ValueError, match=r"^n_deleted must not be negative, got -2\.$"):
        certified_flips(0.9, n_added=1, n_deleted=-2, p_add=0.1)
    with pytest.raises(ValueError, match=r"^n_switched must be 0 where there are 2 cat.*got 1\.$"):
        flips_split_probability_lower(0.9, n_added=0, n_deleted=0, n_switched=1, p_add=0.1)
