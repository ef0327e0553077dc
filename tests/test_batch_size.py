from __future__ import annotations

import pickle

import pytest

from randsmooth.batch_size import BatchSize


def run(size: BatchSize, seconds_of_a_row: dict[int, float], n_passes: int = 40) -> list[int]:
    """Let a machine work at a speed that depends on the batch, and return the sizes it used."""
    used = []
    for _ in range(n_passes):
        used.append(size.rows)
        size.record(size.rows, size.rows * seconds_of_a_row[size.rows])
    return used


def test_a_fixed_batch_size_stays() -> None:
    size = BatchSize(100)
    assert set(run(size, {100: 1.0})) == {100}
    assert not size.searching


@pytest.mark.parametrize("fastest", [16, 32, 64, 128, 256])
def test_the_fastest_size_is_found_while_working(fastest: int) -> None:
    speeds = {n: 1.0 + abs(n.bit_length() - fastest.bit_length()) for n in (16, 32, 64, 128, 256)}
    size = BatchSize(64, searched=True, multiple=16)
    used = run(size, speeds)
    assert size.rows == used[-1] == fastest
    assert not size.searching


def test_a_larger_size_must_be_clearly_faster() -> None:
    size = BatchSize(64, searched=True, multiple=16)
    run(size, {16: 1.5, 32: 1.05, 64: 1.0, 128: 0.99, 256: 0.5})
    assert size.rows == 64


def test_batches_that_are_not_full_tell_nothing() -> None:
    size = BatchSize(64, searched=True)
    for _ in range(50):
        size.record(10, 1e-9)
    assert size.rows == 64
    assert size.searching


def test_the_first_pass_of_a_size_only_warms_up() -> None:
    size = BatchSize(64, searched=True, multiple=64)
    slow_start = iter([1e6, 1, 1, 1, 1e6, 2, 2, 2, 1e6, 2, 2, 2])
    for seconds in slow_start:
        size.record(size.rows, seconds * size.rows)
    assert size.rows == 64


def test_sizes_searched_are_multiples_of_what_the_base_needs() -> None:
    size = BatchSize(48, searched=True, multiple=16)
    assert set(run(size, {24: 0.1, 48: 1.0, 96: 2.0, 192: 3.0})) == {48, 96}


def test_halving_ends_the_search_and_stops_at_one_row() -> None:
    size = BatchSize(2, searched=True)
    assert size.halve()
    assert size.rows == 1
    assert not size.halve()
    assert not size.searching


def test_a_batch_size_travels_to_another_process() -> None:
    size = pickle.loads(pickle.dumps(BatchSize(64, searched=True, multiple=16)))
    run(size, {16: 9.0, 32: 2.0, 64: 1.0, 128: 2.0})
    assert size.rows == 64
