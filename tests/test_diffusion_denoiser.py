"""A diffusion model as a denoiser, against optimal denoisers in closed form."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import Tensor, nn

from nets import Linear
from randsmooth import SmoothedClassifier
from randsmooth.denoised import DenoisedClassifier, DiffusionDenoiser

# The linear schedule of Ho, Jain and Abbeel (2020).
LINEAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


def schedule_with(sigma: float, stretch: float = 2.0) -> Any:
    """A schedule of which one timestep has exactly the noise sigma, in the inputs' units."""
    levels = np.array([0.1, 0.6, 1.0, 3.0, 40.0]) * sigma * stretch
    return 1 / (1 + levels**2)


class GaussianData(nn.Module):
    """What a diffusion model would learn of Gaussian data in the model's range, exactly."""

    def __init__(self, schedule: Any, mean: float, variance: float, predicts: str) -> None:
        super().__init__()
        self.register_buffer("schedule", torch.as_tensor(schedule, dtype=torch.float64))
        self.mean, self.variance, self.predicts = mean, variance, predicts

    def forward(self, rows: Tensor, steps: Tensor) -> Tensor:
        assert steps.shape == (len(rows),)
        assert steps.dtype == torch.int64
        bar = self.schedule[steps].reshape(-1, *[1] * (rows.ndim - 1))
        residual = rows - bar.sqrt() * self.mean
        total = bar * self.variance + 1 - bar
        if self.predicts == "noise":
            return (1 - bar).sqrt() * residual / total
        return self.mean + bar.sqrt() * self.variance * residual / total


def noisy_rows(sigma: float, mean: float, variance: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (50, 2, 3, 3)
    clean = mean + math.sqrt(variance) * torch.randn(
        shape, generator=generator, dtype=torch.float64
    )
    return clean + sigma * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("predicts", ["noise", "image"])
@pytest.mark.parametrize("input_range", [(0.0, 1.0), (-3.0, 5.0)])
def test_gaussian_data_is_denoised_as_the_posterior_mean_says(predicts, input_range):
    low, high = input_range
    width, sigma = high - low, 0.3
    mean, variance = low + 0.45 * width, (0.05 * width) ** 2
    stretch = 2 / width
    schedule = schedule_with(sigma, stretch)
    model = GaussianData(schedule, -1 + 2 * 0.45, variance * stretch**2, predicts)
    denoiser = DiffusionDenoiser(model, schedule, sigma, predicts=predicts, input_range=input_range)
    rows = noisy_rows(sigma, mean, variance)
    # In the units of the inputs throughout: no schedule, no range of a model.
    expected = mean + variance / (variance + sigma**2) * (rows - mean)
    assert denoiser.timestep == 2
    torch.testing.assert_close(denoiser(rows), expected.clamp(low, high), rtol=1e-12, atol=1e-12)
    # Whoever takes sigma for that of the model's range is far off.
    wrong = DiffusionDenoiser(
        model, schedule, sigma / 2, predicts=predicts, input_range=input_range
    )
    assert (wrong(rows) - expected).abs().max() > 0.01 * width


def test_known_points_are_found_again():
    points = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], dtype=torch.float64)
    sigma, schedule = 0.25, schedule_with(0.25)

    def model(rows: Tensor, steps: Tensor) -> Tensor:
        bar = torch.as_tensor(schedule)[steps][:, None]
        apart = rows[:, None] - bar.sqrt()[:, None] * (2 * points - 1)
        weights = torch.softmax(-(apart**2).sum(2) / (2 * (1 - bar)), dim=1)
        image = weights @ (2 * points - 1)
        return (rows - bar.sqrt() * image) / (1 - bar).sqrt()

    rows = torch.tensor([[0.2, 0.7], [0.6, 0.4], [-0.5, 2.0]], dtype=torch.float64)
    distances = ((rows[:, None] - points) ** 2).sum(2)
    expected = torch.softmax(-distances / (2 * sigma**2), dim=1) @ points
    denoised = DiffusionDenoiser(model, schedule, sigma)(rows)
    torch.testing.assert_close(denoised, expected, rtol=1e-12, atol=1e-12)


def test_the_certificate_is_for_noise_at_exactly_sigma_whatever_the_timestep():
    # No timestep has this noise: the nearest below has 0.24, the nearest above 0.9.
    sigma, schedule = 0.3, 1 / (1 + (2 * np.array([0.05, 0.24, 0.9])) ** 2)
    denoiser = DiffusionDenoiser(
        lambda rows, steps: torch.zeros_like(rows),
        schedule,
        sigma,
        input_range=(-50.0, 50.0),
        model_range=(-100.0, 100.0),
    )
    assert (denoiser.timestep, round(denoiser.timestep_sigma, 9)) == (1, 0.24)
    base = Linear(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0.0, -0.5]))
    whole = FrozenEstimator(DenoisedClassifier(denoiser, base))
    X, y = np.array([[0.8, 0.0], [0.2, 0.0]], dtype=np.float32), np.array([1, 0])
    clf = SmoothedClassifier(whole, sigma, n_estimation=20_000, bound="binary", random_state=0).fit(
        X, y
    )
    record = clf.certificates(X)
    shares = record.counts.max(axis=1) / 20_000
    np.testing.assert_allclose(shares, 0.84134, atol=0.013)  # Phi(1)
    assert (record.radius < 0.3).all()
    assert (record.radius > 0.27).all()


@pytest.mark.parametrize("sigma", [0.12, 0.25, 0.5, 1.0])
def test_the_nearest_timestep_is_chosen(sigma):
    denoiser = DiffusionDenoiser(nn.Identity(), LINEAR.tolist(), sigma)
    levels = np.sqrt(1 / LINEAR - 1) / 2
    chosen = abs(levels[denoiser.timestep] - sigma)
    assert chosen == np.abs(levels - sigma).min()
    assert denoiser.timestep_sigma == pytest.approx(levels[denoiser.timestep], rel=1e-12)
    assert f"timestep={denoiser.timestep}," in repr(denoiser)


def test_the_ends_of_the_schedule_are_within():
    levels = np.sqrt((1 - LINEAR) / LINEAR) / 2
    for timestep in (0, 999):
        sigma = float(np.sqrt(1 / LINEAR[timestep] - 1) / 2)
        assert sigma == pytest.approx(levels[timestep])
        assert DiffusionDenoiser(nn.Identity(), LINEAR, sigma).timestep == timestep


def test_images_are_clipped_to_their_range():
    for predicts in ("noise", "image"):
        denoiser = DiffusionDenoiser(lambda rows, steps: 1e3 * rows, LINEAR, 0.5, predicts=predicts)
        denoised = denoiser(torch.linspace(-2, 3, 60).reshape(5, 12))
        assert denoised.aminmax() == (0, 1)


def test_models_may_return_more_than_the_noise():
    plain = GaussianData(LINEAR, 0.0, 0.2, "noise")
    forms = [
        lambda rows, steps: (plain(rows, steps), None),
        lambda rows, steps: SimpleNamespace(sample=plain(rows, steps)),
        lambda rows, steps: torch.cat([plain(rows, steps), torch.ones_like(rows)], dim=1),
    ]
    rows = noisy_rows(0.5, 0.5, 0.1)
    expected = DiffusionDenoiser(plain, LINEAR, 0.5)(rows)
    for model in forms:
        assert torch.equal(DiffusionDenoiser(model, LINEAR, 0.5)(rows), expected)


def test_it_takes_a_schedule_as_a_tensor_and_travels():
    denoiser = DiffusionDenoiser(Stepless(), torch.tensor(LINEAR, requires_grad=True), 0.5)
    rows = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    again = pickle.loads(pickle.dumps(denoiser))
    assert torch.equal(again(rows), denoiser(rows))
    assert denoiser(rows).dtype == torch.float32
    assert list(denoiser.state_dict()) == ["model.weight", "model.bias"]


class Stepless(nn.Linear):
    """A model that does not care for the timestep."""

    def __init__(self) -> None:
        super().__init__(3, 3)

    def forward(self, rows: Tensor, steps: Tensor) -> Tensor:
        return super().forward(rows)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sigma": 0.0}, "sigma must be positive and finite, got 0.0"),
        ({"sigma": 0.004}, r"sigma must lie within the schedule, from 0\.005\d* to 78"),
        ({"sigma": 80.0}, r"in the units of the inputs, got 80\.0\. Choose another sigma"),
        ({"alphas_cumprod": LINEAR[::-1]}, "alphas_cumprod must be a decreasing sequence"),
        ({"alphas_cumprod": [1.0, 0.5]}, r"inside \(0, 1\), got array\(\[1\. , 0\.5\]\)"),
        ({"alphas_cumprod": [0.5, 0.0]}, "alphas_cumprod must be a decreasing sequence"),
        ({"alphas_cumprod": [0.5, np.nan]}, "alphas_cumprod must be a decreasing sequence"),
        ({"alphas_cumprod": []}, "alphas_cumprod must be a decreasing sequence"),
        ({"alphas_cumprod": LINEAR[:, None]}, "alphas_cumprod must be a decreasing sequence"),
        ({"alphas_cumprod": [0.5, 0.5]}, "alphas_cumprod must be a decreasing sequence"),
        ({"predicts": "velocity"}, "predicts must be one of 'noise', 'image', got 'velocity'"),
        ({"input_range": (1.0, 0.0)}, r"input_range must be two finite numbers, the smaller"),
        ({"model_range": None}, r"model_range must be two finite numbers, the smaller first, got"),
        ({"model_range": (0.0, 1.0, 2.0)}, r"model_range must be two finite numbers"),
        ({"input_range": (0.0, math.inf)}, r"input_range must be two finite numbers"),
    ],
)
def test_parameters_out_of_range_are_refused(params, message):
    settings = {"alphas_cumprod": LINEAR, "sigma": 0.5, **params}
    with pytest.raises(ValueError, match=message):
        DiffusionDenoiser(nn.Identity(), **settings)


def test_a_model_must_be_callable_and_return_rows():
    with pytest.raises(TypeError, match="model must be a torch module or a callable, got 3"):
        DiffusionDenoiser(3, LINEAR, 0.5)
    for outputs, error, message in (
        (
            torch.ones(2, 3, 1),
            ValueError,
            r"model must return rows of the shape .* got \(2, 3, 1\)",
        ),
        (np.ones((2, 4)), TypeError, "model must return a tensor, got ndarray"),
    ):
        denoiser = DiffusionDenoiser(lambda rows, steps, out=outputs: out, LINEAR, 0.5)
        with pytest.raises(error, match=message):
            denoiser(torch.ones(2, 4))
