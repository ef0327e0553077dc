"""Robust accuracy against the size of attacks, with the certified accuracy below it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth._archive import read_record, storable, write_record
from randsmooth.attacks.arguments import attack_method, class_indices, described, rising_sizes
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.result import AttackResult
from randsmooth.attacks.run import AttackRun
from randsmooth.attacks.transfer import Transfer
from randsmooth.attacks.victim import Victim, victim
from randsmooth.bounds.norms import converted_radius
from randsmooth.certificates.from_counts import imported_versions
from randsmooth.checks import check_choice, check_count
from randsmooth.exceptions import AttackError
from randsmooth.noise import Stream

__all__ = ["RobustAccuracyCurve", "robust_accuracy_curve"]

NORMS = ("l1", "l2", "linf")


@dataclass(frozen=True, eq=False)
class RobustAccuracyCurve:
    """What attacks of rising size achieve on each input, and what is certified for it.

    Robust accuracy is an upper bound of the truth: another attack may do better. Certified accuracy
    is a lower bound. Neither is a statement about other inputs than these.

    Parameters
    ----------
    sizes : ndarray of float64, shape (n_sizes,)
        Sizes of the attacks, in rising order.

    distance : ndarray of float64, shape (n_attacks, n_inputs)
        Size of the smallest perturbation with which each attack changed the label, confirmed by
        fresh votes: 0 where the label is wrong without one, infinite where there is none, NaN where
        the input could not be attacked.

    certified_radius : ndarray of float64, shape (n_inputs,)
        Certified radius in the norm of the attacks; 0 where the certificate abstains or its label
        is wrong, and where there is no certificate.

    y : ndarray of shape (n_inputs,)
        The true labels.

    norm : {"l1", "l2", "linf"}
        Norm of the perturbations.

    names : tuple of str
        Names of the attacks.

    transferred : tuple of bool
        Which of them saw another classifier only.

    settings : dict
        What each attack was run with, by name.

    facts : dict
        Seeds, numbers of draws, noise and package versions.
    """

    sizes: NDArray[np.float64]
    distance: NDArray[np.float64]
    certified_radius: NDArray[np.float64]
    y: NDArray[Any]
    norm: str
    names: tuple[str, ...]
    transferred: tuple[bool, ...]
    settings: dict[str, Any]
    facts: dict[str, Any]

    def robust_accuracy(self, name: str | None = None) -> NDArray[np.float64]:
        """Return the share of inputs that withstand, at each size.

        Parameters
        ----------
        name : str or None, default=None
            One attack; None is all of them, input by input.

        Returns
        -------
        ndarray of float64, shape (n_sizes,)
            Robust accuracy among the inputs that could be attacked.

        Raises
        ------
        ValueError
            If no attack has that name.
        """
        if name is None:
            rows = self.distance
        else:
            check_choice("name", name, self.names)
            rows = self.distance[[self.names.index(name)]]
        known = ~np.isnan(rows).any(axis=0)
        least = rows[:, known].min(axis=0)
        withstood: NDArray[np.float64] = (least > self.sizes[:, None]).mean(axis=1)
        return withstood

    def certified_accuracy(self) -> NDArray[np.float64]:
        """Return the share of inputs that no attack of a size can change.

        Returns
        -------
        ndarray of float64, shape (n_sizes,)
            Certified accuracy.
        """
        shares: NDArray[np.float64] = (self.certified_radius > self.sizes[:, None]).mean(axis=1)
        return shares

    def broken(self) -> NDArray[np.intp]:
        """Return the inputs that an attack changed within their certified radius.

        Each is a failure of a certificate, of which `alpha` times the number of inputs are to be
        expected, or of the votes that confirmed the attack; see `facts`.

        Returns
        -------
        ndarray of int, shape (n_broken,)
            Their rows.
        """
        least = np.where(np.isnan(self.distance), np.inf, self.distance).min(axis=0)
        return np.flatnonzero(least < self.certified_radius)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record to a file, without pickle.

        Parameters
        ----------
        path : str or path-like
            The file to write.
        """
        arrays = {name: getattr(self, name) for name in ("sizes", "distance", "certified_radius")}
        names = ("norm", "names", "transferred", "settings", "facts")
        facts = {name: getattr(self, name) for name in names}
        write_record("RobustAccuracyCurve", path, {**arrays, "y": storable(self.y)}, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the record in a file.

        Parameters
        ----------
        path : str or path-like
            A file that `save` wrote.

        Returns
        -------
        RobustAccuracyCurve
            The record.

        Raises
        ------
        InvalidFileError
            If the file does not hold such a record.
        """
        fields: dict[str, Any] = read_record(
            "RobustAccuracyCurve", path, lambda header, arrays: {**header, **arrays}
        )
        kept = {name: fields[name] for name in cls.__dataclass_fields__}
        pairs = {name: tuple(fields[name]) for name in ("names", "transferred")}
        return cls(**kept | pairs)


def robust_accuracy_curve(
    clf: Any,
    X: ArrayLike,
    y: ArrayLike,
    attacks: Sequence[str] | Mapping[str, str | AttackMethod] = ("pgd", "cw"),
    sizes: ArrayLike = (0.25, 0.5, 0.75, 1.0),
    norm: str = "l2",
    *,
    n_noise: int = 32,
    n_restarts: int = 1,
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    n_votes: int = 1000,
    noise_seed: int | None = None,
    random_state: int = 0,
    autocast: str | None = None,
    path: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> RobustAccuracyCurve:
    """Return what attacks of rising size achieve, beside what is certified for the same inputs.

    An attack of a fixed size is run for each size on the inputs that withstood the smaller ones;
    one that searches for the smallest perturbation is run once. See `attack` for how successes are
    judged. Certificates are drawn from streams that no attack sees.

    Parameters
    ----------
    clf : SmoothedClassifier, or a trained network
        The fitted classifier. One that is not smoothed has no certificates.

    X : array-like of shape (n_inputs, ...)
        The inputs.

    y : array-like of shape (n_inputs,)
        Their labels.

    attacks : sequence of str, or mapping of str to str or AttackMethod, default=("pgd", "cw")
        The attacks: names in `METHODS`, or attacks by names of your own, `Transfer` among them.

    sizes : array-like of float, shape (n_sizes,)
        Sizes of the attacks in rising order, 0 allowed, in the units of `X`.

    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of a perturbation.

    n_noise : int, default=32
        Draws that an attack averages over.

    n_restarts : int, default=1
        How often each input is attacked at each size, until that succeeds.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates.

    n_votes : int, default=1000
        Draws by which an attacked input is judged, and as many by which it is confirmed.

    noise_seed : int or None, default=None
        Seed of all noise; None is that of the classifier.

    random_state : int, default=0
        Seed of what the attacks themselves draw.

    autocast : {"bfloat16", "float16"} or None, default=None
        Reduced precision of the passes that attacks make.

    path : str, path-like or None, default=None
        A file to which what is known is saved after every attack and size. A run that was
        interrupted goes on where it stopped.

    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    RobustAccuracyCurve
        The record.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `path` holds another run.

    TypeError
        If an attack needs gradients and the base has none.

    InvalidFileError
        If `path` holds something else.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from randsmooth import SmoothedClassifier
    >>> from randsmooth.attacks import PGD, robust_accuracy_curve
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype("float32") / 16
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 10))
    >>> clf = SmoothedClassifier(net, sigma=0.25, random_state=0).fit(X, y)
    >>> curve = robust_accuracy_curve(clf, X[:20], y[:20], {"pgd": PGD(n_steps=10)}, [0.5, 1.0])
    >>> bool((curve.certified_accuracy() <= curve.robust_accuracy()).all())
    True
    """
    check_choice("norm", norm, NORMS)
    check_count("n_votes", n_votes)
    check_count("n_restarts", n_restarts)
    whom = victim(clf, X, noise_seed=noise_seed)
    inputs = whom.inputs(X)
    labels = whom.classes[class_indices(whom.classes, y, len(inputs))]
    asked = rising_sizes(sizes)
    methods = _methods(attacks)
    settings = {
        "norm": norm,
        "n_noise": n_noise,
        "n_restarts": n_restarts,
        "clip_range": None if clip_range is None else list(clip_range),
        "n_votes": n_votes,
        "noise_seed": whom.noise_seed,
        "random_state": random_state,
        "autocast": autocast,
    }
    run = _CurveRun(clf, whom, inputs, labels, methods, asked, settings, verbose)
    if path is not None and Path(path).exists():
        run.resume(path)
    run.go_on(path)
    return run.record()


def _methods(
    attacks: Sequence[str] | Mapping[str, str | AttackMethod],
) -> dict[str, AttackMethod]:
    if isinstance(attacks, str):
        attacks = [attacks]
    named = dict(attacks) if isinstance(attacks, Mapping) else {name: name for name in attacks}
    if not named:
        raise ValueError(f"attacks must hold at least one attack, got {attacks!r}.")
    return {name: attack_method(method) for name, method in named.items()}


class _CurveRun:
    """The attacks of a curve, one after the other, and what is known so far."""

    def __init__(
        self,
        clf: Any,
        whom: Victim,
        X: NDArray[Any],
        y: NDArray[Any],
        methods: dict[str, AttackMethod],
        sizes: NDArray[np.float64],
        settings: dict[str, Any],
        verbose: int,
    ) -> None:
        self.clf, self.victim, self.X, self.y = clf, whom, X, y
        self.methods, self.sizes, self.settings, self.verbose = methods, sizes, settings, verbose
        self.done: list[tuple[str, int]] = []
        # As attacks are confirmed, so that what is wrong without one is not attacked at all.
        votes, errors = whom.votes(X, Stream.CONFIRMATION, settings["n_votes"])
        distance = np.where(whom.classes[votes.argmax(axis=1)] == y, np.inf, 0.0)
        distance[list(errors)] = np.nan
        self.distance = np.tile(distance, (len(methods), 1))
        self.radius: NDArray[np.float64] | None = None
        self.identity = {
            **settings,
            "sizes": sizes.tolist(),
            "attacks": {name: described(method) for name, method in methods.items()},
            "X": _digest(X),
            "y": _digest(storable(y)),
            "votes": _digest(votes),
        }

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Take over what an earlier run left, if it was the same run."""
        kept = RobustAccuracyCurve.load(path)
        theirs = kept.facts.get("run", {})
        ours = json.loads(json.dumps(self.identity))
        differing = [key for key in ours if theirs.get(key) != ours[key]]
        if differing:
            raise ValueError(
                f"path must be a new file or one of the same run, got {os.fspath(path)!r}, whose "
                f"{', '.join(differing)} differ. Hand in another path."
            )
        self.distance, self.radius = kept.distance.copy(), kept.certified_radius.copy()
        self.done = [(name, k) for name, k in kept.facts["done"]]

    def go_on(self, path: str | os.PathLike[str] | None) -> None:
        """Run what has not been run."""
        if self.radius is None:
            self.radius = self._certified_radius()
        for row, (name, method) in enumerate(self.methods.items()):
            for k in [0] if method.minimal else range(len(self.sizes)):
                if (name, k) in self.done:
                    continue
                self._attack(row, method, None if method.minimal else float(self.sizes[k]))
                self.done.append((name, k))
                if path is not None:
                    self.record().save(path)

    def record(self) -> RobustAccuracyCurve:
        """Return what is known."""
        radius = np.zeros(len(self.X)) if self.radius is None else self.radius
        return RobustAccuracyCurve(
            sizes=self.sizes,
            distance=self.distance.copy(),
            certified_radius=radius,
            y=self.y,
            norm=self.settings["norm"],
            names=tuple(self.methods),
            transferred=tuple(isinstance(m, Transfer) for m in self.methods.values()),
            settings={name: described(method) for name, method in self.methods.items()},
            facts={
                "run": self.identity,
                "done": [list(pair) for pair in self.done],
                "noise": None if self.victim.noise is None else repr(self.victim.noise),
                "alpha": getattr(self.clf, "alpha", None),
                "versions": imported_versions(),
            },
        )

    def _attack(self, row: int, method: AttackMethod, size: float | None) -> None:
        """Attack what an attack has not changed yet, and note how large a change it took."""
        left = np.flatnonzero(np.isinf(self.distance[row]))
        if not len(left):
            return
        result = self._result(method, left, size)
        found = np.where(result.success, result.distance, np.inf)
        self.distance[row, left] = np.where(np.isnan(result.distance), np.nan, found)

    def _result(
        self, method: AttackMethod, rows: NDArray[np.intp], size: float | None
    ) -> AttackResult:
        # At size 0 there is nothing to attack: a step that rounds to none is the input itself.
        tiny = np.finfo(self.X.dtype).tiny
        settings = dict(self.settings)
        n_restarts = settings.pop("n_restarts")
        run = AttackRun(
            self.clf,
            self.X[rows],
            self.y[rows],
            method,
            eps=tiny if size == 0 else size,
            frozen=None,
            seed=settings.pop("random_state"),
            verbose=self.verbose,
            **settings,
        )
        try:
            return run.result(n_restarts, all_right=True)
        except AttackError as error:
            partial: AttackResult = error.result
            return partial

    def _certified_radius(self) -> NDArray[np.float64]:
        if self.victim.noise is None:
            return np.zeros(len(self.X))
        record = self.clf.certificates(self.X, noise_seed=self.settings["noise_seed"])
        radius = np.where((record.label == self.y) & ~record.abstained, record.radius, 0.0)
        return converted_radius(
            radius,
            norm=self.victim.noise.norm,
            to=self.settings["norm"],
            dimension=int(np.prod(self.victim.input_shape)),
        )


def _digest(array: NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()
