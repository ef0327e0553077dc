"""Counts in, confidence out: exact bounds on proportions, with no knowledge of models."""

from randsmooth.intervals.binomial import (
    binomial_test,
    clopper_pearson_lower,
    clopper_pearson_upper,
    smallest_certifying_trials,
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
    "binomial_test",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "geometric_looks",
    "sequential_tests",
    "simultaneous_intervals",
    "sison_glaz_intervals",
    "smallest_certifying_trials",
    "top_class_interval",
]
