"""How a model reaches workers: once for each of them, however many blocks it counts."""

from __future__ import annotations

import pickle
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cloudpickle
import torch

__all__ = ["count_shipped", "packed_counter"]

_unpacked: dict[str, Any] = {}


def packed_counter(counter: Any) -> tuple[str, bytes]:
    """Return what counts, as bytes and by the name under which workers keep it.

    Parameters
    ----------
    counter : callable
        What counts the votes for a block.

    Returns
    -------
    name : str
        A digest of the bytes.

    content : bytes
        The bytes, which only processes of this run unpack.
    """
    content: bytes = cloudpickle.dumps(counter)
    return blake2b(content, digest_size=16).hexdigest(), content


def count_shipped(name: str, content: bytes | str, X: Any) -> Any:
    """Return the votes for a block, in a worker.

    Parameters
    ----------
    name : str
        Name of what counts.

    content : bytes or str
        Its bytes, or the file that holds them.

    X : object
        The inputs, as it takes them.

    Returns
    -------
    object
        What it returned; its errors are such as can travel.
    """
    counter = _unpacked.get(name)
    if counter is None:
        torch.set_num_threads(1)  # there are as many workers as there is room for
        given = Path(content).read_bytes() if isinstance(content, str) else content
        counter = pickle.loads(given)
        _unpacked.clear()
        _unpacked[name] = counter
    votes: Any = counter(X)
    errors = {row: _portable(error) for row, error in votes.errors.items()}
    return replace(votes, errors=errors)


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
