"""Other people's certification loops, driven as their authors wrote them.

Nothing of their code is kept here. The toolbox is used where it is installed; the reference loop is
loaded from a checkout. Both count votes inside their public `certify`; those counts are noted on
the way, so that a test can tell whether the tools do the same work.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from measuring import Cost, timed, torch_threads

PEERS = ("reference loop", "ART")
PUBLISHED_BATCH = 400  # of the reference loop, in the runs that were published with it
AS_PUBLISHED = f"reference loop, batch {PUBLISHED_BATCH}"
BATCH_SIZES = (16, 64, 256, 400, 1000)
N_SELECTION = 100
ALPHA = 0.001


@dataclass(frozen=True)
class Setting:
    """How a peer is run."""

    batch_size: int
    n_threads: int

    def __str__(self) -> str:
        """Return the setting in words."""
        threads = "1 thread" if self.n_threads == 1 else f"{self.n_threads} threads"
        return f"batch {self.batch_size}, {threads}"


class Peer(Protocol):
    """A tool that certifies images, and tells the estimation votes that it counted."""

    name: str

    def certify(self, X: NDArray[np.float32], n: int, batch_size: int) -> NDArray[np.int64]: ...


class ReferenceLoop:
    """`Smooth.certify` of Cohen et al. (2019), from the file `core.py` of their repository."""

    name = PEERS[0]

    def __init__(
        self, core: ModuleType, network: nn.Module, n_classes: int, sigma: float, device: str
    ) -> None:
        self.device = device
        self.smooth = core.Smooth(network, n_classes, sigma)
        self.counts: list[NDArray[Any]] = []
        self.smooth._sample_noise = _noted(self.smooth._sample_noise, self.counts)

    def certify(self, X: NDArray[np.float32], n: int, batch_size: int) -> NDArray[np.int64]:
        self.counts.clear()
        for x in torch.from_numpy(X).to(self.device):
            self.smooth.certify(x, N_SELECTION, n, ALPHA, batch_size)
        return np.array(self.counts[1::2]).astype(np.int64)


class Toolbox:
    """The randomized smoothing of the adversarial-robustness-toolbox."""

    name = PEERS[1]

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        n_classes: int,
        sigma: float,
        device: str,
    ) -> None:
        from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

        self.smooth = PyTorchRandomizedSmoothing(
            model=network,
            loss=nn.CrossEntropyLoss(),
            input_shape=shape,
            nb_classes=n_classes,
            preprocessing=(0, 1),
            device_type="cpu" if device == "cpu" else "gpu",
            sample_size=N_SELECTION,
            scale=sigma,
            alpha=ALPHA,
        )
        self.counts: list[NDArray[Any]] = []
        self.smooth._prediction_counts = _noted(self.smooth._prediction_counts, self.counts)

    def certify(self, X: NDArray[np.float32], n: int, batch_size: int) -> NDArray[np.int64]:
        self.counts.clear()
        self.smooth.certify(X, n, batch_size=batch_size)
        return np.array(self.counts[1::2]).astype(np.int64)


def _noted(count: Callable[..., NDArray[Any]], notes: list[NDArray[Any]]) -> Callable[..., Any]:
    """Return the same function, which also notes what it returned."""

    def run(*args: Any, **kwargs: Any) -> NDArray[Any]:
        counts = count(*args, **kwargs)
        notes.append(counts)
        return counts

    return run


def reference_core(path: Path, device: str) -> ModuleType:
    """Load the reference loop, changed where it cannot run otherwise.

    `scipy.stats.binom_test` left SciPy and is imported as `binomtest` (certification does not call
    it), and the device "cuda", which is written into the code, becomes the device of the run.
    """
    source = path.read_text(encoding="utf-8")
    for old, new in (
        ("import norm, binom_test", "import norm, binomtest as binom_test"),
        ("device='cuda'", f"device={device!r}"),
    ):
        if source.count(old) != 1:
            raise ValueError(f"--cohen must be the published core.py, which has {old!r} once.")
        source = source.replace(old, new)
    module = ModuleType("core")
    exec(compile(source, "core.py", "exec"), module.__dict__)
    return module


def absent(cohen: Path | None) -> dict[str, str]:
    """Return which peers cannot be run, and why."""
    missing = {}
    if cohen is None:
        missing[ReferenceLoop.name] = "no checkout was given by --cohen"
    elif importlib.util.find_spec("statsmodels") is None:
        missing[ReferenceLoop.name] = "statsmodels, which it imports, is not installed"
    for package in ("statsmodels", "art"):
        if importlib.util.find_spec(package) is None:
            missing[Toolbox.name] = f"{package} is not installed"
    return missing


def present(
    cohen: Path | None,
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    sigma: float,
    n_classes: int = 10,
    device: str = "cpu",
) -> list[Peer]:
    """Return the peers that can be run, around one and the same network."""
    peers: list[Peer] = []
    missing = absent(cohen)
    if cohen is not None and ReferenceLoop.name not in missing:
        core = reference_core(cohen, device)
        peers.append(ReferenceLoop(core, network, n_classes, sigma, device))
    if Toolbox.name not in missing:
        peers.append(Toolbox(network, shape, n_classes, sigma, device))
    return peers


Tried = dict[Setting, Cost]


def try_settings(
    peer: Peer,
    X: NDArray[np.float32],
    n: int,
    *,
    batch_sizes: Iterable[int],
    n_threads: Iterable[int],
    rounds: int = 2,
) -> Tried:
    """Run a peer with every batch size and number of threads; return its lowest cost in each."""
    settings = [
        Setting(size, threads) for threads in sorted(set(n_threads)) for size in batch_sizes
    ]
    tried: Tried = {}
    for _ in range(rounds):
        for setting in settings:
            with torch_threads(setting.n_threads):
                cost = timed(partial(peer.certify, X, n, setting.batch_size))
            best = tried.get(setting, cost)
            tried[setting] = Cost(min(best.cpu, cost.cpu), min(best.wall, cost.wall))
    return tried


def fastest(tried: Tried) -> list[Setting]:
    """Return the best setting by the processor, and the one by the clock if it is another."""
    by_processor = min(tried, key=lambda setting: tried[setting].cpu)
    by_clock = min(tried, key=lambda setting: tried[setting].wall)
    return list(dict.fromkeys((by_processor, by_clock)))


def chosen_settings(peer: Peer, tried: Tried) -> list[tuple[str, Setting]]:
    """Return a peer's best settings, two where the clocks disagree on it, by name.

    The reference loop comes once more with the batches of its published runs.
    """
    chosen = [(peer.name, setting) for setting in fastest(tried)]
    if peer.name == ReferenceLoop.name:
        usual = {one: cost for one, cost in tried.items() if one.batch_size == PUBLISHED_BATCH}
        chosen += [(AS_PUBLISHED, setting) for setting in fastest(usual)]
    return chosen
