"""Crews on this machine: nobody else, threads, or processes."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from randsmooth.crews.crew import WorkerLostError
from randsmooth.crews.shipping import count_shipped, packed_counter

__all__ = ["Alone", "Processes", "Threads", "visible_devices"]

Counter = Callable[..., Any]

# For glibc: memory of a batch is kept for the next one. It would be handed back to the system, and
# to have its pages anew took a worker a seventh of its time.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

_LOOK = 1.0  # seconds between two looks at whether the parent is there


class Alone:
    """The process itself, which counts a block when it is asked for it."""

    n_workers = 1
    n_tries = 1

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._blocks: dict[int, Any] = {}
        self._n_given = 0

    def submit(self, X: Any) -> int:
        """Hand over a block; see `Crew`."""
        self._n_given += 1
        self._blocks[self._n_given] = X
        return self._n_given

    def finished(self, tickets: Collection[int]) -> list[int]:
        """Wait for blocks; see `Crew`."""
        return [min(tickets)]

    def result(self, ticket: int) -> Any:
        """Return the votes for a block; see `Crew`."""
        return self._counter(self._blocks.pop(ticket))

    def close(self) -> None:
        """Let everything go; see `Crew`."""
        self._blocks.clear()


class _Executing:
    """What crews have in common whose workers give futures."""

    n_tries = 3

    def finished(self, tickets: Collection[Future[Any]]) -> list[Future[Any]]:
        """Wait for blocks; see `Crew`."""
        return list(wait(tickets, return_when=FIRST_COMPLETED).done)


class Threads(_Executing):
    """Threads of this process, with one thread of torch each."""

    def __init__(self, counter: Counter, n_workers: int) -> None:
        self.n_workers = n_workers
        self._counter, self._stop = counter, Event()
        self._torch_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # two levels of threads would fight over the cores
        self._pool = ThreadPoolExecutor(n_workers)

    def submit(self, X: Any) -> Future[Any]:
        """Hand over a block; see `Crew`."""
        return self._pool.submit(self._counter, X, self._stop)

    def result(self, ticket: Future[Any]) -> Any:
        """Return the votes for a block; see `Crew`."""
        return ticket.result()

    def close(self) -> None:
        """Let everything go; see `Crew`."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._torch_threads)


class Processes(_Executing):
    """Processes of this machine, which read the model from a file once each.

    Each is a pool of its own: one that dies takes no block of the others with it, and each can have
    a GPU that no other sees.
    """

    def __init__(
        self, counter: Counter, n_workers: int, devices: Sequence[str | None] = ()
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="randsmooth-")
        name, content = packed_counter(counter)
        cargo = Path(self._folder.name) / name
        cargo.write_bytes(content)
        places = list(devices)[:n_workers] or [None] * n_workers
        self._processes = [_Process(name, cargo, device) for device in places]
        self.n_workers = len(places)
        self._at: dict[Future[Any], _Process] = {}

    def submit(self, X: Any) -> Future[Any]:
        """Hand over a block; see `Crew`."""
        process = min(self._processes, key=lambda process: len(process.given))
        ticket = process.submit(X)
        self._at[ticket] = process
        return ticket

    def result(self, ticket: Future[Any]) -> Any:
        """Return the votes for a block; see `Crew`."""
        return self._at.pop(ticket).result(ticket)

    def close(self) -> None:
        """Let everything go; see `Crew`."""
        for process in self._processes:
            process.dismiss(kill=not all(ticket.done() for ticket in process.given))
        self._folder.cleanup()


class _Process:
    """One process, started when it is first needed, and anew after it died."""

    def __init__(self, name: str, cargo: Path, device: str | None) -> None:
        self._name, self._cargo = name, cargo
        self._env = {name: value for name, value in _MEMORY.items() if name not in os.environ}
        if device is not None:
            self._env["CUDA_VISIBLE_DEVICES"] = device
        self._pool: Any = None
        self.given: set[Future[Any]] = set()

    def submit(self, X: Any) -> Future[Any]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1,
                env=self._env,
                initializer=leave_with,
                initargs=(os.getpid(), str(self._cargo.parent)),
            )
        try:
            ticket: Future[Any] = self._pool.submit(count_shipped, self._name, str(self._cargo), X)
        except BrokenProcessPool as error:  # it broke a moment ago: whoever waits will hear of it
            ticket = Future()
            ticket.set_exception(error)
        self.given.add(ticket)
        return ticket

    def result(self, ticket: Future[Any]) -> Any:
        self.given.discard(ticket)
        try:
            return ticket.result()
        except BrokenProcessPool as error:
            if not self.given:  # what it still had is lost with it, and is not to meet a new one
                self.dismiss(kill=True)
            raise WorkerLostError("a worker process died") from error

    def dismiss(self, *, kill: bool) -> None:
        """End the process; one that is at work is killed, another goes by itself."""
        pool, self._pool = self._pool, None
        self.given.clear()
        if pool is not None:
            pool.shutdown(wait=True, kill_workers=kill)


def leave_with(parent: int, folder: str) -> None:
    """End this process soon after its parent, however that ended, with what it has left.

    Parameters
    ----------
    parent : int
        Number of the process that started this one.

    folder : str
        What to remove then.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def visible_devices() -> list[str]:
    """Return the GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them.

    Returns
    -------
    list of str
        Their names, none where there is no GPU.
    """
    n_devices = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(n_devices)] if named is None else named.split(",")
    return names[:n_devices]
