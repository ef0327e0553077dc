"""Attacks that search for the smallest perturbation: by gradients, and by votes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth.attacks.library import foolbox, model_of
from randsmooth.attacks.method import AttackMethod, Question
from randsmooth.attacks.victim import Victim
from randsmooth.checks import check_count, check_positive, check_weight

__all__ = ["Boundary", "CarliniWagner"]


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(AttackMethod):
    """Smallest l2 perturbation by a penalty (Carlini and Wagner 2017 [1]_).

    The penalty's weight is found by bisection for each input, on draws that stay the same.

    Parameters
    ----------
    n_searches : int, default=5
        Steps of the bisection.

    n_steps : int, default=100
        Steps of Adam in each.

    step_size : float, default=0.05
        Their size, in the space where the clip range is the real line. Black pixels lie far out
        there: images with many need larger steps, such as 0.15.

    confidence : float, default=0.5
        By how much another class must lead, in logarithms of the average probability. At 0 half of
        what is found fails under fresh draws.

    initial_const : float, default=1.0
        Where the bisection starts.

    References
    ----------
    .. [1] N. Carlini and D. Wagner, "Towards evaluating the robustness of neural networks", IEEE
       Symposium on Security and Privacy 2017.
    """

    n_searches: int = 5
    n_steps: int = 100
    step_size: float = 0.05
    confidence: float = 0.5
    initial_const: float = 1.0

    name: ClassVar[str] = "cw"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    minimal: ClassVar[bool] = True
    frozen: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    library = staticmethod(foolbox)

    def check(self) -> None:
        """Refuse settings that are out of range."""
        check_count("n_searches", self.n_searches)
        check_count("n_steps", self.n_steps)
        check_positive("step_size", self.step_size)
        check_weight("confidence", self.confidence)
        check_positive("initial_const", self.initial_const)

    def perturb(self, question: Question) -> Tensor:
        """Return the closest points found; zeros where there are none, as foolbox does."""
        attack = foolbox().attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.n_searches,
            steps=self.n_steps,
            stepsize=self.step_size,
            confidence=self.confidence,
            initial_const=self.initial_const,
            abort_early=False,  # it would stop for all rows of a batch at once
        )
        model = model_of(question.module, question.clip_range)
        moved: Tensor = attack.run(model, question.x, question.labels)
        return moved.detach()


@dataclass(frozen=True, kw_only=True)
class Boundary(AttackMethod):
    """Walk along the decision boundary, by votes alone (Brendel et al. 2018 [1]_).

    It needs no gradients: any base will do. It starts at the nearest point that another class is
    voted for, among the other inputs of the call and uniform noise, and draws its steps for a batch
    at once. What it finds for an input therefore depends on the inputs beside it, unless it is
    attacked alone from `starting_points` of your own. An input without a start is an error. Without
    frozen draws the attack finds nothing.

    Parameters
    ----------
    n_steps : int, default=1000
        Number of steps.

    spherical_step : float, default=0.01
        First length of a step around the input, relative to the distance.

    source_step : float, default=0.01
        First length of a step towards it.

    margin : float, default=0.1
        Share of the votes by which another class must lead.

    starting_points : array-like of shape (n_points, ...) or None, default=None
        Points to start from; None is the other inputs of the call and uniform noise.

    References
    ----------
    .. [1] W. Brendel, J. Rauber and M. Bethge, "Decision-based adversarial attacks: reliable
       attacks against black-box machine learning models", ICLR 2018.
    """

    n_steps: int = 1000
    spherical_step: float = 0.01
    source_step: float = 0.01
    margin: float = 0.1
    starting_points: ArrayLike | None = field(default=None, compare=False)

    name: ClassVar[str] = "boundary"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    gradients: ClassVar[bool] = False
    minimal: ClassVar[bool] = True
    frozen: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    nothing: ClassVar[str] = (
        "no point to start from was found that another class leads at; hand in "
        "Boundary(starting_points=...)"
    )
    library = staticmethod(foolbox)

    def check(self) -> None:
        """Refuse settings that are out of range."""
        check_count("n_steps", self.n_steps)
        check_positive("spherical_step", self.spherical_step)
        check_positive("source_step", self.source_step)
        check_weight("margin", self.margin)
        if self.margin >= 1:
            raise ValueError(f"margin must be below 1, got {self.margin!r}.")

    def check_target(self, target: Victim, X: NDArray[Any]) -> None:
        """Refuse what cannot be attacked, and starting points of another shape than the inputs."""
        super().check_target(target, X)
        if self.starting_points is None:
            return
        points = np.asarray(self.starting_points)
        if points.shape[1:] != X.shape[1:] or not len(points) or not np.isfinite(points).all():
            raise ValueError(
                f"starting_points must hold finite inputs of shape {X.shape[1:]}, got shape "
                f"{points.shape}."
            )

    def perturb(self, question: Question) -> Tensor:
        """Return the closest points found; NaN where no start was found."""
        starts, found = self._starts(question)
        moved = torch.full_like(question.x, torch.nan)
        if not found.any():
            return moved
        labels = question.labels[found]
        attack = foolbox().attacks.BoundaryAttack(
            steps=self.n_steps, spherical_step=self.spherical_step, source_step=self.source_step
        )
        module = _Lead(question.module, labels, self.margin)
        model = model_of(module, question.clip_range)
        with torch.random.fork_rng(devices=[question.x.device] if question.x.is_cuda else []):
            torch.manual_seed(question.seed)
            moved[found] = attack.run(
                model, question.x[found], labels, starting_points=starts[found]
            )
        return moved

    def _starts(self, question: Question) -> tuple[Tensor, Tensor]:
        """Return the nearest point at which another class leads, and where there is one."""
        pool = self._pool(question)
        shares = _known_shares(question.module, pool)
        starts, found = question.x.clone(), torch.zeros(len(question.x), dtype=torch.bool)
        for i, (x, label) in enumerate(zip(question.x, question.labels, strict=True)):
            own = shares[:, label]
            others = shares.index_fill(1, label, -1.0).amax(dim=1)
            wrong = torch.nonzero(others - own > self.margin)[:, 0]
            if len(wrong):
                distances = (pool[wrong] - x).flatten(1).norm(dim=1)
                starts[i] = pool[wrong[distances.argmin()]]
                found[i] = True
        return starts, found.to(question.x.device)

    def _pool(self, question: Question) -> Tensor:
        """Return the points to start from, within the clip range."""
        low, high = question.clip_range
        if self.starting_points is not None:
            points = np.asarray(self.starting_points, dtype=np.float64)
            return torch.from_numpy(points).to(question.x).clamp(low, high)
        generator = torch.Generator().manual_seed(question.seed)
        shape = (64, *question.x.shape[1:])
        noise = torch.rand(shape, generator=generator).to(question.x) * (high - low) + low
        return torch.cat([question.pool, noise])


class _Lead(torch.nn.Module):
    """Shares of the votes, with a lead for the labels of a batch that comes in the same order."""

    def __init__(self, module: Any, labels: Tensor, lead: float) -> None:
        super().__init__()
        self.module, self.labels, self.lead = module, labels, lead
        self.device = module.device
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        shares = _shares(self.module, x)
        lead = torch.full((len(x), 1), self.lead, device=x.device, dtype=shares.dtype)
        return shares.scatter_add(1, self.labels[:, None], lead)


def _known_shares(module: Any, x: Tensor) -> Tensor:
    """Return the shares of the votes; zeros for points on which the base fails."""
    try:
        return _shares(module, x)
    except Exception:  # whatever a base may raise: one point costs that point
        if len(x) == 1:
            return torch.zeros((1, module.n_classes), dtype=module.dtype, device=x.device)
    return torch.cat([_known_shares(module, point) for point in torch.split(x, 1)])


def _shares(module: Any, x: Tensor) -> Tensor:
    size = max(1, 4096 // module.n_noise)
    counts = torch.cat([module.counts(rows) for rows in torch.split(x, size)])
    shares: Tensor = counts.to(module.dtype) / module.n_noise
    return shares
