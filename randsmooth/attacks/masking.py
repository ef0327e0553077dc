"""Does a classifier withstand attacks, or does it only hinder them? Five questions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from randsmooth.attacks.arguments import class_indices, clip_limits
from randsmooth.attacks.attack import attack
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.pgd import PGD, SPSA
from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.transfer import Transfer
from randsmooth.attacks.victim import victim
from randsmooth.checks import check_choice, check_positive
from randsmooth.exceptions import AttackError
from randsmooth.training.perturbation import steepest_step

__all__ = ["MaskingLine", "MaskingReport", "gradient_masking_report"]

# A difference between two attacks on the same inputs counts from so many standard errors on.
_CLEAR = 2.0
# Share of the inputs on which a small step along the gradient must raise the loss.
_RISING = 0.9

_INSIDE = "Is it broken from inside at least as often?"
_MORE = "Do more draws break it at least as often?"
_SLOPES = "Do gradients break it at least as often as differences?"
_BOUNDS = "Is it always broken without bounds?"
_GRADIENT = "Does the loss rise along its gradient?"


@dataclass(frozen=True)
class MaskingLine:
    """One question of the report.

    Parameters
    ----------
    question : str
        What is asked.

    figures : dict of str to float
        What was measured.

    suspicious : bool
        Whether that is a sign of masked gradients.
    """

    question: str
    figures: dict[str, float]
    suspicious: bool

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in self.figures.items())
        return f"{'SUSPICIOUS' if self.suspicious else 'good':<10}  {self.question} {shown}"


@dataclass(frozen=True)
class MaskingReport:
    """What speaks for gradients that are masked, line by line.

    Parameters
    ----------
    lines : tuple of MaskingLine
        The questions and their answers.

    n_failed : int, default=0
        Inputs that could not be attacked, and are left out of all lines.
    """

    lines: tuple[MaskingLine, ...]
    n_failed: int = 0

    @property
    def suspicious(self) -> bool:
        """Whether any line is."""
        return any(line.suspicious for line in self.lines)

    def __str__(self) -> str:
        lines = [str(line) for line in self.lines]
        if self.n_failed:
            lines.append(f"left out    {self.n_failed} inputs that could not be attacked")
        return "\n".join(lines)


def gradient_masking_report(
    clf: Any,
    X: ArrayLike,
    y: ArrayLike,
    eps: float,
    norm: str = "l2",
    *,
    source: Any = None,
    method: PGD | None = None,
    n_noise: int = 32,
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    n_votes: int = 1000,
    random_state: int = 0,
    verbose: int = 0,
) -> MaskingReport:
    """Return whether gradients lead attacks on a classifier as they should.

    The signs of masked gradients of Athalye et al. 2018 [1]_ (section 3.1), for smoothed
    classifiers: an attack that sees the classifier must not do worse than one that saw another,
    nor averaging over more draws worse than over fewer, nor gradients worse than differences;
    an attack without bounds must always succeed; and the loss must rise along its gradient.
    Differences count from two standard errors on.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    X : array-like of shape (n_inputs, ...)
        The inputs.

    y : array-like of shape (n_inputs,)
        Their labels.

    eps : float
        Size of the attacks, at which some should succeed and some not.

    norm : {"l2", "linf"}, default="l2"
        Norm of a perturbation.

    source : SmoothedClassifier, torch.nn.Module, skorch.NeuralNet or None, default=None
        Another classifier, whose adversarial inputs are carried over. None leaves that line out.

    method : PGD or None, default=None
        The attack in question; None is `PGD()`.

    n_noise : int, default=32
        Draws that an attack averages over, an eighth of them where fewer are tried.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates.

    n_votes : int, default=1000
        Draws by which an attacked input is judged, and as many by which it is confirmed.

    random_state : int, default=0
        Seed of what the attacks draw.

    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    MaskingReport
        A line for each question; printed, a table. Inputs that could not be attacked are left out
        and counted.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    TypeError
        If the classifier has no gradients, or `method` is no `PGD`.

    AttackError
        If no input could be attacked.

    References
    ----------
    .. [1] A. Athalye, N. Carlini and D. Wagner, "Obfuscated gradients give a false sense of
       security", ICML 2018.
    """
    check_positive("eps", eps)
    check_choice("norm", norm, ("l2", "linf"))
    method = PGD() if method is None else method
    if not isinstance(method, PGD):
        raise TypeError(f"method must be a PGD such as PGD(n_steps=200), got {method!r}.")
    whom = victim(clf, X)
    inputs = whom.inputs(X)
    settings: dict[str, Any] = {
        "norm": norm,
        "clip_range": clip_range,
        "n_votes": n_votes,
        "random_state": random_state,
        "verbose": verbose,
    }
    trials = _Trials(clf, X, y, np.ones(len(inputs), dtype=np.bool_), settings)
    few = max(1, n_noise // 8)
    white = trials.success(method, eps, n_noise)
    carried = None
    if source is not None:
        carried = trials.success(Transfer(source, method, n_noise), eps, n_noise)
    fewer = trials.success(method, eps, few)
    differences = trials.success(_by_differences(method), eps, n_noise)
    low, high = clip_limits(clip_range, inputs, np.array([eps]), method)
    furthest = (high - low) * (math.sqrt(inputs[0].size) if norm == "l2" else 1.0)
    ever = trials.ever(replace(method, random_start=False), white, eps, n_noise, furthest)

    kept = trials.known
    lines = []
    if carried is not None:
        lines.append(_compared(_INSIDE, white[kept], carried[kept], ("white box", "transfer")))
    names = f"{n_noise} draws", f"{few} draws"
    lines.append(_compared(_MORE, white[kept], fewer[kept], names))
    names = ("gradients", "differences")
    lines.append(_compared(_SLOPES, white[kept], differences[kept], names))
    unbounded = float(ever[kept].mean())
    lines.append(MaskingLine(_BOUNDS, {"success": unbounded}, unbounded < 1))
    module = SmoothedModule(whom, n_noise, frozen=True, average=method.average)
    codes = class_indices(whom.classes, y, len(inputs))
    rises = _rises(module, inputs[kept], codes[kept], norm, eps / 100, random_state)
    lines.append(_rising(*rises))
    return MaskingReport(tuple(lines), int((~kept).sum()))


@dataclass(frozen=True)
class _Trials:
    """Attacks on the same inputs, and which of these all attacks could be run on."""

    clf: Any
    X: Any
    y: Any
    known: NDArray[np.bool_]
    settings: dict[str, Any]

    def success(self, method: AttackMethod, size: float, n_noise: int) -> NDArray[np.bool_]:
        """Return which inputs an attack breaks; those that fail are left out from now on."""
        try:
            found = attack(
                self.clf, self.X, self.y, method, eps=size, n_noise=n_noise, **self.settings
            )
        except AttackError as error:
            self.known[error.failed] = False
            if not self.known.any():
                raise
            found = error.result
        return found.success

    def ever(
        self,
        method: PGD,
        broken: NDArray[np.bool_],
        size: float,
        n_noise: int,
        furthest: float,
    ) -> NDArray[np.bool_]:
        """Return which inputs some size breaks.

        Sizes grow step by step: from too far away the gradient of a sure network is zero.
        """
        while not broken[self.known].all() and size < furthest:
            size = min(2 * size, furthest)
            broken = broken | self.success(method, size, n_noise)
        return broken


def _by_differences(method: PGD) -> SPSA:
    """Return the attack without gradients that takes the same steps."""
    return SPSA(
        n_steps=method.n_steps,
        relative_step_size=method.relative_step_size,
        random_start=method.random_start,
    )


def _rising(along: float, across: float) -> MaskingLine:
    figures = {"along": along, "random": across}
    return MaskingLine(_GRADIENT, figures, along < _RISING)


def _compared(
    question: str,
    ours: NDArray[np.bool_],
    theirs: NDArray[np.bool_],
    names: tuple[str, str],
) -> MaskingLine:
    """Return whether the second of two attacks on the same inputs is clearly the better one."""
    only_theirs, only_ours = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    clear = only_theirs - only_ours > _CLEAR * math.sqrt(only_theirs + only_ours)
    figures = dict(zip(names, (float(ours.mean()), float(theirs.mean())), strict=True))
    return MaskingLine(question, figures, clear)


def _rises(
    module: SmoothedModule,
    X: NDArray[Any],
    codes: NDArray[np.int64],
    norm: str,
    length: float,
    seed: int,
) -> tuple[float, float]:
    """Return the shares of inputs whose loss a small step raises: along the gradient, at random."""
    generator = np.random.default_rng(seed)
    along: list[bool] = []
    across: list[bool] = []
    size = max(1, 2048 // module.n_noise)
    for start in range(0, len(X), size):
        x = torch.from_numpy(X[start : start + size]).to(module.device)
        labels = torch.from_numpy(codes[start : start + size]).to(module.device)
        x.requires_grad_()
        loss = _losses(module, x, labels)
        (gradient,) = torch.autograd.grad(loss.sum(), [x])
        direction = torch.from_numpy(generator.standard_normal(tuple(x.shape))).to(x)
        with torch.no_grad():
            for step, rises in ((gradient, along), (direction, across)):
                moved = x + length * steepest_step(step, norm)
                rises.extend((_losses(module, moved, labels) > loss).tolist())
    return float(np.mean(along)), float(np.mean(across))


def _losses(module: SmoothedModule, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    averages = module(x)
    losses: torch.Tensor = (
        torch.logsumexp(averages, dim=1) - averages.gather(1, labels[:, None])[:, 0]
    )
    return losses
