"""Runs over many inputs: chunks of them to joblib's workers, errors kept to the inputs they hit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from randsmooth._progress import progress_bar
from randsmooth.batch_size import BatchSize
from randsmooth.crews import counted_blocks, elsewhere, n_workers
from randsmooth.crews.crew import WorkerLostError
from randsmooth.entrance import Entrance
from randsmooth.noise_bank import Ballot
from randsmooth.readings import Reading, Votes
from randsmooth.stopping import StoppingRule
from randsmooth.voting import Advance, RunInterruptedError, count_votes

__all__ = ["Tally", "count_in_chunks"]

# Inputs that share one pass over the noise: enough for the noise to cost little, few enough for
# several chunks per worker, so that the last worker does not work alone for long.
_LARGEST_CHUNK = 256
_SMALLEST_CHUNK = 32
_CHUNKS_PER_WORKER = 4


@dataclass(frozen=True)
class Tally:
    """What a run counted.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_inputs, n_columns)
        The votes, or what else was noted; see `count_votes`. Rows of inputs that failed are zero.

    claimed : ndarray of int64, shape (n_inputs,)
        How many of the rule's hypotheses were proved for each input.

    errors : dict of int to Exception
        What each failing input raised.
    """

    counts: NDArray[np.int64]
    claimed: NDArray[np.int64]
    errors: dict[int, Exception] = field(default_factory=dict)


_Part = tuple[NDArray[np.floating], StoppingRule, Reading]


@dataclass(frozen=True)
class _Task:
    """What every worker needs, whatever its chunk."""

    entrance: Entrance
    ballot: Ballot
    batch_size: BatchSize


def count_in_chunks(
    entrance: Entrance,
    X: NDArray[np.floating],
    ballot: Ballot,
    rule: StoppingRule,
    *,
    batch_size: BatchSize,
    reading: Reading | None = None,
    n_jobs: int | None,
    description: str,
    verbose: int,
    stop: Event | None = None,
) -> Tally:
    """Return the votes on all inputs, and the errors of those that failed.

    Parameters
    ----------
    entrance : Entrance
        Who votes, and how inputs and noise reach it.

    X : ndarray of shape (n_inputs, ...)
        The inputs, of the base's type.

    ballot : Ballot
        What is drawn.

    rule : StoppingRule
        How often, for each input.

    batch_size : BatchSize
        Rows of one forward pass.

    reading : Reading or None, default=None
        What is noted instead of votes.

    n_jobs : int or None
        Workers, in joblib's terms. Threads, unless a `joblib.parallel_config` says otherwise.

    description : str
        What the run does, for the progress bar.

    verbose : int
        No progress bar where 0.

    stop : threading.Event or None, default=None
        Ends a run that takes one job soon after it is set.

    Returns
    -------
    Tally
        Votes, proofs and errors.
    """
    workers = min(n_workers(n_jobs), len(X))
    size = -(-len(X) // (workers * _CHUNKS_PER_WORKER if workers > 1 else 1))
    size = min(_LARGEST_CHUNK, max(size, min(_SMALLEST_CHUNK, -(-len(X) // workers))))
    rows = np.arange(len(X))
    chunks = [rows[start : start + size] for start in range(0, len(X), size)]
    reading = reading or Votes(entrance.base.n_classes)
    counts = np.zeros((len(X), reading.n_columns), dtype=np.int64)
    tally = Tally(counts, np.zeros(len(X), dtype=np.int64))
    fixed = len(rule.looks) == 1
    with progress_bar(
        len(X) * (rule.looks[0] if fixed else 1),
        description=description,
        unit="draws" if fixed else "inputs",
        verbose=verbose,
    ) as show:

        def advance(n_draws: int, n_decided: int) -> None:
            show(n_draws if fixed else n_decided)

        task = _Task(entrance, ballot, batch_size)
        parts = [(X[chunk], rule.take(chunk), reading.take(chunk)) for chunk in chunks]
        results = _results(task, parts, n_jobs if workers > 1 else 1, advance, stop)
        for number, part in results:
            chunk = chunks[number]
            counts[chunk], tally.claimed[chunk] = part.counts, part.claimed
            tally.errors.update({int(chunk[row]): error for row, error in part.errors.items()})
    return tally


def _results(
    task: _Task,
    parts: list[_Part],
    n_jobs: int | None,
    advance: Advance,
    stop: Event | None,
) -> Iterator[tuple[int, Tally]]:
    """Return what was counted for each part, by its number."""
    if n_jobs == 1:
        yield from ((i, _count_chunk(task, *part, advance, stop)) for i, part in enumerate(parts))
    elif elsewhere():
        yield from _results_of_others(task, parts, n_jobs, advance)
    else:
        yield from enumerate(_results_of_threads(task, parts, n_jobs, advance))


def _results_of_threads(
    task: _Task, parts: list[_Part], n_jobs: int | None, advance: Advance
) -> Iterator[Tally]:
    stop = Event()
    with _one_torch_thread():
        try:
            yield from Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
                delayed(_count_chunk)(task, *part, advance, stop) for part in parts
            )
        finally:
            stop.set()  # an interrupted run leaves no thread at work


@dataclass(frozen=True)
class _Numbered:
    """A part on its way to a worker elsewhere."""

    number: int
    inputs: _Part


def _results_of_others(
    task: _Task, parts: list[_Part], n_jobs: int | None, advance: Advance
) -> Iterator[tuple[int, Tally]]:
    blocks = (_Numbered(number, part) for number, part in enumerate(parts))
    device = task.entrance.base.device
    with closing(
        counted_blocks(partial(_count_part, task), blocks, n_jobs=n_jobs, device=device)
    ) as counted:
        for block, tally in counted:
            X, _, reading = block.inputs
            if isinstance(tally, WorkerLostError):
                zeros = np.zeros((len(X), reading.n_columns), dtype=np.int64)
                tally = Tally(zeros, zeros[:, 0], dict.fromkeys(range(len(X)), tally))
            advance(int(reading.n_draws(tally.counts).sum()), len(X))
            yield block.number, tally


def _count_part(task: _Task, part: _Part) -> Tally:
    return _count_chunk(task, *part)


def _count_chunk(
    task: _Task,
    X: NDArray[np.floating],
    rule: StoppingRule,
    reading: Reading,
    advance: Advance | None = None,
    stop: Event | None = None,
) -> Tally:
    """Count a chunk at once, or input by input where that fails: one error costs one input."""
    try:
        fresh = rule.take(np.arange(len(X)))
        counts = count_votes(
            task.entrance,
            X,
            task.ballot,
            fresh,
            batch_size=task.batch_size,
            reading=reading,
            advance=advance,
            stop=stop,
        )
    except RunInterruptedError:
        raise
    except Exception as error:
        if len(X) == 1:
            zeros = np.zeros((1, reading.n_columns), dtype=np.int64)
            return Tally(zeros, np.zeros(1, dtype=np.int64), {0: error})
    else:
        return Tally(counts, fresh.claimed)
    single = [
        _count_chunk(task, X[row], rule.take(row), reading.take(row), stop=stop)
        for row in np.arange(len(X))[:, np.newaxis]
    ]
    return Tally(
        np.concatenate([tally.counts for tally in single]),
        np.concatenate([tally.claimed for tally in single]),
        {row: tally.errors[0] for row, tally in enumerate(single) if tally.errors},
    )


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Give each worker one thread; two levels of threads would fight over the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
