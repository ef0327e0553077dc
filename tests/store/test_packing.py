"""Rows of votes as bytes, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from randsmooth.exceptions import InvalidFileError
from randsmooth.store.packing import packed, unpacked

votes = st.integers(2, 40).flatmap(
    lambda n: arrays(
        np.int64, n, elements=st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 2**48))
    )
)


@given(votes)
def test_every_row_comes_back_as_it_was(row: np.ndarray) -> None:
    assert np.array_equal(unpacked([packed(row)], len(row))[0], row)


@pytest.mark.parametrize(
    ("row", "n_bytes"),
    [
        (np.arange(1, 11), 1 + 10),  # every class, one byte each
        (np.full(1000, 60_000), 1 + 2000),
        (np.bincount([7], minlength=1000), 1 + 4 + 1),  # one class of a thousand
        (100_000 * np.bincount([7, 9], minlength=1000), 1 + 2 * (4 + 4)),
    ],
)
def test_a_row_takes_no_more_than_its_numbers_need(row: np.ndarray, n_bytes: int) -> None:
    assert len(packed(row)) == n_bytes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no known form"),
        (b"\x03abc", "no known form"),
        (b"\x01abc", "not for 4 classes"),
        (b"\x81\x04\0\0\0\x07", "not for 4 classes"),  # column 4 of 0 to 3
        (b"\x81\x01\0\0\0\x01\0\0\0\x07\x07", "not for 4 classes"),  # one column twice
        (b"\x81\x01\0\0", "not for 4 classes"),
        (b"\x88\x01\0\0\0" + b"\xff" * 8, "more than 281474976710656 votes"),
    ],
)
def test_what_is_no_row_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InvalidFileError, match=message):
        unpacked([content], 4)


@given(st.binary(max_size=60))
def test_any_bytes_are_votes_or_refused(content: bytes) -> None:
    try:
        row = unpacked([content], 5)
    except InvalidFileError:
        return
    assert (row >= 0).all()


def test_a_small_file_does_not_become_a_table_that_fills_memory() -> None:
    with pytest.raises(InvalidFileError, match=r"100,000 inputs of 1,000,000 classes, .* 16 GiB"):
        unpacked([packed(np.bincount([3], minlength=10))] * 100_000, 1_000_000)
