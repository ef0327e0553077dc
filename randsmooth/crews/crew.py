"""What a crew is: workers that take blocks of inputs and hand back votes, or die trying."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

__all__ = ["Crew", "WorkerLostError"]


class WorkerLostError(Exception):
    """A worker died before it handed back what it was to count."""


class Crew(Protocol):
    """Workers that count blocks of inputs."""

    n_workers: int
    """How many blocks are counted at once."""

    n_tries: int
    """How often a block may be lost before it is given up."""

    def submit(self, X: Any) -> Any:
        """Hand over a block.

        Parameters
        ----------
        X : object
            Its inputs, as the counter takes them.

        Returns
        -------
        object
            A ticket, which can be a key of a dictionary.
        """
        ...

    def finished(self, tickets: Collection[Any]) -> list[Any]:
        """Wait until a block is counted or lost.

        Parameters
        ----------
        tickets : collection of tickets
            What is waited for, one at least.

        Returns
        -------
        list of tickets
            Those that are ready, one at least.
        """
        ...

    def result(self, ticket: Any) -> Any:
        """Return the votes for a block that is ready.

        Parameters
        ----------
        ticket : object
            Its ticket.

        Returns
        -------
        object
            What the counter returned.

        Raises
        ------
        WorkerLostError
            If the worker died.
        """
        ...

    def close(self) -> None:
        """Let everything go: what is not ready is given up, and no worker stays behind."""
        ...
