"""MNIST from its original IDX files."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from randsmooth.datasets._data_home import (
    as_bunch_or_pair,
    as_path,
    check_mirrors,
    check_sha256,
    check_split,
    data_home_folder,
    download,
    first_existing,
    missing,
    unit_interval,
)
from randsmooth.exceptions import InvalidFileError

__all__ = ["fetch_mnist", "read_idx"]

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

# Of the decompressed files.
_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_DESCRIPTION = """\
MNIST: 28 x 28 grey images of handwritten digits, 60,000 for training and 10,000 for testing.

Pixels are float32 in [0, 1] (the bytes of the original divided by 255), in the original order.

Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998.
"""


@overload
def fetch_mnist(
    *,
    data_home: str | os.PathLike[str] | None = ...,
    split: Literal["train", "test"] = ...,
    download_if_missing: bool = ...,
    return_X_y: Literal[True],
    mirrors: Sequence[str] = ...,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...


@overload
def fetch_mnist(
    *,
    data_home: str | os.PathLike[str] | None = ...,
    split: Literal["train", "test"] = ...,
    download_if_missing: bool = ...,
    return_X_y: Literal[False] = ...,
    mirrors: Sequence[str] = ...,
) -> Bunch: ...


def fetch_mnist(
    *,
    data_home: str | os.PathLike[str] | None = None,
    split: Literal["train", "test"] = "train",
    download_if_missing: bool = True,
    return_X_y: bool = False,
    mirrors: Sequence[str] = MIRRORS,
) -> Bunch | tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load MNIST, downloading it where it is missing.

    The images come in their original order and are verified: the content of each file must have
    the SHA-256 of the published one. Nothing is random.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder that holds the four IDX files (``train-images-idx3-ubyte`` and so on, as they are
        or with ``.gz``), or holds them in its folder ``mnist``. None stands for the environment
        variable ``RANDSMOOTH_DATA`` or, where it is not set, ``~/randsmooth_data``.

    split : {"train", "test"}, default="train"
        The 60,000 training or the 10,000 test images.

    download_if_missing : bool, default=True
        Whether a missing file is downloaded into ``data_home/mnist``. A download is kept only
        when it is whole.

    return_X_y : bool, default=False
        Whether to return ``(data, target)`` in place of the Bunch.

    mirrors : sequence of str
        Addresses of folders that hold the files with ``.gz``, tried in this order.

    Returns
    -------
    :class:`~sklearn.utils.Bunch` or tuple of (ndarray, ndarray)
        With ``data``, float32 of shape (n_images, 1, 28, 28) in [0, 1]; ``target``, int64 of shape
        (n_images,), the digits; ``target_names``, the list "0" to "9"; ``DESCR``, where the data
        come from. Or the first two alone.

    Raises
    ------
    InvalidFileError
        If a file is missing and is not to be downloaded, or cannot be, or is cut short, or is not
        the published one.

    TypeError
        If `data_home` is no path, or `mirrors` no sequence of addresses.

    ValueError
        If `split` is unknown, or `mirrors` is empty.

    See Also
    --------
    read_idx : Reads any file of this format.
    fetch_cifar10 : Loads CIFAR-10.

    Examples
    --------
    >>> from randsmooth.datasets import fetch_mnist
    >>> X, y = fetch_mnist(split="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y[:5]  # doctest: +SKIP
    ((10000, 1, 28, 28), array([7, 2, 1, 0, 4]))
    """
    check_split(split)
    check_mirrors(mirrors)
    home = data_home_folder(data_home)
    images, labels = (
        _fetch(name, home, mirrors if download_if_missing else ()) for name in _FILES[split]
    )
    return as_bunch_or_pair(
        unit_interval(images)[:, np.newaxis],
        labels.astype(np.int64),
        target_names=[str(digit) for digit in range(10)],
        description=_DESCRIPTION,
        return_X_y=return_X_y,
    )


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an array from an IDX file, the format of MNIST.

    Parameters
    ----------
    path : str or path-like
        The file, as it is or compressed with gzip.

    Returns
    -------
    ndarray
        The array, in the machine's byte order: of the type and shape that the file declares.

    Raises
    ------
    InvalidFileError
        If the file is missing, cannot be decompressed, does not begin with the magic number of
        the format, or is shorter or longer than the shape it declares.

    TypeError
        If `path` is no path.

    Notes
    -----
    The magic number is two zero bytes, a byte for the type of the elements and one for the number
    of dimensions; the dimensions follow as big-endian 32-bit integers, then the elements with the
    last dimension changing fastest.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from randsmooth.datasets import read_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels-idx1-ubyte"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    ...     read_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    file = as_path(path, "path")
    return _parse_idx(_content(file), file)


def _fetch(name: str, home: Path, mirrors: Sequence[str]) -> NDArray[np.uint8]:
    folders = (home, home / "mnist")
    path = first_existing(folder / f"{name}{end}" for folder in folders for end in ("", ".gz"))
    if path is not None:
        return _read_published(path, name)
    if not mirrors:
        raise missing("MNIST", home, f"{name} and {name}.gz")
    urls = [f"{mirror.rstrip('/')}/{name}.gz" for mirror in mirrors]
    target = home / "mnist" / f"{name}.gz"
    return _read_published(download(urls, target, lambda got: _read_published(got, name)), name)


def _read_published(path: Path, name: str) -> NDArray[np.uint8]:
    content = _content(path)
    array = _parse_idx(content, path)
    check_sha256(content, _SHA256[name], path)
    return array


def _content(path: Path) -> bytes:
    """Return the bytes of a file, decompressed where they begin as gzip's do."""
    if not path.is_file():
        raise InvalidFileError(f"{path} does not exist or is no file.")
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise InvalidFileError(
            f"{path} cannot be decompressed: it is cut short or damaged ({error})."
        ) from error


def _parse_idx(content: bytes, path: Path) -> NDArray[Any]:
    zeros, code, n_dimensions = struct.unpack_from(">HBB", content.ljust(4, b"\x00"))
    if zeros != 0 or code not in _IDX_DTYPES or n_dimensions == 0:
        raise InvalidFileError(
            f"{path} must begin with the magic number of an IDX file, got 0x{content[:4].hex()}."
        )
    start = 4 + 4 * n_dimensions
    if len(content) < start:
        raise InvalidFileError(f"{path} is cut short: it ends within its header.")
    shape = struct.unpack_from(f">{n_dimensions}I", content, 4)
    dtype = np.dtype(_IDX_DTYPES[code])
    declared = start + math.prod(shape) * dtype.itemsize
    if len(content) != declared:
        what = "is cut short" if len(content) < declared else "is too long"
        raise InvalidFileError(
            f"{path} {what}: its header declares {declared} bytes for shape {shape}, "
            f"it has {len(content)}."
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))
