"""A run on disk: the same counts as in memory, gone on with, read without the model."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs import N_INPUTS, X, classifier, same_counts, stored, y
from sklearn.frozen import FrozenEstimator
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from randsmooth import SmoothedClassifier, TwoStage, VoteStore, read_log
from randsmooth.exceptions import (
    CertificationError,
    InvalidFileError,
    StoreBusyError,
    StoreMismatchError,
    StoreWriteError,
)
from randsmooth.noise import DeterministicSplitting
from randsmooth.store.writer import StoreWriter

CLF = classifier()
RECORD = CLF.certificates(X[:N_INPUTS])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


@pytest.fixture
def finished(path: Path) -> Path:
    stored(path, CLF)
    return path


QUESTIONS = {
    "fixed": ({}, None),
    "two-stage": ({"n_estimation": TwoStage(n_max=400, n_pilot=50)}, None),
    "sequential": ({}, [0.1, 0.3]),
    "noise of its own": ({"common_noise": False}, None),
    "Laplace": ({"noise": "laplace"}, None),
    "every outcome": ({"noise": DeterministicSplitting(0.3, levels=16)}, None),
    "every outcome, radii": ({"noise": DeterministicSplitting(0.3, levels=16)}, [0.1, 0.2]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_stored_run_counts_what_a_run_in_memory_counts(question: str, path: Path) -> None:
    parameters, radii = QUESTIONS[question]
    clf = classifier(**parameters)
    expected = clf.certificates(X[:N_INPUTS], radii=radii)
    for _ in range(2):  # written, and then read
        record = stored(path, clf, radii=radii)
        assert same_counts(record, expected)
        assert np.array_equal(record.radius, expected.radius)
        assert record.facts == expected.facts
    with VoteStore(path) as store:
        assert len(store) == store.n_inputs == N_INPUTS
        again = store.certificates()
        assert same_counts(again, expected)
        assert np.array_equal(again.radius, expected.radius)
        assert again.facts == expected.facts


def test_a_finished_run_is_one_file_and_its_lock(finished: Path) -> None:
    assert sorted(os.listdir(finished.parent)) == ["run.sqlite", "run.sqlite.lock"]


def test_what_is_there_is_not_counted_again(finished: Path, monkeypatch) -> None:
    monkeypatch.setattr("randsmooth.streamed.BlockCounter.__call__", None)
    assert same_counts(stored(finished, CLF), RECORD)


def test_a_run_goes_on_after_an_error_in_any_block(path: Path, monkeypatch) -> None:
    from randsmooth.streamed import BlockCounter

    count, calls = BlockCounter.__call__, []

    def interrupted(self, block):
        calls.append(len(block))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return count(self, block)

    monkeypatch.setattr(BlockCounter, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stored(path, CLF)
    with VoteStore(path) as store:
        assert len(store) == calls[0]
        assert np.array_equal(store.certificates().counts, RECORD.counts[: calls[0]])
    assert same_counts(stored(path, CLF), RECORD)
    assert sum(calls[2:]) == N_INPUTS - calls[0]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda clf, inputs: (classifier(sigma=0.3), inputs, {}), "noise scale=0.25, not scale=0"),
        (
            lambda clf, inputs: (classifier(noise="laplace"), inputs, {}),
            "noise name='gaussian', not",
        ),
        (lambda clf, inputs: (clf, inputs, {"noise_seed": 5}), r"noise_seed=\d+, not 5"),
        (lambda clf, inputs: (clf, inputs[1:], {}), "inputs n_inputs=60, not n_inputs=59"),
        (lambda clf, inputs: (clf, inputs[::-1], {}), "for another X: input 0 differs"),
        (lambda clf, inputs: (classifier(n_estimation=200), inputs, {}), "n_estimation=300, not"),
        (lambda clf, inputs: (classifier(n_selection=40), inputs, {}), "n_selection=50, not n_s"),
        (lambda clf, inputs: (clf, inputs, {"radii": [0.1]}), "rule='fixed'"),
        (
            lambda clf, inputs: (classifier(common_noise=False), inputs, {}),
            "common_noise=True",
        ),
        (
            lambda clf, inputs: (
                SmoothedClassifier(
                    DecisionTreeClassifier(random_state=0), 0.25, n_selection=50, n_estimation=300
                )
                .set_params(random_state=0)
                .fit(X[:600], y[:600]),
                inputs,
                {},
            ),
            "by another model",
        ),
    ],
)
def test_another_run_is_refused_and_its_store_left_alone(change, difference, finished) -> None:
    with VoteStore(finished) as store:
        before = store.header, store.certificates().counts
    clf, inputs, how = change(CLF, X[:N_INPUTS])
    message = f"^store must be a new file or one of the same run, got .* {difference}.* Hand in"
    with pytest.raises(StoreMismatchError, match=message):
        clf.certificates(inputs, store=finished, **how)
    with VoteStore(finished) as store:
        assert store.header == before[0]
        assert np.array_equal(store.certificates().counts, before[1])


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"autocast": "bfloat16"}, "autocast=None, not .*autocast='bfloat16'"),
        ({"shortcuts": False}, "shortcut='law of the first layer'.*not shortcut=None"),
    ],
)
def test_another_arithmetic_is_another_run(change, difference, path: Path) -> None:
    torch.manual_seed(0)
    net = FrozenEstimator(nn.Sequential(nn.Linear(64, 10)))
    clf = SmoothedClassifier(net, 0.25, n_estimation=200, random_state=0).fit(X[:50], y[:50])
    clf.certificates(X[:9], store=path)
    with pytest.raises(StoreMismatchError, match=f"by computing with .*{difference}"):
        clf.set_params(**change).certificates(X[:9], store=path)


def test_alpha_and_bound_may_change_where_draws_do_not_depend_on_them(finished: Path) -> None:
    other = classifier(alpha=0.05, bound="binary")
    expected = other.certificates(X[:N_INPUTS])
    assert np.array_equal(stored(finished, other).radius, expected.radius)
    with VoteStore(finished) as store:
        again = store.certificates(alpha=0.05, bound="binary")
    assert np.array_equal(again.radius, expected.radius)
    assert again.facts == expected.facts


def test_a_bound_of_ones_own_is_handed_in_again(path: Path) -> None:
    def timid(p_lower, p_upper, sigma):
        return 0 * p_lower

    stored(path, classifier(bound=timid))
    with VoteStore(path) as store:
        assert not store.certificates(bound=timid).radius.any()
        with pytest.raises(ValueError, match=r"^bound must be given again .* 'test_vote_store\."):
            store.certificates()


@pytest.mark.parametrize("how", [{"bound": "other"}, {"alpha": 0.5}])
def test_votes_that_are_no_sample_are_not_certified_anew(how, path: Path) -> None:
    stored(path, CLF, radii=[0.1])
    with VoteStore(path) as store, pytest.raises(ValueError, match="as soon as its radii were"):
        store.certificates(**how)


def test_it_is_read_while_it_grows(path: Path, monkeypatch) -> None:
    add, seen = StoreWriter.add, []

    def watched(self, inputs, digests, votes):
        add(self, inputs, digests, votes)
        with VoteStore(path) as store:
            record = store.certificates()
            assert same_counts(record, RECORD.take(store.inputs))
            seen.append(len(store))

    monkeypatch.setattr(StoreWriter, "add", watched)
    stored(path, CLF)
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == N_INPUTS


def test_a_reader_sees_whole_blocks_from_another_thread(path: Path) -> None:
    stop, trouble = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                with VoteStore(path) as store:
                    record = store.certificates()
                    if not same_counts(record, RECORD.take(np.arange(len(record)))):
                        trouble.append(len(record))
            except InvalidFileError as error:
                if "does not" not in str(error) and "holds no votes" not in str(error):
                    trouble.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        stored(path, CLF)
    finally:
        stop.set()
        reader.join()
    assert not trouble


def test_there_is_one_writer_at_a_time(path: Path) -> None:
    stored(path, CLF)
    with VoteStore(path) as store:
        header = store.header
    with StoreWriter(path, header):
        with pytest.raises(StoreBusyError, match=r"is being written by another run\. Wait for it"):
            stored(path, CLF)
        with VoteStore(path) as store:
            assert len(store) == N_INPUTS
    assert same_counts(stored(path, CLF), RECORD)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "run.sqlite"
    with pytest.raises(StoreWriteError, match=r"^store must lie in a folder .* Make '.*nowhere' f"):
        stored(nowhere, CLF)
    with pytest.raises(StoreWriteError, match=r"^store must be a file, got the folder"):
        stored(tmp_path, CLF)
    with pytest.raises(StoreWriteError, match=r"^store must be a file, got the folder ''"):
        CLF.certificates(X[:N_INPUTS], store="")


def test_a_full_disk_loses_nothing_that_was_written(path: Path, monkeypatch) -> None:
    add, calls = StoreWriter.add, []

    def full(self, inputs, digests, votes):
        calls.append(len(inputs))
        if len(calls) == 2:
            pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
            self._connection.execute(f"PRAGMA max_page_count = {pages}")
        add(self, inputs, digests, votes)

    clf = classifier(n_estimation=300)
    monkeypatch.setattr(StoreWriter, "add", full)
    inputs = np.tile(X[:200], (40, 1))  # so many that a block needs another page
    with pytest.raises(StoreWriteError, match=r"full\. What it holds is safe: free some space"):
        clf.certificates(inputs, store=path)
    monkeypatch.setattr(StoreWriter, "add", add)
    with VoteStore(path) as store:
        assert 0 < len(store) < len(inputs)


class Fragile(DecisionTreeClassifier):
    """A tree that cannot stand bright inputs, for now."""

    patient = False

    def predict(self, X, check_input=True):
        if not Fragile.patient and np.any(np.abs(X[:, 0] - 9) < 2):
            raise RuntimeError("too bright")
        return super().predict(X)


def test_an_input_that_fails_costs_itself_and_is_tried_again(path: Path, monkeypatch) -> None:
    clf = SmoothedClassifier(Fragile(random_state=0), 0.25, n_estimation=300, random_state=0)
    clf.fit(X[:600], y[:600])
    inputs = X[:30].copy()
    inputs[[3, 20], 0] = 9
    with pytest.raises(CertificationError, match="too bright") as caught:
        clf.certificates(inputs, store=path)
    assert caught.value.failed.tolist() == [3, 20]
    with VoteStore(path) as store:
        assert store.failed == {3: "too bright", 20: "too bright"}
        assert store.to_frame().error.dropna().index.tolist() == [3, 20]
        assert store.certificates().abstained[[3, 20]].all()
    monkeypatch.setattr(Fragile, "patient", True)
    record = clf.certificates(inputs, store=path)
    assert same_counts(record, clf.certificates(inputs))
    with VoteStore(path) as store:
        assert not store.failed


def test_a_model_that_cannot_be_known_again_is_refused(path: Path) -> None:
    class Local(DecisionTreeClassifier):
        pass

    clf = SmoothedClassifier(Local(), 0.25, random_state=0).fit(X[:600], y[:600])
    with pytest.raises(TypeError, match=r"^estimator must be of an importable .* got .*Local"):
        clf.certificates(X[:3], store=path)


def test_tables_and_logs(finished: Path, tmp_path: Path) -> None:
    with VoteStore(finished) as store:
        store.to_tsv(tmp_path / "log.tsv", y[:N_INPUTS])
        store.to_parquet(tmp_path / "log.parquet", bound="binary")
        assert repr(store).endswith("run.sqlite': 60 of 60 inputs)")
    log = read_log(tmp_path / "log.tsv")
    assert np.array_equal(log.index, np.arange(N_INPUTS))
    frame = pd.read_parquet(tmp_path / "log.parquet")
    assert frame.index.name == "input"
    assert np.array_equal(frame.radius, RECORD.with_bound("binary").radius)


def test_counts_made_elsewhere(path: Path) -> None:
    columns = RECORD.selection_counts, RECORD.counts
    index = np.arange(N_INPUTS)[::-1]
    with VoteStore.from_counts(path, *columns, sigma=0.25, index=index) as store:
        assert np.array_equal(store.inputs, np.arange(N_INPUTS))
        assert np.array_equal(store.certificates().radius, RECORD.radius[::-1])
        assert store.n_inputs is None
    with pytest.raises(ValueError, match=r"^path must be a new file, got .* which exists"):
        VoteStore.from_counts(path, *columns, sigma=0.25)
    with pytest.raises(ValueError, match=r"^index must hold one number of at least 0 per row"):
        VoteStore.from_counts(path.with_name("b"), *columns, sigma=0.25, index=0 * index)
    with pytest.raises(StoreMismatchError, match="by another model"):
        stored(path, CLF)


def test_a_newer_format_says_so(finished: Path) -> None:
    with sqlite3.connect(finished) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    for use in (VoteStore, lambda path: stored(path, CLF)):
        with pytest.raises(InvalidFileError, match=r"has format version 7, .* a newer release"):
            use(finished)


def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    before = path.read_bytes()
    for use in (VoteStore, lambda path: stored(path, CLF)):
        with pytest.raises(InvalidFileError, match="holds no votes of randsmooth"):
            use(path)
    assert path.read_bytes() == before


def test_what_is_no_file_of_votes_is_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database")
    with pytest.raises(InvalidFileError, match="does not begin as a database does"):
        VoteStore(text)
    with pytest.raises(InvalidFileError, match="does not exist"):
        VoteStore(tmp_path / "nothing")
    with pytest.raises(InvalidFileError, match="is a folder, not a file of votes"):
        VoteStore(tmp_path)
