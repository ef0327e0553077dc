"""The part of `throughput` that measures torch networks on the CPU."""

from __future__ import annotations

import copy
import inspect
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from torch import nn

from measuring import Cost, Run, interleave, side_by_side, timed, torch_threads
from peers import (
    ALPHA,
    AS_PUBLISHED,
    BATCH_SIZES,
    N_SELECTION,
    PEERS,
    Peer,
    Setting,
    Tried,
    chosen_settings,
    present,
    try_settings,
)
from randsmooth import SmoothedClassifier
from randsmooth.models import CIFARNet, MNISTNet

SIGMA, N_CLASSES = 0.5, 10
MATRIX_SIZE, N_PRODUCTS = 2048, 5  # for each worker
PLAIN, COMPILED, WITHOUT_SHORTCUTS = (
    "randsmooth", "randsmooth, compiled", "randsmooth, without shortcuts",
)  # fmt: skip
BESIDE = (PEERS[0], AS_PUBLISHED, PEERS[1])
_WARM_UP = 10**6  # stands where a round has its number


@dataclass(frozen=True)
class Case:
    """A network, and how much of it is certified."""

    name: str
    network: nn.Module
    shape: tuple[int, ...]
    n_inputs: int
    n_draws: int
    n_searched: int = 1  # inputs in the search for a peer's setting

    @property
    def inputs(self) -> NDArray[np.float32]:
        return np.random.default_rng(0).random((self.n_inputs, *self.shape), dtype=np.float32)

    @property
    def n_searched_draws(self) -> int:
        return min(self.n_draws, max(BATCH_SIZES))

    @property
    def n_rows(self) -> int:
        return self.n_inputs * (self.n_draws + N_SELECTION)


def cases() -> list[Case]:
    """Return the networks, with random weights."""
    torch.manual_seed(0)
    perceptron = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip
    small = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 10),
    )  # fmt: skip
    tried = [
        Case("perceptron 784-128-128-10", perceptron, (1, 28, 28), 30, 10_000, n_searched=4),
        Case("two convolutions, 8 x 8", small, (1, 8, 8), 30, 5_000, n_searched=4),
        Case("MNISTNet, 28 x 28", MNISTNet(), (1, 28, 28), 8, 1_000),
        Case("CIFARNet, 32 x 32", CIFARNet(), (3, 32, 32), 2, 1_000),
    ]
    for case in tried:
        make_undecided(case.network.eval(), case.inputs)
    return tried


def make_undecided(network: nn.Module, X: NDArray[np.float32]) -> None:
    """Shift the last biases so that noise changes the class: else all votes would be equal."""
    rows = torch.from_numpy(X).repeat_interleave(50, 0)
    with torch.no_grad():
        *_, bias = network.parameters()
        bias -= network(rows + SIGMA * torch.randn_like(rows)).mean(0)


def variants() -> dict[str, dict[str, Any]]:
    """Return the ways to run randsmooth that the installed version of it has."""
    known = inspect.signature(SmoothedClassifier).parameters
    ways: dict[str, dict[str, Any]] = {PLAIN: {}}
    if "compile" in known and shutil.which("g++"):  # which torch compiles with
        ways[COMPILED] = {"compile": True}
    if "shortcuts" in known:
        ways[WITHOUT_SHORTCUTS] = {"shortcuts": False}
    return ways


def smoothed(case: Case, n_jobs: int, options: dict[str, Any]) -> SmoothedClassifier:
    clf = SmoothedClassifier(
        FrozenEstimator(case.network),
        SIGMA,
        bound="binary",
        n_selection=N_SELECTION,
        n_estimation=case.n_draws,
        alpha=ALPHA,
        n_jobs=n_jobs,
        random_state=0,
        **options,
    )
    y = np.arange(2 * N_CLASSES) % N_CLASSES
    return clf.fit(np.zeros((len(y), *case.shape), dtype=np.float32), y)


@dataclass
class Result:
    """What was measured of one network."""

    case: Case
    n_jobs: int
    own: list[Run]
    others: list[Run]
    searches: dict[str, Tried]  # of each peer
    first_calls: dict[str, float]  # seconds of the first call of each way to run randsmooth
    product: Run  # of large matrices
    alone: Run | None  # of the network alone on as many rows; None where the engine hides it
    batch: int | None  # rows of its batches

    def best(self, tool: str) -> list[Cost]:
        """Return what a peer needed in each round, by each clock in its better setting."""
        settings = [run.costs for run in self.others if run.tool == tool]
        return [
            Cost(min(cost.cpu for cost in costs), min(cost.wall for cost in costs))
            for costs in zip(*settings, strict=True)
        ]


def own_runs(case: Case, n_jobs: int) -> tuple[list[Run], dict[str, float]]:
    """Return the ways to run randsmooth, and the seconds of each one's first call."""
    runs, first_calls = [], {}
    for tool, options in variants().items():
        clf = smoothed(case, n_jobs, options)

        def certify(number: int, clf: SmoothedClassifier = clf) -> NDArray[np.int64]:
            # Another bank of noise each time, so that nothing is left over from before.
            return clf.certificates(case.inputs, noise_seed=number).counts

        run = Run(tool, certify, f"n_jobs={n_jobs}")
        first_calls[tool] = timed(lambda run=run: run(_WARM_UP)).wall
        runs.append(run)
    return runs, first_calls


def search(case: Case, peer: Peer, n_jobs: int) -> Tried:
    """Try the settings of a peer on some of the draws."""
    X = case.inputs[: case.n_searched]
    return try_settings(
        peer, X, case.n_searched_draws, batch_sizes=BATCH_SIZES, n_threads=(1, n_jobs)
    )


def peer_runs(case: Case, peer: Peer, tried: Tried) -> list[Run]:
    """Return a peer in each of the chosen settings."""
    runs = []
    for tool, setting in chosen_settings(peer, tried):

        def certify(number: int, setting: Setting = setting) -> NDArray[np.int64]:
            with torch_threads(setting.n_threads):
                return peer.certify(case.inputs, case.n_draws, setting.batch_size)

        runs.append(Run(tool, certify, str(setting)))
    return runs


def batch_seen(case: Case, n_jobs: int) -> tuple[nn.Module, torch.Tensor] | None:
    """Return the network and a batch as the engine puts them together, None where it hides them.

    The engine may keep a copy of the network in another memory layout: a hook goes along with it.
    """
    watched = replace(case, network=copy.deepcopy(case.network))
    seen: dict[tuple[Any, ...], int] = {}
    modules: dict[int, nn.Module] = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        if type(args[0]) is torch.Tensor:
            key = (id(module), args[0].shape, args[0].stride())
            seen[key] = seen.get(key, 0) + len(args[0])
            modules[id(module)] = module

    watched.network.register_forward_pre_hook(note)
    smoothed(watched, n_jobs, variants().get(WITHOUT_SHORTCUTS, {})).certificates(case.inputs)
    if not seen:
        return None
    key, shape, strides = max(seen, key=seen.__getitem__)
    modules[key]._forward_pre_hooks.clear()
    return modules[key], torch.empty_strided(shape, strides).normal_()


def forward(network: nn.Module, rows: torch.Tensor) -> None:
    with torch.inference_mode():
        network(rows)


def measured(case: Case, cohen: Path | None, n_jobs: int, rounds: int) -> Result:
    """Find the peers' best settings, warm everything up, and time all in turn."""
    own, first_calls = own_runs(case, n_jobs)
    others: list[Run] = []
    searches = {}
    for peer in present(cohen, case.network, case.shape, sigma=SIGMA):
        searches[peer.name] = search(case, peer, n_jobs)
        others += peer_runs(case, peer, searches[peer.name])
    square = torch.rand(MATRIX_SIZE, MATRIX_SIZE)
    multiply = partial(torch.matmul, square, square)
    product = Run("matrix product", lambda _: side_by_side(multiply, N_PRODUCTS * n_jobs, n_jobs))
    alone, batch = None, None
    if (seen := batch_seen(case, n_jobs)) is not None:
        batch = len(seen[1])
        pass_ = partial(forward, *seen)
        n_batches = -(-case.n_rows // batch)
        alone = Run("network alone", lambda _: side_by_side(pass_, n_batches, n_jobs))
    interleave([*own, *others, product, *([alone] if alone else [])], rounds)
    return Result(case, n_jobs, own, others, searches, first_calls, product, alone, batch)
