"""The attacks of a curve, one after the other, and what is known so far."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from randsmooth._archive import storable
from randsmooth.attacks.arguments import class_indices
from randsmooth.attacks.curve import RobustAccuracyCurve
from randsmooth.attacks.identity import (
    array_digest,
    certification_identity,
    described,
    trained_identity,
)
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.result import AttackResult
from randsmooth.attacks.run import AttackRun
from randsmooth.attacks.transfer import Transfer
from randsmooth.attacks.victim import Victim
from randsmooth.bounds.norms import converted_radius
from randsmooth.certificates.from_counts import imported_versions
from randsmooth.exceptions import (
    AttackError,
    AttackFailedWarning,
    CertificationError,
    InvalidFileError,
)
from randsmooth.noise import Stream

__all__ = ["CurveRun"]

# What seems to break a certificate is judged again by so many times the votes, up to a most.
_TIMES, _MOST_VOTES = 100, 100_000


class CurveRun:
    """The attacks of a curve, checked when they are handed in.

    Parameters
    ----------
    target : Victim
        The classifier.

    X : array-like of shape (n_inputs, ...)
        The inputs, as the user handed them in.

    y : array-like of shape (n_inputs,)
        Their labels.

    methods : dict of str to AttackMethod
        The attacks by name.

    sizes : ndarray of float64, shape (n_sizes,)
        Sizes of the attacks, in rising order.

    settings : dict
        What all attacks have in common.

    verbose : int
        Whether to show progress.
    """

    def __init__(
        self,
        target: Victim,
        X: ArrayLike,
        y: ArrayLike,
        methods: dict[str, AttackMethod],
        sizes: NDArray[np.float64],
        settings: dict[str, Any],
        verbose: int,
    ) -> None:
        self.target, self.handed_in, self.X = target, X, target.inputs(X)
        self.methods, self.sizes, self.settings, self.verbose = methods, sizes, settings, verbose
        self.codes = class_indices(target.classes, y, len(self.X))
        self.y = target.classes[self.codes]
        for method in methods.values():
            self._attack_run(method, np.arange(len(self.X)), float(sizes[-1]) or 1.0)
        # As attacks are confirmed, so that what is wrong without one is not attacked at all.
        self.votes, errors = target.votes(self.X, Stream.CONFIRMATION, settings["n_votes"])
        distance = np.where(self.votes.argmax(axis=1) == self.codes, np.inf, 0.0)
        distance[list(errors)] = np.nan
        self.distance = np.tile(distance, (len(methods), 1))
        self.failures = {name: _messages(errors) for name in methods}
        self.uncertified: dict[str, str] = {}
        self.radius: NDArray[np.float64] | None = None
        self.broken: list[tuple[int, NDArray[Any]]] = []
        self.done: list[tuple[str, int]] = []
        self.identity = self._identity()

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Take over what an earlier run left, if it was the same run.

        Parameters
        ----------
        path : str or path-like
            Its file.

        Raises
        ------
        ValueError
            If it was another run.

        InvalidFileError
            If the file holds something else.
        """
        kept, name = RobustAccuracyCurve.load(path), os.fspath(path)
        theirs, ours = kept.facts.get("run"), json.loads(json.dumps(self.identity))
        if not isinstance(theirs, dict):
            raise InvalidFileError(f"{name} holds a record that does not say how it was made.")
        differing = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
        if differing:
            raise ValueError(
                f"path must be a new file or one of the same run, got {name!r}, whose "
                f"{', '.join(differing)} differ. Hand in another path."
            )
        try:
            self.done = [(attack, int(k)) for attack, k in kept.facts["done"]]
            failures = kept.facts["failures"]
            self.failures = {attack: dict(failures[attack]) for attack in self.methods}
            self.uncertified = dict(kept.facts["uncertified"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidFileError(f"{name} does not say what was done: {error!r}") from error
        self.distance, self.radius = kept.distance.copy(), kept.certified_radius.copy()
        self.broken = list(zip(kept.broken_rows.tolist(), kept.broken_inputs, strict=True))

    def go_on(self, path: str | os.PathLike[str] | None) -> None:
        """Run what has not been run.

        Parameters
        ----------
        path : str, path-like or None
            Where to save what is known.

        Raises
        ------
        TypeError
            If a model could not be known again in what is saved.
        """
        if path is not None and '"model": null' in json.dumps(self.identity):
            raise TypeError(
                "path must be None where a classifier is of a class that cannot be imported, by "
                "which a later run would know it again. Move the class into a module."
            )
        if self.radius is None:
            self.radius = self._certified_radius()
            wrong = np.flatnonzero((self.distance == 0).all(axis=0) & (self.radius > 0))
            self._judge_again(wrong, self.X[wrong], self.votes[wrong].argmax(axis=1))
            self._save(path)
        for name, method in self.methods.items():
            for k in [0] if method.minimal else np.flatnonzero(self.sizes > 0).tolist():
                if (name, k) not in self.done:
                    self._attack(name, method, float(self.sizes[k]))
                    self.done.append((name, k))
                    self._save(path)

    def report(self) -> None:
        """Say what went wrong with which inputs.

        Raises
        ------
        AttackError
            If an attack failed on every input that it was tried on.
        """
        for row, (name, failures) in enumerate(self.failures.items()):
            failed = np.isnan(self.distance[row])
            if failed.any() and not (self.distance[row] > 0).any():
                first = next(iter({**failures, **self.uncertified}.values()))
                raise AttackError(
                    f"attacks must work on some input, got {name!r}, which failed on all "
                    f"{failed.sum()} that it was tried on; the first: {first}. What came of the "
                    f"others is in this error's `result`.",
                    self.record(),
                    np.flatnonzero(failed),
                )
        kinds = {**self.failures, "certificates": self.uncertified}
        messages = [(name, text) for name, failed in kinds.items() for text in failed.values()]
        if messages:
            n_failed = np.isnan(self.distance).any(axis=0).sum()
            warnings.warn(
                f"{n_failed} of {len(self.X)} inputs failed in some attack, the first in "
                f"{messages[0][0]!r}: {messages[0][1]}. They are NaN there; facts['failures'] and "
                f"facts['uncertified'] of the record say why.",
                AttackFailedWarning,
                stacklevel=3,
            )

    def record(self) -> RobustAccuracyCurve:
        """Return what is known.

        Returns
        -------
        RobustAccuracyCurve
            The record.
        """
        rows = [row for row, _ in self.broken]
        return RobustAccuracyCurve(
            sizes=self.sizes,
            distance=self.distance.copy(),
            certified_radius=np.zeros(len(self.X)) if self.radius is None else self.radius,
            y=self.y,
            norm=self.settings["norm"],
            names=tuple(self.methods),
            transferred=tuple(isinstance(m, Transfer) for m in self.methods.values()),
            settings={name: described(method) for name, method in self.methods.items()},
            facts={
                "run": self.identity,
                "done": [list(pair) for pair in self.done],
                "failures": {name: dict(failed) for name, failed in self.failures.items()},
                "uncertified": dict(self.uncertified),
                "noise": None if self.target.noise is None else repr(self.target.noise),
                "alpha": getattr(self.target.clf, "alpha", None),
                "versions": imported_versions(),
            },
            broken_rows=np.array(rows, dtype=np.intp),
            broken_inputs=np.array([x for _, x in self.broken]) if rows else self.X[:0],
        )

    def _identity(self) -> dict[str, Any]:
        """Return everything that the results depend on, as JSON has it."""
        clip_range = self.settings["clip_range"]
        return {
            **trained_identity(self.target.clf),
            **certification_identity(self.target.clf),
            **self.settings,
            "noise_seed": self.target.noise_seed,
            "clip_range": None if clip_range is None else list(map(float, clip_range)),
            "sizes": self.sizes.tolist(),
            "attacks": {name: described(method) for name, method in self.methods.items()},
            "X": array_digest(self.X),
            "y": array_digest(storable(self.y)),
            "votes": array_digest(self.votes),
        }

    def _save(self, path: str | os.PathLike[str] | None) -> None:
        if path is not None:
            self.record().save(path)

    def _attack_run(self, method: AttackMethod, rows: NDArray[np.intp], size: float) -> AttackRun:
        settings = {key: value for key, value in self.settings.items() if key != "n_restarts"}
        return AttackRun(
            self.target,
            self.X[rows],
            self.y[rows],
            method,
            eps=None if method.minimal else size,
            frozen=None,
            seed=settings.pop("random_state"),
            verbose=self.verbose,
            **settings,
        )

    def _attack(self, name: str, method: AttackMethod, size: float) -> None:
        """Attack what an attack has not changed yet, and note how large a change it took."""
        row = list(self.methods).index(name)
        left = np.flatnonzero(np.isinf(self.distance[row]))
        if not len(left) or self.radius is None:
            return
        run = self._attack_run(method, left, size)
        try:
            result = run.result(self.settings["n_restarts"], all_right=True)
        except AttackError as error:
            result = error.result
        for within in self.sizes[self.sizes > 0].tolist() if method.minimal else ():
            result = run.lengthened(result, within)
        found = np.where(result.success, result.distance, np.inf)
        self.distance[row, left] = np.where(np.isnan(result.distance), np.nan, found)
        self.failures[name] |= _messages({int(left[i]): error for i, error in run.errors.items()})
        self._judge_found(left, result)

    def _judge_found(self, rows: NDArray[np.intp], result: AttackResult) -> None:
        if self.radius is None:
            return
        within = np.flatnonzero(result.success & (result.distance < self.radius[rows]))
        labels = result.counts[within].argmax(axis=1)
        self._judge_again(rows[within], result.adversarial[within], labels)

    def _judge_again(
        self, rows: NDArray[np.intp], moved: NDArray[Any], labels: NDArray[np.intp]
    ) -> None:
        """Keep the inputs of which many fresh votes say that another label leads.

        That label was chosen by other votes, so that one test of two classes is enough.
        """
        if not len(rows):
            return
        n_votes = min(_TIMES * self.settings["n_votes"], _MOST_VOTES)
        votes, errors = self.target.votes(moved, Stream.REVIEW, n_votes)
        each = np.arange(len(rows))
        own, other = votes[each, self.codes[rows]], votes[each, labels]
        broken = binom.sf(other - 1, own + other, 0.5) <= self.target.clf.alpha
        if self.target.noise is not None and self.target.noise.n_outcomes is not None:
            broken = other > own  # these are all the votes there are
        broken[list(errors)] = False
        self.broken += [(int(rows[i]), moved[i]) for i in np.flatnonzero(broken)]

    def _certified_radius(self) -> NDArray[np.float64]:
        """Return the certified radii in the norm of the attacks; what fails is not attacked."""
        if self.target.noise is None:
            return np.zeros(len(self.X))
        clf = self.target.clf
        try:
            record = clf.certificates(self.handed_in, noise_seed=self.target.noise_seed)
        except CertificationError as error:
            record = error.certificates
            reason = error.__cause__ or error
            self.uncertified = _messages({int(row): reason for row in error.failed})
            self.distance[:, error.failed] = np.nan
        holds = (record.label == self.y) & ~record.abstained & ~np.isnan(self.distance).all(axis=0)
        radius = np.where(holds, record.radius, 0.0)
        return converted_radius(
            radius,
            norm=self.target.noise.norm,
            to=self.settings["norm"],
            dimension=int(np.prod(self.target.input_shape)),
        )


def _messages(errors: dict[int, Any]) -> dict[str, str]:
    """Return errors as text, by rows as JSON has them."""
    return {str(row): f"{type(error).__name__}: {error}" for row, error in errors.items()}
