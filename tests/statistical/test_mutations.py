"""Broken variants of the package, each of which a check of this suite must catch.

Every check passes on the package as it is, here and elsewhere in the suite, and fails on its
mutant. Seeds are fixed, so that nothing is left to chance.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import dataset_checks
import engine_checks
from dataset_checks import (
    check_accuracy_gap,
    check_agreement,
    check_number_of_invalid,
    check_own_noise,
    check_shared_noise,
    check_whole_curve,
)
from engine_checks import (
    check_box,
    check_certificates,
    check_confidence,
    check_failures_are_apart,
    check_just_short_of_a_radius,
    check_near_ties,
    check_outcomes,
    check_predictions,
    check_rows_of_a_table,
)
from exact_checks import (
    check_all_paths,
    check_all_pilots,
    check_all_predictions,
    check_all_top_k,
    check_all_votes,
    check_rounding,
    check_rows,
)
from randsmooth import certification, dataset_level, noise_bank, sentinel
from randsmooth.bounds import accuracy_evidence, gaussian, quantiles
from randsmooth.bounds import splitting as splitting_bounds
from randsmooth.bounds.box import box_uniform_radius
from randsmooth.certificates import confidence, from_counts, top_k
from randsmooth.intervals import (
    NestedTests,
    clopper_pearson_lower,
    clopper_pearson_upper,
    distribution,
    geometric_looks,
    multinomial,
)
from randsmooth.noise import Gaussian, Stream
from randsmooth.noise.ablation import Ablation
from randsmooth.noise.discrete_gaussian import DiscreteGaussian
from randsmooth.noise.flips import Flips
from randsmooth.noise.splitting import DeterministicSplitting, Splitting
from randsmooth.two_stage import TwoStage
from smoothings import ON_ROWS, SMOOTHINGS

GAUSSIAN = SMOOTHINGS["gaussian"]
WORST, NOISE, RADIUS = GAUSSIAN.worst, GAUSSIAN.noise, GAUSSIAN.radius
GRID = DeterministicSplitting(0.8, levels=8)

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]
Check = Callable[[], Any]


def altered(patch: Patch, owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Change what a function returns."""
    real = getattr(owner, name)
    patch.setattr(owner, name, lambda *given, **named: change(real(*given, **named)))


# Draws


def selection_draws_reused(patch: Patch) -> None:
    reused = SimpleNamespace(
        SELECTION=Stream.SELECTION, ESTIMATION=Stream.SELECTION, PILOT=Stream.PILOT
    )
    patch.setattr(certification, "Stream", reused)


def blocks_repeat_the_first(patch: Patch) -> None:
    real = noise_bank.block_generator
    patch.setattr(
        noise_bank,
        "block_generator",
        lambda seed, stream, block, *, row=b"": real(seed, stream, 0, row=row),
    )


def own_noise_is_shared(patch: Patch) -> None:
    """All inputs get one bank although each was to have its own."""
    patch.setattr("randsmooth.voting.row_key", lambda x: noise_bank.SHARED)


def noise_narrower_than_stated(patch: Patch) -> None:
    patch.setattr(Gaussian, "draw_factor", property(lambda noise: 0.8 * noise.scale))


def grid_noise_narrower_than_stated(patch: Patch) -> None:
    real = DiscreteGaussian.fill_standard

    def narrower(noise: Any, out: Any, generator: Any) -> None:
        real(noise, out, generator)
        np.trunc(0.8 * out, out=out)

    patch.setattr(DiscreteGaussian, "fill_standard", narrower)


def splitting_wider_cells(patch: Patch) -> None:
    patch.setattr(Splitting, "draw_factor", property(lambda noise: 2.6 * noise.scale))


def flips_rarer_than_stated(patch: Patch) -> None:
    real = Flips.fill_standard

    def rarer(noise: Any, out: Any, generator: Any) -> None:
        real(noise, out, generator)
        out[...] = np.minimum(out * 4, 2**24 - 1)

    patch.setattr(Flips, "fill_standard", rarer)


# Levels


def alpha_spent_twice(patch: Patch) -> None:
    """The label and the runner-up get all of alpha each."""
    real = multinomial.top_class_interval

    def twice(counts: Any, label: Any, *, alpha: float, runner_up: bool = True) -> Any:
        p_lower, _ = real(counts, label, alpha=alpha, runner_up=False)
        trials = counts.sum(axis=1)
        others = np.arange(counts.shape[1]) != label[:, np.newaxis]
        rival = np.max(counts, axis=1, where=others, initial=0)
        p_upper = clopper_pearson_upper(rival, trials, alpha=alpha)
        return p_lower, np.minimum(p_upper, 1 - p_lower)

    patch.setattr(from_counts, "top_class_interval", twice)


def two_sided_used_as_one_sided(patch: Patch) -> None:
    """The lower end of an interval at level alpha on either side."""
    for module in (multinomial, top_k):
        for name, real in (
            ("clopper_pearson_lower", clopper_pearson_lower),
            ("clopper_pearson_upper", clopper_pearson_upper),
        ):
            patch.setattr(
                module,
                name,
                lambda hits, trials, *, alpha, real=real: real(hits, trials, alpha=2 * alpha),
            )


def approximate_interval(patch: Patch) -> None:
    """The normal approximation, whose level is not kept for small samples."""

    def normal_lower(hits: Any, trials: Any, *, alpha: float) -> Any:
        share = np.asarray(hits) / trials
        lower = share - 1.2816 * np.sqrt(share * (1 - share) / trials)
        return np.clip(lower, 0, 1 - 1e-9)

    patch.setattr(multinomial, "clopper_pearson_lower", normal_lower)


def every_look_at_full_alpha(patch: Patch) -> None:
    """A fixed-sample bound at each look, as if it were the only one."""

    def naive(p0: Any, alpha: float, n_max: int) -> NestedTests:
        looks = np.asarray(geometric_looks(n_max))
        upper = np.empty((len(p0), len(looks)), dtype=np.int64)
        for k, n in enumerate(looks.tolist()):
            lower = clopper_pearson_lower(np.arange(n + 1), n, alpha=alpha)
            upper[:, k] = [(lower <= p).sum() for p in p0]
        last = np.maximum.accumulate(upper, axis=0)
        give_up = np.where(np.arange(len(looks)) == len(looks) - 1, last - 1, -1)
        return NestedTests(np.asarray(p0), looks, last, give_up, np.full(len(p0), alpha))

    patch.setattr(certification, "sequential_tests", naive)


def abstention_at_four_times_alpha(patch: Patch) -> None:
    altered(patch, sentinel, "binomial_test", lambda p_value: p_value / 4)


# Geometry


def rounding_upward(patch: Patch) -> None:
    def raised(radius: Any, input_error: Any, numerical_error: Any, *, tolerance: float) -> Any:
        usable = (radius > 0) & np.isfinite(radius)
        return np.where(usable, np.nextafter(radius + numerical_error, np.inf), radius)

    patch.setattr(quantiles, "rounded_down", raised)


def scale_rounded_upward(patch: Patch) -> None:
    """Everything to nearest, and one step up for good measure."""
    patch.setattr(quantiles, "rounded_down", lambda radius, *_, tolerance: radius)
    patch.setattr(
        gaussian, "scaled_down", lambda _, scale, unit: np.nextafter(scale * unit, np.inf)
    )


def radius_of_twice_the_margin(patch: Patch) -> None:
    """The denominator of the radius with a runner-up is forgotten."""
    patch.setattr(gaussian, "scaled_down", lambda _, scale, unit: 2 * scale * unit)


def exact_radius_one_step_too_large(patch: Patch) -> None:
    step = 1 / GRID.levels
    altered(patch, DeterministicSplitting, "exact_radius", lambda radius: radius + step)


def ties_not_counted(patch: Patch) -> None:
    """Of equal votes the class that comes first wins, which the count of steps forgets."""

    def careless(votes: Any, winner: Any) -> Any:
        lead = np.take_along_axis(votes, winner, axis=-1) - votes
        classes = np.arange(votes.shape[-1])
        return np.where(classes == winner, 1 << 40, lead // 2).min(axis=-1)

    patch.setattr(splitting_bounds, "_steps", careless)


def splitting_radius_too_large(patch: Patch) -> None:
    altered(patch, Splitting, "certified_radius", lambda radius: 1.25 * radius)


def box_radius_too_large(patch: Patch) -> None:
    """By the share that a box is worth where one of two coordinates cannot move."""
    real = box_uniform_radius
    patch.setattr(
        engine_checks,
        "box_uniform_radius",
        lambda *p, X, **rest: real(*p, X=X * [1.0, 0.5] + [0.0, 0.25], **rest),
    )


def l0_radius_one_too_large(patch: Patch) -> None:
    for kind in (Ablation, Flips):
        altered(patch, kind, "certified_radius", lambda radius: radius + 1)


def top_two_radius_too_large(patch: Patch) -> None:
    altered(patch, top_k, "top_k_radius", lambda radius: 1.4 * radius)


# Further statements


def half_the_margin_of_a_band(patch: Patch) -> None:
    altered(patch, distribution, "dkw_margin", lambda margin: margin / 2)


def shift_forgotten(patch: Patch) -> None:
    """The confidence at the input itself is taken for that anywhere within the radius."""
    real = confidence.ConfidenceCertificates.lower_bound
    patch.setattr(
        confidence.ConfidenceCertificates,
        "lower_bound",
        lambda record, radius, *, method="cdf": real(record, 0 * radius, method=method),
    )


def estimates_taken_for_bounds(patch: Patch) -> None:
    """The accuracy that was observed under attack, without allowance for the sample."""
    for name in ("mean_lower", "mean_upper"):
        patch.setattr(accuracy_evidence, name, lambda samples, **_: float(np.mean(samples)))


def plain_entropy(patch: Patch) -> None:
    """The entropy of the vote shares, as it is usually estimated: too small on average."""

    def plugged_in(votes: Any) -> Any:
        return np.exp(-stats.entropy(votes, axis=1))

    patch.setattr(dataset_checks, "deflated_exp_entropy", plugged_in)


def half_the_margin_of_a_curve(patch: Patch) -> None:
    altered(patch, dataset_level, "dkw_margin", lambda margin: margin / 2)


def invalid_certificates_forgotten(patch: Patch) -> None:
    """The interval is that of the observed share alone."""
    real = dataset_level.certified_accuracy_interval
    patch.setattr(
        dataset_level,
        "certified_accuracy_interval",
        lambda *counts, certificate_alpha, **rest: real(*counts, certificate_alpha=0.0, **rest),
    )


def shared_noise_taken_for_own(patch: Patch) -> None:
    for name in ("certified_accuracy_interval", "n_invalid_upper"):
        real = getattr(dataset_level, name)
        patch.setattr(
            dataset_level,
            name,
            lambda *counts, common_noise=True, real=real, **rest: real(
                *counts, common_noise=False, **rest
            ),
        )


CASES: list[tuple[Mutant, Check]] = [
    (selection_draws_reused, lambda: check_near_ties(WORST, NOISE, n_selection=200)),
    (
        selection_draws_reused,
        lambda: check_near_ties(WORST, NOISE, n_inputs=6000, **two_stages()),
    ),
    (blocks_repeat_the_first, lambda: check_certificates(WORST, NOISE, **long_runs())),
    (own_noise_is_shared, lambda: check_failures_are_apart(WORST, NOISE)),
    (noise_narrower_than_stated, lambda: check_certificates(WORST, NOISE)),
    (grid_noise_narrower_than_stated, lambda: check_smoothing("discrete_gaussian")),
    (splitting_wider_cells, lambda: check_smoothing("splitting")),
    (flips_rarer_than_stated, lambda: check_rows_of_a_table(*table("flips"), n_seeds=8)),
    (alpha_spent_twice, lambda: check_all_votes(NOISE, RADIUS)),
    (two_sided_used_as_one_sided, lambda: check_all_votes(NOISE, RADIUS, bound="binary")),
    (two_sided_used_as_one_sided, lambda: check_all_votes(NOISE, RADIUS, bound="auto")),
    (two_sided_used_as_one_sided, lambda: check_all_pilots(NOISE, RADIUS)),
    (
        two_sided_used_as_one_sided,
        lambda: check_certificates(WORST, NOISE, bound="binary", n_inputs=6000),
    ),
    (approximate_interval, lambda: check_all_votes(NOISE, RADIUS, bound="binary")),
    (every_look_at_full_alpha, lambda: check_all_paths(NOISE, RADIUS, [0.0, 0.4])),
    (every_look_at_full_alpha, lambda: check_just_short_of_a_radius(WORST, NOISE)),
    (abstention_at_four_times_alpha, lambda: check_all_predictions()),
    (abstention_at_four_times_alpha, lambda: check_predictions(WORST, NOISE)),
    (rounding_upward, lambda: check_rounding("gaussian")),
    (rounding_upward, lambda: check_rounding("laplace")),
    (scale_rounded_upward, lambda: check_rounding("gaussian")),
    (radius_of_twice_the_margin, lambda: check_all_votes(NOISE, RADIUS)),
    (exact_radius_one_step_too_large, lambda: check_outcomes(GRID)),
    (ties_not_counted, lambda: check_outcomes(GRID)),
    (splitting_radius_too_large, lambda: check_smoothing("splitting")),
    (l0_radius_one_too_large, lambda: check_rows(*ON_ROWS["ablation"])),
    (l0_radius_one_too_large, lambda: check_rows(*ON_ROWS["flips"])),
    (top_two_radius_too_large, lambda: check_all_top_k(NOISE, WORST.law)),
    (box_radius_too_large, lambda: check_box()),
    (half_the_margin_of_a_band, lambda: check_confidence(NOISE, WORST)),
    (shift_forgotten, lambda: check_confidence(NOISE, WORST)),
    (estimates_taken_for_bounds, lambda: check_accuracy_gap(bound="tight", delta=0.05)),
    (plain_entropy, lambda: check_agreement()),
    (half_the_margin_of_a_curve, lambda: check_whole_curve()),
    (invalid_certificates_forgotten, lambda: check_own_noise(200)),
    (shared_noise_taken_for_own, lambda: check_shared_noise(200, certificate_alpha=0.02)),
    (shared_noise_taken_for_own, lambda: check_number_of_invalid()),
]
NAMED = pytest.mark.parametrize(
    ("mutant", "check"),
    CASES,
    ids=[f"{i}-{mutant.__name__}" for i, (mutant, _) in enumerate(CASES)],
)


@NAMED
def test_a_broken_variant_is_caught(
    mutant: Mutant, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=r"fail|above the exact"):
        check()


def check_smoothing(name: str) -> float:
    one = SMOOTHINGS[name]
    return check_certificates(one.worst, one.noise)


def table(name: str) -> tuple[Any, Any]:
    noise, world = ON_ROWS[name]
    return world, noise


def long_runs() -> dict[str, int]:
    """More draws than a block holds, which is 1024 of small inputs."""
    return {"n_estimation": 16 * 1024, "n_inputs": 400}


def two_stages() -> dict[str, Any]:
    """As many draws for the label as the plan makes for inputs that are nearly tied."""
    return {"n_selection": 100, "n_estimation": TwoStage(n_max=300, n_pilot=50)}
