"""Progress of long runs, shown where it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(total: int, *, description: str, verbose: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on the standard error stream while a run lasts.

    Parameters
    ----------
    total : int
        Draws that the whole run takes.

    description : str
        What the run does.

    verbose : int
        No bar where 0.

    Yields
    ------
    callable (int) -> None
        Advances the bar by a number of draws. Threads may share it.
    """
    with tqdm(
        total=total, desc=description, unit=" draws", unit_scale=True, disable=not verbose
    ) as bar:
        yield lambda draws: bar.update(draws) and None
