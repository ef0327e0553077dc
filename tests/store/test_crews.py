"""Blocks counted by threads and processes: the same counts, whatever becomes of workers."""

from __future__ import annotations

import os
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from murders import murderous_run
from runs import N_INPUTS, X, classifier, same_counts

from randsmooth import VoteStore
from randsmooth.crews import local
from randsmooth.crews.crew import WorkerLostError
from randsmooth.crews.dispatch import _crew, _Dispatch
from randsmooth.exceptions import CertificationError
from randsmooth.store.votes import BlockVotes

CLF = classifier()
INPUTS = X[:N_INPUTS]
RECORD = CLF.certificates(INPUTS)


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_backend_gives_the_counts_of_one_process(backend: str, tmp_path: Path) -> None:
    with joblib.parallel_config(backend, n_jobs=2):
        record = CLF.certificates(INPUTS, store=tmp_path / "run.sqlite")
        streamed = CLF.certificates(iter([INPUTS]))
    assert same_counts(record, RECORD)
    assert same_counts(streamed, RECORD)
    assert np.array_equal(record.radius, RECORD.radius)


def test_a_process_that_dies_costs_nothing_but_time(tmp_path: Path) -> None:
    clf, inputs, n_dead = murderous_run(tmp_path, 1)
    with joblib.parallel_config("loky", n_jobs=2):
        record = clf.certificates(inputs, store=tmp_path / "run.sqlite")
    assert n_dead() == 1
    assert same_counts(record, CLF.certificates(inputs))


def test_a_block_that_always_kills_is_given_up_and_named(tmp_path: Path) -> None:
    clf, inputs, n_dead = murderous_run(tmp_path, 100)
    path = tmp_path / "run.sqlite"
    with (
        joblib.parallel_config("loky", n_jobs=2),
        pytest.raises(
            CertificationError, match="the worker at it died, 3 times: a worker process died"
        ) as caught,
    ):
        clf.certificates(inputs, store=path)
    assert n_dead() >= 3
    failed = caught.value.failed.tolist()
    assert failed == list(range(failed[0], 30))
    good = np.arange(failed[0])
    assert same_counts(caught.value.certificates.take(good), CLF.certificates(inputs[good]))
    with VoteStore(path) as store:
        assert sorted(store.failed) == failed


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_an_interruption_leaves_a_store_and_no_worker(backend, tmp_path, monkeypatch) -> None:
    from randsmooth.store.writer import StoreWriter

    add = StoreWriter.add

    def interrupted(self, *block: Any) -> None:
        add(self, *block)
        raise KeyboardInterrupt

    path, before = tmp_path / "run.sqlite", threading.active_count()
    monkeypatch.setattr(StoreWriter, "add", interrupted)
    clf = classifier(n_estimation=20_000)
    with joblib.parallel_config(backend, n_jobs=2), pytest.raises(KeyboardInterrupt):
        clf.certificates(X[:400], store=path)
    deadline = time.monotonic() + 20
    while threading.active_count() > before + 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert threading.active_count() <= before + 1
    with VoteStore(path) as store:
        assert 0 < len(store) < 400


class Fateful:
    """A crew by the book: it loses what it is told to lose."""

    n_workers, n_tries = 2, 3

    def __init__(self, deadly: set[int], n_unlucky: int = 0) -> None:
        self.deadly, self.n_unlucky = deadly, n_unlucky
        self.held: list[int] = []
        self.most_held, self.n_lost = 0, 0

    def submit(self, inputs: Any) -> int:
        self.held.append(inputs)
        self.most_held = max(self.most_held, len(self.held))
        return inputs

    def finished(self, tickets: Any) -> list[int]:
        lost = self.deadly.intersection(tickets) or (
            set(tickets) if self.n_lost < self.n_unlucky else set()
        )
        return list(tickets) if lost else [next(iter(tickets))]

    def result(self, ticket: int) -> Any:
        together = self.deadly.intersection(self.held)
        self.held.remove(ticket)
        if together or self.n_lost < self.n_unlucky:
            self.n_lost += 1
            raise WorkerLostError("gone")
        return f"votes {ticket}"

    def close(self) -> None: ...


class Item:
    def __init__(self, inputs: int) -> None:
        self.inputs = inputs


@pytest.mark.parametrize("deadly", [set(), {0}, {7}, {3, 4}, {0, 19}, set(range(20))])
@pytest.mark.parametrize("n_unlucky", [0, 1, 4])
def test_only_blocks_that_kill_are_given_up(deadly: set[int], n_unlucky: int) -> None:
    crew = Fateful(deadly, n_unlucky)
    dispatch: Any = _Dispatch(crew, iter([Item(number) for number in range(20)]))
    found = {}
    while dispatch.hand_over():
        found |= {block.inputs: votes for block, votes in dispatch.ready()}
    assert sorted(found) == list(range(20))
    given_up = {number for number, votes in found.items() if isinstance(votes, WorkerLostError)}
    assert given_up == deadly
    assert crew.most_held <= 4


def seen_device(X: Any) -> Any:
    """What a worker counts that looks for its GPU instead."""
    time.sleep(0.2)
    number = int(os.environ.get("CUDA_VISIBLE_DEVICES", "-1"))
    counts = np.full((len(X), 2), number)
    return BlockVotes(counts, counts, counts[:, 0], np.zeros(len(X)))


@pytest.mark.slow
def test_every_process_sees_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3,7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert local.visible_devices() == ["5", "3"]
    with (
        joblib.parallel_config("loky", n_jobs=4),
        closing(_crew(seen_device, None, torch.device("cuda"))) as crew,
    ):
        assert crew.n_workers == 2  # there are no more devices
        tickets = [crew.submit(np.ones((1, 1))) for _ in range(6)]
        seen = [int(crew.result(ticket).counts[0, 0]) for ticket in tickets]
    assert sorted(seen) == [3, 3, 3, 5, 5, 5]


def test_gpus_are_named_by_their_numbers_unless_they_are_chosen(monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert local.visible_devices() == ["0", "1", "2"]
    with joblib.parallel_config("loky", n_jobs=2):
        for device in ("cpu", "cuda:1"):  # the one that was asked for is everybody's
            with closing(_crew(seen_device, None, torch.device(device))) as crew:
                for process in crew._processes:
                    assert "CUDA_VISIBLE_DEVICES" not in process._env


def seen_threshold(X: Any) -> Any:
    """What a worker counts that looks for how its memory is handled instead."""
    counts = np.full((len(X), 2), int(os.environ["MALLOC_TRIM_THRESHOLD_"]))
    return BlockVotes(counts, counts, counts[:, 0], np.zeros(len(X)))


@pytest.mark.slow
@pytest.mark.parametrize("asked", [None, "12345"])
def test_processes_keep_the_memory_of_a_batch_unless_told_otherwise(asked, monkeypatch) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    if asked is not None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", asked)
    with closing(local.Processes(seen_threshold, 1)) as crew:
        seen = crew.result(crew.submit(np.ones((1, 1)))).counts[0, 0]
    assert seen == (2**30 if asked is None else int(asked))


def test_workers_get_the_model_once(tmp_path: Path, monkeypatch) -> None:
    from randsmooth.crews import shipping

    n_unpacked = []
    loads = shipping.pickle.loads
    monkeypatch.setattr(shipping, "_unpacked", {})
    monkeypatch.setattr(
        shipping.pickle, "loads", lambda content: n_unpacked.append(1) or loads(content)
    )
    name, content = shipping.packed_counter(_Twice(3))
    for _ in range(4):
        votes = shipping.count_shipped(name, content, np.ones((2, 1)))
    assert votes.counts.tolist() == [[3, 3], [3, 3]]
    assert len(n_unpacked) == 1


def test_an_error_that_cannot_travel_becomes_one_that_can() -> None:
    from randsmooth.crews.shipping import _portable

    class LocalError(Exception):
        pass

    assert str(_portable(LocalError("odd"))) == "LocalError: odd"
    known = ValueError("known")
    assert _portable(known) is known


class _Twice:
    def __init__(self, value: int) -> None:
        self.value = value

    def __call__(self, inputs: np.ndarray) -> Any:
        counts = np.full((len(inputs), 2), self.value)
        return BlockVotes(counts, counts, counts[:, 0], np.zeros(len(inputs)))


def test_warnings_of_the_run_come_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with joblib.parallel_config("threading", n_jobs=2):
            classifier(n_estimation=3).certificates(iter([INPUTS]))
    assert len([w for w in caught if "TooFewDraws" in w.category.__name__]) == 1
