"""What every display needs before it draws: matplotlib, and curves with their names."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

__all__ = ["NORM_SYMBOLS", "named", "require_matplotlib"]

NORM_SYMBOLS = {
    "l0": r"$\ell_0$",
    "l1": r"$\ell_1$",
    "l2": r"$\ell_2$",
    "linf": r"$\ell_\infty$",
}
"""How the norms are written on an axis."""


def require_matplotlib(caller: str) -> None:
    """Refuse to draw where matplotlib is missing.

    Parameters
    ----------
    caller : str
        Who needs it.

    Raises
    ------
    ImportError
        If it is not installed, naming the extra that brings it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(
            f"{caller} needs matplotlib, which is not installed: pip install 'randsmooth[plot]'."
        )


def named(data: Any, name: str | None) -> list[tuple[str | None, Any]]:
    """Return what is to be drawn with its names, whether it is one thing or a mapping of several.

    Parameters
    ----------
    data : object or mapping of str to object
        What is to be drawn.

    name : str or None
        Name of a single one.

    Returns
    -------
    list of tuple of (str or None, object)
        Names and things.

    Raises
    ------
    ValueError
        If a name is given besides those of a mapping, or the mapping is empty.
    """
    if not isinstance(data, Mapping):
        return [(name, data)]
    if name is not None:
        raise ValueError(f"name must be None where several curves have their own, got {name!r}.")
    if not data:
        raise ValueError("at least one curve must be given, got an empty mapping.")
    return list(data.items())
