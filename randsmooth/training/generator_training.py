"""What a strategy with a generator keeps: its networks and the optimiser that trains them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from randsmooth.training.generators import (
    ConvGenerator,
    ConvPosterior,
    DenseGenerator,
    DensePosterior,
    LatentMap,
)
from randsmooth.training.perturbation import steepest_step

__all__ = ["Architecture", "TrainedNetworks", "as_rows", "checked_output", "gradient_features"]

# Adam's decay rates, as published: the posterior's are torch's defaults.
BETAS = {"generator": (0.5, 0.999), "latent_map": (0.5, 0.999), "posterior": (0.9, 0.999)}


def as_rows(x: Tensor) -> Tensor:
    """Return a batch as a generator sees it: images as they are, anything else as a table.

    Parameters
    ----------
    x : Tensor of shape (n_rows, ...)
        The batch.

    Returns
    -------
    Tensor of shape (n_rows, n_channels, height, width) or (n_rows, n_columns)
        The same values.
    """
    return x if x.ndim == 4 else x.reshape(len(x), -1)


def gradient_features(
    losses: Callable[[Tensor], Tensor],
    inputs: Tensor,
    corner: Callable[[Tensor], Tensor],
    *,
    normalize: bool,
) -> Tensor:
    """Return inputs and the gradients of their losses, here and where the first of them points to.

    Parameters
    ----------
    losses : callable (Tensor of shape (n_rows, ...)) -> Tensor of shape (n_rows,)
        The loss of each row, which depends on its own input alone.

    inputs : Tensor of shape (n_rows, ...)
        The batch.

    corner : callable (Tensor of shape (n_rows, ...)) -> Tensor of shape (n_rows, ...)
        The inputs moved along the sign of a gradient.

    normalize : bool
        Whether a row's gradient has root mean square 1, or is that of the mean of the losses.

    Returns
    -------
    Tensor of shape (n_rows, 3 * n_channels, height, width) or (n_rows, 3 * n_columns)
        The three side by side, without a graph.
    """

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            (result,) = torch.autograd.grad(losses(x).sum(), [x])
        return result

    first = gradient(inputs)
    second = gradient(corner(first))
    if normalize:
        length = math.sqrt(inputs[0].numel())
        first, second = (length * steepest_step(x, "l2") for x in (first, second))
    else:
        first, second = first / len(inputs), second / len(inputs)
    return torch.cat([as_rows(x) for x in (inputs, first, second)], dim=1)


def checked_output(name: str, output: Any, expected: tuple[int, ...]) -> Tensor:
    """Return a network's output if it has the shape that it must have.

    Parameters
    ----------
    name : str
        Name of the parameter that the network is for.

    output : Tensor
        What the network returned.

    expected : tuple of int
        The shape that it must have.

    Returns
    -------
    Tensor
        The output.

    Raises
    ------
    ValueError
        If the shape is another.
    """
    if isinstance(output, Tensor) and tuple(output.shape) == expected:
        return output
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ValueError(
        f"{name} must return a tensor of shape {expected} for this batch, got {got}. Hand in the "
        f"class, which is called with the channels or columns that come in and go out."
    )


@dataclass(frozen=True)
class Architecture:
    """What networks are built from.

    Parameters
    ----------
    generator : object
        A torch module, something that builds one from the numbers of channels (for tables:
        columns) in and out, or None for our own.

    posterior : object
        The same for the network that guesses the latent code.

    width : int
        Width of our own networks.

    n_latent : int
        Dimensions of the latent code; 0 for none.
    """

    generator: Any
    posterior: Any
    width: int
    n_latent: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What to compare: networks that were handed in stand for their classes."""
        given = [
            type(n) if isinstance(n, nn.Module) else n for n in (self.generator, self.posterior)
        ]
        return (*given, self.width, self.n_latent)

    def build(self, inputs: Tensor, seed: int) -> nn.ModuleDict:
        """Return networks for inputs like these, with the initial weights of a seed.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, ...)
            A batch.

        seed : int
            Seed of the weights. The global generators stay as they are.

        Returns
        -------
        torch.nn.ModuleDict
            ``generator`` and, with a latent code, ``posterior`` and, for images, ``latent_map``: on
            the CPU, in the type of the inputs, copied where they were handed in, none of them lazy.
        """
        row = as_rows(inputs[:1]).detach().cpu()
        n, is_image, dtype = row.shape[1], row.ndim == 4, row.dtype
        n_code = 0 if not self.n_latent else 1 if is_image else self.n_latent
        n_in, n_out = 3 * n + n_code, n if self.n_latent else 2 * n
        networks = nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would reseed the accelerators as well.
            torch.default_generator.manual_seed(seed)
            own: Callable[..., nn.Module] = ConvGenerator if is_image else DenseGenerator
            network = self._network("generator", own, n_in, n_out).to(dtype)
            networks["generator"] = _materialised(
                "generator", network, row.new_zeros(1, n_in, *row.shape[2:])
            )
            if self.n_latent:
                own = ConvPosterior if is_image else DensePosterior
                network = self._network("posterior", own, n, 2 * self.n_latent).to(dtype)
                networks["posterior"] = _materialised("posterior", network, torch.zeros_like(row))
            if self.n_latent and is_image:
                networks["latent_map"] = LatentMap(self.n_latent, *row.shape[2:]).to(dtype)
        return networks

    def _network(
        self, name: str, own: Callable[..., nn.Module], n_in: int, n_out: int
    ) -> nn.Module:
        given = getattr(self, name)
        if given is None:
            return own(n_in, n_out, self.width)
        network = copy.deepcopy(given).cpu() if isinstance(given, nn.Module) else given(n_in, n_out)
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"{name} must build a torch module, got {type(network).__name__} from {given!r}."
            )
        return network


class TrainedNetworks:
    """Networks with the Adam optimiser that trains them, which follow a tensor between devices.

    Pickles hold all of it on the CPU, so that what was trained on an accelerator loads anywhere.

    Parameters
    ----------
    networks : torch.nn.ModuleDict
        The networks, ``generator`` and perhaps ``latent_map`` and ``posterior``.

    key : tuple
        That of the architecture they were built from.
    """

    def __init__(self, networks: nn.ModuleDict, key: tuple[Any, ...]) -> None:
        self.networks = networks
        self.key = key
        self.optimizer = torch.optim.Adam(
            [{"params": part.parameters(), "betas": BETAS[name]} for name, part in networks.items()]
        )

    def follow(self, like: Tensor, lr: float) -> None:
        """Move networks and optimiser to the device and type of a tensor, for training.

        Parameters
        ----------
        like : Tensor
            The tensor.

        lr : float
            The learning rate from here on.
        """
        self.networks.train()
        first = next(self.networks.parameters())
        if first.device != like.device or first.dtype != like.dtype:
            self.networks.to(device=like.device, dtype=like.dtype)
            self.optimizer.load_state_dict(self.optimizer.state_dict())
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def descend(self, outputs: list[Tensor], gradients: list[Tensor]) -> None:
        """Take one step against a gradient that is known at the networks' outputs.

        Parameters
        ----------
        outputs : list of Tensor
            What the networks made, with its graph.

        gradients : list of Tensor
            The loss's gradient with respect to each.
        """
        self.optimizer.zero_grad()
        torch.autograd.backward(outputs, gradients)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __getstate__(self) -> dict[str, Any]:
        """Return networks, key and the optimiser's state, on the CPU."""
        twin = TrainedNetworks(copy.deepcopy(self.networks).cpu(), self.key)
        twin.optimizer.load_state_dict(self.optimizer.state_dict())
        return {
            "networks": twin.networks,
            "key": self.key,
            "optimizer": twin.optimizer.state_dict(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the optimiser around the networks."""
        TrainedNetworks.__init__(self, state["networks"], state["key"])
        self.optimizer.load_state_dict(state["optimizer"])


def _materialised(name: str, network: nn.Module, example: Tensor) -> nn.Module:
    """Return the network after one pass, which gives lazy layers their shapes."""
    try:
        with torch.no_grad():
            network.eval()(example)
    except RuntimeError as error:
        raise ValueError(
            f"{name} must take inputs of shape (n_rows, {', '.join(map(str, example.shape[1:]))}), "
            f"got {type(network).__name__}, which does not: {error}"
        ) from error
    return network.train()
