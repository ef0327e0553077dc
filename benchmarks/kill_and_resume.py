"""What is left of a stored run that was killed, and whether it ends as if nothing had happened.

Certifies digits into a store again and again, each time in a process of its own that is killed
(SIGKILL) at a random moment. What the store then holds is compared with a run that was never
interrupted; then the run goes on, is killed again where it is not done in time, and the finished
store is compared once more, count by count. Writes a table to ``docs/results``::

    python benchmarks/kill_and_resume.py
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from measuring import machine, versions
from randsmooth import Certificates, SmoothedClassifier, VoteStore
from randsmooth.exceptions import InvalidFileError
from tables import rest_table, write_page

N_INPUTS = 400


@dataclass
class Tally:
    """What was seen."""

    runs: int = 0
    kills: int = 0
    before_the_file: int = 0
    damaged: int = 0
    rows_kept: int = 0
    rows_wrong: int = 0
    ends_wrong: int = 0


def fitted() -> tuple[SmoothedClassifier, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    clf = SmoothedClassifier(net, sigma=0.25, n_estimation=5000, random_state=0)
    return clf.fit(X[:1300], y[:1300]), X[-N_INPUTS:]


def started(clf: SmoothedClassifier, X: np.ndarray, path: Path) -> int:
    """Start the run in a process of its own, and return its number."""
    child = os.fork()
    if child == 0:
        try:
            clf.certificates(X, store=path)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int, how: int) -> bool:
    """Return whether a run is done; one that ended in an error is the end of this program too."""
    pid, status = os.waitpid(child, how)
    if pid and os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a run could not go on")
    return bool(pid)


def kept(path: Path, truth: Certificates, tally: Tally) -> None:
    """Compare what the store holds with the truth, row by row."""
    try:
        with VoteStore(path) as store:
            numbers, votes = store.votes()
    except InvalidFileError as error:
        begun = "does not exist" not in str(error)
        tally.damaged += begun
        tally.before_the_file += not begun
        return
    connection = sqlite3.connect(path)
    tally.damaged += connection.execute("PRAGMA integrity_check").fetchone() != ("ok",)
    connection.close()
    tally.rows_kept += len(numbers)
    wrong = (votes.counts != truth.counts[numbers]).any(axis=1)
    wrong |= (votes.selection != truth.selection_counts[numbers]).any(axis=1)
    tally.rows_wrong += int(wrong.sum())


def killed(
    clf: SmoothedClassifier, X: np.ndarray, path: Path, truth: Certificates, after: float
) -> tuple[bool, Tally]:
    """Start the run, kill it after some seconds, and return whether it was done before."""
    seen = Tally(runs=0)
    child = started(clf, X, path)
    deadline = time.perf_counter() + after
    while time.perf_counter() < deadline:
        if ended(child, os.WNOHANG):
            return True, seen
        time.sleep(1e-3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen.kills = 1
    kept(path, truth, seen)
    return False, seen


def measured(n_kills: int, seed: int) -> tuple[Tally, float]:
    torch.set_num_threads(1)
    clf, X = fitted()
    truth = clf.certificates(X)
    rng = np.random.default_rng(seed)
    total = Tally()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        ended(started(clf, X, Path(folder) / "first"), 0)
        whole = time.perf_counter() - begun
        while total.kills < n_kills:
            path, done = Path(folder) / f"run-{total.runs}.sqlite", False
            while not done:
                done, seen = killed(clf, X, path, truth, rng.uniform(0, 1.1 * whole))
                for name, value in vars(seen).items():
                    setattr(total, name, getattr(total, name) + value)
            total.runs += 1
            with VoteStore(path) as store:
                end = store.certificates()
            total.ends_wrong += not (
                np.array_equal(end.counts, truth.counts)
                and np.array_equal(end.selection_counts, truth.selection_counts)
                and np.array_equal(end.radius, truth.radius)
            )
            print(total, flush=True)
    return total, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    total, whole = measured(args.kills, args.seed)
    write_page(
        args.output / "kill_and_resume.rst",
        "Runs that were killed",
        f"Made by ``python benchmarks/kill_and_resume.py``. {machine()}; "
        f"{versions('torch', 'numpy')}; SQLite {sqlite3.sqlite_version}. {N_INPUTS} images of "
        f"digits, which take {whole:.1f} seconds, are certified into a store, in a process that is "
        "killed at a random moment and started again until it is done.",
        rest_table(
            ["", "number"],
            [
                ["runs", str(total.runs)],
                ["kills", str(total.kills)],
                ["kills before there was a store", str(total.before_the_file)],
                ["damaged stores", str(total.damaged)],
                ["rows found after kills", f"{total.rows_kept:,}"],
                ["rows that differ from the uninterrupted run", str(total.rows_wrong)],
                ["finished stores that differ from it", str(total.ends_wrong)],
            ],
        ),
    )
    if total.damaged or total.rows_wrong or total.ends_wrong:
        raise SystemExit("a store was damaged, or differs from the uninterrupted run")


if __name__ == "__main__":
    main()
