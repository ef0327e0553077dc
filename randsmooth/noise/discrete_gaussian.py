"""Gaussian noise on a grid: certifies in l2 on a machine as on paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from randsmooth.bounds.divergences import gaussian_divergence
from randsmooth.bounds.total_variation import gaussian_total_variation
from randsmooth.noise.base import FROM_SIGMA, Noise
from randsmooth.noise.discrete_normal import rounded_normal
from randsmooth.noise.gaussian import Gaussian

__all__ = ["DiscreteGaussian"]

# Sums of input and noise stay below 2**24 grid steps, so that single precision holds them exactly.
_LARGEST_INPUT = 2**20
_LARGEST_DEVIATION = 2**16
# How far dividing by the levels, in single precision or via its reciprocal, may move an input.
_INPUT_ERROR = 2.0**-22


@dataclass(frozen=True)
class DiscreteGaussian(Noise):
    r"""Gaussian noise rounded to the grid of the inputs, which certifies in :math:`\ell_2`.

    Inputs are multiples of 1 / `levels`, and so is the noise: :math:`k / L` with probability
    :math:`\Phi(\frac{2k + 1}{2 L \sigma}) - \Phi(\frac{2k - 1}{2 L \sigma})` for each whole
    :math:`k`. Draws are compared with integer thresholds and added as integers. Every bound for
    Gaussian noise then holds on the machine as it is proved, for all inputs on the grid: the radius
    says nothing about points between them. What is still assumed is that the generator's words are
    independent fair bits and that the base is a fixed function.

    Parameters
    ----------
    scale : float or None, default=None
        Standard deviation :math:`\sigma` before rounding, in the units of the inputs. At most
        :math:`2^{16}` steps of the grid. None leaves it to the `sigma` of the classifier.

    levels : int, default=255
        Steps of the grid from 0 to 1: 255 for images of eight bits that were divided by 255.

    Notes
    -----
    An input on the grid and Gaussian noise :math:`n` fulfil
    :math:`x + \mathrm{round}(n) = \mathrm{round}(x + n)`. Rounding is therefore a part of the base
    classifier, to which the theorem of Cohen et al. [1]_ applies. In ordinary floating-point
    arithmetic it does not, and false certificates can be made [2]_. A draw reads 64 bits, and 256
    where these do not decide it; where even those do not, which happens with probability below
    :math:`2^{-128}`, it ends with a RuntimeError.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via
       randomized smoothing", ICML 2019, Theorem 1.
    .. [2] V. Voráček and M. Hein, "Sound randomized smoothing in floating-point arithmetic",
       ICLR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.noise import DiscreteGaussian
    >>> noise = DiscreteGaussian(0.25, levels=255)
    >>> draws = noise.draw(1000, (3, 8, 8), np.random.default_rng(0))
    >>> bool((draws == draws.round()).all()), (draws.std() / 255).round(2)
    (True, np.float32(0.25))
    """

    scale: float = FROM_SIGMA
    levels: int = 255

    name: ClassVar[str] = "discrete_gaussian"
    norm: ClassVar[str] = "l2"
    additive: ClassVar[bool] = False
    family: ClassVar[str | None] = "gaussian"
    takes_sigma: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = self.levels
        whole = isinstance(levels, (int, np.integer)) and not isinstance(levels, bool)
        if not (whole and 1 <= levels <= _LARGEST_INPUT):
            raise ValueError(f"levels must be an integer from 1 to 2**20, got {levels!r}.")
        object.__setattr__(self, "levels", int(levels))
        if self.scale is not FROM_SIGMA and self.scale * self.levels > _LARGEST_DEVIATION:
            raise ValueError(
                f"sigma must be at most 2**16 / levels = {_LARGEST_DEVIATION / self.levels:g}, got "
                f"{self.scale!r}. Choose a coarser grid."
            )

    # -- how it is drawn ---------------------------------------------------------------------------

    @property
    def draw_factor(self) -> float:
        """One: draws are in steps of the grid already, since those are added exactly."""
        return 1.0

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with whole numbers of steps.

        Parameters
        ----------
        out : ndarray of float32 or float64
            Contiguous array to overwrite, of shape (n_draws, ...).

        generator : numpy.random.Generator
            Source of the draws.

        Raises
        ------
        ValueError
            If `out` is not contiguous.

        RuntimeError
            If 256 bits do not decide a draw; of probability below :math:`2^{-128}`.
        """

        def words(number: int) -> NDArray[np.uint64]:
            return generator.integers(2**64 - 1, size=number, dtype=np.uint64, endpoint=True)

        if not out.flags.c_contiguous:
            raise ValueError(f"out must be contiguous, got strides {out.strides!r}.")
        rounded_normal(self.scale, self.levels).fill(out.reshape(-1), words)

    # -- how it meets an input ---------------------------------------------------------------------

    def check_inputs(self, X: NDArray[np.floating]) -> None:
        """Refuse inputs that are not on the grid.

        Parameters
        ----------
        X : ndarray of shape (n_inputs, ...)
            The inputs. They may be off by the rounding of single precision.

        Raises
        ------
        ValueError
            If an input is off the grid, or :math:`2^{20}` steps or more from 0.
        """
        steps = np.multiply(X, self.levels, dtype=np.float64)
        far = np.abs(steps) >= _LARGEST_INPUT
        if far.any():
            raise ValueError(
                f"X must lie within 2**20 / levels = {_LARGEST_INPUT / self.levels:g} of 0 for "
                f"{self.name} noise, got {X[far].item(0)!r}. Set fewer levels, or rescale X."
            )
        nearest = np.rint(steps)
        allowed = _INPUT_ERROR * np.maximum(np.abs(nearest), 1.0)
        off = ~(np.abs(steps - nearest) <= allowed)
        if off.any():
            value, near = X[off].item(0), nearest[off].item(0) / self.levels
            raise ValueError(
                f"X must hold multiples of 1/{self.levels} for {self.name} noise, got {value!r}; "
                f"the nearest is {near!r}. Quantise X first, np.rint(X * {self.levels}) / "
                f"{self.levels}, or set levels= to those of X."
            )

    def corrupt(self, x: Tensor, draws: Tensor, out: Tensor) -> None:
        """Write the grid points that inputs and noise add up to, each as the nearest number.

        Parameters
        ----------
        x : Tensor of shape (n_inputs, 1, ...)
            Inputs on the grid, of single or double precision.

        draws : Tensor of shape (n_inputs or 1, n_draws, ...)
            Whole numbers of steps, of the same type.

        out : Tensor of shape (n_inputs, n_draws, ...)
            Where to write, of the same type.
        """
        # All of these are integers below 2**24, for which floating-point sums are integer sums.
        # What is written is then one division, a function of the sum alone. The divisor is a
        # tensor, since some devices multiply by the reciprocal of a plain number instead.
        torch.add((x * self.levels).round_(), draws, out=out)
        out.div_(x.new_full((), self.levels))

    # -- what it certifies, and how far it moves -------------------------------------------------

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        r"""Return how improbable an event can become on the grid within `radius`: as for Gaussian.

        Parameters
        ----------
        p_lower : array-like of float
            Lower bound on its probability under noise around the input.

        radius : array-like of float
            Length of the move from one input on the grid to another, in :math:`\ell_2`.

        Returns
        -------
        ndarray of float64
            Lower bound on its probability after any such move, rounded down.
        """
        return Gaussian(self.scale).probability_lower(p_lower, radius)

    def largest_divergence(self, attack: float, *, order: float) -> float:
        """Return `gaussian_divergence`, rounded up."""
        return float(gaussian_divergence(attack, sigma=self.scale, order=order))

    def total_variation(self, attack: float) -> float:
        """Return `gaussian_total_variation`, rounded up."""
        return float(gaussian_total_variation(attack, sigma=self.scale))

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        r"""Return that of Gaussian noise, an upper bound: rounding cannot increase a divergence.

        Parameters
        ----------
        shift : array-like of float
            Shift of every coordinate, a multiple of 1 / `levels`.

        order : float
            Order of the divergence, at least 1.

        Returns
        -------
        float
            :math:`\alpha \|\delta\|_2^2 / (2 \sigma^2)`, in nats.
        """
        return Gaussian(self.scale).renyi_divergence(shift, order=order)
