"""What a smoothing noise is: how it is drawn, how it meets an input, and what it certifies."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from randsmooth.bounds import BOUNDS

__all__ = ["FROM_SIGMA", "Noise", "check_order"]

FROM_SIGMA: Any = None
"""Stands for a scale that is left to the `sigma` of the classifier."""


@dataclass(frozen=True)
class Noise(ABC):
    """Noise on the input of a classifier, and the norm in which it certifies.

    As a rule it is independent, identically distributed and added to every coordinate. A subclass
    names the distribution and draws it at scale 1. One that is not added says so with `additive`
    and overrides `corrupt`; one whose radius is not among `randsmooth.bounds.BOUNDS` overrides
    `certified_radius`, and `probability_lower` where confidence is to be certified too.

    Parameters
    ----------
    scale : float
        Scale of the distribution in the units of the input.
    """

    scale: float

    name: ClassVar[str]
    norm: ClassVar[str]

    additive: ClassVar[bool] = True
    """Whether a noisy input is the sum of the input and a draw."""

    family: ClassVar[str | None] = None
    """Name of the noise whose bounds hold for this one too; None for its own."""

    takes_sigma: ClassVar[bool] = False
    """Whether the scale may be left to the `sigma` of the classifier."""

    def __post_init__(self) -> None:
        if self.takes_sigma and self.scale is FROM_SIGMA:
            return
        if not (isinstance(self.scale, (int, float, np.number)) and 0 < self.scale < math.inf):
            raise ValueError(f"sigma must be positive and finite, got {self.scale!r}.")
        object.__setattr__(self, "scale", float(self.scale))

    def for_inputs(self, shape: tuple[int, ...]) -> Self:
        """Return the noise for inputs of a shape.

        Parameters
        ----------
        shape : tuple of int
            Shape of one input.

        Returns
        -------
        Noise
            The noise itself, unless its bounds depend on the shape.

        Raises
        ------
        ValueError
            If it is not for inputs of this shape.
        """
        return self

    # -- how it is drawn ---------------------------------------------------------------------------

    @abstractmethod
    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with draws at scale 1.

        Parameters
        ----------
        out : ndarray of float32 or float64
            Contiguous array to overwrite, of shape (n_draws, ...).

        generator : numpy.random.Generator
            Source of the draws.
        """

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill a tensor on an accelerator with draws at scale 1, where the noise knows how.

        Parameters
        ----------
        out : torch.Tensor of a floating-point type
            Contiguous tensor to overwrite.

        generator : torch.Generator
            Source of the draws, on the tensor's device.

        Returns
        -------
        bool
            Whether `out` was filled. Otherwise the draws are made on the host and copied.
        """
        return False

    @property
    def draw_factor(self) -> float:
        """What draws at scale 1 are multiplied by."""
        return self.scale

    def draw_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one draw.

        Parameters
        ----------
        shape : tuple of int
            Shape of one input.

        Returns
        -------
        tuple of int
            The same, unless overridden.
        """
        return shape

    def draw(
        self,
        n_draws: int,
        shape: tuple[int, ...],
        generator: np.random.Generator,
        *,
        dtype: DTypeLike = np.float32,
    ) -> NDArray[np.floating]:
        """Return independent draws for inputs of a shape.

        Parameters
        ----------
        n_draws : int
            Number of draws.

        shape : tuple of int
            Shape of one input.

        generator : numpy.random.Generator
            Source of the draws.

        dtype : dtype, default=float32
            Type of the result, float32 or float64.

        Returns
        -------
        ndarray of shape (n_draws, ...)
            The draws.

        Raises
        ------
        ValueError
            If the scale is left to a classifier.

        Examples
        --------
        >>> import numpy as np
        >>> from randsmooth.noise import Gaussian
        >>> Gaussian(0.25).draw(1000, (3, 8, 8), np.random.default_rng(0)).std().round(2)
        np.float32(0.25)
        """
        if self.scale is FROM_SIGMA:
            raise ValueError(f"scale must be given to draw {self.name} noise by hand, got None.")
        noise: NDArray[np.floating] = np.empty((n_draws, *self.draw_shape(shape)), dtype=dtype)
        self.fill_standard(noise, generator)
        noise *= noise.dtype.type(self.draw_factor)
        return noise

    # -- how it meets an input ---------------------------------------------------------------------

    def check_inputs(self, X: NDArray[np.floating]) -> None:  # noqa: B027 (most accept any)
        """Refuse inputs for which nothing is proved; any are accepted unless overridden.

        Parameters
        ----------
        X : ndarray of shape (n_inputs, ...)
            The inputs.

        Raises
        ------
        ValueError
            If the noise is for other inputs.
        """

    def corrupt(self, x: Tensor, draws: Tensor, out: Tensor) -> None:
        """Write noisy inputs: the sums of inputs and draws, unless overridden.

        Parameters
        ----------
        x : Tensor of shape (n_inputs, 1, ...)
            Inputs.

        draws : Tensor of shape (n_inputs or 1, n_draws, ...)
            Draws, times `draw_factor`.

        out : Tensor of shape (n_inputs, n_draws, ...)
            Where to write.
        """
        torch.add(x, draws, out=out)

    def corrupted(self, x: Tensor, draws: Tensor) -> Tensor:
        """Return one noisy copy of each input.

        Parameters
        ----------
        x : Tensor of shape (n_inputs, ...)
            Inputs.

        draws : Tensor of shape (n_inputs, ...)
            A draw for each.

        Returns
        -------
        Tensor of shape (n_inputs, ...)
            The copies, as a differentiable function of `x` where the noise is added.
        """
        if self.additive:
            return x + draws
        out = torch.empty_like(x)
        self.corrupt(x[:, None], draws[:, None], out[:, None])
        return out

    # -- what it certifies -------------------------------------------------------------------------

    @property
    def has_radius(self) -> bool:
        """Whether `certified_radius` is known."""
        overridden = type(self).certified_radius is not Noise.certified_radius
        return overridden or (self.family or self.name) in BOUNDS["neyman_pearson"].radii

    def certified_radius(
        self, p_lower: ArrayLike, p_upper: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return the largest radius that two class probabilities certify, in the norm `norm`.

        Parameters
        ----------
        p_lower : array-like of float
            Lower bound on the probability of the top class.

        p_upper : array-like of float or None, default=None
            Upper bound on that of every other class; None is 1 - `p_lower`.

        Returns
        -------
        ndarray of float64
            Radii, rounded down; 0 where `p_lower` <= `p_upper`.

        Raises
        ------
        NotImplementedError
            If no bound is known for this noise.
        """
        if not self.has_radius:
            raise NotImplementedError(f"no bound is known for {self.name} noise.")
        radius = BOUNDS["neyman_pearson"].radii[self.family or self.name]
        return radius(p_lower, p_upper, self.scale)

    def probability_lower(self, p_lower: ArrayLike, radius: ArrayLike) -> NDArray[np.float64]:
        """Return how improbable an event can become when the input moves by up to `radius`.

        Parameters
        ----------
        p_lower : array-like of float
            Lower bound on its probability under noise around the input.

        radius : array-like of float
            Length of the move in the norm `norm`.

        Returns
        -------
        ndarray of float64
            Lower bound on its probability after any such move, rounded down. It is convex and
            does not fall in `p_lower`, and does not rise in `radius`.

        Raises
        ------
        NotImplementedError
            If none is known for this noise.
        """
        raise NotImplementedError(f"no bound on shifted probabilities is known for {self.name}.")

    def as_counted(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return radii as their norm counts: in l0 the whole units within, else as they are.

        Parameters
        ----------
        radius : ndarray of float64
            Radii up to which something holds, themselves included.

        Returns
        -------
        ndarray of float64
            The same, or rounded down.
        """
        return np.floor(radius) if self.norm == "l0" else radius

    # -- where all outcomes can be tried -----------------------------------------------------------

    @property
    def n_outcomes(self) -> int | None:
        """Number of equally likely outcomes, where there are few enough to try them all."""
        return None

    def fill_outcomes(self, out: NDArray[np.floating], start: int, stop: int) -> None:
        """Fill `out` with the outcomes of some numbers, where there is a finite number of them.

        Parameters
        ----------
        out : ndarray of float32 or float64, shape (stop - start, ...)
            Contiguous array to overwrite.

        start, stop : int
            The first of the numbers, and the end of them.

        Raises
        ------
        NotImplementedError
            If the outcomes cannot be numbered.
        """
        raise NotImplementedError(f"{self.name} noise has no list of outcomes.")

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
            Radii.

        Raises
        ------
        NotImplementedError
            If the outcomes cannot be numbered.
        """
        raise NotImplementedError(f"{self.name} noise has no list of outcomes.")

    # -- how far it moves --------------------------------------------------------------------------

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        """Return the Rényi divergence between the noise and the noise shifted by `shift`.

        Unless overridden it is infinite for any shift: the supports differ, or no form is known.

        Parameters
        ----------
        shift : array-like of float
            Shift of every coordinate, in the units of the input. Coordinates add up.

        order : float
            Order of the divergence, at least 1. Order 1 is the Kullback-Leibler divergence,
            `math.inf` the largest log-ratio of the densities.

        Returns
        -------
        float
            The divergence, in nats.
        """
        check_order(order)
        return math.inf if np.any(np.asarray(shift, dtype=float)) else 0.0

    def largest_divergence(self, attack: float, *, order: float) -> float | None:
        """Return the largest divergence between the noise and its copy moved by an attack.

        Parameters
        ----------
        attack : float
            Size of the attack in the norm `norm`.

        order : float
            Order of the Rényi divergence: 1 for that of Kullback and Leibler, `math.inf` for the
            largest log-ratio.

        Returns
        -------
        float or None
            The divergence, rounded up; None where it is not known.
        """
        return None

    def total_variation(self, attack: float) -> float | None:
        """Return the largest total variation distance between the noise and its moved copy.

        Parameters
        ----------
        attack : float
            Size of the attack in the norm `norm`.

        Returns
        -------
        float or None
            The distance, rounded up; None where it is not known.
        """
        return None

    @property
    def parameters(self) -> dict[str, Any]:
        """What the noise was made with, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}


def check_order(order: float) -> None:
    """Refuse an order of divergence below 1."""
    if not order >= 1:
        raise ValueError(f"order must be at least 1, got {order!r}.")
