"""Progress of long runs, shown where it is wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["announce", "progress_bar"]


@contextmanager
def progress_bar(
    total: int | None, *, description: str, unit: str, verbose: int
) -> Iterator[Callable[[int], None]]:
    """Show a bar on the standard error stream while a run lasts.

    Parameters
    ----------
    total : int or None
        Units that the whole run takes, None where that is not known.

    description : str
        What the run does.

    unit : str
        What is counted: "draws" or "inputs".

    verbose : int
        No bar where 0.

    Yields
    ------
    callable (int) -> None
        Advances the bar by a number of units. Threads may share it.
    """
    with tqdm(
        total=total, desc=description, unit=f" {unit}", unit_scale=True, disable=not verbose
    ) as bar:
        yield lambda done: bar.update(done) and None


def announce(message: str) -> None:
    """Show a line on the standard error stream, above any bar.

    Parameters
    ----------
    message : str
        The line.
    """
    tqdm.write(message, file=sys.stderr)
