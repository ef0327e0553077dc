"""Networks that make perturbations, and those that guess what went into them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = [
    "ConvGenerator",
    "ConvPosterior",
    "DenseGenerator",
    "DensePosterior",
    "LatentMap",
    "latent_code_length",
]

INITIAL_STD = 0.02  # of all weights, as published


def _as_published(network: nn.Module) -> None:
    """Draw weights from N(0, 0.02), those of a batch norm from N(1, 0.02); biases are 0."""
    for part in network.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(part.weight, 0.0, INITIAL_STD)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, INITIAL_STD)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, at full resolution.

    Parameters
    ----------
    n_in : int
        Channels in.

    n_out : int
        Channels out.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_in, height, width)
            Its input.

        Returns
        -------
        Tensor of shape (n_rows, n_out, height, width)
            Its output.
        """
        return torch.relu(self.body(x) + self.shortcut(x))


class ConvGenerator(nn.Sequential):
    """The generator of Dong et al. (2020) for images: three residual blocks at full resolution.

    Parameters
    ----------
    n_in : int
        Channels in.

    n_out : int
        Channels out.

    width : int, default=16
        Channels of the first layer; the blocks have 2, 2 and 1 times as many. Published: 256.
    """

    def __init__(self, n_in: int, n_out: int, width: int = 16) -> None:
        super().__init__(
            nn.Conv2d(n_in, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            ResidualBlock(width, 2 * width),
            ResidualBlock(2 * width, 2 * width),
            ResidualBlock(2 * width, width),
            nn.Conv2d(width, n_out, 3, padding=1, bias=False),
        )
        _as_published(self)


class DenseGenerator(nn.Sequential):
    """A generator for tables: two hidden layers, normalised by row so that a batch may be one row.

    Parameters
    ----------
    n_in : int
        Columns in.

    n_out : int
        Columns out.

    width : int, default=16
        A sixteenth of the units of a hidden layer.
    """

    def __init__(self, n_in: int, n_out: int, width: int = 16) -> None:
        n_units = 16 * width
        super().__init__(
            nn.Linear(n_in, n_units),
            nn.LayerNorm(n_units),
            nn.ReLU(),
            nn.Linear(n_units, n_units),
            nn.LayerNorm(n_units),
            nn.ReLU(),
            nn.Linear(n_units, n_out, bias=False),
        )
        _as_published(self)


class LatentMap(nn.Sequential):
    """A latent code made into one more channel of an image (Dong et al. 2020).

    Parameters
    ----------
    n_latent : int
        Dimensions of the code.

    height : int
        Height of the images.

    width : int
        Their width.
    """

    def __init__(self, n_latent: int, height: int, width: int) -> None:
        super().__init__(
            nn.Linear(n_latent, 256),
            nn.ReLU(),
            nn.Linear(256, height * width),
            nn.ReLU(),
            nn.Unflatten(1, (1, height, width)),
        )
        _as_published(self)


class ConvPosterior(nn.Sequential):
    """Convolutions that read the latent code's mean and rho off an image of a perturbation.

    Four layers with kernels 5, 4, 4, 4, the second and fourth of stride 2, batch norm and leaky
    ReLU after each, as Dong et al. (2020) have them; padded, so that images of any size will do,
    and averaged over what is left of the image.

    Parameters
    ----------
    n_in : int
        Channels of a perturbation.

    n_out : int
        Twice the dimensions of the code.

    width : int, default=16
        Channels of the first layer, doubled by each other one. Published: 32.
    """

    def __init__(self, n_in: int, n_out: int, width: int = 16) -> None:
        layers: list[nn.Module] = []
        n_channels = n_in
        for i, (kernel, stride) in enumerate([(5, 1), (4, 2), (4, 1), (4, 2)]):
            n_next = width * 2**i
            layers += [
                nn.Conv2d(n_channels, n_next, kernel, stride, padding=2, bias=False),
                nn.BatchNorm2d(n_next),
                nn.LeakyReLU(),
            ]
            n_channels = n_next
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_channels, n_out)]
        super().__init__(*layers, *head)


class DensePosterior(nn.Sequential):
    """The same for tables, with two hidden layers normalised by row.

    Parameters
    ----------
    n_in : int
        Columns of a perturbation.

    n_out : int
        Twice the dimensions of the code.

    width : int, default=16
        A sixteenth of the units of a hidden layer.
    """

    def __init__(self, n_in: int, n_out: int, width: int = 16) -> None:
        n_units = 16 * width
        super().__init__(
            nn.Linear(n_in, n_units),
            nn.LayerNorm(n_units),
            nn.LeakyReLU(),
            nn.Linear(n_units, n_units),
            nn.LayerNorm(n_units),
            nn.LeakyReLU(),
            nn.Linear(n_units, n_out),
        )


def latent_code_length(latent: Tensor, guess: Tensor) -> Tensor:
    r"""Return the nats per dimension in which a posterior encodes the latent codes.

    .. math::

        U = -\frac{1}{Bk} \sum_{i=1}^{B} \ln q(z_i \mid \delta_i), \qquad
        q(z \mid \delta) = \mathcal{N}\bigl(z;\, m(\delta), \mathrm{diag}\, v(\delta)\bigr),
        \quad v = \mathrm{softplus}(\rho).

    Minus :math:`k U` plus the entropy of z, k dimensions in all, is a lower bound on the mutual
    information of z and :math:`\delta`, hence on the diversity of the perturbations (Dong et al.
    2020, equation 12).

    Parameters
    ----------
    latent : Tensor of shape (n_rows, n_latent)
        The codes.

    guess : Tensor of shape (n_rows, 2 * n_latent)
        Means and rhos, side by side.

    Returns
    -------
    Tensor
        U, a scalar. For codes uniform on [-1, 1] it is at least
        :math:`\tfrac{1}{2}\ln(2\pi/3) + \tfrac{1}{2} = 0.8696` in expectation where the posterior
        ignores the perturbation.
    """
    mean, rho = guess.chunk(2, dim=1)
    variance = nn.functional.softplus(rho) + 1e-8
    squares = (latent - mean).square() / variance
    return ((squares + variance.log()).mean() + math.log(2 * math.pi)) / 2
