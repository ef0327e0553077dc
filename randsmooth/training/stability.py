"""Stability training: the loss of Li, Chen, Wang and Carin (2019)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from skorch import NeuralNet
from torch import Tensor

from randsmooth.noise import Noise
from randsmooth.training.strategy import TrainingStrategy, log_probabilities

__all__ = ["StabilityTraining"]


class StabilityTraining(TrainingStrategy):
    r"""Tie the prediction on a noisy input to the prediction on the clean one.

    To the net's own loss on the clean batch, cross-entropy as a rule, it adds

    .. math::

        \gamma \, \frac{1}{B} \sum_{i=1}^{B} H\bigl(p(x_i),\, p(x_i + \varepsilon_i)\bigr),
        \qquad H(p, q) = -\sum_j p_j \ln q_j,

    with fresh noise :math:`\varepsilon_i` in every batch and gradients through both arguments
    (Li et al. [1]_, section 5.1). The noisy input is not clipped. The term is recorded in the
    history as ``stability_loss``, by batch and by epoch; ``train_loss`` is the whole objective.

    Parameters
    ----------
    gamma : float, default=1.0
        Weight of the term, at least 0. The paper states none; its released code uses 1.

    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in. None is for
        `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise.

    See Also
    --------
    GaussianAugmentation : Trains on the noisy inputs themselves.

    References
    ----------
    .. [1] B. Li, C. Chen, W. Wang and L. Carin, "Certified adversarial robustness with additive
       noise", NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training import StabilityTraining
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[StabilityTraining(gamma=2.0, noise=Gaussian(0.25), random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, "stability_loss"])
    2
    """

    history_name: ClassVar[str | None] = "stability_loss"

    def __init__(
        self, gamma: float = 1.0, *, noise: Noise | None = None, random_state: Any = None
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.gamma = gamma

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Check the weight and hook the strategy in.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.

        Raises
        ------
        ValueError
            If `gamma` is negative or not finite.
        """
        if not (isinstance(self.gamma, (int, float, np.number)) and 0 <= self.gamma < math.inf):
            raise ValueError(f"gamma must be finite and at least 0, got {self.gamma!r}.")
        super().on_train_begin(net, **kwargs)

    def loss_term(self, net: NeuralNet, outputs: Tensor, noisy_outputs: Any) -> Tensor:
        """Return gamma times the cross-entropy between clean and noisy predictions.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        outputs : Tensor of shape (n_rows, ...)
            What the module returned for the clean batch.

        noisy_outputs : callable () -> Tensor
            Passes the noisy batch through the net in training mode.

        Returns
        -------
        Tensor
            The term, a scalar.
        """
        clean = log_probabilities(net, outputs).exp()
        noisy = log_probabilities(net, noisy_outputs())
        return -self.gamma * (clean * noisy).sum(dim=1).mean()
