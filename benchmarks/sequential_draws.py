"""How many draws sequential certification takes, and what it costs in certified accuracy.

Class probabilities are inferred from published logs of 100,000 draws per input, and votes are drawn
from them anew: no network is needed. Each log is named with the scale of its noise and, where it is
not 0.001, the failure probability at which its radii were made::

    python benchmarks/sequential_draws.py 0.12=LOG.tsv 0.25:0.01=LOG.tsv 0.5:0.01=LOG.tsv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, ndtr
from scipy.stats import beta, binom

from randsmooth import read_log
from randsmooth.bounds import neyman_pearson_radius
from randsmooth.intervals import GroupSequentialTest, clopper_pearson_lower, sequential_tests
from tables import rest_table, write_page

ALPHA, N_MAX = 0.001, 100_000
RUNS = 40  # simulated runs over all inputs of a log
GIVE_UP = 0.03  # what the rivals may lose by giving up, as the group-sequential test does
STAGES = (100, 1_000, 10_000, 120_000)
CORNER = ((0.25, 0.25), (0.25, 0.5), (0.25, 0.75), (0.5, 0.25), (0.5, 0.5), (0.5, 0.75))
ABSTAINING = {"uniform on [0.2, 0.5]": (0.2, 0.5), "uniform on [0.4, 0.5]": (0.4, 0.5)}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """What a log tells of its inputs: the probability of the label, where it does not abstain."""

    sigma: float
    p: Floats
    p_lower: Floats
    abstained: NDArray[np.bool_]
    correct: NDArray[np.bool_]

    @classmethod
    def read(cls, path: str, sigma: float, alpha: float) -> Log:
        log = read_log(path)
        votes = np.arange(N_MAX // 2, N_MAX + 1)
        lower = clopper_pearson_lower(votes, N_MAX, alpha=alpha)
        radii = neyman_pearson_radius(lower, sigma=sigma)
        nearest = np.searchsorted((radii[1:] + radii[:-1]) / 2, log.radius)
        p, p_lower = votes[nearest] / N_MAX, lower[nearest]
        return cls(sigma, p, p_lower, log.label == -1, log.correct)

    def probabilities(self, abstaining: tuple[float, float] = (0.2, 0.5)) -> Floats:
        """Put those of which nothing is known evenly into an interval."""
        p = self.p.copy()
        p[self.abstained] = np.linspace(*abstaining, int(self.abstained.sum()))
        return p

    @property
    def radii(self) -> list[float]:
        """The radii of the usual tables that some outcome certifies."""
        step = 0.25 if self.sigma >= 0.2 else 0.125
        largest = neyman_pearson_radius(ALPHA ** (1 / N_MAX), sigma=self.sigma)
        return np.arange(0.0, float(largest), step).tolist()


def fixed_power(p: Floats, p0: float) -> Floats:
    """Probability that the Clopper-Pearson bound from all draws is above p0."""
    votes = np.arange(N_MAX + 1)
    enough = np.searchsorted(clopper_pearson_lower(votes, N_MAX, alpha=ALPHA), p0, side="right")
    power: Floats = binom.sf(enough - 1, N_MAX, p)
    return power


def four_stages(p: Floats, p0: float, rng: np.random.Generator) -> Ints:
    """Draws of four stages at a quarter of alpha each, every stage with fresh draws."""
    n_draws, active = np.zeros(len(p), dtype=np.int64), np.arange(len(p))
    for n in STAGES:
        count = rng.binomial(n, p[active])
        n_draws[active] += n
        claimed = clopper_pearson_lower(count, n, alpha=ALPHA / len(STAGES)) > p0
        upper = beta.isf(GIVE_UP / (len(STAGES) - 1), count + 1, n - count)
        active = active[~claimed & (np.where(count == n, 1.0, upper) >= p0)]
    return n_draws


def betting(p: Floats, p0: float, rng: np.random.Generator) -> Ints:
    """Draws of a betting confidence sequence, looked at every 1 % or every draw.

    The wealth is the likelihood under a Beta(1/2, 1/2) mixture (the predictions of Krichevsky and
    Trofimov) relative to p0. It proves p > p0 when it reaches 1 / alpha with a share above p0, and
    gives up when it reaches 1 / GIVE_UP with a share below.
    """
    looks = np.unique(np.geomspace(1, N_MAX, 1157).round().astype(int))
    n_draws, count = np.zeros(len(p), dtype=np.int64), np.zeros(len(p), dtype=np.int64)
    active, before = np.arange(len(p)), 0
    for n in looks.tolist():
        count[active] += rng.binomial(n - before, p[active])
        n_draws[active], before = n, n
        hits = count[active]
        log_wealth = betaln(hits + 0.5, n - hits + 0.5) - betaln(0.5, 0.5)
        log_wealth -= hits * np.log(p0) + (n - hits) * np.log1p(-p0)
        threshold = np.where(hits > n * p0, np.log(1 / ALPHA), np.log(1 / GIVE_UP))
        active = active[log_wealth < threshold]
    return n_draws


@dataclass(frozen=True)
class Cell:
    """One radius of one log."""

    sigma: float
    radius: float
    sequential: float  # mean draws, exact for these probabilities
    median: float
    accuracy: tuple[float, float]  # certified accuracy, fixed and sequential
    stages: float
    bets: float

    @classmethod
    def of(cls, log: Log, radius: float, rng: np.random.Generator) -> Cell:
        p, p0 = log.probabilities(), float(ndtr(radius / log.sigma))
        test = GroupSequentialTest(p0, ALPHA, N_MAX)
        n_draws, _ = sequential_tests([p0], ALPHA, N_MAX).simulate(np.tile(p, RUNS), rng)
        return cls(
            log.sigma,
            radius,
            float(test.expected_draws(p).mean()),
            float(np.median(n_draws)),
            (
                float((fixed_power(p, p0) * log.correct).mean()),
                float((test.power(p) * log.correct).mean()),
            ),
            float(four_stages(np.tile(p, RUNS // 2), p0, rng).mean()),
            float(betting(np.tile(p, RUNS // 2), p0, rng).mean()),
        )

    def row(self) -> list[str]:
        return [
            f"{self.sigma:g}",
            f"{self.radius:g}",
            f"{self.sequential:,.0f}",
            f"{self.median:,.0f}",
            f"{N_MAX / self.sequential:.1f}",
            f"{self.stages:,.0f} ({self.stages / self.sequential:.2f})",
            f"{self.bets:,.0f} ({self.bets / self.sequential:.2f})",
            " / ".join(f"{100 * share:.2f}" for share in self.accuracy),
        ]


def whole_table(log: Log, rng: np.random.Generator) -> list[str]:
    """All radii of a log at once, for one alpha."""
    p0 = ndtr(np.array(log.radii) / log.sigma)
    p = log.probabilities()
    n_draws, claimed = sequential_tests(p0, ALPHA, N_MAX).simulate(np.tile(p, (5 * RUNS, 1)), rng)
    fixed = [100 * (fixed_power(p, q) * log.correct).mean() for q in p0]
    shares = [100 * ((claimed > j) & log.correct).mean() for j in range(len(p0))]
    return [
        f"{log.sigma:g}",
        f"0 to {log.radii[-1]:g} in {len(p0)}",
        f"{n_draws.mean():,.0f}",
        f"{np.median(n_draws):,.0f}",
        f"{N_MAX / n_draws.mean():.1f}",
        ", ".join(f"{f:.1f} / {s:.1f}" for f, s in zip(fixed, shares, strict=True)),
        f"{max(f - s for f, s in zip(fixed, shares, strict=True)):.2f}",
    ]


def sensitivity(logs: Sequence[Log], rng: np.random.Generator) -> list[list[str]]:
    """Vary what is assumed of abstaining inputs, and the inference for the others."""
    models = {name: [log.probabilities(ends) for log in logs] for name, ends in ABSTAINING.items()}
    models["as above, others at their lower bound"] = [
        np.where(log.abstained, log.probabilities(), log.p_lower) for log in logs
    ]
    rows = []
    for name, probabilities in models.items():
        means, tables = [], []
        for log, p in zip(logs, probabilities, strict=True):
            for sigma, radius in CORNER:
                if sigma == log.sigma:
                    test = GroupSequentialTest(float(ndtr(radius / sigma)), ALPHA, N_MAX)
                    means.append(float(test.expected_draws(p).mean()))
            tests = sequential_tests(ndtr(np.array(log.radii) / log.sigma), ALPHA, N_MAX)
            n_draws, _ = tests.simulate(np.tile(p, RUNS), rng)
            tables.append(f"{N_MAX / n_draws.mean():.1f}")
        single = f"{N_MAX / np.mean(means):.1f}" if means else ""
        rows.append([name, single, ", ".join(tables)])
    return rows


def levels() -> list[list[str]]:
    """Return what is claimed up to p0, by summing over all paths."""
    rows = []
    for p0 in (0.5, float(np.nextafter(0.5, 1)), 0.7, 0.84, 0.93, 0.977, 0.99, 0.99865, 0.9999):
        test = GroupSequentialTest(p0, ALPHA, N_MAX)
        below = test.claim_probability(p0 * np.array([1.0, 0.9999, 0.999, 0.99, 0.9]))
        rows.append([f"{p0}", f"{test.level:.3e}", *[f"{share:.3e}" for share in below]])
    return rows


def averages(cells: Sequence[Cell]) -> str:
    """Both averages over sigma 0.25 and 0.5 and radius 0.25, 0.5 and 0.75."""
    means = [cell.sequential for cell in cells if (cell.sigma, cell.radius) in CORNER]
    if len(means) < len(CORNER):
        return ""
    return (
        f"Over sigma 0.25 and 0.5 and radius 0.25, 0.5 and 0.75 together, that is "
        f"**{N_MAX / np.mean(means):.1f} times** fewer draws by the ratio of the mean draws, and "
        f"{np.mean(N_MAX / np.array(means)):.1f} times by the mean of the ratios."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("logs", nargs="+", metavar="SIGMA[:ALPHA]=LOG")
    rng = np.random.default_rng(0)
    logs, names = [], []
    for argument in parser.parse_args().logs:
        setting, _, path = argument.partition("=")
        sigma, _, alpha = setting.partition(":")
        logs.append(Log.read(path, float(sigma), float(alpha or ALPHA)))
        names.append(f"{setting}={Path(path).name}")
    cells = [Cell.of(log, radius, rng) for log in logs for radius in log.radii]
    largest_loss = max(cell.accuracy[0] - cell.accuracy[1] for cell in cells)
    write_page(
        Path("docs/results/sequential_draws.rst"),
        "Draws of sequential certification",
        f"Made by ``python benchmarks/sequential_draws.py {' '.join(names)}``. The probability of "
        f"each label is inferred from its radius in these published logs, and votes are drawn from "
        f"it anew, at a failure probability of {ALPHA:g} with at most {N_MAX:,} draws. Inputs on "
        f"which the log abstains get probabilities spread evenly over [0.2, 0.5]. No network is "
        f"run; wrongly classified inputs cost draws too. Certified accuracies are in per cent, "
        f"*fixed / sequential*: fixed is the Clopper-Pearson bound from {N_MAX:,} draws.",
        "One radius\n----------",
        f"Mean draws and certified accuracies of the group-sequential test are exact for these "
        f"probabilities, everything else is simulated. *Four stages* of {STAGES[0]:,}, "
        f"{STAGES[1]:,}, {STAGES[2]:,} and {STAGES[3]:,} fresh draws have a quarter of alpha each, "
        f"after Horváth et al. (2022). *Betting* is the confidence sequence of the "
        f"Krichevsky-Trofimov mixture at 1/alpha, the threshold that is proved, looked at after "
        f"every draw up to 100 and then every one per cent. Giving up costs no alpha, so that both "
        f"may lose {100 * GIVE_UP:g} points of power by it, as the group-sequential test may, and "
        f"not the 0.01 points of the published four stages. In brackets: times the draws of the "
        f"group-sequential test.",
        rest_table(
            [
                "sigma",
                "radius",
                "mean draws",
                "median",
                "times fewer than fixed",
                "four stages, mean",
                "betting, mean",
                "certified accuracy",
            ],
            [cell.row() for cell in cells],
        ),
        averages(cells),
        f"The largest loss of certified accuracy at any radius is {100 * largest_loss:.2f} points.",
        "All radii of a table at once\n----------------------------",
        f"One alpha covers all radii of a row. Simulated {5 * RUNS} times.",
        rest_table(
            [
                "sigma",
                "radii",
                "mean draws",
                "median",
                "times fewer than fixed",
                "certified accuracy at each radius",
                "largest loss, points",
            ],
            [whole_table(log, rng) for log in logs],
        ),
        "What is not known of the inputs\n-------------------------------",
        "Times fewer draws than fixed, under other assumptions on the probabilities.",
        rest_table(
            [
                "abstaining inputs",
                "one radius, sigma 0.25 and 0.5, radius 0.25, 0.5, 0.75",
                "all radii, sigma " + ", ".join(f"{log.sigma:g}" for log in logs),
            ],
            sensitivity(logs, rng),
        ),
        "The level\n---------",
        f"Probability of ever claiming that p exceeds p0, by summing over all paths of {N_MAX:,} "
        f"draws, with the bound that the test itself reports; alpha is {ALPHA:g}.",
        rest_table(
            ["p0", "bound", "p = p0", "0.9999 p0", "0.999 p0", "0.99 p0", "0.9 p0"], levels()
        ),
    )


if __name__ == "__main__":
    main()
