"""The protocol behind every training strategy: what it may do to a batch and to the loss.

A strategy is a skorch callback. It works on any skorch net by hand, and `SmoothedClassifier` puts
one on its own clone of a net. It reaches the training loop in two places only: `prepare` is offered
the inputs of a training batch, as the user handed them in, and may replace them; `loss_term` may
return a term that a hook on the criterion adds to the loss. The net's own `infer`, `get_loss`,
`train_step`, callbacks and optimiser stay in charge, there is one joint backward pass, and whatever
scales the loss scales the term too.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import unpack_data
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from randsmooth.noise import Noise, Stream, block_generator

__all__ = ["TrainingStrategy", "log_probabilities"]


class TrainingStrategy(Callback):  # type: ignore[misc]
    """Base of the training strategies; a subclass overrides `prepare`, `loss_term` or both.

    Parameters
    ----------
    noise : Noise or None, default=None
        Noise to train with, in the units of the inputs as handed in. None is for
        `SmoothedClassifier`, which fills in the noise it certifies with.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise. None draws one, or lets `SmoothedClassifier` choose.
    """

    # Column of the history that holds the extra term; None where there is none.
    history_name: ClassVar[str | None] = None

    def __init__(self, *, noise: Noise | None = None, random_state: Any = None) -> None:
        self.noise = noise
        self.random_state = random_state

    # -- what a strategy is ------------------------------------------------------------------

    def prepare(self, net: NeuralNet, inputs: Tensor, noisy: Tensor) -> Tensor:
        """Return the inputs to train on.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        inputs : Tensor of shape (n_rows, ...)
            The batch as the user handed it in.

        noisy : Tensor of shape (n_rows, ...)
            The batch with fresh noise.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            `inputs` itself, unless overridden.
        """
        return inputs

    def loss_term(self, net: NeuralNet, outputs: Tensor, noisy_outputs: Any) -> Tensor | None:
        """Return the term to add to the loss of this batch, or None.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        outputs : Tensor of shape (n_rows, ...)
            What the module returned for the batch.

        noisy_outputs : callable () -> Tensor
            Passes the noisy batch through the net in training mode.

        Returns
        -------
        Tensor or None
            A scalar; None unless overridden.
        """
        return None

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
            f"or a skorch net, got {type(self).__name__}."
        )

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
        if self.noise is None:
            raise ValueError(
                f"noise must be a Noise object such as Gaussian(0.25) where {type(self).__name__} "
                f"is put on a net by hand, got None."
            )
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31 - 1)
        # Training that goes on draws new noise: the number of epochs behind it picks the block.
        self.generator_ = block_generator(int(seed), Stream.TRAINING, 1 + len(net.history))
        self._unhook()
        self.handles_: list[RemovableHandle] = self._hook(net)

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Draw the noise of a training batch and let `prepare` replace its inputs.

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
        self.outputs_: Tensor | None = None
        self.inputs_: Tensor | None = None
        if not training:
            return
        inputs, _ = unpack_data(batch)
        if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            raise TypeError(
                f"X must come in batches of one floating-point tensor for {type(self).__name__}, "
                f"got {type(inputs).__name__}"
                f"{f' of {inputs.dtype}' if isinstance(inputs, Tensor) else ''}."
            )
        self.inputs_ = self.noisy_copies(inputs)
        prepared = self.prepare(net, inputs, self.inputs_)
        if prepared is not inputs:
            _replace_inputs(batch, prepared, type(self).__name__)

    def noisy_copies(self, inputs: Tensor) -> Tensor:
        """Return a batch with fresh noise.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, ...)
            The batch.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            A noisy copy of each input.
        """
        if self.noise is None:  # on_train_begin has refused this already
            raise ValueError("noise must be a Noise object, got None.")
        dtype = np.float64 if inputs.dtype == torch.float64 else np.float32
        shape = tuple(inputs.shape[1:])
        drawn = self.noise.draw(len(inputs), shape, self.generator_, dtype=dtype)
        draws = torch.from_numpy(drawn).to(device=inputs.device, dtype=inputs.dtype)
        return self.noise.corrupted(inputs, draws)

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Make sure that the loss term of a training batch found its way into the loss.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        training : bool, default=False
            Whether this was a training batch.

        **kwargs
            What else skorch passes.
        """
        if training and self.outputs_ is not None and self.history_name is not None:
            self._unhook()
            raise TypeError(
                f"estimator must call its criterion in get_loss for {type(self).__name__} to add "
                f"its term, got {type(net).__name__}, whose get_loss does not call it."
            )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the mean of the loss term over the epoch beside the other losses.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        if self.history_name is None:
            return
        batches = [b for b in net.history[-1]["batches"] if self.history_name in b]
        if batches:
            sizes = [b["train_batch_size"] for b in batches]
            terms = [b[self.history_name] for b in batches]
            net.history.record(self.history_name, float(np.average(terms, weights=sizes)))

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

    def _hook(self, net: NeuralNet) -> list[RemovableHandle]:
        """Watch the module's training outputs, and add the term to the criterion's loss."""
        module, criterion = getattr(net, "module_", None), getattr(net, "criterion_", None)
        if not (isinstance(module, nn.Module) and isinstance(criterion, nn.Module)):
            raise TypeError(
                f"estimator must have one torch module and a criterion that is a torch module for "
                f"{type(self).__name__}, got {type(net).__name__}."
            )

        def add(criterion: nn.Module, args: Any, loss: Tensor) -> Tensor | None:
            return self._add_term(net, loss)

        return [module.register_forward_hook(self._keep), criterion.register_forward_hook(add)]

    def _keep(self, module: nn.Module, args: Any, outputs: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self.outputs_ = outputs[0] if isinstance(outputs, tuple) else outputs

    def _add_term(self, net: NeuralNet, loss: Tensor) -> Tensor | None:
        """Return the loss with the term, once for each training pass; None leaves it alone."""
        if self.outputs_ is None or self.inputs_ is None:
            return None
        outputs, self.outputs_ = self.outputs_, None
        term = self.loss_term(net, outputs, lambda: self._noisy_outputs(net))
        if term is None:
            return None
        net.history.record_batch(self.history_name, term.item())
        return loss + term

    def _noisy_outputs(self, net: NeuralNet) -> Tensor:
        net.infer(self.inputs_)
        outputs, self.outputs_ = self.outputs_, None
        if outputs is None:
            raise TypeError(
                f"estimator must call its module in infer, got {type(net).__name__}, "
                f"whose infer does not call it in training mode."
            )
        return outputs

    def _unhook(self) -> None:
        for handle in getattr(self, "handles_", []):
            handle.remove()
        self.handles_ = []

    def __getstate__(self) -> dict[str, Any]:
        """Return the parameters: hooks, generators and batches stay behind."""
        return {name: value for name, value in self.__dict__.items() if not name.endswith("_")}


def log_probabilities(net: NeuralNet, outputs: Tensor) -> Tensor:
    """Return the log-probabilities behind a module's outputs, as the net's criterion reads them.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.

    outputs : Tensor of shape (n_rows, n_classes) or (n_rows,)
        What its module returned: probabilities for a classifier under ``NLLLoss``, one logit a row
        under ``BCEWithLogitsLoss``, logits or log-probabilities under anything else.

    Returns
    -------
    Tensor of shape (n_rows, n_classes)
        Log-probabilities.
    """
    if isinstance(net.criterion_, nn.BCEWithLogitsLoss):
        logit = outputs.reshape(len(outputs), -1)[:, :1]
        return nn.functional.logsigmoid(torch.cat([-logit, logit], dim=1))
    if isinstance(net.criterion_, nn.NLLLoss) and isinstance(net, NeuralNetClassifier):
        return torch.log(outputs + torch.finfo(outputs.dtype).eps)
    return nn.functional.log_softmax(outputs, dim=1)


def _replace_inputs(batch: Any, inputs: Tensor, strategy: str) -> None:
    if not isinstance(batch, list):
        raise TypeError(
            f"estimator must make batches that are lists for {strategy} to replace their inputs, "
            f"got {type(batch).__name__}. Return a list from the collate function."
        )
    batch[0] = inputs
