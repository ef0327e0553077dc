"""How far a probability moves with the input, against references of 50 digits."""

from __future__ import annotations

import time
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from randsmooth.bounds import laplace_radius, neyman_pearson_radius
from randsmooth.bounds.scales import exact_product
from randsmooth.bounds.shifts import (
    gaussian_probability_lower,
    gaussian_probability_upper,
    laplace_probability_lower,
    log_concave_probability_lower,
    uniform_probability_lower,
)

EVERY = pytest.mark.parametrize(
    ("function", "scale"),
    [
        (gaussian_probability_lower, "sigma"),
        (gaussian_probability_upper, "sigma"),
        (laplace_probability_lower, "scale"),
        (uniform_probability_lower, "half_width"),
    ],
)


def random_triples(number: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, radii and scales: in the middle, next to 0, 1 and 1/2, tiny and huge."""
    rng = np.random.default_rng(seed)
    near = 10 ** rng.uniform(-16, -1, number)
    p = np.choose(
        rng.integers(0, 5, number),
        [rng.random(number), near, 1 - near, 0.5 + near, 10 ** rng.uniform(-290, -1, number)],
    )
    scale = 10 ** rng.uniform(-3, 3, number)
    length = np.choose(
        rng.integers(0, 4, number),
        [
            rng.uniform(0, 10, number),
            10 ** rng.uniform(-280, 2, number),
            rng.uniform(0, 1, number),
            2 * p * (1 - 10 ** rng.uniform(-15, -1, number)),
        ],
    )
    return p, length * scale, scale


def normal_quantile(p: mp.mpf) -> mp.mpf:
    z = mp.mpf(float(ndtri(float(p))))
    for _ in range(2):
        u = (mp.erfc(-z / mp.sqrt(2)) / 2 - p) / mp.npdf(z)
        z -= u / (1 + u * z / 2)
    return z


def exact_gaussian(p: mp.mpf, shift: mp.mpf) -> mp.mpf:
    return mp.erfc((shift - normal_quantile(p)) / mp.sqrt(2)) / 2


def exact_laplace(p: mp.mpf, shift: mp.mpf) -> mp.mpf:
    z = mp.log(2 * p) if p <= 0.5 else -mp.log(2 * (1 - p))
    z -= shift
    return mp.exp(z) / 2 if z <= 0 else 1 - mp.exp(-z) / 2


def exact_uniform(p: mp.mpf, shift: mp.mpf) -> mp.mpf:
    return max(p - shift / 2, mp.mpf(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "scale_name", "exact"),
    [
        (gaussian_probability_lower, "sigma", exact_gaussian),
        (laplace_probability_lower, "scale", exact_laplace),
        (uniform_probability_lower, "half_width", exact_uniform),
    ],
)
def test_probability_is_just_below_the_exact_one(function, scale_name: str, exact) -> None:
    p, radius, scale = random_triples(10_000, seed=1)
    values = function(p, radius, **{scale_name: scale})
    with mp.workdps(50):
        for value, *row in zip(values, p, radius, scale, strict=True):
            p_exact, length, unit = (mp.mpf(float(number)) for number in row)
            reference = exact(p_exact, length / unit)
            assert mp.mpf(float(value)) <= reference, row
            if reference > mp.mpf("1.001e-300"):
                assert float((reference - mp.mpf(float(value))) / reference) <= 1e-9, row


@pytest.mark.slow
def test_upper_probability_is_just_above_the_exact_one() -> None:
    p, radius, sigma = random_triples(3000, seed=2)
    values = gaussian_probability_upper(p, radius, sigma=sigma)
    with mp.workdps(50):
        for value, *row in zip(values, p, radius, sigma, strict=True):
            p_exact, length, unit = (mp.mpf(float(number)) for number in row)
            reference = mp.erfc((-normal_quantile(p_exact) - length / unit) / mp.sqrt(2)) / 2
            assert reference <= mp.mpf(float(value)) <= reference * (1 + mp.mpf("1e-9")), row


def test_next_to_certainty_the_complement_keeps_its_digits() -> None:
    for function, exact, scale in (
        (gaussian_probability_lower, exact_gaussian, "sigma"),
        (laplace_probability_lower, exact_laplace, "scale"),
    ):
        for complement in (2.0**-53, 2.0**-40, 1e-12):
            p = 1.0 - complement
            value = float(function(p, 0.01, **{scale: 1.0}))
            with mp.workdps(50):
                lack = 1 - exact(mp.mpf(p), mp.mpf("0.01"))
                # One unit in the last place below 1 is the best a double can say.
                assert 0 <= float(1 - mp.mpf(value) - lack) <= 2.0**-52


def test_log_concave_probability_agrees_with_closed_forms() -> None:
    p, radius, scale = random_triples(120, seed=3)
    p, radius, scale = p[p > 1e-100], radius[p > 1e-100], scale[p > 1e-100]
    for i in range(len(p)):
        for function, name, law in (
            (laplace_probability_lower, "scale", stats.laplace(scale=scale[i])),
            (gaussian_probability_lower, "sigma", stats.norm(scale=scale[i])),
        ):
            known = function(p[i], radius[i], **{name: scale[i]})
            value = log_concave_probability_lower(p[i], radius[i], law)
            assert value <= known * (1 + 1e-12)
            if known > 1e-290 and p[i] < 1:
                assert value == pytest.approx(known, rel=1e-7)


def test_log_concave_probability_agrees_with_the_uniform_one() -> None:
    p = np.linspace(0.01, 1, 40)[:, None]
    radius = np.linspace(0, 1.5, 17)
    law = stats.uniform(loc=-0.5, scale=1.0)
    value = log_concave_probability_lower(p, radius, law)
    known = uniform_probability_lower(p, radius, half_width=0.5)
    assert (value <= known).all()
    np.testing.assert_allclose(value, known, rtol=0, atol=1e-8)
    assert log_concave_probability_lower(1.0, 0.25, law) == pytest.approx(0.75)
    assert log_concave_probability_lower(1.0, 0.25, stats.norm()) == 1.0
    assert log_concave_probability_lower(1.0, np.inf, stats.norm()) == 1.0
    assert log_concave_probability_lower(0.9, np.inf, stats.norm()) == 0.0


def test_probability_comes_back_to_one_half_at_the_radius() -> None:
    for p in (0.6, 0.9, 0.999):
        at = gaussian_probability_lower(p, neyman_pearson_radius(p, sigma=0.5), sigma=0.5)
        assert at == pytest.approx(0.5, rel=1e-9)
        at = laplace_probability_lower(p, laplace_radius(p, scale=0.5), scale=0.5)
        assert at == pytest.approx(0.5, rel=1e-9)
        assert uniform_probability_lower(p, 2 * p - 1, half_width=1.0) == pytest.approx(0.5)


def test_lower_and_upper_are_complements() -> None:
    p, radius = np.linspace(0.01, 0.99, 25)[:, None], np.linspace(0, 3, 7)
    lower = gaussian_probability_lower(1 - p, radius, sigma=1.0)
    upper = gaussian_probability_upper(p, radius, sigma=1.0)
    np.testing.assert_allclose(lower + upper, 1, rtol=1e-12)


@EVERY
def test_shapes_and_ends_are_kept(function, scale: str) -> None:
    p = np.array([0.0, 0.3, 0.5, 0.9, 1.0])
    np.testing.assert_array_equal(function(p, 0.0, **{scale: 0.7}), p)
    assert function(p[:, None], [0.1, 0.2, 0.4], **{scale: 0.7}).shape == (5, 3)
    assert function(0.5, 0.1, **{scale: [1.0, 2.0]}).shape == (2,)
    assert isinstance(function(0.9, 0.1, **{scale: 0.7}), np.float64)
    assert function([], 1.0, **{scale: 0.7}).shape == (0,)
    falls = function is not gaussian_probability_upper
    far = function(p, np.inf, **{scale: 0.7})
    kept = 0.0 if function is uniform_probability_lower else 1.0
    np.testing.assert_array_equal(far, [0, 0, 0, 0, kept] if falls else [0, 1, 1, 1, 1])


@EVERY
def test_no_scale_is_too_extreme(function, scale: str) -> None:
    for unit in (5e-324, 1e-300, 1e300, 1.7e308):
        for length in (5e-324, 1e-300, 1.0, 1e300, 1.7e308):
            value = function([1e-300, 0.2, 0.7, 1 - 1e-16], length, **{scale: unit})
            assert ((value >= 0) & (value <= 1)).all()


def test_tiny_shifts_still_lower() -> None:
    assert gaussian_probability_lower(0.7, 5e-324, sigma=1.0) < 0.7
    assert laplace_probability_lower(0.7, 1e-300, scale=1e300) < 0.7
    assert uniform_probability_lower(0.7, 5e-324, half_width=1e300) < 0.7
    assert gaussian_probability_upper(0.7, 5e-324, sigma=1.0) > 0.7


@EVERY
@pytest.mark.slow
def test_a_million_values_take_a_moment(function, scale: str) -> None:
    rng = np.random.default_rng(0)
    p, radius = rng.random(10**6), rng.random(10**6)
    start = time.process_time()
    function(p, radius, **{scale: 0.5})
    assert time.process_time() - start < 2


def test_exact_product_loses_nothing() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random(500) * 1e9, rng.random(500)
    product, rest = exact_product(first, second)
    for parts in zip(first, second, product, rest, strict=True):
        a, b, high, low = (Fraction(float(part)) for part in parts)
        assert a * b == high + low


@EVERY
@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_probabilities_outside_the_unit_interval_are_rejected(function, scale, bad) -> None:
    with pytest.raises(ValueError, match=r"^p_(lower|upper) must lie in \[0, 1\], got "):
        function([0.5, bad], 1.0, **{scale: 1.0})


@EVERY
@pytest.mark.parametrize(
    ("radius", "unit", "error", "message"),
    [
        (-1.0, 1.0, ValueError, r"^radius must be non-negative, got -1\.0\.$"),
        (np.nan, 1.0, ValueError, r"^radius must be non-negative, got nan\.$"),
        ("r", 1.0, TypeError, r"^radius must be real numbers, got 'r'\.$"),
        (1.0, 0.0, ValueError, r" must be positive and finite, got 0\.0\.$"),
        (1.0, np.inf, ValueError, r" must be positive and finite, got inf\.$"),
        (1.0, "s", TypeError, r" must be a real number, got 's'\.$"),
    ],
)
def test_broken_arguments_are_rejected(function, scale, radius, unit, error, message) -> None:
    with pytest.raises(error, match=message):
        function(0.9, radius, **{scale: unit})
