"""The last weights of a training that gave a finite loss, for where it diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from skorch import NeuralNet
from torch import Tensor, nn

from randsmooth.exceptions import TrainingDivergedError

__all__ = ["GoodWeights"]


class GoodWeights:
    """The weights that an epoch began with, kept once its first loss was finite."""

    def __init__(self) -> None:
        self.weights: dict[str, Any] = {}
        self.epoch: int | None = None  # the epoch that they are from the end of

    def check(self, net: NeuralNet, terms: Mapping[str, float]) -> None:
        """Keep the weights of a new epoch, or end training where a term is not finite.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training, which gets the kept weights back where training ends.

        terms : Mapping of str to float
            The terms of a batch's loss, by name.

        Raises
        ------
        TrainingDivergedError
            If a term is not finite.
        """
        epoch, batch = len(net.history), len(net.history[-1]["batches"])
        if all(map(math.isfinite, terms.values())):
            if self.epoch != epoch - 1:
                self.weights, self.epoch = _copied(net.module_), epoch - 1
            return
        if self.epoch is None:
            kept = "No weights gave a finite loss; this error's `net` has those it was given."
        else:
            net.module_.load_state_dict(self.weights)
            end = f"from the end of epoch {self.epoch}"
            since = end if self.epoch else "from before training"
            kept = f"The net with the weights {since} is this error's `net`."
        shown = ", ".join(f"{name} {value:.6g}" for name, value in terms.items())
        raise TrainingDivergedError(
            f"loss must stay finite, got {shown} in batch {batch} of epoch {epoch}. Lower the "
            f"learning rate, or look for inputs that are not finite. {kept}",
            net,
            epoch,
            batch,
        )


def _copied(module: nn.Module) -> dict[str, Any]:
    return {
        name: value.clone() if isinstance(value, Tensor) else value
        for name, value in module.state_dict().items()
    }
