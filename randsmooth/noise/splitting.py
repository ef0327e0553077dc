"""Splitting noise: an input is seen through the cells of a random lattice. Certifies in l1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth.bounds.shifts import uniform_probability_lower
from randsmooth.bounds.splitting import deterministic_splitting_radius, splitting_radius
from randsmooth.bounds.total_variation import uniform_total_variation
from randsmooth.bounds.validation import checked_integer
from randsmooth.noise.base import FROM_SIGMA, Noise

__all__ = ["DeterministicSplitting", "Splitting"]

# Twice the levels, and two widths of a cell on top, must stay exact in single precision.
_MOST_LEVELS, _MOST_OUTCOMES = 1 << 20, 1 << 21


@dataclass(frozen=True)
class Splitting(Noise):
    r"""Splitting noise on inputs from [0, 1], which certifies in :math:`\ell_1`.

    Every coordinate has a lattice of step :math:`2\lambda` with a uniform offset. The base
    classifier sees in its place the middle of the part of its cell that lies in [0, 1]. The noise
    is not added: the result depends on the cell alone, and two inputs are rarely in
    different cells.

    Parameters
    ----------
    scale : float
        Half-width :math:`\lambda` of a cell, in the units of the input. From 1/2 on, [0, 1] is
        split in two at most.

    Notes
    -----
    The cell of :math:`x` for the offset :math:`s`, uniform on :math:`[0, 2\lambda)`, is the
    interval :math:`(s + 2\lambda(c - 1), s + 2\lambda c]` with
    :math:`c = \lceil (x - s) / 2\lambda \rceil` [1]_.

    Offsets are multiples of :math:`2\lambda / 2^{24}` in single precision, of
    :math:`2\lambda / 2^{53}` in double, and coordinates are compared with them as rounded. The
    probability of a cell may therefore be off by that much for every coordinate that changes.
    `DeterministicSplitting` leaves nothing to rounding.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Improved, deterministic smoothing for L1 certified
       robustness", ICML 2021, Theorem 2.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.noise.splitting import Splitting
    >>> x, offsets = torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]])
    >>> Splitting(1.0).corrupted(x, offsets)
    tensor([[0.2500, 0.7500]])
    >>> Splitting(1.0).certified_radius(0.9).round(3)
    np.float64(0.8)
    """

    name: ClassVar[str] = "splitting"
    norm: ClassVar[str] = "l1"
    additive: ClassVar[bool] = False

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with draws from [0, 1)."""
        generator.random(out=out, dtype=out.dtype.type)

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with draws from [0, 1)."""
        out.uniform_(0, 1, generator=generator)
        return True

    @property
    def draw_factor(self) -> float:
        """The width of a cell."""
        return 2 * self.scale

    def check_inputs(self, X: NDArray[np.floating]) -> None:
        """Refuse inputs outside [0, 1].

        Parameters
        ----------
        X : ndarray of shape (n_inputs, ...)
            The inputs.

        Raises
        ------
        ValueError
            If one lies outside.
        """
        outside = ~((X >= 0) & (X <= 1))
        if outside.any():
            raise ValueError(
                f"X must lie in [0, 1] for splitting noise, got {X[outside].item(0)!r}. Scale the "
                "inputs to [0, 1] first."
            )

    def corrupt(self, x: Tensor, draws: Tensor, out: Tensor) -> None:
        """Write the middle of every coordinate's cell, cut to [0, 1].

        Parameters
        ----------
        x : Tensor of shape (n_inputs, 1, ...)
            Inputs.

        draws : Tensor of shape (n_inputs or 1, n_draws, ...)
            Offsets.

        out : Tensor of shape (n_inputs, n_draws, ...)
            Where to write.
        """
        if self.scale >= 0.5:
            below = draws.clamp(max=1).mul_(0.5)
            torch.where(x > draws, below + 0.5, below, out=out)
            return
        width = self.draw_factor
        torch.sub(x, draws, out=out)
        out.div_(width).ceil_().mul_(width).add_(draws)
        start = (out - width).clamp_(min=0)
        out.clamp_(max=1).add_(start).mul_(0.5)

    def certified_radius(
        self, p_lower: ArrayLike, p_upper: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        r"""Return :math:`\lambda (p_1 - p_2)`; see `randsmooth.bounds.splitting`."""
        return splitting_radius(p_lower, p_upper, half_width=self.scale)

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return :math:`\max(p - r / 2\lambda, 0)`, rounded down."""
        return uniform_probability_lower(p_lower, radius, half_width=self.scale)

    def total_variation(self, attack: float) -> float:
        """Return the share of the offsets that an attack can make a difference for."""
        return float(uniform_total_variation(attack, half_width=self.scale))


@dataclass(frozen=True)
class DeterministicSplitting(Noise):
    r"""Splitting noise on a grid, with few enough outcomes to try them all: no chance is left.

    Inputs are multiples of 1/`levels` in [0, 1]. All coordinates share one random number, so that
    there are only :math:`q = \lfloor 2 \lambda \cdot` `levels` :math:`\rfloor` outcomes. A vote on
    each of them gives the class probabilities exactly, and a radius that holds with certainty for
    all inputs on the grid. The noisy values are computed in integers.

    Parameters
    ----------
    scale : float or None, default=None
        Half-width :math:`\lambda` of a cell, in the units of the input. The number of outcomes
        :math:`q` is rounded down, and the certificate is that of the half-width
        :math:`q / (2 \cdot` `levels` :math:`)`. None leaves it to the `sigma`
        of the classifier.

    levels : int, default=255
        Steps of the grid from 0 to 1, at most 2**20.

    seed : int, default=0
        Chooses the phases :math:`v_i`, one of the numbers from 0 to :math:`q - 1` for every
        coordinate. They are part of the smoothed classifier, the same in training and
        certification.

    Notes
    -----
    Outcome :math:`j` has the offsets :math:`(o_i + 1/2)` / `levels` with
    :math:`o_i = (j + v_i) \bmod q`, which no grid point meets. The theorem of `Splitting` holds
    whatever the joint law of the offsets [1]_.

    References
    ----------
    .. [1] A. Levine and S. Feizi, "Improved, deterministic smoothing for L1 certified
       robustness", ICML 2021, Theorem 2 and Section 4.

    Examples
    --------
    >>> from randsmooth.noise.splitting import DeterministicSplitting
    >>> DeterministicSplitting(1.5).n_outcomes
    765
    """

    scale: float = FROM_SIGMA
    levels: int = 255
    seed: int = 0

    name: ClassVar[str] = "deterministic_splitting"
    norm: ClassVar[str] = "l1"
    additive: ClassVar[bool] = False
    takes_sigma: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("levels", 1), ("seed", 0)):
            value = checked_integer(name, getattr(self, name))
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}.")
            object.__setattr__(self, name, value)
        if self.levels > _MOST_LEVELS:
            raise ValueError(f"levels must be at most {_MOST_LEVELS}, got {self.levels!r}.")
        if self.scale is not FROM_SIGMA and not 1 <= self.n_outcomes <= _MOST_OUTCOMES:
            raise ValueError(
                f"sigma must lie from {1 / (2 * self.levels):.6g} to "
                f"{_MOST_OUTCOMES / (2 * self.levels):.6g} for {self.levels} levels, got "
                f"{self.scale!r}."
            )

    # -- the outcomes ------------------------------------------------------------------------------

    @property
    def n_outcomes(self) -> int:
        """Number :math:`q` of equally likely outcomes: the steps of the grid in a cell."""
        # A half-width written down in decimals may fall short of a whole number of steps.
        return math.floor(2 * self.levels * self.scale * (1 + 1e-12))

    @property
    def draw_factor(self) -> float:
        """1: draws are numbers of steps."""
        return 1.0

    def fill_outcomes(self, out: NDArray[np.floating], start: int, stop: int) -> None:
        """Fill `out` with the offsets of some outcomes, in whole steps of the grid.

        Parameters
        ----------
        out : ndarray of float32 or float64, shape (stop - start, ...)
            Contiguous array to overwrite.

        start, stop : int
            The first of the outcomes, and the end of them.
        """
        self._fill_numbered(out, np.arange(start, stop, dtype=np.int32))

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with the offsets of uniformly random outcomes, in whole steps of the grid."""
        numbers = generator.integers(0, self.n_outcomes, size=len(out))
        self._fill_numbered(out, numbers.astype(np.int32))

    def _fill_numbered(self, out: NDArray[np.floating], numbers: NDArray[np.int32]) -> None:
        phases = _phases(self.seed, self.n_outcomes, out.shape[1:])
        offsets = numbers.reshape(-1, *(1,) * phases.ndim) + phases
        np.subtract(offsets, self.n_outcomes, out=offsets, where=offsets >= self.n_outcomes)
        out[...] = offsets

    # -- how it meets an input ---------------------------------------------------------------------

    def check_inputs(self, X: NDArray[np.floating]) -> None:
        """Refuse inputs off the grid.

        Parameters
        ----------
        X : ndarray of shape (n_inputs, ...)
            The inputs.

        Raises
        ------
        ValueError
            If one is further from a multiple of 1/`levels` in [0, 1] than rounding explains.
        """
        steps = X.astype(np.float64) * self.levels
        nearest = np.clip(np.rint(steps), 0, self.levels)
        tolerance = max(1e-3, 2 * float(np.finfo(X.dtype).eps) * self.levels)
        off = ~(np.abs(steps - nearest) <= tolerance)
        if off.any():
            value, step = X[off].item(0), nearest[off].item(0)
            raise ValueError(
                f"X must hold multiples of 1/{self.levels} in [0, 1], got {value!r}; the nearest "
                f"is {step / self.levels!r}. Round the inputs to the grid, or set levels to that "
                "of the data."
            )

    def corrupt(self, x: Tensor, draws: Tensor, out: Tensor) -> None:
        """Write the middle of every coordinate's cell, cut to [0, 1], from integers.

        Parameters
        ----------
        x : Tensor of shape (n_inputs, 1, ...)
            Inputs on the grid, as rounded.

        draws : Tensor of shape (n_inputs or 1, n_draws, ...)
            Offsets in whole steps.

        out : Tensor of shape (n_inputs, n_draws, ...)
            Where to write.
        """
        steps, width, unit = torch.round(x * self.levels), self.n_outcomes, 4 * self.levels
        # In half steps a grid point is even, an offset odd, and a cell 2 * width long.
        if width >= self.levels:
            below = (2 * draws + 1).clamp_(max=2 * self.levels)
            above = (below + 2 * self.levels).div_(unit)
            torch.where(steps > draws, above, below.div_(unit), out=out)
            return
        torch.sub(steps - 1, draws, out=out)
        out.div_(width).floor_().mul_(2 * width).add_(2 * draws + 1)
        end = (out + 2 * width).clamp_(max=2 * self.levels)
        out.clamp_(min=0).add_(end).div_(unit)

    # -- what it certifies -------------------------------------------------------------------------

    def exact_radius(
        self, counts: NDArray[np.int64], label: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the radius that follows from the votes on all outcomes, with certainty.

        Parameters
        ----------
        counts : ndarray of int64, shape (n_inputs, n_classes)
            The votes; each row sums to `n_outcomes`.

        label : ndarray of int, shape (n_inputs,)
            The class with the most votes, the first of several.

        Returns
        -------
        ndarray of float64, shape (n_inputs,)
            Radii of closed balls, which hold at all inputs on the grid.
        """
        return deterministic_splitting_radius(counts, label, levels=self.levels)

    def certified_radius(
        self, p_lower: ArrayLike, p_upper: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        r"""Return :math:`\lambda (p_1 - p_2)`; see `randsmooth.bounds.splitting`."""
        return splitting_radius(p_lower, p_upper, half_width=self._half_width)

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return :math:`\max(p - r / 2\lambda, 0)`, rounded down."""
        return uniform_probability_lower(p_lower, radius, half_width=self._half_width)

    @property
    def _half_width(self) -> float:
        """The half-width that the outcomes have, rounded down."""
        return math.nextafter(self.n_outcomes / (2 * self.levels), 0.0)


@lru_cache(maxsize=16)
def _phases(seed: int, n_outcomes: int, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return a number of an outcome for every coordinate, the same on any machine and version."""
    source = np.random.Philox(np.random.SeedSequence([seed, *shape]))
    words = source.random_raw(math.prod(shape)) >> np.uint64(32)
    phases = (words * np.uint64(n_outcomes) >> np.uint64(32)).astype(np.int32).reshape(shape)
    phases.flags.writeable = False
    return phases
