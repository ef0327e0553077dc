"""A digest of what an object is made of: the same for the same content, wherever that lies."""

from __future__ import annotations

import copyreg
import random
import threading
import types
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import singledispatch
from hashlib import blake2b
from typing import Any, TypeGuard

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

__all__ = ["ContentDigest", "attributes", "parts"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_SIZE = 16


class ContentDigest:
    """Digests of objects and of all that hangs on them.

    Equal content has equal digests, also after a journey through a file. Neither addresses nor
    who shares what with whom nor the order of attributes counts; functions and classes count by
    name, those without one of their own by their code and what they enclose.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}
        self._open: list[int] = []

    def of(self, value: Any) -> bytes:
        """Return the digest of a value.

        Parameters
        ----------
        value : object
            Anything.

        Returns
        -------
        bytes
            16 of them.

        Raises
        ------
        TypeError
            If something in it cannot be taken apart.
        """
        if isinstance(value, memoryview):
            return blake2b(value, digest_size=_SIZE, person=b"memory").digest()
        if type(value) in _PLAIN:
            text = f"{type(value).__name__} {value!r}".encode()
            return blake2b(text, digest_size=_SIZE, person=b"plain").digest()
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._open:  # how far up, since where it lies is nobody's business
            steps = len(self._open) - self._open.index(id(value))
            return blake2b(b"%d" % steps, digest_size=_SIZE, person=b"above").digest()
        self._open.append(id(value))
        found = b"".join(map(self.of, parts(value)))
        self._open.pop()
        digest = blake2b(found, digest_size=_SIZE, person=b"parts").digest()
        self._known[id(value)] = value, digest  # and with it the value, lest its id be reused
        return digest


@singledispatch
def parts(value: Any) -> Iterable[Any]:
    """Return the parts that make a value what it is, its type first; types may register theirs.

    Parameters
    ----------
    value : object
        The value; one of no registered type is taken apart as `copy` would.

    Returns
    -------
    iterable of object
        The parts.

    Raises
    ------
    TypeError
        If it cannot be taken apart.
    """
    reducer = copyreg.dispatch_table.get(type(value))
    try:
        reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
        if isinstance(reduced, str):
            return [type(value), reduced]
        rebuilt: list[Any] = [*reduced, None, None, None][:5]
        function, arguments, state = rebuilt[:3]
        contents = [list(items or ()) for items in rebuilt[3:]]
    except Exception as error:  # a method of somebody else's
        raise TypeError(f"a {type(value).__qualname__} cannot be taken apart: {error}") from error
    found = state if isinstance(state, tuple) else (state,)
    named = [attributes(each) if _is_named(each) else each for each in found]
    return [type(value), function, arguments, named, *contents]


def attributes(state: Mapping[str, Any], without: Iterable[str] = ()) -> list[tuple[str, Any]]:
    """Return attributes by name, in the order of the alphabet.

    Parameters
    ----------
    state : mapping of str to object
        The attributes.

    without : iterable of str, default=()
        Names to leave out.

    Returns
    -------
    list of (str, object)
        The others.
    """
    return sorted(((name, state[name]) for name in state.keys() - set(without)), key=lambda x: x[0])


def _is_named(state: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(state, dict) and all(isinstance(name, str) for name in state)


@parts.register(type)
def _(value: type) -> list[Any]:
    return ["type", f"{value.__module__}.{value.__qualname__}"]


@parts.register(types.ModuleType)
def _(value: types.ModuleType) -> list[Any]:
    return ["module", value.__name__]


@parts.register(types.FunctionType)
def _(value: types.FunctionType) -> list[Any]:
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" not in name:
        return ["function", name]
    enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
    return ["function", name, value.__code__, value.__defaults__, value.__kwdefaults__, enclosed]


@parts.register(types.CodeType)
def _(value: types.CodeType) -> list[Any]:
    return ["code", value.co_code, value.co_names, value.co_consts]


@parts.register(types.BuiltinFunctionType)
def _(value: types.BuiltinFunctionType) -> list[Any]:
    return ["builtin", value.__qualname__, value.__self__]


@parts.register(list)
@parts.register(tuple)
def _(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [type(value), *value]


@parts.register(dict)
@parts.register(types.MappingProxyType)
def _(value: Mapping[Any, Any]) -> list[Any]:
    return [type(value), *([name, item] for name, item in value.items())]


@parts.register(set)
@parts.register(frozenset)
def _(value: set[Any] | frozenset[Any]) -> list[Any]:
    return [type(value), *sorted(ContentDigest().of(item) for item in value)]


@parts.register(Enum)
def _(value: Enum) -> list[Any]:
    return [type(value), value.name]


# What is drawn, locked or placed where decides no vote: classifiers are deterministic.
@parts.register(np.random.Generator)
@parts.register(np.random.RandomState)
@parts.register(random.Random)
@parts.register(torch.Generator)
@parts.register(torch.device)
@parts.register(type(threading.Lock()))
@parts.register(type(threading.RLock()))
def _(value: Any) -> list[Any]:
    return [type(value)]


@parts.register(np.dtype)
def _(value: np.dtype[Any]) -> list[Any]:
    return ["dtype", repr(value)]


@parts.register(np.generic)
def _(value: np.generic) -> list[Any]:
    return ["scalar", np.asarray(value)]


@parts.register(np.ndarray)
def _(value: NDArray[Any]) -> list[Any]:
    if isinstance(value, np.ma.MaskedArray):
        return ["masked", np.ma.getmaskarray(value), value.filled()]
    facts = ["array", value.dtype, value.shape]
    if value.dtype.hasobject:
        return [*facts, *value.ravel().tolist()]
    if value.dtype.names is not None:  # between fields there may be bytes that nobody set
        return [*facts, *(value[name] for name in value.dtype.names)]
    if not value.nbytes:
        return facts
    return [*facts, np.ascontiguousarray(value).reshape(-1).view(np.uint8).data]


@parts.register(scipy.sparse.sparray)
@parts.register(scipy.sparse.spmatrix)
def _(value: Any) -> list[Any]:
    rows = value.tocsr().copy()
    rows.sum_duplicates()  # which also sorts
    return ["sparse", value.format, rows.shape, rows.data, rows.indices, rows.indptr]


@parts.register(torch.Tensor)
def _(value: torch.Tensor) -> list[Any]:
    try:
        dense = value.detach().cpu()
        dense = dense.dequantize() if dense.is_quantized else dense.to_dense()
        dense = dense.resolve_conj().resolve_neg().contiguous().reshape(-1)
        bits = dense.view(torch.uint8).numpy().data
        return ["tensor", value.layout, value.dtype, tuple(value.shape), bits]
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise TypeError(f"a {type(value).__qualname__} has no values: {error}") from error
