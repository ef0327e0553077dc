"""Who counts blocks of inputs: this process, its threads, other processes, or a cluster."""

from randsmooth.crews.dispatch import counted_blocks, elsewhere, n_workers

__all__ = ["counted_blocks", "elsewhere", "n_workers"]
