"""MACER: the certified radius as a training loss (Zhai et al. 2020)."""

from __future__ import annotations

import math
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from randsmooth.checks import check_count, check_positive, check_weight
from randsmooth.noise import Noise
from randsmooth.training.losses import (
    log_probabilities,
    mean_log_probabilities,
    negative_log_likelihood,
)
from randsmooth.training.noisy import NoisyTraining

__all__ = ["MACER"]


class MACER(NoisyTraining):
    r"""Maximise the certified radius of the soft smoothed classifier.

    Two terms **replace** the net's own loss, whose criterion only says how outputs become
    probabilities. With predictions :math:`p_{ki}` under m draws of noise, the first is the
    negative log-likelihood of their average,

    .. math::

        -\frac{1}{B} \sum_{i=1}^{B} \ln \frac{1}{m} \sum_{k=1}^{m} p_{ki, y_i},

    and the second the hinge of the certified radius,

    .. math::

        \lambda \, \frac{\sigma}{2} \, \frac{1}{B} \sum_{i \in G}
        \bigl(\gamma - (\Phi^{-1}(\hat p_{i1}) - \Phi^{-1}(\hat p_{i2}))\bigr),

    where :math:`\hat p_{i1} \geq \hat p_{i2}` are the two largest entries of the average of
    :math:`\operatorname{softmax}(\beta z_{ki})` over the draws and G the rows of which the first
    is the true class and whose hinge is not negative (Zhai et al. [1]_, algorithm 1 and
    equation 12). :math:`\sigma` is the standard deviation of the noise that is drawn, so that
    training and radius cannot differ in scale. Nothing is clipped.

    All is computed from logarithms, the probability that the top class lacks included: no rounding
    to 1 removes a row, and rows outside G never reach :math:`\Phi^{-1}` or its gradient. A batch
    costs one forward and one backward pass over `n_draws` times its rows.

    History has the terms as ``classification_loss`` and ``robustness_loss``, weight included;
    ``train_loss`` is their sum.

    Parameters
    ----------
    robustness_weight : float, default=16.0
        Weight :math:`\lambda`, at least 0. Published for MNIST: 16 at a standard deviation of 0.25
        and 0.5, 6 at 1; for CIFAR-10: 12 at 0.25, 4 at 0.5, 12 at 1.

    n_draws : int, default=16
        Noisy copies m of each input.

    beta : float, default=16.0
        Inverse temperature of the probabilities in the radius.

    margin : float, default=8.0
        Where the hinge ends, :math:`\gamma`: rows with a radius above
        :math:`\gamma \sigma / 2` add nothing.

    start_epoch : int, default=1
        First epoch with the second term. Published: from the start for CIFAR-10 at 0.25 and 0.5;
        for MNIST, and CIFAR-10 at 1, after the first fall of the learning rate, epochs 30 and 50.

    noise : Noise or None, default=None
        Gaussian noise to train with, in the units of the inputs as handed in. None is for
        `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise.

    See Also
    --------
    GaussianAugmentation : Averages losses over draws, not predictions.

    References
    ----------
    .. [1] R. Zhai et al., "MACER: attack-free and scalable robust training via maximizing
       certified radius", ICLR 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training.macer import MACER
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[MACER(6.0, n_draws=4, noise=Gaussian(0.25), random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, "robustness_loss"])
    2
    """

    def __init__(
        self,
        robustness_weight: float = 16.0,
        *,
        n_draws: int = 16,
        beta: float = 16.0,
        margin: float = 8.0,
        start_epoch: int = 1,
        noise: Noise | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.robustness_weight = robustness_weight
        self.n_draws = n_draws
        self.beta = beta
        self.margin = margin
        self.start_epoch = start_epoch

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `robustness_weight` is negative or not finite, `beta` or `margin` is not positive and
            finite, `n_draws` or `start_epoch` is not a positive integer, or `noise` is not
            Gaussian.
        """
        check_weight("robustness_weight", self.robustness_weight)
        check_count("n_draws", self.n_draws)
        check_positive("beta", self.beta)
        check_positive("margin", self.margin)
        check_count("start_epoch", self.start_epoch)
        noise = self._noise()
        if (noise.family or noise.name) != "gaussian":
            raise ValueError(
                f"noise must be Gaussian for MACER, whose loss is the radius of Gaussian noise, "
                f"got {noise!r}. Train for it with Consistency or GaussianAugmentation."
            )

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the average prediction's loss and the hinge of the radius, for the criterion's.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        loss : Tensor
            The criterion's loss on the noisy copies, which is not used.

        outputs : Tensor of shape (n_draws * n_rows, ...)
            What the module returned for them.

        targets : Tensor of shape (n_rows, ...)
            The targets of the batch.

        Returns
        -------
        dict of str to Tensor
            The two terms.
        """
        log_p = self.by_draw(log_probabilities(net, outputs))
        classification = negative_log_likelihood(mean_log_probabilities(log_p), targets).mean()
        if self.robustness_weight > 0 and len(net.history) >= self.start_epoch:
            sharpened = nn.functional.log_softmax(self.beta * log_p, dim=-1)
            hinge = _hinge(mean_log_probabilities(sharpened), targets, self.margin)
            sigma = self._noise().scale * self.noise_factor_
            robustness = self.robustness_weight * sigma / 2 * hinge
        else:
            robustness = torch.zeros_like(classification)
        return {"classification_loss": classification, "robustness_loss": robustness}


def _hinge(log_p: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Return the margin less the gap of quantiles, over the rows that count, per row of all."""
    with torch.no_grad():
        gap, tail, label = _gap(log_p)
        # Where a probability underflows, the published quantile is infinite.
        finite = tail >= math.log(torch.finfo(log_p.dtype).tiny)
        counted = (label == targets.reshape(-1).long()) & finite & (gap <= margin)
    gap, _, _ = _gap(log_p[counted])
    return (margin - gap).sum() / len(log_p)


def _gap(log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far apart the two largest probabilities' quantiles are, the least tail, the label.

    The quantile of the largest comes from the probability it lacks where that is the smaller.
    """
    top, classes = log_p.topk(2, dim=1)
    first, second = top.unbind(dim=1)
    rest = log_p.scatter(1, classes[:, :1], -math.inf).logsumexp(dim=1)
    # Not `minimum`, which would halve the gradient between the two where they are equal.
    below = first <= rest
    tail = first.where(below, rest)
    quantile = torch.special.ndtri(tail.exp())
    gap = quantile.where(below, -quantile) - torch.special.ndtri(second.exp())
    return gap, torch.minimum(tail, second), classes[:, 0]
