"""Random flips of binary and categorical features. Certifies in l0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth.bounds.flip_law import FLIP_UNITS, FlipLaw, flip_law
from randsmooth.bounds.flips import flips_probability_lower, flips_radius
from randsmooth.bounds.validation import checked_integer
from randsmooth.noise.base import Noise, check_order

__all__ = ["Flips"]


@dataclass(frozen=True)
class Flips(Noise):
    r"""Random flips of features, which certify in :math:`\ell_0`: how many features may change.

    Every feature takes another category at random, independently. Where most features are zero, as
    in one-hot rows, bags of words or graphs, a small `p_add` and a large `p_del` keep the noisy
    rows sparse.

    Parameters
    ----------
    p_add : float
        Probability that a zero becomes another category, each equally likely, in [0, 1].

    p_del : float or None, default=None
        Probability that another category changes, to each of the rest equally likely, in [0, 1].
        None means `p_add`.

    n_categories : int, default=2
        Number :math:`K` of categories of every feature, which are the numbers from 0 to
        :math:`K - 1`.

    n_features : int or None, default=None
        Number of features, beyond which no more can change. Set by `for_inputs`.

    Notes
    -----
    Both probabilities are rounded to multiples of :math:`(K - 1) / 2^{24}`, which a uniform
    24-bit integer decides exactly. The certificate is that of the rounded ones [1]_ [2]_.

    References
    ----------
    .. [1] G.-H. Lee, Y. Yuan, S. Chang and T. Jaakkola, "Tight certificates of adversarial
       robustness for randomly smoothed classifiers", NeurIPS 2019.
    .. [2] A. Bojchevski, J. Klicpera and S. Günnemann, "Efficient robustness certificates for
       discrete data: sparsity-aware randomized smoothing for graphs, images and more", ICML
       2020.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.noise.flips import Flips
    >>> noise = Flips(p_add=0.25, p_del=0.5)
    >>> noise.corrupted(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 8e6, 8e6]]))
    tensor([[1., 0., 0.]])
    >>> noise.certified_radius([0.9, 0.99])
    array([ 5., 18.])
    """

    scale: float = field(init=False, repr=False, default=1.0)
    p_add: float
    p_del: float | None = None
    n_categories: int = 2
    n_features: int | None = None

    name: ClassVar[str] = "flips"
    norm: ClassVar[str] = "l0"
    additive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        flip_law(self.p_add, self.p_del, self.n_categories)
        p_del = self.p_add if self.p_del is None else self.p_del
        object.__setattr__(self, "p_add", float(self.p_add))
        object.__setattr__(self, "p_del", float(p_del))
        object.__setattr__(self, "n_categories", int(self.n_categories))
        if self.n_features is not None:
            n_features = checked_integer("n_features", self.n_features)
            if n_features < 1:
                raise ValueError(f"n_features must be at least 1, got {n_features!r}.")
            object.__setattr__(self, "n_features", n_features)

    def for_inputs(self, shape: tuple[int, ...]) -> Self:
        """Return the noise for inputs of a shape, which knows how many features there are.

        Parameters
        ----------
        shape : tuple of int
            Shape of one input.

        Returns
        -------
        Flips
            A copy with `n_features` set.

        Raises
        ------
        ValueError
            If `n_features` was given and is another.
        """
        n_features = math.prod(shape)
        if self.n_features not in (None, n_features):
            raise ValueError(
                f"n_features must be {n_features} for inputs of shape {shape}, got "
                f"{self.n_features!r}. Leave it out: it is set by the inputs."
            )
        return replace(self, n_features=n_features)

    # -- how it is drawn ---------------------------------------------------------------------------

    @property
    def law(self) -> FlipLaw:
        """How often each other category is taken, out of 2**24 times."""
        return flip_law(self.p_add, self.p_del, self.n_categories)

    @property
    def draw_factor(self) -> float:
        """1: draws are integers."""
        return 1.0

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with uniformly random integers from 0 to 2**24 - 1."""
        out[...] = generator.integers(0, FLIP_UNITS, size=out.shape, dtype=np.uint32)

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with uniformly random integers from 0 to 2**24 - 1."""
        out.random_(0, FLIP_UNITS, generator=generator)
        return True

    # -- how it meets an input ---------------------------------------------------------------------

    def check_inputs(self, X: NDArray[np.floating]) -> None:
        """Refuse inputs that are no categories.

        Parameters
        ----------
        X : ndarray of shape (n_inputs, ...)
            The inputs.

        Raises
        ------
        ValueError
            If a value is none of the categories.
        """
        known = (X >= 0) & (X < self.n_categories) & (X == np.floor(X))
        if not known.all():
            raise ValueError(
                f"X must hold integers from 0 to {self.n_categories - 1}, got "
                f"{X[~known].item(0)!r}. Encode the categories as such, or set n_categories."
            )

    def corrupt(self, x: Tensor, draws: Tensor, out: Tensor) -> None:
        """Write the flipped features.

        Parameters
        ----------
        x : Tensor of shape (n_inputs, 1, ...)
            Inputs.

        draws : Tensor of shape (n_inputs or 1, n_draws, ...)
            Integers from 0 to 2**24 - 1.

        out : Tensor of shape (n_inputs, n_draws, ...)
            Where to write.
        """
        law = self.law
        each = torch.where(x == 0, x.new_full((), law.from_zero), x.new_full((), law.from_other))
        flipped = draws < each * (self.n_categories - 1)
        if self.n_categories == 2:
            torch.where(flipped, 1 - x, x, out=out)
            return
        # Of the draws below the threshold, equally many fall to each step to another category.
        torch.div(draws, each, out=out)
        out.floor_().add_(x + 1).remainder_(self.n_categories)
        torch.where(flipped, out, x, out=out)

    # -- what it certifies -------------------------------------------------------------------------

    def certified_radius(
        self, p_lower: ArrayLike, p_upper: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return how many features may change; see `randsmooth.bounds.flips.flips_radius`."""
        return flips_radius(p_lower, p_upper, **self.parameters)

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        """Return how improbable an event can become when up to `radius` features change."""
        return flips_probability_lower(p_lower, radius, **self.parameters)

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        """Return the sum over features of the divergence between the laws of two categories.

        Parameters
        ----------
        shift : array-like of float
            By how much each category changes. A rise may be one from zero, a fall one to zero; it
            is the one with the largest divergence of those possible.

        order : float
            Order of the divergence, at least 1.

        Returns
        -------
        float
            The divergence, in nats; infinite for shifts that no two categories have.
        """
        check_order(order)
        shifts = np.asarray(shift, dtype=float).ravel()
        total = 0.0
        for value in shifts[shifts != 0]:
            size = abs(value)
            if not (size < self.n_categories and value == math.floor(value)):
                return math.inf
            kinds = self.law.kinds
            first = kinds[min(len(kinds) - 1, int(value < 0))]
            possible = [first, kinds[-1]] if size < self.n_categories - 1 else [first]
            total += max(_divergence(kind, order) for kind in possible)
        return total


def _divergence(kind: tuple[tuple[int, int, int], ...], order: float) -> float:
    """Return the divergence between the laws of a feature before and after a change."""
    laws = [(p / FLIP_UNITS, q / FLIP_UNITS) for _, p, q in kind if p]
    if any(q == 0 for _, q in laws):
        return math.inf
    ratios = [math.log(p / q) for p, q in laws]
    if order == 1:
        return sum(p * ratio for (p, _), ratio in zip(laws, ratios, strict=True))
    if order == math.inf:
        return max(ratios)
    exponents = [
        math.log(p) + (order - 1) * ratio for (p, _), ratio in zip(laws, ratios, strict=True)
    ]
    most = max(exponents)
    return (most + math.log(math.fsum(math.exp(e - most) for e in exponents))) / (order - 1)
