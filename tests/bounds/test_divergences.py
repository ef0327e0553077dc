"""Divergences and total variation distances of moved noise, against quadrature and 60 digits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randsmooth.bounds.divergences import (
    exponential_family_divergence,
    gaussian_divergence,
    laplace_divergence,
    smallest_standard_deviation,
)
from randsmooth.bounds.total_variation import (
    gaussian_total_variation,
    laplace_total_variation,
    total_variation_gap,
    uniform_total_variation,
)

ATTACKS = [1e-200, 1e-9, 1e-3, 0.0049, 0.0051, 0.3, 1.0, 4.0, 30.0, 700.0]
ORDERS = [1.0, 1 + 1e-12, 1 + 1e-6, 1.01, 1.5, 2.0, 3.0, 50.0, 1e6, 1e300]
EVERY = pytest.mark.parametrize(
    "bound",
    [
        lambda attack: gaussian_divergence(attack, sigma=0.5),
        lambda attack: laplace_divergence(attack, scale=0.5),
        lambda attack: gaussian_total_variation(attack, sigma=0.5),
        lambda attack: laplace_total_variation(attack, scale=0.5),
        lambda attack: uniform_total_variation(attack, half_width=0.5),
    ],
)


def exact_laplace(t: mp.mpf, order: mp.mpf) -> mp.mpf:
    if order == 1:
        return t + mp.exp(-t) - 1
    spread = 2 * order - 1
    return t + mp.log((order + (order - 1) * mp.exp(-spread * t)) / spread) / (order - 1)


def assert_just_above(value: float, exact: mp.mpf, tolerance: float) -> None:
    assert mp.mpf(float(value)) >= exact
    assert mp.mpf(float(value)) - exact <= tolerance * exact + mp.mpf(1e-322)


@pytest.mark.parametrize("order", ORDERS)
def test_laplace_divergence_is_just_above_the_exact_one(order: float) -> None:
    with mp.workdps(700):
        for attack in ATTACKS:
            for scale in (1.0, 0.3):
                exact = exact_laplace(mp.mpf(attack) / mp.mpf(scale), mp.mpf(order))
                value = laplace_divergence(attack, scale=scale, order=order)
                assert_just_above(value, exact, 3e-11)


@pytest.mark.parametrize("order", [1.0, 1.5, 2.0, 50.0])
def test_gaussian_divergence_is_just_above_the_exact_one(order: float) -> None:
    with mp.workdps(60):
        for attack in ATTACKS:
            for sigma in (0.3, 2.0):
                exact = mp.mpf(order) * (mp.mpf(attack) / mp.mpf(sigma)) ** 2 / 2
                value = gaussian_divergence(attack, sigma=sigma, order=order)
                assert_just_above(value, exact, 1e-13)


def test_divergences_agree_with_golden_values(shared: Path) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())
    for row in values["renyi_divergence_laplace"]:
        value = laplace_divergence(
            float(row["shift"]), scale=float(row["scale"]), order=float(row["alpha"])
        )
        assert_just_above(value, mp.mpf(row["renyi"]), 1e-9)
    for row in values["renyi_divergence_gaussian"]:
        value = gaussian_divergence(
            float(row["shift_l2"]), sigma=float(row["sigma"]), order=float(row["alpha"])
        )
        assert_just_above(value, mp.mpf(row["renyi"]), 1e-9)
    for row in values["entropy"]["gap"]:
        attack, sigma = float(row["attack_l2"]), float(row["sigma"])
        divergence = gaussian_divergence(attack, sigma=sigma)
        assert_just_above(divergence, mp.mpf(row["kl_eps"]), 1e-9)
        distance = gaussian_total_variation(attack, sigma=sigma)
        assert_just_above(distance, mp.mpf(row["tv_exact"]), 1e-9)
        smaller = min(mp.mpf(row["pinsker"]), mp.mpf(row["bretagnolle_huber"]))
        assert_just_above(total_variation_gap(divergence), smaller, 1e-9)


@pytest.mark.parametrize("order", [1.0, 1.3, 2.0, 7.0])
def test_laplace_divergence_is_the_integral_that_defines_it(order: float) -> None:
    t = mp.mpf("0.8")

    def integrand(z: mp.mpf) -> mp.mpf:
        q, ratio = mp.exp(-abs(z - t)) / 2, abs(z - t) - abs(z)
        power = mp.exp(order * ratio)
        return q * (power if order > 1 else mp.exp(ratio) * ratio)

    integral = mp.quad(integrand, [-60, -5, 0, t, 5, 60])
    exact = integral if order == 1 else mp.log(integral) / (order - 1)
    value = laplace_divergence(0.8, scale=1.0, order=order)
    assert float(value) == pytest.approx(float(exact), rel=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 5), min_size=2, max_size=5).filter(lambda shift: sum(shift) > 1e-3),
    st.sampled_from(ORDERS[:-1]),
)
def test_one_coordinate_is_the_worst_direction_for_laplace_noise(
    shift: list[float], order: float
) -> None:
    parts = laplace_divergence(np.array(shift), scale=1.0, order=order).sum()
    assert parts <= laplace_divergence(sum(shift), scale=1.0, order=order) * (1 + 1e-9)


@settings(max_examples=80, deadline=None)
@given(st.floats(0, 50), st.floats(1, 60), st.floats(1, 60))
def test_divergences_grow_with_the_order_and_stay_below_the_largest(
    attack: float, first: float, second: float
) -> None:
    low, high = sorted((first, second))
    smaller = laplace_divergence(attack, scale=1.0, order=low)
    larger = laplace_divergence(attack, scale=1.0, order=high)
    assert smaller <= larger * (1 + 1e-10) + 1e-300
    assert larger <= laplace_divergence(attack, scale=1.0, order=math.inf)
    gaussian = [gaussian_divergence(attack, sigma=1.0, order=order) for order in (low, high)]
    assert gaussian[0] <= gaussian[1]


def test_divergences_at_the_ends() -> None:
    assert gaussian_divergence(0.0, sigma=0.3, order=math.inf) == 0
    assert gaussian_divergence(1e-3, sigma=0.3, order=math.inf) == math.inf
    assert gaussian_divergence(math.inf, sigma=0.3) == math.inf
    assert gaussian_divergence(1e300, sigma=1e-300) == math.inf
    for order in (1.0, 2.0, math.inf):
        assert laplace_divergence(0.0, scale=0.3, order=order) == 0
        assert laplace_divergence(math.inf, scale=0.3, order=order) == math.inf
    assert 3 <= laplace_divergence(0.9, scale=0.3, order=math.inf) <= 3 * (1 + 1e-14)


@pytest.mark.parametrize("attack", ATTACKS)
def test_total_variation_distances_are_just_above_the_exact_ones(attack: float) -> None:
    with mp.workdps(250):
        for scale in (0.3, 2.0):
            t = mp.mpf(attack) / mp.mpf(scale)
            gaussian = mp.erf(t / (2 * mp.sqrt(2)))
            rows = [
                (gaussian_total_variation(attack, sigma=scale), gaussian),
                (laplace_total_variation(attack, scale=scale), 1 - mp.exp(-t / 2)),
                (uniform_total_variation(attack, half_width=scale), min(t / 2, mp.mpf(1))),
                (
                    total_variation_gap(attack),
                    mp.sqrt(min(mp.mpf(attack) / 2, 1 - mp.exp(-attack))),
                ),
            ]
            for value, exact in rows:
                assert_just_above(value, exact, 1e-13)
                assert value <= 1


@pytest.mark.parametrize("angle", np.linspace(0, np.pi / 2, 7))
def test_an_axis_is_the_worst_direction_for_the_total_variation_of_laplace_noise(
    angle: float,
) -> None:
    shift = np.array([np.cos(angle), np.sin(angle)])
    shift /= shift.sum()
    z = np.arange(-14, 14, 0.02) + 0.01
    base, moved = np.exp(-np.abs(z)) / 2, [np.exp(-np.abs(z - s)) / 2 for s in shift]
    distance = np.abs(np.outer(base, base) - np.outer(*moved)).sum() * 0.02**2 / 2
    assert distance <= laplace_total_variation(1.0, scale=1.0) + 1e-4
    if angle == 0:
        assert distance == pytest.approx(laplace_total_variation(1.0, scale=1.0), abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=5))
def test_cubes_overlap_most_for_their_shift_where_it_is_shared(shift: list[float]) -> None:
    apart = 1 - np.prod(np.maximum(1 - np.array(shift) / 2, 0))
    assert apart <= uniform_total_variation(sum(shift), half_width=1.0) + 1e-12


def test_divergence_of_any_noise_allows_its_total_variation() -> None:
    attack = np.linspace(0, 8, 200)
    allowed = total_variation_gap(gaussian_divergence(attack, sigma=1.0))
    assert (gaussian_total_variation(attack, sigma=1.0) <= allowed).all()
    allowed = total_variation_gap(laplace_divergence(attack, scale=1.0))
    assert (laplace_total_variation(attack, scale=1.0) <= allowed).all()


def test_exponential_family_divergence_is_that_of_laplace_noise() -> None:
    attack = np.array([0.0, 0.25, 3.0])
    value = exponential_family_divergence(1 / 0.5, attack, 0.0)
    np.testing.assert_allclose(value, laplace_divergence(attack, scale=0.5, order=math.inf))
    assert value[0] == 0
    assert exponential_family_divergence(2.0, 0.5, 0.25) == pytest.approx(1.25)
    assert exponential_family_divergence(0.0, math.inf, 0.5) == 0.5
    exact = mp.mpf(0.1) * mp.mpf(0.3) + mp.mpf(0.7)
    assert_just_above(exponential_family_divergence(0.1, 0.3, 0.7), exact, 1e-14)


def test_covariance_counts_through_its_smallest_deviation() -> None:
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    deviations = np.array([0.25, 0.3, 0.5, 1.0, 2.0, 3.0])
    covariance = rotation @ np.diag(deviations**2) @ rotation.T
    smallest = smallest_standard_deviation(covariance)
    assert smallest <= 0.25
    assert smallest == pytest.approx(0.25, rel=1e-11)
    for bound in (gaussian_divergence, gaussian_total_variation):
        value = bound(0.5, covariance=covariance)
        assert value >= bound(0.5, sigma=0.25)
        assert value == pytest.approx(bound(0.5, sigma=0.25), rel=1e-9)
    # No direction of the attack is worse.
    precision = np.linalg.inv(covariance)
    attacks = rng.normal(size=(200, 6))
    attacks *= 0.5 / np.linalg.norm(attacks, axis=1, keepdims=True)
    divergence = np.einsum("ij,jk,ik->i", attacks, precision, attacks) / 2
    assert (divergence <= gaussian_divergence(0.5, covariance=covariance)).all()


def test_covariance_that_is_diagonal_keeps_its_digits() -> None:
    assert smallest_standard_deviation(np.diag([1e12, 0.09])) == pytest.approx(0.3, rel=1e-15)
    assert smallest_standard_deviation(np.diag([1e12, 0.09])) <= math.sqrt(0.09)
    assert smallest_standard_deviation([[4]]) <= 2


@pytest.mark.parametrize("condition", [1e2, 1e8])
def test_smallest_deviation_is_never_above_the_exact_one(condition: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        factor = rng.normal(size=(4, 4)) * np.geomspace(1, condition**0.5, 4)
        covariance = factor @ factor.T
        covariance = (covariance + covariance.T) / 2
        with mp.workdps(50):
            exact = mp.sqrt(min(mp.eigsy(mp.matrix(covariance.tolist()), eigvals_only=True)))
            assert mp.mpf(smallest_standard_deviation(covariance)) <= exact


@pytest.mark.parametrize(
    ("covariance", "error", "message"),
    [
        (np.zeros((2, 2)), ValueError, r"^covariance must be positive definite, got one whose "),
        ([[1.0, 2.0], [2.0, 1.0]], ValueError, r"^covariance must be positive definite, got .*-1"),
        (np.ones((2, 2)), ValueError, r"^covariance must be positive definite, got one whose "),
        ([[1.0, 0.5], [0.4, 1.0]], ValueError, r"^covariance must be symmetric, got a matrix that"),
        ([[1.0, np.nan], [0.4, 1.0]], ValueError, r"^covariance must be finite, got a matrix "),
        (np.ones((2, 3)), ValueError, r"^covariance must be a square matrix, got shape \(2, 3\)"),
        (np.ones((0, 0)), ValueError, r"^covariance must be a square matrix, got shape \(0, 0\)"),
        (1.0, ValueError, r"^covariance must be a square matrix, got shape \(\)"),
        ("a", TypeError, r"^covariance must be real numbers, got 'a'\.$"),
    ],
)
def test_broken_covariances_are_rejected(covariance, error, message: str) -> None:
    with pytest.raises(error, match=message):
        gaussian_divergence(0.5, covariance=covariance)


@pytest.mark.parametrize("bound", [gaussian_divergence, gaussian_total_variation])
def test_gaussian_noise_is_given_in_one_way(bound) -> None:
    message = r"^sigma must be given where covariance is not, and only there, got sigma="
    with pytest.raises(ValueError, match=message):
        bound(0.5)
    with pytest.raises(ValueError, match=message):
        bound(0.5, sigma=1.0, covariance=np.eye(2))


@EVERY
def test_attacks_broadcast_and_more_of_an_attack_is_never_less(bound) -> None:
    attacks = np.linspace(0, 3, 13)
    table = bound(attacks.reshape(-1, 1))
    assert table.shape == (13, 1)
    assert table[0, 0] == 0
    assert (np.diff(table[:, 0]) >= 0).all()
    assert isinstance(bound(0.5), np.float64)
    assert bound(0.5) == table[2, 0]


@EVERY
def test_broken_attacks_are_rejected(bound) -> None:
    for bad in (-0.1, np.nan):
        with pytest.raises(ValueError, match=r"^attack must be at least 0, got "):
            bound([0.1, bad])
    with pytest.raises(TypeError, match=r"^attack must be a real number, got 'a'\.$"):
        bound("a")


@pytest.mark.parametrize(
    ("bound", "name"),
    [
        (gaussian_divergence, "sigma"),
        (gaussian_total_variation, "sigma"),
        (laplace_divergence, "scale"),
        (laplace_total_variation, "scale"),
        (uniform_total_variation, "half_width"),
    ],
)
def test_broken_scales_are_rejected(bound, name: str) -> None:
    for bad in (0.0, np.inf):
        with pytest.raises(ValueError, match=rf"^{name} must be positive and finite, got "):
            bound(0.1, **{name: bad})
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match=rf"^{name} must be "):
            bound(0.1, **{name: bad})


@pytest.mark.parametrize("order", [0.9, math.nan])
def test_orders_below_one_are_rejected(order: float) -> None:
    with pytest.raises(ValueError, match=r"^order must be at least 1, got "):
        gaussian_divergence(0.1, sigma=1.0, order=order)
    with pytest.raises(ValueError, match=r"^order must be at least 1, got "):
        laplace_divergence(0.1, scale=1.0, order=order)


def test_broken_moduli_and_divergences_are_rejected() -> None:
    for i, name in enumerate(("parameter_norm", "statistic_modulus", "carrier_modulus")):
        arguments = [1.0, 1.0, 1.0]
        arguments[i] = -1.0
        with pytest.raises(ValueError, match=rf"^{name} must be at least 0, got -1\.0\.$"):
            exponential_family_divergence(*arguments)
    with pytest.raises(ValueError, match=r"^divergence must be at least 0, got -1\.0\.$"):
        total_variation_gap(-1.0)
