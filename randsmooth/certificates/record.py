"""The frozen record of a certification run, one row per input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds import BOUNDS
from randsmooth.bounds.box import box_uniform_radius
from randsmooth.certificates.files import RecordFiles
from randsmooth.certificates.rules import (
    asked_radii,
    check_facts,
    check_rows,
    class_labels,
    vote_counts,
)
from randsmooth.metrics import certified_accuracy
from randsmooth.noise import Noise

__all__ = ["Certificates"]

_ROWS = {
    "radius": np.float64,
    "abstained": np.bool_,
    "p_lower": np.float64,
    "p_upper": np.float64,
    "n_draws": np.int64,
    "seconds": np.float64,
}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Certificates(RecordFiles):
    """The record of a certification run, one row per input.

    Each row holds with probability at least 1 - `alpha` over the noise drawn for it: unless the row
    abstained, the smoothed classifier answers `label` at every point closer to the input than
    `radius`, in the norm of the noise. Nothing is claimed for all rows at once; see
    `randsmooth.metrics.certified_accuracy_interval` for what follows for a whole test set.

    The votes are kept, so any bound or failure probability can be evaluated anew without a single
    forward pass. Arrays are read-only.

    Parameters
    ----------
    label : ndarray of shape (n_rows,)
        Class with the most selection votes, the first of `classes` where several tie. It is given
        for rows that abstained too.

    radius : ndarray of float64, shape (n_rows,)
        Certified radius in the units of the inputs, 0 where `abstained`.

    abstained : ndarray of bool, shape (n_rows,)
        Whether nothing is certified: not ``p_lower > p_upper``.

    p_lower : ndarray of float64, shape (n_rows,)
        Lower confidence bound on the probability of `label` under noise.

    p_upper : ndarray of float64, shape (n_rows,)
        Upper confidence bound on the probability of every other class.

    selection_counts : ndarray of int64, shape (n_rows, n_classes)
        Votes of the draws that chose `label`.

    counts : ndarray of int64, shape (n_rows, n_classes)
        Votes of the draws that bound its probability.

    n_draws : ndarray of int64, shape (n_rows,)
        Number of estimation draws, the sum of each row of `counts`.

    seconds : ndarray of float64, shape (n_rows,)
        Wall-clock time of each row, its share of the batch; 0 where unknown.

    noise : Noise
        The noise that was added.

    bound : str
        Name of the bound behind `radius`.

    alpha : float
        Failure probability of each row; 0 where every outcome of the noise was tried, so that
        nothing is random. `selection_counts` and `counts` are then the same votes.

    classes : ndarray of shape (n_classes,)
        Class labels, in the order of the columns of the counts.

    noise_seed : int or None
        Seed of the noise, None where unknown.

    versions : mapping of str to str
        Versions of the packages that drew the votes.

    radii : ndarray of float64, shape (n_radii,), or None, default=None
        For a sequential run the radii that were asked about, increasing: `radius` is the largest
        of them that is certified, and `counts` stop where the question was decided. None for a
        number of draws fixed in advance.

    execution : mapping of str to str, bool or None, default={}
        How the votes were drawn, as far as it is part of the claim: whether the noise was common,
        the shortcut taken, the arithmetic and the device. Empty where unknown.

    Raises
    ------
    ValueError
        If the fields contradict each other.

    TypeError
        If `noise`, `bound` or `noise_seed` has the wrong type.

    Examples
    --------
    >>> from randsmooth.certificates import certify_counts
    >>> votes = [[990, 10], [480, 520]]
    >>> record = certify_counts([[9, 1], [4, 6]], votes, sigma=0.5, bound="binary")
    >>> record
    Certificates(n_inputs=2, n_abstained=1, bound='binary', norm='l2', alpha=0.001)
    >>> record.label, record.radius.round(3)
    (array([0, 1]), array([0.989, 0.   ]))
    """

    label: NDArray[Any]
    radius: NDArray[np.float64]
    abstained: NDArray[np.bool_]
    p_lower: NDArray[np.float64]
    p_upper: NDArray[np.float64]
    selection_counts: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_draws: NDArray[np.int64]
    seconds: NDArray[np.float64]
    noise: Noise
    bound: str
    alpha: float
    classes: NDArray[Any]
    noise_seed: int | None
    versions: Mapping[str, str]
    radii: NDArray[np.float64] | None = None
    execution: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        selection_counts, counts = vote_counts(self.selection_counts, self.counts)
        columns: dict[str, NDArray[Any]] = {
            name: np.array(getattr(self, name), dtype=dtype) for name, dtype in _ROWS.items()
        }
        columns["label"] = np.array(self.label)
        for name, column in columns.items():
            if column.shape != counts.shape[:1]:
                raise ValueError(
                    f"{name} must have one entry per row of counts, shape {counts.shape[:1]}, "
                    f"got shape {column.shape}."
                )
        columns["classes"] = class_labels(self.classes, counts.shape[1])
        columns |= {"selection_counts": selection_counts, "counts": counts}
        if self.radii is not None:
            columns["radii"] = asked_radii(self.radii)
        for name, column in columns.items():
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        object.__setattr__(self, "versions", dict(self.versions))
        object.__setattr__(self, "execution", dict(self.execution))
        check_facts(self)
        check_rows(self)

    def __len__(self) -> int:
        return len(self.radius)

    def __repr__(self) -> str:
        asked = "" if self.radii is None else f", radii={self.radii.tolist()}"
        return (
            f"Certificates(n_inputs={len(self)}, n_abstained={int(self.abstained.sum())}, "
            f"bound={self.bound!r}, norm={self.noise.norm!r}, alpha={self.alpha:g}{asked})"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the run as a whole, in plain Python values."""
        return {
            "noise": self.noise.name,
            "sigma": self.noise.scale,
            "noise_parameters": self.noise.parameters,
            "bound": self.bound,
            "alpha": self.alpha,
            "noise_seed": self.noise_seed,
            "radii": None if self.radii is None else self.radii.tolist(),
            "execution": dict(self.execution),
            "versions": dict(self.versions),
        }

    def take(self, rows: ArrayLike | slice) -> Self:
        """Return the record of some of the inputs.

        Parameters
        ----------
        rows : slice, int, array-like of int or array-like of bool
            Which rows, as NumPy indexes an array.

        Returns
        -------
        Certificates
            Their record, in the order asked for.
        """
        index = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        index = np.atleast_1d(index)
        per_row = ("label", "selection_counts", "counts", *_ROWS)
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in per_row})

    def with_bound(self, bound: str | Callable[..., ArrayLike]) -> Certificates:
        """Return the record that another bound gives for the same votes.

        Each record spends the whole of `alpha` by itself. Choosing, row by row, the better of two
        records that each spent `alpha` is not a certificate at `alpha`: choose the bound first.

        Parameters
        ----------
        bound : str or callable
            As in `certify_counts`.

        Returns
        -------
        Certificates
            The new record. Nothing is drawn.

        Raises
        ------
        ValueError
            If the record is that of a sequential run: its counts are no sample of a fixed size.
        """
        return self._certified_anew(bound=bound, alpha=self.alpha)

    def with_alpha(
        self, alpha: float, *, bound: str | Callable[..., ArrayLike] | None = None
    ) -> Certificates:
        """Return the record of the same votes at another failure probability.

        Each record spends the whole of its `alpha` by itself. Choosing the better of two records
        that each spent `alpha` is not a certificate at `alpha`: choose the level first.

        Parameters
        ----------
        alpha : float
            Failure probability of each row, strictly between 0 and 1.

        bound : str, callable or None, default=None
            Bound of the new record, None for the same again. A bound of your own must be given
            here once more, since the record knows only its name.

        Returns
        -------
        Certificates
            The new record. Nothing is drawn.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1), the bound is unknown here, or the record is that of a
            sequential run: its counts are no sample of a fixed size.
        """
        random = self.radii is None and self.alpha > 0
        if bound is None and random and self.bound not in BOUNDS:
            raise ValueError(
                f"bound must be given to with_alpha where it is a function of your own, "
                f"got None for {self.bound!r}. Pass the function: with_alpha(alpha, bound=...)."
            )
        return self._certified_anew(bound=bound or self.bound, alpha=alpha)

    def _certified_anew(
        self, *, bound: str | Callable[..., ArrayLike], alpha: float
    ) -> Certificates:
        from randsmooth.certificates.from_counts import certify_counts

        if self.alpha == 0:
            raise ValueError(
                "with_bound and with_alpha need votes on random draws, got a record in which every "
                "outcome of the noise was tried: its radii are exact, and alpha is 0."
            )
        if self.radii is not None:
            raise ValueError(
                f"with_bound and with_alpha need votes whose number was fixed in advance, got a "
                f"record that stopped as soon as the radii {self.radii.tolist()} were decided. "
                f"Certify without radii, or ask again with the other bound or alpha."
            )
        kept = ("noise", "classes", "noise_seed", "seconds", "versions", "execution")
        return certify_counts(
            self.selection_counts,
            self.counts,
            alpha=alpha,
            bound=bound,
            **{name: getattr(self, name) for name in kept},
        )

    def radius_in_box(
        self, X: ArrayLike, *, low: ArrayLike = 0.0, high: ArrayLike = 1.0
    ) -> NDArray[np.float64]:
        """Return the certified radius among inputs that are known to lie in a box.

        It is at least `radius`, from the same probabilities: far from the middle of the box there
        is less room for an attack. Both are for uniform noise, or splitting noise.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            The inputs of the run, which must lie in the box.

        low, high : float or array-like of float, default=0.0 and 1.0
            Ends of the box, for all coordinates or for each.

        Returns
        -------
        ndarray of float64, shape (n_rows,)
            Radii in l1; 0 where `abstained`.

        Raises
        ------
        ValueError
            If the noise is another one, or an input lies outside the box.

        See Also
        --------
        randsmooth.bounds.box_uniform_radius : The formula and its source.
        """
        if self.noise.name not in ("uniform", "splitting"):
            raise ValueError(
                f"noise must be uniform or splitting noise for a radius within a box, got "
                f"{self.noise!r}."
            )
        if np.shape(X)[:1] != (len(self),):
            raise ValueError(
                f"X must have one row per row of the record, {len(self)}, got shape {np.shape(X)}."
            )
        radius = box_uniform_radius(
            self.p_lower, self.p_upper, half_width=self.noise.scale, X=X, low=low, high=high
        )
        return np.where(self.abstained, 0.0, radius)

    def certified_accuracy(self, y: ArrayLike, radii: ArrayLike) -> NDArray[np.float64]:
        """Return the share of inputs that are right and certified at each radius.

        Parameters
        ----------
        y : array-like of shape (n_rows,)
            True labels.

        radii : array-like of float
            Radii to evaluate. An abstention counts as wrong at every one, 0 included.

        Returns
        -------
        ndarray of float64, shape of `radii`
            Shares, from 0 to 1.
        """
        return certified_accuracy(y, self.label, self.radius, radii, abstained=self.abstained)

    def leading_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the estimation votes for `label`, and the most votes for any other class."""
        chosen = self.selection_counts.argmax(axis=1)[:, np.newaxis]
        others = self.counts.copy()
        np.put_along_axis(others, chosen, -1, axis=1)
        return np.take_along_axis(self.counts, chosen, axis=1)[:, 0], others.max(axis=1)
