"""Smoothing noise: what is added to the inputs, and the norm in which it certifies.

Draws come in numbered blocks. A block's generator is the counter-based Philox: its key holds the
noise seed, its counter the stream and the block. Under one seed, no two blocks therefore use the
same counter, by construction; another seed is another permutation of all counters. A block is the
same whatever the batch size, the order of the inputs or the number of jobs.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "NOISES",
    "Gaussian",
    "Laplace",
    "Noise",
    "Stream",
    "Uniform",
    "block_generator",
    "draws_per_block",
    "noise_from_name",
    "row_key",
]


class Stream(IntEnum):
    """What the draws of a stream are for. Streams share no draw."""

    SELECTION = 0
    ESTIMATION = 1
    TRAINING = 2
    PILOT = 3


def block_generator(
    noise_seed: int, stream: Stream, block: int, *, row: bytes = b""
) -> np.random.Generator:
    """Return the generator of one block of draws.

    `noise_seed` and `row` are the key of a Philox generator, `stream` and `block` the high words of
    its counter: a block would have to hold 2**128 numbers to reach the next one, and another key
    is another permutation of all counters.

    Parameters
    ----------
    noise_seed : int
        Seed of the whole noise bank, from 0 to 2**63 - 1.

    stream : Stream
        What the draws are for.

    block : int
        Number of the block within the stream.

    row : bytes, default=b""
        Key of the input (see `row_key`) whose own noise this is; empty for noise shared by all
        inputs.

    Returns
    -------
    numpy.random.Generator
        The generator, at the start of the block.
    """
    words = np.frombuffer(row or bytes(8), dtype=np.uint64)
    key = np.array([noise_seed, words[0]], dtype=np.uint64)
    counter = np.array([0, 0, block, int(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def row_key(row: NDArray[np.floating]) -> bytes:
    """Return the 8 bytes that stand for an input where every input has noise of its own.

    Equal inputs have equal keys, whatever their place in the batch. Different inputs have different
    keys but for a chance of 2**-64 a pair, and even then each input's own draws are independent.

    Parameters
    ----------
    row : ndarray
        One input.

    Returns
    -------
    bytes
        Its key, never that of the shared noise.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=8).digest()
    return digest if any(digest) else bytes(7) + b"\x01"


def draws_per_block(n_values: int) -> int:
    """Return how many draws a block holds, for inputs of `n_values` numbers each.

    A block is about four megabytes of single precision, at most 1024 draws and at least one. The
    number depends on the input's size alone, so that nothing else can change the noise.

    Parameters
    ----------
    n_values : int
        Numbers in one input.

    Returns
    -------
    int
        Draws in a block.
    """
    return min(1024, max(1, 2**20 // n_values))


@dataclass(frozen=True)
class Noise(ABC):
    """Independent, identically distributed noise on every coordinate of the input.

    Subclasses name the distribution, its `scale`, and the norm in which it certifies.

    Parameters
    ----------
    scale : float
        Scale of the distribution in the units of the input.
    """

    scale: float

    name: ClassVar[str]
    norm: ClassVar[str]

    def __post_init__(self) -> None:
        if not (isinstance(self.scale, (int, float, np.number)) and 0 < self.scale < math.inf):
            raise ValueError(f"sigma must be positive and finite, got {self.scale!r}.")
        object.__setattr__(self, "scale", float(self.scale))

    @abstractmethod
    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with draws at scale 1.

        Parameters
        ----------
        out : ndarray of float32 or float64
            Contiguous array to overwrite.

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

    @abstractmethod
    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        """Return the Rényi divergence between the noise and the noise shifted by `shift`.

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

    def draw(
        self,
        n_draws: int,
        shape: tuple[int, ...],
        generator: np.random.Generator,
        *,
        dtype: DTypeLike = np.float32,
    ) -> NDArray[np.floating]:
        """Return independent noise for inputs of a shape.

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
        ndarray of shape (n_draws, *shape)
            The noise.

        Examples
        --------
        >>> import numpy as np
        >>> from randsmooth.noise import Gaussian
        >>> Gaussian(0.25).draw(1000, (3, 8, 8), np.random.default_rng(0)).std().round(2)
        np.float32(0.25)
        """
        noise: NDArray[np.floating] = np.empty((n_draws, *shape), dtype=dtype)
        self.fill_standard(noise, generator)
        noise *= noise.dtype.type(self.scale)
        return noise


@dataclass(frozen=True)
class Gaussian(Noise):
    r"""Gaussian noise, which certifies in :math:`\ell_2`.

    Parameters
    ----------
    scale : float
        Standard deviation :math:`\sigma` of every coordinate.

    Examples
    --------
    >>> from randsmooth.noise import Gaussian
    >>> Gaussian(0.5).renyi_divergence([0.6, 0.8], order=2)
    4.0
    """

    name: ClassVar[str] = "gaussian"
    norm: ClassVar[str] = "l2"

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with standard normal draws."""
        generator.standard_normal(out=out, dtype=out.dtype.type)

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with standard normal draws."""
        out.normal_(generator=generator)
        return True

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        r"""Return :math:`\alpha \|\delta\|_2^2 / (2 \sigma^2)` (van Erven and Harremoës, 2014)."""
        _check_order(order)
        delta = np.asarray(shift, dtype=float) / self.scale
        squared = float(np.sum(delta**2))
        return order * squared / 2 if squared else 0.0


@dataclass(frozen=True)
class Laplace(Noise):
    r"""Laplace noise, which certifies in :math:`\ell_1`.

    Parameters
    ----------
    scale : float
        Scale :math:`\lambda` of every coordinate; its standard deviation is
        :math:`\lambda \sqrt{2}`.

    Examples
    --------
    >>> import math
    >>> from randsmooth.noise import Laplace
    >>> Laplace(2.0).renyi_divergence([1.0, 3.0], order=math.inf)
    2.0
    """

    name: ClassVar[str] = "laplace"
    norm: ClassVar[str] = "l1"

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with standard Laplace draws, differences of two exponential ones."""
        pairs = np.empty((*out.shape, 2), dtype=out.dtype)
        generator.standard_exponential(out=pairs, dtype=out.dtype.type)
        np.subtract(pairs[..., 0], pairs[..., 1], out=out)

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with standard Laplace draws, differences of two exponential ones."""
        out.exponential_(generator=generator)
        out -= out.new_empty(out.shape).exponential_(generator=generator)
        return True

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        r"""Return the sum over coordinates of the closed form of Li et al. (2019), Theorem 3.

        With :math:`t = |\delta_i| / \lambda`, each coordinate contributes

        .. math::

            \frac{1}{\alpha - 1} \ln\left(\frac{\alpha}{2\alpha - 1} e^{(\alpha - 1) t}
            + \frac{\alpha - 1}{2\alpha - 1} e^{-\alpha t}\right).
        """
        _check_order(order)
        t = np.abs(np.asarray(shift, dtype=float)) / self.scale
        if order == 1:
            return float(np.sum(t + np.expm1(-t)))
        if order == math.inf:
            return float(np.sum(t))
        far = math.log(order / (2 * order - 1)) + (order - 1) * t
        near = math.log((order - 1) / (2 * order - 1)) - order * t
        return float(np.sum(np.logaddexp(far, near)) / (order - 1))


@dataclass(frozen=True)
class Uniform(Noise):
    r"""Uniform noise on a cube, which certifies in :math:`\ell_1`.

    Parameters
    ----------
    scale : float
        Half-width :math:`\lambda`: every coordinate lies in :math:`[-\lambda, \lambda)`.

    Examples
    --------
    >>> from randsmooth.noise import Uniform
    >>> Uniform(1.0).renyi_divergence([0.5], order=2)
    inf
    """

    name: ClassVar[str] = "uniform"
    norm: ClassVar[str] = "l1"

    def fill_standard(self, out: NDArray[np.floating], generator: np.random.Generator) -> None:
        """Fill `out` with draws from [-1, 1)."""
        generator.random(out=out, dtype=out.dtype.type)
        out *= 2
        out -= 1

    def fill_standard_on_device(self, out: Any, generator: Any) -> bool:
        """Fill `out` with draws from [-1, 1)."""
        out.uniform_(-1, 1, generator=generator)
        return True

    def renyi_divergence(self, shift: ArrayLike, *, order: float) -> float:
        """Return 0 for no shift and infinity for any other: the supports differ."""
        _check_order(order)
        return math.inf if np.any(np.asarray(shift, dtype=float)) else 0.0


NOISES: Mapping[str, type[Noise]] = MappingProxyType(
    {kind.name: kind for kind in (Gaussian, Laplace, Uniform)}
)


def noise_from_name(noise: str | Noise, sigma: float | None = None) -> Noise:
    """Return a noise from its name and scale, or the noise itself.

    Parameters
    ----------
    noise : {"gaussian", "laplace", "uniform"} or Noise
        A name, or a ready noise, whose own scale then counts.

    sigma : float or None, default=None
        Scale for a name.

    Returns
    -------
    Noise
        The noise.

    Raises
    ------
    ValueError
        If the name is unknown or the scale is not positive and finite.

    TypeError
        If `noise` is neither a name nor a noise.

    Examples
    --------
    >>> from randsmooth.noise import noise_from_name
    >>> noise_from_name("laplace", 0.5)
    Laplace(scale=0.5)
    """
    if isinstance(noise, Noise):
        return noise
    if not isinstance(noise, str):
        raise TypeError(f"noise must be a name or a randsmooth.noise.Noise, got {noise!r}.")
    if noise not in NOISES:
        names = ", ".join(map(repr, NOISES))
        raise ValueError(f"noise must be one of {names} or a Noise object, got {noise!r}.")
    if sigma is None:
        raise ValueError(f"sigma must be given where noise is a name, got None for {noise!r}.")
    return NOISES[noise](sigma)


def _check_order(order: float) -> None:
    if not order >= 1:
        raise ValueError(f"order must be at least 1, got {order!r}.")
