"""Blocks of inputs to a crew: streamed, bounded, and tried again where a worker died."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, Generic, Protocol, TypeVar

import torch
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend

from randsmooth.crews.clusters import Batches, DaskCluster, RayCluster
from randsmooth.crews.crew import Crew, WorkerLostError
from randsmooth.crews.local import Alone, Counter, Processes, Threads, visible_devices

__all__ = ["counted_blocks", "elsewhere", "n_workers"]

_IN_STOCK = 2  # blocks for each worker that are handed over at once, so that none waits


class HasInputs(Protocol):
    """A block: what has inputs to be counted."""

    @property
    def inputs(self) -> Any:
        """The inputs, as the counter takes them."""
        ...


Block = TypeVar("Block", bound=HasInputs)


def counted_blocks(
    counter: Counter,
    blocks: Iterator[Block],
    *,
    n_jobs: int | None,
    device: torch.device,
) -> Generator[tuple[Block, Any], None, None]:
    """Return blocks with their votes, as they get ready.

    A worker that dies costs its block, which is handed over again. Several may be suspected of
    having killed it: they are then tried one at a time, so that the guilty one is found, and given
    up after some tries, while the others are counted.

    Parameters
    ----------
    counter : callable
        What counts: it takes the inputs of a block and returns a dataclass with `errors` by row,
        such as `BlockVotes`.

    blocks : iterator of blocks
        What is to be counted. It is asked for few more than there are workers.

    n_jobs : int or None
        Workers, in joblib's terms: threads, unless a `joblib.parallel_config` says otherwise.

    device : torch.device
        Where the base is. On a GPU, every process of this machine gets one of its own, and so does
        every task of a Ray cluster.

    Yields
    ------
    block : block
        One of the blocks.

    votes : object or WorkerLostError
        What was counted for it, or what became of the worker where it was given up.
    """
    with closing(_crew(counter, n_jobs, device)) as crew:
        dispatch = _Dispatch(crew, blocks)
        while dispatch.hand_over():
            yield from dispatch.ready()


class _Dispatch(Generic[Block]):
    """Which blocks are where."""

    def __init__(self, crew: Crew, blocks: Iterator[Block]) -> None:
        self.crew, self.blocks = crew, blocks
        self.stock = _IN_STOCK * crew.n_workers if crew.n_workers > 1 else 1
        self.waiting: dict[Any, tuple[Block, int]] = {}  # by ticket, with how often it was lost
        self.suspects: deque[tuple[Block, int]] = deque()

    def hand_over(self) -> bool:
        """Give the crew what it has room for, and return whether anything is with it."""
        if self.suspects and not self.waiting:
            self._submit(*self.suspects.popleft())
        while not self.suspects and len(self.waiting) < self.stock:
            block = next(self.blocks, None)
            if block is None:
                break
            self._submit(block, 0)
        return bool(self.waiting)

    def ready(self) -> Iterator[tuple[Block, Any]]:
        """Return what has become ready, some of it at least unless a worker was lost."""
        for ticket in self.crew.finished(self.waiting.keys()):
            block, n_lost = self.waiting.pop(ticket)
            try:
                votes = self.crew.result(ticket)
            except WorkerLostError as error:
                if n_lost + 1 < self.crew.n_tries:
                    self.suspects.append((block, n_lost + 1))
                else:
                    times = "once" if n_lost == 0 else f"{n_lost + 1} times"
                    yield block, WorkerLostError(f"the worker at it died, {times}: {error}")
            else:
                yield block, votes

    def _submit(self, block: Block, n_lost: int) -> None:
        self.waiting[self.crew.submit(block.inputs)] = block, n_lost


def elsewhere() -> bool:
    """Return whether joblib's configuration asks for workers outside this process.

    Returns
    -------
    bool
        Whether workers may die without this process.
    """
    backend, _ = get_active_backend(prefer="threads")
    return not (getattr(backend, "supports_sharedmem", False) or _is_worker(backend))


def n_workers(n_jobs: int | None) -> int:
    """Return how many workers joblib's configuration has.

    Parameters
    ----------
    n_jobs : int or None
        Workers, in joblib's terms.

    Returns
    -------
    int
        Their number; 1 in a task of a cluster, which would wait for workers that wait for it.
    """
    backend, _ = get_active_backend(prefer="threads")
    return 1 if _is_worker(backend) else int(effective_n_jobs(n_jobs))


def _is_worker(backend: Any) -> bool:
    """Return whether this is a task of a Dask cluster, to which joblib hands its own cluster on."""
    if type(backend).__name__ != "DaskDistributedBackend":
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def _crew(counter: Counter, n_jobs: int | None, device: torch.device) -> Crew:
    """Return the crew that joblib's configuration asks for."""
    backend, _ = get_active_backend(prefer="threads")
    kind, n_asked = type(backend).__name__, n_workers(n_jobs)
    if kind == "DaskDistributedBackend" and elsewhere():
        return DaskCluster(counter, backend.client)
    if kind == "RayBackend":
        return RayCluster(counter, n_asked, on_device=device.type == "cuda")
    if n_asked == 1:
        return Alone(counter)
    if kind == "ThreadingBackend":
        return Threads(counter, n_asked)
    if kind == "LokyBackend":
        # A device that was asked for by its number is the one that all of them use.
        own = device.type == "cuda" and not device.index
        return Processes(counter, n_asked, visible_devices() if own else ())
    return Batches(counter, n_asked)
