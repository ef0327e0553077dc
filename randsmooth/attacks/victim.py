"""Whom an attack is aimed at: a smoothed classifier, or a network without noise beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch import Tensor, nn

from randsmooth.acceleration import first_output
from randsmooth.bases import Base, NetBase
from randsmooth.certification import run_over
from randsmooth.fitting import base_of_fitted, input_dtype, is_net, unwrap, voting_base
from randsmooth.inputs import inputs_as_fitted, on_host
from randsmooth.network import net_base
from randsmooth.noise import Noise, Stream
from randsmooth.parameters import check_parameters, checked_seed
from randsmooth.speed import AUTOCAST_TYPES
from randsmooth.stopping import FixedDraws
from randsmooth.training.losses import log_probabilities
from randsmooth.training.perturbation import frozen

__all__ = ["NoGradientsError", "Victim", "victim"]

Errors = dict[int, Exception]


class NoGradientsError(TypeError):
    """A network passes no gradients on to its inputs, whatever these are."""


@dataclass(frozen=True)
class Victim:
    """A trained classifier as attacks see it.

    Parameters
    ----------
    clf : object
        The classifier as it was handed in.

    estimator : object
        Its base.

    base : Base
        The same, as it votes.

    classes : ndarray of shape (n_classes,)
        Its labels.

    input_shape : tuple of int
        Shape of one input.

    noise : Noise or None
        The smoothing noise; None for a classifier that is not smoothed.

    noise_seed : int
        Seed of all noise.

    autocast : str or None
        Reduced precision inside the network.
    """

    clf: Any
    estimator: Any
    base: Base
    classes: NDArray[Any]
    input_shape: tuple[int, ...]
    noise: Noise | None
    noise_seed: int
    autocast: str | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the inputs."""
        return np.dtype(np.float64 if self.base.dtype == torch.float64 else np.float32)

    @property
    def differentiable(self) -> bool:
        """Whether the base is a network, and the noise added."""
        return isinstance(self.base, NetBase) and (self.noise is None or self.noise.additive)

    def inputs(self, X: Any) -> NDArray[Any]:
        """Return inputs of the shape and the type that the classifier takes.

        Parameters
        ----------
        X : array-like of shape (n_inputs, ...)
            The inputs as handed in.

        Returns
        -------
        ndarray of shape (n_inputs, ...)
            The inputs.

        Raises
        ------
        ValueError
            If they are of another shape, or not finite.
        """
        if self.noise is not None:
            return _writable(inputs_as_fitted(self.clf, X).astype(self.dtype, copy=False))
        array = _writable(np.asarray(on_host(X)).astype(self.dtype, copy=False))
        if not np.isfinite(array).all():
            raise ValueError("X must be finite, got inputs with NaN or infinity.")
        return array

    def votes(
        self, X: NDArray[Any], stream: Stream, n_votes: int
    ) -> tuple[NDArray[np.int64], Errors]:
        """Return the votes for some inputs, and what went wrong with which.

        Parameters
        ----------
        X : ndarray of shape (n_inputs, ...)
            The inputs.

        stream : Stream
            What the votes are for.

        n_votes : int
            Draws for each input. A classifier without noise votes once.

        Returns
        -------
        counts : ndarray of int64, shape (n_inputs, n_classes)
            The votes.

        errors : dict of int to Exception
            Inputs whose votes could not all be taken.
        """
        if not len(X):
            return np.zeros((0, len(self.classes)), dtype=np.int64), {}
        if self.noise is None:
            return self._predictions(X)
        # These have been checked; a table's names of columns went when they were.
        self.noise.check_inputs(X)
        run = run_over(self.clf, X, self.noise_seed)
        rule = FixedDraws(self.noise.n_outcomes or n_votes, len(X))
        return run.tally(stream, rule).counts, run.errors

    def _predictions(self, X: NDArray[Any]) -> tuple[NDArray[np.int64], Errors]:
        counts = np.zeros((len(X), len(self.classes) + 1), dtype=np.int64)
        errors: Errors = {}
        for start in range(0, len(X), 1024):
            self._predict(X, np.arange(start, min(start + 1024, len(X))), counts, errors)
        for row in np.flatnonzero(counts[:, -1]):
            errors[int(row)] = ValueError("network outputs are not finite")
        return counts[:, :-1], errors

    def _predict(
        self, X: NDArray[Any], rows: NDArray[np.intp], counts: NDArray[np.int64], errors: Errors
    ) -> None:
        """Note the prediction for each row; where that fails, row by row."""
        try:
            with torch.inference_mode():
                votes = self.base.votes(torch.from_numpy(X[rows]).to(self.base.device))
            counts[rows, votes.cpu().numpy()] = 1
        except Exception as error:  # whatever a base may raise: one input costs that input
            if len(rows) == 1:
                errors[int(rows[0])] = error
                return
            for row in rows:
                self._predict(X, np.array([row]), counts, errors)

    def log_probabilities(self, rows: Tensor, autocast: str | None = None) -> tuple[Tensor, Tensor]:
        """Return log-probabilities, which may be differentiated, and votes.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy inputs, on the network's device.

        autocast : str or None, default=None
            Reduced precision inside the network.

        Returns
        -------
        log_p : Tensor of shape (n_rows, n_classes)
            Log-probabilities, with a graph where the rows have one.

        votes : Tensor of int64, shape (n_rows,)
            Class indices; `n_classes` where the network's output is not finite.

        Raises
        ------
        TypeError
            If the base is no network.

        NoGradientsError
            If it passes no gradients on.
        """
        base = self.base
        if not isinstance(base, NetBase):
            raise TypeError(
                f"estimator must be a torch module or a skorch net for its gradients to be asked "
                f"for, got {type(self.estimator).__name__}."
            )
        net = self.estimator if isinstance(self.estimator, NeuralNet) else None
        module = self.estimator if net is None else net.module_
        run: Callable[[Tensor], Any] = module if net is None else net.infer
        dtype = None if autocast is None else AUTOCAST_TYPES[autocast]
        cast = nullcontext() if dtype is None else torch.autocast(base.device.type, dtype)
        with frozen(module), cast:
            outputs = first_output(run(rows.to(base.dtype)))
        if torch.is_grad_enabled() and rows.requires_grad and not outputs.requires_grad:
            raise NoGradientsError(
                f"estimator must be differentiable in its inputs for an attack by gradients, got "
                f"{type(module).__name__}, whose outputs pass no gradient on to them. Take an "
                f"attack by votes, such as method='boundary'."
            )
        if outputs.element_size() < 4:
            outputs = outputs.float()
        log_p = (
            nn.functional.log_softmax(outputs, dim=1)
            if net is None
            else log_probabilities(net, outputs)
        )
        return log_p[:, : base.n_classes], base.votes_of(outputs.detach())


def victim(clf: Any, X: Any = None, *, noise_seed: int | None = None, name: str = "clf") -> Victim:
    """Return a trained classifier as attacks see it.

    Parameters
    ----------
    clf : SmoothedClassifier, torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        The classifier, fitted.

    X : array-like of shape (n_inputs, ...) or None, default=None
        Inputs, whose shape is asked for where `clf` is not a smoothed classifier.

    noise_seed : int or None, default=None
        Seed of all noise; None is that of the classifier.

    name : str, default="clf"
        What it is called where it is refused.

    Returns
    -------
    Victim
        The classifier.

    Raises
    ------
    NotFittedError
        If it is not fitted.

    TypeError
        If it is no classifier.
    """
    if hasattr(clf, "certificates"):
        return _smoothed(clf, noise_seed)
    estimator, _ = unwrap(FrozenEstimator(clf))
    if isinstance(estimator, type) or not (
        isinstance(estimator, nn.Module) or hasattr(estimator, "predict")
    ):
        raise TypeError(
            f"{name} must be a fitted SmoothedClassifier or a trained classifier, got {clf!r}."
        )
    if not isinstance(estimator, nn.Module):
        check_is_fitted(estimator)
    if X is None:
        raise TypeError(
            f"clf must be a fitted SmoothedClassifier, got {type(clf).__name__}. Attack a plain "
            f"network with the library itself."
        )
    array = np.asarray(on_host(X))
    sample = array[:1].astype(input_dtype(estimator, np.dtype(np.float64)))
    if is_net(estimator):
        base: Base = net_base(estimator, sample)
        classes = np.asarray(getattr(estimator, "classes_", np.arange(base.n_classes)))
    else:
        classes = np.asarray(estimator.classes_)
        names = getattr(estimator, "feature_names_in_", None)
        base = voting_base(estimator, classes, sample, device="auto", feature_names=names)
    return Victim(clf, estimator, base, classes, array.shape[1:], None, noise_seed or 0)


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that torch can share without a warning, such as a table's may not be."""
    return array if array.flags.writeable else array.copy()


def _smoothed(clf: Any, noise_seed: int | None) -> Victim:
    check_is_fitted(clf)
    check_parameters(clf)
    dtype = input_dtype(clf.estimator_, np.dtype(np.float64))
    base = base_of_fitted(clf, np.zeros((1, *clf.input_shape_), dtype=dtype))
    seed = clf.noise_seed_ if noise_seed is None else checked_seed(noise_seed)
    return Victim(
        clf,
        clf.estimator_,
        base,
        clf.classes_,
        clf.input_shape_,
        clf.noise_,
        seed,
        clf.autocast,
    )
