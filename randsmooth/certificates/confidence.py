"""The frozen record of how confident a smoothed classifier provably stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.confidence import (
    distribution_confidence_lower,
    distribution_confidence_radius,
    mean_confidence_lower,
    mean_confidence_radius,
)
from randsmooth.certificates.archive import read_confidence_archive, write_confidence_archive
from randsmooth.metrics import same_labels
from randsmooth.noise import Noise

__all__ = ["MEASURES", "METHODS", "ConfidenceCertificates"]

MEASURES = {"score": (0.0, 1.0), "margin": (-1.0, 1.0)}
"""The measures of confidence and the ranges of their values."""

METHODS = ("cdf", "mean")
"""The ways to bound it: by the distribution of the scores, or by their mean alone."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ConfidenceCertificates:
    r"""How confident a smoothed classifier provably stays around each input.

    What is certified is the expected confidence :math:`E\,h(x' + \varepsilon)` in `label`, at every
    point :math:`x'` within a radius: of the probability that the base gives this class, or of its
    margin over the largest of the others. Each row holds with probability at least 1 - `alpha` over
    the noise drawn for it, for all radii and thresholds at once, and for both methods together: the
    event under which the distribution bounds hold is one under which the mean does.

    Parameters
    ----------
    label : ndarray of shape (n_rows,)
        The class whose confidence is certified: that with the most selection votes.

    thresholds : ndarray of float64, shape (n_thresholds,) or (n_rows, n_thresholds)
        Levels of the confidence, increasing; the same for every row, or its own for each.

    counts : ndarray of int64, shape (n_rows, n_thresholds)
        How many draws reached each of them.

    mean : ndarray of float64, shape (n_rows,)
        Mean confidence over the draws, rounded down.

    n_draws : int
        Number of draws for each row, fixed in advance.

    measure : {"score", "margin"}
        Whether confidence is the probability of the class, from 0 to 1, or a margin, from -1 to 1.

    noise : Noise
        The noise that was added.

    alpha : float
        Failure probability of each row.

    classes : ndarray of shape (n_classes,)
        Class labels.

    noise_seed : int or None, default=None
        Seed of the noise.

    execution : mapping, default={}
        How the scores were computed.

    versions : mapping of str to str, default={}
        Versions of the packages that drew the scores.

    Raises
    ------
    ValueError
        If `measure` is unknown or the rows do not match.

    References
    ----------
    .. [1] A. Kumar, A. Levine, S. Feizi and T. Goldstein, "Certifying confidence via randomized
       smoothing", NeurIPS 2020.
    """

    label: NDArray[Any]
    thresholds: NDArray[np.float64]
    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    n_draws: int
    measure: str
    noise: Noise
    alpha: float
    classes: NDArray[Any]
    noise_seed: int | None = None
    execution: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_measure(self.measure)
        shape = (len(self.label), np.shape(self.thresholds)[-1])
        if np.shape(self.counts) != shape or np.shape(self.mean) != shape[:1]:
            raise ValueError(
                f"counts must have one row per label and one column per threshold, shape {shape}, "
                f"and mean one entry per label, got shapes {np.shape(self.counts)} and "
                f"{np.shape(self.mean)}."
            )
        for name in ("label", "thresholds", "counts", "mean", "classes"):
            column = np.array(getattr(self, name))
            column.setflags(write=False)
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        return (
            f"ConfidenceCertificates(n_inputs={len(self)}, measure={self.measure!r}, "
            f"n_draws={self.n_draws}, norm={self.noise.norm!r}, alpha={self.alpha:g})"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the run as a whole, in plain Python values."""
        return {
            "noise": self.noise.name,
            "noise_parameters": self.noise.parameters,
            "n_draws": int(self.n_draws),
            "measure": self.measure,
            "alpha": float(self.alpha),
            "noise_seed": self.noise_seed,
            "execution": dict(self.execution),
            "versions": dict(self.versions),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole record to one file, without pickle.

        Parameters
        ----------
        path : str or path-like
            The file to write; the customary ending is ``.npz``.

        Raises
        ------
        ValueError
            If the noise is not one of `randsmooth.noise.NOISES`.

        TypeError
            If `classes` are Python objects other than strings.
        """
        write_confidence_archive(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a record that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file to read.

        Returns
        -------
        ConfidenceCertificates
            The record.

        Raises
        ------
        InvalidFileError
            If the file is missing, cut short, corrupted, or something else.
        """
        return read_confidence_archive(path, cls)

    def lower_bound(self, radius: ArrayLike, *, method: str = "cdf") -> NDArray[np.float64]:
        """Return the confidence that is certified within a radius, or within each of several.

        Parameters
        ----------
        radius : float or array-like of float, shape (n_radii,)
            Radii in the norm of the noise, at least 0.

        method : {"cdf", "mean"}, default="cdf"
            The bound by the distribution of the confidence, or by its mean alone.

        Returns
        -------
        ndarray of float64, shape (n_rows,) or (n_rows, n_radii)
            Lower bounds, in the range of `measure`.

        Raises
        ------
        ValueError
            If a radius is negative or not finite, or `method` is unknown.
        """
        bound = self._rule(method, distribution_confidence_lower, mean_confidence_lower)
        return bound(radius)

    def radius(self, threshold: ArrayLike, *, method: str = "cdf") -> NDArray[np.float64]:
        """Return the radius within which the confidence provably stays at a threshold or above.

        Parameters
        ----------
        threshold : float or array-like of float, shape (n_thresholds,)
            Levels of the confidence, in the range of `measure`.

        method : {"cdf", "mean"}, default="cdf"
            The bound by the distribution of the confidence, or by its mean alone.

        Returns
        -------
        ndarray of float64, shape (n_rows,) or (n_rows, n_thresholds)
            Radii in the norm of the noise; 0 where it is not certified even at the input.

        Raises
        ------
        ValueError
            If so many draws can never certify the threshold, or `method` is unknown.
        """
        rule = self._rule(method, distribution_confidence_radius, mean_confidence_radius)
        return self.noise.as_counted(rule(threshold))

    def certified_accuracy(
        self,
        y: ArrayLike,
        radius: ArrayLike,
        *,
        threshold: float | None = None,
        method: str = "cdf",
    ) -> NDArray[np.float64]:
        """Return the share of inputs that are right, and certified to stay above a threshold.

        Parameters
        ----------
        y : array-like of shape (n_rows,)
            True labels.

        radius : float or array-like of float, shape (n_radii,)
            Radii to evaluate.

        threshold : float or None, default=None
            What the confidence must exceed. None is one half for scores and 0 for margins, above
            which no other class can be the most probable.

        method : {"cdf", "mean"}, default="cdf"
            As in `lower_bound`.

        Returns
        -------
        ndarray of float64, shape () or (n_radii,)
            Shares, from 0 to 1.

        Raises
        ------
        ValueError
            If `y` does not have one entry per row.
        """
        truth = np.asarray(y)
        if truth.shape != self.label.shape:
            raise ValueError(
                f"y must have one entry per row, shape {self.label.shape}, got shape {truth.shape}."
            )
        low, high = MEASURES[self.measure]
        level = (low + high) / 2 if threshold is None else threshold
        above = self.lower_bound(radius, method=method) > level
        correct = same_labels(truth, self.label)
        return np.asarray((above.T & correct).mean(axis=-1))

    def _rule(
        self,
        method: str,
        by_distribution: Callable[..., NDArray[np.float64]],
        by_mean: Callable[..., NDArray[np.float64]],
    ) -> Callable[[ArrayLike], NDArray[np.float64]]:
        """Return one of two functions, of its last argument alone."""
        low, high = MEASURES[self.measure]
        settings = {
            "alpha": self.alpha,
            "low": low,
            "high": high,
            "probability_lower": self.noise.probability_lower,
        }
        check_method(method)
        if method == "cdf":
            return lambda value: by_distribution(
                self.counts, self.thresholds, self.n_draws, value, **settings
            )
        return lambda value: by_mean(self.mean, self.n_draws, value, **settings)


def check_measure(measure: str) -> None:
    """Refuse an unknown measure of confidence.

    Parameters
    ----------
    measure : str
        The candidate.

    Raises
    ------
    ValueError
        If it is none of `MEASURES`.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure must be 'score' or 'margin', got {measure!r}.")


def check_method(method: str) -> None:
    """Refuse an unknown way to bound a confidence.

    Parameters
    ----------
    method : str
        The candidate.

    Raises
    ------
    ValueError
        If it is none of `METHODS`.
    """
    if method not in METHODS:
        raise ValueError(f"method must be 'cdf' or 'mean', got {method!r}.")
