"""Which bound on the accuracy lost to an attack is closest, and what a finite test set costs.

Class probabilities are made up and votes are drawn from them: no network is needed::

    python benchmarks/accuracy_bounds.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from randsmooth.bounds.accuracy import (
    accuracy_gap_from_counts,
    collision_gap,
    entropy_gap,
    gaussian_total_variation,
    laplace_total_variation,
)
from randsmooth.bounds.divergences import gaussian_divergence, laplace_divergence
from randsmooth.bounds.shifts import gaussian_probability_lower, laplace_probability_lower
from tables import rest_table, write_page

N_CLASSES, DELTA = 10, 0.001
ATTACKS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
PROBABILITIES = (1.0, 0.999, 0.99, 0.9, 0.7)
SHARES = (0.3, 0.3, 0.2, 0.15, 0.05)
SIZES = ((1_000, 1_000), (10_000, 1_000), (10_000, 10_000))
ESTIMATES = ("hoeffding", "bernstein", "betting")
STUDIED_ATTACK = 0.1
TITLES = {
    "tight": "tight",
    "total_variation": "total variation",
    "collision": "collisions",
    "entropy": "entropy",
}


@dataclass(frozen=True)
class StudiedNoise:
    """A noise of scale 1."""

    name: str
    order: float
    distance: Callable[..., NDArray[np.float64]]
    divergence: Callable[..., NDArray[np.float64]]
    left: Callable[..., NDArray[np.float64]]

    def gaps(self, p: NDArray[np.float64], attack: float) -> dict[str, float]:
        """Return each gap for one input, with the true class in the first column."""
        gaps = {
            "tight": p[0] - float(self.left(p[0], attack)),
            "total_variation": float(self.distance(attack)),
        }
        if self.order == np.inf:
            gaps["collision"] = float(
                collision_gap((p**2).sum(), self.divergence(attack, order=np.inf))
            )
        exp_entropy = min(float(np.exp(xlogy(p, p).sum())), 1.0)
        return gaps | {"entropy": float(entropy_gap(exp_entropy, self.divergence(attack)))}


GAUSSIAN = StudiedNoise(
    "Gaussian",
    1.0,
    partial(gaussian_total_variation, sigma=1.0),
    partial(gaussian_divergence, sigma=1.0),
    partial(gaussian_probability_lower, sigma=1.0),
)
LAPLACE = StudiedNoise(
    "Laplace",
    np.inf,
    partial(laplace_total_variation, scale=1.0),
    partial(laplace_divergence, scale=1.0),
    partial(laplace_probability_lower, scale=1.0),
)


def probabilities(top: float) -> NDArray[np.float64]:
    """Return class probabilities whose rest is shared equally."""
    return np.array([top] + [(1 - top) / (N_CLASSES - 1)] * (N_CLASSES - 1))


def population_table(noise: StudiedNoise) -> str:
    rows = []
    names = list(noise.gaps(probabilities(0.9), 0.1))
    for attack in ATTACKS:
        for top in PROBABILITIES:
            p = probabilities(top)
            gaps = noise.gaps(p, attack)
            rest = {name: gap for name, gap in gaps.items() if name != "tight"}
            rows.append(
                [
                    f"{attack:g}",
                    f"{top:g}",
                    f"{-xlogy(p, p).sum() + 0.0:.3f}",
                    *(f"{gaps[name]:.4f}" for name in names),
                    TITLES[min(gaps, key=gaps.__getitem__)],
                    TITLES[min(rest, key=rest.__getitem__)],
                ]
            )
    columns = ["attack", "p", "H, nats", *(TITLES[name] for name in names)]
    return f"{noise.name} noise.\n\n" + rest_table(
        [*columns, "closest", "closest without the tight form"], rows
    )


def finite_table(noise: StudiedNoise) -> str:
    """Return the bounds from votes on inputs most of which are nearly certain."""
    rng = np.random.default_rng(0)
    rows = []
    for n_inputs, n_draws in SIZES:
        top = rng.choice(PROBABILITIES, n_inputs, p=SHARES)
        p = np.stack([probabilities(one) for one in top])
        votes, anchors = rng.multinomial(n_draws, p), rng.multinomial(n_draws, p)
        population = [noise.gaps(row, STUDIED_ATTACK) for row in map(probabilities, PROBABILITIES)]
        tight = np.dot(SHARES, [gaps["tight"] for gaps in population])
        rows.append(
            ["all", "all", "none: population"]
            + [
                f"{np.dot(SHARES, [gaps[name] for gaps in population]):.4f}"
                for name in population[0]
            ]
            + [f"{np.dot(SHARES, PROBABILITIES) - tight:.4f}", ""]
        )
        for estimate in ESTIMATES:
            record = accuracy_gap_from_counts(
                votes,
                anchors,
                np.zeros(n_inputs, dtype=int),
                attack=STUDIED_ATTACK,
                delta=DELTA,
                divergence=float(noise.divergence(STUDIED_ATTACK)),
                max_divergence=(
                    float(noise.divergence(STUDIED_ATTACK, order=np.inf))
                    if noise.order == np.inf
                    else None
                ),
                total_variation=float(noise.distance(STUDIED_ATTACK)),
                probability_lower=noise.left,
                estimate=estimate,
            )
            rows.append(
                [
                    f"{n_inputs:,}",
                    f"{n_draws:,}",
                    estimate,
                    *(f"{gap:.4f}" for gap in record.gaps.values()),
                    f"{record.accuracy:.4f}",
                    TITLES[record.bound],
                ]
            )
    unique = [row for i, row in enumerate(rows) if row not in rows[:i]]
    columns = ["inputs", "draws", "estimate", *(TITLES[name] for name in record.gaps)]
    return f"{noise.name} noise.\n\n" + rest_table(
        [*columns, "accuracy under attack, at least", "auto takes"], unique
    )


def main() -> None:
    write_page(
        Path("docs/results/accuracy_bounds.rst"),
        "Bounds on accuracy under attack",
        "Made by ``python benchmarks/accuracy_bounds.py``. The classifier answers with one noisy "
        "vote. Each table has bounds on the accuracy that an attack can take from it. The noise "
        "has scale 1, so that the attack is in units of its standard deviation (Gaussian, l2) or "
        f"scale (Laplace, l1). There are {N_CLASSES} classes; the true one has probability p, and "
        "the others share the rest equally, which is the largest entropy (in nats) for this p.",
        "Probabilities known\n-------------------",
        "What the bounds say of inputs that all have the same, known probabilities. *Closest "
        "without the tight form* is what is left where only a divergence and the total variation "
        "distance of the noise are known, as for noise at an inner layer.",
        population_table(GAUSSIAN),
        population_table(LAPLACE),
        "From votes on a test set\n------------------------",
        f"The same for an attack of {STUDIED_ATTACK:g} on inputs of which 30 % are certain, 30 % "
        "have p = 0.999, 20 % 0.99, 15 % 0.9 and 5 % 0.7, from independent votes on a test set. "
        f"Each gap holds with probability {1 - DELTA:g} on its own. The last columns are of the "
        'bounds that hold together, with the choice left to ``bound="auto"``.',
        finite_table(GAUSSIAN),
        finite_table(LAPLACE),
    )


if __name__ == "__main__":
    main()
