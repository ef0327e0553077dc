from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from randsmooth import SmoothedClassifier
from randsmooth.noise import (
    NOISES,
    Ablation,
    DeterministicSplitting,
    DiscreteGaussian,
    Flips,
    Gaussian,
    GeneralizedGaussian,
    Laplace,
    Logistic,
    Noise,
    Stream,
    Uniform,
    block_generator,
    draws_per_block,
    noise_from_name,
    row_key,
)

DISTRIBUTIONS = {
    "gaussian": lambda scale: stats.norm(scale=scale),
    "laplace": lambda scale: stats.laplace(scale=scale),
    "uniform": lambda scale: stats.uniform(-scale, 2 * scale),
    "logistic": lambda scale: stats.logistic(scale=scale),
    "generalized_gaussian": lambda scale: stats.gennorm(4, scale=scale),
}
# One of each, some of them for inputs of shape (3, 5).
ONE_OF_EACH = {
    **{name: kind(0.5) for name, kind in NOISES.items() if name not in ("ablation", "flips")},
    "ablation": Ablation(4),
    "flips": Flips(0.1, 0.3),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_have_the_distribution_they_are_named_for(name: str, dtype: type) -> None:
    drawn = NOISES[name](0.7).draw(500, (13, 7), np.random.default_rng(3), dtype=dtype)
    assert drawn.shape == (500, 13, 7)
    assert drawn.dtype == dtype
    assert stats.kstest(drawn.ravel(), DISTRIBUTIONS[name](0.7).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_coordinates_and_draws_are_uncorrelated(name: str) -> None:
    drawn = NOISES[name](1.0).draw(20_000, (3, 2), np.random.default_rng(0)).reshape(-1, 6)
    correlation = np.corrcoef(drawn, rowvar=False) - np.eye(6)
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)
    assert np.abs(np.corrcoef(drawn[1:, 0], drawn[:-1, 0])[0, 1]) < 5 / math.sqrt(20_000)


def test_each_noise_names_the_norm_it_certifies() -> None:
    norms = {name: noise.norm for name, noise in ONE_OF_EACH.items()}
    assert {norm: [n for n, m in norms.items() if m == norm] for norm in ("l2", "l0")} == {
        "l2": ["gaussian", "discrete_gaussian"],
        "l0": ["ablation", "flips"],
    }
    assert set(norms.values()) == {"l0", "l1", "l2"}


@pytest.mark.parametrize("name", NOISES)
def test_fewer_draws_of_a_block_are_a_prefix_of_more(name: str) -> None:
    noise = ONE_OF_EACH[name]
    few, many = (noise.draw(n, (3, 5), generator_of_a_block()) for n in (10, 64))
    assert np.array_equal(few, many[:10])


@pytest.mark.parametrize("name", NOISES)
def test_pieces_of_a_block_are_the_block(name: str) -> None:
    noise, generator = ONE_OF_EACH[name], generator_of_a_block()
    pieces = [noise.draw(n, (3, 5), generator) for n in (1, 30, 33)]
    whole = noise.draw(64, (3, 5), generator_of_a_block())
    assert np.array_equal(np.concatenate(pieces), whole)


def generator_of_a_block() -> np.random.Generator:
    return block_generator(5, Stream.ESTIMATION, 2)


@pytest.mark.parametrize("name", NOISES)
def test_parameters_are_what_makes_an_equal_noise(name: str) -> None:
    noise = ONE_OF_EACH[name]
    assert type(noise)(**noise.parameters) == noise
    assert noise.parameters == json.loads(json.dumps(noise.parameters))


def test_a_noise_without_a_bound_says_so() -> None:
    class Cauchy(Gaussian):
        name = "cauchy"

    noise = Cauchy(1.0)
    assert not noise.has_radius
    with pytest.raises(NotImplementedError, match=r"^no bound is known for cauchy noise"):
        noise.certified_radius(0.9)
    with pytest.raises(NotImplementedError, match=r"^cauchy noise has no list of outcomes"):
        noise.fill_outcomes(np.empty((1, 2)), 0, 1)
    with pytest.raises(NotImplementedError, match=r"^cauchy noise has no list of outcomes"):
        noise.exact_radius(np.array([[1, 0]]), np.array([0]))
    with pytest.raises(NotImplementedError, match=r"^no bound on shifted probabilities is known"):
        Noise.probability_lower(noise, 0.9, 0.1)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_probabilities_after_a_shift_are_those_of_a_half_space_across_an_axis(name: str) -> None:
    noise, law = NOISES[name](0.7), DISTRIBUTIONS[name](0.7)
    p = np.array([0.3, 0.6, 0.9, 0.99])
    expected = law.cdf(law.ppf(p) - 0.2)
    if name == "uniform":  # tight only where the shifted quantile stays inside
        expected = np.maximum(p - 0.2 / 1.4, 0)
    found = noise.probability_lower(p, 0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (found <= expected * (1 + 1e-12)).all()


def test_an_exponent_of_the_generalised_gaussian_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^exponent must lie from 1 to 100, got 0\.5"):
        GeneralizedGaussian(1.0, exponent=0.5)


def test_generalised_gaussian_noise_includes_laplace_and_gaussian() -> None:
    p = np.array([0.6, 0.99])
    laplace, gaussian = GeneralizedGaussian(0.5, 1), GeneralizedGaussian(0.5, 2)
    np.testing.assert_allclose(
        laplace.certified_radius(p), Laplace(0.5).certified_radius(p), rtol=1e-8
    )
    np.testing.assert_allclose(
        gaussian.certified_radius(p), Gaussian(0.5 / math.sqrt(2)).certified_radius(p), rtol=1e-8
    )
    assert gaussian.renyi_divergence([0.0], order=2) == 0
    assert gaussian.renyi_divergence([0.1], order=2) == math.inf


def test_blocks_streams_seeds_and_rows_are_different_generators() -> None:
    places = [
        (seed, stream, block, row)
        for seed in (0, 1, 2**63 - 1)
        for stream in Stream
        for block in (0, 1, 2**40)
        for row in (b"", row_key(np.zeros(3)), row_key(np.ones(3)))
    ]
    raw = [
        block_generator(seed, stream, block, row=row).bit_generator.random_raw(200)
        for seed, stream, block, row in places
    ]
    assert len(np.unique(np.concatenate(raw))) == 200 * len(places)


def test_equal_rows_have_equal_keys_and_different_rows_do_not() -> None:
    X = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    keys = {row_key(x) for x in X}
    assert len(keys) == 1000
    assert row_key(X[3]) == row_key(X[3].copy())
    assert row_key(np.asfortranarray(X[:2].reshape(2, 2, 2))) == row_key(X[:2].reshape(2, 2, 2))


@pytest.mark.parametrize(("n_values", "draws"), [(1, 1024), (784, 1024), (3072, 341), (2**21, 1)])
def test_a_block_is_about_four_megabytes(n_values: int, draws: int) -> None:
    assert draws_per_block(n_values) == draws


def test_renyi_divergences_agree_with_the_reference_values(shared) -> None:
    values = json.loads((shared / "reference" / "values.json").read_text())
    for row in values["renyi_divergence_laplace"]:
        got = Laplace(float(row["scale"])).renyi_divergence(
            float(row["shift"]), order=float(row["alpha"])
        )
        assert got == pytest.approx(float(row["renyi"]), rel=1e-13)
    for row in values["renyi_divergence_gaussian"]:
        got = Gaussian(float(row["sigma"])).renyi_divergence(
            float(row["shift_l2"]), order=float(row["alpha"])
        )
        assert got == pytest.approx(float(row["renyi"]), rel=1e-13)


@pytest.mark.parametrize("kind", [Gaussian, Laplace, Logistic])
@pytest.mark.parametrize("order", [1.0, 1.5, 3.0])
def test_renyi_divergence_is_the_integral_of_its_definition(
    kind: type[Noise], order: float
) -> None:
    density = DISTRIBUTIONS[kind.name](0.6)

    def integrand(z: float) -> float:
        log_ratio = density.logpdf(z) - density.logpdf(z - 0.9)
        if order == 1:
            return density.pdf(z) * log_ratio
        return density.pdf(z - 0.9) * math.exp(order * log_ratio)

    integral = integrate.quad(integrand, -30, 30, points=[0, 0.9], limit=500)[0]
    expected = integral if order == 1 else math.log(integral) / (order - 1)
    assert kind(0.6).renyi_divergence(0.9, order=order) == pytest.approx(expected, rel=1e-7)


def test_renyi_divergence_adds_up_over_coordinates_and_grows_with_the_order() -> None:
    noise = Laplace(0.5)
    parts = [noise.renyi_divergence(shift, order=2) for shift in (0.1, -0.4, 0.0)]
    assert noise.renyi_divergence([0.1, -0.4, 0.0], order=2) == pytest.approx(sum(parts))
    orders = [1, 1.01, 2, 10, 100, math.inf]
    divergences = [noise.renyi_divergence([0.1, -0.4], order=order) for order in orders]
    assert divergences == sorted(divergences)


def test_logistic_noise_has_at_most_the_divergence_of_its_largest_log_ratio() -> None:
    noise = Logistic(0.5)
    assert noise.renyi_divergence([0.1, -0.4], order=math.inf) == pytest.approx(1.0)
    assert 0 < noise.renyi_divergence([0.1, -0.4], order=5) < 1.0


def test_uniform_noise_has_infinite_divergence_for_any_shift() -> None:
    assert Uniform(1.0).renyi_divergence([0.0, 0.0], order=2) == 0
    assert Uniform(1.0).renyi_divergence([0.0, 1e-9], order=2) == math.inf


def test_gaussian_divergence_of_no_shift_is_zero_at_any_order() -> None:
    assert Gaussian(1.0).renyi_divergence([0.0], order=math.inf) == 0


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf, "a", None])
def test_noise_refuses_a_scale_that_is_not_positive_and_finite(scale: object) -> None:
    with pytest.raises(ValueError, match=r"^sigma must be positive and finite, got "):
        Gaussian(scale)  # type: ignore[arg-type]


def test_renyi_divergence_refuses_an_order_below_one() -> None:
    with pytest.raises(ValueError, match=r"^order must be at least 1, got 0.5"):
        Gaussian(1.0).renyi_divergence(1.0, order=0.5)


def test_noise_from_name_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"^noise must be one of 'gaussian', .*got 'cauchy'"):
        noise_from_name("cauchy", 1.0)
    with pytest.raises(TypeError, match=r"^noise must be a name or a .*Noise, got 3"):
        noise_from_name(3, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got 'flips'\. Hand in randsmooth\.noise\.Flips\(p_add="):
        noise_from_name("flips", 0.1)
    with pytest.raises(ValueError, match=r"^sigma must be given where noise is a name, got None"):
        noise_from_name("gaussian")


OPEN = [
    DiscreteGaussian(levels=16),
    DeterministicSplitting(levels=16),
    GeneralizedGaussian(exponent=3),
]


@pytest.mark.parametrize("noise", OPEN)
def test_a_noise_may_leave_its_scale_to_the_classifier(noise: Noise) -> None:
    filled = noise_from_name(noise, 0.25)
    assert filled == type(noise)(**{**noise.parameters, "scale": 0.25})
    X = np.array([[0.0, 0.25], [1.0, 0.5], [0.25, 1.0]])
    clf = SmoothedClassifier(sigma=0.25, noise=noise, n_estimation=50, random_state=0)
    assert clf.fit(X, [0, 1, 0]).noise_ == filled
    with pytest.raises(ValueError, match=r"^sigma must be given where noise leaves it open, got N"):
        noise_from_name(noise)
    with pytest.raises(
        ValueError, match=r"^scale must be given to draw .* noise by hand, got None"
    ):
        noise.draw(3, (2,), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^sigma must be positive and finite, got -1"):
        SmoothedClassifier(sigma=-1, noise=noise).fit(X, [0, 1, 0])


def test_a_ready_noise_passes_through_unchanged() -> None:
    noise = Laplace(2.0)
    assert noise_from_name(noise, 0.1) is noise


@pytest.mark.parametrize("name", NOISES)
def test_noisy_images_are_the_same_in_any_order_of_memory(name: str) -> None:
    shape = (3, 5, 4)
    noise = ONE_OF_EACH[name].for_inputs(shape)
    X = np.random.default_rng(0).integers(0, 2, size=(2, 1, *shape)).astype(np.float32)
    draws = torch.from_numpy(noise.draw(6, shape, generator_of_a_block()))[None]
    plain = torch.empty((2, 6, *shape))
    turned = torch.empty((12, *shape)).to(memory_format=torch.channels_last).view(2, 6, *shape)
    for out in (plain, turned):
        noise.corrupt(torch.from_numpy(X), draws, out)
    assert not turned.is_contiguous()
    assert torch.equal(plain, turned)
    one_each = noise.corrupted(torch.from_numpy(X[:, 0]), draws[0, :2])
    assert torch.equal(one_each, torch.stack([plain[0, 0], plain[1, 1]]))
