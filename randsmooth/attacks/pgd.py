"""Projected gradient descent on smoothed classifiers, and its gradient-free sister."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randsmooth.attacks.library import foolbox, model_of
from randsmooth.attacks.method import AttackMethod, Question
from randsmooth.attacks.objectives import LOSSES, row_losses
from randsmooth.attacks.smoothed_module import AVERAGES
from randsmooth.checks import check_choice, check_count, check_positive
from randsmooth.fingerprints import input_digests

__all__ = ["PGD", "SPSA"]


@dataclass(frozen=True, kw_only=True)
class PGD(AttackMethod):
    """Projected gradient ascent on a loss of the smoothed classifier (Madry et al. 2018 [1]_).

    Each step follows the gradient of an average over `n_noise` draws, fresh ones unless the attack
    is told to freeze them. In l1 a step moves the coordinates with the largest gradients
    (Tramèr and Boneh 2019 [2]_). The last iterate counts.

    Parameters
    ----------
    n_steps : int, default=100
        Number of steps.

    relative_step_size : float or None, default=None
        Length of a step, as a share of the size; None is 2.5 / `n_steps`.

    random_start : bool, default=True
        Whether to start at random in the ball.

    loss : {"log_loss", "margin"}, default="log_loss"
        What is climbed: the log-loss, or by how much the best other class leads, up to `kappa`.

    average : {"loss", "probability"}, default="probability"
        The average of the draws' losses, or the loss of the average probability, which is the
        attack on the smoothed classifier of Salman et al. 2019 [3]_.

    kappa : float, default=50.0
        Where the margin is cut off, in units of logits.

    References
    ----------
    .. [1] A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR
       2018.

    .. [2] F. Tramèr and D. Boneh, "Adversarial training and robustness for multiple perturbations",
       NeurIPS 2019.

    .. [3] H. Salman et al., "Provably robust deep learning via adversarially trained smoothed
       classifiers", NeurIPS 2019.
    """

    n_steps: int = 100
    relative_step_size: float | None = None
    random_start: bool = True
    loss: str = "log_loss"
    average: str = "probability"  # type: ignore[misc]
    kappa: float = 50.0

    name: ClassVar[str] = "pgd"
    norms: ClassVar[tuple[str, ...]] = ("l1", "l2", "linf")
    library = staticmethod(foolbox)

    def check(self) -> None:
        """Refuse settings that are out of range."""
        check_count("n_steps", self.n_steps)
        if self.relative_step_size is not None:
            check_positive("relative_step_size", self.relative_step_size)
        if not isinstance(self.random_start, bool | np.bool_):
            raise ValueError(f"random_start must be True or False, got {self.random_start!r}.")
        check_choice("loss", self.loss, LOSSES)
        check_choice("average", self.average, AVERAGES)
        check_positive("kappa", self.kappa)

    def perturb(self, question: Question) -> Tensor:
        """Return the last iterates; see `AttackMethod.perturb`."""
        share = self.relative_step_size or 2.5 / self.n_steps
        attack = self._climber(question)(
            rel_stepsize=share, steps=self.n_steps, random_start=self.random_start
        )
        model = model_of(question.module, question.clip_range)
        with torch.random.fork_rng(devices=_devices(question.x)):
            torch.manual_seed(question.seed)
            moved: Tensor = attack.run(model, question.x, question.labels, epsilon=1.0)
        return moved.detach()

    def row_losses(self, question: Question, x: Tensor) -> Tensor:
        """Return what is climbed, for each row.

        Parameters
        ----------
        question : Question
            What is asked.

        x : Tensor of shape (n_rows, ...)
            Iterates.

        Returns
        -------
        Tensor of shape (n_rows,)
            The losses.
        """
        log_p, _ = question.module.draws(x)
        return row_losses(
            log_p, question.labels, loss=self.loss, average=self.average, kappa=self.kappa
        )

    def _climber(self, question: Question) -> Any:
        """Return foolbox's attack in the norm, for a loss of ours and a size of each row's own.

        It climbs in units of each row's size, so that what it knows of is the ball of radius 1.
        """
        attacks, radii = foolbox().attacks, question.radii
        kind: Any = {
            "l1": attacks.SparseL1DescentAttack,
            "l2": attacks.L2ProjectedGradientDescentAttack,
            "linf": attacks.LinfProjectedGradientDescentAttack,
        }[question.norm]

        size, ascent = _as_eager(radii), self.ascent
        starts = radii * random_starts(question) if self.random_start else torch.zeros_like(radii)

        class Climber(kind):  # type: ignore[misc]
            def get_optimizer(self, x: Any, stepsize: float) -> Any:
                return lambda gradients: stepsize * size * gradients

            def get_random_start(self, x0: Any, epsilon: float) -> Any:
                return x0 + _as_eager(starts)

            def project(self, x: Any, x0: Any, epsilon: float) -> Any:
                return x0 + size * super().project((x - x0) / size, 0 * x0, epsilon)

            def value_and_grad(self, loss_fn: Any, x: Any) -> Any:
                return None, _as_eager(ascent(question, x.raw))

        return Climber

    def ascent(self, question: Question, x: Tensor) -> Tensor:
        """Return the direction of ascent at the iterates.

        Parameters
        ----------
        question : Question
            What is asked.

        x : Tensor of shape (n_rows, ...)
            Iterates.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            The gradient of each row's loss.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.row_losses(question, x).sum(), [x])
        return gradient


@dataclass(frozen=True, kw_only=True)
class SPSA(PGD):
    """Projected ascent along differences, without gradients (Uesato et al. 2018 [1]_).

    The gradient is estimated from the losses at pairs of points on either side of the iterate, in
    random directions of signs, the same for all inputs, on draws that stay the same. What it finds
    and gradients do not tells of masked gradients.

    Parameters
    ----------
    n_steps : int, default=100
        Number of steps.

    relative_step_size : float or None, default=None
        Length of a step, as a share of the size; None is 2.5 / `n_steps`.

    random_start : bool, default=True
        Whether to start at random in the ball.

    loss : {"log_loss", "margin"}, default="margin"
        What is climbed.

    average : {"loss", "probability"}, default="probability"
        What is averaged over the draws.

    kappa : float, default=50.0
        Where the margin is cut off, in units of logits.

    n_directions : int, default=16
        Pairs of points per step.

    delta : float, default=0.01
        How far from the iterate they are, in each coordinate.

    References
    ----------
    .. [1] J. Uesato et al., "Adversarial risk and the dangers of evaluating against weak attacks",
       ICML 2018.
    """

    loss: str = "margin"
    n_directions: int = 16
    delta: float = 0.01

    name: ClassVar[str] = "spsa"
    frozen: ClassVar[bool] = True  # both ends of a difference must see the same draws
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")

    def check(self) -> None:
        """Refuse settings that are out of range."""
        super().check()
        check_count("n_directions", self.n_directions)
        check_positive("delta", self.delta)

    def ascent(self, question: Question, x: Tensor) -> Tensor:
        """Return the average of directions, each times the slope along it."""
        total = torch.zeros_like(x)
        with torch.no_grad():
            for _ in range(self.n_directions):
                signs = torch.randint(2, x.shape[1:], device=x.device).to(x) * 2 - 1
                step = self.delta * signs
                rise = self.row_losses(question, x + step) - self.row_losses(question, x - step)
                total += rise.reshape(-1, *[1] * (x.ndim - 1)) / (2 * self.delta) * signs
        return total / self.n_directions


def random_starts(question: Question) -> Tensor:
    """Return a point of the unit ball for each row, by the seed and the row alone.

    Parameters
    ----------
    question : Question
        What is asked.

    Returns
    -------
    Tensor of shape (n_rows, ...)
        The points, uniformly distributed.
    """
    rows = question.x.cpu().numpy()
    points = [
        _in_unit_ball(row.size, question.norm, np.random.default_rng([question.seed, *digest]))
        for row, digest in zip(rows, input_digests(rows), strict=True)
    ]
    return torch.from_numpy(np.stack(points).reshape(rows.shape)).to(question.x)


def _in_unit_ball(dimension: int, norm: str, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a uniform point of a unit ball (Barthe et al. 2005; Voelker et al. 2017)."""
    if norm == "linf":
        return generator.uniform(-1.0, 1.0, dimension)
    if norm == "l2":
        point = generator.standard_normal(dimension + 2)
        point /= np.linalg.norm(point)
        return point[:dimension]
    point = generator.standard_exponential(dimension + 1)
    point /= point.sum()
    return generator.choice([-1.0, 1.0], dimension) * point[:dimension]


def _devices(x: Tensor) -> list[torch.device]:
    return [x.device] if x.is_cuda else []


def _as_eager(x: Tensor) -> Any:
    from eagerpy.astensor import astensor

    return astensor(x)
