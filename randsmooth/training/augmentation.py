"""Gaussian augmentation: train on noisy inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet

from randsmooth.checks import check_count
from randsmooth.noise import Noise
from randsmooth.training.noisy import NoisyTraining

__all__ = ["GaussianAugmentation"]


class GaussianAugmentation(NoisyTraining):
    r"""Train on inputs with fresh noise in every batch (Lecuyer et al. 2019; Cohen et al. 2019).

    The loss is the net's own at :math:`x + \varepsilon`. Bases that are trained in one go see
    `n_replicas` noisy copies of every input instead. The name is the literature's; the noise is
    whatever `noise` says.

    Parameters
    ----------
    n_replicas : int, default=10
        Noisy copies of each input for scikit-learn bases. Nets draw fresh noise in every batch and
        ignore it.

    n_draws : int, default=1
        Noisy copies of each input in every batch of a net.

    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in. None is for
        `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise.

    See Also
    --------
    StabilityTraining : Keeps the clean loss and ties noisy predictions to clean ones.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via randomized
       smoothing", ICML 2019, section 4.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training import GaussianAugmentation
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[GaussianAugmentation(noise=Gaussian(0.25), random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    """

    def __init__(
        self,
        n_replicas: int = 10,
        *,
        n_draws: int = 1,
        noise: Noise | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.n_replicas = n_replicas
        self.n_draws = n_draws

    def check(self, net: NeuralNet) -> None:
        """Refuse a number of draws that is not positive.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `n_draws` is not a positive integer.
        """
        check_count("n_draws", self.n_draws)

    def replicate(
        self, X: NDArray[Any], generator: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Return `n_replicas` noisy copies of every input.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            The inputs.

        generator : numpy.random.Generator
            Source of the noise.

        Returns
        -------
        copies : ndarray of shape (n_replicas * n_samples, ...)
            The noisy copies.

        rows : ndarray of int, shape (n_replicas * n_samples,)
            The row of `X` that each copy comes from.

        Raises
        ------
        ValueError
            If `n_replicas` is not a positive integer or `noise` is None.
        """
        check_count("n_replicas", self.n_replicas)
        if self.noise is None:
            raise ValueError("noise must be a Noise object such as Gaussian(0.25), got None.")
        rows = np.tile(np.arange(len(X)), self.n_replicas)
        drawn = self.noise.draw(len(rows), X.shape[1:], generator, dtype=X.dtype)
        copies = self.noise.corrupted(torch.from_numpy(X[rows]), torch.from_numpy(drawn))
        return copies.numpy(), rows
