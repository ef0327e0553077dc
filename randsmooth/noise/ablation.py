"""Random ablation: all but a few features are hidden. Certifies in l0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth.bounds.ablation import ablation_probability_lower, ablation_radius
from randsmooth.bounds.validation import checked_integer
from randsmooth.noise.base import Noise

__all__ = ["Ablation"]

_LARGEST_WORD = 2**64 - 1
_KEYS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Ablation(Noise):
    r"""Random ablation, which certifies in :math:`\ell_0`: how many features may change.

    The base classifier sees a uniformly random subset of exactly `n_kept` features, and `fill` in
    place of the others.

    Parameters
    ----------
    n_kept : int
        Number of features that are kept.

    fill : float, default=0.0
        What stands in place of the others. Best a value that inputs do not take, so that the base
        classifier can tell; NaN for one that knows missing values.

    unit : {"feature", "pixel"}, default="feature"
        What is kept or hidden as a whole, and counted by the radius: single values, or the
        pixels of images of shape (channels, height, width) with all their channels.

    n_features : int or None, default=None
        Number of features, or of pixels. Set by `for_inputs`; the radius depends on it.

    Notes
    -----
    The subset of the features with the `n_kept` smallest of independent 64-bit random integers is
    uniform. Where the last place is tied, which happens to less than one draw in
    :math:`2^{65} / d^2`, it is drawn among those tied, from a generator of its own seeded by
    one more such integer.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Robustness certificates for sparse adversarial attacks by
       randomized ablation", AAAI 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.noise.ablation import Ablation
    >>> noise = Ablation(n_kept=3).for_inputs((10,))
    >>> noise.draw(1, (10,), np.random.default_rng(0)).sum()
    np.float32(3.0)
    >>> noise.certified_radius(0.99)
    np.float64(1.0)
    """

    scale: float = field(init=False, repr=False, default=1.0)
    n_kept: int
    fill: float = 0.0
    unit: str = "feature"
    n_features: int | None = None

    name: ClassVar[str] = "ablation"
    norm: ClassVar[str] = "l0"
    additive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("n_kept", "n_features"):
            value = getattr(self, name)
            if value is None and name == "n_features":
                continue
            checked_integer(name, value)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}.")
            object.__setattr__(self, name, int(value))
        if not isinstance(self.fill, (int, float, np.number)):
            raise TypeError(f"fill must be a real number, got {self.fill!r}.")
        # One object for all that are NaN, so that equal noises compare as equal.
        object.__setattr__(self, "fill", math.nan if self.fill != self.fill else float(self.fill))
        if self.unit not in ("feature", "pixel"):
            raise ValueError(f"unit must be 'feature' or 'pixel', got {self.unit!r}.")
        if self.n_features is not None:
            self._check_kept(self.n_features)

    def for_inputs(self, shape: tuple[int, ...]) -> Self:
        """Return the noise for inputs of a shape, which knows how many features there are.

        Parameters
        ----------
        shape : tuple of int
            Shape of one input.

        Returns
        -------
        Ablation
            A copy with `n_features` set.

        Raises
        ------
        ValueError
            If more features are kept than there are, pixels are wanted of other than images, or
            `n_features` was given and is another.
        """
        n_features = math.prod(self.draw_shape(shape))
        if self.n_features not in (None, n_features):
            raise ValueError(
                f"n_features must be {n_features} for inputs of shape {shape}, got "
                f"{self.n_features!r}. Leave it out: it is set by the inputs."
            )
        return replace(self, n_features=n_features)

    # -- how it is drawn ---------------------------------------------------------------------------

    @property
    def draw_factor(self) -> float:
        """1: draws say which features are kept."""
        return 1.0

    def draw_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one draw.

        Parameters
        ----------
        shape : tuple of int
            Shape of one input.

        Returns
        -------
        tuple of int
            The same for features, (1, height, width) for pixels.

        Raises
        ------
        ValueError
            If more features are kept than there are, or pixels are wanted of other than images.
        """
        if self.unit == "pixel":
            if len(shape) != 3:
                raise ValueError(
                    "unit must be 'feature' unless inputs have the shape (channels, height, "
                    f"width), got 'pixel' for {shape}."
                )
            shape = (1, *shape[1:])
        self._check_kept(math.prod(shape))
        return shape

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with 1 for kept and 0 for hidden, a uniformly random subset in every draw."""
        rows = out.reshape(len(out), -1)
        n_features = rows.shape[1]
        at_once = max(1, _KEYS_AT_ONCE // n_features)
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            # A row's last word is for ties: every row takes equally many, so that draws can be cut.
            words = generator.integers(
                0, _LARGEST_WORD, size=(len(some), n_features + 1), dtype=np.uint64, endpoint=True
            )
            keys = words[:, :-1]
            last = np.partition(keys, self.n_kept - 1, axis=1)[:, self.n_kept - 1 : self.n_kept]
            kept = keys <= last
            for row in np.flatnonzero(np.count_nonzero(kept, axis=1) > self.n_kept):
                kept[row] = _without_ties(keys[row], last[row], self.n_kept, int(words[row, -1]))
            some[...] = kept

    # -- how it meets an input ---------------------------------------------------------------------

    def corrupt(self, x: Tensor, draws: Tensor, out: Tensor) -> None:
        """Write the kept features, and `fill` in place of the others.

        Parameters
        ----------
        x : Tensor of shape (n_inputs, 1, ...)
            Inputs.

        draws : Tensor of shape (n_inputs or 1, n_draws, ...)
            1 for kept, 0 for hidden.

        out : Tensor of shape (n_inputs, n_draws, ...)
            Where to write.
        """
        torch.where(draws > 0.5, x, x.new_full((), self.fill), out=out)

    # -- what it certifies -------------------------------------------------------------------------

    def certified_radius(
        self, p_lower: ArrayLike, p_upper: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return how many features may change; see `randsmooth.bounds.ablation.ablation_radius`.

        Parameters
        ----------
        p_lower : array-like of float
            Lower bound on the probability of the top class.

        p_upper : array-like of float or None, default=None
            Upper bound on that of every other class; None is 1 - `p_lower`.

        Returns
        -------
        ndarray of float64
            Radii of closed balls, integers.

        Raises
        ------
        ValueError
            If `n_features` is not known.
        """
        n_features = self._known_features()
        return ablation_radius(p_lower, p_upper, n_features=n_features, n_kept=self.n_kept)

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        """Return how improbable an event can become when up to `radius` features change.

        Parameters
        ----------
        p_lower : array-like of float
            Lower bound on its probability under noise around the input.

        radius : array-like of float
            Number of features that change.

        Returns
        -------
        ndarray of float64
            Lower bound on its probability after any such change, rounded down.

        Raises
        ------
        ValueError
            If `n_features` is not known.
        """
        n_features = self._known_features()
        return ablation_probability_lower(
            p_lower, radius, n_features=n_features, n_kept=self.n_kept
        )

    def _known_features(self) -> int:
        if self.n_features is None:
            raise ValueError(
                "n_features must be known for a radius, got None. Take that of "
                "noise.for_inputs(shape)."
            )
        return self.n_features

    def _check_kept(self, n_features: int) -> None:
        if self.n_kept > n_features:
            raise ValueError(
                f"n_kept must be at most the number of {self.unit}s, {n_features}, got "
                f"{self.n_kept!r}."
            )


def _without_ties(
    keys: NDArray[np.uint64], last: NDArray[np.uint64], n_kept: int, seed: int
) -> NDArray[np.bool_]:
    """Return which of the keys are kept, with a random choice among those tied for the end."""
    kept = keys < last
    tied = np.flatnonzero(keys == last)
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(tied)
    kept[order[: n_kept - np.count_nonzero(kept)]] = True
    return kept
