"""Strategies that train with noise: how it is drawn and how it meets a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor

from randsmooth.noise import Noise
from randsmooth.training.strategy import TrainingStrategy

__all__ = ["NoisyTraining"]


class NoisyTraining(TrainingStrategy):
    """Base of the strategies that train for a noise.

    Unless a subclass overrides `prepare`, it trains on the noisy copies.

    Parameters
    ----------
    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in. None is for
        `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise. None draws one, or lets `SmoothedClassifier` choose.

    Attributes
    ----------
    n_draws : int, default=1
        Noisy copies of each input, where a subclass makes it a parameter.
    """

    n_draws: int = 1

    def __init__(self, *, noise: Noise | None = None, random_state: Any = None) -> None:
        super().__init__(random_state=random_state)
        self.noise = noise

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Attach the strategy to the module and the criterion.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        if self.noise is None:
            raise ValueError(
                f"noise must be a Noise object such as Gaussian(0.25) where {type(self).__name__} "
                f"is put on a net by hand, got None."
            )
        self.noise_factor_ = 1.0
        super().on_train_begin(net, **kwargs)

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Return noisy copies of the batch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        inputs : Tensor of shape (n_rows, ...)
            The batch as the user handed it in.

        targets : Tensor of shape (n_rows, ...)
            Its targets.

        Returns
        -------
        Tensor of shape (n_draws * n_rows, ...)
            The noisy copies.
        """
        return self.corrupted(inputs, self.draw(inputs))

    def draw(self, inputs: Tensor) -> Tensor:
        """Return fresh noise for a batch.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, ...)
            The batch.

        Returns
        -------
        Tensor of shape (n_draws * n_rows, ...)
            The noise: the first draw of every row, then the second, and so on.
        """
        noise = self._noise()
        n_rows, shape = self.n_draws * len(inputs), tuple(inputs.shape[1:])
        if inputs.is_cuda:
            drawn = self._drawn_on_device(inputs, n_rows)
            if drawn is not None:
                return drawn
        dtype = np.float64 if inputs.dtype == torch.float64 else np.float32
        array = noise.draw(n_rows, shape, self.generator_, dtype=dtype)
        draws = torch.from_numpy(array).to(device=inputs.device, dtype=inputs.dtype)
        return draws if self.noise_factor_ == 1 else draws.mul_(self.noise_factor_)

    def corrupted(self, inputs: Tensor, draws: Tensor) -> Tensor:
        """Return the noisy copies of a batch.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, ...)
            The batch.

        draws : Tensor of shape (n_draws * n_rows, ...)
            What `draw` returned.

        Returns
        -------
        Tensor of shape (n_draws * n_rows, ...)
            The copies, a differentiable function of `inputs` where the noise is added.
        """
        n_draws = len(draws) // len(inputs)
        if n_draws > 1:
            inputs = inputs.repeat(n_draws, *[1] * (inputs.ndim - 1))
        return self._noise().corrupted(inputs, draws)

    def by_draw(self, rows: Tensor) -> Tensor:
        """Return what belongs to noisy copies, one draw of the batch behind the other.

        Parameters
        ----------
        rows : Tensor of shape (n_draws * n_rows, n_columns)
            One row for each copy.

        Returns
        -------
        Tensor of shape (n_draws, n_rows, n_columns)
            The same numbers.
        """
        return rows.reshape(self.n_draws, -1, rows.shape[1])

    def _noise(self) -> Noise:
        if self.noise is None:  # on_train_begin has refused this already
            raise ValueError("noise must be a Noise object, got None.")
        return self.noise

    def _drawn_on_device(self, inputs: Tensor, n_rows: int) -> Tensor | None:
        """Return noise drawn by an accelerator's own generator, where the noise knows how."""
        noise = self._noise()
        shape = noise.draw_shape(tuple(inputs.shape[1:]))
        draws = torch.empty((n_rows, *shape), dtype=inputs.dtype, device=inputs.device)
        if not noise.fill_standard_on_device(draws, self.generator_on(inputs.device)):
            return None
        return draws.mul_(noise.draw_factor * self.noise_factor_)
