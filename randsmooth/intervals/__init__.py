"""Draws in, confidence out: bounds on proportions, means, distributions and entropy."""

from randsmooth.intervals.binomial import (
    binomial_test,
    clopper_pearson_lower,
    clopper_pearson_upper,
    smallest_certifying_trials,
)
from randsmooth.intervals.distribution import (
    dkw_band,
    dkw_margin,
    equal_count_thresholds,
    order_statistic_thresholds,
)
from randsmooth.intervals.entropy import (
    collision_probability,
    deflated_exp_entropy,
    entropy_correction,
    entropy_upper,
)
from randsmooth.intervals.means import (
    betting_lower,
    empirical_bernstein_lower,
    hoeffding_lower,
    mean_lower,
    mean_upper,
)
from randsmooth.intervals.multinomial import simultaneous_intervals, top_class_interval
from randsmooth.intervals.sequential import (
    GroupSequentialTest,
    NestedTests,
    geometric_looks,
    sequential_tests,
)
from randsmooth.intervals.sison_glaz import sison_glaz_intervals

__all__ = [
    "GroupSequentialTest",
    "NestedTests",
    "betting_lower",
    "binomial_test",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "collision_probability",
    "deflated_exp_entropy",
    "dkw_band",
    "dkw_margin",
    "empirical_bernstein_lower",
    "entropy_correction",
    "entropy_upper",
    "equal_count_thresholds",
    "geometric_looks",
    "hoeffding_lower",
    "mean_lower",
    "mean_upper",
    "order_statistic_thresholds",
    "sequential_tests",
    "simultaneous_intervals",
    "sison_glaz_intervals",
    "smallest_certifying_trials",
    "top_class_interval",
]
