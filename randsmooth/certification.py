"""One run over some inputs: selection, estimation by one of three rules, and the record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from randsmooth._progress import announce
from randsmooth.batch_size import BatchSize, automatic_batch_size
from randsmooth.certificates import Certificates, certify_counts
from randsmooth.certificates.from_outcomes import certify_outcomes
from randsmooth.certificates.from_sequence import certify_claims
from randsmooth.certificates.radii import certifying_probabilities
from randsmooth.certificates.rules import asked_radii
from randsmooth.exceptions import CertificationError
from randsmooth.fitting import base_of_fitted, input_dtype
from randsmooth.inputs import inputs_as_fitted
from randsmooth.intervals import sequential_tests
from randsmooth.noise import Stream
from randsmooth.noise_bank import Ballot
from randsmooth.parallel import Tally, count_in_chunks
from randsmooth.parameters import (
    check_parameters,
    checked_seed,
    most_draws,
    two_stage_of,
    warn_of_too_few_draws,
    warn_of_vain_radii,
)
from randsmooth.readings import Reading, Votes
from randsmooth.speed import Speed
from randsmooth.stopping import FixedDraws, PlannedDraws, SequentialDraws, StoppingRule
from randsmooth.two_stage import TwoStage

__all__ = ["CertificationRun", "ExpectedCost", "certification_run"]


@dataclass(frozen=True)
class ExpectedCost:
    """What a certification is expected to take.

    Parameters
    ----------
    n_draws : float
        Draws of all inputs together, those that choose the classes included.

    seconds : float
        Wall-clock time at the speed measured so far.
    """

    n_draws: float
    seconds: float

    def __str__(self) -> str:
        hours, minutes = divmod(self.seconds / 60, 60)
        span = f"{hours:.0f} h {minutes:.0f} min" if hours else f"{self.seconds:.0f} s"
        return f"about {self.n_draws:,.0f} draws, {span}"


def certification_run(
    clf: Any, X: ArrayLike, noise_seed: int | None = None, *, common_noise: bool | None = None
) -> CertificationRun:
    """Return a run over some inputs, before its first draw.

    Parameters
    ----------
    clf : SmoothedClassifier
        The classifier.

    X : array-like of shape (n_inputs, ...)
        The inputs, as the user handed them in.

    noise_seed : int or None, default=None
        Seed of the noise bank; None is that of the classifier.

    common_noise : bool or None, default=None
        Whether the inputs share their noise; None is as the classifier says.

    Returns
    -------
    CertificationRun
        The run.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the inputs are of another shape than in `fit`.

    NotFittedError
        If the classifier is not fitted.
    """
    check_is_fitted(clf)
    check_parameters(clf)
    seed = clf.noise_seed_ if noise_seed is None else checked_seed(noise_seed)
    array = inputs_as_fitted(clf, X)
    array = array.astype(input_dtype(clf.estimator_, array.dtype), copy=False)
    base = base_of_fitted(clf, array)
    common = clf.common_noise if common_noise is None else common_noise
    return CertificationRun(clf, base, array, seed, common)


class CertificationRun:
    """The draws that some inputs get from a fitted classifier, stage by stage.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    base : Base
        Its base.

    X : ndarray of shape (n_inputs, ...)
        The inputs, of the base's type.

    noise_seed : int
        Seed of the noise bank.

    common_noise : bool
        Whether the inputs share their noise.
    """

    def __init__(
        self, clf: Any, base: Any, X: NDArray[Any], noise_seed: int, common_noise: bool
    ) -> None:
        self.clf, self.X, self.noise_seed = clf, X, noise_seed
        self.started = time.perf_counter()
        # Where every outcome is tried, all inputs get the same ones.
        self.common_noise = bool(common_noise or clf.noise_.n_outcomes)
        self.entrance = clf._memory.recall(
            base,
            X.shape[1:],
            clf.noise_,
            common_noise=self.common_noise,
            speed=Speed(clf.shortcuts, clf.compile, clf.autocast),
        )
        self.batch_size = (
            automatic_batch_size(self.entrance.base, self.entrance.row_shape)
            if clf.batch_size == "auto"
            else BatchSize(int(clf.batch_size))
        )
        self.errors: dict[int, Exception] = {}
        self.n_drawn = 0

    def label_votes(self) -> NDArray[np.int64]:
        """Return the votes that choose the class of each input, of which none may have failed."""
        votes = self.selection()
        if self.errors:
            raise CertificationError.of_rows(self.errors)
        return votes

    def certificates(self, radii: ArrayLike | None) -> Certificates:
        """Return the record: of the radii asked about, or of the largest radius there is.

        Parameters
        ----------
        radii : array-like of float or None
            Radii to decide about, None for the largest.

        Returns
        -------
        Certificates
            The record.

        Raises
        ------
        CertificationError
            If some inputs could not be classified. It keeps the record of the others.
        """
        if self.clf.noise_.n_outcomes is not None:
            record = self._exact(radii)
        else:
            record = self._fixed() if radii is None else self._sequential(asked_radii(radii))
        if self.errors:
            raise CertificationError.of_rows(self.errors, record)
        return record

    def expected_cost(self, radii: ArrayLike | None) -> ExpectedCost:
        """Return what `certificates` would take, after drawing what chooses the classes.

        Parameters
        ----------
        radii : array-like of float or None
            As for `certificates`.

        Returns
        -------
        ExpectedCost
            Draws and seconds.
        """
        selection = self.selection()
        if self.clf.noise_.n_outcomes is not None:
            return self._cost(FixedDraws(0, len(self.X)))
        if radii is None:
            return self._cost(self._plan(selection))
        return self._cost(self._sequence(selection, asked_radii(radii))[0])

    # -- the rules -----------------------------------------------------------------------

    def _fixed(self) -> Certificates:
        warn_of_too_few_draws(self.clf)
        selection = self.selection()
        rule = self._plan(selection)
        self._announce(rule)
        estimation = self.tally(Stream.ESTIMATION, rule)
        failed = np.array(sorted(self.errors), dtype=np.intp)
        selection[failed], estimation.counts[failed] = 0, 0
        return certify_counts(
            selection,
            estimation.counts,
            noise=self.clf.noise_,
            alpha=self.clf.alpha,
            bound=self.clf.bound,
            **self.facts(estimation.counts),
        )

    def _exact(self, radii: ArrayLike | None) -> Certificates:
        """Return the record of noise whose outcomes have all been tried: nothing is random."""
        counts = self.selection()
        counts[np.array(sorted(self.errors), dtype=np.intp)] = 0
        return certify_outcomes(
            counts,
            noise=self.clf.noise_,
            radii=None if radii is None else asked_radii(radii),
            **self.facts(counts),
        )

    def _plan(self, selection: NDArray[np.int64]) -> StoppingRule:
        """Return the rule of a run without radii; a pilot is drawn where one is asked for."""
        two_stage: TwoStage | None = two_stage_of(self.clf.n_estimation)
        if two_stage is None:
            return FixedDraws(self.clf.n_estimation, len(self.X))
        pilot = self.tally(Stream.PILOT, FixedDraws(two_stage.n_pilot, len(self.X)))
        planned = two_stage.n_draws(
            pilot.counts,
            selection.argmax(axis=1),
            alpha=self.clf.alpha,
            bound=self.clf.bound,
            noise=self.clf.noise_,
        )
        return PlannedDraws(planned)

    def _sequential(self, radii: NDArray[np.float64]) -> Certificates:
        selection = self.selection()
        rule, bound, p0 = self._sequence(selection, radii)
        warn_of_vain_radii(radii, p0, most_draws(self.clf.n_estimation), self.clf.alpha)
        self._announce(rule)
        estimation = self.tally(Stream.ESTIMATION, rule)
        failed = np.array(sorted(self.errors), dtype=np.intp)
        selection[failed], estimation.counts[failed], estimation.claimed[failed] = 0, 0, 0
        return certify_claims(
            selection,
            estimation.counts,
            estimation.claimed,
            radii=radii,
            p0=p0,
            noise=self.clf.noise_,
            bound=bound,
            alpha=self.clf.alpha,
            **self.facts(estimation.counts),
        )

    def _sequence(
        self, selection: NDArray[np.int64], radii: NDArray[np.float64]
    ) -> tuple[SequentialDraws, str, NDArray[np.float64]]:
        bound, p0 = certifying_probabilities(radii, self.clf.noise_, self.clf.bound)
        n_max = most_draws(self.clf.n_estimation)
        tests = sequential_tests(p0, self.clf.alpha, n_max)
        return SequentialDraws(tests, selection), bound, p0

    # -- parts ---------------------------------------------------------------------------------

    def selection(self) -> NDArray[np.int64]:
        """Return the votes that choose the class; all there can be, where that is a number.

        Returns
        -------
        ndarray of int64, shape (n_inputs, n_classes)
            The votes.
        """
        n_draws = self.clf.noise_.n_outcomes or self.clf.n_selection
        return self.tally(Stream.SELECTION, FixedDraws(n_draws, len(self.X))).counts

    def tally(self, stream: Stream, rule: StoppingRule, reading: Reading | None = None) -> Tally:
        """Return the votes for each class, or what else is noted; failing inputs are errors.

        Parameters
        ----------
        stream : Stream
            What the draws are for.

        rule : StoppingRule
            How many there are.

        reading : Reading or None, default=None
            What is noted instead of votes.

        Returns
        -------
        Tally
            The table, without the column for draws on which there was nothing to note.
        """
        reading = reading or Votes(self.entrance.base.n_classes)
        tally = count_in_chunks(
            self.entrance,
            self.X,
            Ballot(self.clf.noise_, self.noise_seed, stream, self.common_noise),
            rule,
            batch_size=self.batch_size,
            reading=reading,
            n_jobs=self.clf.n_jobs,
            description=f"{stream.name.lower()} draws",
            verbose=self.clf.verbose,
        )
        n_draws = reading.n_draws(tally.counts)
        self.n_drawn += int(n_draws.sum())
        for row in np.flatnonzero(tally.counts[:, -1]):
            tally.errors[int(row)] = ValueError(
                f"{tally.counts[row, -1]} of {n_draws[row]} {reading.missing}"
            )
        self.errors = {**tally.errors, **self.errors}
        return Tally(tally.counts[:, :-1], tally.claimed, tally.errors)

    def _cost(self, rule: StoppingRule) -> ExpectedCost:
        per_draw = (time.perf_counter() - self.started) / max(self.n_drawn, 1)
        n_draws = self.n_drawn + rule.expected_draws()
        return ExpectedCost(n_draws, n_draws * per_draw)

    def _announce(self, rule: StoppingRule) -> None:
        if self.clf.verbose:
            announce(f"{len(self.X)} inputs: {self._cost(rule)}")

    def facts(self, counts: NDArray[np.int64]) -> dict[str, Any]:
        """Return what a record says of the run, apart from the votes.

        Parameters
        ----------
        counts : ndarray of int64, shape (n_inputs, n_classes)
            The estimation votes, which tell the share of each input in the time.

        Returns
        -------
        dict
            Fields of the record.
        """
        chosen_by = 0 if self.clf.noise_.n_outcomes else self.clf.n_selection
        n_draws = counts.sum(axis=1) + chosen_by
        elapsed = time.perf_counter() - self.started
        return {
            "classes": self.clf.classes_,
            "noise_seed": self.noise_seed,
            "seconds": elapsed * n_draws / max(n_draws.sum(), 1),
            "execution": {
                "common_noise": self.common_noise,
                **self.entrance.execution,
            },
        }
