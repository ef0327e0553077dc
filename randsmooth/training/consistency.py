"""Consistency regularization: the loss of Jeong and Shin (2020)."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from torch import Tensor

from randsmooth.checks import check_count, check_weight
from randsmooth.noise import Noise
from randsmooth.training.losses import (
    entropy,
    kl_divergence,
    log_probabilities,
    mean_log_probabilities,
)
from randsmooth.training.noisy import NoisyTraining

__all__ = ["Consistency"]


class Consistency(NoisyTraining):
    r"""Train on noisy inputs whose predictions are tied to their average.

    With predictions :math:`p_{ki} = p(x_i + \varepsilon_{ki})` under m draws of noise and their
    average :math:`\bar p_i`, the net's own loss on all noisy copies is joined by

    .. math::

        \lambda \, \frac{1}{mB} \sum_{k=1}^{m} \sum_{i=1}^{B} D(\bar p_i \,\|\, p_{ki})
        + \eta \, \frac{1}{B} \sum_{i=1}^{B} H(\bar p_i)

    with gradients through both arguments of the divergence (Jeong and Shin [1]_, equation 7).
    Nothing is clipped. With both weights at 0 it is `GaussianAugmentation` with `n_draws` copies.
    A batch costs one forward and one backward pass over `n_draws` times its rows; the published
    recipe divides the batch size by `n_draws` to make up for that.

    History has the terms as ``criterion_loss``, ``consistency_loss`` and ``entropy_loss``, weights
    included; ``train_loss`` is their sum.

    Parameters
    ----------
    consistency_weight : float, default=5.0
        Weight :math:`\lambda` of the divergence, at least 0. Published for MNIST: 10 at a standard
        deviation of 0.25, 5 at 0.5 and 1; for CIFAR-10: 20 at 0.25, 10 at 0.5 and 1.

    entropy_weight : float, default=0.5
        Weight :math:`\eta` of the entropy of the average prediction, at least 0.

    n_draws : int, default=2
        Noisy copies m of each input, at least 2.

    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in. None is for
        `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise.

    See Also
    --------
    GaussianAugmentation : Trains on the noisy inputs alone.
    StabilityTraining : Ties noisy predictions to the prediction on the clean input.

    References
    ----------
    .. [1] J. Jeong and J. Shin, "Consistency regularization for certified robustness of smoothed
       classifiers", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training.consistency import Consistency
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[Consistency(10.0, noise=Gaussian(0.25), random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, "consistency_loss"])
    2
    """

    def __init__(
        self,
        consistency_weight: float = 5.0,
        *,
        entropy_weight: float = 0.5,
        n_draws: int = 2,
        noise: Noise | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.consistency_weight = consistency_weight
        self.entropy_weight = entropy_weight
        self.n_draws = n_draws

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If a weight is negative or not finite, or `n_draws` is not an integer of at least 2.
        """
        check_weight("consistency_weight", self.consistency_weight)
        check_weight("entropy_weight", self.entropy_weight)
        check_count("n_draws", self.n_draws, least=2)

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the criterion's loss, the divergence from the average and its entropy.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        loss : Tensor
            The criterion's loss on the noisy copies.

        outputs : Tensor of shape (n_draws * n_rows, ...)
            What the module returned for them.

        targets : Tensor of shape (n_rows, ...)
            The targets of the batch.

        Returns
        -------
        dict of str to Tensor
            The three terms.
        """
        log_p = self.by_draw(log_probabilities(net, outputs))
        average = mean_log_probabilities(log_p)
        divergence = kl_divergence(average.expand_as(log_p), log_p).mean()
        return {
            "criterion_loss": loss,
            "consistency_loss": self.consistency_weight * divergence,
            "entropy_loss": self.entropy_weight * entropy(average).mean(),
        }
