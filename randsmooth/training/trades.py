"""TRADES: the trade-off between natural and robust error of Zhang et al. (2019)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import takewhile
from types import CodeType
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from randsmooth.checks import (
    check_choice,
    check_inputs_in_range,
    check_positive,
    check_weight,
)
from randsmooth.training.adversarial import AdversarialStrategy
from randsmooth.training.losses import DIVERGENCES, log_probabilities
from randsmooth.training.perturbation import as_tensor

__all__ = ["TRADES"]


class TRADES(AdversarialStrategy):
    r"""Tie the prediction at the worst nearby input to the prediction on the clean one.

    To the net's own loss on the clean batch it adds

    .. math::

        \frac{\beta}{B} \sum_{i=1}^{B} \max_{\|x_i' - x_i\| \le \varepsilon}
        D\bigl(p(x_i) \,\|\, p(x_i')\bigr),
        \qquad D(p \,\|\, q) = \sum_j p_j (\ln p_j - \ln q_j),

    (Zhang et al. [1]_, equation 5, with :math:`\beta = 1/\lambda`) with gradients through both
    arguments. The inner maximum is approximated as in their algorithm 1: projected gradient ascent
    on the same divergence, with :math:`p(x_i)` a constant and the net in evaluation mode, from
    :math:`x_i` with Gaussian noise of standard deviation `start_scale`, because :math:`x_i` itself
    is where the divergence is least and its gradient zero. History has the terms as
    ``criterion_loss`` and ``robustness_loss``, by batch and by epoch.

    A batch costs `n_steps` forward and backward passes and one more training pass, that of the
    attacked inputs. The clean prediction that the attack moves away from is the training pass's
    own where no part of the module asks whether it is in training; where one does (dropout, batch
    normalisation), it is one more forward pass, in evaluation mode and before the training pass.
    `beta` = 0 attacks nothing and is plain training.

    Parameters
    ----------
    beta : float, default=6.0
        Weight of the term, at least 0. The paper has 6 for CIFAR-10 and 1 for MNIST.

    eps : float, default=0.3
        Radius of the ball, in the units of the inputs.

    norm : {"linf", "l2"}, default="linf"
        Norm that measures a perturbation, over all coordinates of an input.

    n_steps : int, default=10
        Steps of the attack.

    step_size : float or None, default=None
        Length of a step in that norm; None for ``2.5 * eps / n_steps``.

    start_scale : float, default=0.001
        Standard deviation of the noise that the attack starts from.

    divergence : {"cross_entropy", "kl"}, default="kl"
        What ties the predictions: the Kullback-Leibler divergence of the paper, or the
        cross-entropy, which adds the entropy of the clean prediction and so asks for a confident
        one. The attack is the same.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates, which the attacked inputs keep to;
        None for inputs without limits.

    warm_up : int, default=0
        Epochs over which the radius and the step grow linearly to their values.

    random_state : int, RandomState instance or None, default=None
        Seed of the starts.

    See Also
    --------
    randsmooth.training.adversarial.AdversarialTraining : Trains on the attacked inputs alone.

    References
    ----------
    .. [1] H. Zhang, Y. Yu, J. Jiao, E. Xing, L. El Ghaoui and M. Jordan, "Theoretically principled
       trade-off between robustness and accuracy", ICML 2019.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.training.trades import TRADES
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[TRADES(beta=2.0, eps=0.1, n_steps=5, random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, "robustness_loss"])
    2
    """

    def __init__(
        self,
        beta: float = 6.0,
        eps: float = 0.3,
        *,
        norm: str = "linf",
        n_steps: int = 10,
        step_size: float | None = None,
        start_scale: float = 0.001,
        divergence: str = "kl",
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
        self.beta = beta
        self.start_scale = start_scale
        self.divergence = divergence

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `beta` is negative or not finite, `start_scale` is not positive, `divergence` is
            unknown, or a parameter of the attack is out of range.
        """
        check_weight("beta", self.beta)
        check_positive("start_scale", self.start_scale)
        check_choice("divergence", self.divergence, tuple(DIVERGENCES))
        super().check(net)

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Attack a net that is another one in training, and leave the batch as it is.

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

        Raises
        ------
        ValueError
            If an input lies outside the clip range.
        """
        check_inputs_in_range(inputs, self.clip_range)
        self.attacked_: Tensor | None = None
        if self.beta > 0:
            noise = as_tensor(self.generator_.standard_normal(tuple(inputs.shape)), inputs)
            self.start_ = inputs + self.start_scale * noise
            if _asks_for_its_mode(net.module_):
                self.attacked_ = self._attack(net, None)
        return inputs

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the criterion's loss and beta times the divergence at the attacked inputs.

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
        if self.beta == 0:
            return {"criterion_loss": loss, "robustness_loss": torch.zeros_like(loss)}
        clean = log_probabilities(net, outputs)
        attacked = self._attack(net, clean.detach()) if self.attacked_ is None else self.attacked_
        divergence = DIVERGENCES[self.divergence](clean, self.log_probabilities(net, attacked))
        return {"criterion_loss": loss, "robustness_loss": self.beta * divergence.mean()}

    def _attack(self, net: NeuralNet, clean: Tensor | None) -> Tensor:
        """Return the attacked batch, given its clean log-probabilities where they are known."""
        inputs = self.inputs_
        with self.attacking(net):
            if clean is None:
                with torch.no_grad():
                    clean = self.log_probabilities(net, inputs)
            return self.attacked(net, inputs, self.start_, partial(_divergence_of_rivals, clean))


def _divergence_of_rivals(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the cross-entropy of each row, which grows as the divergence from p does.

    It is written in how far the other classes lag behind the top one. The gradient in their
    probabilities' own form, q - p, has but rounding errors left where p is next to certain.
    """
    top = log_p.argmax(dim=1, keepdim=True)
    lag = log_q - log_q.gather(1, top)
    rivals = log_p.exp().scatter(1, top, 0.0)
    odds_against = lag.scatter(1, top, -torch.inf).logsumexp(dim=1)
    return nn.functional.softplus(odds_against) - (rivals * lag).sum(dim=1)


def _asks_for_its_mode(module: nn.Module) -> bool:
    """Return whether some part of a module may compute something else in training.

    The code of every part's class, and of what rewrites its weights before a pass, is searched for
    the flag ``training``: functional dropout in a module's own forward counts as much as a layer.
    """
    parts = list(module.modules())
    own = [function for part in parts for function in _own_functions(part)]
    kinds = {type(part_or_hook) for part_or_hook in (*parts, *own)}
    return any(map(_asks, own)) or any(map(_class_asks, kinds))


def _own_functions(part: nn.Module) -> Iterable[Any]:
    """Return the functions that a single module has of its own: a forward, hooks before it."""
    return (vars(part).get("forward"), *part._forward_pre_hooks.values())


def _class_asks(kind: type) -> bool:
    """Return whether a method of a class, below those that all modules share, reads the flag."""
    if issubclass(kind, torch.jit.ScriptModule):  # compiled code cannot be searched
        return True
    ancestors = takewhile(lambda ancestor: ancestor is not nn.Module, kind.__mro__)
    return any(_asks(member) for ancestor in ancestors for member in vars(ancestor).values())


def _asks(function: Any) -> bool:
    """Return whether a function, or a function within it, reads an attribute ``training``."""
    function = getattr(function, "__func__", getattr(function, "fget", function))
    code = function if isinstance(function, CodeType) else getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    return "training" in code.co_names or any(map(_asks, code.co_consts))
