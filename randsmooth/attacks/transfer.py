"""Attacks that carry over: adversarial inputs of one classifier, tried on another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth.attacks.attack import attack
from randsmooth.attacks.method import AttackMethod, Question
from randsmooth.attacks.pgd import PGD
from randsmooth.attacks.result import AttackResult
from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import Victim, victim
from randsmooth.checks import check_count
from randsmooth.fitting import is_net

__all__ = ["Transfer", "transfer"]


@dataclass(frozen=True)
class Transfer(AttackMethod):
    """An attack on another classifier, whose findings are tried on the one in question.

    White-box attacks that do no better than this are hindered by something: see
    `gradient_masking_report`.

    Parameters
    ----------
    source : SmoothedClassifier, torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        The trained classifier to attack, with the same labels in the same order. A network may know
        them by their numbers.

    method : AttackMethod, default=PGD()
        How to attack it.

    n_noise : int, default=32
        Draws that the attack averages over, where the source is smoothed.
    """

    source: Any
    method: AttackMethod = field(default_factory=PGD)
    n_noise: int = 32

    name: ClassVar[str] = "transfer"
    gradients: ClassVar[bool] = False

    @property
    def norms(self) -> tuple[str, ...]:  # type: ignore[override]
        """Norms of the attack."""
        return self.method.norms

    @property
    def minimal(self) -> bool:  # type: ignore[override]
        """Whether the attack searches for the smallest perturbation."""
        return self.method.minimal

    @property
    def bounded(self) -> bool:  # type: ignore[override]
        """Whether the coordinates must have finite limits."""
        return self.method.bounded

    @property
    def nothing(self) -> str:  # type: ignore[override]
        """What went wrong with an input that comes back as NaN."""
        return self.method.nothing

    def check(self) -> None:
        """Refuse settings that are out of range."""
        if not isinstance(self.method, AttackMethod):
            raise TypeError(
                f"method must be an attack of randsmooth.attacks such as PGD(), "
                f"got {self.method!r}."
            )
        self.method.check()

    def check_target(self, target: Victim, X: NDArray[Any]) -> None:
        """Refuse a source that is not trained, of other classes, or without gradients."""
        super().check_target(target, X)
        check_count("n_noise", self.n_noise)
        source = victim(self.source, X, name="source")
        if len(source.classes) != len(target.classes):
            raise TypeError(
                f"source must have the {len(target.classes)} classes of the classifier under "
                f"attack, got {len(source.classes)}."
            )
        # A network inside a smoothed classifier knows the labels by their numbers alone.
        numbered = is_net(self.source) and (source.classes == np.arange(len(source.classes))).all()
        if not (numbered or np.array_equal(source.classes, target.classes)):
            raise ValueError(
                f"source must have the labels of the classifier under attack, "
                f"{target.classes[:10].tolist()}, got {source.classes[:10].tolist()}. Train it on "
                f"the same labels."
            )
        if self.method.gradients and not source.differentiable:
            raise TypeError(
                f"source must be a network for {self.method.name!r}, got "
                f"{type(self.source).__name__}. Take method=Boundary()."
            )
        self.method.check_target(source, X)

    def perturb(self, question: Question) -> Tensor:
        """Return what the attack finds on the source; see `AttackMethod.perturb`."""
        source = victim(self.source, question.x.cpu())
        module = SmoothedModule(
            source, self.n_noise, frozen=self.method.frozen, average=self.method.average
        )
        x, labels = question.x.to(module.device, module.dtype), question.labels.to(module.device)
        pool = question.pool.to(module.device, module.dtype)
        asked = replace(question, module=module, x=x, labels=labels, pool=pool)
        return self.method.perturb(asked).to(question.x)


def transfer(
    source: Any,
    clf: Any,
    X: ArrayLike,
    y: ArrayLike,
    method: AttackMethod | None = None,
    *,
    n_noise: int = 32,
    **settings: Any,
) -> AttackResult:
    """Return what an attack on one classifier achieves on another.

    Parameters
    ----------
    source : SmoothedClassifier, torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        The trained classifier to attack.

    clf : SmoothedClassifier
        The fitted classifier on which the findings are tried.

    X : array-like of shape (n_inputs, ...)
        The inputs.

    y : array-like of shape (n_inputs,)
        Their labels.

    method : AttackMethod or None, default=None
        How to attack the source; None is `PGD()`.

    n_noise : int, default=32
        Draws that the attack averages over, where the source is smoothed.

    **settings
        Further parameters of `attack`.

    Returns
    -------
    AttackResult
        One row per input, by the votes of `clf`.

    Raises
    ------
    TypeError
        If the source has another number of classes than `clf`, or lacks the gradients asked for.

    ValueError
        If it has other labels.

    NotFittedError
        If it is not fitted.
    """
    return attack(clf, X, y, Transfer(source, method or PGD(), n_noise), **settings)
