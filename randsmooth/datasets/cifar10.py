"""CIFAR-10 from either of its original releases, or from a folder or an archive of images."""

from __future__ import annotations

import codecs
import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from randsmooth.datasets._data_home import (
    as_bunch_or_pair,
    check_mirrors,
    check_sha256,
    check_split,
    data_home_folder,
    download,
    missing,
    unit_interval,
)
from randsmooth.datasets.image_folder import ImageFolder, is_image_name, read_image
from randsmooth.exceptions import InvalidFileError

__all__ = ["fetch_cifar10"]

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)

_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_IMAGES_PER_BATCH = 10_000
_N_PIXELS = 3 * 32 * 32

_BINARY_ARCHIVE = "cifar-10-binary.tar.gz"
_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

_DESCRIPTION = """\
CIFAR-10: 32 x 32 colour images of ten classes, 50,000 for training and 10,000 for testing.

Pixels are float32 in [0, 1] (bytes divided by 255), channels first.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", University of Toronto,
2009.
"""

# Pixels of shape (n, 3, 32, 32) and labels of shape (n,).
_Raw = tuple[NDArray[np.uint8], NDArray[np.int64]]


@overload
def fetch_cifar10(
    *,
    data_home: str | os.PathLike[str] | None = ...,
    split: Literal["train", "test"] = ...,
    download_if_missing: bool = ...,
    return_X_y: Literal[True],
    mirrors: Sequence[str] = ...,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


@overload
def fetch_cifar10(
    *,
    data_home: str | os.PathLike[str] | None = ...,
    split: Literal["train", "test"] = ...,
    download_if_missing: bool = ...,
    return_X_y: Literal[False] = ...,
    mirrors: Sequence[str] = ...,
) -> Bunch: ...


def fetch_cifar10(
    *,
    data_home: str | os.PathLike[str] | None = None,
    split: Literal["train", "test"] = "train",
    download_if_missing: bool = True,
    return_X_y: bool = False,
    mirrors: Sequence[str] = MIRRORS,
) -> Bunch | tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load CIFAR-10, downloading it where it is missing.

    A downloaded archive is kept only when it is the published one, by its SHA-256; of batches that
    were there before, length and labels are checked. Nothing is random.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds the data, or holds them in its folder ``cifar10``. None stands for the
        environment variable ``RANDSMOOTH_DATA`` or, where it is not set, ``~/randsmooth_data``.
        Of what is there, the first of these is read: ``cifar-10-batches-bin``,
        ``cifar-10-binary.tar.gz``, ``cifar-10-batches-py``, ``cifar-10-python.tar.gz``, a folder
        ``train`` or ``test`` with one folder of images per class, and an archive of such a folder
        called ``cifar10-train.tar.gz``, ``cifar10-train-png.tar.gz`` or
        ``cifar10-train-jpeg.tar.gz``.

    split : {"train", "test"}, default="train"
        The 50,000 training or the 10,000 test images.

    download_if_missing : bool, default=True
        Whether the binary release (170 MB) is downloaded into ``data_home/cifar10`` where nothing
        is found.

    return_X_y : bool, default=False
        Whether to return ``(data, target)`` in place of the Bunch.

    mirrors : sequence of str
        Addresses of folders that hold ``cifar-10-binary.tar.gz``, tried in this order.

    Returns
    -------
    :class:`~sklearn.utils.Bunch` or tuple of (ndarray, ndarray)
        With ``data``, float32 of shape (n_images, 3, 32, 32) in [0, 1]; ``target``, int64 of shape
        (n_images,); ``target_names``, the ten classes in the order of the labels; ``DESCR``, where
        the data come from. Or the first two alone.

    Raises
    ------
    InvalidFileError
        If nothing is found and is not to be downloaded, or cannot be, or a file is cut short or
        not of its kind.

    ImportError
        If there are only images and Pillow is not installed.

    TypeError
        If `data_home` is no path, or `mirrors` no sequence of addresses.

    ValueError
        If `split` is unknown, or `mirrors` is empty.

    See Also
    --------
    fetch_mnist : Loads MNIST.
    load_image_folder : Reads any folder of images, when they are asked for.

    Notes
    -----
    The original releases keep their order, which mixes the classes. Images from folders are
    sorted by class and then by name: take every hundredth, not the first hundred. JPEG images
    differ slightly from the originals.

    Examples
    --------
    >>> from randsmooth.datasets import fetch_cifar10
    >>> cifar = fetch_cifar10(split="test")  # doctest: +SKIP
    >>> cifar.data.shape, cifar.target_names[0]  # doctest: +SKIP
    ((10000, 3, 32, 32), 'airplane')
    """
    check_split(split)
    check_mirrors(mirrors)
    home = data_home_folder(data_home)
    raw = _read_first(home, split)
    if raw is None and download_if_missing:
        raw = _read_binary(_download(home, mirrors), split)
    if raw is None:
        raise missing("CIFAR-10", home, "the releases and image folders that its docstring names")
    pixels, labels = raw
    return as_bunch_or_pair(
        unit_interval(pixels),
        labels,
        target_names=_CLASSES,
        description=_DESCRIPTION,
        return_X_y=return_X_y,
    )


def _read_first(home: Path, split: str) -> _Raw | None:
    """Read the first source that there is."""
    readers: dict[str, Callable[[Path, str], _Raw]] = {
        "cifar-10-batches-bin": _read_binary,
        _BINARY_ARCHIVE: _read_binary,
        "cifar-10-batches-py": _read_pickled,
        "cifar-10-python.tar.gz": _read_pickled,
        f"{split}/{_CLASSES[0]}": _read_image_folder,
        f"cifar10-{split}.tar.gz": _read_image_archive,
        f"cifar10-{split}-png.tar.gz": _read_image_archive,
        f"cifar10-{split}-jpeg.tar.gz": _read_image_archive,
    }
    for folder in (home, home / "cifar10"):
        for name, read in readers.items():
            if (folder / name).exists():
                return read(folder / name, split)
    return None


def _download(home: Path, mirrors: Sequence[str]) -> Path:
    urls = [f"{mirror.rstrip('/')}/{_BINARY_ARCHIVE}" for mirror in mirrors]
    target = home / "cifar10" / _BINARY_ARCHIVE
    return download(urls, target, lambda got: check_sha256(got.read_bytes(), _SHA256, got))


def _read_binary(path: Path, split: str) -> _Raw:
    """Read batches of records of one label byte and 3072 pixels."""
    names = [f"{name}.bin" for name in _BATCHES[split]]
    batches = []
    for name, content in zip(names, _batch_files(path, names), strict=True):
        declared = _IMAGES_PER_BATCH * (1 + _N_PIXELS)
        if len(content) != declared:
            raise InvalidFileError(
                f"{name} in {path} must have {declared} bytes, got {len(content)}: "
                "it is cut short or another file."
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _N_PIXELS)
        batches.append((records[:, 1:], records[:, 0]))
    return _joined(batches, path)


def _read_pickled(path: Path, split: str) -> _Raw:
    """Read pickled dictionaries of pixels and labels, admitting nothing else in the pickles."""
    names = _BATCHES[split]
    batches = []
    for name, content in zip(names, _batch_files(path, names), strict=True):
        try:
            batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
            pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        except Exception as error:  # a damaged pickle can raise anything
            raise InvalidFileError(f"{name} in {path} is no batch of CIFAR-10: {error}.") from error
        declared = (_IMAGES_PER_BATCH, _N_PIXELS)
        if pixels.shape != declared or pixels.dtype != np.uint8 or labels.shape != declared[:1]:
            raise InvalidFileError(
                f"{name} in {path} must hold uint8 pixels of shape {declared} and their labels, "
                f"got {pixels.dtype} of shape {pixels.shape} and labels of shape {labels.shape}."
            )
        batches.append((pixels, labels))
    return _joined(batches, path)


def _joined(batches: Sequence[tuple[NDArray[Any], NDArray[Any]]], path: Path) -> _Raw:
    pixels = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in batches]).astype(np.int64)
    if labels.min() < 0 or labels.max() >= len(_CLASSES):
        raise InvalidFileError(
            f"{path} must hold labels from 0 to 9, got {labels.min()} to {labels.max()}."
        )
    return pixels, labels


def _batch_files(path: Path, names: Sequence[str]) -> list[bytes]:
    """Return the contents of files in a folder or, wherever they lie in it, in an archive."""
    if path.is_dir():
        found = {name: (path / name).read_bytes() for name in names if (path / name).is_file()}
    else:
        found = {member.name: content for member, content in _tar_files(path, names.__contains__)}
    absent = [name for name in names if name not in found]
    if absent:
        raise InvalidFileError(f"{path} must hold {', '.join(names)}, misses {', '.join(absent)}.")
    return [found[name] for name in names]


def _read_image_folder(first_class: Path, split: str) -> _Raw:
    folder = ImageFolder(first_class.parent, classes=_CLASSES)
    return _images(
        [(label, path, path) for label, path in zip(folder.targets, folder.paths, strict=True)],
        first_class.parent,
    )


def _read_image_archive(path: Path, split: str) -> _Raw:
    files = [
        (_CLASSES.index(member.parent.name), str(member), io.BytesIO(content))
        for member, content in _tar_files(path, is_image_name)
        if member.parent.parent.name == split and member.parent.name in _CLASSES
    ]
    return _images(sorted(files, key=lambda file: file[:2]), path)


def _images(files: Sequence[tuple[int, Path | str, Any]], path: Path) -> _Raw:
    """Read images given as label, name and source."""
    labels = np.array([label for label, _, _ in files], dtype=np.int64)
    absent = [name for label, name in enumerate(_CLASSES) if label not in labels]
    if absent:
        raise InvalidFileError(f"{path} holds no image of {', '.join(absent)}.")
    pixels = np.empty((len(files), 32, 32, 3), dtype=np.uint8)
    for row, (_, name, source) in enumerate(files):
        image = read_image(source, name)
        if image.shape != pixels.shape[1:]:
            raise InvalidFileError(
                f"{name} must be an image of 32 x 32 pixels, got {image.shape[1]} x "
                f"{image.shape[0]}."
            )
        pixels[row] = image
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels


def _tar_files(
    path: Path, is_wanted: Callable[[str], bool]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Read files of an archive, by their last name, in one pass and without unpacking it."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                file = archive.extractfile(member) if is_wanted(name.name) else None
                if file is not None:
                    yield name, file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InvalidFileError(
            f"{path} cannot be unpacked: it is cut short or no tar archive ({error})."
        ) from error


def _dtype(name: bytes | str, *_: object) -> np.dtype[Any]:
    """Make a dtype as NumPy's pickles ask for it; old ones pass flags that NumPy warns of now."""
    return np.dtype(name.decode() if isinstance(name, bytes) else name, copy=True)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickle containers, numbers, strings and NumPy arrays, and refuse everything else."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]
    _ADMITTED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None
