"""The loaders, on the real files where they are at hand and on tiny ones for every error."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from randsmooth.datasets import (
    ImageFolder,
    cifar10,
    fetch_cifar10,
    fetch_mnist,
    load_image_folder,
    mnist,
    read_idx,
)
from randsmooth.exceptions import InvalidFileError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

N = 4  # images of a batch of the tiny releases


# IDX files


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
def test_read_idx_returns_every_type_of_the_format_in_native_order(tmp_path, code, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (tmp_path / "a").write_bytes(idx_bytes(array, code))
    read = read_idx(tmp_path / "a")
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    assert read.dtype.isnative
    assert_array_equal(read, array)


def test_read_idx_takes_compressed_files_and_paths_as_strings(tmp_path):
    array = np.arange(6, dtype=np.uint8)
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(array)))
    assert_array_equal(read_idx(str(tmp_path / "a.gz")), array)


def test_read_idx_takes_an_array_without_rows(tmp_path):
    (tmp_path / "a").write_bytes(idx_bytes(np.empty((0, 28, 28), np.uint8)))
    assert read_idx(tmp_path / "a").shape == (0, 28, 28)


IDX = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must begin with the magic number of an IDX file, got 0x\."),
        (b"\x00\x00\x08", r"must begin with the magic number of an IDX file, got 0x000008\."),
        (b"PNG!" + IDX, r"must begin with the magic number of an IDX file, got 0x504e4721\."),
        (b"\x00\x00\x07\x01" + IDX, r"must begin with the magic number .* got 0x00000701\."),
        (b"\x00\x00\x08\x00" + IDX, r"must begin with the magic number .* got 0x00000800\."),
        (IDX[:9], r"is cut short: it ends within its header\."),
        (IDX[:-1], r"is cut short: its header declares 24 bytes for shape \(3, 4\), it has 23\."),
        (IDX + b"\x00", r"is too long: its header declares 24 bytes .* it has 25\."),
        (
            gzip.compress(IDX, mtime=0)[:-4],
            r"cannot be decompressed: it is cut short or damaged \(",
        ),
        (b"\x1f\x8b" + IDX, r"cannot be decompressed: it is cut short or damaged \("),
    ],
)
def test_read_idx_refuses_files_that_are_damaged_or_of_another_kind(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InvalidFileError, match=message):
        read_idx(tmp_path / "a")


def test_read_idx_names_a_missing_file(tmp_path):
    with pytest.raises(InvalidFileError, match=r"absent does not exist or is no file\."):
        read_idx(tmp_path / "absent")


def test_read_idx_refuses_what_is_no_path():
    with pytest.raises(TypeError, match=r"path must be a string or a path, got 3\."):
        read_idx(3)


# MNIST


def test_mnist_test_images_are_the_published_ones(shared):
    data = fetch_mnist(data_home=shared / "data", split="test")
    assert data.data.shape == (10_000, 1, 28, 28)
    assert data.data.dtype == np.float32
    assert (data.data.min(), data.data.max()) == (0, 1)
    assert data.target.dtype == np.int64
    assert data.target[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.target_names == [str(digit) for digit in range(10)]
    assert "LeCun" in data.DESCR


@pytest.mark.slow
def test_mnist_training_images_are_the_published_ones(shared):
    X, y = fetch_mnist(data_home=shared / "data" / "mnist", return_X_y=True)
    assert X.shape == (60_000, 1, 28, 28)
    assert y[:5].tolist() == [5, 0, 4, 1, 9]
    assert_allclose(X.mean(dtype=np.float64), 0.1307, atol=5e-5)  # the field's constants
    assert_allclose(X.std(dtype=np.float64), 0.3081, atol=5e-5)


@pytest.fixture
def tiny_mnist(monkeypatch) -> dict[str, bytes]:
    """Four images and their labels, taken for the published test files."""
    pixels = np.arange(N * 784, dtype=np.uint32).reshape(N, 28, 28).astype(np.uint8)
    files = {
        "t10k-images-idx3-ubyte": idx_bytes(pixels),
        "t10k-labels-idx1-ubyte": idx_bytes(np.array([3, 1, 4, 1], np.uint8)),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(mnist, "_SHA256", digests)
    return files


@pytest.mark.parametrize("folder", [".", "mnist"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist_is_read_plain_or_compressed_from_the_folder_or_its_own(
    tmp_path, tiny_mnist, folder, end
):
    (tmp_path / folder).mkdir(exist_ok=True)
    for name, content in tiny_mnist.items():
        stored = gzip.compress(content, mtime=0) if end else content
        (tmp_path / folder / f"{name}{end}").write_bytes(stored)
    X, y = fetch_mnist(data_home=str(tmp_path), split="test", return_X_y=True)
    assert_array_equal(X[0, 0, 0, :3], np.array([0, 1, 2], np.float32) / np.float32(255))
    assert y.tolist() == [3, 1, 4, 1]


@pytest.fixture
def mirror(tmp_path, tiny_mnist) -> str:
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, content in tiny_mnist.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    return folder.as_uri()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("end", ["", "/"])
def test_mnist_is_downloaded_once_and_then_read_from_its_folder(tmp_path, mirror, end):
    home = tmp_path / "home"
    first = fetch_mnist(data_home=home, split="test", mirrors=[mirror + end])
    assert files_below(home) == [
        "mnist/t10k-images-idx3-ubyte.gz",
        "mnist/t10k-labels-idx1-ubyte.gz",
    ]
    second = fetch_mnist(data_home=home, split="test", download_if_missing=False)
    assert_array_equal(first.data, second.data)


def test_a_mirror_that_fails_or_has_another_file_gives_way_to_the_next(tmp_path, mirror):
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (wrong / name).write_bytes(gzip.compress(IDX, mtime=0))
    mirrors = [(tmp_path / "absent").as_uri(), wrong.as_uri(), mirror]
    home = tmp_path / "home"
    assert len(fetch_mnist(data_home=home, split="test", mirrors=mirrors).data) == N


class Server(SimpleHTTPRequestHandler):
    """Serves a folder, declares some files longer than they are, and is silent."""

    def do_GET(self):
        if "broken" not in self.path:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(gzip.compress(IDX, mtime=0))

    def log_message(self, *_):
        pass


def test_a_server_that_misses_the_file_or_breaks_off_gives_way_to_the_next(
    tmp_path, mirror, monkeypatch
):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(Server, directory=str(tmp_path / "mirror"))
    home = tmp_path / "home"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            broken = [f"{address}/absent", f"{address}/broken"]
            with pytest.raises(InvalidFileError, match=r"HTTP Error 404: .*; http:.*/broken/t10k"):
                fetch_mnist(data_home=home, split="test", mirrors=broken)
            data = fetch_mnist(data_home=home, split="test", mirrors=[*broken, address])
        finally:
            server.shutdown()
            thread.join()
    assert len(data.data) == N
    assert len(files_below(home)) == 2


@pytest.mark.usefixtures("tiny_mnist")
def test_a_download_that_is_not_whole_is_not_kept(tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "t10k-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(IDX, mtime=0)[:-9]
    )
    home = tmp_path / "home"
    message = r"t10k-images-idx3-ubyte\.gz could not be downloaded \(file:.*cut short.*by hand\."
    with pytest.raises(InvalidFileError, match=message):
        fetch_mnist(data_home=home, split="test", mirrors=[(tmp_path / "mirror").as_uri()])
    assert files_below(home) == []


def test_mnist_that_is_missing_says_where_it_was_looked_for_and_what_to_do(tmp_path):
    message = (
        r"MNIST is not in .*: looked there and in its folder 'mnist' for "
        r"t10k-images-idx3-ubyte and t10k-images-idx3-ubyte\.gz\. Put it there, .* "
        r"RANDSMOOTH_DATA, or let download_if_missing=True fetch it\."
    )
    with pytest.raises(InvalidFileError, match=message):
        fetch_mnist(data_home=tmp_path, split="test", download_if_missing=False)


@pytest.mark.usefixtures("tiny_mnist")
def test_mnist_with_other_content_is_refused(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(IDX)
    message = r"is not the published file: it has SHA-256 [0-9a-f]{64}, not [0-9a-f]{64}\. Replace"
    with pytest.raises(InvalidFileError, match=message):
        fetch_mnist(data_home=tmp_path, split="test")


def test_the_environment_variable_names_the_default_folder(tmp_path, tiny_mnist, monkeypatch):
    for name, content in tiny_mnist.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("RANDSMOOTH_DATA", str(tmp_path))
    assert len(fetch_mnist(split="test", download_if_missing=False).data) == N


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_environment_variable_the_folder_is_in_the_home(tmp_path, monkeypatch, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RANDSMOOTH_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("RANDSMOOTH_DATA", value)
    with pytest.raises(InvalidFileError, match=f"MNIST is not in {tmp_path}/randsmooth_data:"):
        fetch_mnist(download_if_missing=False)


@pytest.mark.parametrize("fetch", [fetch_mnist, fetch_cifar10])
@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"split": "all"}, ValueError, r"split must be 'train' or 'test', got 'all'\."),
        ({"data_home": 3}, TypeError, r"data_home must be a string or a path, got 3\."),
        ({"mirrors": "https://x"}, TypeError, r"mirrors must be a sequence of addresses, got 'ht"),
        ({"mirrors": ()}, ValueError, r"mirrors must hold one address or more, got \(\)\."),
        ({"mirrors": [3]}, ValueError, r"mirrors must hold one address or more, got \[3\]\."),
    ],
)
def test_fetchers_refuse_parameters_that_are_none(fetch, parameters, error, message):
    with pytest.raises(error, match=message):
        fetch(**parameters)


# CIFAR-10


@pytest.mark.slow
def test_cifar10_is_read_from_an_archive_of_jpeg_images(shared):
    data = fetch_cifar10(data_home=shared / "data", split="test", download_if_missing=False)
    assert data.data.shape == (5_000, 3, 32, 32)
    assert data.data.dtype == np.float32
    assert (data.data.min(), data.data.max()) == (0, 1)
    assert data.target.dtype == np.int64
    assert_array_equal(data.target, np.repeat(np.arange(10), 500))
    assert data.target_names == CLASSES
    assert "Krizhevsky" in data.DESCR
    # The field's constants, of the training images.
    assert_allclose(data.data.mean(axis=(0, 2, 3)), [0.4914, 0.4822, 0.4465], atol=0.01)


BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]


@pytest.fixture
def batches(monkeypatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels and labels of batches of four images."""
    monkeypatch.setattr(cifar10, "_IMAGES_PER_BATCH", N)
    rng = np.random.default_rng(0)
    return {
        name: (rng.integers(0, 256, (N, 3072), dtype=np.uint8), rng.integers(0, 10, N))
        for name in [*BATCHES, "test_batch"]
    }


def binary(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    return np.column_stack([labels.astype(np.uint8), pixels]).tobytes()


class PythonTwoPickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 wrote its strings, the ones of the published batches."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value):
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def pickled(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    sink = io.BytesIO()
    batch = {"batch_label": "tiny", "labels": labels.tolist(), "data": pixels, "filenames": ["a"]}
    PythonTwoPickler(sink, protocol=2).dump(batch)
    return sink.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture(params=["binary", "pickled"])
def release(request, batches) -> dict[str, bytes]:
    """The files of a tiny original release, of either kind."""
    if request.param == "binary":
        return {f"cifar-10-batches-bin/{n}.bin": binary(*batch) for n, batch in batches.items()}
    return {f"cifar-10-batches-py/{n}": pickled(*batch) for n, batch in batches.items()}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("folder", [".", "cifar10"])
def test_both_original_releases_are_read_unpacked_or_packed(
    tmp_path, batches, release, packed, folder
):
    if packed:
        kind = "binary" if next(iter(release)).endswith(".bin") else "python"
        write_tar(tmp_path / folder / f"cifar-10-{kind}.tar.gz", release)
    else:
        write_files(tmp_path / folder, release)
    for split, names in (("train", BATCHES), ("test", ["test_batch"])):
        X, y = fetch_cifar10(data_home=tmp_path, split=split, return_X_y=True)
        pixels = np.concatenate([batches[name][0] for name in names]).reshape(-1, 3, 32, 32)
        assert_array_equal(X, pixels.astype(np.float32) / np.float32(255))
        assert_array_equal(y, np.concatenate([batches[name][1] for name in names]))
        assert (X.dtype, y.dtype) == (np.float32, np.int64)


def test_batches_pickled_anew_by_python_three_are_read(tmp_path, batches):
    pixels, labels = batches["test_batch"]
    content = pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=2)
    write_files(tmp_path, {"cifar-10-batches-py/test_batch": content})
    _, y = fetch_cifar10(data_home=tmp_path, split="test", return_X_y=True)
    assert_array_equal(y, labels)


class Malicious:
    def __reduce__(self):
        return print, ("never printed",)


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            pickle.dumps(Malicious(), protocol=2),
            r"is no batch .*: it asks for __builtin__\.print\.",
        ),
        (pickle.dumps(Malicious(), protocol=4), r"is no batch .*: it asks for builtins\.print\."),
        (pickle.dumps({b"data": np.zeros((2, 2))}, protocol=2), r"is no batch .*: b'labels'\."),
        (b"", r"test_batch in .* is no batch of CIFAR-10: Ran out of input\."),
        (
            pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]}, protocol=2),
            r"test_batch in .* must hold uint8 pixels of shape \(4, 3072\) and their labels, "
            r"got uint8 of shape \(2, 3072\) and labels of shape \(2,\)\.",
        ),
    ],
)
def test_pickles_that_are_no_batches_are_refused_and_never_run(tmp_path, capsys, content, message):
    write_files(tmp_path, {"cifar-10-batches-py/test_batch": content})
    with pytest.raises(InvalidFileError, match=message):
        fetch_cifar10(data_home=tmp_path, split="test")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:-3073], lambda c: c + b"\x00"])
def test_a_binary_batch_of_another_length_is_refused(tmp_path, batches, damage):
    content = damage(binary(*batches["test_batch"]))
    write_files(tmp_path, {"cifar-10-batches-bin/test_batch.bin": content})
    message = r"test_batch\.bin in .* must have 12292 bytes, got \d+: it is cut short or another"
    with pytest.raises(InvalidFileError, match=message):
        fetch_cifar10(data_home=tmp_path, split="test")


def test_labels_beyond_the_ten_classes_are_refused(tmp_path, batches):
    content = binary(batches["test_batch"][0], np.array([0, 9, 10, 1]))
    write_files(tmp_path, {"cifar-10-batches-bin/test_batch.bin": content})
    with pytest.raises(InvalidFileError, match=r"must hold labels from 0 to 9, got 0 to 10\."):
        fetch_cifar10(data_home=tmp_path, split="test")


@pytest.mark.parametrize("packed", [False, True])
def test_a_release_that_misses_a_batch_names_it(tmp_path, batches, packed):
    files = {f"cifar-10-batches-bin/{n}.bin": binary(*batches[n]) for n in BATCHES[:4]}
    if packed:
        write_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    else:
        write_files(tmp_path, files)
    message = r"must hold data_batch_1\.bin, .*, misses data_batch_5\.bin\."
    with pytest.raises(InvalidFileError, match=message):
        fetch_cifar10(data_home=tmp_path)


@pytest.mark.parametrize("n_bytes", [0, 10, 9000])
def test_an_archive_that_is_cut_short_is_refused(tmp_path, batches, n_bytes):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_tar(path, {"test_batch.bin": binary(*batches["test_batch"])})
    path.write_bytes(path.read_bytes()[:n_bytes])
    message = r"cifar-10-binary\.tar\.gz cannot be unpacked: it is cut short or no tar archive \("
    with pytest.raises(InvalidFileError, match=message):
        fetch_cifar10(data_home=tmp_path, split="test")


def test_cifar10_that_is_missing_says_where_it_was_looked_for(tmp_path):
    message = (
        r"CIFAR-10 is not in .* and in its folder 'cifar10' for the releases and image folders"
    )
    with pytest.raises(InvalidFileError, match=message):
        fetch_cifar10(data_home=tmp_path, download_if_missing=False)


def test_cifar10_is_downloaded_and_kept_when_it_is_the_published_archive(
    tmp_path, batches, monkeypatch
):
    archive = tmp_path / "mirror" / "cifar-10-binary.tar.gz"
    write_tar(archive, {"a/test_batch.bin": binary(*batches["test_batch"])})
    mirrors, home = [archive.parent.as_uri()], tmp_path / "home"
    with pytest.raises(InvalidFileError, match=r"could not be downloaded .*not the published file"):
        fetch_cifar10(data_home=home, split="test", mirrors=mirrors)
    assert files_below(home) == []
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "_SHA256", digest)
    data = fetch_cifar10(data_home=home, split="test", mirrors=mirrors)
    assert_array_equal(data.target, batches["test_batch"][1])
    assert files_below(home) == ["cifar10/cifar-10-binary.tar.gz"]


def image_bytes(pixels: np.ndarray, format_: str = "png") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format_)
    return sink.getvalue()


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    """Two images of each class, by their place in the folder."""
    rng = np.random.default_rng(1)
    return {
        f"test/{name}/{number}.png": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        for name in CLASSES
        for number in (1, 0)
    }


def write_cifar_images(home: Path, files: dict[str, bytes], packed: bool) -> None:
    if packed:
        write_tar(home / "cifar10-test.tar.gz", {f"./a/{n}": c for n, c in files.items()})
    else:
        write_files(home / "cifar10", files)


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_images_come_sorted_by_class_and_name(tmp_path, images, packed):
    files = {name: image_bytes(pixels) for name, pixels in reversed(images.items())}
    files |= {"test/README.txt": b"", "test/cat/.0.png": b"", "test/cat/notes.txt": b""}
    write_cifar_images(tmp_path, files, packed)
    X, y = fetch_cifar10(data_home=tmp_path, split="test", return_X_y=True)
    assert_array_equal(y, np.repeat(np.arange(10), 2))
    expected = np.stack([images[name] for name in sorted(images)]).transpose(0, 3, 1, 2)
    assert_array_equal(X, expected.astype(np.float32) / np.float32(255))
    assert X.flags.c_contiguous


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_images_of_another_size_are_refused(tmp_path, images, packed):
    files = {name: image_bytes(pixels) for name, pixels in images.items()}
    files["test/cat/0.png"] = image_bytes(np.zeros((32, 28, 3), np.uint8))
    write_cifar_images(tmp_path, files, packed)
    message = r"cat/0\.png must be an image of 32 x 32 pixels, got 28 x 32\."
    with pytest.raises(InvalidFileError, match=message):
        fetch_cifar10(data_home=tmp_path, split="test")


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_images_that_cannot_be_read_are_named(tmp_path, images, packed):
    files = {name: image_bytes(pixels) for name, pixels in images.items()}
    files["test/dog/1.png"] = files["test/dog/1.png"][:100]
    write_cifar_images(tmp_path, files, packed)
    with pytest.raises(InvalidFileError, match=r"dog/1\.png is no readable image \("):
        fetch_cifar10(data_home=tmp_path, split="test")


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_classes_without_images_are_named(tmp_path, images, packed):
    files = {n: image_bytes(p) for n, p in images.items() if "ship" not in n and "frog" not in n}
    write_cifar_images(tmp_path, files, packed)
    with pytest.raises(InvalidFileError, match=r"holds no image of frog, ship\."):
        fetch_cifar10(data_home=tmp_path, split="test")


# Image folders


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes with two, one and two images of 12 x 8 pixels, one value each."""
    values = {"b/0.JPEG": 50, "a/1.png": 10, "a/0.png": 20, "c/0.png": 30, "c/x.jpg": 40}
    for name, value in values.items():
        pixels = np.full((8, 12, 3), value, np.uint8)
        format_ = "png" if name.endswith("png") else "jpeg"
        write_files(tmp_path, {f"val/{name}": image_bytes(pixels, format_)})
    write_files(tmp_path, {"val/synsets.txt": b"", "val/a/notes.txt": b"", "val/.cache/x": b""})
    return tmp_path / "val"


def test_an_image_folder_labels_images_by_sorted_class(folder):
    images = load_image_folder(folder)
    assert isinstance(images, ImageFolder)
    assert images.classes == ["a", "b", "c"]
    assert images.targets.tolist() == [0, 0, 1, 2, 2]
    assert images.targets.dtype == np.int64
    names = [str(path.relative_to(folder)) for path in images.paths]
    assert names == ["a/0.png", "a/1.png", "b/0.JPEG", "c/0.png", "c/x.jpg"]
    assert len(images) == 5
    expected = f"ImageFolder({str(folder)!r}, size=None, resize=None): 5 images, 3 classes"
    assert repr(images) == expected


@pytest.mark.parametrize("position", [1, -4, np.int64(1)])
def test_a_position_gives_an_image_and_its_label(folder, position):
    image, label = load_image_folder(str(folder))[position]
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert_array_equal(image, np.full((3, 8, 12), np.float32(10) / np.float32(255)))
    assert label == 0
    assert type(label) is int


@pytest.mark.parametrize(
    ("index", "labels"),
    [
        (slice(1, 4), [0, 1, 2]),
        (slice(None, None, -2), [2, 1, 0]),
        ([4, 0], [2, 0]),
        (np.array([2, 2, -1]), [1, 1, 2]),
        (np.array([True, False, True, False, False]), [0, 1]),
        (np.array([], dtype=int), []),
        ([], []),
        (slice(0, 0), []),
    ],
)
def test_several_positions_give_stacked_images_and_labels(folder, index, labels):
    X, y = load_image_folder(folder, size=8)[index]
    assert X.shape == (len(labels), 3, 8, 8)
    assert X.dtype == np.float32
    assert y.tolist() == labels
    assert y.dtype == np.int64


def test_positions_beyond_the_end_are_refused(folder):
    images = load_image_folder(folder)
    with pytest.raises(IndexError):
        images[5]
    with pytest.raises(IndexError):
        images[[0, 5]]
    with pytest.raises(TypeError):
        images[1.5]


def test_an_image_folder_can_be_gone_through(folder):
    assert [label for _, label in load_image_folder(folder)] == [0, 0, 1, 2, 2]


def test_batches_go_through_all_images_in_order(folder):
    images = load_image_folder(folder)
    batches = list(images.batches(2))
    assert [len(X) for X, _ in batches] == [2, 2, 1]
    assert_array_equal(np.concatenate([X for X, _ in batches]), images[:][0])
    assert_array_equal(np.concatenate([y for _, y in batches]), images.targets)


@pytest.mark.parametrize("batch_size", [0, 1.5])
def test_batches_refuse_a_size_that_is_no_positive_integer(folder, batch_size):
    message = rf"batch_size must be a positive integer, got {batch_size}\."
    with pytest.raises(ValueError, match=message):
        load_image_folder(folder).batches(batch_size)


def test_torch_loads_an_image_folder_as_a_dataset(folder):
    loader = torch.utils.data.DataLoader(load_image_folder(folder), batch_size=3)
    X, y = next(iter(loader))
    assert X.shape == (3, 3, 8, 12)
    assert X.dtype == torch.float32
    assert y.tolist() == [0, 0, 1]


def test_the_centre_is_cut_from_the_resized_image(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:30, 30:50] = 255  # a white square in the centre
    write_files(tmp_path, {"a/0.png": image_bytes(pixels)})
    image, _ = load_image_folder(tmp_path, size=4, resize=20)[0]
    assert_array_equal(image, np.ones((3, 4, 4), np.float32))
    image, _ = load_image_folder(tmp_path, size=20, resize=20)[0]
    assert (image[:, :4].max(), image[:, 8:12, 8:12].min()) == (0, 1)


def test_the_default_resize_is_the_convention_of_imagenet(tmp_path):
    assert load_image_folder_of_one(tmp_path, (300, 500)).resize == 256
    # The shorter side becomes 256 and 16 rows go on either side, as 100 * 16 / 256 = 6.25 of 100.
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[7:93, 7:93] = 255
    write_files(tmp_path, {"a/0.png": image_bytes(pixels)})
    image, _ = load_image_folder(tmp_path, size=224)[0]
    assert image.shape == (3, 224, 224)
    assert image[:, 4:-4, 4:-4].min() == 1


def load_image_folder_of_one(tmp_path: Path, shape: tuple[int, int]) -> ImageFolder:
    write_files(tmp_path, {"a/0.png": image_bytes(np.zeros((*shape, 3), np.uint8))})
    return load_image_folder(tmp_path, size=224)


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (257, 255), (3, 7)])
def test_any_image_comes_out_at_the_size_asked_for(tmp_path, shape):
    image, _ = load_image_folder_of_one(tmp_path, shape)[0]
    assert image.shape == (3, 224, 224)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_images_of_other_modes_come_out_in_three_channels(tmp_path, mode):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(tmp_path / "a" / "0.tif")
    image, _ = load_image_folder(tmp_path)[0]
    assert_array_equal(image, np.ones((3, 4, 5), np.float32))


def test_given_classes_fix_the_labels(folder):
    images = load_image_folder(folder, classes=["c", "missing", "b", "a"])
    assert images.classes == ["c", "missing", "b", "a"]
    assert images.targets.tolist() == [0, 0, 2, 3, 3]


def test_folders_that_are_not_in_classes_are_refused(folder):
    message = r"val holds folders that are not in classes: \['a', 'c'\]\."
    with pytest.raises(InvalidFileError, match=message):
        load_image_folder(folder, classes=["b"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": 0}, r"size must be a positive integer, got 0\."),
        ({"size": 2.0}, r"size must be a positive integer, got 2\.0\."),
        ({"size": 8, "resize": 0}, r"resize must be a positive integer, got 0\."),
        ({"size": 8, "resize": 7}, r"resize must be at least size, got 7 for size=8\."),
        ({"resize": 8}, r"resize must be None where size is None, got 8\."),
        ({"classes": ["a", "a"]}, r"classes must hold each name once, got \['a', 'a'\]\."),
    ],
)
def test_sizes_and_classes_that_make_no_sense_are_refused(folder, parameters, message):
    with pytest.raises(ValueError, match=message):
        load_image_folder(folder, **parameters)


def test_images_of_different_shape_are_not_stacked(folder):
    write_files(folder, {"a/2.png": image_bytes(np.zeros((3, 5, 3), np.uint8))})
    message = (
        r"images must have one shape to be stacked, got \(3, 8, 12\) in .*0\.png and \(3, 3, 5\) "
        r"in .*2\.png\. Give size\."
    )
    with pytest.raises(ValueError, match=message):
        load_image_folder(folder)[:]


@pytest.mark.parametrize("content", [b"", b"no image", image_bytes(np.eye(99) > 0)[:50]])
def test_an_unreadable_image_is_named_when_it_is_asked_for(folder, content):
    write_files(folder, {"b/1.png": content})
    images = load_image_folder(folder)
    with pytest.raises(InvalidFileError, match=r"b/1\.png is no readable image \("):
        images[3]


def test_an_image_that_has_gone_is_named(folder):
    images = load_image_folder(folder)
    (folder / "a" / "0.png").unlink()
    with pytest.raises(InvalidFileError, match=r"a/0\.png is no readable image \("):
        images[0]


def test_an_empty_class_folder_is_refused(folder):
    (folder / "d").mkdir()
    with pytest.raises(InvalidFileError, match=r"d holds no image; remove it or put its images"):
        load_image_folder(folder)


def test_a_folder_without_class_folders_is_refused(tmp_path):
    write_files(tmp_path, {"0.png": b""})
    message = r"must hold one folder of images per class, it has none\."
    with pytest.raises(InvalidFileError, match=message):
        load_image_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InvalidFileError, match=r"absent does not exist or is no folder\."):
        load_image_folder(tmp_path / "absent")


def test_an_image_folder_refuses_what_is_no_path():
    with pytest.raises(TypeError, match=r"path must be a string or a path, got None\."):
        load_image_folder(None)


def test_without_pillow_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    message = r"Images are read with Pillow: install randsmooth\[images\]\."
    with pytest.raises(ImportError, match=message):
        load_image_folder(folder)[0]
