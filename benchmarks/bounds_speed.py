"""Speed and tightness of the bounds on a million pairs of probabilities.

::

    python benchmarks/bounds_speed.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randsmooth.bounds import neyman_pearson_radius, pixeldp_radius, renyi_radius
from tables import rest_table, write_page

N_PAIRS = 10**6


def published_grid(p1: NDArray[np.float64], p2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rényi radius for sigma 1 on the grid of 100 orders that the paper's code searches."""
    best = np.zeros_like(p1)
    for order in np.linspace(1.01, 2.0, 100):
        mean = ((p1 ** (1 - order) + p2 ** (1 - order)) / 2) ** (1 / (1 - order))
        np.maximum(best, -2 / order * np.log(1 - p1 - p2 + 2 * mean), out=best)
    return np.sqrt(best)


def cpu_seconds(radius: Callable[[], NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
    started = time.process_time()
    radii = radius()
    return time.process_time() - started, radii


def main() -> None:
    rng = np.random.default_rng(0)
    p1 = rng.uniform(0.3, 0.99999, N_PAIRS)
    p2 = np.minimum(p1, 1 - p1) * rng.uniform(0.01, 0.99, N_PAIRS)
    grid_seconds, grid = cpu_seconds(lambda: published_grid(p1, p2))
    rows = [["Rényi, published grid of 100 orders", f"{grid_seconds:.2f}", "1.0", ""]]
    for name, radius in (
        ("renyi_radius", renyi_radius),
        ("neyman_pearson_radius", neyman_pearson_radius),
        ("pixeldp_radius", pixeldp_radius),
    ):
        seconds, radii = cpu_seconds(lambda radius=radius: radius(p1, p2, sigma=1.0))
        gain = f"{np.max(radii / grid) - 1:.2e}" if name == "renyi_radius" else ""
        rows.append([name, f"{seconds:.2f}", f"{grid_seconds / seconds:.1f}", gain])
    write_page(
        Path("docs/results/bounds_speed.rst"),
        "Speed of the bounds",
        f"Made by ``python benchmarks/bounds_speed.py``: {N_PAIRS:,} random pairs, one core, "
        "process time. The ratios are side by side; the seconds are this machine's.",
        rest_table(
            ["function", "seconds", "speed relative to the grid", "largest gain over the grid"],
            rows,
        ),
    )


if __name__ == "__main__":
    main()
