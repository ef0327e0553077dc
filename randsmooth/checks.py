"""What parameters of training strategies and of attacks must be."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "check_choice",
    "check_clip_range",
    "check_count",
    "check_inputs_in_range",
    "check_positive",
    "check_weight",
]


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """Refuse a number of draws, steps or epochs that is no integer, or too small.

    Parameters
    ----------
    name : str
        Name of the parameter.

    value : int
        Its value.

    least : int, default=1
        The smallest that will do.

    Raises
    ------
    ValueError
        If it will not do.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        needed = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name} must be {needed}, got {value!r}.")


def check_weight(name: str, value: Any) -> None:
    """Refuse a weight that is negative or not finite.

    Parameters
    ----------
    name : str
        Name of the parameter.

    value : float
        Its value.

    Raises
    ------
    ValueError
        If it is no weight.
    """
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Refuse a length or scale that is not positive and finite.

    Parameters
    ----------
    name : str
        Name of the parameter.

    value : float
        Its value.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a name that is not among the choices.

    Parameters
    ----------
    name : str
        Name of the parameter.

    value : str
        Its value.

    choices : tuple of str
        What it may be.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_clip_range(clip_range: Any) -> None:
    """Refuse a clip range that is neither None nor two numbers in order.

    Parameters
    ----------
    clip_range : tuple of two floats or None
        Smallest and largest value of an input's coordinates.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if clip_range is None:
        return
    ends = clip_range if isinstance(clip_range, (tuple, list)) else ()
    if not (len(ends) == 2 and all(map(_is_number, ends)) and ends[0] < ends[1]):
        raise ValueError(
            f"clip_range must be None or two numbers, the smaller first, got {clip_range!r}."
        )


def check_inputs_in_range(inputs: Tensor, clip_range: tuple[float, float] | None) -> None:
    """Refuse inputs outside the clip range, where a ball would not hold its own centre.

    Parameters
    ----------
    inputs : Tensor
        A batch of inputs.

    clip_range : tuple of two floats or None
        Smallest and largest value of a coordinate; None for no limits.

    Raises
    ------
    ValueError
        If a value lies outside by more than rounding or is not a number.
    """
    if clip_range is None:
        return
    smallest, largest = (end.item() for end in torch.aminmax(inputs))
    # Scaling inputs to a range rounds some of them to just outside.
    slack = 8 * torch.finfo(inputs.dtype).eps * max(map(abs, clip_range))
    if not (clip_range[0] - slack <= smallest and largest <= clip_range[1] + slack):
        raise ValueError(
            f"clip_range must contain the inputs, got {clip_range!r} for values from "
            f"{smallest:.9g} to {largest:.9g}. Give their range, or None for inputs without limits."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
