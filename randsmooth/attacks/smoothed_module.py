"""The smoothed classifier as a torch module: votes to be judged by, averages to be climbed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from randsmooth.acceleration import first_output
from randsmooth.training.checks import check_choice, check_count
from randsmooth.bases import Base, NetBase
from randsmooth.fitting import input_dtype, unwrap, voting_base
from randsmooth.noise import Noise, Stream
from randsmooth.noise_bank import SHARED, Ballot, noise_bank
from randsmooth.parameters import check_parameters, checked_seed
from randsmooth.speed import AUTOCAST_TYPES
from randsmooth.training.losses import log_probabilities
from randsmooth.training.perturbation import frozen

__all__ = ["AVERAGES", "SmoothedModule"]

AVERAGES = ("probability", "loss")
"""What is averaged over the draws: probabilities, or their logarithms."""

_BUMP = 1e-3  # by how much the class that was voted for leads, where it is not the most probable


class SmoothedModule(nn.Module):
    r"""A fitted smoothed classifier as a torch module that attacks can differentiate.

    It returns, for each input and class, the logarithm of the average probability under
    :math:`m` draws of the noise, :math:`\ln \tfrac{1}{m} \sum_i p_k(x + \varepsilon_i)`, whose
    log-loss is that of the soft smoothed classifier (Salman et al. 2019 [1]_, equation 6); or the
    average logarithm :math:`\tfrac{1}{m} \sum_i \ln p_k(x + \varepsilon_i)`, whose entry at the
    label is the average loss (expectation over transformations, Athalye et al. 2018 [2]_). The
    largest entry is the class that got the most votes on the same draws: where that is not the
    most probable class, a constant puts it in front. Gradients are those of the averages.

    The draws come from a stream of their own, which no certificate ever sees.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    n_noise : int, default=32
        Draws per input, the same ones for all inputs of a batch.

    frozen : bool, default=True
        Whether the draws are the same in every call (common random numbers), or fresh.

    average : {"probability", "loss"}, default="probability"
        What is averaged.

    noise_seed : int or None, default=None
        Seed of the draws; None is that of the classifier.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    NotFittedError
        If the classifier is not fitted.

    References
    ----------
    .. [1] H. Salman et al., "Provably robust deep learning via adversarially trained smoothed
       classifiers", NeurIPS 2019.

    .. [2] A. Athalye, N. Carlini and D. Wagner, "Obfuscated gradients give a false sense of
       security", ICML 2018.
    """

    def __init__(
        self,
        clf: Any,
        n_noise: int = 32,
        *,
        frozen: bool = True,
        average: str = "probability",
        noise_seed: int | None = None,
    ) -> None:
        super().__init__()
        check_is_fitted(clf)
        check_parameters(clf)
        check_count("n_noise", n_noise)
        check_choice("average", average, AVERAGES)
        if not isinstance(frozen, bool | np.bool_):
            raise ValueError(f"frozen must be True or False, got {frozen!r}.")
        self.n_noise, self.frozen, self.average = n_noise, frozen, average
        self.input_shape: tuple[int, ...] = clf.input_shape_
        self.classes = clf.classes_
        self.noise: Noise = clf.noise_
        self._base = _base(clf)
        self._forward = _differentiable(clf.estimator_, self._base, clf.autocast)
        seed = clf.noise_seed_ if noise_seed is None else checked_seed(noise_seed)
        self._bank = noise_bank(
            Ballot(self.noise, seed, Stream.ATTACK, common_noise=True),
            self.noise.draw_shape(self.input_shape),
            np.float64 if self._base.dtype == torch.float64 else np.float32,
            self._base.device,
        )
        self._n_drawn = 0
        self._frozen_draws = self._draw() if frozen else None
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._base.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the inputs that the network takes."""
        return torch.float64 if self._base.dtype == torch.float64 else torch.float32

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self._base.n_classes

    @property
    def differentiable(self) -> bool:
        """Whether the base is a network, and the noise is added."""
        return self._forward is not None and self.noise.additive

    def forward(self, x: Tensor) -> Tensor:
        """Return averages whose largest entry is the class with the most votes.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)
            Inputs, on the network's device.

        Returns
        -------
        Tensor of shape (n_rows, n_classes)
            Logarithms, with a graph where the inputs have one.
        """
        if self._forward is None or not (self.noise.additive or not x.requires_grad):
            return self._log_shares(self.counts(x))
        log_p, votes = self.draws(x)
        averages = averaged(log_p, self.average)
        with torch.no_grad():
            counts = nn.functional.one_hot(votes, self.n_classes + 1).sum(dim=1)[:, :-1]
            winner = counts.argmax(dim=1, keepdim=True)
            behind = averages.amax(dim=1, keepdim=True) - averages.gather(1, winner)
            bump = torch.where(behind > 0, behind + _BUMP, 0.0)
        return averages.scatter_add(1, winner, bump)

    def draws(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and votes under each draw.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)
            Inputs, on the network's device.

        Returns
        -------
        log_p : Tensor of shape (n_rows, n_noise, n_classes)
            Log-probabilities, with a graph where the inputs have one.

        votes : Tensor of int64, shape (n_rows, n_noise)
            Class indices; `n_classes` where the network's output is not finite.
        """
        self._check_differentiable()
        log_p, votes = self._forward(self._noisy(x))
        shape = len(x), self.n_noise
        return log_p.reshape(*shape, -1), votes.reshape(shape)

    def counts(self, x: Tensor) -> Tensor:
        """Return how often each class is voted for.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)
            Inputs, on the network's device.

        Returns
        -------
        Tensor of int64, shape (n_rows, n_classes)
            Votes under the draws.
        """
        with torch.no_grad():
            votes = self._base.votes(self._noisy(x)).reshape(len(x), self.n_noise)
        return nn.functional.one_hot(votes, self.n_classes + 1).sum(dim=1)[:, :-1]

    def _check_differentiable(self) -> None:
        if self._forward is None:
            raise TypeError(
                f"estimator must be a torch module or a skorch net for its gradients to be asked "
                f"for, got {type(self._base).__name__}."
            )

    def _noisy(self, x: Tensor) -> Tensor:
        """Return every draw of the first input, then of the second, and so on."""
        draws = self._draw() if self._frozen_draws is None else self._frozen_draws
        rows = x.to(self.dtype).repeat_interleave(self.n_noise, dim=0)
        copies = draws.repeat(len(x), *[1] * (draws.ndim - 1))
        return self.noise.corrupted(rows, copies).to(self._base.dtype)

    def _draw(self) -> Tensor:
        """Return the next draws of the stream."""
        start, pieces = self._n_drawn, []
        stop = self._n_drawn = start + self.n_noise
        while start < stop:
            end = self._bank.end_of_piece(start, stop, stop - start)
            pieces.append(self._bank.piece([SHARED], start, end)[0].clone())
            start = end
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _log_shares(self, counts: Tensor) -> Tensor:
        """Return the logarithms of the shares of the votes, none of them zero."""
        return torch.log((counts + 0.5) / (self.n_noise + 0.5 * self.n_classes)).to(self.dtype)


def averaged(log_p: Tensor, average: str) -> Tensor:
    """Return the average over the draws of probabilities or of their logarithms.

    Parameters
    ----------
    log_p : Tensor of shape (n_rows, n_noise, ...)
        Log-probabilities.

    average : {"probability", "loss"}
        What is averaged.

    Returns
    -------
    Tensor of shape (n_rows, ...)
        Logarithms.
    """
    if average == "loss":
        return log_p.mean(dim=1)
    return log_p.logsumexp(dim=1) - math.log(log_p.shape[1])


def _base(clf: Any) -> Base:
    """Return the base of a fitted classifier, as certification sees it."""
    given = np.dtype(np.float64)
    dtype = input_dtype(clf.estimator_, given)
    _, never_trained = unwrap(clf.estimator)
    return voting_base(
        clf.estimator_,
        clf.classes_ if never_trained else np.arange(len(clf.classes_)),
        np.zeros((1, *clf.input_shape_), dtype=dtype),
        device=clf.device,
        feature_names=getattr(clf, "feature_names_in_", None),
    )


def _differentiable(
    estimator: Any, base: Base, autocast: str | None
) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """Return the function from rows to log-probabilities and votes; None for no network."""
    if not isinstance(base, NetBase):
        return None
    module = estimator.module_ if isinstance(estimator, NeuralNet) else estimator
    run = estimator.infer if isinstance(estimator, NeuralNet) else estimator
    dtype = None if autocast is None else AUTOCAST_TYPES[autocast]

    def forward(rows: Tensor) -> tuple[Tensor, Tensor]:
        cast = nullcontext() if dtype is None else torch.autocast(base.device.type, dtype)
        with frozen(module), cast:
            outputs = first_output(run(rows))
        if torch.is_grad_enabled() and rows.requires_grad and not outputs.requires_grad:
            raise TypeError(
                f"estimator must be differentiable in its inputs for an attack by gradients, got "
                f"{type(module).__name__}, whose outputs pass no gradient on to them. Take an "
                f"attack by votes, such as method='boundary'."
            )
        if outputs.element_size() < 4:
            outputs = outputs.float()
        if isinstance(estimator, NeuralNet):
            log_p = log_probabilities(estimator, outputs)
        else:
            log_p = nn.functional.log_softmax(outputs, dim=1)
        return log_p[:, : base.n_classes], base.votes_of(outputs.detach())

    return forward
