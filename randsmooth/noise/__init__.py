"""Smoothing noise: how inputs are made noisy, and the norm in which that certifies."""

from randsmooth.noise.ablation import Ablation
from randsmooth.noise.base import Noise
from randsmooth.noise.discrete_gaussian import DiscreteGaussian
from randsmooth.noise.flips import Flips
from randsmooth.noise.gaussian import Gaussian
from randsmooth.noise.generalized_gaussian import GeneralizedGaussian
from randsmooth.noise.laplace import Laplace
from randsmooth.noise.logistic import Logistic
from randsmooth.noise.names import NOISES, noise_from_name
from randsmooth.noise.splitting import DeterministicSplitting, Splitting
from randsmooth.noise.streams import Stream, block_generator, draws_per_block, row_key
from randsmooth.noise.uniform import Uniform

__all__ = [
    "NOISES",
    "Ablation",
    "DeterministicSplitting",
    "DiscreteGaussian",
    "Flips",
    "Gaussian",
    "GeneralizedGaussian",
    "Laplace",
    "Logistic",
    "Noise",
    "Splitting",
    "Stream",
    "Uniform",
    "block_generator",
    "draws_per_block",
    "noise_from_name",
    "row_key",
]
