"""The law of random flips of features, in exact integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from randsmooth.bounds.validation import checked_integer

__all__ = ["FLIP_UNITS", "Atom", "FlipLaw", "flip_law"]

FLIP_UNITS = 1 << 24
"""What flip probabilities are counted in: a uniform integer below it decides a flip."""

# An exponent of one ratio in a region's key, above the largest exponent of the one before.
_OTHER, _KEPT = 1 << 12, 1 << 24

Atom = tuple[int, int, int]


@dataclass(frozen=True)
class FlipLaw:
    """How often a feature takes each other category, in units of 2**-24.

    Parameters
    ----------
    from_zero : int
        For a feature that is zero.

    from_other : int
        For a feature that is not.

    n_categories : int
        Number of categories, zero included.
    """

    from_zero: int
    from_other: int
    n_categories: int

    @property
    def kinds(self) -> tuple[tuple[Atom, ...], ...]:
        """The outcomes of one changed feature, for every kind of change.

        They are additions, deletions, and switches between other categories, or changes of
        whatever kind where these do not differ. An outcome is a key, and how often it comes before
        and after the change. Equal sums of keys mean equal ratios among outcomes of equally many
        changes of each kind.
        """
        a, d, rest = self.from_zero, self.from_other, self.n_categories - 2
        keep_a, keep_d = FLIP_UNITS - (rest + 1) * a, FLIP_UNITS - (rest + 1) * d
        switch = ((_KEPT, keep_d, d), (-_KEPT, d, keep_d), (0, rest * d, rest * d))
        if a == d:
            return (switch,)
        add = ((1, keep_a, d), (0, a, keep_d), (_OTHER, rest * a, rest * d))
        delete = tuple((-key, after, before) for key, before, after in add)
        return (add, delete, switch) if rest else (add, delete)

    @property
    def hides_all(self) -> bool:
        """Whether the noise leaves nothing of the input."""
        return all(before == after for kind in self.kinds for _, before, after in kind)


def flip_law(p_add: float, p_del: float | None = None, n_categories: int = 2) -> FlipLaw:
    """Check flip probabilities and round them to what a 24-bit integer decides exactly.

    Parameters
    ----------
    p_add : float
        Probability that a zero becomes another category, in [0, 1].

    p_del : float or None, default=None
        Probability that another category changes, in [0, 1]. None means `p_add`.

    n_categories : int, default=2
        Number of categories, zero included.

    Returns
    -------
    FlipLaw
        How often each other category is taken, out of 2**24 times.

    Raises
    ------
    TypeError
        If a probability is not numeric or the number no integer.

    ValueError
        If a probability is outside [0, 1] or NaN, both round to 0, or there are fewer than two
        categories, or more than 2**12.

    Examples
    --------
    >>> from randsmooth.bounds.flip_law import flip_law
    >>> flip_law(0.25)
    FlipLaw(from_zero=4194304, from_other=4194304, n_categories=2)
    """
    if not 2 <= checked_integer("n_categories", n_categories) <= 4096:
        raise ValueError(f"n_categories must lie from 2 to 4096, got {n_categories!r}.")
    units = []
    for name, p in (("p_add", p_add), ("p_del", p_add if p_del is None else p_del)):
        if not isinstance(p, (int, float, np.number)):
            raise TypeError(f"{name} must be a real number, got {p!r}.")
        if not 0 <= p <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {p!r}.")
        most = FLIP_UNITS // (n_categories - 1)
        units.append(min(round(float(p) * FLIP_UNITS / (n_categories - 1)), most))
    if not any(units):
        raise ValueError(
            f"p_add or p_del must be positive, got {p_add!r} and {p_del!r}, which are 0 in units "
            f"of {n_categories - 1} / 2**24."
        )
    return FlipLaw(units[0], units[1], int(n_categories))
