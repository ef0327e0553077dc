"""Certified confidence: published logs recomputed from themselves, and the speed of its bounds.

::

    python benchmarks/reproduce_confidence.py FOLDER

``FOLDER`` holds the logs published by Kumar et al. 2020, each named for its measure (``score`` or
``margin``) and its noise: ``..._score_sigma_0.25.tsv``.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randsmooth.bounds.confidence import (
    distribution_confidence_lower,
    distribution_confidence_radius,
)
from randsmooth.confidence_logs import ConfidenceLog, mean_bound_agreement, read_confidence_log
from tables import rest_table, write_page

LOGS = Path(__file__).resolve().parents[2] / "shared" / "reference" / "published"
RANGES = {"score": (0.0, 1.0), "margin": (-1.0, 1.0)}
LEVELS = {"score": (0.5, 0.7), "margin": (0.0, 0.5)}
METHODS = {"cdf": "distribution", "mean": "mean"}
N_DRAWS, ALPHA, SIGMA = 100_000, 0.001, 0.25
N_INPUTS, THRESHOLDS = 100_000, (100, 1_000)
RADII = np.arange(7) / 4
# Certified accuracy by (measure, sigma, threshold, method), tabulated from the same logs by other
# code: rows marked correct whose bound exceeds the threshold, of all rows.
TABULATED = {
    ("score", 0.25, 0.5, "cdf"): ".708 .542 .336 0 0 0",
    ("score", 0.25, 0.5, "mean"): ".708 .450 .230 0 0 0",
    ("score", 0.5, 0.5, "cdf"): ".534 .428 .342 .244 .146 .014",
    ("score", 0.5, 0.5, "mean"): ".534 .374 .244 .140 .070 .008",
    ("margin", 0.25, 0.0, "cdf"): ".754 .586 .356 0 0 0",
    ("margin", 0.25, 0.0, "mean"): ".754 .476 .246 0 0 0",
    ("margin", 0.5, 0.0, "cdf"): ".656 .536 .404 .288 .160 .016",
    ("margin", 0.5, 0.0, "mean"): ".656 .426 .272 .156 .078 .008",
    ("score", 0.25, 0.7, "cdf"): ".556 .414 0",
    ("score", 0.25, 0.7, "mean"): ".556 .336 0",
}


def logs_in(folder: Path) -> list[tuple[str, float, ConfidenceLog, str]]:
    """Measure, scale of the noise, log and file name of every CIFAR-10 log in a folder."""
    logs = []
    for path in sorted(folder.glob("kumar2020_cifar10_*.tsv")):
        match = re.search(r"(score|margin)_sigma_(\d+\.\d+)\.tsv$", path.name)
        if match:
            logs.append((match[1], float(match[2]), read_confidence_log(path), path.name))
    return logs


def accuracy_rows(logs: list[tuple[str, float, ConfidenceLog, str]]) -> list[list[str]]:
    rows = []
    for measure, sigma, log, _ in logs:
        for level in LEVELS[measure]:
            for method, name in METHODS.items():
                shares = log.certified_accuracy(level, method=method)
                known = TABULATED.get((measure, sigma, level, method), "").split()
                pairs = zip(known, shares, strict=False)
                n_same = sum(f"{float(a):.3f}" == f"{b:.3f}" for a, b in pairs)
                note = f"{n_same} of {len(known)}" if known else ""
                setting = measure, f"{sigma:g}", f"{level:g}", name
                rows.append([*setting, *(f"{share:.3f}" for share in shares), note])
    return rows


def agreement_rows(logs: list[tuple[str, float, ConfidenceLog, str]]) -> list[list[str]]:
    rows = []
    for measure, sigma, log, name in logs:
        low, high = RANGES[measure]
        agrees = mean_bound_agreement(log, sigma=sigma, low=low, high=high)[:, log.radii > 0]
        numbers = (len(log), log.abstained.sum(), agrees.size, agrees.sum())
        rows.append([f"``{name}``", *(f"{number:,}" for number in numbers)])
    return rows


def counts_of(n_thresholds: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return counts of scores that are powers of uniform variables, from unsure to certain."""
    thresholds = np.arange(1, n_thresholds + 1) / n_thresholds
    exponent = np.exp(np.random.default_rng(0).uniform(-1.0, 4.0, (N_INPUTS, 1)))
    return (N_DRAWS * (1 - thresholds**exponent)).astype(np.int32), thresholds


def cpu_seconds(run: Callable[..., object], *arguments: object) -> str:
    started = time.process_time()
    run(*arguments, alpha=ALPHA, sigma=SIGMA)
    return f"{time.process_time() - started:.1f}"


def speed_row(n_thresholds: int) -> list[str]:
    scores = (*counts_of(n_thresholds), N_DRAWS)
    curves = cpu_seconds(distribution_confidence_lower, *scores, RADII)
    return [f"{n_thresholds:,}", curves, cpu_seconds(distribution_confidence_radius, *scores, 0.5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=LOGS, metavar="FOLDER")
    arguments = parser.parse_args()
    logs = logs_in(arguments.folder)
    if not logs:
        parser.error(f"{arguments.folder} must hold logs named kumar2020_cifar10_*.tsv, got none.")
    radii = [f"R = {radius:g}" for radius in logs[0][2].radii]
    write_page(
        Path("docs/results/certified_confidence.rst"),
        "Certified confidence",
        f"Made by ``python benchmarks/reproduce_confidence.py FOLDER`` from the logs of "
        f"{N_DRAWS:,} draws per input that were published with Kumar et al. 2020.",
        "**Certified accuracy at a confidence**: the share of inputs whose label is right and "
        "whose bound at the radius exceeds the threshold, abstentions included among the inputs. "
        "Bounds come from the distribution of the scores or from their mean. The last column "
        "counts the values that agree, to three decimals, with a table made from the same logs by "
        "other code; it is empty where that has no such row.",
        rest_table(
            ["measure", "sigma", "threshold", "bound from the", *radii, "as tabulated"],
            accuracy_rows(logs),
        ),
        "**Bounds from the mean, recomputed.** Every one at a positive radius follows from the one "
        "at radius 0. It is right if some number that rounds to the logged bound at radius 0, to "
        "its three digits, leads to one that rounds to the logged bound.",
        rest_table(
            ["log", "inputs", "of which abstained", "bounds recomputed", "right"],
            agreement_rows(logs),
        ),
        f"**Speed.** {N_INPUTS:,} inputs with {N_DRAWS:,} scores each, counted at thresholds: "
        f"their bounds from the distribution at {len(RADII)} radii (one curve each), and the "
        f"radius at which each falls to 0.5. One core, process time; the seconds are this "
        f"machine's.",
        rest_table(
            ["thresholds", "seconds for all curves", "seconds for all radii"],
            map(speed_row, THRESHOLDS),
        ),
    )


if __name__ == "__main__":
    main()
