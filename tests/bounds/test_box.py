"""Radii within a box against rational arithmetic and every kind of allocation."""

from __future__ import annotations

import itertools
import json
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from randsmooth.bounds import uniform_radius
from randsmooth.bounds.box import box_uniform_radius


def exact_greedy(gap: Fraction, half_width: Fraction, room: list[Fraction]) -> Fraction | None:
    """Greedy radius in rational arithmetic, None where the whole box is certified."""
    left, length, needed = Fraction(1), Fraction(0), 1 - gap / 2
    for b in sorted(room, reverse=True):
        after = left * max(1 - b / (2 * half_width), Fraction(0))
        if after <= needed:
            return length + 2 * half_width * (1 - needed / left)
        left, length = after, length + b
    return None


def assert_just_below(value: float, exact: Fraction) -> None:
    assert Fraction(float(value)) <= exact
    assert Fraction(float(value)) >= exact * (1 - Fraction(1, 10**9))


def test_radius_agrees_with_golden_values(shared: Path) -> None:
    rows = json.loads((shared / "reference" / "values.json").read_text())["box_l1"]
    for row in rows:
        gap, half_width = Fraction(row["gap"]), float(row["lambd"])
        X = [[float(b) for b in row["b"]]]
        value = box_uniform_radius(float((1 + gap) / 2), half_width=half_width, X=X)
        assert_just_below(value[0], Fraction(row["radius"]))


def test_radius_agrees_with_a_worked_example() -> None:
    # The widest two coordinates use up 3/4 * 4/5 = 0.6; the third may go until 0.55 are left.
    value = box_uniform_radius(0.95, half_width=2.0, X=[[0.0, 0.8, 0.4]])
    assert_just_below(value[0], Fraction(32, 15))


def test_radius_is_just_below_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    for _ in range(400):
        d = int(rng.integers(1, 40))
        x = rng.choice([rng.random(d), rng.integers(0, 2, d) * 1.0, np.full(d, 0.5)])
        p1 = float(rng.choice([rng.random(), 1 - 10 ** rng.uniform(-16, -1), 0.5 + 1e-9]))
        p2 = float(rng.random()) * (1 - p1)
        half_width = float(10 ** rng.uniform(-2, 2))
        value = box_uniform_radius(p1, p2, half_width=half_width, X=x[None])[0]
        gap = Fraction(p1) - Fraction(p2)
        if gap <= 0:
            assert value == 0
            continue
        room = [max(Fraction(float(c)), 1 - Fraction(float(c))) for c in x]
        exact = exact_greedy(gap, Fraction(half_width), room)
        if exact is None:
            # Next to the corner the last bits decide; below it the corner itself is the radius.
            assert value == np.inf or value >= float(sum(room)) * (1 - 1e-9)
        else:
            assert_just_below(value, exact)


def test_no_allocation_of_that_length_leaves_less() -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        d = int(rng.integers(2, 6))
        x, half_width = rng.random(d), float(rng.uniform(0.3, 3))
        p = float(rng.uniform(0.55, 0.999))
        radius = box_uniform_radius(p, half_width=half_width, X=x[None])[0]
        room = np.maximum(x, 1 - x)
        moves = rng.random((3000, d)) ** rng.choice([0.2, 1.0, 5.0]) * room
        corners = np.array(list(itertools.product([0.0, 1.0], repeat=d))) * room
        moves = np.concatenate([moves, corners, corners[:, ::-1] * 0.7])
        moves = np.minimum(moves, room)
        overlap = np.maximum(1 - moves / (2 * half_width), 0).prod(axis=1)
        inside = moves.sum(axis=1) < radius
        assert (overlap[inside] > 1 - (2 * p - 1) / 2).all()


def test_radius_is_never_below_that_without_a_box() -> None:
    rng = np.random.default_rng(3)
    X, p = rng.random((200, 30)), rng.random(200)
    for half_width in (0.01, 0.4, 1.0, 10.0, 1e6):
        value = box_uniform_radius(p, half_width=half_width, X=X)
        assert (value >= uniform_radius(p, half_width=half_width)).all()
    wide = box_uniform_radius(p, half_width=0.25, X=X)
    np.testing.assert_allclose(wide, uniform_radius(p, half_width=0.25), rtol=1e-9)


def test_a_greedy_move_just_longer_than_the_radius_leaves_too_little() -> None:
    # With less in common than that, the base that gives the class all of the noise around x that
    # the noise around x + d does not reach, and none of the opposite, changes the answer.
    rng = np.random.default_rng(4)
    for _ in range(100):
        x, half_width = rng.random(12), float(rng.uniform(0.4, 3))
        p = float(rng.uniform(0.55, 0.95))
        radius = box_uniform_radius(p, half_width=half_width, X=x[None])[0]
        room = np.sort(np.maximum(x, 1 - x))[::-1]
        assert radius < room.sum()
        before = np.concatenate([[0.0], np.cumsum(room)[:-1]])
        moves = np.clip(radius * (1 + 1e-6) - before, 0, room)
        overlap = np.maximum(1 - moves / (2 * half_width), 0).prod()
        assert p - (1 - overlap) < 0.5 < (1 - p) + (1 - overlap)


def test_the_whole_box_may_be_certified() -> None:
    X = [[0.0, 0.0], [0.0, 0.0], [0.5, 0.5]]
    values = box_uniform_radius([0.99, 0.5, 0.5], half_width=10.0, X=X)
    np.testing.assert_array_equal(values, [np.inf, 0.0, 0.0])
    # Without noise in common across a cell, the corner is always outside.
    assert np.isfinite(box_uniform_radius(1.0, half_width=0.25, X=[[0.0]])).all()


def test_shapes_boxes_and_types_are_taken() -> None:
    rng = np.random.default_rng(5)
    images = rng.random((4, 2, 3, 3))
    flat = box_uniform_radius(0.9, half_width=1.0, X=images.reshape(4, 18))
    np.testing.assert_array_equal(box_uniform_radius(0.9, half_width=1.0, X=images), flat)
    wide = box_uniform_radius(0.9, half_width=255.0, X=images * 255, high=255)
    np.testing.assert_allclose(wide, flat * 255, rtol=1e-9)
    ends = box_uniform_radius(
        0.9, half_width=1.0, X=images[:, 0, 0], low=[0, -1, 0], high=[1, 1, 2]
    )
    assert ends.shape == (4,)
    assert box_uniform_radius(0.9, half_width=[1.0, 2.0], X=np.zeros((2, 3), np.uint8)).shape == (
        2,
    )
    assert box_uniform_radius([], half_width=1.0, X=np.zeros((0, 3))).shape == (0,)
    np.testing.assert_array_equal(
        box_uniform_radius([0.9, 0.4], half_width=1.0, X=np.zeros((2, 0))), [np.inf, 0]
    )


def test_a_thousand_images_take_a_moment() -> None:
    rng = np.random.default_rng(6)
    X, p = rng.random((1000, 3072)), rng.uniform(0.5, 1, 1000)
    start = time.process_time()
    together = box_uniform_radius(p, half_width=3.0, X=X)
    assert time.process_time() - start < 1.5
    rows = [0, 681, 682, 683, 999]
    alone = [box_uniform_radius(p[i], half_width=3.0, X=X[i : i + 1])[0] for i in rows]
    assert alone == together[rows].tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": [[0.5, 1.2]]}, ValueError, r"^X must lie in the box from low to high, got 1\.2; "),
        ({"X": [[0.5, -0.1]]}, ValueError, r"^X must lie in the box from low to high, got -0\.1"),
        ({"X": [[0.5, np.nan]]}, ValueError, r"^X must lie in the box from low to high, got nan"),
        ({"X": 0.5}, ValueError, r"^X must have one input along the first axis, got 0\.5\.$"),
        ({"X": [["a"]]}, TypeError, r"^X must be real numbers, got \[\['a'\]\]\.$"),
        ({"low": None}, TypeError, r"^low must be real numbers, got None\.$"),
        ({"low": -np.inf}, ValueError, r"^low must be finite, got -inf\.$"),
        ({"high": [1.0, np.nan]}, ValueError, r"^high must be finite, got nan\.$"),
        ({"low": 2.0}, ValueError, r"^low must be at most high, got 2\.0 above 1\.0\.$"),
        ({"high": [1.0] * 3}, ValueError, r"^low and high must match one input of shape \(2,\), "),
        ({"p_lower": [0.9, 0.8]}, ValueError, r"^p_lower, p_upper and half_width must have one "),
        ({"p_lower": 1.1}, ValueError, r"^p_lower must lie in \[0, 1\], got 1\.1\.$"),
        ({"half_width": 0.0}, ValueError, r"^half_width must be positive and finite, got 0\.0\.$"),
    ],
)
def test_broken_arguments_are_rejected(arguments, error, message) -> None:
    given = {"p_lower": 0.9, "half_width": 1.0, "X": [[0.2, 0.3]]} | arguments
    with pytest.raises(error, match=message):
        box_uniform_radius(**given)
