"""The network that a classifier's file is about: made by its class, filled with its weights."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch
from sklearn.base import clone
from torch import nn

from randsmooth.exceptions import InvalidFileError

__all__ = ["filled", "made_module", "tensors_of"]

_ALLOWED = ("randsmooth.models",)
_LARGEST_ARGUMENT = 1_000  # of what a file names, unless its weights have such a dimension


def made_module(module: Any, base: dict[str, Any], tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Return a module of the layers that the file is about, from the caller or by its name.

    Parameters
    ----------
    module : torch.nn.Module, callable or None
        As handed to `load`.

    base : dict
        What the header says of the base.

    tensors : dict of str to Tensor
        Its weights.

    Returns
    -------
    torch.nn.Module
        The module, with weights of no meaning.

    Raises
    ------
    ValueError
        If `module` makes other layers or needs arguments that the file does not keep, or must be
        given and is not.

    TypeError
        If `module` makes no torch module.

    InvalidFileError
        If the file names a class that does not exist or does not have its layers.
    """
    if isinstance(module, nn.Module):
        return _checked_module(clone(module, safe=False))
    if module is not None and not isinstance(module, type):
        return _checked_module(module())
    if base["not_kept"]:
        raise ValueError(
            f"module must make the network with its own {', '.join(base['not_kept'])}, which the "
            f"file does not keep, got {module!r}. Call load(path, module=lambda: Net(...))."
        )
    arguments = base["arguments"]
    if module is not None:
        return _of_class(module, arguments, tensors)
    return _named(base["module"], arguments, tensors)


def _named(text: str, arguments: dict[str, Any], tensors: dict[str, torch.Tensor]) -> nn.Module:
    kind = _allowed_class(text)
    largest = max([_LARGEST_ARGUMENT, *(size for one in tensors.values() for size in one.shape)])
    for name, value in arguments.items():
        if isinstance(value, int | float) and abs(value) > largest:
            raise InvalidFileError(f"the file names a network with {name}={value!r}: too large.")
    try:
        return _of_class(kind, arguments, tensors)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidFileError):
            raise
        raise InvalidFileError(f"the file names no network of its weights: {error}") from error


def _allowed_class(text: str) -> type[nn.Module]:
    package, _, name = text.partition(":")
    if not any(package == allowed or package.startswith(f"{allowed}.") for allowed in _ALLOWED):
        raise ValueError(
            f"module must be given for a class outside {' and '.join(_ALLOWED)}: the file names "
            f"{package}.{name}. Call load(path, module={name.rpartition('.')[2]})."
        )
    try:
        kind = getattr(importlib.import_module(package), name, None)
    except ImportError as error:
        raise InvalidFileError(f"the file names {package}, which does not exist.") from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InvalidFileError(f"the file names {package}.{name}, which is no module.")
    return kind


def _of_class(kind: Any, arguments: dict[str, Any], tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Return a module of a class, made only once its layers are known to be those of the file."""
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"module must take the arguments of the file, got {kind.__name__}: {error}."
        ) from error
    try:
        with torch.device("meta"):
            sketch = kind(**arguments)
    except Exception:  # not every constructor does without values
        return _checked_module(kind(**arguments))
    _check_layers(_checked_module(sketch), tensors)
    return _checked_module(kind(**arguments))


def _check_layers(module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    for name, own in module.state_dict(keep_vars=True).items():
        if nn.parameter.is_lazy(own) or name not in tensors or not isinstance(own, torch.Tensor):
            continue
        if own.shape != tensors[name].shape:
            raise ValueError(
                f"module must have the layers of the file: size mismatch for {name}, "
                f"{tuple(own.shape)} instead of {tuple(tensors[name].shape)}."
            )
    missing = [name for name in module.state_dict() if name not in tensors]
    if missing:
        raise ValueError(f"module must have the layers of the file, which has no {missing[0]}.")


def _checked_module(made: Any) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise TypeError(f"module must make a torch module, got {made!r}.")
    return made


def tensors_of(content: bytes, name: str) -> dict[str, torch.Tensor]:
    """Return the weights in a file.

    Parameters
    ----------
    content : bytes
        The safetensors in it.

    name : str
        Name of the file.

    Returns
    -------
    dict of str to Tensor
        The weights.

    Raises
    ------
    InvalidFileError
        If they are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, torch.Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InvalidFileError(f"{name} holds no weights: {error}") from error
    return tensors


def filled(module: nn.Module, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Return the module with the weights of the file, of their type.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    tensors : dict of str to Tensor
        The weights.

    Returns
    -------
    torch.nn.Module
        The same module, as it is to vote.

    Raises
    ------
    ValueError
        If the module has other layers.
    """
    for name, own in module.state_dict(keep_vars=True).items():
        if name in tensors and not nn.parameter.is_lazy(own):
            own.data = own.data.to(tensors[name].dtype)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"module must have the layers of the file: {error}") from error
    return module.eval()
