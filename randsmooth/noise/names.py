"""The noises by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from types import MappingProxyType
from typing import Any

from randsmooth.noise.ablation import Ablation
from randsmooth.noise.base import FROM_SIGMA, Noise
from randsmooth.noise.discrete_gaussian import DiscreteGaussian
from randsmooth.noise.flips import Flips
from randsmooth.noise.gaussian import Gaussian
from randsmooth.noise.generalized_gaussian import GeneralizedGaussian
from randsmooth.noise.laplace import Laplace
from randsmooth.noise.logistic import Logistic
from randsmooth.noise.splitting import DeterministicSplitting, Splitting
from randsmooth.noise.uniform import Uniform

__all__ = ["NOISES", "known_noise", "noise_facts", "noise_from_facts", "noise_from_name"]

_KINDS: tuple[type[Noise], ...] = (
    Gaussian,
    Laplace,
    Uniform,
    Logistic,
    GeneralizedGaussian,
    DiscreteGaussian,
    Splitting,
    DeterministicSplitting,
    Ablation,
    Flips,
)

NOISES: Mapping[str, type[Noise]] = MappingProxyType({kind.name: kind for kind in _KINDS})
"""Read-only mapping of every noise by its name."""


def noise_from_name(noise: str | Noise, sigma: float | None = None) -> Noise:
    """Return a noise from its name and scale, or the noise itself.

    Parameters
    ----------
    noise : str or Noise
        A key of `NOISES`, or a ready noise, whose own scale then counts where it has one.

    sigma : float or None, default=None
        Scale for a name, or for a noise that leaves it open.

    Returns
    -------
    Noise
        The noise.

    Raises
    ------
    ValueError
        If the name is unknown or is that of a noise with parameters of its own, or the scale is
        not positive and finite.

    TypeError
        If `noise` is neither a name nor a noise.

    Examples
    --------
    >>> from randsmooth.noise import noise_from_name
    >>> noise_from_name("laplace", 0.5)
    Laplace(scale=0.5)
    """
    if isinstance(noise, Noise):
        if noise.scale is not FROM_SIGMA:
            return noise
        if sigma is None:
            raise ValueError(
                f"sigma must be given where noise leaves it open, got None for {noise}."
            )
        return replace(noise, scale=sigma)
    if not isinstance(noise, str):
        raise TypeError(f"noise must be a name or a randsmooth.noise.Noise, got {noise!r}.")
    kind = known_noise(noise)
    own = (field for field in fields(kind) if field.init and field.name != "scale")
    needed = [field.name for field in own if field.default is MISSING]
    if needed:
        raise ValueError(
            f"noise must be a Noise object where it has parameters of its own, got {noise!r}. Hand "
            f"in randsmooth.noise.{kind.__name__}({'=..., '.join(needed)}=...)."
        )
    if sigma is None:
        raise ValueError(f"sigma must be given where noise is a name, got None for {noise!r}.")
    return kind(sigma)


def known_noise(name: str) -> type[Noise]:
    """Return the class of a noise.

    Parameters
    ----------
    name : str
        Its key in `NOISES`.

    Returns
    -------
    type
        The class.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in NOISES:
        names = ", ".join(map(repr, NOISES))
        raise ValueError(f"noise must be one of {names} or a Noise object, got {name!r}.")
    return NOISES[name]


def noise_facts(noise: Noise) -> dict[str, Any]:
    """Return a noise in plain values, from which `noise_from_facts` makes it again.

    Parameters
    ----------
    noise : Noise
        The noise.

    Returns
    -------
    dict of str to object
        Its name, and what it was made with.

    Raises
    ------
    ValueError
        If it is not one of `NOISES`.
    """
    if type(noise) is not NOISES.get(noise.name):
        names = ", ".join(map(repr, NOISES))
        raise ValueError(f"noise must be one of {names} to be saved, got {noise!r}.")
    return {"name": noise.name, **noise.parameters}


def noise_from_facts(facts: Mapping[str, Any]) -> Noise:
    """Return the noise that some plain values describe.

    Parameters
    ----------
    facts : mapping of str to object
        What `noise_facts` returned.

    Returns
    -------
    Noise
        The noise.

    Raises
    ------
    ValueError
        If the name is unknown, or a parameter out of range.
    """
    parameters = dict(facts)
    return known_noise(parameters.pop("name"))(**parameters)
