"""What a certificate costs, side by side with other people's tools in one run.

::

    python benchmarks/throughput.py --cohen path/to/smoothing/code/core.py

Peers that are not there are named as absent: the adversarial-robustness-toolbox counts where it is
installed (the extra ``bench``), the reference loop of Cohen et al. where their file is given.
``--gpu`` measures large networks on a GPU instead. ``--quick`` rehearses with a tenth of the draws
and writes no page.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import throughput_gpu
import throughput_sklearn
from measuring import N_CORES, machine, versions
from peers import BATCH_SIZES, N_SELECTION, PUBLISHED_BATCH, absent
from tables import write_page
from throughput_networks import cases, measured
from throughput_tables import cost_table, ratio_table, section

PACKAGES = (
    "randsmooth", "torch", "numpy", "scipy", "scikit-learn", "adversarial-robustness-toolbox",
    "statsmodels",
)  # fmt: skip


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--cohen", type=Path, help="file core.py of the repository locuslab/smoothing"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=N_CORES, help="workers, and cores in use")
    parser.add_argument(
        "--only", nargs="+", default=None, help="words in the names of the networks"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws, and no page")
    parser.add_argument("--gpu", action="store_true", help="large networks on a GPU, and no others")
    return parser.parse_args()


def networks(args: argparse.Namespace) -> list[str]:
    """Measure the networks, and return the parts of the page about them."""
    results = []
    for case in cases():
        if args.only is None or any(word.lower() in case.name.lower() for word in args.only):
            print(f"measuring {case.name}", flush=True)
            fewer = replace(case, n_draws=case.n_draws // (10 if args.quick else 1))
            results.append(measured(fewer, args.cohen, args.jobs, args.rounds))
            print(ratio_table(results[-1:]), cost_table(results[-1:]), sep="\n", flush=True)
    return section(results)


def introduction(args: argparse.Namespace, command: str) -> list[str]:
    """Return what was run, where, and what was changed in the peers."""
    missing = [f"*{name}* is absent here: {why}." for name, why in absent(args.cohen).items()]
    return [
        f"Made by ``{command}`` on {machine()}; {versions(*PACKAGES)}. All tools run in turn, "
        f"{args.rounds} rounds, in float32, on the same network object with random weights, and "
        f"certify the same inputs from {N_SELECTION} selection draws and the same number of "
        "estimation draws. "
        "Ratios travel from machine to machine better than times do.",
        "*randsmooth* runs through its public interface, ``SmoothedClassifier(FrozenEstimator("
        'network), bound="binary", n_jobs=...).certificates(X)``, with everything else at its '
        "defaults, and other noise in each round.",
        "*ART* is the released adversarial-robustness-toolbox, "
        "``PyTorchRandomizedSmoothing.certify``, with ``sample_size=100`` and ``preprocessing=(0, "
        "1)``. *Reference loop* is ``Smooth.certify`` in the file ``core.py`` that Cohen et al. "
        "published, changed in two places without which it does not run: its import of "
        "``scipy.stats.binom_test``, which SciPy no longer has, is taken from ``binomtest``, and "
        "the device ``cuda`` that is written into it becomes the device of this run. For each of "
        "them, batches of " + ", ".join(map(str, BATCH_SIZES)) + f" rows and 1 or {args.jobs} "
        "threads of torch were tried first; the reference loop stands here once more with batches "
        f"of {PUBLISHED_BATCH}, as in its published runs. Both take one input after the other.",
        *missing,
    ]


def main() -> None:
    args = parsed()
    if args.gpu:
        throughput_gpu.write(args.cohen, args.output, args.only)
        return
    command = "python benchmarks/throughput.py" + (" --cohen core.py" if args.cohen else "")
    parts = [*introduction(args, command), *networks(args)]
    parts += throughput_sklearn.section(args.jobs, args.rounds, 0.1 if args.quick else 1.0)
    if args.quick or args.only:
        print("\n\n".join(parts))
    else:
        write_page(args.output / "throughput.rst", "Throughput beside other tools", *parts)


if __name__ == "__main__":
    main()
