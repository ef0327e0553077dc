"""The folder where data sets are kept: where it is, and how files are found and fetched into it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from randsmooth._files import written_whole
from randsmooth.exceptions import InvalidFileError

VARIABLE = "RANDSMOOTH_DATA"
_TIMEOUT_SECONDS = 60


def data_home_folder(data_home: str | os.PathLike[str] | None) -> Path:
    """Return the folder: the argument, else the environment variable, else the user's own."""
    if data_home is None:
        data_home = os.environ.get(VARIABLE) or "~/randsmooth_data"
    return as_path(data_home, "data_home").expanduser()


def as_path(value: object, parameter: str) -> Path:
    """Return a path, or say which parameter is none."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{parameter} must be a string or a path, got {value!r}.")
    return Path(value)


def check_split(split: object) -> None:
    """Admit the two halves that these data sets come in."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}.")


def check_mirrors(mirrors: object) -> None:
    """Admit a sequence of at least one address, and no bare string."""
    if isinstance(mirrors, str) or not isinstance(mirrors, Sequence):
        raise TypeError(f"mirrors must be a sequence of addresses, got {mirrors!r}.")
    if not mirrors or not all(isinstance(mirror, str) for mirror in mirrors):
        raise ValueError(f"mirrors must hold one address or more, got {mirrors!r}.")


def first_existing(candidates: Iterable[Path]) -> Path | None:
    """Return the first path at which there is something."""
    return next((path for path in candidates if path.exists()), None)


def missing(name: str, data_home: Path, wanted: str) -> InvalidFileError:
    """Return the error for a data set that is nowhere: where it was looked for, and the remedy."""
    return InvalidFileError(
        f"{name} is not in {data_home}: looked there and in its folder "
        f"{name.lower().replace('-', '')!r} for {wanted}. Put it there, name another folder in "
        f"data_home or in the environment variable {VARIABLE}, or let download_if_missing=True "
        "fetch it."
    )


def download(urls: Sequence[str], target: Path, check: Callable[[Path], object]) -> Path:
    """Fetch a file from the first address that has it, and keep it only if `check` admits it.

    The file is put in place when it has been checked, so that neither a kill nor a second process
    can leave half a file behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        try:
            with written_whole(target) as draft, urlopen(url, timeout=_TIMEOUT_SECONDS) as source:
                shutil.copyfileobj(source, draft)
                draft.flush()
                check(Path(draft.name))
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {error}")
        else:
            return target
    raise InvalidFileError(
        f"{target.name} could not be downloaded ({'; '.join(failures)}). "
        f"Put it into {target.parent} by hand."
    )


def check_sha256(content: bytes | memoryview, expected: str, path: Path) -> None:
    """Refuse content other than the published one."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise InvalidFileError(
            f"{path} is not the published file: it has SHA-256 {actual}, not {expected}. "
            "Replace it."
        )


def unit_interval(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return bytes as float32 in [0, 1]."""
    scaled = pixels.astype(np.float32)
    scaled /= np.float32(255)
    return scaled


def as_bunch_or_pair(
    X: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    target_names: Sequence[str],
    description: str,
    return_X_y: bool,
) -> Any:
    """Return what scikit-learn's fetchers return."""
    if return_X_y:
        return X, y
    return Bunch(data=X, target=y, target_names=list(target_names), DESCR=description)
