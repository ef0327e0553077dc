"""Strategies with a generator of their own, which climbs what the net descends."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from randsmooth.training.generator_training import Architecture, TrainedNetworks
from randsmooth.training.perturbation import as_tensor
from randsmooth.training.strategy import TrainingStrategy

__all__ = ["GeneratorStrategy"]


class GeneratorStrategy(TrainingStrategy):
    """Base of the strategies whose perturbations come from a network that is trained along.

    Its networks are built from the first batch, trained once a batch, pickled with the strategy,
    kept by training that goes on (``partial_fit``), and dropped by training that starts afresh.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seed of whatever the strategy draws, the initial weights included.
    """

    saved: ClassVar[tuple[str, ...]] = ("networks_",)

    networks_: TrainedNetworks | None
    graph_: list[Tensor]
    leaves_: list[Tensor]

    def architecture(self) -> Architecture:
        """Return what the networks are built from.

        Returns
        -------
        Architecture
            Networks built from another one are dropped when training begins.
        """
        raise NotImplementedError(f"{type(self).__name__} must override architecture.")

    def networks(self, inputs: Tensor, lr: float) -> nn.ModuleDict:
        """Return the networks, in training mode, on the device and in the type of a batch.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, ...)
            The batch as the user handed it in.

        lr : float
            Learning rate of the step that follows.

        Returns
        -------
        torch.nn.ModuleDict
            The networks by name; what they were, or new ones.
        """
        if self.networks_ is None:
            architecture = self.architecture()
            seed = int(self.generator_.integers(2**63 - 1))
            self.networks_ = TrainedNetworks(architecture.build(inputs, seed), architecture.key)
        self.networks_.follow(inputs, lr)
        return self.networks_.networks

    def handed_over(self, rows: Tensor, term: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return what the net trains on in place of two outputs of the networks.

        The batch's own backward pass ends at them. At the end of the batch it is taken on through
        the networks, once, however often the net's optimiser had the loss evaluated: with its sign
        reversed at the rows, so that the networks climb the loss, and as it is at the term.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            The rows that the networks made, with their graph.

        term : Tensor
            A term of the loss that the networks alone have a part in, a scalar with its graph.

        Returns
        -------
        rows : Tensor of shape (n_rows, ...)
            The same rows, a leaf of a graph.

        term : Tensor
            The same term, another leaf.
        """
        self.graph_ = [rows, term]
        self.leaves_ = [output.detach().requires_grad_() for output in self.graph_]
        return self.leaves_[0], self.leaves_[1]

    def standard_normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return standard normal numbers, drawn by a GPU itself where the batch is on one.

        Parameters
        ----------
        shape : tuple of int
            How many.

        like : Tensor
            What gives their type and device.

        Returns
        -------
        Tensor
            The numbers.
        """
        if like.is_cuda:
            generator = self.generator_on(like.device)
            return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        return as_tensor(self.generator_.standard_normal(shape, dtype=dtype), like)

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Attach the strategy, and keep its networks only where training goes on.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        super().on_train_begin(net, **kwargs)
        self.graph_, self.leaves_ = [], []
        kept: TrainedNetworks | None = getattr(self, "networks_", None)
        if kept is not None and len(net.history) and kept.key == self.architecture().key:
            return
        self.networks_ = None

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Let the networks take their step.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        training : bool, default=False
            Whether this was a training batch.

        **kwargs
            What else skorch passes.

        Raises
        ------
        TypeError
            If no gradient arrived at the rows.
        """
        super().on_batch_end(net, training=training, **kwargs)
        if not (training and self.leaves_ and self.networks_ is not None):
            return
        rows, term = (leaf.grad for leaf in self.leaves_)
        if rows is None or term is None:
            raise TypeError(
                f"estimator must pass the gradient of its loss on to its inputs in train_step for "
                f"{type(self).__name__}, got {type(net).__name__}, which does not."
            )
        # Gradients that overflowed in reduced precision move the net no more than the networks.
        if bool(rows.isfinite().all() and term.isfinite().all()):
            self.networks_.descend(self.graph_, [-rows, term])
        self.graph_, self.leaves_ = [], []

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Take the hooks off again.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        super().on_train_end(net, **kwargs)
        self.graph_, self.leaves_ = [], []
