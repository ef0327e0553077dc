"""What a store of votes costs: time beside a run without one, room on disk, time to read it again.

Certifies the same inputs with and without a store on the network of Li et al. (2019), side by side;
writes 50,000 inputs of 1,000 classes and certifies them anew under another bound; and compares one
process with two. Writes a table to ``docs/results``::

    python benchmarks/store_cost.py
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from measuring import Run, interleave, machine, ratios, spread, versions
from randsmooth import SmoothedClassifier, VoteStore, streamed
from randsmooth.models import MNISTNet
from randsmooth.store.writer import StoreWriter
from tables import rest_table, write_page

N_INPUTS, N_CLASSES = 50_000, 1000


def network(n_draws: int) -> tuple[SmoothedClassifier, np.ndarray]:
    torch.manual_seed(0)
    X = np.random.default_rng(0).random((64, 1, 28, 28), dtype=np.float32)
    clf = SmoothedClassifier(
        FrozenEstimator(MNISTNet()), 0.5, n_estimation=n_draws, batch_size=128, random_state=0
    )
    return clf.fit(X[:10], np.arange(10)), X


# What a run does for its store and for nothing else.
FOR_THE_STORE = (
    (streamed, "input_digests"),
    (streamed, "model_fingerprint"),
    (StoreWriter, "__init__"),
    (StoreWriter, "add"),
    (StoreWriter, "close"),
    (streamed._StreamedRun, "_stored"),
)


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Collect the seconds on the clock that go to the store."""
    seconds: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds.append(time.perf_counter() - begun)

        return run

    with ExitStack() as stack:
        for owner, name in FOR_THE_STORE:
            stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name))))
        yield seconds


def overhead(folder: Path, rounds: int, n_draws: int) -> tuple[str, str, str]:
    """Return seconds of a run, how many times more one with a store takes, and the store's share.

    The share is that of the calls which are made for the store: times of whole runs differ by more.
    """
    clf, X = network(n_draws)
    shares = []

    def stored(number: int) -> None:
        begun = time.perf_counter()
        with clocked() as seconds:
            clf.certificates(X, store=folder / f"{number}.sqlite")
        shares.append(100 * sum(seconds) / (time.perf_counter() - begun))

    plain = Run("memory", lambda number: clf.certificates(X))
    kept = Run("store", stored)
    plain(-1)
    interleave([plain, kept], rounds)
    return spread(plain.cpu), ratios(kept.cpu, plain.cpu), spread(shares)


def votes(rng: np.random.Generator, n_draws: int) -> np.ndarray:
    """Votes as a network of a thousand classes gives them: a few classes get nearly all."""
    strength = rng.gamma(0.02, size=(N_INPUTS, N_CLASSES)) + 1e-5
    return rng.multinomial(n_draws, strength / strength.sum(axis=1, keepdims=True))


def large(folder: Path) -> list[list[str]]:
    """Return what writing and reading the votes of a large run takes."""
    rng, path = np.random.default_rng(0), folder / "large.sqlite"
    counts = votes(rng, 100_000), votes(rng, 100)
    begun = time.perf_counter()
    VoteStore.from_counts(path, counts[1], counts[0], sigma=0.5).close()
    written = time.perf_counter() - begun
    begun = time.perf_counter()
    with VoteStore(path) as store:
        store.certificates(bound="binary")
    read = time.perf_counter() - begun
    named = (counts[0] > 0).sum(axis=1).mean()
    return [
        ["classes with votes, on average", f"{named:.0f} of {N_CLASSES}"],
        ["size of the file", f"{os.path.getsize(path) / 1e6:.0f} MB"],
        ["writing", f"{written:.1f} s"],
        ["certified anew under another bound", f"{read:.1f} s"],
    ]


def half(which: int, n_draws: int, ready: Any, seconds: Any) -> None:
    """Certify half of the inputs, when another process is as far."""
    torch.set_num_threads(1)
    clf, X = network(n_draws)
    clf.certificates(X[:1])
    ready.wait()
    begun = time.perf_counter()
    clf.certificates(X[which::2])
    seconds[which] = time.perf_counter() - begun


def apart(n_draws: int) -> float:
    """Return the time of two processes that share nothing, from when both are ready."""
    context = multiprocessing.get_context("spawn")
    ready, seconds = context.Barrier(2), context.Array("d", 2)
    both = [context.Process(target=half, args=(i, n_draws, ready, seconds)) for i in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    return max(seconds)


def two_processes(rounds: int, n_draws: int) -> tuple[str, str]:
    """Return how many times faster than one are two processes, and two that share nothing."""
    clf, X = network(n_draws)

    def run(n_jobs: int) -> float:
        begun = time.perf_counter()
        with joblib.parallel_config("loky", n_jobs=n_jobs):
            clf.certificates(X)
        return time.perf_counter() - begun

    times = [(run(1), run(2), apart(n_draws)) for _ in range(rounds)]
    one, two, most = zip(*times, strict=True)
    return ratios(one, two), ratios(one, most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--n-draws", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = large(Path(folder))
        seconds, ratio, share = overhead(Path(folder), args.rounds, args.n_draws)
    n_draws = 4 * args.n_draws
    faster, most = two_processes(max(args.rounds // 2, 1), n_draws)
    write_page(
        args.output / "store_cost.rst",
        "What a store costs",
        f"Made by ``python benchmarks/store_cost.py --rounds {args.rounds} --n-draws "
        f"{args.n_draws}``. {machine()}, load {load:.1f} before it began; "
        f"{versions('torch', 'numpy', 'joblib')}. Ratios are medians and quartiles of "
        f"{args.rounds} rounds, half as many for two processes, which are timed with their start. "
        "Those that share nothing certify half of the inputs each and are timed without it: they "
        "show what a second core gives on this machine.",
        rest_table(
            ["", ""],
            [
                [f"64 inputs, {args.n_draws:,} draws, MNISTNet, without a store", f"{seconds} s"],
                ["with a store, relative processor time", ratio],
                ["share of its time that goes to the store", f"{share} %"],
                *rows,
                [f"two processes beside one, {n_draws:,} draws", f"{faster} times"],
                ["two processes that share nothing", f"{most} times"],
            ],
        ),
    )


if __name__ == "__main__":
    main()
