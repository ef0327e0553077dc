"""The frozen record of how far a class provably stays among the most probable ones."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.top_k import top_k_radius
from randsmooth.certificates.from_counts import imported_versions
from randsmooth.certificates.rules import check_alpha
from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper
from randsmooth.noise import Noise

__all__ = ["TopKCertificates", "certify_top_k_counts", "check_k"]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TopKCertificates:
    """How far the label of each input provably stays among the `k` most probable classes.

    Each row holds with probability at least 1 - `alpha` over the noise drawn for it.

    Parameters
    ----------
    label : ndarray of shape (n_rows,)
        The class that is certified.

    radius : ndarray of float64, shape (n_rows,)
        The radius within which it stays, in the norm of the noise; 0 where nothing is certified.

    k : int
        Among how many classes.

    p_lower : ndarray of float64, shape (n_rows,)
        Lower confidence bound on the probability of `label` under noise.

    p_upper : ndarray of float64, shape (n_rows, n_classes - 1)
        Upper confidence bounds on the probabilities of the other classes, in their order.

    counts : ndarray of int64, shape (n_rows, n_classes)
        The votes behind them.

    noise : Noise
        The noise that was added.

    alpha : float
        Failure probability of each row.

    versions : mapping of str to str
        Versions of the packages that drew the votes.

    References
    ----------
    .. [1] J. Jia, X. Cao, B. Wang and N. Z. Gong, "Certified robustness for top-k predictions
       against adversarial perturbations via randomized smoothing", ICLR 2020.
    """

    label: NDArray[Any]
    radius: NDArray[np.float64]
    k: int
    p_lower: NDArray[np.float64]
    p_upper: NDArray[np.float64]
    counts: NDArray[np.int64]
    noise: Noise
    alpha: float
    versions: dict[str, str]

    def __len__(self) -> int:
        return len(self.radius)

    def __repr__(self) -> str:
        return (
            f"TopKCertificates(n_inputs={len(self)}, k={self.k}, norm={self.noise.norm!r}, "
            f"alpha={self.alpha:g})"
        )


def certify_top_k_counts(
    counts: NDArray[np.int64],
    label: NDArray[np.intp],
    k: int,
    *,
    noise: Noise,
    alpha: float,
    classes: ArrayLike | None = None,
) -> TopKCertificates:
    """Certify from votes that a class is among the `k` most probable ones.

    Half of `alpha` bounds the probability of the label from below, the other half those of all
    other classes from above, in equal shares. The label must have been chosen without these votes.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_rows, n_classes)
        Votes. A row without any certifies nothing.

    label : ndarray of int, shape (n_rows,)
        Column of the class that is certified, for each row.

    k : int
        Among how many classes, from 1 to the number of classes.

    noise : Noise
        The noise that was added.

    alpha : float
        Failure probability of each row, strictly between 0 and 1.

    classes : array-like of shape (n_classes,) or None, default=None
        Class labels of the columns, 0, 1, 2, ... by default.

    Returns
    -------
    TopKCertificates
        The record.

    Raises
    ------
    ValueError
        If `k` or `alpha` is out of range.
    """
    n_rows, n_classes = counts.shape
    check_k(k, n_classes)
    check_alpha(alpha)
    names = np.arange(n_classes) if classes is None else np.asarray(classes)
    trials = np.maximum(counts.sum(axis=1), 1)
    own = np.take_along_axis(counts, label[:, np.newaxis], axis=1)[:, 0]
    others = counts[np.arange(n_classes) != label[:, np.newaxis]].reshape(n_rows, n_classes - 1)
    p_lower = clopper_pearson_lower(own, trials, alpha=alpha / 2)
    share = alpha / (2 * (n_classes - 1))
    p_upper = clopper_pearson_upper(others, trials[:, np.newaxis], alpha=share)
    voted = counts.sum(axis=1) > 0
    p_upper = np.where(voted[:, np.newaxis], p_upper, 1.0)
    given = top_k_radius(p_lower, p_upper, k, probability_lower=noise.probability_lower)
    radius = noise.as_counted(given)
    return TopKCertificates(
        label=names[label],
        radius=np.where(voted, radius, 0.0),
        k=int(k),
        p_lower=p_lower,
        p_upper=p_upper,
        counts=counts,
        noise=noise,
        alpha=alpha,
        versions=imported_versions(),
    )


def check_k(k: int, n_classes: int) -> None:
    """Refuse a number of classes that is out of range.

    Parameters
    ----------
    k : int
        The candidate.

    n_classes : int
        Number of classes there are.

    Raises
    ------
    ValueError
        If it is not an integer from 1 to `n_classes`.
    """
    if not isinstance(k, Integral) or isinstance(k, bool) or not 1 <= k <= n_classes:
        raise ValueError(
            f"k must be an integer from 1 to the number of classes, {n_classes}, got {k!r}."
        )
