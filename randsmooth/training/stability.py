"""Stability training: the loss of Li, Chen, Wang and Carin (2019)."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from torch import Tensor

from randsmooth.checks import check_choice, check_count, check_weight
from randsmooth.noise import Noise
from randsmooth.training.losses import DIVERGENCES, log_probabilities
from randsmooth.training.noisy import NoisyTraining

__all__ = ["StabilityTraining"]


class StabilityTraining(NoisyTraining):
    r"""Tie the prediction on noisy inputs to the prediction on the clean one.

    To the net's own loss on the clean batch, cross-entropy as a rule, it adds

    .. math::

        \gamma \, \frac{1}{mB} \sum_{k=1}^{m} \sum_{i=1}^{B}
        H\bigl(p(x_i),\, p(x_i + \varepsilon_{ki})\bigr),
        \qquad H(p, q) = -\sum_j p_j \ln q_j,

    with fresh noise :math:`\varepsilon_{ki}` in every batch and gradients through both arguments
    (Li et al. [1]_, section 5.1, with m = 1). The noisy input is not clipped. History has the two
    terms as ``criterion_loss`` and ``stability_loss``, by batch and by epoch; ``train_loss`` is
    their sum.

    Parameters
    ----------
    gamma : float, default=1.0
        Weight of the term, at least 0. The paper states none; its released code uses 1.

    n_draws : int, default=1
        Noisy copies m of each input.

    divergence : {"cross_entropy", "kl"}, default="cross_entropy"
        What ties the predictions. The Kullback-Leibler divergence is the cross-entropy less the
        entropy of the clean prediction, so that it does not ask for a confident one (Zheng et al.
        [2]_, equation 8, have the former).

    detach : bool, default=False
        Whether the clean prediction is a constant in the term.

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

    .. [2] S. Zheng, Y. Song, T. Leung and I. Goodfellow, "Improving the robustness of deep neural
       networks via stability training", CVPR 2016.

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

    def __init__(
        self,
        gamma: float = 1.0,
        *,
        n_draws: int = 1,
        divergence: str = "cross_entropy",
        detach: bool = False,
        noise: Noise | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.gamma = gamma
        self.n_draws = n_draws
        self.divergence = divergence
        self.detach = detach

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `gamma` is negative or not finite, `n_draws` is not a positive integer, or
            `divergence` is unknown.
        """
        check_weight("gamma", self.gamma)
        check_count("n_draws", self.n_draws)
        check_choice("divergence", self.divergence, tuple(DIVERGENCES))

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Draw the noise of the batch, and leave the batch as it is.

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
        Tensor of shape (n_rows, ...)
            `inputs`.
        """
        self.draws_ = self.draw(inputs)
        return inputs

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the criterion's loss and gamma times the divergence of noisy predictions.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        loss : Tensor
            The criterion's loss on the clean batch.

        outputs : Tensor of shape (n_rows, ...)
            What the module returned for it.

        targets : Tensor of shape (n_rows, ...)
            Its targets.

        Returns
        -------
        dict of str to Tensor
            The two terms.
        """
        clean = log_probabilities(net, outputs)
        noisy = self.by_draw(self.log_probabilities(net, self.corrupted(self.inputs_, self.draws_)))
        target = clean.detach() if self.detach else clean
        divergence = DIVERGENCES[self.divergence](target.expand_as(noisy), noisy)
        return {"criterion_loss": loss, "stability_loss": self.gamma * divergence.mean()}
