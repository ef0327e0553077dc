"""Ways to make one network's forward pass cheaper: layout, kernels, compilation, precision.

All but the last compute the same function up to rounding, and all say None, or warn, where they do
not apply. What they choose depends on the network, the shape of its inputs and the machine, never
on the number of inputs.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from randsmooth.exceptions import NotCompiledWarning

__all__ = [
    "CompiledForward",
    "autocast_forward",
    "channels_last_copy",
    "equal_up_to_rounding",
    "evaluation_copy",
    "filled_up",
    "first_output",
    "onednn_copy",
]

_HALF = (torch.bfloat16, torch.float16)
# Fewer channels do not fill a vector register.
_FEWEST_CHANNELS = 16
# Below, sixteen by sixteen, turning the images costs more than is gained, but for pooling, which is
# several times faster on channels that lie together.
_FEWEST_PLACES = 256


def evaluation_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module in evaluation mode that shares its parameters and buffers.

    The module itself and its training flags are left alone, whoever uses it meanwhile.

    Parameters
    ----------
    module : torch.nn.Module
        The module.

    Returns
    -------
    torch.nn.Module
        The copy.

    Examples
    --------
    >>> from torch import nn
    >>> from randsmooth.acceleration import evaluation_copy
    >>> net = nn.Linear(3, 2)
    >>> copied = evaluation_copy(net)
    >>> net.training, copied.training, copied.weight is net.weight
    (True, False, True)
    """
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors}).eval()


def first_output(outputs: Any) -> Tensor:
    """Return a network's output, the first if it has several.

    Parameters
    ----------
    outputs : Tensor or tuple of Tensor
        What the network returned.

    Returns
    -------
    Tensor
        The output that counts.
    """
    first: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return first


def filled_up(rows: Tensor, multiple: int) -> Tensor:
    """Return rows with zeros behind them, so many that their number is a multiple.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, ...)
        The rows.

    multiple : int
        What their number shall be a multiple of.

    Returns
    -------
    Tensor of shape (n_filled, ...)
        The rows themselves where nothing is missing.
    """
    missing = -len(rows) % multiple
    return torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))]) if missing else rows


def equal_up_to_rounding(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors are finite and equal up to the rounding of their largest value.

    Parameters
    ----------
    first : Tensor
        What some network returned.

    second : Tensor
        What it returned when it computed in another order.

    Returns
    -------
    bool
        Whether no two values differ by more than 300 units in the last place of the largest.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.acceleration import equal_up_to_rounding
    >>> one = torch.ones(2)
    >>> equal_up_to_rounding(one, one + 1e-6), equal_up_to_rounding(one, one + 1e-3)
    (True, False)
    """
    if first.shape != second.shape or not first.isfinite().all():
        return False
    allowed = 300 * torch.finfo(first.dtype).eps * first.abs().max()
    return bool(((first - second).abs() <= allowed).all())


def channels_last_copy(module: nn.Module, sample: Tensor) -> nn.Module | None:
    """Return a copy of an image network that computes with the channels last, where that pays.

    It pays for two-dimensional convolutions to at least 16 channels whose windows overlap, of
    images that are not small unless they are pooled: in single precision on a CPU, in half
    precision on a GPU. The copy takes rows in either memory
    format equally well. Its outputs are those of the module up to rounding.

    Parameters
    ----------
    module : torch.nn.Module
        A trained module.

    sample : Tensor of shape (1, channels, height, width)
        One input, of the module's type and on its device.

    Returns
    -------
    torch.nn.Module or None
        The copy, in evaluation mode, with weights of its own; None where it would not pay or
        cannot be made.

    Examples
    --------
    >>> import torch
    >>> from randsmooth.acceleration import channels_last_copy
    >>> from randsmooth.models import CIFARNet
    >>> image = torch.zeros(1, 3, 32, 32)
    >>> copied = channels_last_copy(CIFARNet(width=0.25), image)
    >>> copied.layers[0].weight.is_contiguous(memory_format=torch.channels_last)
    True
    >>> channels_last_copy(torch.nn.Linear(3, 2), torch.zeros(1, 3)) is None
    True
    """
    types = (torch.float32,) if sample.device.type == "cpu" else _HALF
    if sample.ndim != 4 or sample.dtype not in types or not _channels_last_pays(module, sample):
        return None

    def build() -> nn.Module:
        copied: Any = copy.deepcopy(module).eval()
        converted: nn.Module = copied.to(memory_format=torch.channels_last)
        return converted

    return _checked(build, module, sample)


def onednn_copy(module: nn.Module, sample: Tensor) -> nn.Module | None:
    """Return a copy of a network whose dense layers run in oneDNN, where that may pay.

    The library that torch prefers for matrix products, MKL, uses only half of the width of other
    makers' processors; oneDNN, which torch has for convolutions, uses all of it: about twice the
    speed. The copy is for single precision on a CPU with AVX-512, and cannot be differentiated.

    Parameters
    ----------
    module : torch.nn.Module
        A trained module.

    sample : Tensor of shape (1, ...)
        One input, of the module's type and on its device.

    Returns
    -------
    torch.nn.Module or None
        The copy, in evaluation mode, with the same parameters and buffers; None where there is
        nothing to gain or it cannot be made.

    Notes
    -----
    The operator belongs to torch's inner ones, so the outcome is compared with the module's.
    """
    suits = sample.device.type == "cpu" and sample.dtype == torch.float32
    if not suits or not _has_onednn():
        return None

    def build() -> nn.Module | None:
        copied = evaluation_copy(module)
        dense = [(whole, name) for whole in copied.modules() for name in _dense_parts(whole)]
        for whole, name in dense:
            setattr(whole, name, _OneDNNLinear(whole.get_submodule(name)))
        return copied.eval() if dense else None

    return _checked(build, module, sample)


class CompiledForward:
    """A network compiled for batches of one size, or the network itself where nothing compiles.

    The first call compiles, which takes seconds to a minute; other threads wait for it. Any number
    of rows is taken in batches of that size, the last one filled up, so that a row's outputs do not
    depend on the others.

    Parameters
    ----------
    module : torch.nn.Module
        A trained module. Its parameters must not change after the first call.

    batch_size : int
        Rows of one forward pass.

    Warns
    -----
    NotCompiledWarning
        On the first call, if the module cannot be compiled here.
    """

    def __init__(self, module: nn.Module, batch_size: int) -> None:
        self.batch_size = batch_size
        self._plain = evaluation_copy(module)
        self._compiled: Callable[[Tensor], Any] | None = None
        self._compiling = threading.Lock()

    @property
    def is_compiled(self) -> bool:
        """Whether the last batch was run by compiled code."""
        return self._compiled is not None and self._compiled is not self._plain

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the outputs of each row.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Inputs.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            The outputs, the first of several.
        """
        n_rows = len(rows)
        # Compiled code is chosen by the mode, the order in memory and the kind of tensor, too:
        # without fixed ones it would compile again.
        with torch.inference_mode():
            rows = rows.contiguous() if rows.is_inference() else rows.clone().contiguous()
            rows = filled_up(rows, self.batch_size)
            parts = [first_output(self._run(part)) for part in torch.split(rows, self.batch_size)]
            return (parts[0] if len(parts) == 1 else torch.cat(parts))[:n_rows]

    def _run(self, batch: Tensor) -> Any:
        if self._compiled is None:
            with self._compiling:
                if self._compiled is None:
                    self._compiled = self._compile(batch)
        return self._compiled(batch)

    def _compile(self, batch: Tensor) -> Callable[[Tensor], Any]:
        try:
            return _compiled(self._plain, batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(
                f"the network could not be compiled and runs as it is, more slowly: {reason} "
                f"Install a C++ compiler, or do not ask for compilation.",
                NotCompiledWarning,
                stacklevel=4,
            )
            return self._plain


def autocast_forward(
    forward: Callable[[Tensor], Tensor], device_type: str, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Return a forward pass in reduced precision.

    This is another network: what is certified then holds for the network in this precision, and
    not for the original one.

    Parameters
    ----------
    forward : callable (Tensor) -> Tensor
        Outputs of a network.

    device_type : str
        Where it runs, "cpu" or "cuda".

    dtype : torch.dtype
        Type of matrix products and convolutions, bfloat16 or float16.

    Returns
    -------
    callable (Tensor) -> Tensor
        The outputs, widened to single precision.
    """

    def run(rows: Tensor) -> Tensor:
        with torch.autocast(device_type, dtype=dtype):
            return forward(rows).float()

    return run


class _OneDNNLinear(nn.Module):
    """A dense layer of oneDNN with the parameters of one of torch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias

    def forward(self, rows: Tensor) -> Tensor:
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.weight, self.bias, "none", [], ""
        )
        return outputs


def _dense_parts(whole: nn.Module) -> list[str]:
    """Return the names of a module's own layers that are dense and nothing more."""
    return [
        name
        for name, part in whole.named_children()
        if type(part) is nn.Linear and not (part._forward_hooks or part._forward_pre_hooks)
    ]


def _has_onednn() -> bool:
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _channels_last_pays(module: nn.Module, sample: Tensor) -> bool:
    """Say whether some convolution has enough channels and places, or is followed by pooling."""
    places: list[int] = []

    def note(part: Any, args: Any, outputs: Tensor) -> None:
        patches = part.kernel_size == part.stride and part.kernel_size != (1, 1)
        if part.out_channels >= _FEWEST_CHANNELS and not patches:
            places.append(outputs[0, 0].numel())

    try:
        looked_at = evaluation_copy(module)
        for part in looked_at.modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(note)
        with torch.inference_mode():
            looked_at(sample[:1])
    except Exception:  # whatever a user's module raises when it is copied
        return False
    pooled = any("Pool2d" in type(part).__name__ for part in module.modules())
    return bool(places) and (pooled or max(places) >= _FEWEST_PLACES)


def _checked(
    build: Callable[[], nn.Module | None], module: nn.Module, sample: Tensor
) -> nn.Module | None:
    """Return what was built if it computes what the module computes."""
    try:
        built = build()
        if built is None:
            return None
        with torch.inference_mode():
            rows = _noisy(sample, 16)
            expected = first_output(evaluation_copy(module)(rows))
            return built if equal_up_to_rounding(expected, first_output(built(rows))) else None
    except Exception:
        # Whatever a user's module raises when it is copied or run: it then runs as it is.
        return None


def _noisy(sample: Tensor, n_rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n_rows, *sample.shape[1:], generator=generator)
    return sample[:1] + noise.to(sample)


def _compiled(module: nn.Module, batch: Tensor) -> Callable[[Tensor], Any]:
    """Return the compiled module, after a first batch; on a CPU its weights are constants."""

    def outputs(rows: Tensor) -> Any:
        return module(rows)

    # What is compiled is kept by code, a few times each: every network needs code of its own.
    outputs.__code__ = outputs.__code__.replace()
    with warnings.catch_warnings():
        # The compiler's own, about what it uses of torch.
        warnings.simplefilter("ignore")
        from torch._inductor import config

        compiled: Callable[[Tensor], Any] = torch.compile(outputs, dynamic=False)
        # Not options of `torch.compile`, where freezing has no effect. One thread, so that sums
        # are not split otherwise on several.
        with config.patch({"freezing": batch.device.type == "cpu", "cpp.threads": 1}):
            compiled(batch)
    return compiled
