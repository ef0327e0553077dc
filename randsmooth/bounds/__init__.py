"""Confidence in, radius out: certified radii from class probabilities, rounded down."""

from randsmooth.bounds.gaussian import neyman_pearson_radius, pixeldp_radius, renyi_radius
from randsmooth.bounds.laplace import (
    laplace_pure_dp_radius,
    laplace_radius,
    laplace_renyi_radius,
    laplace_teng_radius,
)
from randsmooth.bounds.norms import l1_radius_from_l2, linf_radius_from_l2
from randsmooth.bounds.registry import BOUNDS, Bound, best_bound
from randsmooth.bounds.uniform import uniform_radius

__all__ = [
    "BOUNDS",
    "Bound",
    "best_bound",
    "l1_radius_from_l2",
    "laplace_pure_dp_radius",
    "laplace_radius",
    "laplace_renyi_radius",
    "laplace_teng_radius",
    "linf_radius_from_l2",
    "neyman_pearson_radius",
    "pixeldp_radius",
    "renyi_radius",
    "uniform_radius",
]
