"""What agreeing votes say about attacks: formulas in 60 digits, and every shift of a partition."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri, xlogy

from randsmooth.bounds.accuracy import collision_gap, entropy_gap, gaussian_total_variation
from randsmooth.bounds.divergences import gaussian_divergence


def gaussian(p, radius):
    return ndtr(ndtri(p) - radius) * (1 - 1e-11)


def test_entropy_gap_agrees_with_golden_values(shared: Path) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())["entropy"]
    for row in values["gap"]:
        gap = entropy_gap(float(values["exp_minus_H"]), float(row["kl_eps"]))
        exact = mp.mpf(row["entropy_gap_bound"])
        assert float(gap) == pytest.approx(float(exact), rel=1e-9)
        left = gaussian(0.7, float(row["attack_l2"]) / float(row["sigma"]))
        assert left == pytest.approx(float(row["neyman_pearson_py_0_7"]), rel=1e-9)


@settings(max_examples=80, deadline=None)
@example(1.0, 1.1874900390116255e-191)
@example(1.0, 5e-324)
@given(st.floats(0, 1), st.floats(0, 50))
def test_gaps_are_just_above_their_formula(agreement: float, divergence: float) -> None:
    with mp.workdps(60):
        # 1 - e^-d q without its cancellation, which no number of digits survives at d = 1e-191.
        exact = -mp.expm1(-mp.mpf(divergence)) + mp.exp(-mp.mpf(divergence)) * (
            1 - mp.mpf(agreement)
        )
        for gap in (entropy_gap, collision_gap):
            value = mp.mpf(float(gap(agreement, divergence)))
            assert exact <= value or value == 1
            assert value <= exact * (1 + mp.mpf(1e-14))


def test_gaps_at_the_ends() -> None:
    assert entropy_gap(1.0, 0.0) == 0
    assert entropy_gap(0.0, 0.0) == 1
    assert entropy_gap(1.0, math.inf) == 1
    assert collision_gap(0.9, math.inf) == 1
    assert entropy_gap([0.5, 0.6], [[0.1], [0.2]]).shape == (2, 2)


@pytest.mark.parametrize("attack", [0.05, 0.3, 1.0, 3.0])
def test_no_bound_is_below_what_an_attack_really_takes(attack: float) -> None:
    # Noise in one dimension and a partition of the line: every shift can be tried.
    rng = np.random.default_rng(0)
    shifts = np.linspace(-attack, attack, 201)
    for _ in range(50):
        cuts = np.sort(rng.normal(0, 1.5, 4))
        answers = rng.integers(0, 3, 5)
        edges = np.concatenate([[-np.inf], cuts, [np.inf]])
        pieces = np.diff(ndtr(edges[None] - shifts[:, None]), axis=1)
        p = np.stack([pieces[:, answers == k].sum(axis=1) for k in range(3)], axis=1)
        here = p[100]
        exp_entropy = np.exp(xlogy(here, here).sum())
        bounds = [
            float(entropy_gap(min(exp_entropy, 1), gaussian_divergence(attack, sigma=1.0))),
            float(gaussian_total_variation(attack, sigma=1.0)),
        ]
        for k in range(3):
            taken = here[k] - p[:, k].min()
            assert taken <= min(bounds) + 1e-12
            assert taken <= here[k] - gaussian(here[k], attack) + 1e-9


def test_tight_form_is_never_worse_than_total_variation_and_entropy() -> None:
    p = np.linspace(0, 1, 400)
    exp_entropy = np.exp(xlogy(p, p) + xlogy(1 - p, 1 - p))
    for attack in (0.05, 0.5, 2.0):
        loss, distance = p - gaussian(p, attack), gaussian_total_variation(attack, sigma=1.0)
        gap = entropy_gap(exp_entropy, gaussian_divergence(attack, sigma=1.0))
        assert (loss <= gap + 1e-9).all()
        assert distance - 1e-4 <= loss.max() <= distance


@pytest.mark.parametrize("gap", [entropy_gap, collision_gap])
def test_broken_populations_are_rejected(gap: Callable[..., object]) -> None:
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got "):
            gap(bad, 0.1)
    for bad in (-0.1, np.nan):
        with pytest.raises(ValueError, match=r"divergence must be at least 0, got "):
            gap(0.5, bad)
