"""Files that were cut, altered or made to harm: refused, with nothing run and no memory filled."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from runs import N_INPUTS, X, classifier, same_counts, stored

from randsmooth import VoteStore
from randsmooth.exceptions import (
    InvalidFileError,
    StoreBusyError,
    StoreMismatchError,
    StoreReadError,
    StoreWriteError,
)
from randsmooth.store.database import FORMAT_VERSION
from randsmooth.store.header import read_header
from randsmooth.store.packing import packed, unpacked
from randsmooth.store.seals import row_seal, run_key

CLF = classifier()
RECORD = CLF.certificates(X[:N_INPUTS])
N_MUTATIONS = 10_000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "run.sqlite"
    stored(path, CLF)
    return path


def peak_memory() -> float:
    """The most memory that this process ever had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with some bytes changed, moved, cut off or repeated."""
    data = bytearray(content)
    kind = rng.integers(5)
    if kind == 0:  # single bytes
        for place in rng.integers(len(data), size=rng.integers(1, 9)):
            data[place] = rng.integers(256)
    elif kind == 1:  # the header of the database, or of one of its pages
        page = 4096 * rng.integers(len(data) // 4096)
        for place in page + rng.integers(100, size=rng.integers(1, 5)):
            data[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
    elif kind == 2:  # cut
        del data[rng.integers(len(data)) :]
    elif kind == 3:  # a page where another one belongs
        one, other = 4096 * rng.integers(len(data) // 4096, size=2)
        data[one : one + 4096] = data[other : other + 4096]
    else:  # a run of one byte
        start, length = rng.integers(len(data)), rng.integers(1, 600)
        data[start : start + length] = bytes([rng.integers(256)]) * length
    return bytes(data)


@pytest.mark.slow
def test_whatever_happens_to_a_file_it_is_read_or_refused(finished: Path, tmp_path: Path) -> None:
    content, path = finished.read_bytes(), tmp_path / "mutated.sqlite"
    rng = np.random.default_rng(0)
    refused, before = 0, peak_memory()
    for _ in range(N_MUTATIONS):
        path.write_bytes(mutated(content, rng))
        try:
            with VoteStore(path) as store:
                numbers, votes = store.votes()
                store.certificates()
        except InvalidFileError:
            refused += 1
        else:  # rows may be missing, but what is there is what was counted
            assert np.array_equal(votes.counts, RECORD.counts[numbers])
            assert np.array_equal(votes.selection, RECORD.selection_counts[numbers])
    assert refused > N_MUTATIONS / 5
    assert peak_memory() - before < 200e6
    assert not list(tmp_path.glob("*.py"))


def altered(finished: Path, path: Path, *statements: str, values: tuple = ()) -> Path:
    shutil.copy(finished, path)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement, values)
    with suppress(InvalidFileError, sqlite3.OperationalError, IndexError):
        seal_anew(connection)
    connection.close()
    return path


def seal_anew(connection: sqlite3.Connection) -> None:
    """Seal all rows, as somebody does who means to forge them."""
    key = run_key(read_header(connection))
    for *row, _ in connection.execute("SELECT * FROM votes").fetchall():
        values = (row_seal(key, tuple(row)), row[0])
        connection.execute("UPDATE votes SET seal = ? WHERE input = ?", values)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def hidden_trigger(name: str) -> list[str]:
    """Put a trigger where a look at the names of tables does not find it."""
    text = f"CREATE TRIGGER {name} AFTER INSERT ON votes BEGIN DELETE FROM header; END"
    return [
        "PRAGMA writable_schema = ON",
        f"INSERT INTO sqlite_schema VALUES ('trigger', '{name}', 'votes', 0, '{text}')",
    ]


HOSTILE = {
    "a trigger": ["CREATE TRIGGER t AFTER DELETE ON votes BEGIN DELETE FROM header; END"],
    "a view": ["DROP TABLE votes", "CREATE VIEW votes AS SELECT 1 AS input"],
    "another column": ["ALTER TABLE votes ADD COLUMN more TEXT"],
    "no header": ["DELETE FROM header"],
    "header of something else": ["UPDATE header SET value = '[]'"],
    "header that is no JSON": ["UPDATE header SET value = '{' WHERE name = 'noise'"],
    "header nested without end": [
        "UPDATE header SET value = replace(hex(zeroblob(100000)), '00', '[') WHERE name = 'draws'"
    ],
    "unknown noise": ["UPDATE header SET value = '{\"name\": \"os\"}' WHERE name = 'noise'"],
    "noise of no scale": [
        'UPDATE header SET value = \'{"name": "gaussian", "scale": -1}\' WHERE name = \'noise\''
    ],
    "objects for labels": [
        'UPDATE header SET value = \'{"dtype": "|O", "labels": [1, 2]}\' WHERE name = \'classes\''
    ],
    "labels of huge size": [
        'UPDATE header SET value = \'{"dtype": "<U1000000000", "labels": [1, 2]}\' '
        "WHERE name = 'classes'"
    ],
    "other classes": [
        'UPDATE header SET value = \'{"dtype": "<i8", "labels": [1, 2]}\' WHERE name = \'classes\''
    ],
    "alpha of two": ["UPDATE header SET value = '2' WHERE name = 'alpha'"],
    "a rule nobody knows": [
        "UPDATE header SET value = '{\"rule\": \"guess\"}' WHERE name = 'draws'"
    ],
    "text for votes": ["UPDATE votes SET estimation = 'many' WHERE input = 3"],
    "a number for votes": ["UPDATE votes SET estimation = 7 WHERE input = 3"],
    "no votes": ["UPDATE votes SET estimation = NULL WHERE input = 3"],
    "huge votes": ["UPDATE votes SET selection = zeroblob(60000000) WHERE input = 3"],
    "claims of nothing": ["UPDATE votes SET claimed = 3 WHERE input = 3"],
    "text for claims": ["UPDATE votes SET claimed = 'all' WHERE input = 3"],
    "time that runs backwards": ["UPDATE votes SET seconds = -1 WHERE input = 3"],
    "more votes than were drawn": [
        f"UPDATE votes SET estimation = x'02{18 * '00'}ffff' WHERE input = 3"
    ],
    "fewer votes of selection": [f"UPDATE votes SET selection = x'01{10 * '00'}'"],
    "labels of huge size together": [
        'UPDATE header SET value = \'{"dtype": "<U16384", "labels": '
        f"[{','.join(20_000 * '0')}]}}' WHERE name = 'classes'"
    ],
    "a trigger by the name of an index": hidden_trigger("sqlite_autoindex_votes_1"),
    "a trigger by the name of a table": hidden_trigger("header"),
    "endless time": ["UPDATE votes SET seconds = 9e999 WHERE input = 3"],
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_what_was_made_to_harm_is_refused(harm, finished, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = altered(finished, tmp_path / "hostile.sqlite", *HOSTILE[harm])
    message = "hostile.sqlite (holds|has|claims|contradicts|is damaged)"
    before = peak_memory()
    with pytest.raises(InvalidFileError, match=message), VoteStore(path) as store:
        store.certificates()
    assert peak_memory() - before < 300e6


@pytest.mark.parametrize("column", ["selection", "digest", "error"])
def test_a_pickle_is_never_opened(column, finished, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    payload = pickle.dumps(Harm())
    statement = f"UPDATE votes SET {column} = ? WHERE input = 0"
    path = altered(finished, tmp_path / "hostile.sqlite", statement, values=(payload,))
    try:
        with VoteStore(path) as store:
            store.certificates()
            store.to_frame()
        stored(path, CLF)
    except (InvalidFileError, StoreMismatchError):
        pass
    assert not Path("harmed").exists()


def test_a_row_that_was_altered_is_noticed(finished: Path, tmp_path: Path) -> None:
    """As many votes for other classes: nothing but the seal tells."""
    path = tmp_path / "run.sqlite"
    shutil.copy(finished, path)
    connection = sqlite3.connect(path, isolation_level=None)
    kept = connection.execute("SELECT estimation FROM votes WHERE input = 7").fetchone()[0]
    other = packed(np.roll(unpacked([kept], 10)[0], 1))
    connection.execute("UPDATE votes SET estimation = ? WHERE input = 7", (other,))
    connection.close()
    message = "holds votes for input 7 that are not those that its run wrote"
    with pytest.raises(InvalidFileError, match=message), VoteStore(path) as store:
        store.certificates()
    with pytest.raises(InvalidFileError, match=message):
        stored(path, CLF)


def test_a_log_that_was_left_behind_is_not_played_into_another_run(tmp_path: Path) -> None:
    """Its store was removed after a kill; another run begins under the same name."""
    path, kept = tmp_path / "run.sqlite", tmp_path / "kept"
    kept.mkdir()
    CLF.certificates(iter([X[:20]]), store=path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("UPDATE votes SET seconds = seconds + 1")
    for kind in ("wal", "shm"):
        shutil.copy(f"{path}-{kind}", kept / f"run.sqlite-{kind}")
    connection.close()
    path.unlink()
    for left in kept.iterdir():
        shutil.copy(left, tmp_path / left.name)
    other = classifier(sigma=0.5, n_estimation=200)
    assert same_counts(stored(path, other), other.certificates(X[:N_INPUTS]))


def test_rows_of_another_run_are_refused(finished: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "run.sqlite", classifier(sigma=0.3)
    other.certificates(X[:N_INPUTS], store=path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("ATTACH ? AS theirs", (str(finished),))
    connection.execute("UPDATE votes SET seal = x'00' WHERE input = 0")
    connection.execute("INSERT OR REPLACE INTO votes SELECT * FROM theirs.votes")
    connection.close()
    with pytest.raises(InvalidFileError, match="holds votes for input 0 that are not those"):
        stored(path, other)


def test_a_lock_that_is_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    Path(f"{path}.lock").write_text(100 * "somebody else's notes\n")
    with pytest.raises(StoreWriteError, match=r"^store must have a lock beside it, but '.*lock'"):
        stored(path, CLF)


def test_a_name_that_leads_elsewhere_opens_that_file_and_no_other(finished, tmp_path) -> None:
    odd = tmp_path / "run.sqlite?mode=memory&cache=shared#x"
    shutil.copy(finished, odd)
    with VoteStore(odd) as store:
        assert len(store) == N_INPUTS


def test_a_torn_last_page_loses_no_block_that_was_written(finished, tmp_path) -> None:
    """Power fails while a block is written: what the log holds of it is torn."""
    path = tmp_path / "run.sqlite"
    stored_part = CLF.certificates(iter([X[:20]]), store=path)
    assert len(stored_part) == 20
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("UPDATE votes SET seconds = seconds + 1")
    log = tmp_path / "run.sqlite-wal"
    torn = tmp_path / "torn.sqlite"
    for cut in range(0, log.stat().st_size, 997):
        shutil.copy(path, torn)
        Path(f"{torn}-wal").write_bytes(log.read_bytes()[:cut])
        Path(f"{torn}-shm").unlink(missing_ok=True)
        with VoteStore(torn) as store:
            assert same_counts(store.certificates(), stored_part)
    connection.close()
    record = CLF.certificates(iter([X[:N_INPUTS]]), store=torn)
    assert same_counts(record, RECORD)


def test_what_a_killed_writer_had_begun_is_taken_back(finished: Path, tmp_path: Path) -> None:
    """It died between two modes of the file, with pages written that are not to stay."""
    path, left = tmp_path / "run.sqlite", tmp_path / "left.sqlite"
    shutil.copy(finished, path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE votes SET estimation = zeroblob(9000)")
    shutil.copy(path, left)
    shutil.copy(f"{path}-journal", f"{left}-journal")
    connection.close()
    assert left.read_bytes() != finished.read_bytes()
    with VoteStore(left) as store:
        assert same_counts(store.certificates(), RECORD)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root becomes nobody for a while, to whom as much is forbidden as to anybody else."""
    if os.geteuid():
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def closed_folder(finished: Path) -> Iterator[Path]:
    """A folder in which nothing can be made, with a store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(finished, folder / "run.sqlite")
        folder.chmod(0o555)
        with without_privileges():
            yield folder
        folder.chmod(0o700)


def test_a_file_in_a_folder_that_cannot_be_written_to_is_read(closed_folder: Path) -> None:
    with VoteStore(closed_folder / "run.sqlite") as store:
        assert same_counts(store.certificates(), RECORD)


@pytest.mark.parametrize("name", ["run.sqlite", "another.sqlite"])
def test_no_run_begins_where_nothing_can_be_written(name: str, closed_folder: Path) -> None:
    with pytest.raises(StoreWriteError, match=r"must be a file that can be written to, got .*safe"):
        CLF.certificates(X[:N_INPUTS], store=closed_folder / name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """What gives a disk of some kilobytes, or gives the same disk more."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def sized(kilobytes: int) -> Path:
        how = ["-o", "remount"] if os.path.ismount(disk) else ["-t", "tmpfs"]
        size = f"size={kilobytes}k"
        subprocess.run(["mount", *how, "-o", size, "tmpfs", disk], check=True, capture_output=True)
        return disk

    try:
        sized(4)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk can be mounted by root only")
    yield sized
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 52, 56, 60])
def test_a_full_disk_ends_a_run_that_goes_on_later(kilobytes: int, small_disk) -> None:
    """Wherever it fills up: while the file is made, its log, its index, or a block is written."""
    path = small_disk(kilobytes) / "run.sqlite"
    with pytest.raises(StoreWriteError, match=r"(full|I/O error)\. What it holds is safe"):
        stored(path, CLF)
    if path.exists():
        with suppress(StoreReadError), VoteStore(path) as store:
            numbers, votes = store.votes()
            assert np.array_equal(votes.counts, RECORD.counts[numbers])
    small_disk(16384)
    assert same_counts(stored(path, CLF), RECORD)


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch) -> None:
    clock = iter(range(10**9, 0, -1))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    assert same_counts(stored(tmp_path / "run.sqlite", CLF), RECORD)


def test_the_version_of_the_format_is_part_of_it() -> None:
    assert FORMAT_VERSION == 1
    assert issubclass(StoreBusyError, RuntimeError)
