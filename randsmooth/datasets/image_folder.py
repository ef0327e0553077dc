"""Images in one folder per class, the layout of ImageNet, read when they are asked for."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.datasets._data_home import as_path, unit_interval
from randsmooth.exceptions import InvalidFileError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFolder", "is_image_name", "load_image_folder", "read_image"]

_IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFolder:
    """Images and labels of a folder, as a sequence that reads each image when it is asked for.

    An integer index gives one image and its label, so it serves as a map-style dataset of torch;
    a slice, a list or array of positions, or a boolean mask gives a stack of images and their
    labels. Nothing is random and nothing is cached.

    Parameters
    ----------
    path : str or path-like
        Folder with one folder of images per class. Files that do not end as images do are left
        out.

    size : int, default=None
        Side of the square that is cut from the centre of each image. None leaves images as they
        are.

    resize : int, default=None
        Length to which the shorter side is brought before the cut, at least `size`. None stands
        for ``round(size * 256 / 224)``, the convention of ImageNet.

    classes : sequence of str, default=None
        Folder names in the order of the labels, where that is to be fixed: a class that has no
        folder keeps its label and has no images. None stands for the names in the folder, sorted.

    Attributes
    ----------
    classes : list of str
        Class names; label k belongs to ``classes[k]``.

    paths : list of Path
        The images, sorted by label and then by name.

    targets : ndarray of int64, shape (n_images,)
        The label of each image.

    Raises
    ------
    InvalidFileError
        If the folder is missing, holds no class folder or one that is not in `classes`, or a
        class folder holds no image.

    TypeError
        If `path` is no path.

    ValueError
        If `size` or `resize` is no positive integer, or `resize` is given without `size` or less
        than it, or `classes` holds a name twice.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | None = None,
        resize: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.path = as_path(path, "path").expanduser()
        self.size, self.resize = _check_sizes(size, resize)
        folders = _class_folders(self.path)
        self.classes = sorted(folders) if classes is None else _check_classes(classes, folders)
        labelled = [
            (file, label)
            for label, name in enumerate(self.classes)
            if name in folders
            for file in _images_in(folders[name])
        ]
        self.paths = [file for file, _ in labelled]
        self.targets = np.array([label for _, label in labelled], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: SupportsIndex) -> tuple[NDArray[np.float32], int]: ...

    @overload
    def __getitem__(
        self, index: slice | ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...

    def __getitem__(self, index: Any) -> tuple[NDArray[np.float32], int | NDArray[np.int64]]:
        if not isinstance(index, slice) and np.ndim(index) == 0:
            position = operator.index(index)
            return self._image(position), int(self.targets[position])
        rows = np.arange(len(self))[self._rows(index)]
        return self._stack(rows), self.targets[rows]

    def __repr__(self) -> str:
        return (
            f"ImageFolder({str(self.path)!r}, size={self.size}, resize={self.resize}): "
            f"{len(self)} images, {len(self.classes)} classes"
        )

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Go through all images in order, a batch at a time.

        Parameters
        ----------
        batch_size : int
            Images of a batch, at least 1; the last batch may have fewer.

        Returns
        -------
        iterator of tuple of (ndarray, ndarray)
            Images, float32 of shape (n, 3, height, width) in [0, 1], and labels, int64 of shape
            (n,).

        Raises
        ------
        InvalidFileError
            If a file is no readable image.

        ValueError
            If `batch_size` is no positive integer, or images of a batch differ in shape.
        """
        _check_positive(batch_size, "batch_size")
        starts = range(0, len(self), batch_size)
        return (self[start : start + batch_size] for start in starts)

    def _rows(self, index: slice | ArrayLike) -> Any:
        """Return an index that NumPy takes as meant, an empty list included."""
        if isinstance(index, slice):
            return index
        rows = np.asarray(index)
        return rows.astype(np.intp) if rows.size == 0 else rows

    def _image(self, position: int) -> NDArray[np.float32]:
        path = self.paths[position]
        pixels = read_image(path, path, size=self.size, resize=self.resize)
        return unit_interval(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def _stack(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        images = [self._image(row) for row in rows]
        if not images:
            return np.empty((0, 3, self.size or 0, self.size or 0), dtype=np.float32)
        for row, image in zip(rows, images, strict=True):
            if image.shape != images[0].shape:
                raise ValueError(
                    f"images must have one shape to be stacked, got {images[0].shape} in "
                    f"{self.paths[rows[0]]} and {image.shape} in {self.paths[row]}. Give size."
                )
        return np.stack(images)


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    resize: int | None = None,
    classes: Sequence[str] | None = None,
) -> ImageFolder:
    """Open a folder of images in the layout of ImageNet: one folder per class.

    Only names are read here; an image is read, each time anew, when it is asked for. Reading
    images needs Pillow: install ``randsmooth[images]``.

    Parameters
    ----------
    path : str or path-like
        Folder with one folder of images per class, such as ImageNet's ``val``. Files that do not
        end as images do are left out.

    size : int, default=None
        Side of the square, in pixels, that is cut from the centre of each image; 224 for most
        networks on ImageNet. None leaves images as they are.

    resize : int, default=None
        Length to which the shorter side is brought (bilinear, antialiased) before the cut, at
        least `size`. None stands for ``round(size * 256 / 224)``, the convention of ImageNet.

    classes : sequence of str, default=None
        Folder names in the order of the labels, where that is to be fixed: for a network of 1000
        columns on images of a hundred classes, give all 1000 names. None stands for the names in
        the folder, sorted.

    Returns
    -------
    ImageFolder
        With ``classes``, ``paths`` and ``targets``. ``folder[i]`` is an image, float32 of shape
        (3, height, width) in [0, 1], and its label, an int; ``folder[i:j]`` and ``folder[rows]``
        are stacks of both; ``folder.batches(n)`` goes through all of it.

    Raises
    ------
    InvalidFileError
        If the folder is missing, holds no class folder or one that is not in `classes`, or a
        class folder holds no image; on reading, if a file is no readable image.

    ImportError
        On reading, if Pillow is not installed.

    TypeError
        If `path` is no path.

    ValueError
        If `size` or `resize` is no positive integer, or `resize` is given without `size` or less
        than it, or `classes` holds a name twice.

    Examples
    --------
    >>> from randsmooth.datasets import load_image_folder
    >>> folder = load_image_folder("imagenet/val", size=224)  # doctest: +SKIP
    >>> X, y = folder[::500]  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (100, 3, 224, 224)
    """
    return ImageFolder(path, size=size, resize=resize, classes=classes)


def read_image(
    source: Path | IO[bytes],
    name: Path | str,
    *,
    size: int | None = None,
    resize: int | None = None,
) -> NDArray[np.uint8]:
    """Return the pixels of an image file, of shape (height, width, 3)."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Images are read with Pillow: install randsmooth[images].") from error
    try:
        with Image.open(source) as image:
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidFileError(f"{name} is no readable image ({error}).") from error
    if size is not None and resize is not None:
        rgb = _centre(rgb, size, resize)
    return np.asarray(rgb)


def is_image_name(name: str) -> bool:
    """Return whether a file's name ends as images do; hidden files never do."""
    return name.lower().endswith(_IMAGE_SUFFIXES) and not name.startswith(".")


def _centre(image: Image, size: int, resize: int) -> Image:
    """Bring the shorter side to one length and cut a square from the centre."""
    from PIL import Image

    shorter = min(image.size)
    width, height = (int(resize * side / shorter) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return resized.crop((left, top, left + size, top + size))


def _class_folders(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        raise InvalidFileError(f"{path} does not exist or is no folder.")
    folders = {
        entry.name: entry
        for entry in path.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    }
    if not folders:
        raise InvalidFileError(f"{path} must hold one folder of images per class, it has none.")
    return folders


def _check_classes(classes: Sequence[str], folders: dict[str, Path]) -> list[str]:
    names = list(classes)
    if len(set(names)) != len(names):
        raise ValueError(f"classes must hold each name once, got {classes!r}.")
    unknown = sorted(set(folders).difference(names))
    if unknown:
        raise InvalidFileError(
            f"{folders[unknown[0]].parent} holds folders that are not in classes: {unknown!r}."
        )
    return names


def _images_in(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.iterdir() if is_image_name(path.name))
    if not images:
        raise InvalidFileError(f"{folder} holds no image; remove it or put its images there.")
    return images


def _check_sizes(size: int | None, resize: int | None) -> tuple[int | None, int | None]:
    if size is None:
        if resize is not None:
            raise ValueError(f"resize must be None where size is None, got {resize!r}.")
        return None, None
    _check_positive(size, "size")
    if resize is None:
        return size, round(size * 256 / 224)
    _check_positive(resize, "resize")
    if resize < size:
        raise ValueError(f"resize must be at least size, got {resize!r} for size={size!r}.")
    return size, resize


def _check_positive(value: object, parameter: str) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{parameter} must be a positive integer, got {value!r}.")
