"""One run over some inputs: selection, estimation by one of three rules, and the record."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from threading import Event
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
from randsmooth.store.votes import BlockVotes
from randsmooth.two_stage import TwoStage

__all__ = ["CertificationRun", "ExpectedCost", "certification_run", "run_over"]


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
    return run_over(clf, inputs_as_fitted(clf, X), noise_seed, common_noise=common_noise)


def run_over(
    clf: Any,
    array: NDArray[Any],
    noise_seed: int | None = None,
    *,
    common_noise: bool | None = None,
) -> CertificationRun:
    """Return a run over inputs that have been checked; see `certification_run`.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    array : ndarray of float32 or float64, shape (n_inputs, ...)
        The inputs.

    noise_seed : int or None, default=None
        Seed of the noise bank; None is that of the classifier.

    common_noise : bool or None, default=None
        Whether the inputs share their noise; None is as the classifier says.

    Returns
    -------
    CertificationRun
        The run.
    """
    check_parameters(clf)
    seed = clf.noise_seed_ if noise_seed is None else checked_seed(noise_seed)
    array = array.astype(input_dtype(clf.estimator_, array.dtype), copy=False)
    common = clf.common_noise if common_noise is None else common_noise
    return CertificationRun(clf, base_of_fitted(clf, array), array, seed, common)


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
        self.stop: Event | None = None

    def anew(self, X: NDArray[Any], stop: Event | None = None) -> CertificationRun:
        """Return a run over other inputs, which shares what was found out about the base.

        Parameters
        ----------
        X : ndarray of shape (n_inputs, ...)
            The inputs, of the base's type.

        stop : threading.Event or None, default=None
            Ends the run soon after it is set.

        Returns
        -------
        CertificationRun
            The run, before its first draw.
        """
        run = copy.copy(self)
        run.X, run.started, run.errors, run.n_drawn = X, time.perf_counter(), {}, 0
        run.stop = stop
        return run

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
        asked = None if radii is None else asked_radii(radii)
        self.warn(asked)
        record = self.record(self.votes(asked), asked)
        if self.errors:
            raise CertificationError.of_rows(self.errors, record)
        return record

    def warn(self, radii: NDArray[np.float64] | None) -> None:
        """Warn where the draws that were asked for can never certify what was asked for.

        Parameters
        ----------
        radii : ndarray of float64, shape (n_radii,), or None
            Radii to decide about, None for the largest.
        """
        if radii is not None and self.clf.noise_.n_outcomes is None:
            _, p0 = certifying_probabilities(radii, self.clf.noise_, self.clf.bound)
            warn_of_vain_radii(radii, p0, most_draws(self.clf.n_estimation), self.clf.alpha)
        elif self.clf.noise_.n_outcomes is None:
            warn_of_too_few_draws(self.clf)

    def votes(self, radii: NDArray[np.float64] | None) -> BlockVotes:
        """Return the votes behind a record.

        Parameters
        ----------
        radii : ndarray of float64, shape (n_radii,), or None
            Radii to decide about, None for the largest.

        Returns
        -------
        BlockVotes
            The votes. Inputs that failed have none.
        """
        selection = self.selection()
        if self.clf.noise_.n_outcomes is not None:  # nothing is random: all votes are there
            counts, claimed = selection, np.zeros(len(self.X), dtype=np.int64)
        else:
            rule = self._rule(selection, radii)
            self._announce(rule)
            estimation = self.tally(Stream.ESTIMATION, rule)
            counts, claimed = estimation.counts, estimation.claimed
        failed = np.array(sorted(self.errors), dtype=np.intp)
        selection[failed], counts[failed], claimed[failed] = 0, 0, 0
        return BlockVotes(selection, counts, claimed, self._seconds(counts), dict(self.errors))

    def record(self, votes: BlockVotes, radii: NDArray[np.float64] | None) -> Certificates:
        """Return the record of some votes.

        Parameters
        ----------
        votes : BlockVotes
            The votes.

        radii : ndarray of float64, shape (n_radii,), or None
            The radii that they decided about, None for the largest.

        Returns
        -------
        Certificates
            One row per input. Those that failed abstain.
        """
        noise, alpha = self.clf.noise_, self.clf.alpha
        facts = {**self.facts(), "noise": noise, "seconds": votes.seconds}
        if noise.n_outcomes is not None:
            return certify_outcomes(votes.counts, radii=radii, **facts)
        if radii is None:
            return certify_counts(
                votes.selection, votes.counts, alpha=alpha, bound=self.clf.bound, **facts
            )
        bound, p0 = certifying_probabilities(radii, noise, self.clf.bound)
        return certify_claims(
            votes.selection,
            votes.counts,
            votes.claimed,
            radii=radii,
            p0=p0,
            bound=bound,
            alpha=alpha,
            **facts,
        )

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
        return self._cost(self._rule(selection, None if radii is None else asked_radii(radii)))

    # -- the rules -----------------------------------------------------------------------

    def _rule(
        self, selection: NDArray[np.int64], radii: NDArray[np.float64] | None
    ) -> StoppingRule:
        if radii is None:
            return self._plan(selection)
        _, p0 = certifying_probabilities(radii, self.clf.noise_, self.clf.bound)
        tests = sequential_tests(p0, self.clf.alpha, most_draws(self.clf.n_estimation))
        return SequentialDraws(tests, selection)

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
            stop=self.stop,
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

    def facts(self) -> dict[str, Any]:
        """Return what a record says of the run, apart from the votes and their time.

        Returns
        -------
        dict
            Fields of the record.
        """
        return {
            "classes": self.clf.classes_,
            "noise_seed": self.noise_seed,
            "execution": {
                "common_noise": self.common_noise,
                **self.entrance.execution,
            },
        }

    def _seconds(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of each input in the time, by its draws."""
        chosen_by = 0 if self.clf.noise_.n_outcomes else self.clf.n_selection
        n_draws = counts.sum(axis=1) + chosen_by
        elapsed = time.perf_counter() - self.started
        shares: NDArray[np.float64] = n_draws / max(n_draws.sum(), 1)
        return elapsed * shares
