"""SmoothMix: mixup towards the adversary of the smoothed classifier, Jeong et al. (2021)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor

from randsmooth.checks import (
    check_count,
    check_inputs_in_range,
    check_positive,
    check_weight,
)
from randsmooth.noise import Noise
from randsmooth.training.losses import kl_divergence, log_probabilities, mean_log_probabilities
from randsmooth.training.perturbation import Ball, as_tensor, ascend, warmed_up
from randsmooth.training.smoothed_attack import SmoothedAttack

__all__ = ["SmoothMix"]


class SmoothMix(SmoothedAttack):
    r"""Ask for less confidence along the way from an input to its adversary.

    For every batch it draws m noises for each input, attacks the soft smoothed classifier
    :math:`\hat p(x) = \frac{1}{m} \sum_k p(x + \varepsilon_k)` from :math:`x` without a ball, and
    mixes :math:`x` and the adversary :math:`x'`, the prediction and the uniform distribution on K
    classes, with one :math:`\lambda \sim U[0, \frac{1}{2}]` for each input:

    .. math::

        x_\text{mix} = (1 - \lambda)\, x + \lambda\, x', \qquad
        q = (1 - \lambda)\, \hat p(x) + \lambda\, \tfrac{1}{K}.

    To the net's own loss on the m noisy copies of :math:`x` it adds

    .. math::

        \eta \, \frac{1}{mn} \sum_{i=1}^{n} \mathbb{1}\bigl[\arg\max \hat p(x_i) = y_i\bigr]
        \sum_{k=1}^{m} D_\text{KL}\bigl(q_i \,\|\, p(x_{\text{mix}, i} + \varepsilon_{ki})\bigr)

    with the same noises (Jeong et al. [1]_, section 3). As in the released code, gradients flow
    through the target :math:`q` too, the average is over all rows, right or not, and eta grows
    linearly over the first epochs. History has the terms as ``criterion_loss`` and
    ``mixup_loss``. At eta = 0 it is Gaussian augmentation with m draws.

    A batch of n inputs costs `n_steps` forward and backward passes of m n rows for the attack, with
    the module in evaluation mode, and one pass of the mixed rows beside the training step of m n
    rows, whose outputs are :math:`p(x + \varepsilon_k)` already. The released code splits a batch
    into m parts: a batch size of 64 with four draws is its 256.

    Parameters
    ----------
    eta : float, default=5.0
        Weight of the mixup loss, at least 0; the paper has 1 and 5 on MNIST and 5 on CIFAR-10.

    n_draws : int, default=4
        Noise draws m of each input; the paper has 4 on MNIST and 2 on CIFAR-10.

    n_steps : int, default=4
        Steps of the attack.

    step_size : float or None, default=None
        Length of a step; None for ``8 * sigma / n_steps``. In the paper's settings for eta = 5 the
        steps are 8 sigma long together: 2, 4 and 8 steps of 1 at sigma 0.25, 0.5 and 1 on MNIST,
        4 steps of 2 sigma on CIFAR-10.

    one_step_adversary : bool, default=False
        Whether the attack's first step takes the place of :math:`x`, in the net's own loss as in
        the mixture, for more robustness at the cost of accuracy on clean inputs. It is as long as
        `step_size` once `warm_up` is over, and grows linearly until then.

    max_length : float or None, default=None
        Radius in l2 of a ball that holds the adversary; None for none, as in the paper.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an attacked input's coordinates; None for no limits, as for
        standardised tables.

    warm_up : int, default=10
        Epochs over which `eta` and the one-step adversary grow linearly; 0 for none.

    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in, one that is added to them.
        None is for `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise and of the mixing.

    See Also
    --------
    randsmooth.training.smoothadv.SmoothAdv : Trains on the attacked inputs themselves.

    References
    ----------
    .. [1] J. Jeong, S. Park, M. Kim, H.-C. Lee, D.-G. Kim and J. Shin, "SmoothMix: training
       confidence-calibrated smoothed classifiers for certified robustness", NeurIPS 2021.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training.smoothmix import SmoothMix
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[SmoothMix(n_draws=2, n_steps=2, noise=Gaussian(0.25), random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, "mixup_loss"])
    2
    """

    def __init__(
        self,
        eta: float = 5.0,
        *,
        n_draws: int = 4,
        n_steps: int = 4,
        step_size: float | None = None,
        one_step_adversary: bool = False,
        max_length: float | None = None,
        clip_range: tuple[float, float] | None = (0.0, 1.0),
        warm_up: int = 10,
        noise: Noise | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.eta = eta
        self.n_draws = n_draws
        self.n_steps = n_steps
        self.step_size = step_size
        self.one_step_adversary = one_step_adversary
        self.max_length = max_length
        self.clip_range = clip_range
        self.warm_up = warm_up

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range, and noise that has no gradient to climb.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `eta` is negative or not finite, `step_size` or `max_length` is not positive,
            `n_draws` or `n_steps` is not a positive integer (at least 2 steps where the first is
            the one-step adversary), `warm_up` is not an integer of at least 0, `clip_range` is not
            a range, or `noise` is not added to the inputs.
        """
        check_weight("eta", self.eta)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        if self.max_length is not None:
            check_positive("max_length", self.max_length)
        super().check(net)
        if self.one_step_adversary:
            check_count("n_steps", self.n_steps, least=2)

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Attach the strategy to the module and the criterion.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        super().on_train_begin(net, **kwargs)
        # Half a block further on: the noise is then the same for every way of mixing.
        bits = self.generator_.bit_generator.jumped(0)  # type: ignore[attr-defined]
        self.mixing_generator_ = np.random.Generator(bits.advance(2**127))

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Attack the batch through fresh noise, mix, and return the clean side with its noise.

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
            The noisy copies of the inputs, or of their one-step adversaries.

        Raises
        ------
        ValueError
            If `clip_range` does not contain the inputs.
        """
        check_inputs_in_range(inputs, self.clip_range)
        draws = self.draw(inputs)
        clean, adversary = self._attacked(net, inputs, targets, draws)
        self.mixing_ = as_tensor(self.mixing_generator_.uniform(0, 0.5, len(inputs)), inputs)
        mixing = self.mixing_.reshape(-1, *[1] * (inputs.ndim - 1))
        self.noisy_mixture_ = self.corrupted(clean + mixing * (adversary - clean), draws)
        return self.corrupted(clean, draws)

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the criterion's loss and eta times the mixup loss.

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
            The two terms.
        """
        clean = self.by_draw(log_probabilities(net, outputs))
        prediction = mean_log_probabilities(clean)
        mixing = self.mixing_.to(clean.dtype).unsqueeze(1)
        target = torch.logaddexp(
            torch.log1p(-mixing) + prediction, mixing.log() - math.log(clean.shape[-1])
        )
        mixed = self.by_draw(self.log_probabilities(net, self.noisy_mixture_))
        right = prediction.argmax(dim=1) == targets.reshape(-1)
        divergence = kl_divergence(target.expand_as(mixed), mixed) * right
        eta = warmed_up(self.eta, len(net.history), self.warm_up)
        return {"criterion_loss": loss, "mixup_loss": eta * divergence.mean()}

    def _attacked(
        self, net: NeuralNet, inputs: Tensor, targets: Any, draws: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the clean side of the mixture and the adversary."""
        length = math.inf if self.max_length is None else self.max_length
        ball = Ball(length, "l2", self.clip_range)
        clean = start = inputs
        n_steps, step_size = self.n_steps, self._step_size()

        def loss(x: Tensor) -> Tensor:
            return self.smoothed_loss(net, x, targets, draws)

        with self.attacking(net):
            if self.one_step_adversary:
                start = ascend(loss, inputs, inputs, ball=ball, n_steps=1, step_size=step_size)
                n_steps -= 1
                short = warmed_up(step_size, len(net.history), self.warm_up)
                clean = Ball(short, "l2", self.clip_range).project(start, inputs)
            adversary = ascend(loss, start, inputs, ball=ball, n_steps=n_steps, step_size=step_size)
        return clean, adversary

    def _step_size(self) -> float:
        if self.step_size is not None:
            return self.step_size
        return 8 * self._noise().scale * self.noise_factor_ / self.n_steps
