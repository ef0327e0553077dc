"""What every attack is: a frozen bundle of settings that moves a batch of inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import Victim

__all__ = ["AttackMethod", "Question"]


@dataclass(frozen=True)
class Question:
    """What an attack is asked about one batch.

    Parameters
    ----------
    module : SmoothedModule
        The classifier under attack, with the draws that the attack may see.

    x : Tensor of shape (n_rows, ...)
        The inputs.

    labels : Tensor of int64, shape (n_rows,)
        The classes that the attack is to lead away from.

    norm : {"l1", "l2", "linf"}
        Norm of a perturbation.

    eps : Tensor of shape (n_rows,)
        How large each row's may be; infinite where the smallest is searched for.

    clip_range : tuple of two floats
        Smallest and largest value of an input's coordinates.

    pool : Tensor of shape (n_pool, ...)
        Other inputs, from which an attack by votes may start.

    seed : int
        Seed of what the attack itself draws.
    """

    module: SmoothedModule
    x: Tensor
    labels: Tensor
    norm: str
    eps: Tensor
    clip_range: tuple[float, float]
    pool: Tensor
    seed: int

    @property
    def radii(self) -> Tensor:
        """The sizes, shaped to broadcast against the inputs."""
        return self.eps.to(self.x).reshape(-1, *[1] * (self.x.ndim - 1))


@dataclass(frozen=True)
class AttackMethod(ABC):
    """Base of the attacks: parameters are fields, `perturb` is what they do."""

    name: ClassVar[str]
    norms: ClassVar[tuple[str, ...]]

    gradients: ClassVar[bool] = True
    """Whether the base must be a network, and the noise added."""

    minimal: ClassVar[bool] = False
    """Whether the smallest perturbation is searched for, so that no size need be given."""

    frozen: ClassVar[bool] = False
    """Whether the draws stay the same throughout, unless the caller says otherwise."""

    average: ClassVar[str] = "probability"
    """What the module averages over the draws."""

    bounded: ClassVar[bool] = False
    """Whether the coordinates must have finite limits."""

    nothing: ClassVar[str] = "the attack returned numbers that are not finite"
    """What went wrong with an input that comes back as NaN."""

    @staticmethod
    def library() -> Any:
        """Return the package behind the attack, which is imported where it is used."""
        return None

    def check(self) -> None:  # noqa: B027 (fields may need no check)
        """Refuse settings that are out of range."""

    def check_target(self, target: Victim, X: NDArray[Any]) -> None:
        """Refuse a classifier or inputs that cannot be attacked in this way.

        Parameters
        ----------
        target : Victim
            The classifier.

        X : ndarray of shape (n_inputs, ...)
            The inputs.

        Raises
        ------
        TypeError
            If the attack needs gradients and there are none.

        ImportError
            If the library behind it is not installed.
        """
        if self.gradients and not target.differentiable:
            raise TypeError(
                f"method must do without gradients for this classifier, whose base is no network "
                f"or whose noise is not added, got {self.name!r}. Take 'boundary'."
            )
        self.library()

    @abstractmethod
    def perturb(self, question: Question) -> Tensor:
        """Return the inputs, moved.

        Parameters
        ----------
        question : Question
            What is asked.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            Moved inputs. They need not be misclassified: that is for others to judge. A row of NaN
            could not be attacked.
        """


def norms_of(delta: Tensor, norm: str) -> Tensor:
    """Return the norm of each row, in double precision.

    Parameters
    ----------
    delta : Tensor of shape (n_rows, ...)
        Perturbations.

    norm : {"l1", "l2", "linf"}
        Which norm.

    Returns
    -------
    Tensor of float64, shape (n_rows,)
        The norms.
    """
    order = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}[norm]
    lengths: Tensor = torch.linalg.vector_norm(delta.double().flatten(1), ord=order, dim=1)
    return lengths
