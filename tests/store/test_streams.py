"""Inputs that are read a block at a time: data sets, batches, arrays on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs import N_INPUTS, X, classifier, same_counts, y
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from randsmooth import SmoothedClassifier, VoteStore
from randsmooth.exceptions import CertificationError, StoreMismatchError

CLF = classifier()
INPUTS = X[:N_INPUTS]
RECORD = CLF.certificates(INPUTS)


class Pairs(Dataset):
    def __len__(self) -> int:
        return N_INPUTS

    def __getitem__(self, number: int):
        return torch.from_numpy(INPUTS[number]), y[number]


class Endless(IterableDataset):
    def __iter__(self):
        yield from INPUTS


class Seen(Dataset):
    """Notes how many inputs are alive at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return N_INPUTS

    def __getitem__(self, number: int):
        self.asked.append(number)
        return INPUTS[number]


def on_disk(folder: Path) -> np.ndarray:
    np.save(folder / "inputs.npy", INPUTS)
    return np.load(folder / "inputs.npy", mmap_mode="r")


class Giver:
    """Batches, over and over, by another library."""

    def __iter__(self):
        return iter([INPUTS[:33], INPUTS[33:]])


SOURCES = {
    "data set of pairs": lambda folder: Pairs(),
    "data set without a length": lambda folder: Endless(),
    "tensors": lambda folder: TensorDataset(
        torch.from_numpy(INPUTS), torch.from_numpy(y[:N_INPUTS])
    ),
    "loader": lambda folder: DataLoader(Pairs(), batch_size=7),
    "batches": lambda folder: iter([INPUTS[:1], INPUTS[1:40], INPUTS[40:]]),
    "batches in a list": lambda folder: [INPUTS[:20], torch.from_numpy(INPUTS[20:])],
    "batches with labels in a list": lambda folder: [(INPUTS[:9], y[:9]), (INPUTS[9:], y[9:])],
    "what gives batches": lambda folder: Giver(),
    "batches with labels": lambda folder: iter([(INPUTS[:9], y[:9]), (INPUTS[9:], y[9:])]),
    "array on disk": on_disk,
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("stored", [False, True])
def test_every_source_gives_the_counts_of_the_array(source, stored, tmp_path) -> None:
    path = tmp_path / "run.sqlite" if stored else None
    record = CLF.certificates(SOURCES[source](tmp_path), store=path)
    assert same_counts(record, RECORD)
    assert np.array_equal(record.radius, RECORD.radius)
    assert record.facts == RECORD.facts
    assert np.array_equal(CLF.certify(SOURCES[source](tmp_path)), RECORD.radius)


@pytest.mark.parametrize("given", [list, pd.DataFrame, torch.from_numpy, np.asarray])
def test_arrays_of_every_kind_can_be_stored(given, tmp_path) -> None:
    record = CLF.certificates(given(INPUTS), store=tmp_path / "run.sqlite")
    assert same_counts(record, RECORD)


def test_columns_of_a_table_keep_their_names(tmp_path) -> None:
    table = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    clf = SmoothedClassifier(CLF.estimator, 0.25, n_estimation=100, random_state=0)
    clf.fit(table[:600], y[:600])
    clf.certificates(table[:20], store=tmp_path / "run.sqlite")
    with pytest.raises(ValueError, match="feature names should match"):
        clf.certificates(table[:20].rename(columns={"pixel 0": "first"}), store=tmp_path / "b")


def test_inputs_are_asked_for_in_order_and_once() -> None:
    seen = Seen()
    CLF.certificates(seen)
    assert seen.asked == list(range(N_INPUTS))


def test_a_source_without_a_length_is_gone_on_with(tmp_path) -> None:
    path = tmp_path / "run.sqlite"
    CLF.certificates(iter([INPUTS[:25]]), store=path)
    assert same_counts(CLF.certificates(iter([INPUTS]), store=path), RECORD)
    # Fewer than there are: the record is about these.
    assert same_counts(CLF.certificates(iter([INPUTS[:9]]), store=path), RECORD.take(slice(9)))
    with pytest.raises(StoreMismatchError, match="for another X: input 2 differs"):
        CLF.certificates(iter([INPUTS[:2], INPUTS[3:5]]), store=path)


def test_an_input_that_is_no_number_costs_itself(tmp_path) -> None:
    broken = INPUTS.copy()
    broken[[30, 59], 5] = np.nan
    path = tmp_path / "run.sqlite"
    with pytest.raises(CertificationError, match="NaN") as caught:
        CLF.certificates(iter([broken]), store=path)
    assert caught.value.failed.tolist() == [30, 59]
    good = np.setdiff1d(np.arange(N_INPUTS), [30, 59])
    assert same_counts(caught.value.certificates.take(good), RECORD.take(good))
    with VoteStore(path) as store:
        assert sorted(store.failed) == [30, 59]
    with pytest.raises(CertificationError, match="NaN"):
        CLF.certificates(iter([broken]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (iter([]), "^X must hold at least one input, got none"),
        (iter([X[:5, :60]]), "64 features"),
    ],
)
def test_a_source_of_something_else_is_named(source, message) -> None:
    with pytest.raises(ValueError, match=message):
        CLF.certificates(source)


def test_a_block_of_which_every_input_fails_costs_itself(tmp_path) -> None:
    broken = INPUTS.copy()
    broken[8:] = np.nan
    with pytest.raises(CertificationError, match="NaN") as caught:
        CLF.certificates(iter([broken]), store=tmp_path / "run.sqlite")
    assert caught.value.failed.tolist() == list(range(8, N_INPUTS))
    assert same_counts(caught.value.certificates.take(slice(8)), RECORD.take(slice(8)))
