"""Certification a block of inputs at a time: what is counted goes to a store as it comes."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from operator import itemgetter
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from randsmooth._progress import progress_bar
from randsmooth.certificates import Certificates
from randsmooth.certificates.from_counts import imported_versions, resolved_bound
from randsmooth.certificates.from_outcomes import EXACT
from randsmooth.certificates.radii import certifying_probabilities
from randsmooth.certificates.rules import asked_radii
from randsmooth.certification import CertificationRun, run_over
from randsmooth.crews import counted_blocks, n_workers
from randsmooth.crews.crew import WorkerLostError
from randsmooth.exceptions import CertificationError, StoreMismatchError
from randsmooth.fingerprints import input_digests, model_fingerprint
from randsmooth.inputs import inputs_as_fitted
from randsmooth.parameters import most_draws, two_stage_of
from randsmooth.sources import Source, source_of
from randsmooth.store import VoteStore
from randsmooth.store.header import header_of
from randsmooth.store.votes import BlockVotes
from randsmooth.store.writer import StoreWriter

__all__ = ["streamed_certificates"]

# A block should take some seconds: what is lost when a run is killed, and how often it is heard of.
_SECONDS_OF_A_BLOCK = 10.0
_FIRST_BLOCK, _LARGEST_BLOCK, _GROWTH = 8, 256, 4


@dataclass(frozen=True)
class Block:
    """Some inputs on their way to be counted.

    Parameters
    ----------
    numbers : ndarray of int, shape (n_inputs,)
        Their numbers.

    X : ndarray of shape (n_inputs, ...)
        The inputs.

    digests : list of bytes
        What identifies them.

    errors : dict of int to Exception
        What is wrong with which of them.
    """

    numbers: NDArray[np.intp]
    X: NDArray[Any]
    digests: list[bytes]
    errors: dict[int, Exception]

    @property
    def good(self) -> NDArray[np.intp]:
        """The rows of the inputs that can be classified."""
        return np.setdiff1d(np.arange(len(self.X)), list(self.errors)).astype(np.intp)

    @property
    def inputs(self) -> NDArray[Any]:
        """These inputs."""
        return self.X[self.good]

    def take(self, rows: NDArray[np.intp]) -> Block:
        """Return some of the inputs, by their rows."""
        errors = {i: self.errors[row] for i, row in enumerate(rows.tolist()) if row in self.errors}
        digests = [self.digests[row] for row in rows]
        return Block(self.numbers[rows], self.X[rows], digests, errors)


@dataclass(frozen=True)
class BlockCounter:
    """Counts votes for a block of inputs, in whatever process.

    Parameters
    ----------
    run : CertificationRun
        The run, without its inputs.

    radii : ndarray of float64, shape (n_radii,), or None
        Radii to decide about.
    """

    run: CertificationRun
    radii: NDArray[np.float64] | None

    def __call__(self, X: NDArray[Any], stop: Event | None = None) -> BlockVotes:
        """Return the votes for some inputs, unless it is told to stop."""
        if not len(X):
            return BlockVotes.none(len(self.run.clf.classes_))
        return self.run.anew(X, stop).votes(self.radii)


def streamed_certificates(
    clf: Any,
    X: Any,
    *,
    radii: ArrayLike | None,
    noise_seed: int | None,
    store: str | os.PathLike[str] | None,
) -> Certificates:
    """Return the record of a run that keeps one block of inputs in memory.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    X : array-like, Dataset, DataLoader, or iterator of batches
        The inputs.

    radii : float, array-like of float or None
        As for `certificates`.

    noise_seed : int or None
        As for `certificates`.

    store : str, path-like or None
        A file to which votes are written as they are counted, and which is gone on with.

    Returns
    -------
    Certificates
        One row per input.

    Raises
    ------
    StoreMismatchError
        If the store holds another run, or other inputs.

    CertificationError
        If some inputs could not be classified. It keeps the record of the others.
    """
    return _StreamedRun(clf, source_of(X), radii, noise_seed).certificates(store)


class _StreamedRun:
    """A run over a source of inputs."""

    def __init__(
        self, clf: Any, source: Source, radii: ArrayLike | None, noise_seed: int | None
    ) -> None:
        self.clf, self.source = clf, source
        self.radii = None if radii is None else asked_radii(radii)
        self.size = _FIRST_BLOCK
        self.n_seen = 0
        self.errors: dict[int, Exception] = {}
        check_is_fitted(clf)
        self.first = source.next(self.size)
        if not len(self.first):
            raise ValueError("X must hold at least one input, got none.")
        quiet = copy.copy(clf)
        quiet.n_jobs, quiet.verbose = 1, 0
        single = getattr(self.first, "dtype", None) == np.float32
        nothing = np.zeros((1, *clf.input_shape_), np.float32 if single else np.float64)
        self.run = run_over(quiet, nothing, noise_seed)
        self.run.warn(self.radii)

    def certificates(self, store: str | os.PathLike[str] | None) -> Certificates:
        """Count what is not there yet, and return the record of everything."""
        parts: list[tuple[int, BlockVotes]] = []
        with ExitStack() as stack:
            header = self.header() if store is not None else {}
            writer = None if store is None else stack.enter_context(StoreWriter(store, header))
            known = {} if writer is None else {n: (d, f) for n, d, f in writer.known()}
            advance = stack.enter_context(
                progress_bar(
                    self.source.n_inputs,
                    description="certified",
                    unit="inputs",
                    verbose=self.clf.verbose,
                )
            )
            advance(sum(not failed for _, failed in known.values()))
            results = counted_blocks(
                BlockCounter(self.run, self.radii),
                self.blocks(known, store),
                n_jobs=self.clf.n_jobs,
                device=self.run.entrance.base.device,
            )
            for block, counted in stack.enter_context(closing(results)):
                votes = self._noted(block, counted)
                if writer is None:
                    parts.append((int(block.numbers[0]), votes))
                else:
                    writer.add(block.numbers, block.digests, votes)
                advance(len(block.numbers))
        if store is None:
            in_order = [votes for _, votes in sorted(parts, key=itemgetter(0))]
            record = self.run.record(BlockVotes.joined(in_order), self.radii)
        else:
            record = self._stored(store)
        if self.errors:
            raise CertificationError.of_rows(self.errors, record)
        return record

    def header(self) -> dict[str, Any]:
        """Return what a store of this run is headed with."""
        clf, noise = self.clf, self.clf.noise_
        two_stage = two_stage_of(clf.n_estimation)
        bound, alpha = resolved_bound(clf.bound, noise)[0], float(clf.alpha)
        draws: dict[str, Any] = {"n_selection": int(clf.n_selection)}
        if noise.n_outcomes is not None:
            bound, alpha = EXACT, 0.0
            draws = {"rule": "outcomes", "radii": self.radii}
        elif self.radii is not None:
            bound, p0 = certifying_probabilities(self.radii, noise, clf.bound)
            n_max = most_draws(clf.n_estimation)
            draws |= {"rule": "sequential", "n_max": n_max, "radii": self.radii, "p0": p0}
            draws |= {"alpha": alpha, "bound": bound}
        elif two_stage is not None:
            draws |= {"rule": "two-stage", **vars(two_stage), "alpha": alpha, "bound": bound}
        else:
            draws |= {"rule": "fixed", "n_estimation": int(clf.n_estimation)}
        facts = self.run.facts()
        return header_of(
            noise=noise,
            classes=clf.classes_,
            draws=draws,
            alpha=alpha,
            bound=bound,
            noise_seed=self.run.noise_seed,
            versions=imported_versions(),
            model=model_fingerprint(clf.estimator_),
            common_noise=self.run.common_noise,
            inputs={
                "n_inputs": self.source.n_inputs,
                "shape": list(clf.input_shape_),
                "dtype": self.run.X.dtype.str,
            },
            execution=facts["execution"],
        )

    def blocks(
        self, known: dict[int, tuple[bytes, bool]], store: str | os.PathLike[str] | None
    ) -> Iterator[Block]:
        """Return the inputs whose votes are not there yet, block by block."""
        X = self.first
        while len(X):
            block = self._block(X)
            there = [known.get(int(number)) for number in block.numbers]
            for number, digest, kept in zip(block.numbers, block.digests, there, strict=True):
                if kept is not None and not kept[1] and kept[0] != digest:
                    raise StoreMismatchError.of(
                        store,
                        f"for another X: input {number} differs",
                        "the same inputs in the same order",
                    )
            new = np.array([kept is None or kept[1] for kept in there])
            if new.any():
                yield block.take(np.flatnonzero(new))
            X = self.source.next(self.size)

    def _block(self, X: Any) -> Block:
        """Return the next inputs, checked: those that cannot be classified cost themselves."""
        numbers = np.arange(self.n_seen, self.n_seen + len(X))
        self.n_seen += len(X)
        errors: dict[int, Exception] = {}
        try:
            array = inputs_as_fitted(self.clf, X)
        except ValueError:
            array = np.zeros((len(X), *self.clf.input_shape_))
            for row in range(len(X)):
                try:
                    array[row] = inputs_as_fitted(self.clf, X[row : row + 1])[0]
                except ValueError as error:
                    errors[row] = error
            if len(errors) == self.n_seen:  # nothing was right so far: these are other inputs
                raise
        array = array.astype(self.run.X.dtype, copy=False)
        return Block(numbers, array, input_digests(array), errors)

    def _noted(self, block: Block, counted: BlockVotes | WorkerLostError) -> BlockVotes:
        """Return the votes for a whole block, note what failed, and size the next one."""
        n_inputs, errors = len(block.X), dict(block.errors)
        good = block.good
        if isinstance(counted, WorkerLostError):
            errors |= dict.fromkeys(good.tolist(), counted)
            counted, good = BlockVotes.none(len(self.clf.classes_)), good[:0]
        seconds = max(float(counted.seconds.sum()), 1e-6)
        wanted = len(good) * _SECONDS_OF_A_BLOCK / seconds
        self.size = int(np.clip(wanted, 1, min(self._share(), self.size * _GROWTH)))
        votes = counted.spread(good, n_inputs, errors)
        self.errors |= {int(block.numbers[row]): error for row, error in votes.errors.items()}
        return votes

    def _share(self) -> int:
        """Return the largest block that leaves as much for every worker, to the end."""
        workers = n_workers(self.clf.n_jobs)
        if self.source.n_inputs is None or workers == 1:
            return _LARGEST_BLOCK
        left = self.source.n_inputs - self.n_seen
        return int(np.clip(left // (2 * workers), _FIRST_BLOCK, _LARGEST_BLOCK))

    def _stored(self, store: str | os.PathLike[str]) -> Certificates:
        with VoteStore(store) as kept:
            numbers, votes = kept.votes()
            versions = kept.header["versions"]
        here = numbers < self.n_seen
        record = self.run.record(votes.take(here), self.radii)
        return replace(record, versions=versions)
