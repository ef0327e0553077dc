"""The bounds by name: which formula belongs to which noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.gaussian import neyman_pearson_radius, pixeldp_radius, renyi_radius
from randsmooth.bounds.laplace import (
    laplace_pure_dp_radius,
    laplace_radius,
    laplace_renyi_radius,
    laplace_teng_radius,
)
from randsmooth.bounds.log_concave import logistic_radius
from randsmooth.bounds.uniform import uniform_radius

__all__ = ["BOUNDS", "Bound", "best_bound"]

RadiusFunction = Callable[[ArrayLike, ArrayLike | None, ArrayLike], NDArray[np.float64]]


@dataclass(frozen=True)
class Bound:
    """A way from two class probabilities to a radius, for one or more kinds of noise.

    Parameters
    ----------
    name : str
        Its key in `BOUNDS`.

    radii : mapping of str to callable
        For each noise by name, a function of (`p_lower`, `p_upper`, scale of the noise) that
        returns the radius.

    runner_up : bool
        Whether part of the failure probability should be spent on the runner-up. Otherwise
        all of it bounds the top class, and the others share what is left.
    """

    name: str
    radii: Mapping[str, RadiusFunction]
    runner_up: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "radii", MappingProxyType(dict(self.radii)))


def _by_scale(radius: Callable[..., NDArray[np.float64]], parameter: str) -> RadiusFunction:
    """Return a radius as a function of the scale, whatever its noise calls it."""

    def scaled(
        p_lower: ArrayLike, p_upper: ArrayLike | None, scale: ArrayLike
    ) -> NDArray[np.float64]:
        return radius(p_lower, p_upper, **{parameter: scale})

    return scaled


_TIGHTEST: Mapping[str, RadiusFunction] = {
    "gaussian": _by_scale(neyman_pearson_radius, "sigma"),
    "laplace": _by_scale(laplace_radius, "scale"),
    "uniform": _by_scale(uniform_radius, "half_width"),
    "logistic": _by_scale(logistic_radius, "scale"),
}

_RENYI: Mapping[str, RadiusFunction] = {
    "gaussian": _by_scale(renyi_radius, "sigma"),
    "laplace": _by_scale(laplace_renyi_radius, "scale"),
}

_PRIVACY: Mapping[str, RadiusFunction] = {
    "gaussian": _by_scale(pixeldp_radius, "sigma"),
    "laplace": _by_scale(laplace_pure_dp_radius, "scale"),
}

BOUNDS: Mapping[str, Bound] = MappingProxyType(
    {
        bound.name: bound
        for bound in (
            Bound("neyman_pearson", _TIGHTEST, runner_up=True),
            Bound("binary", _TIGHTEST, runner_up=False),
            Bound("renyi", _RENYI, runner_up=True),
            Bound("pixeldp", _PRIVACY, runner_up=True),
            Bound("teng", {"laplace": _by_scale(laplace_teng_radius, "scale")}, runner_up=True),
        )
    }
)
"""Read-only mapping of every bound by its name."""


def best_bound(noise_name: str) -> str:
    """Name of the tightest sound bound for a noise.

    No other bound in `BOUNDS` gives a larger radius for the same two probabilities.

    Parameters
    ----------
    noise_name : str
        Name of the noise: "gaussian", "laplace", "uniform" or "logistic".

    Returns
    -------
    str
        A key of `BOUNDS`.

    Raises
    ------
    ValueError
        If no bound is known for that noise.

    Examples
    --------
    >>> from randsmooth.bounds import BOUNDS, best_bound
    >>> best_bound("gaussian")
    'neyman_pearson'
    >>> BOUNDS[best_bound("uniform")].radii["uniform"](0.9, 0.2, 1.0).round(3)
    np.float64(0.8)
    """
    if noise_name not in _TIGHTEST:
        raise ValueError(
            f"noise_name must be one of {', '.join(map(repr, _TIGHTEST))}, got {noise_name!r}."
        )
    return "neyman_pearson"
