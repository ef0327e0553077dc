r"""How inputs and noise reach the base: added as they are, or behind its first layer.

Where the base begins with an affine map, :math:`W(x + z) + b = (Wx + b) + Wz`: the inputs and the
noise can pass it apart, each once, and meet behind it. Gaussian noise in front of a dense layer
need not even be drawn there: :math:`Wz` is normal with covariance :math:`\sigma^2 W W^T`, and can
be drawn directly from that law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from randsmooth.affine_head import AffineHead, gaussian_root
from randsmooth.bases import Base, NetBase
from randsmooth.noise import Gaussian, Noise

__all__ = ["Entrance", "entrance"]


# Numbers in the largest matrix whose law is worked out, a second's work.
_LARGEST_MATRIX = 2**26


@dataclass(frozen=True)
class Entrance:
    """Where inputs and noise meet, and the base from there on.

    Parameters
    ----------
    base : Base
        Takes the sums.

    inputs : callable (Tensor) -> Tensor
        From inputs to where they meet the noise.

    noise : callable (Tensor) -> Tensor
        From draws to where they meet the inputs.

    noise_shape : tuple of int
        Shape of one draw.

    shortcut : str or None
        Name of the shortcut taken, for the record.

    rebuild : callable () -> Entrance or None, default=None
        Makes the entrance anew in another process.
    """

    base: Base
    inputs: Callable[[Tensor], Tensor]
    noise: Callable[[Tensor], Tensor]
    noise_shape: tuple[int, ...]
    shortcut: str | None = None
    rebuild: Callable[[], Entrance] | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return super().__reduce_ex__(protocol) if self.rebuild is None else (self.rebuild, ())

    @property
    def execution(self) -> dict[str, Any]:
        """How votes are computed, for the record of a run."""
        facts: dict[str, Any] = {"shortcut": self.shortcut, "device": self.base.device.type}
        return {**facts, **(self.base.arithmetic if isinstance(self.base, NetBase) else {})}

    def row_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a row where inputs and noise meet.

        Parameters
        ----------
        shape : tuple of int
            Shape of one input.

        Returns
        -------
        tuple of int
            Shape of one row.
        """
        with torch.inference_mode():
            row = torch.zeros((1, *shape), dtype=self.base.dtype, device=self.base.device)
            return tuple(self.inputs(row).shape[1:])

    def empty_rows(self, like: Tensor, n_rows: int) -> Tensor:
        """Return a buffer of rows, in the memory format of the inputs.

        Parameters
        ----------
        like : Tensor of shape (n_inputs, ...)
            The inputs, as `inputs` returned them.

        n_rows : int
            Number of rows.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            Zeros.
        """
        rows = like.new_zeros((n_rows, *like.shape[1:]))
        return rows.to(memory_format=_memory_format(self.base)) if rows.ndim == 4 else rows


def entrance(
    base: Base, shape: tuple[int, ...], noise: Noise, *, common_noise: bool, shortcuts: bool
) -> Entrance:
    """Return the cheapest entrance to a base.

    The choice depends on the base, the noise and the shape of the inputs alone, so that it cannot
    change the votes of one input with the number of others.

    Parameters
    ----------
    base : Base
        Who votes.

    shape : tuple of int
        Shape of one input.

    noise : Noise
        The smoothing noise.

    common_noise : bool
        Whether all inputs share it.

    shortcuts : bool
        Whether to look for a shortcut at all.

    Returns
    -------
    Entrance
        The entrance.
    """
    rebuild = partial(entrance, base, shape, noise, common_noise=common_noise, shortcuts=shortcuts)
    head = base.head if isinstance(base, NetBase) and shortcuts else None
    if isinstance(base, NetBase) and head is not None:
        behind = replace(base, forward=head.tail, head=None, channels_last=False, rebuild=None)
        matrix = head.matrix if _law_pays(head, noise) else None
        if matrix is not None:
            root = gaussian_root(matrix).to(device=base.device, dtype=base.dtype)
            return Entrance(
                behind,
                _in_full_rows(head.head),
                _in_full_rows(lambda draws: draws @ root),
                (len(root),),
                "law of the first layer",
                rebuild,
            )
        if common_noise and head.offset.ndim == 2:
            # Of the two sums, the offset belongs to the one with fewer rows.
            return Entrance(
                behind,
                _in_full_rows(head.linear),
                _in_full_rows(head.head),
                shape,
                "first layer apart",
                rebuild,
            )

    def as_it_is(rows: Tensor) -> Tensor:
        return rows.to(memory_format=_memory_format(base)) if rows.ndim == 4 else rows

    return Entrance(base, as_it_is, as_it_is, shape, None, rebuild)


def _law_pays(head: AffineHead, noise: Noise) -> bool:
    """Whether a dense layer's noise is cheaper to draw behind the layer than in front of it."""
    n_values, width = prod(head.shape), head.offset.numel()
    dense = head.offset.ndim == 2
    return type(noise) is Gaussian and dense and width < n_values <= _LARGEST_MATRIX // width


def _memory_format(base: Base) -> torch.memory_format:
    channels_last = isinstance(base, NetBase) and base.channels_last
    return torch.channels_last if channels_last else torch.contiguous_format


def _in_full_rows(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function on batches whose rows are filled up to a multiple of the base's.

    Matrix kernels treat odd sizes differently in the last bit.
    """

    def padded(rows: Tensor) -> Tensor:
        missing = -len(rows) % NetBase.row_multiple
        if not missing:
            return function(rows)
        filled = torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))])
        return function(filled)[: len(rows)]

    return padded
