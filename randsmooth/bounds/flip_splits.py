"""What random flips certify for given numbers of additions and deletions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.flip_curves import split_curve
from randsmooth.bounds.flip_law import FlipLaw, flip_law
from randsmooth.bounds.probabilities import probability_pair
from randsmooth.bounds.validation import checked_integer

__all__ = ["certified_flips", "flips_split_probability_lower"]


def flips_split_probability_lower(
    p_lower: ArrayLike,
    *,
    n_added: int,
    n_deleted: int,
    n_switched: int = 0,
    p_add: float,
    p_del: float | None = None,
    n_categories: int = 2,
) -> NDArray[np.float64]:
    r"""How improbable an event can become under random flips, for given numbers of changes.

    If an event has at least the probability `p_lower` at one point, it has at least the
    returned one at every point that differs by this many changes of each kind. Some event
    attains it. Nothing is random here. The value is never above the exact one.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the event, in [0, 1].

    n_added : int
        Number of features that change from zero.

    n_deleted : int
        Number of features that change to zero.

    n_switched : int, default=0
        Number of features that change from one other category to another; 0 if there are
        only two categories.

    p_add : float
        Probability that a zero becomes another category; see `flips_radius`.

    p_del : float or None, default=None
        Probability that another category changes. None means `p_add`.

    n_categories : int, default=2
        Number of categories, zero included.

    Returns
    -------
    ndarray of float64, shape (...)
        The lower bounds. A float64 scalar where `p_lower` is one.

    Raises
    ------
    TypeError
        If an argument is not numeric, or a number no integer.

    ValueError
        If a probability is outside [0, 1] or NaN, a number of changes is negative, features are
        switched where there are two categories, both flip probabilities round to 0, or
        `n_categories` is below 2.

    Notes
    -----
    The outcomes of the noise are sorted by their likelihood ratio between the two points. The
    event that takes those with the largest ratios has the least probability after the changes.

    References
    ----------
    .. [1] A. Bojchevski, J. Klicpera and S. Günnemann, "Efficient robustness certificates for
       discrete data: sparsity-aware randomized smoothing for graphs, images and more", ICML
       2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.flip_splits import flips_split_probability_lower
    >>> added = flips_split_probability_lower(0.99, n_added=1, n_deleted=0, p_add=0.01, p_del=0.6)
    >>> deleted = flips_split_probability_lower(0.99, n_added=0, n_deleted=1, p_add=0.01, p_del=0.6)
    >>> added.round(2), deleted.round(2)
    (np.float64(0.6), np.float64(0.98))
    """
    law = flip_law(p_add, p_del, n_categories)
    p = probability_pair(p_lower, None).top
    numbers = {"n_added": n_added, "n_deleted": n_deleted, "n_switched": n_switched}
    for name, number in numbers.items():
        if checked_integer(name, number) < 0:
            raise ValueError(f"{name} must not be negative, got {number!r}.")
    if n_switched and n_categories == 2:
        raise ValueError(f"n_switched must be 0 where there are 2 categories, got {n_switched!r}.")
    split = _split(law, n_added, n_deleted, n_switched)
    result: NDArray[np.float64] = (split_curve(law, split).after(p) if sum(split) else p)[()]
    return result


def certified_flips(
    p_lower: ArrayLike,
    p_upper: ArrayLike | None = None,
    *,
    p_add: float,
    p_del: float | None = None,
    n_added: int,
    n_deleted: int,
) -> NDArray[np.bool_]:
    r"""Table of the numbers of additions and deletions that two class probabilities certify.

    The smoothed classifier answers the top class at every point that is reached by at most that
    many ones for zeros and zeros for ones where the table says True, if `p_lower` and `p_upper`
    bound its class probabilities at the centre. Nothing is random here. An entry is never True
    where the exact one is not.

    Parameters
    ----------
    p_lower : array-like of float, shape (...)
        Lower bound on the probability of the top class, in [0, 1].

    p_upper : array-like of float, shape (...), or None, default=None
        Upper bound on the probability of every other class, in [0, 1]; clipped to
        1 - `p_lower`, which is also what None means.

    p_add : float
        Probability that a zero becomes a one; see `flips_radius`.

    p_del : float or None, default=None
        Probability that a one becomes a zero. None means `p_add`.

    n_added, n_deleted : int
        Largest numbers in the table.

    Returns
    -------
    ndarray of bool, shape (..., n_added + 1, n_deleted + 1)
        Whether the decision is certified, by numbers of additions and of deletions.

    Raises
    ------
    TypeError
        If an argument is not numeric, or a number no integer.

    ValueError
        If a probability is outside [0, 1] or NaN, a number is negative, or both flip
        probabilities round to 0.

    Notes
    -----
    An entry is :math:`f_s(p_1) + f_s(1 - p_2) > 1`, see `flips_radius`.

    References
    ----------
    .. [1] A. Bojchevski, J. Klicpera and S. Günnemann, "Efficient robustness certificates for
       discrete data: sparsity-aware randomized smoothing for graphs, images and more", ICML
       2020, Section 4.

    Examples
    --------
    >>> from randsmooth.bounds.flip_splits import certified_flips
    >>> certified_flips(0.99, p_add=0.01, p_del=0.6, n_added=2, n_deleted=4).astype(int)
    array([[1, 1, 1, 1, 1],
           [1, 1, 1, 1, 1],
           [1, 0, 0, 0, 0]])
    """
    law = flip_law(p_add, p_del, 2)
    for name, number in (("n_added", n_added), ("n_deleted", n_deleted)):
        if checked_integer(name, number) < 0:
            raise ValueError(f"{name} must not be negative, got {number!r}.")
    pair = probability_pair(p_lower, p_upper).lowered()
    table = np.empty((*pair.top.shape, n_added + 1, n_deleted + 1), dtype=bool)
    for added in range(n_added + 1):
        for deleted in range(n_deleted + 1):
            split = _split(law, added, deleted, 0)
            if not sum(split):
                table[..., added, deleted] = pair.top > pair.runner_up
                continue
            table[..., added, deleted] = split_curve(law, split).keeps_lead(
                pair.top, pair.runner_up
            )
    return table


def _split(law: FlipLaw, added: int, deleted: int, switched: int) -> tuple[int, ...]:
    """Return the numbers of changes of the kinds that the law tells apart."""
    numbers = (added, deleted, switched)
    n_kinds = len(law.kinds)
    return (sum(numbers),) if n_kinds == 1 else numbers[:n_kinds]
