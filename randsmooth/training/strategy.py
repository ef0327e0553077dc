"""The protocol behind every training strategy: what it may do to a batch and to the loss.

A strategy is a skorch callback. It works on any skorch net by hand, and `SmoothedClassifier` puts
one on its own clone of a net. It reaches the training loop in two places only: `prepare` is offered
the inputs and targets of a training batch, as the user handed them in, and returns the rows to
train on; `objective` is offered the criterion's loss and returns the named terms whose sum is
minimised in its place. The net's own `infer`, `get_loss`, `train_step`, callbacks and optimiser
stay in charge, there is one joint backward pass, and whatever scales the loss scales every term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from randsmooth.exceptions import TrainingDivergedError
from randsmooth.noise import Stream, block_generator
from randsmooth.training.good_weights import GoodWeights
from randsmooth.training.losses import log_probabilities
from randsmooth.training.perturbation import frozen

__all__ = ["TrainingStrategy"]


class TrainingStrategy(Callback):  # type: ignore[misc]
    """Base of the training strategies; a subclass overrides `prepare`, `objective` or both.

    What a subclass keeps on itself for the length of a batch or of a training has a name that ends
    in an underscore: such attributes are neither parameters nor pickled, unless `saved` names them.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seed of whatever the strategy draws. None draws one, or lets `SmoothedClassifier` choose.
    """

    # Attributes that are pickled although they end in an underscore.
    saved: ClassVar[tuple[str, ...]] = ()

    generator_: np.random.Generator
    device_generator_: torch.Generator | None
    inputs_: Tensor
    active_: bool
    targets_: Any
    outputs_: Tensor | None
    listening_: bool
    called_: bool
    keywords_: dict[str, list[str]]

    def __init__(self, *, random_state: Any = None) -> None:
        self.random_state = random_state

    def set_params(self, **params: Any) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params
            Values by name.

        Returns
        -------
        TrainingStrategy
            The strategy itself, which skorch's callbacks do not return.
        """
        super().set_params(**params)
        return self

    # -- what a strategy is ------------------------------------------------------------------

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range, before any training.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.
        """

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Return the rows to train on.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        inputs : Tensor of shape (n_rows, ...)
            The batch as the user handed it in, on the net's device.

        targets : Tensor of shape (n_rows, ...)
            Its targets.

        Returns
        -------
        Tensor of shape (n_copies * n_rows, ...)
            `inputs` itself, unless overridden. Several copies of the batch stand one behind the
            other, and their targets are repeated.
        """
        return inputs

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms whose sum is minimised, by the names under which history has them.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        loss : Tensor
            What the net's criterion says of the rows it trains on, a scalar.

        outputs : Tensor of shape (n_copies * n_rows, ...)
            What the module returned for them.

        targets : Tensor of shape (n_rows, ...)
            The targets of the batch.

        Returns
        -------
        dict of str to Tensor
            Scalars; the criterion's loss alone unless overridden.
        """
        return {"criterion_loss": loss}

    def replicate(
        self, X: NDArray[Any], generator: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Return noisy copies of a data set, for bases that are trained in one go.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            The inputs.

        generator : numpy.random.Generator
            Source of the noise.

        Returns
        -------
        copies : ndarray of shape (n_copies, ...)
            The inputs to train on.

        rows : ndarray of int, shape (n_copies,)
            The row of `X` that each copy comes from.
        """
        raise TypeError(
            f"training must be GaussianAugmentation or None for a base that is not a torch module "
            f"or a skorch net, got {type(self).__name__}, which needs gradients."
        )

    # -- what it may ask of the net ----------------------------------------------------------

    def log_probabilities(self, net: NeuralNet, rows: Tensor) -> Tensor:
        """Return the net's log-probabilities for some rows, in the mode that its module is in.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        rows : Tensor of shape (n_rows, ...)
            The rows.

        Returns
        -------
        Tensor of shape (n_rows, n_classes)
            Their log-probabilities, with a graph where gradients are enabled.
        """
        self.listening_ = True
        try:
            net.infer(rows)
        finally:
            self.listening_ = False
        outputs, self.outputs_ = self.outputs_, None
        if outputs is None:
            raise TypeError(
                f"estimator must call its module in infer, got {type(net).__name__}, "
                f"whose infer does not call it."
            )
        if torch.is_grad_enabled() and rows.requires_grad and not outputs.requires_grad:
            raise TypeError(
                f"estimator must be differentiable in its inputs for {type(self).__name__}, got "
                f"{type(net.module_).__name__}, whose outputs pass no gradient on to them."
            )
        return log_probabilities(net, outputs)

    @contextmanager
    def attacking(self, net: NeuralNet) -> Iterator[None]:
        """Hold the module still: evaluation mode, no gradients of its weights.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        Yields
        ------
        None
            While the module is held.
        """
        with frozen(net.module_):
            yield

    def generator_on(self, device: torch.device) -> torch.Generator:
        """Return the accelerator's own source of randomness for this training, seeded as ours.

        Parameters
        ----------
        device : torch.device
            The accelerator.

        Returns
        -------
        torch.Generator
            The same one throughout a training.
        """
        if self.device_generator_ is None:
            seed = int(self.generator_.integers(2**63 - 1))
            self.device_generator_ = torch.Generator(device).manual_seed(seed)
        return self.device_generator_

    # -- how it reaches the loop -------------------------------------------------------------

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Attach the strategy to the module and the criterion.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        strategies = [c for _, c in net.callbacks_ if isinstance(c, TrainingStrategy)]
        if len(strategies) > 1:
            raise TypeError(
                f"callbacks must hold one training strategy, got "
                f"{', '.join(type(strategy).__name__ for strategy in strategies)}. Add their terms "
                f"up in one strategy of your own, see the guide to training."
            )
        self.check(net)
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31 - 1)
        # Training that goes on draws new noise: the number of epochs behind it picks the block.
        self.generator_ = block_generator(int(seed), Stream.TRAINING, 1 + len(net.history))
        self.device_generator_ = None
        self.listening_ = False
        self.term_names_: tuple[str, ...] = ()
        self.active_ = self.called_ = False
        self.outputs_ = None
        self.keywords_ = {}
        self._unhook()
        self.handles_: list[RemovableHandle] = self._hook(net)
        self.good_weights_ = GoodWeights()

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Let `prepare` replace the inputs of a training batch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        batch : list of (inputs, targets)
            The batch, changed in place.

        training : bool, default=False
            Whether this is a training batch; validation batches stay as they are.

        **kwargs
            What else skorch passes.
        """
        self.outputs_ = None
        self.active_, self.called_ = training, False
        if not training:
            return
        inputs, targets = unpack_data(batch)
        if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            raise TypeError(
                f"X must come in batches of one floating-point tensor for {type(self).__name__}, "
                f"got {type(inputs).__name__}"
                f"{f' of {inputs.dtype}' if isinstance(inputs, Tensor) else ''}."
            )
        self.inputs_ = inputs.to(net.device)
        self.targets_ = targets.to(net.device) if isinstance(targets, Tensor) else targets
        prepared = self.prepare(net, self.inputs_, self.targets_)
        self.outputs_ = None
        if prepared is not self.inputs_:
            _replace(batch, prepared, self.targets_, len(inputs), type(self).__name__)

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Make sure that the objective of a training batch took the place of the loss.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        training : bool, default=False
            Whether this was a training batch.

        **kwargs
            What else skorch passes.
        """
        self.active_ = False
        if training and not self.called_ and self._changes_the_loss():
            self._unhook()
            raise TypeError(
                f"estimator must call its criterion in get_loss for {type(self).__name__} to add "
                f"its term, got {type(net).__name__}, whose get_loss does not call it."
            )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the mean of every term over the epoch beside the other losses.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        batches = [batch for batch in net.history[-1]["batches"] if "train_batch_size" in batch]
        for name in self.term_names_:
            having = [batch for batch in batches if name in batch]
            sizes = [batch["train_batch_size"] for batch in having]
            mean = np.average([batch[name] for batch in having], weights=sizes)
            net.history.record(name, float(mean))

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Take the hooks off again.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        self._unhook()
        self.outputs_ = None
        self.good_weights_ = GoodWeights()
        for name, value in list(vars(self).items()):  # the last batch, which would stay in memory
            if name.endswith("_") and isinstance(value, Tensor) and name not in self.saved:
                delattr(self, name)

    def _changes_the_loss(self) -> bool:
        return type(self).objective is not TrainingStrategy.objective

    def _hook(self, net: NeuralNet) -> list[RemovableHandle]:
        """Watch the module's training outputs, and put the objective in place of the loss."""
        module, criterion = getattr(net, "module_", None), getattr(net, "criterion_", None)
        if not (isinstance(module, nn.Module) and isinstance(criterion, nn.Module)):
            raise TypeError(
                f"estimator must have one torch module and a criterion that is a torch module for "
                f"{type(self).__name__}, got {type(net).__name__}."
            )

        return [
            module.register_forward_hook(_Hook(self._keep), with_kwargs=True),
            criterion.register_forward_hook(_Hook(partial(self._minimised, net))),
        ]

    def _keep(self, module: nn.Module, args: Any, keywords: Any, outputs: Any) -> None:
        """Keep what a pass of ours returned, or the batch's own: its first with a graph."""
        if self.listening_:
            self._agree("own", keywords)
        elif self.active_ and torch.is_grad_enabled() and self.outputs_ is None:
            self._agree("training", keywords)
        else:
            return
        self.outputs_ = outputs[0] if isinstance(outputs, tuple) else outputs

    def _agree(self, who: str, keywords: Mapping[str, Any]) -> None:
        """Refuse parameters of `fit` that reach the module, but not in the passes of ours."""
        self.keywords_[who] = sorted(keywords)
        own, training = self.keywords_.get("own"), self.keywords_.get("training")
        if own is not None and training is not None and own != training:
            raise TypeError(
                f"fit parameters must not reach the module with {type(self).__name__}, whose own "
                f"passes go without them, got {', '.join(training)}. Give the module a parameter."
            )

    def _minimised(
        self, net: NeuralNet, criterion: nn.Module, args: Any, loss: Tensor
    ) -> Tensor | None:
        """Return the objective, once for each training pass; None leaves the loss alone."""
        if self.outputs_ is None or not self.active_:
            return None
        outputs, self.outputs_ = self.outputs_, None
        # Of an optimiser that asks for the loss several times, history has the first, as skorch's.
        first, self.called_ = not self.called_, True
        if loss.ndim and not self._changes_the_loss():
            self._check_finite(net, {"criterion_loss": loss.mean().item()})
            return None
        if loss.ndim:
            raise TypeError(
                f"criterion must return a scalar for {type(self).__name__} to add its terms, got "
                f"a tensor of shape {tuple(loss.shape)}. Set criterion__reduction='mean'."
            )
        terms = self.objective(net, loss, outputs, self.targets_)
        values = {name: term.item() for name, term in terms.items()}
        if first and self._changes_the_loss():
            self.term_names_ = tuple(dict.fromkeys((*self.term_names_, *values)))
            for name, value in values.items():
                net.history.record_batch(name, value)
        self._check_finite(net, values)
        total, *others = terms.values()
        for term in others:
            total = total + term
        return total

    def _check_finite(self, net: NeuralNet, values: Mapping[str, float]) -> None:
        try:
            self.good_weights_.check(net, values)
        except TrainingDivergedError:
            self._unhook()
            raise

    def _unhook(self) -> None:
        for handle in getattr(self, "handles_", []):
            handle.remove()
        self.handles_ = []

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters and what `saved` names: hooks and batches stay behind."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if not name.endswith("_") or name in self.saved
        }


class _Hook:
    """A function as a hook, which copies and pickles of what it hangs on leave behind."""

    def __init__(self, function: Callable[..., Any] | None) -> None:
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return None if self.function is None else self.function(*args)

    def __reduce__(self) -> tuple[type[_Hook], tuple[None]]:
        return _Hook, (None,)


def _replace(batch: Any, rows: Tensor, targets: Any, n_rows: int, strategy: str) -> None:
    """Put other rows into a batch, and its targets once for every copy of the batch."""
    if not isinstance(batch, list):
        raise TypeError(
            f"estimator must make batches that are lists for {strategy} to replace their inputs, "
            f"got {type(batch).__name__}. Return a list from the collate function."
        )
    if len(rows) % n_rows:
        raise ValueError(
            f"{strategy}.prepare must return whole copies of a batch of {n_rows} rows, "
            f"got {len(rows)}."
        )
    batch[0] = rows
    n_copies = len(rows) // n_rows
    if n_copies > 1:
        batch[1] = targets.repeat(n_copies, *[1] * (targets.ndim - 1))
