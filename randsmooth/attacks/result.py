"""What came of an attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AttackResult"]


@dataclass(frozen=True, repr=False)
class AttackResult:
    """What an attack came to, input by input.

    Parameters
    ----------
    adversarial : ndarray of shape (n_inputs, ...)
        The moved inputs; the inputs themselves where they were misclassified to begin with.

    success : ndarray of bool, shape (n_inputs,)
        Where the smoothed classifier's label is not that of `y`, by votes that the attack did not
        see, and the perturbation is not larger than asked for.

    distance : ndarray of float64, shape (n_inputs,)
        Size of each perturbation.

    label : ndarray of shape (n_inputs,)
        The label of each moved input, by fresh votes.

    counts : ndarray of int64, shape (n_inputs, n_classes)
        Those votes.

    y : ndarray of shape (n_inputs,)
        The labels that the attack led away from.

    eps : ndarray of float64, shape (n_inputs,)
        How large a perturbation might be; infinite where the smallest was searched for.

    norm : str
        Its norm.

    method : str
        Name of the attack.

    settings : dict
        The attack's parameters and the numbers of draws.
    """

    adversarial: NDArray[np.floating]
    success: NDArray[np.bool_]
    distance: NDArray[np.float64]
    label: NDArray[Any]
    counts: NDArray[np.int64]
    y: NDArray[Any]
    eps: NDArray[np.float64]
    norm: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"AttackResult(method={self.method!r}, n_inputs={len(self.y)}, "
            f"n_successes={int(self.success.sum())}, norm={self.norm!r})"
        )

    @property
    def robust_accuracy(self) -> float:
        """Share of the inputs that withstood."""
        return float(1 - self.success.mean())
