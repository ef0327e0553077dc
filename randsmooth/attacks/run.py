"""One attack on some inputs, from the search to its confirmation by fresh votes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth._progress import progress_bar
from randsmooth.attacks.arguments import class_indices, clip_limits, eps_of_each
from randsmooth.attacks.identity import described
from randsmooth.attacks.method import AttackMethod, Question, norms_of
from randsmooth.attacks.result import AttackResult
from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import NoGradientsError, Victim
from randsmooth.checks import check_count
from randsmooth.exceptions import AttackError
from randsmooth.noise import Stream

__all__ = ["AttackRun"]

# A minimal perturbation, found on few draws, is looked for anew along its ray: at so many times its
# length until another class leads by so many standard deviations, and then in so many bisections.
_TIMES, _N_BISECTIONS, _LEAD = (1.25, 2.0, 4.0, 8.0), 7, 3.0

_ROWS = 2048  # noisy copies that are attacked at once


class AttackRun:
    """One attack on some inputs, from the checks to the confirmation."""

    def __init__(
        self,
        target: Victim,
        X: NDArray[Any],
        y: ArrayLike,
        method: AttackMethod,
        *,
        norm: str,
        eps: ArrayLike | None,
        n_noise: int,
        frozen: bool | None,
        clip_range: tuple[float, float] | None,
        n_votes: int,
        seed: int,
        autocast: str | None,
        verbose: int,
    ) -> None:
        check_count("n_votes", n_votes)
        check_count("random_state", seed, least=0)
        if norm not in method.norms:
            names = " or ".join(map(repr, method.norms))
            raise ValueError(f"norm must be {names} for {method.name!r}, got {norm!r}.")
        self.victim, self.method, self.norm, self.X = target, method, norm, X
        self.n_votes, self.seed, self.verbose = n_votes, seed, verbose
        self.module = SmoothedModule(
            self.victim,
            n_noise,
            frozen=method.frozen if frozen is None else frozen,
            average=method.average,
            autocast=autocast,
        )
        self.codes = class_indices(self.victim.classes, y, len(self.X))
        self.eps = eps_of_each(eps, len(self.X), method)
        self.clip_range = clip_limits(clip_range, self.X, self.eps, method)
        method.check_target(self.victim, self.X)
        self.errors: dict[int, Exception] = {}

    def result(self, n_restarts: int, *, all_right: bool = False) -> AttackResult:
        """Return what came of it; inputs that are known to be right need no votes for that."""
        moved, every = self.X.copy(), np.arange(len(self.X))
        left = every if all_right else np.flatnonzero(self.right())
        with progress_bar(
            len(left) * n_restarts,
            description=self.method.name,
            unit="inputs",
            verbose=self.verbose,
        ) as advance:
            for restart in range(n_restarts):
                for rows in self._batches(left):
                    moved[rows] = self._moved(rows, restart)
                    advance(len(rows))
                left = self._withstanding(moved, left[~np.isin(left, list(self.errors))])
        counts = self.judged(moved, every, Stream.CONFIRMATION)
        distance = self._distances(moved, every)
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

    def lengthened(self, result: AttackResult, size: float) -> AttackResult:
        """Go as far as a size allows where the smallest perturbation that was found is longer.

        Another class leads clearly at that one; on the way to it one may lead already, which is
        decided as for attacks of a given size.

        Parameters
        ----------
        result : AttackResult
            What this attack, a minimal one, came to.

        size : float
            Largest norm of what is tried.

        Returns
        -------
        AttackResult
            The same, with what has another class within this size moved by at most as much.
        """
        far = (result.distance > size) | ((result.distance > 0) & ~result.success)
        rows = np.flatnonzero(far)
        x = torch.from_numpy(self.X[rows])
        delta = torch.from_numpy(result.adversarial[rows]).double() - x.double()
        factor = size / norms_of(delta, self.norm).reshape(-1, *[1] * (x.ndim - 1))
        low, high = self.clip_range
        delta = (x.double() + factor * delta).clamp(low, high) - x.double()
        moved = result.adversarial.copy()
        moved[rows] = self._within(x, delta, torch.full((len(rows),), size)).numpy()
        for stream in (Stream.JUDGEMENT, Stream.CONFIRMATION):
            counts = self.judged(moved[rows], rows, stream)
            wrong = counts.argmax(axis=1) != self.codes[rows]
            wrong &= ~np.isin(rows, list(self.errors))
            rows, counts = rows[wrong], counts[wrong]
        changed = np.isin(np.arange(len(moved)), rows)
        adversarial, distance = result.adversarial.copy(), result.distance.copy()
        all_counts, label = result.counts.copy(), result.label.copy()
        adversarial[rows], all_counts[rows] = moved[rows], counts
        label[rows] = self.victim.classes[counts.argmax(axis=1)]
        distance[rows] = self._distances(moved[rows], rows)
        return self._without_failures(
            replace(
                result,
                adversarial=adversarial,
                success=result.success | changed,
                distance=distance,
                label=label,
                counts=all_counts,
            )
        )

    def right(self) -> NDArray[np.bool_]:
        """Return which inputs keep their label as they are.

        They are judged as in the end, so that an undecided one is wrong both times or not at all.
        """
        votes = self.judged(self.X, np.arange(len(self.X)), Stream.CONFIRMATION)
        right: NDArray[np.bool_] = votes.argmax(axis=1) == self.codes
        return right

    def judged(
        self, moved: NDArray[Any], rows: NDArray[np.intp], stream: Stream
    ) -> NDArray[np.int64]:
        """Return the votes for some inputs, moved; those that fail are errors."""
        counts, errors = self.victim.votes(moved, stream, self.n_votes)
        self.errors = {int(rows[i]): error for i, error in errors.items()} | self.errors
        return counts

    def _distances(self, moved: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return how far some inputs were moved."""
        # In double precision, in which the difference of two single numbers is exact.
        delta = torch.from_numpy(moved).double() - torch.from_numpy(self.X[rows]).double()
        lengths: NDArray[np.float64] = norms_of(delta, self.norm).numpy()
        return lengths

    def _batches(self, rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        size = max(1, _ROWS // self.module.n_noise)
        yield from (rows[i : i + size] for i in range(0, len(rows), size))

    def _moved(self, rows: NDArray[np.intp], restart: int) -> NDArray[Any]:
        """Return some inputs, moved; of a batch that fails, each is tried by itself."""
        self.module.rewind(restart)
        try:
            return self._inside(rows, self.method.perturb(self._question(rows, restart)))
        except (NoGradientsError, ImportError):
            raise
        except Exception as error:  # whatever a base may raise: one input costs that input
            if len(rows) > 1:
                return np.concatenate(
                    [self._moved(rows[i : i + 1], restart) for i in range(len(rows))]
                )
            self.errors[int(rows[0])] = error
            return self.X[rows]

    def _question(self, rows: NDArray[np.intp], restart: int) -> Question:
        on = self.module.device
        others = self.X[~np.isin(np.arange(len(self.X)), list(self.errors))]
        return Question(
            self.module,
            torch.from_numpy(self.X[rows]).to(on),
            torch.from_numpy(self.codes[rows]).to(on),
            self.norm,
            torch.from_numpy(self.eps[rows]).to(on),
            self.clip_range,
            torch.from_numpy(others).to(on),
            self.seed + restart,
        )

    def _inside(self, rows: NDArray[np.intp], found: Tensor) -> NDArray[Any]:
        """Return what was found, shortened by what rounding put outside."""
        x = torch.from_numpy(self.X[rows])
        eps = torch.from_numpy(self.eps[rows])
        found = found.cpu()
        known = torch.isfinite(found).flatten(1).all(dim=1)
        for row in rows[~known.numpy()]:
            self.errors[int(row)] = FloatingPointError(self.method.nothing)
        found[~known] = x[~known]
        found = found.clamp(*self.clip_range)
        if not self.method.minimal:
            found = self._within(x, found.double() - x.double(), eps)
        return found.numpy()

    def _within(self, x: Tensor, delta: Tensor, eps: Tensor) -> Tensor:
        """Return inputs moved in some directions, as far as they go but no further than eps."""
        shrink = (eps / norms_of(delta, self.norm)).clamp_max(1.0).nan_to_num(1.0)
        wanted = x.double() + delta * shrink.reshape(-1, *[1] * (x.ndim - 1)) * (1 - 2.0**-40)
        found = wanted.to(x.dtype)
        # What was rounded away from the input goes one step back: no coordinate is too far then.
        away = (found.double() - x.double()).abs() > (wanted - x.double()).abs()
        return torch.where(away, torch.nextafter(found, x), found)

    def _withstanding(self, moved: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return which inputs keep their label; minimal perturbations are first brought close."""
        if not len(rows):
            return rows
        if not self.method.minimal:
            votes = self.judged(moved[rows], rows, Stream.JUDGEMENT)
            kept: NDArray[np.intp] = rows[votes.argmax(axis=1) == self.codes[rows]]
            return kept
        delta = moved[rows] - self.X[rows]
        nearest, furthest, beyond = self._bracket(rows, delta)
        for _ in range(_N_BISECTIONS):
            middle = (nearest + furthest) / 2
            away = self._led_away(rows, middle, delta)
            furthest, nearest = np.where(away, middle, furthest), np.where(away, nearest, middle)
        moved[rows] = self._along(rows, furthest, delta)
        return rows[~beyond]

    def _bracket(
        self, rows: NDArray[np.intp], delta: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """Return multiples between which another class takes the lead, and where one does."""
        nearest, furthest = np.zeros(len(rows)), np.full(len(rows), _TIMES[0])
        beyond = self._led_away(rows, furthest, delta)
        for times in _TIMES[1:]:
            on = np.flatnonzero(~beyond)
            if not len(on):
                break
            nearest[on], furthest[on] = furthest[on], times
            beyond[on] = self._led_away(rows[on], furthest[on], delta[on])
        furthest[~beyond] = _TIMES[0]  # as far as the attack itself thought enough
        nearest[~beyond] = 0
        return nearest, furthest, beyond

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
        counts = self.judged(self._along(rows, factor, delta), rows, Stream.JUDGEMENT)
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
            "autocast": self.module.autocast,
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
