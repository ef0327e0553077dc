"""Every noise with classifiers whose truth is known under it. A new noise is one more line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from classifiers import (
    GridIntervals,
    HalfSpace,
    Intervals,
    Rows,
    SplitIntervals,
    ablation_law,
    flip_law_of_rows,
)
from randsmooth.bounds import BOUNDS
from randsmooth.noise import Gaussian, Laplace, Noise, Uniform
from randsmooth.noise.ablation import Ablation
from randsmooth.noise.discrete_gaussian import DiscreteGaussian
from randsmooth.noise.flips import Flips
from randsmooth.noise.generalized_gaussian import GeneralizedGaussian
from randsmooth.noise.logistic import Logistic
from randsmooth.noise.splitting import Splitting

CUTS, LABELS = [-1.0, 0.2, 0.9, 2.0], [0, 1, 2, 0, 1]


@dataclass(frozen=True)
class Smoothing:
    """A noise, its worst base classifier, another with three classes, and the exact radius.

    `radius` is the largest that holds for every base classifier with two class probabilities.
    """

    noise: Noise
    worst: Any
    several: Any
    radius: Callable[[Any, Any], Any]
    n_inputs: int = 3000

    @property
    def bounds(self) -> list[str]:
        family = self.noise.family or self.noise.name
        return [
            name
            for name, bound in BOUNDS.items()
            if name in ("neyman_pearson", "binary") or family in bound.radii
        ]


def quantile_radius(law: Any) -> Callable[[Any, Any], Any]:
    return lambda p1, p2: (law.ppf(p1) - law.ppf(p2)) / 2


def added(noise: Noise, law: Any, **fields: Any) -> Smoothing:
    normal = np.array([2.0, -1.0, 2.0]) / 3 if noise.norm == "l2" else np.array([0.0, 1.0, 0.0])
    several = Intervals(law, CUTS, LABELS, (-3.0, 4.0))
    return Smoothing(noise, HalfSpace(law, normal), several, quantile_radius(law), **fields)


def on_grid(noise: Noise, law: Any, levels: int = 255) -> Smoothing:
    worst = GridIntervals(law, [0.0], [0, 1], (-1.3, 1.3), levels)
    several = GridIntervals(law, CUTS, LABELS, (-3.0, 4.0), levels)
    return Smoothing(noise, worst, several, quantile_radius(law))


def split(half_width: float) -> Smoothing:
    worst = SplitIntervals(half_width, [0.5], [0, 1])
    several = SplitIntervals(half_width, [0.1, 0.55, 0.6], [2, 0, 2, 1])
    return Smoothing(Splitting(half_width), worst, several, lambda p1, p2: half_width * (p1 - p2))


SMOOTHINGS = {
    "gaussian": added(Gaussian(0.8), stats.norm(scale=0.8)),
    "laplace": added(Laplace(0.8), stats.laplace(scale=0.8)),
    "uniform": added(Uniform(0.9), stats.uniform(-0.9, 1.8)),
    "logistic": added(Logistic(0.5), stats.logistic(scale=0.5)),
    "generalized_gaussian": added(
        GeneralizedGaussian(1.0, exponent=4),
        stats.gennorm(4),
        n_inputs=400,  # drawn row by row, which is slow
    ),
    "discrete_gaussian": on_grid(DiscreteGaussian(0.8), stats.norm(scale=0.8)),
    "splitting": split(0.8),
    "fine_splitting": split(0.3),
}
"""Noises for which the exact radius is a formula."""

WITH_BOUNDS = [(name, bound) for name, one in SMOOTHINGS.items() for bound in one.bounds]

ON_ROWS = {
    "ablation": (Ablation(n_kept=1, fill=-1.0), Rows(ablation_law(7, 1, -1.0), 1)),
    "flips": (Flips(p_add=0.25, p_del=0.25), Rows(flip_law_of_rows(7, 0.25, 0.25), 4)),
    "sparse_flips": (Flips(p_add=0.3, p_del=0.4), Rows(flip_law_of_rows(7, 0.3, 0.4), 3)),
}
"""Noises with few outcomes on few rows, where everything can be enumerated."""
