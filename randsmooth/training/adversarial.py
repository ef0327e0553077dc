"""Adversarial training by projected gradient descent: Madry et al. (2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skorch import NeuralNet
from torch import Tensor

from randsmooth.checks import (
    check_choice,
    check_clip_range,
    check_count,
    check_inputs_in_range,
    check_positive,
)
from randsmooth.training.losses import negative_log_likelihood
from randsmooth.training.perturbation import Ball, ascend, warmed_up
from randsmooth.training.strategy import TrainingStrategy

__all__ = ["AdversarialStrategy", "AdversarialTraining"]


class AdversarialStrategy(TrainingStrategy):
    """Base of the strategies that attack the net within a ball around every input.

    Parameters
    ----------
    eps : float
        Radius of the ball, in the units of the inputs.

    norm : {"linf", "l2"}
        Norm that measures a perturbation.

    n_steps : int
        Steps of the attack.

    step_size : float or None
        Length of a step in that norm; None for ``2.5 * eps / n_steps``.

    clip_range : tuple of two floats or None
        Smallest and largest value of an input's coordinates; None for no limits.

    warm_up : int
        Epochs over which the radius and the step grow linearly to their values.

    random_state : int, RandomState instance or None
        Seed of the attack.
    """

    def __init__(
        self,
        eps: float,
        *,
        norm: str,
        n_steps: int,
        step_size: float | None,
        clip_range: tuple[float, float] | None,
        warm_up: int,
        random_state: Any,
    ) -> None:
        super().__init__(random_state=random_state)
        self.eps = eps
        self.norm = norm
        self.n_steps = n_steps
        self.step_size = step_size
        self.clip_range = clip_range
        self.warm_up = warm_up

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `eps` or `step_size` is not positive and finite, `norm` is unknown, `n_steps` is not
            a positive integer, `clip_range` is no range, or `warm_up` is negative or no integer.
        """
        check_positive("eps", self.eps)
        check_choice("norm", self.norm, ("linf", "l2"))
        check_count("n_steps", self.n_steps)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        check_clip_range(self.clip_range)
        check_count("warm_up", self.warm_up, least=0)

    def ball(self, net: NeuralNet) -> Ball:
        """Return the ball of this epoch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        Returns
        -------
        Ball
            The perturbed inputs that the attack may choose from.
        """
        eps = warmed_up(self.eps, len(net.history), self.warm_up)
        return Ball(eps, self.norm, self.clip_range)

    def attacked(
        self, net: NeuralNet, inputs: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the inputs moved to where a function of the net's predictions is large.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training, held still by `attacking`.

        inputs : Tensor of shape (n_rows, ...)
            Centres of the balls.

        start : Tensor of shape (n_rows, ...)
            Where the attack starts.

        loss : callable (Tensor of shape (n_rows, n_classes)) -> Tensor of shape (n_rows,)
            What it climbs, a function of each row's log-probabilities.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            The last iterates, without a graph.
        """
        ball = self.ball(net)
        step_size = 2.5 * self.eps / self.n_steps if self.step_size is None else self.step_size
        return ascend(
            lambda rows: loss(self.log_probabilities(net, rows)).sum(),
            start,
            inputs,
            ball=ball,
            n_steps=self.n_steps,
            step_size=warmed_up(step_size, len(net.history), self.warm_up),
        )


class AdversarialTraining(AdversarialStrategy):
    r"""Train on the worst inputs that projected gradient descent finds around the given ones.

    The saddle point of Madry et al. [1]_, equation 2.1,

    .. math::

        \min_\theta \; \frac{1}{B} \sum_{i=1}^{B} \; \max_{\|\delta\| \le \varepsilon}
        -\ln p_{y_i}(x_i + \delta),

    where the inner maximum is approximated by

    .. math::

        x^{t+1} = \Pi\bigl(x^t + \alpha \, s(\nabla_x [-\ln p_y(x^t)])\bigr)

    from a uniformly random point of the ball: s is the sign for l-infinity, the normalised gradient
    for l2, and :math:`\Pi` projects onto the ball, then into the clip range. The net is in
    evaluation mode while it is attacked. Its own loss on the examples alone is minimised; the clean
    inputs are not trained on. Nothing is certified by it.

    A batch costs `n_steps` forward and backward passes beside the training pass.

    Parameters
    ----------
    eps : float, default=0.3
        Radius of the ball, in the units of the inputs. The default is for digits in [0, 1]; colour
        images usually have 8/255.

    norm : {"linf", "l2"}, default="linf"
        Norm that measures a perturbation, over all coordinates of an input.

    n_steps : int, default=10
        Steps of the attack.

    step_size : float or None, default=None
        Length of a step in that norm; None for ``2.5 * eps / n_steps``, which reaches every point
        of the ball from every other.

    random_start : bool, default=True
        Whether the attack starts at a random point of the ball, or at the input.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates, which the examples keep to; None for
        inputs without limits.

    warm_up : int, default=0
        Epochs over which the radius and the step grow linearly to their values. A net that meets a
        large radius at once may settle for a constant prediction.

    random_state : int, RandomState instance or None, default=None
        Seed of the random starts.

    See Also
    --------
    randsmooth.training.trades.TRADES : Trains on clean inputs and ties the attacked ones to them.

    References
    ----------
    .. [1] A. Madry, A. Makelov, L. Schmidt, D. Tsipras and A. Vladu, "Towards deep learning models
       resistant to adversarial attacks", ICLR 2018, sections 2 and 4.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.training.adversarial import AdversarialTraining
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear,
    ...     module__in_features=64,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[AdversarialTraining(eps=0.1, n_steps=5, random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    """

    def __init__(
        self,
        eps: float = 0.3,
        *,
        norm: str = "linf",
        n_steps: int = 10,
        step_size: float | None = None,
        random_start: bool = True,
        clip_range: tuple[float, float] | None = (0.0, 1.0),
        warm_up: int = 0,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            eps,
            norm=norm,
            n_steps=n_steps,
            step_size=step_size,
            clip_range=clip_range,
            warm_up=warm_up,
            random_state=random_state,
        )
        self.random_start = random_start

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Return the adversarial examples of the batch.

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
            The examples, in the balls around `inputs` and in the clip range.

        Raises
        ------
        ValueError
            If an input lies outside the clip range.
        """
        check_inputs_in_range(inputs, self.clip_range)
        start = inputs
        if self.random_start:
            start = self.ball(net).random_point(inputs, self.generator_)
        with self.attacking(net):
            return self.attacked(
                net, inputs, start, lambda log_p: negative_log_likelihood(log_p, targets)
            )
