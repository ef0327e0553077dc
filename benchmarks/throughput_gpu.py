"""The part of `throughput` about large networks on a GPU, beside what the hardware allows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from torch import nn

from measuring import digits, flops, timed, versions
from peers import ALPHA, N_SELECTION, absent, present
from randsmooth import SmoothedClassifier
from randsmooth.models import ResNet50, ResNet110
from tables import rest_table, write_page

SIGMA, N_DRAWS, ROUNDS = 0.5, 100_000, 3
PEER_BATCH_SIZES = (400, 1000)
PACKAGES = ("randsmooth", "torch", "numpy", "adversarial-robustness-toolbox")


@dataclass(frozen=True)
class Case:
    """A network, how much of it is certified, and what others have published."""

    name: str
    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    n_classes: int
    n_inputs: int
    n_draws: int  # per input; seconds are scaled to `N_DRAWS`
    n_peer_draws: int
    published: str


CASES = (
    Case("ResNet110, 32 x 32", ResNet110, (3, 32, 32), 10, 4, 100_000, 10_000,
         "16.9 s (2019), 3.6 s (newer)"),
    Case("ResNet50, 224 x 224", ResNet50, (3, 224, 224), 1000, 2, 20_000, 2_000,
         "151 s (2019), 23 to 59 s (newer)"),
)  # fmt: skip


@dataclass(frozen=True)
class Arithmetic:
    """How the network computes: torch's mode, the type of matrix products, our settings."""

    name: str
    tf32: bool
    dtype: torch.dtype
    options: dict[str, Any]


def arithmetics() -> list[Arithmetic]:
    """Return the ways to compute that the installed version of randsmooth has."""
    known = set(inspect.signature(SmoothedClassifier).parameters)
    low: dict[str, Any] = {"autocast": "bfloat16"}
    wanted = [
        Arithmetic("float32", False, torch.float32, {}),
        Arithmetic("tf32", True, torch.float32, {}),
        Arithmetic("bfloat16", True, torch.bfloat16, low),
        Arithmetic("bfloat16, compiled", True, torch.bfloat16, {**low, "compile": True}),
    ]
    return [one for one in wanted if set(one.options) <= known]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Set whether float32 products and convolutions may use TF32 on the GPU, and restore it."""
    # Compiling fails after the newer `fp32_precision` has been set (torch 2.13).
    modes = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [mode.allow_tf32 for mode in modes]
    for mode in modes:
        mode.allow_tf32 = allowed
    try:
        yield
    finally:
        for mode, old in zip(modes, before, strict=True):
            mode.allow_tf32 = old


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], device: str, rounds: int = ROUNDS) -> float:
    """Return the median seconds on the clock of a run, after one that is not counted."""

    def finished() -> None:
        run()
        synchronise(device)

    finished()
    return float(np.median([timed(finished).wall for _ in range(rounds)]))


def product_speed(dtype: torch.dtype, device: str, size: int = 8192) -> float:
    """Return the operations per second of products of large matrices."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(10):
            left @ right

    return 10 * 2 * size**3 / seconds(multiply, device)


def inputs(case: Case) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((case.n_inputs, *case.shape), dtype=np.float32)


def own_row(case: Case, network: nn.Module, arithmetic: Arithmetic, device: str) -> list[str]:
    """Certify in one arithmetic, and return the row of the table."""
    clf = SmoothedClassifier(
        FrozenEstimator(network), SIGMA, bound="binary", n_selection=N_SELECTION,
        n_estimation=case.n_draws, alpha=ALPHA, device=device, random_state=0,
        **arithmetic.options,
    )  # fmt: skip
    y = np.arange(case.n_classes)
    clf.fit(np.zeros((len(y), *case.shape), dtype=np.float32), y)
    X = inputs(case)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(lambda: clf.certificates(X), device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
    scaled = taken / case.n_inputs * (N_DRAWS + N_SELECTION) / (case.n_draws + N_SELECTION)
    operations = flops(network, torch.zeros((1, *case.shape), device=device))
    floor = operations * (N_DRAWS + N_SELECTION) / product_speed(arithmetic.dtype, device)
    return [case.name, "randsmooth", arithmetic.name, str(case.n_draws), digits(scaled),
            digits(floor), digits(scaled / floor), digits(memory)]  # fmt: skip


def peer_rows(case: Case, network: nn.Module, cohen: Path | None, device: str) -> list[list[str]]:
    """Time the peers on one input, with the better of the usual batch sizes."""
    rows, X = [], inputs(case)[:1]
    for peer in present(
        cohen, network, case.shape, sigma=SIGMA, n_classes=case.n_classes, device=device
    ):
        best = min(
            seconds(partial(peer.certify, X, case.n_peer_draws, size), device, rounds=1)
            for size in PEER_BATCH_SIZES
        )
        scaled = best * (N_DRAWS + N_SELECTION) / (case.n_peer_draws + N_SELECTION)
        rows.append([case.name, peer.name, "float32", str(case.n_peer_draws), digits(scaled),
                     "", "", ""])  # fmt: skip
    return rows


def rows_of(case: Case, cohen: Path | None, device: str) -> list[list[str]]:
    torch.manual_seed(0)
    network = case.network(case.n_classes).eval().to(device)
    rows = []
    for arithmetic in arithmetics():
        with tf32(arithmetic.tf32):
            rows.append(own_row(case, network, arithmetic, device))
        print(rows[-1], flush=True)
    with tf32(False):
        rows += peer_rows(case, network, cohen, device)
    return [*rows, [case.name, "published", "float32", str(N_DRAWS), case.published, "", "", ""]]


def write(cohen: Path | None, output: Path, only: list[str] | None, device: str = "cuda") -> None:
    """Measure on the GPU and write the page, or say that there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--gpu needs a GPU that torch can use.")
    chosen = [case for case in CASES if only is None or any(word in case.name for word in only)]
    table = rest_table(
        ["network", "tool", "arithmetic", "draws timed", "seconds per input", "floor, seconds",
         "times the floor", "GPU memory, GiB"],
        [row for case in chosen for row in rows_of(case, cohen, device)],
    )  # fmt: skip
    if only is not None:
        print(table)
        return
    name = torch.cuda.get_device_name() if device == "cuda" else device
    missing = [f"*{name}* is absent here: {why}." for name, why in absent(cohen).items()]
    write_page(
        output / "throughput_gpu.rst",
        "Throughput on a GPU",
        f"Made by ``python benchmarks/throughput.py --gpu`` on one {name}; "
        f"{versions(*PACKAGES)}. Random weights; the clock, with the device synchronised, median "
        f"of {ROUNDS} runs after a first one that compiles and warms up.",
        f"Seconds are for {N_DRAWS + N_SELECTION} draws an input; where fewer were drawn, they are "
        "scaled, since the cost is proportional to the draws. randsmooth certifies several inputs "
        "together, the peers one after the other. The floor is the network's operations at the "
        "speed of large products of matrices in the same arithmetic, measured beside it. Memory is "
        "the peak of what torch allocated. With bfloat16 the certificate is one of the network "
        "that computes so. The published times are medians of logs for trained networks of the "
        "same architecture, on GPUs that the logs do not name.",
        *missing,
        table,
    )
