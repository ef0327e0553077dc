"""Diffusion models as denoisers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from randsmooth.acceleration import first_output
from randsmooth.checks import check_choice, check_positive

__all__ = ["DiffusionDenoiser"]


class DiffusionDenoiser(nn.Module):
    r"""A diffusion model as a denoiser in one step (Carlini et al. [1]_, algorithm 1).

    A diffusion model knows images under the noise of every timestep :math:`t` of its schedule,

    .. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, z, \qquad z \sim N(0, I).

    That is an image under noise of standard deviation
    :math:`\sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}`, scaled by
    :math:`\sqrt{\bar\alpha_t}`. So a noisy row is mapped to the model's range, scaled, shown to the
    model together with :math:`t`, and the image that the model sees in it is mapped back:
    :math:`x - \sigma_t\, \hat z` for a model that predicts the noise.

    Smoothing adds noise of exactly its own `sigma`, not of a timestep: the certificate has the
    radius that belongs to `sigma`, whatever the schedule. The timestep, the one whose noise is
    nearest to `sigma`, is chosen for the model alone, and a poor match costs accuracy and never
    soundness. One forward pass of the model a row.

    Parameters
    ----------
    model : torch.nn.Module or callable (Tensor, Tensor) -> Tensor
        Called with the scaled rows and a vector of timesteps, one int64 a row. Of a tuple the first
        counts, of an object its attribute `sample`, and of twice as many channels, where a model
        predicts a variance too, the first half.

    alphas_cumprod : array-like of shape (n_timesteps,)
        The schedule :math:`\bar\alpha_t`, decreasing, inside (0, 1). Its indices are the timesteps
        that the model knows.

    sigma : float
        Standard deviation of the smoothing noise, in the units of the inputs.

    predicts : {"noise", "image"}, default="noise"
        What the model returns: :math:`\hat z` or :math:`\hat x_0`.

    input_range : tuple of two floats, default=(0.0, 1.0)
        Smallest and largest value of clean inputs.

    model_range : tuple of two floats, default=(-1.0, 1.0)
        What the model expects them to be. Noise grows with the range: with the defaults the model
        sees twice `sigma`. The image is clipped to it.

    Attributes
    ----------
    timestep : int
        The timestep that the model is told.

    timestep_sigma : float
        Standard deviation of its noise, in the units of the inputs.

    Raises
    ------
    ValueError
        If `sigma` is not positive or outside the schedule, `alphas_cumprod` is no decreasing
        sequence inside (0, 1), a range is not two finite numbers in order, or `predicts` is
        unknown.

    TypeError
        If `model` is not callable.

    See Also
    --------
    DenoisedClassifier : Puts it in front of a classifier.

    References
    ----------
    .. [1] N. Carlini, F. Tramèr, K. Dvijotham, L. Rice, M. Sun and J. Z. Kolter, "(Certified!!)
       adversarial robustness for free!", ICLR 2023, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from randsmooth.denoised import DiffusionDenoiser
    >>> alphas_cumprod = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    >>> denoiser = DiffusionDenoiser(lambda rows, t: torch.zeros_like(rows), alphas_cumprod, 0.5)
    >>> denoiser.timestep, round(denoiser.timestep_sigma, 4)
    (258, 0.4998)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        alphas_cumprod: ArrayLike | Tensor,
        sigma: float,
        *,
        predicts: str = "noise",
        input_range: Sequence[float] = (0.0, 1.0),
        model_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        if not callable(model) or isinstance(model, type):
            raise TypeError(f"model must be a torch module or a callable, got {model!r}.")
        check_positive("sigma", sigma)
        check_choice("predicts", predicts, ("noise", "image"))
        self.input_range = _checked_range("input_range", input_range)
        self.model_range = _checked_range("model_range", model_range)
        schedule = _checked_schedule(alphas_cumprod)
        levels = np.sqrt((1 - schedule) / schedule) / self._stretch
        # A level of the schedule, computed otherwise, must not fall outside for its last bit.
        if not levels[0] * (1 - 1e-6) <= sigma <= levels[-1] * (1 + 1e-6):
            raise ValueError(
                f"sigma must lie within the schedule, from {levels[0]:.6g} to {levels[-1]:.6g} in "
                f"the units of the inputs, got {sigma!r}. Choose another sigma, or look at "
                f"input_range and model_range."
            )
        self.model = model
        self.sigma = float(sigma)
        self.predicts = predicts
        self.timestep = int(np.abs(levels - sigma).argmin())
        self.timestep_sigma = float(levels[self.timestep])
        self.alpha_cumprod = float(schedule[self.timestep])

    @property
    def _stretch(self) -> float:
        (low, high), (model_low, model_high) = self.input_range, self.model_range
        return (model_high - model_low) / (high - low)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the images that the model sees in noisy rows.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Rows with noise of standard deviation `sigma`.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            Images in `input_range`.

        Raises
        ------
        TypeError
            If the model returns no tensor.

        ValueError
            If it returns another shape.
        """
        low, model_low = self.input_range[0], self.model_range[0]
        scaled = (rows - low) * self._stretch + model_low
        steps = torch.full((len(rows),), self.timestep, dtype=torch.long, device=rows.device)
        predicted = self._predicted(scaled * math.sqrt(self.alpha_cumprod), steps)
        if self.predicts == "noise":
            predicted = scaled - self.timestep_sigma * self._stretch * predicted
        return (predicted.clamp(*self.model_range) - model_low) / self._stretch + low

    def _predicted(self, rows: Tensor, steps: Tensor) -> Tensor:
        outputs = self.model(rows, steps)
        outputs = first_output(getattr(outputs, "sample", outputs))
        if not isinstance(outputs, Tensor):
            raise TypeError(f"model must return a tensor, got {type(outputs).__name__}.")
        n_channels = rows.shape[1]
        if outputs.ndim > 1 and outputs.shape[1] == 2 * n_channels:
            outputs = outputs[:, :n_channels]
        if outputs.shape != rows.shape:
            raise ValueError(
                f"model must return rows of the shape that it is given, got "
                f"{tuple(outputs.shape)} for {tuple(rows.shape)}."
            )
        return outputs

    def extra_repr(self) -> str:
        """Return the settings, for the module's representation.

        Returns
        -------
        str
            The settings, the timestep among them.
        """
        return (
            f"sigma={self.sigma:g}, timestep={self.timestep}, "
            f"timestep_sigma={self.timestep_sigma:.6g}, predicts={self.predicts!r}"
        )


def _checked_schedule(alphas_cumprod: Any) -> NDArray[np.float64]:
    if isinstance(alphas_cumprod, Tensor):
        alphas_cumprod = alphas_cumprod.detach().cpu()
    schedule = np.asarray(alphas_cumprod, dtype=np.float64)
    inside = schedule.ndim == 1 and len(schedule) > 0 and 0 < schedule.min() <= schedule.max() < 1
    if not inside or not (np.diff(schedule) < 0).all():
        raise ValueError(
            f"alphas_cumprod must be a decreasing sequence inside (0, 1), got {schedule!r}. It is "
            f"the cumulative product of 1 - beta, from the least noise to the most."
        )
    return schedule


def _checked_range(name: str, given: Any) -> tuple[float, float]:
    ends = tuple(given) if isinstance(given, (tuple, list)) else ()
    try:
        low, high = map(float, ends)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{name} must be two finite numbers, the smaller first, got {given!r}.")
    return low, high
