"""The affine start of a network, found by tracing it, so that noise passes it once for all inputs.

An affine map :math:`A` satisfies :math:`A(x + z) = A(x) + A(z) - A(0)`: a network's first layers,
up to the first one that is not affine, can be applied to the inputs once and to the noise once. For
Gaussian noise and a dense layer, :math:`A(z) - A(0)` is itself Gaussian and can be drawn directly.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import module as torch_module

from randsmooth.acceleration import equal_up_to_rounding, evaluation_copy, first_output
from randsmooth.affine_chain import affine_start

__all__ = ["AffineHead", "affine_head", "gaussian_root"]

# Of a convolution's output for one row.
_CACHED_VALUES = 2**14
# A gigabyte in double precision.
_MATRIX_VALUES = 2**27


@dataclass(frozen=True)
class AffineHead:
    r"""A module in two parts: an affine map of each row, and the rest.

    ``tail(head(rows))`` is the module in evaluation mode, up to rounding. Both parts share the
    module's parameters and buffers as they were, and copy nothing else of it but its structure:
    weights changed in place are seen, modules exchanged or training flags set later are not.

    Parameters
    ----------
    head : torch.fx.GraphModule
        The affine part, from rows of inputs to rows of hidden values.

    tail : torch.fx.GraphModule
        The rest, from hidden rows to outputs. It may overwrite its argument.

    offset : Tensor of shape (1, ...)
        Hidden values of the zero input.

    shape : tuple of int
        Shape of one input.

    Notes
    -----
    Of :math:`A(x + z) = A(x) + A(z) - A(0)` the cheapest form is ``linear(x) + head(z)``: the
    offset is subtracted from the fewer rows. Sums must keep the memory format of their terms, and
    a network that changes its format must do so before it is split: otherwise the tail may be
    slower than the whole.
    """

    head: fx.GraphModule
    tail: fx.GraphModule
    offset: Tensor
    shape: tuple[int, ...]

    def linear(self, rows: Tensor) -> Tensor:
        """Return what adding `rows` to an input adds to its hidden values.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noise, or inputs.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            Hidden values less those of the zero input.
        """
        hidden: Tensor = self.head(rows)
        return hidden - self.offset

    @property
    def pays_apart(self) -> bool:
        """Whether to apply the head to inputs and shared noise apart: the sum must be cheap.

        It is behind a dense layer. Behind a convolution it is on a CPU, where hidden rows are small
        enough to stay in its cache.
        """
        on_cpu = self.offset.device.type == "cpu"
        return self._is_dense or (on_cpu and self.offset.numel() <= _CACHED_VALUES)

    @property
    def pays_in_law(self) -> bool:
        """Whether to draw Gaussian noise behind the head: there must be fewer numbers to draw."""
        n_values, width = torch.Size(self.shape).numel(), self.offset.numel()
        return self._is_dense and width < n_values and n_values * width <= _MATRIX_VALUES

    @property
    def _is_dense(self) -> bool:
        return self.offset.ndim == 2

    @cached_property
    def matrix(self) -> Tensor | None:
        """The linear part as a matrix of shape (n_values, width), in double precision.

        ``linear(rows)`` is ``rows.flatten(1) @ matrix``. None unless hidden values are flat rows.
        """
        if not self._is_dense:
            return None
        with torch.inference_mode(False), torch.enable_grad():
            head = copy.deepcopy(self.head).double()
            columns = torch.arange(self.offset.shape[1], device=self.offset.device)
            at_once = max(1, 2**22 // torch.Size(self.shape).numel())
            return torch.cat(
                [self._columns(head, part) for part in torch.split(columns, at_once)]
            ).T

    def _columns(self, head: fx.GraphModule, columns: Tensor) -> Tensor:
        """Return the gradients of some hidden values."""
        size = (len(columns), *self.shape)
        rows = torch.zeros(size, dtype=torch.float64, device=columns.device, requires_grad=True)
        picked = head(rows).gather(1, columns[:, None]).sum()
        return torch.autograd.grad(picked, rows)[0].flatten(1)


def gaussian_root(matrix: Tensor) -> Tensor:
    r"""Return the smallest matrix that maps Gaussian noise to a law given by a larger one.

    For a matrix :math:`M` the result :math:`R` satisfies :math:`R^T R = M^T M`. With standard
    normal :math:`u` and :math:`z`, both :math:`u R` and :math:`z M` are centred Gaussian vectors
    with this covariance, so their laws are the same.

    Parameters
    ----------
    matrix : Tensor of float64, shape (n_values, width)
        The larger matrix.

    Returns
    -------
    Tensor of float64, shape (min(n_values, width), width)
        The root, upper triangular, from the QR decomposition. It exists whatever the rank.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.affine_head import gaussian_root
    >>> gaussian_root(torch.tensor([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]])).abs()
    tensor([[5., 0.],
            [0., 2.]])
    """
    # Rows may have either sign: the law does not depend on it.
    root: Tensor = torch.linalg.qr(matrix, mode="r").R
    return root


def affine_head(module: nn.Module, sample: Tensor) -> AffineHead | None:
    """Return the affine start of a module and its rest, or None where that cannot be told.

    The module is traced symbolically. From the input on, each value must have one use but for
    queries of its shape: reshaping, dropout, arithmetic with constants, batch normalisation, linear
    and convolutional layers, all in evaluation mode, belong to the head up to the first other
    operation. What cannot be traced, has hooks or does not use a linear layer first has no head,
    nor has a module of reduced precision. A found head is checked against the module on noisy
    copies of the sample; the module itself is not changed.

    Parameters
    ----------
    module : torch.nn.Module
        A trained module.

    sample : Tensor of shape (1, ...)
        One input, of the module's type and on its device.

    Returns
    -------
    AffineHead or None
        The two parts.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from randsmooth.affine_head import affine_head
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> split = affine_head(net, torch.zeros(1, 2, 3))
    >>> split.matrix.shape
    torch.Size([6, 4])
    >>> affine_head(nn.Sequential(nn.Tanh(), net), torch.zeros(1, 2, 3)) is None
    True
    """
    if sample.dtype not in (torch.float32, torch.float64) or _has_hooks(module):
        return None
    try:
        with torch.no_grad():
            structure = evaluation_copy(module)
            split = _split(structure, sample)
            return split if split is not None and _agrees(split, structure, sample) else None
    except Exception:
        # Whatever a user's code raises under tracing: the module then runs as it is.
        return None


def _has_hooks(module: nn.Module) -> bool:
    """Say whether something else than the modules' own `forward` runs when they are called."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return True
    return any(
        part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part)
        for part in module.modules()
    )


def _split(module: nn.Module, sample: Tensor) -> AffineHead | None:
    """Return the two parts of a module in evaluation mode."""
    parts = affine_start(module, sample)
    if parts is None:
        return None
    head, tail = parts
    offset = head(torch.zeros_like(sample[:1]))
    return AffineHead(head, tail, offset, tuple(sample.shape[1:]))


def _agrees(split: AffineHead, module: nn.Module, sample: Tensor) -> bool:
    """Say whether the two parts are the module, and the first one is affine, up to rounding."""
    generator = torch.Generator().manual_seed(0)

    def noise(n_rows: int) -> Tensor:
        drawn = torch.randn(n_rows, *sample.shape[1:], generator=generator, dtype=sample.dtype)
        return drawn.to(sample.device)

    for scale, n_rows in ((0.1, 2), (1.0, 5), (30.0, 3)):
        x, z = sample[:1] + scale * noise(n_rows), scale * noise(n_rows)
        hidden = split.linear(x) + split.head(z)
        if not (
            equal_up_to_rounding(split.head(x + z), hidden)
            and equal_up_to_rounding(split.head(x[1:]), split.head(x)[1:])
            and equal_up_to_rounding(first_output(module(x + z)), split.tail(hidden))
        ):
            return False
    return True
