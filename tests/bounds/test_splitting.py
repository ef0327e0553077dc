"""Splitting noise: the theorem about cells by brute force, and radii against every grid point."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from randsmooth.bounds import uniform_radius
from randsmooth.bounds.splitting import deterministic_splitting_radius, splitting_radius


def split_value(x: Fraction, offset: Fraction, width: Fraction) -> Fraction:
    """Middle of the cell of `x`, cut to [0, 1]; a point on an end is in the left cell."""
    cell = -((offset - x) // width)
    return (min(width * cell + offset, Fraction(1)) + max(width * (cell - 1) + offset, 0)) / 2


@pytest.mark.parametrize("half", [Fraction(0), Fraction(1, 2)])
def test_a_shift_of_t_steps_changes_at_most_t_outcomes(half: Fraction) -> None:
    rng = np.random.default_rng(0)
    for levels, outcomes in ((4, 3), (5, 10), (8, 16), (6, 7), (3, 1), (255, 90)):
        width, d = Fraction(outcomes, levels), 3
        for _ in range(40):
            phases = rng.integers(0, outcomes, d)
            first, second = rng.integers(0, levels + 1, (2, d))
            if levels > 100:
                second = np.clip(first + rng.integers(-5, 6, d), 0, levels)
            changed = 0
            for j in range(outcomes):
                offsets = [(int((j + v) % outcomes) + half) / levels for v in phases]
                seen = [
                    [
                        split_value(Fraction(int(n), levels), s, width)
                        for n, s in zip(x, offsets, strict=True)
                    ]
                    for x in (first, second)
                ]
                changed += seen[0] != seen[1]
            assert changed <= np.abs(first - second).sum()


def test_one_coordinate_meets_as_many_changes_as_steps_while_there_are_outcomes() -> None:
    levels, outcomes = 12, 5
    width = Fraction(outcomes, levels)
    for a, b in itertools.combinations(range(levels + 1), 2):
        changed = sum(
            -((s - Fraction(a, levels)) // width) != -((s - Fraction(b, levels)) // width)
            for s in ((j + Fraction(1, 2)) / levels for j in range(outcomes))
        )
        assert changed == min(b - a, outcomes)


@pytest.mark.parametrize("seed", range(6))
def test_every_grid_point_in_the_closed_ball_keeps_the_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels, outcomes, n_classes = 5, 11, 3
    width = Fraction(outcomes, levels)
    phases = rng.integers(0, outcomes, 2)
    # Mostly class 2, so that there is something to certify.
    answers: dict[tuple[Fraction, ...], int] = {}
    grid = list(itertools.product(range(levels + 1), repeat=2))
    counts = np.zeros((len(grid), n_classes), dtype=np.int64)
    for row, point in enumerate(grid):
        for j in range(outcomes):
            offsets = [(int((j + v) % outcomes) + Fraction(1, 2)) / levels for v in phases]
            seen = (
                j,
                *(
                    split_value(Fraction(n, levels), s, width)
                    for n, s in zip(point, offsets, strict=True)
                ),
            )
            answers.setdefault(seen, int(rng.choice(n_classes, p=[0.15, 0.15, 0.7])))
            counts[row, answers[seen]] += 1
    label = counts.argmax(axis=1)
    radius = deterministic_splitting_radius(counts, label, levels=levels)
    steps = np.rint(radius * levels)
    distance = np.abs(np.array(grid)[:, None] - np.array(grid)).sum(axis=-1)
    for row in range(len(grid)):
        assert (label[distance[row] <= steps[row]] == label[row]).all()
    assert steps.max() >= 1


def test_radius_is_the_number_of_votes_that_may_turn() -> None:
    # Turning that many votes from the winner to any other class never costs the win; one more may.
    rng = np.random.default_rng(1)
    for _ in range(200):
        votes = rng.integers(0, 12, 4)
        winner = int(votes.argmax())
        radius = deterministic_splitting_radius(votes, winner, levels=1)
        assert isinstance(radius, np.float64)

        def wins(turned: int, votes=votes, winner=winner) -> bool:
            after = [
                votes + turned * (np.eye(4, dtype=int)[b] - np.eye(4, dtype=int)[winner])
                for b in range(4)
            ]
            return all(a.argmax() == winner for b, a in enumerate(after) if b != winner)

        assert wins(int(radius))
        assert not wins(int(radius) + 1)


def test_radius_is_rounded_down_and_whole_numbers_are_exact() -> None:
    steps = np.arange(0, 3000)
    counts = np.stack([2 * steps, np.zeros_like(steps)], axis=-1)
    for levels in (1, 3, 7, 10, 255, 256, 2**40):
        radius = deterministic_splitting_radius(counts, np.zeros(3000, int), levels=levels)
        for value, step in zip(radius[::7], steps[::7], strict=True):
            exact = Fraction(int(step), levels)
            assert Fraction(float(value)) <= exact
            assert Fraction(float(np.nextafter(value, np.inf))) > exact


def test_ties_belong_to_the_first_class() -> None:
    counts = [[5, 5], [6, 5], [5, 6], [7, 5], [5, 7], [5, 8]]
    label = [0, 0, 1, 0, 1, 1]
    radius = deterministic_splitting_radius(counts, label, levels=1)
    np.testing.assert_array_equal(radius, [0, 0, 0, 1, 0, 1])


def test_random_splitting_has_the_radius_of_uniform_noise() -> None:
    p1, p2 = np.linspace(0.1, 1, 20)[:, None], np.linspace(0, 0.5, 7)
    np.testing.assert_array_equal(
        splitting_radius(p1, p2, half_width=1.5), uniform_radius(p1, p2, half_width=1.5)
    )
    assert splitting_radius(0.9, half_width=1.5) == pytest.approx(1.2, rel=1e-9)
    assert splitting_radius(0.9, half_width=1.5) <= 1.2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"counts": [3]}, ValueError, r"^counts must have at least two classes along the last "),
        ({"counts": [-1, 3], "label": 1}, ValueError, r"^counts must be non-negative, got -1\.$"),
        ({"counts": ["a", "b"]}, TypeError, r"^counts must be integers, got \['a', 'b'\]\.$"),
        ({"label": 0.5}, ValueError, r"^label must be integers, got 0\.5\.$"),
        ({"label": [0, 0]}, ValueError, r"^label must have the shape \(\), one for each row of "),
        ({"label": 1}, ValueError, r"^label must be the class with the most votes, the first of "),
        ({"label": -2}, ValueError, r"several, got -2 for the votes \[5, 3\]\.$"),
        ({"levels": 0}, ValueError, r"^levels must lie in \[1, 1099511627776\], got 0\.$"),
        ({"levels": 2**41}, ValueError, r"^levels must lie in \[1, 1099511627776\], got 2199"),
        ({"levels": 2.0}, TypeError, r"^levels must be an integer, got 2\.0\.$"),
    ],
)
def test_broken_arguments_are_rejected(arguments, error, message) -> None:
    given = {"counts": [5, 3], "label": 0, "levels": 4} | arguments
    with pytest.raises(error, match=message):
        deterministic_splitting_radius(**given)


def test_broken_probabilities_and_widths_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"^p_lower must lie in \[0, 1\], got 1\.5\.$"):
        splitting_radius(1.5, half_width=1.0)
    with pytest.raises(ValueError, match=r"^half_width must be positive and finite, got 0\.0\.$"):
        splitting_radius(0.9, half_width=0.0)
