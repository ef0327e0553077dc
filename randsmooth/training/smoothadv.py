"""SmoothAdv: adversarial training of the smoothed classifier, Salman et al. (2019)."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from torch import Tensor

from randsmooth.checks import check_inputs_in_range, check_positive
from randsmooth.noise import Noise
from randsmooth.training.perturbation import Ball, ascend, warmed_up
from randsmooth.training.smoothed_attack import SmoothedAttack

__all__ = ["SmoothAdv"]


class SmoothAdv(SmoothedAttack):
    r"""Train on noisy copies of inputs that were attacked through the same noise.

    For every batch it draws m noises for each input and looks, from :math:`x` itself, for

    .. math::

        \hat x = \arg\max_{\|x' - x\|_2 \le \epsilon}
        \Bigl( -\ln \frac{1}{m} \sum_{k=1}^{m} p_y(x' + \varepsilon_k) \Bigr),

    the attack on the soft smoothed classifier (Salman et al. [1]_, equation 6 and SmoothAdv_PGD in
    section 3), by projected gradient ascent with the module in evaluation mode. The net's own loss
    is then that of the m rows :math:`\hat x + \varepsilon_k` with the same noises. The ball and the
    clip range hold :math:`\hat x`, without its noise; noisy rows are not clipped. As eps goes to 0
    it is Gaussian augmentation with m draws.

    A batch of n inputs costs `n_steps` forward and backward passes of m n rows beside the training
    step of m n rows. The released code splits a batch into m parts to pay the same as plain
    training does: a batch size of 64 with four draws is its 256.

    Parameters
    ----------
    eps : float, default=1.0
        Radius of the attack in l2 and in the units of the inputs, positive. The released settings
        for MNIST use 255/256 at every sigma.

    n_draws : int, default=4
        Noise draws m of each input.

    n_steps : int, default=10
        Steps of the attack.

    step_size : float or None, default=None
        Length of a step. None is ``2 * eps / n_steps``.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an attacked input's coordinates; None for no limits, as for
        standardised tables.

    warm_up : int, default=10
        Epochs over which the radius grows linearly to `eps`, and the step with it; 0 for none.

    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in, one that is added to them.
        None is for `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise.

    See Also
    --------
    GaussianAugmentation : Trains on noisy inputs that nobody attacked.
    randsmooth.training.smoothmix.SmoothMix : Mixes attacked inputs with clean ones.

    References
    ----------
    .. [1] H. Salman, G. Yang, J. Li, P. Zhang, H. Zhang, I. Razenshteyn and S. Bubeck, "Provably
       robust deep learning via adversarially trained smoothed classifiers", NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training.smoothadv import SmoothAdv
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[SmoothAdv(0.5, n_draws=2, n_steps=2, noise=Gaussian(0.25), random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    """

    def __init__(
        self,
        eps: float = 1.0,
        *,
        n_draws: int = 4,
        n_steps: int = 10,
        step_size: float | None = None,
        clip_range: tuple[float, float] | None = (0.0, 1.0),
        warm_up: int = 10,
        noise: Noise | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.eps = eps
        self.n_draws = n_draws
        self.n_steps = n_steps
        self.step_size = step_size
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
            If `eps` or `step_size` is not positive, `n_draws` or `n_steps` is not a positive
            integer, `warm_up` is not an integer of at least 0, `clip_range` is not a range, or
            `noise` is not added to the inputs.
        """
        check_positive("eps", self.eps)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        super().check(net)

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Attack the batch through fresh noise, and return it with that noise.

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
            The noisy copies of the attacked inputs.

        Raises
        ------
        ValueError
            If `clip_range` does not contain the inputs.
        """
        check_inputs_in_range(inputs, self.clip_range)
        draws = self.draw(inputs)
        epoch = len(net.history)
        step_size = 2 * self.eps / self.n_steps if self.step_size is None else self.step_size
        with self.attacking(net):
            attacked = ascend(
                lambda x: self.smoothed_loss(net, x, targets, draws),
                inputs,
                inputs,
                ball=Ball(warmed_up(self.eps, epoch, self.warm_up), "l2", self.clip_range),
                n_steps=self.n_steps,
                step_size=warmed_up(step_size, epoch, self.warm_up),
            )
        return self.corrupted(attacked, draws)
