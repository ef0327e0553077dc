"""Robust accuracy against the size of attacks, with the certified accuracy below it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth._archive import read_record, storable, write_record
from randsmooth.attacks.arguments import rising_sizes
from randsmooth.checks import check_choice
from randsmooth.exceptions import InvalidFileError

__all__ = ["NORMS", "RobustAccuracyCurve"]

NORMS = ("l1", "l2", "linf")
"""The norms of perturbations."""


@dataclass(frozen=True, eq=False, repr=False)
class RobustAccuracyCurve:
    """What attacks of rising size achieve on each input, and what is certified for it.

    Robust accuracy is an upper bound of the truth: another attack may do better. Certified accuracy
    is a lower bound. Neither is a statement about other inputs than these.

    Parameters
    ----------
    sizes : ndarray of float64, shape (n_sizes,)
        Sizes of the attacks, in rising order.

    distance : ndarray of float64, shape (n_attacks, n_inputs)
        Size of the smallest perturbation with which each attack changed the label, confirmed by
        fresh votes: 0 where the label is wrong without one, infinite where there is none, NaN where
        the input could not be attacked.

    certified_radius : ndarray of float64, shape (n_inputs,)
        Certified radius in the norm of the attacks; 0 where the certificate abstains or its label
        is wrong, and where there is no certificate.

    y : ndarray of shape (n_inputs,)
        The true labels.

    norm : {"l1", "l2", "linf"}
        Norm of the perturbations.

    names : tuple of str
        Names of the attacks.

    transferred : tuple of bool
        Which of them saw another classifier only.

    settings : dict
        What each attack was run with, by name.

    facts : dict
        Seeds, numbers of draws, noise and package versions. What went wrong with which inputs
        stands in ``facts["failures"]``, for each attack by row, and in ``facts["uncertified"]``.

    broken_rows : ndarray of int, shape (n_found,)
        Inputs that an attack changed within their certified radius, by many fresh votes; once for
        each attack and size that did.

    broken_inputs : ndarray of shape (n_found, ...)
        What the attacks made of them, to be studied.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, or the norm is none of the three.
    """

    sizes: NDArray[np.float64]
    distance: NDArray[np.float64]
    certified_radius: NDArray[np.float64]
    y: NDArray[Any]
    norm: str
    names: tuple[str, ...]
    transferred: tuple[bool, ...]
    settings: dict[str, Any]
    facts: dict[str, Any]
    broken_rows: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    broken_inputs: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, NORMS)
        rising_sizes(self.sizes)
        shape = len(self.names), len(self.y)
        if self.distance.shape != shape:
            raise ValueError(
                f"distance must hold a row per attack and a column per input, {shape}, got shape "
                f"{self.distance.shape}."
            )
        if self.certified_radius.shape != self.y.shape or len(self.transferred) != len(self.names):
            raise ValueError(
                f"certified_radius must hold one number per input and transferred one per attack, "
                f"got shape {self.certified_radius.shape} and {len(self.transferred)} for {shape}."
            )
        if len(self.broken_rows) != len(self.broken_inputs):
            raise ValueError(
                f"broken_inputs must hold one input for each of broken_rows, got "
                f"{len(self.broken_inputs)} for {len(self.broken_rows)}."
            )

    def __repr__(self) -> str:
        return (
            f"RobustAccuracyCurve(n_inputs={len(self.y)}, attacks={list(self.names)}, "
            f"norm={self.norm!r}, n_broken={len(self.broken())})"
        )

    def __str__(self) -> str:
        rows = [(name, self.robust_accuracy(name)) for name in self.names]
        rows += [("worst case", self.robust_accuracy()), ("certified", self.certified_accuracy())]
        width = max(len(name) for name, _ in rows)
        lines = ["".join([f"{self.norm:{width}}", *(f"{size:>7.3g}" for size in self.sizes)])]
        lines += [
            "".join([f"{name:{width}}", *(f"{v:>7.3f}" for v in values)]) for name, values in rows
        ]
        return "\n".join(lines)

    def robust_accuracy(self, name: str | None = None) -> NDArray[np.float64]:
        """Return the share of inputs that withstand, at each size.

        Parameters
        ----------
        name : str or None, default=None
            One attack; None is the worst of all of them, input by input.

        Returns
        -------
        ndarray of float64, shape (n_sizes,)
            Robust accuracy among the inputs that could be attacked; by all of them, among those
            that one of them could be run on. NaN where there are none.

        Raises
        ------
        ValueError
            If no attack has that name.
        """
        if name is None:
            rows = self.distance
        else:
            check_choice("name", name, self.names)
            rows = self.distance[[self.names.index(name)]]
        known = ~np.isnan(rows).all(axis=0)
        return _shares(np.nanmin(rows[:, known], axis=0, initial=np.inf) > self.sizes[:, None])

    def certified_accuracy(self, sizes: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the share of inputs that no attack of a size can change.

        Parameters
        ----------
        sizes : array-like of float, shape (n_sizes,), or None, default=None
            Sizes in rising order; None is those of the attacks.

        Returns
        -------
        ndarray of float64, shape (n_sizes,)
            Certified accuracy among the inputs of `robust_accuracy`.
        """
        known = ~np.isnan(self.distance).all(axis=0)
        asked = self.sizes if sizes is None else rising_sizes(sizes)
        return _shares(self.certified_radius[known] > asked[:, None])

    def broken(self) -> NDArray[np.intp]:
        """Return the inputs that an attack changed within their certified radius.

        Whatever the votes of the attack say to be one is judged again by a hundred times as many
        fresh ones, up to 100,000, and stands here where a one-sided binomial test at `alpha` says
        that another class leads. Of the inputs no more than a share of `alpha` is to be expected,
        for certificates that fail, and as large a share of those that were judged again.

        Returns
        -------
        ndarray of int, shape (n_broken,)
            Their rows.
        """
        return np.unique(self.broken_rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record to a file, without pickle.

        Parameters
        ----------
        path : str or path-like
            The file to write.
        """
        numbers = ("sizes", "distance", "certified_radius", "broken_rows", "broken_inputs")
        arrays = {name: getattr(self, name) for name in numbers}
        names = ("norm", "names", "transferred", "settings", "facts")
        facts = {name: getattr(self, name) for name in names}
        write_record("RobustAccuracyCurve", path, {**arrays, "y": storable(self.y)}, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the record in a file.

        Parameters
        ----------
        path : str or path-like
            A file that `save` wrote.

        Returns
        -------
        RobustAccuracyCurve
            The record.

        Raises
        ------
        InvalidFileError
            If the file does not hold such a record.
        """
        if Path(path).is_dir():
            raise InvalidFileError(f"{os.fspath(path)} is a folder, not a file.")
        return read_record("RobustAccuracyCurve", path, cls._of)

    @classmethod
    def _of(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        read = {**header, **arrays}
        kept = {name: read[name] for name in cls.__dataclass_fields__}
        kinds = {"names": list, "transferred": list, "settings": dict, "facts": dict}
        for name, kind in kinds.items():
            if not isinstance(kept[name], kind):
                raise InvalidFileError(f"holds {kept[name]!r} for {name!r}, not a {kind.__name__}.")
        pairs = {name: tuple(kept[name]) for name in ("names", "transferred")}
        return cls(**kept | pairs)


def _shares(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of the inputs in each row; NaN where there are none."""
    if kept.shape[1] == 0:
        return np.full(len(kept), np.nan)
    shares: NDArray[np.float64] = kept.mean(axis=1)
    return shares
