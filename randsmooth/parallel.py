"""Runs over many inputs: chunks of them to joblib's workers, errors kept to the inputs they hit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from randsmooth._progress import progress_bar
from randsmooth.bases import Base
from randsmooth.voting import Ballot, count_votes

__all__ = ["count_in_chunks"]

# Inputs that share one pass over the noise. Several chunks per worker keep progress visible and the
# last worker from working alone for long.
_LARGEST_CHUNK = 256
_CHUNKS_PER_WORKER = 8


def count_in_chunks(
    base: Base,
    X: NDArray[np.floating],
    ballot: Ballot,
    *,
    batch_size: int,
    n_jobs: int | None,
    description: str,
    verbose: int,
) -> tuple[NDArray[np.int64], dict[int, Exception]]:
    """Return the votes on all inputs, and the errors of those that failed.

    Parameters
    ----------
    base : Base
        Who votes.

    X : ndarray of shape (n_inputs, ...)
        The inputs, of the base's type.

    ballot : Ballot
        What is drawn.

    batch_size : int
        Rows of one forward pass.

    n_jobs : int or None
        Workers, in joblib's terms. Threads, unless a `joblib.parallel_config` says otherwise.

    description : str
        What the run does, for the progress bar.

    verbose : int
        No progress bar where 0.

    Returns
    -------
    counts : ndarray of int64, shape (n_inputs, n_classes + 1)
        The votes; see `count_votes`. Rows of inputs that failed are zero.

    errors : dict of int to Exception
        What each failing input raised.
    """
    workers = min(effective_n_jobs(n_jobs), len(X))
    n_chunks = workers * _CHUNKS_PER_WORKER if workers > 1 else 1
    size = min(_LARGEST_CHUNK, -(-len(X) // n_chunks))
    starts = range(0, len(X), size)
    chunks = [X[start : start + size] for start in starts]
    counts = np.zeros((len(X), base.n_classes + 1), dtype=np.int64)
    errors: dict[int, Exception] = {}
    with progress_bar(len(X) * ballot.n_draws, description=description, verbose=verbose) as advance:
        for start, (counted, failed) in zip(
            starts,
            _results(base, chunks, ballot, batch_size, n_jobs, workers, advance),
            strict=True,
        ):
            counts[start : start + len(counted)] = counted
            errors.update({start + row: error for row, error in failed.items()})
    return counts, errors


_Counted = tuple[NDArray[np.int64], dict[int, Exception]]


def _results(
    base: Base,
    chunks: list[NDArray[np.floating]],
    ballot: Ballot,
    batch_size: int,
    n_jobs: int | None,
    workers: int,
    advance: Callable[[int], None],
) -> Iterator[_Counted]:
    if workers == 1:
        for chunk in chunks:
            yield _count_chunk(base, chunk, ballot, batch_size, advance)
        return
    with _one_torch_thread():
        for counted in Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
            delayed(_count_chunk)(base, chunk, ballot, batch_size) for chunk in chunks
        ):
            advance(len(counted[0]) * ballot.n_draws)
            yield counted


def _count_chunk(
    base: Base,
    X: NDArray[np.floating],
    ballot: Ballot,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> _Counted:
    """Count a chunk at once, or input by input where that fails: one error costs one input."""
    try:
        return count_votes(base, X, ballot, batch_size=batch_size, advance=advance), {}
    except Exception as error:
        if len(X) == 1:
            return np.zeros((1, base.n_classes + 1), dtype=np.int64), {0: error}
    counts: list[NDArray[np.int64]] = []
    errors: dict[int, Exception] = {}
    for row in range(len(X)):
        counted, failed = _count_chunk(base, X[row : row + 1], ballot, batch_size)
        counts.append(counted)
        if failed:
            errors[row] = failed[0]
    return np.concatenate(counts), errors


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Give each worker one thread; two levels of threads would fight over the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
