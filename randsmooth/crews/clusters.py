"""Crews elsewhere: a Dask or a Ray cluster, or whatever else joblib knows."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from joblib import Parallel, delayed

from randsmooth.crews.crew import WorkerLostError
from randsmooth.crews.local import Counter
from randsmooth.crews.shipping import count_shipped, packed_counter
from randsmooth.exceptions import ClusterLostError

__all__ = ["Batches", "DaskCluster", "RayCluster"]

_PATIENCE = 60.0  # seconds without a single worker
_LOOK = 2.0  # seconds between two looks at whether there are any


class DaskCluster:
    """The workers of a Dask cluster.

    Futures are waited for here: joblib's own wait never ends where a task kills every worker.
    """

    n_tries = 3

    def __init__(self, counter: Counter, client: Any) -> None:
        self._client = client
        self._name, self._content = packed_counter(counter)
        self._cargo: Any = None
        self.n_workers = max(1, sum(client.nthreads().values()))
        self._futures: set[Any] = set()

    def submit(self, X: Any) -> Any:
        """Hand over a block; see `Crew`."""
        if self._cargo is None or self._cargo.status != "finished":
            # What was sent is lost with the last worker that has it.
            self._cargo = self._client.scatter(self._content, broadcast=True, hash=False)
        block = self._client.scatter(X, hash=False)
        future = self._client.submit(count_shipped, self._name, self._cargo, block, pure=False)
        self._futures.add(future)
        return future

    def finished(self, tickets: Collection[Any]) -> list[Any]:
        """Wait for blocks; see `Crew`."""
        import distributed

        since = time.monotonic()
        while True:
            # Futures whose inputs were lost with a worker are cancelled, of which it warns loudly.
            with suppress(TimeoutError, distributed.CancelledError):
                wait: Any = distributed.wait
                wait(list(tickets), timeout=_LOOK, return_when="FIRST_COMPLETED")
            done = [ticket for ticket in tickets if ticket.status != "pending"]
            if done:
                return done
            if self._client.nthreads():
                since = time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                raise ClusterLostError(
                    f"the Dask cluster has had no worker for {_PATIENCE:.0f} seconds. Start "
                    f"some, and call again: with store=, what was counted is kept."
                )

    def result(self, ticket: Any) -> Any:
        """Return the votes for a block; see `Crew`."""
        from distributed import CancelledError, KilledWorker

        self._futures.discard(ticket)
        try:
            votes: Any = ticket.result()
        except (KilledWorker, CancelledError) as error:
            raise WorkerLostError("a worker of the Dask cluster died") from error
        finally:
            ticket.release()
        return votes

    def close(self) -> None:
        """Let everything go; see `Crew`."""
        self._client.cancel([*self._futures], force=True)
        self._futures.clear()
        self._cargo = None


class RayCluster:
    """The workers of a Ray cluster, one processor each, and one device where the base is on one."""

    n_tries = 3

    def __init__(self, counter: Counter, n_workers: int, *, on_device: bool) -> None:
        import ray

        self._ray: Any = ray
        self.n_workers = n_workers
        self._name, content = packed_counter(counter)
        self._cargo = self._ray.put(content)
        needs = {"num_cpus": 1, "num_gpus": 1 if on_device else 0, "max_retries": 0}
        self._count = self._ray.remote(**needs)(count_shipped)
        self._refs: set[Any] = set()

    def submit(self, X: Any) -> Any:
        """Hand over a block; see `Crew`."""
        ref = self._count.remote(self._name, self._cargo, X)
        self._refs.add(ref)
        return ref

    def finished(self, tickets: Collection[Any]) -> list[Any]:
        """Wait for blocks; see `Crew`."""
        since = time.monotonic()
        while True:
            done: list[Any] = self._ray.wait(list(tickets), num_returns=1, timeout=_LOOK)[0]
            if done:
                return done
            if any(node["Alive"] for node in self._ray.nodes()):
                since = time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                raise ClusterLostError(
                    f"the Ray cluster has had no node for {_PATIENCE:.0f} seconds. Start one, and "
                    f"call again: with store=, what was counted is kept."
                )

    def result(self, ticket: Any) -> Any:
        """Return the votes for a block; see `Crew`."""
        lost = self._ray.exceptions
        self._refs.discard(ticket)
        try:
            votes: Any = self._ray.get(ticket)
        except (
            lost.WorkerCrashedError,
            lost.NodeDiedError,
            lost.LocalRayletDiedError,
            lost.OutOfMemoryError,
            lost.ObjectLostError,
        ) as error:
            raise WorkerLostError(str(error)) from error
        return votes

    def close(self) -> None:
        """Let everything go; see `Crew`."""
        for ref in self._refs:
            self._ray.cancel(ref, force=True)
        self._refs.clear()


class Batches:
    """Any other backend of joblib: as many blocks as there are workers, and then the next ones."""

    n_tries = 1

    def __init__(self, counter: Counter, n_workers: int) -> None:
        self.n_workers = n_workers
        self._name, self._content = packed_counter(counter)
        self._blocks: dict[int, Any] = {}
        self._votes: dict[int, Any] = {}
        self._n_given = 0

    def submit(self, X: Any) -> int:
        """Hand over a block; see `Crew`."""
        self._n_given += 1
        self._blocks[self._n_given] = X
        return self._n_given

    def finished(self, tickets: Collection[int]) -> list[int]:
        """Wait for blocks; see `Crew`."""
        taken = sorted(self._blocks)[: self.n_workers]
        counted = Parallel(n_jobs=self.n_workers)(
            delayed(count_shipped)(self._name, self._content, self._blocks[number])
            for number in taken
        )
        for number, votes in zip(taken, counted, strict=True):
            self._votes[number] = votes
            del self._blocks[number]
        return taken

    def result(self, ticket: int) -> Any:
        """Return the votes for a block; see `Crew`."""
        return self._votes.pop(ticket)

    def close(self) -> None:
        """Let everything go; see `Crew`."""
        self._blocks.clear()
