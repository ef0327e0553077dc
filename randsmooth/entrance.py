r"""How inputs and noise reach the base: added as they are, or behind its first layer.

Where the base begins with an affine map, :math:`W(x + z) + b = (Wx + b) + Wz`: the inputs and the
noise can pass it apart, each once, and meet behind it. Gaussian noise in front of a dense layer
need not even be drawn there: :math:`Wz` is normal with covariance :math:`\sigma^2 W W^T`, and can
be drawn directly from that law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from randsmooth.acceleration import channels_last_copy, filled_up
from randsmooth.affine_head import AffineHead, affine_head, gaussian_root
from randsmooth.bases import Base, NetBase
from randsmooth.noise import Gaussian, Noise
from randsmooth.speed import Speed, quickened

__all__ = ["Entrance", "entrance"]


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

    meet : callable (Tensor, Tensor, Tensor) -> object
        Writes what inputs and draws make together into the third: their sum, as a rule.

    noise_shape : tuple of int
        Shape of one draw.

    row_shape : tuple of int
        Shape of one row where they meet.

    execution : mapping of str to str, bool or None
        How votes are computed, for the record of a run.

    rebuild : callable () -> Entrance or None, default=None
        Makes the entrance anew in another process.
    """

    base: Base
    inputs: Callable[[Tensor], Tensor]
    noise: Callable[[Tensor], Tensor]
    meet: Callable[[Tensor, Tensor, Tensor], object]
    noise_shape: tuple[int, ...]
    row_shape: tuple[int, ...]
    execution: Mapping[str, Any] = field(default_factory=dict)
    rebuild: Callable[[], Entrance] | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return super().__reduce_ex__(protocol) if self.rebuild is None else (self.rebuild, ())


def entrance(
    base: Base,
    shape: tuple[int, ...],
    noise: Noise,
    *,
    common_noise: bool,
    speed: Speed,
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

    speed : Speed
        How a network may be run otherwise than as it is.

    Returns
    -------
    Entrance
        The entrance.

    Warns
    -----
    NotCompiledWarning
        If compilation was asked for and is not possible.
    """
    execution: dict[str, Any] = {"device": base.device.type}
    rebuild = partial(entrance, base, shape, noise, common_noise=common_noise, speed=speed)
    drawn_shape = noise.draw_shape(shape)
    whole = Entrance(
        base, _as_it_is, _as_it_is, noise.corrupt, drawn_shape, shape, execution, rebuild
    )
    if not isinstance(base, NetBase):
        return whole
    row = torch.zeros((1, *shape), dtype=base.dtype, device=base.device)
    module, head, layout = base.module, None, None
    if module is not None and speed.shortcuts:
        if (copied := channels_last_copy(module, row)) is not None:
            module, layout = copied, "channels last"
        # Reduced precision is that of the whole network, and only sums can pass a layer apart.
        apart = speed.autocast is None and noise.additive
        head = affine_head(module, row) if apart else None
    meeting = _meeting(head, base, noise, common_noise=common_noise)
    if head is not None and meeting is not None:
        with torch.inference_mode():
            module, row = head.tail, head.head(row)
    behind, facts = quickened(base, module, row, speed)
    execution |= {"shortcut": meeting[0] if meeting else None, "layout": layout, **facts}
    behind_it = replace(whole, base=behind, execution=execution)
    if meeting is None:
        return behind_it
    # Noise that is added meets the inputs behind the layer as it does before it.
    _, inputs, drawn, noise_shape = meeting
    row_shape = tuple(row.shape[1:])
    return replace(
        behind_it, inputs=inputs, noise=drawn, noise_shape=noise_shape, row_shape=row_shape
    )


Meeting = tuple[str, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], tuple[int, ...]]


def _meeting(
    head: AffineHead | None, base: NetBase, noise: Noise, *, common_noise: bool
) -> Meeting | None:
    """Return the name of the shortcut, what inputs and noise pass, and the shape of the noise."""
    if head is None:
        return None
    matrix = head.matrix if type(noise) is Gaussian and head.pays_in_law else None
    if matrix is not None:
        root = gaussian_root(matrix).to(device=base.device, dtype=base.dtype)

        def noise_behind(draws: Tensor) -> Tensor:
            return draws @ root

        whole, drawn = _in_full_rows(head.head), _in_full_rows(noise_behind)
        return "law of the first layer", whole, drawn, (len(root),)
    if common_noise and head.pays_apart:
        # Of the two sums, the offset belongs to the one with fewer rows.
        linear, affine = _in_full_rows(head.linear), _in_full_rows(head.head)
        return "first layer apart", linear, affine, head.shape
    return None


def _as_it_is(rows: Tensor) -> Tensor:
    return rows


def _in_full_rows(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function on batches whose rows are filled up to a multiple of the base's.

    Matrix kernels treat odd sizes differently in the last bit.
    """

    def padded(rows: Tensor) -> Tensor:
        return function(filled_up(rows, NetBase.row_multiple))[: len(rows)]

    return padded
