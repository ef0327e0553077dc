"""How many draws two-stage estimation takes, and what it costs in certified radius.

Class probabilities are inferred from published logs of 100,000 draws per input, and votes are
drawn from them anew: no network is needed. Each log is named with the scale of its noise, and
``--log-alpha`` is the failure probability at which they were made::

    python benchmarks/two_stage_draws.py --log-alpha 0.01 0.25=LOG.tsv 0.5=LOG.tsv
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randsmooth import Certificates, certify_counts, read_log
from randsmooth.bounds import neyman_pearson_radius
from randsmooth.intervals import clopper_pearson_lower
from randsmooth.noise import Gaussian
from randsmooth.two_stage import TwoStage
from tables import rest_table, write_page

ALPHA, N_MAX, RUNS = 0.001, 100_000, 20
LOSSES, PILOTS = (0.01, 0.02, 0.05), (300, 1_000, 3_000)
SMALL_PILOT, LARGE_PILOT, FEW_DISSENTERS = 300, 3_000, 3
FIXED = (
    2_000,
    5_000,
    10_000,
    15_000,
    20_000,
    30_000,
    40_000,
    50_000,
    60_000,
    70_000,
    80_000,
    90_000,
    N_MAX,
)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a log, once for each run."""

    sigma: float
    p: NDArray[np.float64]
    correct: NDArray[np.bool_]

    def certified(self, n_draws: NDArray[np.int64] | int, rng: np.random.Generator) -> Certificates:
        """Certify all inputs with fresh draws."""
        votes = two_columns(rng.binomial(n_draws, self.p), n_draws)
        selection = np.tile([1, 0], (len(self.p), 1))
        return certify_counts(
            selection, votes, noise=Gaussian(self.sigma), bound="binary", alpha=ALPHA
        )

    def average_radius(self, record: Certificates) -> float:
        return float(np.where(self.correct, record.radius, 0.0).mean())

    def certified_accuracy(self, record: Certificates) -> float:
        return float((self.correct & ~record.abstained).mean())


def two_columns(top: NDArray[np.int64], n_draws: NDArray[np.int64] | int) -> NDArray[np.int64]:
    return np.column_stack([top, n_draws - top])


def inputs_of(path: str, sigma: float, log_alpha: float, rng: np.random.Generator) -> Inputs:
    """Infer the probability of each label from its radius; nothing is known of abstentions."""
    log = read_log(path)
    votes = np.arange(N_MAX // 2, N_MAX + 1)
    lower = clopper_pearson_lower(votes, N_MAX, alpha=log_alpha)
    radii = neyman_pearson_radius(lower, sigma=sigma)
    between = (radii[1:] + radii[:-1]) / 2
    p = votes[np.searchsorted(between, log.radius)] / N_MAX
    abstained = log.label == -1
    p = np.tile(p, RUNS)
    return Inputs(
        sigma,
        np.where(np.tile(abstained, RUNS), rng.uniform(0.25, 0.5, len(p)), p),
        np.tile(log.correct, RUNS),
    )


def pilot_votes(inputs: Inputs, n_pilot: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the votes of a pilot; of one that grows where few dissent, for None."""
    if n_pilot is not None:
        return two_columns(rng.binomial(n_pilot, inputs.p), n_pilot)
    top = rng.binomial(SMALL_PILOT, inputs.p)
    more = rng.binomial(LARGE_PILOT - SMALL_PILOT, inputs.p)
    grows = SMALL_PILOT - top <= FEW_DISSENTERS
    return two_columns(np.where(grows, top + more, top), np.where(grows, LARGE_PILOT, SMALL_PILOT))


def study(inputs: Inputs, rng: np.random.Generator) -> str:
    """Return the table of one log."""
    fixed = [inputs.certified(n, rng) for n in FIXED]
    average = np.array([inputs.average_radius(record) for record in fixed])
    full, accuracy = average[-1], inputs.certified_accuracy(fixed[-1])
    rows = []
    for loss in LOSSES:
        for n_pilot in (*PILOTS, None):
            pilot = pilot_votes(inputs, n_pilot, rng)
            planned = TwoStage(N_MAX, n_pilot or SMALL_PILOT, loss).n_draws(
                pilot,
                np.zeros(len(pilot), dtype=int),
                alpha=ALPHA,
                bound="binary",
                noise=Gaussian(inputs.sigma),
            )
            record = inputs.certified(planned, rng)
            spent = float((planned + pilot.sum(axis=1)).mean())
            kept = inputs.average_radius(record)
            rival = np.exp(np.interp(kept, average, np.log(FIXED)))
            rows.append(
                [
                    f"{loss:g}",
                    "growing" if n_pilot is None else f"{n_pilot:,}",
                    f"{spent:,.0f}",
                    f"{N_MAX / spent:.2f}",
                    f"{100 * kept / full:.1f} %",
                    f"{rival:,.0f} ({rival / spent:.2f})",
                    f"{100 * (inputs.certified_accuracy(record) - accuracy):+.2f}",
                ]
            )
    head = f"Noise of scale {inputs.sigma:g}: average certified radius {full:.4f} and certified "
    head += f"accuracy {100 * accuracy:.1f} % at radius 0 with {N_MAX:,} draws for every input."
    columns = [
        "loss",
        "pilot",
        "mean draws, pilot included",
        f"times fewer than {N_MAX:,}",
        "average radius kept",
        "fixed number that keeps as much (times more)",
        "certified accuracy at radius 0, points",
    ]
    return f"{head}\n\n{rest_table(columns, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("logs", nargs="+", metavar="SIGMA=LOG")
    parser.add_argument("--log-alpha", type=float, default=ALPHA)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    tables, names = [], []
    for pair in arguments.logs:
        sigma, _, path = pair.partition("=")
        names.append(f"{sigma}={Path(path).name}")
        tables.append(study(inputs_of(path, float(sigma), arguments.log_alpha, rng), rng))
    write_page(
        Path("docs/results/two_stage_draws.rst"),
        "Draws of two-stage estimation",
        f"Made by ``python benchmarks/two_stage_draws.py --log-alpha {arguments.log_alpha:g} "
        f"{' '.join(names)}``. The class probabilities of the inputs are inferred from the radii "
        f"in these published logs, and votes are drawn from them {RUNS} times and certified with "
        f"the binary bound at a failure probability of {ALPHA:g}. Inputs on which the log abstains "
        f"get a probability between 1/4 and 1/2 at random. No network is run, and wrongly "
        f"classified inputs cost draws too but have no radius.",
        f"*Average radius kept* is relative to {N_MAX:,} draws for every input. The *fixed number* "
        f"would keep as much if every input had it; in brackets its ratio to the mean draws, which "
        f"is what planning gains. A *growing* pilot has {SMALL_PILOT:,} draws, or {LARGE_PILOT:,} "
        f"where at most {FEW_DISSENTERS} of the first {SMALL_PILOT:,} are for another class.",
        *tables,
    )


if __name__ == "__main__":
    main()
