from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from randsmooth.training.generator_training import (
    Architecture,
    TrainedNetworks,
    checked_output,
    gradient_features,
)
from randsmooth.training.generators import (
    ConvGenerator,
    ConvPosterior,
    DenseGenerator,
    DensePosterior,
    LatentMap,
    latent_code_length,
)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_published_generator_has_ten_million_weights_and_ours_forty_thousand() -> None:
    with torch.device("meta"):
        assert size(ConvGenerator(9, 6, 256)) == pytest.approx(10.3e6, rel=0.02)
        assert size(ConvGenerator(9, 6)) == pytest.approx(40e3, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (8, 8), (28, 28), (32, 32)])
def test_convolutional_networks_take_images_of_any_size(shape: tuple[int, int]) -> None:
    rows = torch.zeros(2, 3, *shape)
    with torch.no_grad():
        assert ConvGenerator(3, 6, 4).eval()(rows).shape == (2, 6, *shape)
        assert ConvPosterior(3, 10, 4).eval()(rows).shape == (2, 10)
        assert LatentMap(5, *shape)(torch.zeros(2, 5)).shape == (2, 1, *shape)


def test_dense_networks_train_on_a_batch_of_one_row() -> None:
    assert DenseGenerator(6, 4, 1)(torch.ones(1, 6)).isfinite().all()
    assert DensePosterior(6, 10, 1)(torch.ones(1, 6)).shape == (1, 10)


def test_initial_weights_are_as_published() -> None:
    torch.manual_seed(0)
    network = ConvGenerator(9, 6, 32)
    first, norm = network[0], network[1]
    assert first.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.02)
    assert norm.bias.eq(0).all()


def test_a_posterior_that_ignores_the_perturbation_has_the_length_of_the_second_moment() -> None:
    latent = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (20_000, 16)))

    def length(variance: float) -> float:
        rho = math.log(math.expm1(variance))
        guess = torch.cat([torch.zeros_like(latent), torch.full_like(latent, rho)], dim=1)
        return latent_code_length(latent, guess).item()

    least = math.log(2 * math.pi / 3) / 2 + 0.5
    assert least == pytest.approx(0.8696, abs=5e-5)
    assert length(1 / 3) == pytest.approx(least, abs=2e-3)
    assert min(length(0.2), length(0.5)) > least + 0.01


def test_the_code_length_is_the_gaussian_negative_log_likelihood() -> None:
    rng = np.random.default_rng(1)
    latent, guess = (
        torch.from_numpy(rng.normal(size=(9, 4))),
        torch.from_numpy(rng.normal(size=(9, 8))),
    )
    std = nn.functional.softplus(guess[:, 4:]).sqrt()
    expected = -torch.distributions.Normal(guess[:, :4], std).log_prob(latent).mean()
    assert latent_code_length(latent, guess).item() == pytest.approx(expected.item(), abs=1e-7)


def cubes(x: Tensor) -> Tensor:
    return (x**3).flatten(1).sum(dim=1)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3), (4, 2, 3, 3)])
@pytest.mark.parametrize("normalize", [False, True])
def test_features_are_the_input_and_two_gradients(shape, normalize: bool) -> None:
    x = torch.from_numpy(np.random.default_rng(2).uniform(size=shape))
    features = gradient_features(cubes, x, lambda g: x + 0.1 * g.sign(), normalize=normalize)
    gradients = [3 * x**2, 3 * (x + 0.1) ** 2]
    if normalize:
        gradients = [
            torch.stack([row / row.square().mean().sqrt() for row in g]) for g in gradients
        ]
    else:
        gradients = [g / 4 for g in gradients]
    flat = x.ndim != 4
    expected = torch.cat([p.flatten(1) if flat else p for p in (x, *gradients)], dim=1)
    torch.testing.assert_close(features, expected, rtol=1e-12, atol=1e-12)
    assert not features.requires_grad


def test_features_of_rows_without_gradient_are_finite() -> None:
    x = torch.ones(2, 3)
    features = gradient_features(lambda r: 0 * r.sum(1), x, lambda g: x + g, normalize=True)
    assert features.isfinite().all()


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4), (5, 1, 4, 4)])
@pytest.mark.parametrize("n_latent", [0, 7])
def test_networks_fit_the_inputs_and_repeat_by_seed(shape, n_latent: int) -> None:
    inputs = torch.zeros(shape, dtype=torch.float64)
    architecture = Architecture(None, None, 2, n_latent)
    state = torch.get_rng_state()
    first, again, other = (architecture.build(inputs, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [nn.utils.parameters_to_vector(n.parameters()) for n in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].dtype == torch.float64
    names = {"generator", "posterior", "latent_map"} if n_latent else {"generator"}
    assert set(first) == (names if len(shape) == 4 else names - {"latent_map"})


def test_a_lazy_module_is_given_its_shape_and_a_module_is_copied() -> None:
    given = nn.Linear(12, 8)
    before = copy.deepcopy(given.state_dict())
    lazy = Architecture(nn.LazyLinear(8), None, 1, 0).build(torch.zeros(2, 4), 0)["generator"]
    assert lazy.weight.shape == (8, 12)
    state = torch.get_rng_state()
    both = Architecture(nn.LazyLinear(4), nn.LazyLinear(6), 1, 3).build(torch.zeros(2, 4), 0)
    assert both["posterior"].weight.shape == (6, 4)
    assert torch.equal(torch.get_rng_state(), state)
    network = Architecture(given, None, 1, 0).build(torch.zeros(2, 4), 0)["generator"]
    assert network is not given
    assert torch.equal(network.weight, before["weight"])


def test_a_class_is_called_with_what_comes_in_and_goes_out() -> None:
    calls = []

    def build(n_in: int, n_out: int) -> nn.Module:
        calls.append((n_in, n_out))
        return nn.Linear(n_in, n_out)

    Architecture(build, None, 1, 0).build(torch.zeros(2, 4), 0)
    Architecture(build, build, 1, 5).build(torch.zeros(2, 4), 0)
    assert calls == [(12, 8), (17, 4), (4, 10)]


def test_a_callable_that_builds_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^generator must build a torch module, got list from "):
        Architecture(lambda n_in, n_out: [n_in], None, 1, 0).build(torch.zeros(2, 4), 0)


def test_an_output_of_a_wrong_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^generator must .* shape \(2, 8\) .*got \(2, 7\)\. Hand"
    ):
        checked_output("generator", torch.zeros(2, 7), (2, 8))
    with pytest.raises(ValueError, match=r"^posterior must .* shape \(2, 8\) .*got tuple\. Hand"):
        checked_output("posterior", (1, 2), (2, 8))


def trained(dtype: torch.dtype = torch.float32) -> TrainedNetworks:
    architecture = Architecture(None, None, 1, 3)
    networks = TrainedNetworks(architecture.build(torch.zeros(2, 4), 0), architecture.key)
    networks.follow(torch.zeros((), dtype=dtype), 1e-3)
    step(networks, dtype)
    return networks


def step(networks: TrainedNetworks, dtype: torch.dtype) -> Tensor:
    rows = torch.linspace(-1, 1, 30, dtype=dtype).reshape(2, 15)
    made = networks.networks["generator"](rows)
    guess = networks.networks["posterior"](made)
    networks.descend([made, guess.sum()], [torch.ones_like(made), torch.ones((), dtype=dtype)])
    return nn.utils.parameters_to_vector(networks.networks.parameters()).detach()


def test_pickled_networks_go_on_as_if_they_had_never_been_pickled() -> None:
    networks = trained()
    copied = pickle.loads(pickle.dumps(networks))
    assert copied.key == networks.key
    assert torch.equal(step(copied, torch.float32), step(networks, torch.float32))
    fresh = TrainedNetworks(pickle.loads(pickle.dumps(networks)).networks, networks.key)
    fresh.follow(torch.zeros(()), 1e-3)
    assert not torch.equal(step(fresh, torch.float32), step(networks, torch.float32))


def test_networks_and_their_optimiser_follow_a_tensor() -> None:
    networks = trained()
    networks.networks.eval()
    networks.follow(torch.zeros((), dtype=torch.float64), 1e-3)
    assert all(part.training for part in networks.networks.modules())
    assert step(networks, torch.float64).dtype == torch.float64
    states = networks.optimizer.state.values()
    assert all(state["exp_avg"].dtype == torch.float64 for state in states)


def test_generator_and_posterior_have_the_published_decay_rates_and_the_rate_asked_for() -> None:
    networks = trained()
    groups = networks.optimizer.param_groups
    assert [group["betas"] for group in groups] == [(0.5, 0.999), (0.9, 0.999)]
    assert [group["lr"] for group in groups] == [1e-3, 1e-3]
