"""The smoothed classifier as a torch module: votes to be judged by, averages to be climbed."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from randsmooth.attacks.victim import Victim
from randsmooth.bases import NetBase
from randsmooth.checks import check_choice, check_count
from randsmooth.noise import Stream
from randsmooth.noise_bank import SHARED, Ballot, NoiseBank, noise_bank
from randsmooth.speed import AUTOCAST_TYPES

__all__ = ["AVERAGES", "SmoothedModule"]

AVERAGES = ("probability", "loss")
"""What is averaged over the draws: probabilities, or their logarithms."""

_ROWS_OF_A_PASS = 128
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
    victim : Victim
        The trained classifier. One without noise gets a single draw of zeros.

    n_noise : int, default=32
        Draws per input, the same ones for all inputs of a batch.

    frozen : bool, default=True
        Whether the draws are the same in every call (common random numbers), or fresh.

    average : {"probability", "loss"}, default="probability"
        What is averaged.

    autocast : {"bfloat16", "float16"} or None, default=None
        Reduced precision of the passes; None is as the classifier is certified. It is three times
        as fast where processors multiply such numbers.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    .. [1] H. Salman et al., "Provably robust deep learning via adversarially trained smoothed
       classifiers", NeurIPS 2019.

    .. [2] A. Athalye, N. Carlini and D. Wagner, "Obfuscated gradients give a false sense of
       security", ICML 2018.
    """

    def __init__(
        self,
        victim: Victim,
        n_noise: int = 32,
        *,
        frozen: bool = True,
        average: str = "probability",
        autocast: str | None = None,
    ) -> None:
        super().__init__()
        if autocast is not None:
            check_choice("autocast", autocast, tuple(AUTOCAST_TYPES))
        check_count("n_noise", n_noise)
        check_choice("average", average, AVERAGES)
        if not isinstance(frozen, bool | np.bool_):
            raise ValueError(f"frozen must be True or False, got {frozen!r}.")
        self.victim = victim
        self.n_noise = n_noise if victim.noise is not None else 1
        self.frozen, self.average = bool(frozen), average
        self.autocast = victim.autocast if autocast is None else autocast
        self._bank: NoiseBank | None = None
        if victim.noise is not None:
            self._bank = noise_bank(
                Ballot(victim.noise, victim.noise_seed, Stream.ATTACK, common_noise=True),
                victim.noise.draw_shape(victim.input_shape),
                victim.dtype,
                self.device,
            )
        self._n_drawn = 0
        self._frozen_draws = self._draw() if frozen and self._bank is not None else None
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.victim.base.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the inputs that the network takes."""
        return torch.float64 if self.victim.dtype == np.float64 else torch.float32

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.victim.base.n_classes

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
        if not self.victim.differentiable:
            if x.requires_grad and torch.is_grad_enabled():
                raise TypeError(
                    f"estimator must be a network, and its noise added, for gradients to be asked "
                    f"for, got {type(self.victim.estimator).__name__} under {self.victim.noise!r}. "
                    f"Take an attack by votes, such as foolbox's BoundaryAttack."
                )
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
        rows = self._noisy(x)
        # What one pass touches should stay in a processor's cache.
        size = _ROWS_OF_A_PASS if rows.device.type == "cpu" else len(rows)
        parts = [
            self.victim.log_probabilities(part, self.autocast)
            for part in torch.split(rows, max(size, 1))
        ]
        log_p, votes = (torch.cat(both) for both in zip(*parts, strict=True))
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
            if isinstance(self.victim.base, NetBase):
                _, votes = self.draws(x)
            else:
                votes = self.victim.base.votes(self._noisy(x)).reshape(len(x), self.n_noise)
        return nn.functional.one_hot(votes, self.n_classes + 1).sum(dim=1)[:, :-1]

    def rewind(self, restart: int = 0) -> None:
        """Start fresh draws anew, so that they do not depend on what was asked before.

        Parameters
        ----------
        restart : int, default=0
            Which part of the stream they come from.
        """
        far = 0 if self._bank is None else self._bank.per_block * 2**16
        outcomes = self.victim.noise is not None and self.victim.noise.n_outcomes is not None
        self._n_drawn = 0 if outcomes else restart * far

    def _noisy(self, x: Tensor) -> Tensor:
        """Return every draw of the first input, then of the second, and so on."""
        rows = x.to(self.dtype)
        if self.victim.noise is None or self._bank is None:
            return rows
        draws = self._draw() if self._frozen_draws is None else self._frozen_draws
        copies = draws.repeat(len(x), *[1] * (draws.ndim - 1))
        return self.victim.noise.corrupted(rows.repeat_interleave(self.n_noise, dim=0), copies)

    def _draw(self) -> Tensor:
        """Return the next draws of the stream."""
        if self._bank is None:
            raise ValueError("noise must be a Noise object to be drawn, got None.")
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
