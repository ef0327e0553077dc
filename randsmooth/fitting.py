"""From what the user hands in as `estimator` to a trained base that votes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from randsmooth.bases import ArrayBase, Base, as_table
from randsmooth.exceptions import WeightLeakWarning
from randsmooth.network import module_dtype, net_base, torch_device
from randsmooth.noise import Noise, Stream, block_generator
from randsmooth.training import STRATEGIES, GaussianAugmentation, StabilityTraining
from randsmooth.training.strategy import TrainingStrategy

__all__ = [
    "Recipe",
    "base_of_fitted",
    "check_training",
    "fit_estimator",
    "input_dtype",
    "is_net",
    "own_estimator",
    "unwrap",
    "voting_base",
]


@dataclass(frozen=True)
class Recipe:
    """How a base is trained.

    Parameters
    ----------
    noise : Noise
        The noise to train for.

    training : str, TrainingStrategy or None
        The strategy.

    seed : int
        Seed of the weights, the order of the batches and the training noise.

    device : str
        Where torch trains.
    """

    noise: Noise
    training: Any
    seed: int
    device: str


def unwrap(estimator: Any) -> tuple[Any, bool]:
    """Return the estimator inside, and whether it is frozen.

    Parameters
    ----------
    estimator : object
        What the user handed in; None stands for logistic regression.

    Returns
    -------
    estimator : object
        A torch module (class or instance), a skorch net or a scikit-learn classifier.

    frozen : bool
        Whether it is never to be trained.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator, True
    if estimator is None:
        return LogisticRegression(max_iter=1000), False
    is_module_class = isinstance(estimator, type) and issubclass(estimator, nn.Module)
    is_fittable = not isinstance(estimator, type) and hasattr(estimator, "fit")
    if not (is_module_class or isinstance(estimator, nn.Module) or is_fittable):
        raise TypeError(
            f"estimator must be a torch module (class or instance), a skorch net, a scikit-learn "
            f"classifier, or FrozenEstimator around a trained one, got {estimator!r}."
        )
    return estimator, False


def own_estimator(estimator: Any, device: str, verbose: int) -> Any:
    """Return an unfitted estimator of our own to train: a clone, or a module made into a net.

    Parameters
    ----------
    estimator : object
        What `unwrap` returned.

    device : str
        Where torch trains.

    verbose : int
        Whether the net of a bare module prints its epochs.

    Returns
    -------
    object
        A skorch net or a scikit-learn classifier.
    """
    if isinstance(estimator, (nn.Module, type)):
        return NeuralNetClassifier(
            clone(estimator, safe=False),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            max_epochs=30,
            batch_size=64,
            iterator_train__shuffle=True,
            train_split=None,
            device=str(torch_device(device)),
            verbose=int(verbose > 0),
        )
    net = final_step(estimator)
    if isinstance(net, NeuralNet) and isinstance(net.module, nn.Module):
        warnings.warn(
            f"{type(net).__name__} holds a module instance, {type(net.module).__name__}: if it was "
            f"trained before, its weights leak through clone into every fit and every fold of a "
            f"cross-validation. Hand in the module's class instead.",
            WeightLeakWarning,
            stacklevel=4,
        )
    own = clone(estimator)
    if isinstance(net, NeuralNet) and device != "auto":
        final_step(own).set_params(device=str(torch_device(device)))
    return own


def final_step(estimator: Any) -> Any:
    """Return the classifier at the end of a Pipeline, or the estimator itself.

    Parameters
    ----------
    estimator : object
        Any estimator.

    Returns
    -------
    object
        The one that classifies.
    """
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def is_net(estimator: Any) -> bool:
    """Return whether torch drives the estimator.

    Parameters
    ----------
    estimator : object
        Any estimator.

    Returns
    -------
    bool
        Whether it is a module or a skorch net.
    """
    return isinstance(estimator, (nn.Module, NeuralNet))


def input_dtype(estimator: Any, given: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of the rows that an estimator takes.

    Parameters
    ----------
    estimator : object
        A module, a net, a Pipeline or any other classifier.

    given : dtype
        Type of the inputs as handed in.

    Returns
    -------
    dtype
        For torch the type of its parameters, single precision where that is open; else `given`.
    """
    last = final_step(estimator)
    if not is_net(last):
        return given
    module = last
    if isinstance(last, NeuralNet):
        module = getattr(last, "module_", last.module)
    dtype = module_dtype(module) if isinstance(module, nn.Module) else torch.float32
    return np.dtype(np.float64 if dtype == torch.float64 else np.float32)


def fit_estimator(
    estimator: Any,
    X: NDArray[Any],
    codes: NDArray[np.int64],
    recipe: Recipe,
    *,
    feature_names: NDArray[Any] | None,
    fit_params: Mapping[str, Any],
) -> Any:
    """Train an estimator of our own for the noise.

    Parameters
    ----------
    estimator : object
        What `own_estimator` returned.

    X : ndarray of shape (n_samples, ...)
        The inputs.

    codes : ndarray of int64, shape (n_samples,)
        The class index of each.

    recipe : Recipe
        How to train.

    feature_names : ndarray of str or None
        Column names, where the inputs came as a table.

    fit_params : mapping
        Passed on to the estimator's `fit`.

    Returns
    -------
    object
        The estimator, fitted.
    """
    strategy = _strategy(recipe, isinstance(estimator, NeuralNet))
    X = X.astype(input_dtype(estimator, X.dtype), copy=False)
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(recipe.seed)
        if isinstance(estimator, NeuralNet):
            return _fit_net(estimator, X, codes, strategy, recipe, fit_params)
        if strategy is not None:
            generator = block_generator(recipe.seed, Stream.TRAINING, 0)
            n_samples = len(X)
            X, rows = strategy.replicate(X, generator)
            codes = codes[rows]
            fit_params = {k: _per_row(v, n_samples, rows) for k, v in fit_params.items()}
        try:
            return estimator.fit(_as_seen(estimator, X, feature_names), codes, **fit_params)
        except ValueError as error:
            if not fit_params:
                raise
            raise ValueError(
                f"{type(estimator).__name__} refused to be fitted with {', '.join(fit_params)}: "
                f"{error}"
            ) from error


def voting_base(
    estimator: Any,
    labels: NDArray[Any],
    X: NDArray[Any],
    *,
    device: str,
    feature_names: NDArray[Any] | None,
) -> Base:
    """Return the trained estimator as a base that votes.

    Parameters
    ----------
    estimator : object
        The trained estimator.

    labels : ndarray of shape (n_classes,)
        What its `predict` returns for each class index.

    X : ndarray of shape (n_samples, ...)
        Inputs of its type, of which the first is classified to count a net's columns.

    device : str
        Where a module runs.

    feature_names : ndarray of str or None
        Column names, where it was fitted on a table.

    Returns
    -------
    Base
        The base.
    """
    if is_net(estimator):
        return net_base(estimator, X[:1], device, len(labels))
    dtype = torch.float64 if X.dtype == np.float64 else torch.float32
    flat, names = _view(estimator, X, feature_names)
    return ArrayBase(estimator, labels, dtype, flat, names)


def base_of_fitted(clf: Any, X: NDArray[Any]) -> Base:
    """Return the base of a fitted smoothed classifier.

    Parameters
    ----------
    clf : SmoothedClassifier
        The classifier.

    X : ndarray of shape (n_samples, ...)
        Inputs of the base's type.

    Returns
    -------
    Base
        The base, whose votes are indices into `classes_`.
    """
    _, frozen = unwrap(clf.estimator)
    return voting_base(
        clf.estimator_,
        # A frozen base answers with its own labels, others with indices.
        clf.classes_ if frozen else np.arange(len(clf.classes_)),
        X,
        device=clf.device,
        feature_names=getattr(clf, "feature_names_in_", None),
    )


def check_training(training: Any) -> None:
    """Refuse what names no training strategy and is none.

    Parameters
    ----------
    training : str, TrainingStrategy or None
        How to train.

    Raises
    ------
    ValueError
        If no strategy has that name.
    TypeError
        If it is something else.
    """
    if isinstance(training, str) and training not in ("auto", *STRATEGIES):
        raise ValueError(
            f"training must be one of {', '.join(map(repr, ('auto', *STRATEGIES)))}, None or a "
            f"strategy of randsmooth.training, got {training!r}."
        )
    if not (training is None or isinstance(training, (str, TrainingStrategy))):
        raise TypeError(
            f"training must be a name, None or a strategy of randsmooth.training, got {training!r}."
        )


def _strategy(recipe: Recipe, for_net: bool) -> TrainingStrategy | None:
    """Return the strategy that the user asked for, with noise and seed filled in."""
    training = recipe.training
    if training is None:
        return None
    if isinstance(training, str):
        kinds = {"auto": StabilityTraining if for_net else GaussianAugmentation, **STRATEGIES}
        return _filled(kinds[training](), recipe)
    return _filled(clone(training), recipe)


def _filled(strategy: TrainingStrategy, recipe: Recipe) -> TrainingStrategy:
    if getattr(strategy, "noise", recipe.noise) is None:
        strategy.set_params(noise=recipe.noise)
    if strategy.random_state is None:
        strategy.set_params(random_state=recipe.seed)
    return strategy


def _fit_net(
    net: NeuralNet,
    X: NDArray[Any],
    codes: NDArray[np.int64],
    strategy: TrainingStrategy | None,
    recipe: Recipe,
    fit_params: Mapping[str, Any],
) -> NeuralNet:
    """Attach the strategy, check the net's outputs before any training, and train."""
    if strategy is not None:
        _attach(net, strategy, recipe)
    net_base(clone(net).initialize(), X[:1], n_classes=len(np.unique(codes)))
    torch.manual_seed(recipe.seed)
    y = codes.astype(np.float32) if isinstance(net, NeuralNetBinaryClassifier) else codes
    return net.fit(X, y, **fit_params)


def _attach(net: NeuralNet, strategy: TrainingStrategy, recipe: Recipe) -> None:
    """Put the strategy first among the net's callbacks, unless ``"auto"`` finds one there."""
    if isinstance(net.callbacks, str):
        raise TypeError(
            f"training={type(strategy).__name__}() needs a net that runs callbacks, got "
            f"{type(net).__name__}(callbacks={net.callbacks!r}). Enable them, or set training=None."
        )
    callbacks = list(net.callbacks or [])
    plain = [c[1] if isinstance(c, tuple) else c for c in callbacks]
    own = [c for c in plain if isinstance(c, TrainingStrategy)]
    if own and recipe.training != "auto":
        raise ValueError(
            f"training must be 'auto' for a net that has a training strategy among its callbacks, "
            f"here {type(own[0]).__name__}, got {recipe.training!r}. Take one of the two away."
        )
    for callback in own:
        _filled(callback, recipe)
    if not own:
        net.set_params(callbacks=[("smoothing", strategy), *callbacks])


def _per_row(value: Any, n_samples: int, rows: NDArray[np.intp]) -> Any:
    """Return one value per noisy copy for whatever came with one per input, such as weights."""
    per_input = hasattr(value, "__len__") and not isinstance(value, str) and len(value) == n_samples
    return np.asarray(value)[rows] if per_input else value


def _as_seen(estimator: Any, X: NDArray[Any], feature_names: NDArray[Any] | None) -> Any:
    flat, names = _view(estimator, X, feature_names)
    if flat:
        return X.reshape(len(X), -1)
    return X if names is None else as_table(X, names)


def _view(
    estimator: Any, X: NDArray[Any], feature_names: NDArray[Any] | None
) -> tuple[bool, NDArray[Any] | None]:
    """Return whether a base sees flat rows, and the column names it sees, in fit and in votes."""
    return X.ndim > 2 and _takes_flat_rows(estimator), (
        feature_names if _takes_table(estimator) else None
    )


def _takes_flat_rows(estimator: Any) -> bool:
    """Return whether it is one of scikit-learn's own classifiers, which take flat rows only."""
    own = type(estimator).__module__.startswith("sklearn.")
    return own and not isinstance(estimator, Pipeline)


def _takes_table(estimator: Any) -> bool:
    """Return whether column names may matter: in a Pipeline, or once fitted with them."""
    return isinstance(estimator, Pipeline) or hasattr(estimator, "feature_names_in_")
