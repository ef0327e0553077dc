"""Attack a smoothed classifier, and let fresh votes say what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth._progress import progress_bar
from randsmooth.attacks.method import AttackMethod, Question, norms_of
from randsmooth.attacks.minimal import Boundary, CarliniWagner
from randsmooth.attacks.pgd import PGD, SPSA
from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import victim
from randsmooth.exceptions import AttackError
from randsmooth.noise import Stream
from randsmooth.training.checks import check_choice, check_count

__all__ = ["METHODS", "AttackResult", "attack"]

METHODS: dict[str, AttackMethod] = {
    "pgd": PGD(),
    "margin": PGD(loss="margin", average="loss"),
    "cw": CarliniWagner(),
    "boundary": Boundary(),
    "spsa": SPSA(),
}
"""The attacks that have a name."""

# A minimal perturbation, found on few draws, is looked for anew along its ray: up to so much
# further out, in so many bisections, where another class leads by so many standard deviations.
_FURTHEST, _N_BISECTIONS, _LEAD = 1.25, 7, 2.0

_ROWS = 2048  # noisy copies that are attacked at once


@dataclass(frozen=True)
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

    @property
    def robust_accuracy(self) -> float:
        """Share of the inputs that withstood."""
        return float(1 - self.success.mean())


def attack(
    clf: Any,
    X: ArrayLike,
    y: ArrayLike,
    method: str | AttackMethod = "pgd",
    *,
    norm: str = "l2",
    eps: ArrayLike | None = None,
    n_noise: int = 32,
    frozen: bool | None = None,
    n_restarts: int = 1,
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    n_votes: int = 1000,
    noise_seed: int | None = None,
    random_state: int = 0,
    verbose: int = 0,
) -> AttackResult:
    """Return what an attack on a smoothed classifier achieves, by fresh votes.

    The attack sees `n_noise` draws at a time, from a stream that no certificate sees. What it finds
    is judged by `n_votes` others, and what is judged a success is confirmed by `n_votes` further
    ones, which nothing was chosen by. Inputs that are misclassified as they are count as successes
    at distance 0.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    X : array-like of shape (n_inputs, ...)
        The inputs.

    y : array-like of shape (n_inputs,)
        Their labels, from which the attack leads away.

    method : str or AttackMethod, default="pgd"
        The attack: a name in `METHODS`, or an object with settings of its own.

    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of a perturbation, over all coordinates of an input.

    eps : float, array-like of shape (n_inputs,) or None, default=None
        How large a perturbation may be, in the units of `X`. None is for attacks that search for
        the smallest.

    n_noise : int, default=32
        Draws that the attack averages over.

    frozen : bool or None, default=None
        Whether these stay the same throughout an attack. None is as the attack needs it: frozen
        where the smallest perturbation is searched for, else fresh at every step.

    n_restarts : int, default=1
        How often each input is attacked, until it succeeds.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates. None is no limit.

    n_votes : int, default=1000
        Draws by which an attacked input is judged, and as many by which it is confirmed.

    noise_seed : int or None, default=None
        Seed of all noise; None is that of the classifier.

    random_state : int, default=0
        Seed of what the attack itself draws, such as random starts.

    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    AttackResult
        One row per input.

    Raises
    ------
    ValueError
        If a parameter is out of range, or inputs lie outside the clip range.

    TypeError
        If the attack needs gradients and the base has none.

    ImportError
        If foolbox is not installed.

    AttackError
        If some inputs could not be attacked. Its `result` holds the others'.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from randsmooth import SmoothedClassifier
    >>> from randsmooth.attacks import PGD, attack
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype("float32") / 16
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 10))
    >>> clf = SmoothedClassifier(net, sigma=0.25, random_state=0).fit(X, y)
    >>> result = attack(clf, X[:20], y[:20], PGD(n_steps=10), eps=1.0)
    >>> result.success.shape, bool((result.distance <= 1).all())
    ((20,), True)
    """
    run = _Run(
        clf,
        X,
        y,
        attack_method(method),
        norm=norm,
        eps=eps,
        n_noise=n_noise,
        frozen=frozen,
        clip_range=clip_range,
        n_votes=n_votes,
        noise_seed=noise_seed,
        seed=random_state,
        verbose=verbose,
    )
    check_count("n_restarts", n_restarts)
    return run.result(n_restarts)


def attack_method(method: str | AttackMethod) -> AttackMethod:
    """Return the attack that a name stands for, checked.

    Parameters
    ----------
    method : str or AttackMethod
        A name in `METHODS`, or an attack.

    Returns
    -------
    AttackMethod
        The attack.

    Raises
    ------
    ValueError
        If no attack has that name, or its settings are out of range.

    TypeError
        If it is something else.
    """
    if isinstance(method, str):
        check_choice("method", method, tuple(METHODS))
        method = METHODS[method]
    if not isinstance(method, AttackMethod):
        raise TypeError(
            f"method must be one of {', '.join(map(repr, METHODS))} or an attack of "
            f"randsmooth.attacks such as PGD(n_steps=200), got {method!r}."
        )
    method.check()
    return method


class _Run:
    """One attack on some inputs, from the checks to the confirmation."""

    def __init__(
        self,
        clf: Any,
        X: ArrayLike,
        y: ArrayLike,
        method: AttackMethod,
        *,
        norm: str,
        eps: ArrayLike | None,
        n_noise: int,
        frozen: bool | None,
        clip_range: tuple[float, float] | None,
        n_votes: int,
        noise_seed: int | None,
        seed: int,
        verbose: int,
    ) -> None:
        check_count("n_votes", n_votes)
        if norm not in method.norms:
            names = " or ".join(map(repr, method.norms))
            raise ValueError(f"norm must be {names} for {method.name!r}, got {norm!r}.")
        self.victim, self.method, self.norm = victim(clf, X, noise_seed=noise_seed), method, norm
        self.n_votes, self.seed, self.verbose = n_votes, seed, verbose
        self.module = SmoothedModule(
            self.victim,
            n_noise,
            frozen=method.frozen if frozen is None else frozen,
            average=method.average,
        )
        if method.gradients and not self.victim.differentiable:
            raise TypeError(
                f"method must do without gradients for this classifier, whose base is no network "
                f"or whose noise is not added, got {method.name!r}. Take 'boundary'."
            )
        self.X = self.victim.inputs(X)
        self.codes = class_indices(self.victim.classes, y, len(self.X))
        self.eps = sizes(eps, len(self.X), method)
        self.clip_range = clip_limits(clip_range, self.X)
        self.errors: dict[int, Exception] = {}

    def result(self, n_restarts: int) -> AttackResult:
        """Return what came of it."""
        moved = self.X.copy()
        left = np.flatnonzero(self.judged(moved, Stream.JUDGEMENT).argmax(axis=1) == self.codes)
        with progress_bar(
            len(left) * n_restarts,
            description=self.method.name,
            unit="inputs",
            verbose=self.verbose,
        ) as advance:
            for restart in range(n_restarts):
                for rows in self._batches(left):
                    moved[rows] = self._moved(rows, self.seed + restart)
                    advance(len(rows))
                left = self._withstanding(moved, left)
        counts = self.judged(moved, Stream.CONFIRMATION)
        distance = norms_of(torch.from_numpy(moved) - torch.from_numpy(self.X), self.norm).numpy()
        label = counts.argmax(axis=1)
        result = AttackResult(
            adversarial=moved,
            success=(label != self.codes) & (distance <= self.eps),
            distance=distance,
            label=self.victim.classes[label],
            counts=counts,
            y=self.victim.classes[self.codes],
            eps=self.eps,
            norm=self.norm,
            method=self.method.name,
            settings=self._settings(n_restarts),
        )
        if self.errors:
            raise AttackError.of_rows(self.errors, self._without_failures(result))
        return result

    def judged(self, X: NDArray[Any], stream: Stream) -> NDArray[np.int64]:
        """Return the votes for some inputs; those that fail are errors."""
        counts, errors = self.victim.votes(X, stream, self.n_votes)
        self.errors = {**errors, **self.errors}
        return counts

    def _batches(self, rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        size = max(1, _ROWS // self.module.n_noise)
        yield from (rows[i : i + size] for i in range(0, len(rows), size))

    def _moved(self, rows: NDArray[np.intp], seed: int) -> NDArray[Any]:
        """Return some inputs, moved; of a batch that fails, each is tried by itself."""
        try:
            return self._inside(rows, self.method.perturb(self._question(rows, seed)))
        except (RuntimeError, ValueError, FloatingPointError) as error:
            if len(rows) > 1:
                return np.concatenate(
                    [self._moved(rows[i : i + 1], seed) for i in range(len(rows))]
                )
            self.errors[int(rows[0])] = error
            return self.X[rows]

    def _question(self, rows: NDArray[np.intp], seed: int) -> Question:
        on = self.module.device
        return Question(
            self.module,
            torch.from_numpy(self.X[rows]).to(on),
            torch.from_numpy(self.codes[rows]).to(on),
            self.norm,
            torch.from_numpy(self.eps[rows]).to(on),
            self.clip_range,
            torch.from_numpy(self.X).to(on),
            # The same for an input however the batches are cut would need a seed of each row.
            seed,
        )

    def _inside(self, rows: NDArray[np.intp], found: Tensor) -> NDArray[Any]:
        """Return what was found, shortened by what rounding put outside."""
        x = torch.from_numpy(self.X[rows])
        eps = torch.from_numpy(self.eps[rows])
        found = found.cpu().clamp(*self.clip_range)
        if self.method.minimal:
            return found.numpy()
        for k in range(1, 5):
            delta = found.double() - x.double()
            length = norms_of(delta, self.norm)
            shrink = torch.where(length > eps, eps / length * (1 - k * 2.0**-22), 1.0)
            found = (x + delta * shrink.reshape(-1, *[1] * (x.ndim - 1))).to(x.dtype)
        return found.numpy()

    def _withstanding(self, moved: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return which inputs keep their label; minimal perturbations are first brought close."""
        if not len(rows):
            return rows
        if not self.method.minimal:
            kept = self.judged(moved[rows], Stream.JUDGEMENT).argmax(axis=1) == self.codes[rows]
            return rows[kept]
        delta = moved[rows] - self.X[rows]
        nearest = np.zeros(len(rows))
        furthest = np.full(len(rows), _FURTHEST)
        beyond = self._led_away(rows, furthest, delta)
        for _ in range(_N_BISECTIONS):
            middle = (nearest + furthest) / 2
            away = self._led_away(rows, middle, delta)
            furthest, nearest = np.where(away, middle, furthest), np.where(away, nearest, middle)
        moved[rows] = self._along(rows, furthest, delta)
        return rows[~beyond]

    def _along(
        self, rows: NDArray[np.intp], factor: NDArray[Any], delta: NDArray[Any]
    ) -> NDArray[Any]:
        shaped = factor.reshape(-1, *[1] * (delta.ndim - 1)).astype(delta.dtype)
        moved: NDArray[Any] = (self.X[rows] + shaped * delta).clip(*self.clip_range)
        return moved

    def _led_away(
        self, rows: NDArray[np.intp], factor: NDArray[Any], delta: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """Return where another class leads clearly at a multiple of the perturbations."""
        counts = self.judged(self._along(rows, factor, delta), Stream.JUDGEMENT)
        each = np.arange(len(rows))
        own = counts[each, self.codes[rows]]
        counts[each, self.codes[rows]] = -1
        other = counts.max(axis=1)
        clear = 0.0 if self.victim.noise is None else _LEAD * np.sqrt(own + other)
        led: NDArray[np.bool_] = other - own > clear
        return led

    def _settings(self, n_restarts: int) -> dict[str, Any]:
        return {
            **described(self.method),
            "n_noise": self.module.n_noise,
            "frozen": self.module.frozen,
            "n_restarts": n_restarts,
            "n_votes": self.n_votes,
            "clip_range": self.clip_range,
            "noise_seed": self.victim.noise_seed,
            "random_state": self.seed,
        }

    def _without_failures(self, result: AttackResult) -> AttackResult:
        failed = np.array(sorted(self.errors), dtype=np.intp)
        success, distance = result.success.copy(), result.distance.copy()
        success[failed], distance[failed] = False, np.nan
        return replace(result, success=success, distance=distance)


def described(method: AttackMethod) -> dict[str, Any]:
    """Return the settings of an attack as plain values.

    Parameters
    ----------
    method : AttackMethod
        The attack.

    Returns
    -------
    dict of str to object
        Numbers and text; an attack within by name and settings, a classifier by its class.
    """
    settings: dict[str, Any] = {}
    for setting in fields(method):
        value = getattr(method, setting.name)
        if isinstance(value, AttackMethod):
            value = {"name": value.name} | described(value)
        elif not (value is None or isinstance(value, bool | int | float | str)):
            value = type(value).__name__
        settings[setting.name] = value
    return settings


def class_indices(classes: NDArray[Any], y: ArrayLike, n_inputs: int) -> NDArray[np.int64]:
    """Return the class index of each label.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels that there are, sorted.

    y : array-like of shape (n_inputs,)
        Labels.

    n_inputs : int
        How many there must be.

    Returns
    -------
    ndarray of int64, shape (n_inputs,)
        The indices.

    Raises
    ------
    ValueError
        If they are not one label per input, or unknown.
    """
    labels = np.asarray(y)
    if labels.shape != (n_inputs,):
        raise ValueError(
            f"y must hold one label per input, got shape {labels.shape} for {n_inputs} inputs."
        )
    unknown = ~np.isin(labels, classes)
    if unknown.any():
        raise ValueError(
            f"y must hold labels among classes_, {classes[:10].tolist()}, got "
            f"{np.unique(labels[unknown])[:5].tolist()}."
        )
    return np.searchsorted(classes, labels).astype(np.int64)


def sizes(eps: ArrayLike | None, n_inputs: int, method: AttackMethod) -> NDArray[np.float64]:
    """Return the size of each input's perturbation.

    Parameters
    ----------
    eps : float, array-like of shape (n_inputs,) or None
        As handed in.

    n_inputs : int
        Number of inputs.

    method : AttackMethod
        The attack.

    Returns
    -------
    ndarray of float64, shape (n_inputs,)
        The sizes, infinite where none was given.

    Raises
    ------
    ValueError
        If they are not positive, or missing.
    """
    if eps is None:
        if method.minimal:
            return np.full(n_inputs, math.inf)
        raise ValueError(f"eps must be a positive size for {method.name!r}, got None.")
    given = np.asarray(eps, dtype=np.float64)
    if given.shape not in ((), (n_inputs,)) or not (given > 0).all():
        raise ValueError(
            f"eps must be positive, one number or one per input, got {eps!r} for {n_inputs} inputs."
        )
    return np.broadcast_to(given, (n_inputs,)).copy()


def clip_limits(clip_range: tuple[float, float] | None, X: NDArray[Any]) -> tuple[float, float]:
    """Return limits of the coordinates that hold the inputs.

    Parameters
    ----------
    clip_range : tuple of two floats or None
        As handed in.

    X : ndarray
        The inputs.

    Returns
    -------
    tuple of two floats
        The limits. Without any, so wide ones that no attack of interest meets them.

    Raises
    ------
    ValueError
        If they are no range, or inputs lie outside.
    """
    least, most = (float(X.min()), float(X.max())) if X.size else (0.0, 1.0)
    if clip_range is None:
        width = max(most - least, 1.0)
        return least - width, most + width
    low, high = map(float, clip_range)
    if not low < high:
        raise ValueError(f"clip_range must be (low, high) with low < high, got {clip_range!r}.")
    if least < low or most > high:
        raise ValueError(
            f"X must lie within clip_range={clip_range!r}, got values from {least:.6g} to "
            f"{most:.6g}. Hand in the range of the data, or clip_range=None."
        )
    return low, high
