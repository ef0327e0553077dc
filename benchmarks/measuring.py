"""What side-by-side benchmarks share: interleaved timing, ratios, two-sample tests, the machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import fisher_exact
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

N_CORES: int = joblib.cpu_count()


@dataclass(frozen=True)
class Cost:
    """Seconds of one run: of the processor, summed over threads, and on the clock."""

    cpu: float
    wall: float


def timed(run: Callable[[], object]) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


@dataclass
class Run:
    """Something to be timed, which is handed the number of the round."""

    tool: str
    action: Callable[[int], Any]
    setting: str = ""
    result: Any = None  # of the last round
    costs: list[Cost] = field(default_factory=list)

    def __call__(self, number: int) -> None:
        self.result = self.action(number)

    @property
    def cpu(self) -> list[float]:
        return [cost.cpu for cost in self.costs]

    @property
    def wall(self) -> list[float]:
        return [cost.wall for cost in self.costs]


def interleave(runs: Sequence[Run], rounds: int) -> None:
    """Time every run once a round, back and forth, so that a busy moment hits all alike."""
    for number in range(rounds):
        for run in runs[:: -1 if number % 2 else 1]:
            run.costs.append(timed(partial(run, number)))


def spread(values: Sequence[float]) -> str:
    """Return the median and the quartiles, to three digits."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{digits(median)} [{digits(low)}, {digits(high)}]"


def digits(value: float) -> str:
    """Return three significant digits without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def ratios(slower: Sequence[float], faster: Sequence[float]) -> str:
    """Return how many times more the one costs than the other, round by round."""
    return spread([one / other for one, other in zip(slower, faster, strict=True)])


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Set torch's threads within an operation, and restore them."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(run: Callable[[], object], n_times: int, n_jobs: int) -> None:
    """Call a function `n_times`, spread over threads with one torch thread each."""
    with torch_threads(1):
        joblib.Parallel(n_jobs=n_jobs, prefer="threads")(
            joblib.delayed(_repeated)(run, len(share))
            for share in np.array_split(np.arange(n_times), n_jobs)
        )


def _repeated(run: Callable[[], object], n_times: int) -> None:
    for _ in range(n_times):
        run()


def flops(network: nn.Module, row: torch.Tensor) -> int:
    """Return the floating-point operations of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(row)
    return counter.get_total_flops()


def votes_differ(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> float:
    """Return the p-value of "some input's top class is voted for at another rate".

    Fisher's exact test of each input on the votes for the class that leads in `ours`, with
    Bonferroni's correction for the number of inputs.
    """
    p_values = [
        float(fisher_exact([[one[k], one.sum() - one[k]], [other[k], other.sum() - other[k]]])[1])
        for one, other, k in zip(ours, theirs, ours.argmax(axis=1), strict=True)
    ]
    return min(1.0, len(p_values) * min(p_values))


def machine() -> str:
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{N_CORES} cores ({platform.machine()}, torch uses {vectors})"


def versions(*packages: str) -> str:
    """Return the versions of Python and of the packages that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
