"""How a network is run faster than as it is, and what of that the record must say."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from randsmooth.acceleration import (
    CompiledForward,
    autocast_forward,
    first_output,
    onednn_copy,
)
from randsmooth.bases import NetBase
from randsmooth.batch_size import automatic_batch_size
from randsmooth.exceptions import NotCompiledWarning

__all__ = ["AUTOCAST_TYPES", "Speed", "quickened"]

AUTOCAST_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types of reduced precision by name."""


@dataclass(frozen=True)
class Speed:
    """How a network may be run otherwise than as it is.

    Parameters
    ----------
    shortcuts : bool, default=True
        Whether its first layer may be taken apart, and its layers run in faster kernels.

    compile : bool, default=False
        Whether to compile it.

    autocast : str or None, default=None
        Reduced precision inside it, a key of `AUTOCAST_TYPES`.
    """

    shortcuts: bool = True
    compile: bool = False
    autocast: str | None = None


def quickened(
    base: NetBase, module: nn.Module | None, row: Tensor, speed: Speed
) -> tuple[NetBase, dict[str, Any]]:
    """Return a base that runs faster, and how it computes.

    Parameters
    ----------
    base : NetBase
        The base.

    module : torch.nn.Module or None
        Its network, or what is left of it behind its first layer. None for a net that is run by
        its own class.

    row : Tensor of shape (1, ...)
        One row of what the module takes.

    speed : Speed
        What may be done.

    Returns
    -------
    base : NetBase
        The base, which takes such rows.

    facts : dict
        What was done, for the record of a run.

    Warns
    -----
    NotCompiledWarning
        If compilation was asked for and is not possible.
    """
    facts: dict[str, Any] = {"dense_layers": None, "compiled": False}
    forward = base.forward
    # These kernels know no reduced precision.
    if module is not None and speed.shortcuts and speed.autocast is None:
        if (copied := onednn_copy(module, row)) is not None:
            module, facts["dense_layers"] = copied, "oneDNN"
    if module is not None and module is not base.module:
        forward = _outputs(module)
    row_multiple = base.row_multiple
    if speed.compile:
        compiled = _compiled(module, base, row)
        if compiled is not None:
            forward, row_multiple, facts["compiled"] = compiled, compiled.batch_size, True
    if speed.autocast is not None:
        dtype = AUTOCAST_TYPES[speed.autocast]
        forward = autocast_forward(forward, base.device.type, dtype)
        facts["autocast"] = speed.autocast
    return replace(base, forward=forward, row_multiple=row_multiple, rebuild=None), facts


def _outputs(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def outputs(rows: Tensor) -> Tensor:
        return first_output(module(rows))

    return outputs


def _compiled(module: nn.Module | None, base: NetBase, row: Tensor) -> CompiledForward | None:
    """Return the compiled network, None with a warning where it cannot be compiled."""
    if module is None:
        warnings.warn(
            "compile=True has no effect on a net whose class changes how its module is called.",
            NotCompiledWarning,
            stacklevel=2,
        )
        return None
    compiled = CompiledForward(module, automatic_batch_size(base, tuple(row.shape[1:])).rows)
    compiled(row)
    return compiled if compiled.is_compiled else None
