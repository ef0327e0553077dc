"""Random search in squares, without gradients."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randsmooth.attacks.library import art, art_classifier_of
from randsmooth.attacks.method import AttackMethod, Question
from randsmooth.attacks.victim import Victim
from randsmooth.checks import check_count, check_positive, check_weight

__all__ = ["Square"]

_SMALLEST = 5  # pixels a side, below which the toolbox's first square does not fit


@dataclass(frozen=True, kw_only=True)
class Square(AttackMethod):
    """Random search in squares, by scores alone (Andriushchenko et al. 2020 [1]_).

    It is the search of the adversarial-robustness-toolbox, for images of equal height and width,
    shaped (channels, height, width). A step is kept where the most probable class but the label
    comes closer to it, on draws that stay the same; where the base is no network, probabilities are
    shares of the votes. It draws its squares for a batch at once, so that what it finds for an
    image depends on the images beside it. What it finds and gradients do not tells of masked
    gradients.

    Parameters
    ----------
    n_steps : int, default=1000
        Number of steps, each tried on the images of which no other class leads yet.

    first_share : float, default=0.8
        Share of the pixels that the first square covers; later ones are smaller.

    confidence : float, default=0.5
        By how much another class must lead for an image to be left alone, in logarithms of the
        average probability. At 0 half of what is found fails under fresh draws.

    References
    ----------
    .. [1] M. Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack
       via random search", ECCV 2020.
    """

    n_steps: int = 1000
    first_share: float = 0.8
    confidence: float = 0.5

    name: ClassVar[str] = "square"
    norms: ClassVar[tuple[str, ...]] = ("linf",)  # its l2 form divides by what it should scale to
    gradients: ClassVar[bool] = False
    frozen: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    library = staticmethod(art)

    def check(self) -> None:
        """Refuse settings that are out of range."""
        check_count("n_steps", self.n_steps)
        check_positive("first_share", self.first_share)
        if self.first_share > 0.8:
            raise ValueError(f"first_share must be at most 0.8, got {self.first_share!r}.")
        check_weight("confidence", self.confidence)

    def check_target(self, target: Victim, X: NDArray[Any]) -> None:
        """Refuse what cannot be attacked, and inputs that are no square images."""
        super().check_target(target, X)
        shape = X.shape[1:]
        if not (len(shape) == 3 and shape[1] == shape[2] >= _SMALLEST):
            raise TypeError(
                f"X must hold square images, shaped (channels, height, width), of at least "
                f"{_SMALLEST} pixels a side for {self.name!r}, got inputs of shape {tuple(shape)}. "
                f"Take 'spsa'."
            )

    def perturb(self, question: Question) -> Tensor:
        """Return the images after the last step; see `AttackMethod.perturb`."""
        classifier = art_classifier_of(question.module, question.clip_range)
        moved = question.x.clone()
        with _seeded(question.seed):
            for eps in np.unique(question.eps.cpu().numpy()):
                rows = question.eps == eps
                search = art().attacks.evasion.SquareAttack(
                    classifier,
                    norm=np.inf,
                    adv_criterion=lambda scores, y: _leads(scores, y) < -self.confidence,
                    loss=lambda x, y: _leads(classifier.predict(x, batch_size=len(x)), y),
                    eps=float(eps),
                    max_iter=self.n_steps,
                    p_init=self.first_share,
                    batch_size=len(moved),
                    verbose=False,
                )
                labels = question.labels[rows].cpu().numpy()
                found = search.generate(question.x[rows].cpu().numpy(), labels)
                moved[rows] = torch.from_numpy(found).to(moved)
        return moved


def _leads(scores: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return by how much each label, one in a row of zeros, leads the best other class."""
    own = np.sum(scores * y, axis=1)
    leads: NDArray[Any] = own - np.where(y > 0, -np.inf, scores).max(axis=1)
    return leads


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let the generators that the toolbox draws from start at a seed, and go on as they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
