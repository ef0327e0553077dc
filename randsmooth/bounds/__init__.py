"""Confidence in, certificates out: what follows from probabilities, rounded outward."""

from randsmooth.bounds.ablation import ablation_probability_lower, ablation_radius
from randsmooth.bounds.accuracy import AccuracyGap, accuracy_gap_from_counts
from randsmooth.bounds.box import box_uniform_radius
from randsmooth.bounds.confidence import (
    distribution_confidence_lower,
    distribution_confidence_radius,
    mean_confidence_lower,
    mean_confidence_radius,
)
from randsmooth.bounds.divergences import (
    exponential_family_divergence,
    gaussian_divergence,
    laplace_divergence,
    smallest_standard_deviation,
)
from randsmooth.bounds.flip_splits import certified_flips, flips_split_probability_lower
from randsmooth.bounds.flips import flips_probability_lower, flips_radius
from randsmooth.bounds.gaussian import neyman_pearson_radius, pixeldp_radius, renyi_radius
from randsmooth.bounds.laplace import (
    laplace_pure_dp_radius,
    laplace_radius,
    laplace_renyi_radius,
    laplace_teng_radius,
)
from randsmooth.bounds.log_concave import (
    generalized_gaussian_radius,
    log_concave_radius,
    logistic_radius,
)
from randsmooth.bounds.norms import converted_radius, l1_radius_from_l2, linf_radius_from_l2
from randsmooth.bounds.registry import BOUNDS, Bound, best_bound
from randsmooth.bounds.risk_gaps import collision_gap, entropy_gap
from randsmooth.bounds.shapes import (
    exponential_l2_radius,
    exponential_linf_radius,
    pareto_radius,
    uniform_ball_radius,
    uniform_linf_radius,
)
from randsmooth.bounds.shifts import (
    gaussian_probability_lower,
    gaussian_probability_upper,
    laplace_probability_lower,
    log_concave_probability_lower,
    uniform_probability_lower,
)
from randsmooth.bounds.splitting import deterministic_splitting_radius, splitting_radius
from randsmooth.bounds.supporting_lines import (
    supporting_line,
    tight_accuracy_samples,
    tight_gap_samples,
)
from randsmooth.bounds.top_k import top_k_radius
from randsmooth.bounds.total_variation import (
    gaussian_total_variation,
    laplace_total_variation,
    total_variation_gap,
    uniform_total_variation,
)
from randsmooth.bounds.uniform import uniform_radius

__all__ = [
    "BOUNDS",
    "AccuracyGap",
    "Bound",
    "ablation_probability_lower",
    "ablation_radius",
    "accuracy_gap_from_counts",
    "best_bound",
    "box_uniform_radius",
    "certified_flips",
    "collision_gap",
    "converted_radius",
    "deterministic_splitting_radius",
    "distribution_confidence_lower",
    "distribution_confidence_radius",
    "entropy_gap",
    "exponential_family_divergence",
    "exponential_l2_radius",
    "exponential_linf_radius",
    "flips_probability_lower",
    "flips_radius",
    "flips_split_probability_lower",
    "gaussian_divergence",
    "gaussian_probability_lower",
    "gaussian_probability_upper",
    "gaussian_total_variation",
    "generalized_gaussian_radius",
    "l1_radius_from_l2",
    "laplace_divergence",
    "laplace_probability_lower",
    "laplace_pure_dp_radius",
    "laplace_radius",
    "laplace_renyi_radius",
    "laplace_teng_radius",
    "laplace_total_variation",
    "linf_radius_from_l2",
    "log_concave_probability_lower",
    "log_concave_radius",
    "logistic_radius",
    "mean_confidence_lower",
    "mean_confidence_radius",
    "neyman_pearson_radius",
    "pareto_radius",
    "pixeldp_radius",
    "renyi_radius",
    "smallest_standard_deviation",
    "splitting_radius",
    "supporting_line",
    "tight_accuracy_samples",
    "tight_gap_samples",
    "top_k_radius",
    "total_variation_gap",
    "uniform_ball_radius",
    "uniform_linf_radius",
    "uniform_probability_lower",
    "uniform_radius",
    "uniform_total_variation",
]
