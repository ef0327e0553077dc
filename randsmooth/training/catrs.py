"""CAT-RS: confidence-aware training for randomized smoothing (Jeong, Kim and Shin 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from sklearn.utils.validation import check_is_fitted
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
from randsmooth.training.perturbation import Ball, as_tensor, ascend, frozen

__all__ = ["CATRS"]


class CATRS(NoisyTraining):
    r"""Ask of each input as much robustness as the noise lets the net be confident of.

    Two terms **replace** the net's own loss, whose criterion only says how outputs become
    probabilities. Each input is given m draws of noise, and a number of them that it is to be
    right on, :math:`K_i \sim \operatorname{Binomial}(m, \hat p_i)` but at least 1, where
    :math:`\hat p_i` is the share of the noisy copies that the net now classifies correctly. The
    first term is the cross-entropy of the K copies on which it is smallest, the second the worst
    divergence from soft labels :math:`\hat y_i` under attacked noise where K is m:

    .. math::

        \frac{1}{B} \sum_{i=1}^{B} \frac{1}{m} \sum_{k=1}^{K_i}
        \operatorname{CE}_{(k)}\bigl(p(x_i + \varepsilon_{ki}), y_i\bigr)
        + \lambda \, \frac{1}{B} \sum_{i : K_i = m} \max_k
        D\bigl(\hat y_i \,\|\, p(x_i + \varepsilon'_{ki})\bigr),

    with :math:`\operatorname{CE}_{(1)} \leq \operatorname{CE}_{(2)} \leq \dots` (Jeong et al. [1]_,
    section 3). Noise :math:`\varepsilon'` starts at :math:`\varepsilon` and takes steps of length
    `step_size` along the normalised gradient of the divergence; after each it is brought back into
    the l2 ball of radius `eps` around :math:`\varepsilon`, scaled by the ratio of the root mean
    squares of :math:`\varepsilon` and of itself, and shifted to the mean of :math:`\varepsilon`, as
    in the released code. Inputs and noise are not clipped; the net is in evaluation mode during the
    attack.

    A batch costs ``n_steps + 2`` forward passes and as many backward ones over `n_draws` times its
    rows, and what the teacher takes. Inputs with K below m are attacked too, since batch
    normalisation is to see whole batches, as in the released code. That code divides the batch size
    by `n_draws`.

    History has the terms as ``low_loss`` and ``high_loss``, weight included; ``train_loss`` is
    their sum.

    Parameters
    ----------
    high_weight : float, default=1.0
        Weight :math:`\lambda`, at least 0. Published for CIFAR-10: 0.5 at a standard deviation of
        0.25, 1 at 0.5, 2 at 1; for MNIST at 0.25: 1; for ImageNet at 1: 2. With 0 there is no
        attack.

    eps : float, default=1.0
        How far the noise may be moved, in l2, in the units of the inputs.

    n_steps : int, default=4
        Steps of the attack.

    n_draws : int, default=4
        Noisy copies m of each input.

    step_size : float or None, default=None
        Length of a step; None for ``2 * eps / n_steps``.

    teacher : Module, classifier, callable or None, default=None
        Where the soft labels come from. A module returns logits; its average prediction on the
        noisy copies is taken, in evaluation mode. A fitted classifier has `predict_proba`, which
        is asked about the clean rows as an array; its columns are in the order of the net's
        classes. (Published: vote shares, which a `SmoothedClassifier` returns, at its full number
        of draws for every batch.) scikit-learn clones a strategy with its net, and a classifier
        that is not inside a `FrozenEstimator` loses its training there. A callable takes the clean
        rows as a tensor and returns probabilities. None for the net's own average prediction on
        the noisy copies, as a constant.

    confidence_mask : bool, default=False
        Whether :math:`\hat p_i` is the soft label of the true class in place of the net's votes, as
        published for ImageNet.

    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in. None is for
        `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise and of the binomial draws.

    See Also
    --------
    Consistency : Ties the predictions on noisy copies of every input.

    References
    ----------
    .. [1] J. Jeong, S. Kim and J. Shin, "Confidence-aware training of smoothed classifiers for
       certified robustness", AAAI 2023.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training.catrs import CATRS
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[CATRS(0.5, n_draws=2, noise=Gaussian(0.25), random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, "high_loss"])
    2
    """

    def __init__(
        self,
        high_weight: float = 1.0,
        *,
        eps: float = 1.0,
        n_steps: int = 4,
        n_draws: int = 4,
        step_size: float | None = None,
        teacher: Any = None,
        confidence_mask: bool = False,
        noise: Noise | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(noise=noise, random_state=random_state)
        self.high_weight = high_weight
        self.eps = eps
        self.n_steps = n_steps
        self.n_draws = n_draws
        self.step_size = step_size
        self.teacher = teacher
        self.confidence_mask = confidence_mask

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `high_weight` is negative or not finite, `eps` or `step_size` is not positive and
            finite, `n_steps` or `n_draws` is not a positive integer, or `noise` is not added to the
            inputs.

        TypeError
            If `teacher` is none of what it may be.

        NotFittedError
            If `teacher` is a classifier that is not fitted.
        """
        check_weight("high_weight", self.high_weight)
        check_positive("eps", self.eps)
        check_count("n_steps", self.n_steps)
        check_count("n_draws", self.n_draws)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        if not self._noise().additive:
            raise ValueError(
                f"noise must be added to the inputs for CATRS, which moves it, got "
                f"{self.noise!r}. Use Gaussian, Laplace or Uniform noise."
            )
        _check_teacher(self.teacher)

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
        self.draws_ = self.draw(inputs)
        # An optimiser that asks for the loss several times is to see one function.
        self.uniform_ = self.generator_.random(len(inputs))
        return self.corrupted(inputs, self.draws_)

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the loss of the easiest copies and that of attacked ones, for the criterion's.

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
        soft = None
        if self.confidence_mask or self.high_weight > 0:
            soft = self._soft_labels(log_p.detach())
        easiest = negative_log_likelihood(log_p, targets).sort(dim=0).values
        asked = self._asked(log_p.detach(), soft, targets)
        rank = torch.arange(self.n_draws, device=easiest.device).reshape(-1, 1)
        low = easiest.where(rank < asked, 0.0).mean(dim=0)
        high = torch.zeros_like(low)
        if soft is not None and self.high_weight > 0:
            divergence = self._divergence(net, self._attacked(net, soft), soft)
            high = divergence.max(dim=0).values.where(asked == self.n_draws, 0.0)
        return {"low_loss": low.mean(), "high_loss": self.high_weight * high.mean()}

    def _asked(self, log_p: Tensor, soft: Tensor | None, targets: Tensor) -> Tensor:
        """Return the number of copies that each row is to be right on."""
        labels = targets.reshape(-1).long()
        if self.confidence_mask and soft is not None:
            shares = soft.gather(1, labels[:, None]).squeeze(1)
            confidence = shares.nan_to_num().clamp(0, 1).cpu().numpy()
        else:
            votes = (log_p.argmax(dim=2) == labels).sum(dim=0)
            confidence = votes.cpu().numpy() / self.n_draws
        drawn = binom.ppf(self.uniform_, self.n_draws, confidence)
        return torch.from_numpy(np.maximum(drawn, 1)).to(log_p.device)

    def _attacked(self, net: NeuralNet, soft: Tensor) -> Tensor:
        """Return the noise, moved so that predictions under it leave the soft labels."""
        ball = _NoiseBall(self.eps, "l2", None)
        step_size = 2 * self.eps / self.n_steps if self.step_size is None else self.step_size

        def loss(draws: Tensor) -> Tensor:
            return self._divergence(net, draws, soft).sum()

        with self.attacking(net):
            return ascend(
                loss,
                self.draws_,
                self.draws_,
                ball=ball,
                n_steps=self.n_steps,
                step_size=step_size,
            )

    def _divergence(self, net: NeuralNet, draws: Tensor, soft: Tensor) -> Tensor:
        """Return the divergence of each row's soft label from the prediction under each draw."""
        log_q = self.by_draw(self.log_probabilities(net, self.corrupted(self.inputs_, draws)))
        # Soft labels that are vote shares have zeros.
        terms: Tensor = nn.functional.kl_div(log_q, soft.expand_as(log_q), reduction="none")
        return terms.sum(dim=2)

    @torch.no_grad()
    def _soft_labels(self, log_p: Tensor) -> Tensor:
        """Return the probabilities that predictions under attacked noise are held to."""
        if self.teacher is None:
            return mean_log_probabilities(log_p).exp()
        inputs, shape = self.inputs_, tuple(log_p.shape[1:])
        soft: Any
        if isinstance(self.teacher, nn.Module):
            teacher = self.teacher.to(inputs.device)
            with frozen(teacher):
                logits = teacher(self.corrupted(inputs, self.draws_))
            _check_shape(logits, (len(inputs) * self.n_draws, shape[1]))
            soft = self.by_draw(logits.softmax(dim=1)).mean(dim=0)
        elif hasattr(self.teacher, "predict_proba"):
            soft = np.asarray(self.teacher.predict_proba(inputs.cpu().numpy()))
            _check_shape(soft, shape)
            soft = as_tensor(soft, log_p)
        else:
            soft = self.teacher(inputs)
            _check_shape(soft, shape)
        labels: Tensor = soft.to(log_p)
        _check_distributions(labels)
        return labels


@dataclass(frozen=True)
class _NoiseBall(Ball):
    """A ball around draws of noise, of which each keeps its mean and about its size."""

    def project(self, x: Tensor, centre: Tensor) -> Tensor:
        """Return draws brought back into the ball, then to the centre's mean and scale."""
        x = super().project(x, centre)
        # As in the released code, sizes are root mean squares from before the mean is taken off.
        size = _mean(x.square()).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        return _mean(centre) + (x - _mean(x)) * (_mean(centre.square()).sqrt() / size)


def _mean(x: Tensor) -> Tensor:
    """Return the mean of each row, shaped to broadcast."""
    return x.flatten(1).mean(dim=1).reshape(-1, *[1] * (x.ndim - 1))


def _check_teacher(teacher: Any) -> None:
    """Refuse what cannot give soft labels."""
    if teacher is None or isinstance(teacher, nn.Module):
        return
    if hasattr(teacher, "predict_proba"):
        if hasattr(teacher, "fit"):
            check_is_fitted(
                teacher,
                msg="teacher must be fitted, got %(name)s without a fit. Put it in a "
                "FrozenEstimator, so that it stays fitted where the strategy is cloned.",
            )
    elif not callable(teacher):
        raise TypeError(
            f"teacher must be a torch module, a fitted classifier with predict_proba, a callable "
            f"or None, got {teacher!r}."
        )


def _check_shape(values: Any, shape: tuple[int, ...]) -> None:
    """Refuse what a teacher returned in another shape."""
    if tuple(getattr(values, "shape", ())) != shape:
        got = tuple(values.shape) if hasattr(values, "shape") else type(values).__name__
        raise ValueError(
            f"teacher must return {shape[0]} rows of {shape[1]} classes, got {got}. Its columns "
            f"are the classes of the net in training."
        )


def _check_distributions(soft: Tensor) -> None:
    """Refuse soft labels that are no probabilities."""
    off = (soft.sum(dim=1) - 1).abs()
    if not bool((soft >= 0).all() and (off < 1e-3).all()):
        raise ValueError(
            f"teacher must return probabilities, got values from {soft.min().item():.6g} to "
            f"{soft.max().item():.6g} in rows that sum to 1 up to {off.max().item():.6g}. Give a "
            f"torch module where it returns logits."
        )
