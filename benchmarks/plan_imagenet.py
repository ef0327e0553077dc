"""How many GPU-hours certifying ImageNet takes, from published logs.

The times in a log say how many passes a second its GPU made, its radii how clear the images are;
from both follows what other settings would take for all 50,000 images. Writes a table to
``docs/results``. The logs of ResNet-50 by Cohen et al. (2019) lie in the repository
locuslab/smoothing, under ``data/certify/imagenet/resnet50/noise_SIGMA/test/sigma_SIGMA``::

    python benchmarks/plan_imagenet.py --logs 0.25=FILE 0.5=FILE 1=FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import norm

from randsmooth import CertificationLog, estimate_cost, read_log
from tables import rest_table, write_page

N_IMAGES, N_IN_LOG = 50_000, 100_100
RADII = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
ALPHA = 0.001


def leading_shares(log: CertificationLog, sigma: float) -> np.ndarray:
    """Return how probable the leading class of each image is, at least; 1/2 where it abstained."""
    return np.where(log.label == -1, 0.5, norm.cdf(log.radius / sigma))


def row(sigma: float, log: CertificationLog) -> list[str]:
    """Return hours for all images, by setting, at the speed of the log's own GPU."""
    throughput = N_IN_LOG / np.median(log.seconds)
    shares = leading_shares(log, sigma)
    questions = [[radius] for radius in RADII[:3] if radius < 3 * sigma]
    questions.append([radius for radius in RADII if radius < 3.8 * sigma])
    hours = [
        estimate_cost(N_IMAGES, throughput, n_estimation=n).worker_hours for n in (100_000, 10_000)
    ]
    early = {
        len(radii) == 1 and radii[0]: estimate_cost(
            N_IMAGES, throughput, radii=radii, p_top=shares, sigma=sigma, alpha=ALPHA
        )
        for radii in questions
    }
    cells = [early.get(radius) for radius in (*RADII[:3], False)]
    return [
        f"{sigma:g}",
        f"{len(log.radius)}",
        f"{throughput:,.0f}",
        *(f"{h:,.0f}" for h in hours),
        *("" if c is None else f"{c.worker_hours:,.0f} ({c.draws_per_input:,.0f})" for c in cells),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--logs", nargs="+", required=True, metavar="SIGMA=FILE")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    pairs = [given.split("=", 1) for given in args.logs]
    rows = [row(float(sigma), read_log(Path(path))) for sigma, path in pairs]
    header = ["sigma", "images in the log", "passes a second", "n = 100,000", "n = 10,000"]
    header += [f"radius {radius:g}" for radius in RADII[:3]]
    header += [f"all of {', '.join(f'{radius:g}' for radius in RADII)} below 3.8 sigma"]
    write_page(
        args.output / "plan_imagenet.rst",
        "What ImageNet takes",
        "Made by ``python benchmarks/plan_imagenet.py --logs 0.25=FILE 0.5=FILE 1=FILE`` from the "
        "logs of ResNet-50 by Cohen et al. (2019; repository locuslab/smoothing). GPU-hours for "
        f"all {N_IMAGES:,} test images at the speed of the log, whose median image of {N_IN_LOG:,} "
        "draws is divided by; the logs do not say which GPU it was.",
        "The first two columns of hours make a fixed number of draws for each image. The others "
        f"decide about given radii one look at a time, alpha = {ALPHA}, at most 100,000 draws, "
        "with the mean draws of an image in brackets. They are simulated for images as clear as "
        "those of the log, where an image that it could not certify counts as a tie. Hours are "
        "inversely proportional to the speed: `randsmooth.estimate_cost` takes that of your own "
        "GPU.",
        rest_table(header, rows),
    )


if __name__ == "__main__":
    main()
