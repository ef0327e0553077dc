"""The attack library behind our interface, imported where it is used."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import victim
from randsmooth.checks import check_clip_range

__all__ = [
    "art",
    "art_classifier_of",
    "as_art_classifier",
    "as_foolbox_model",
    "foolbox",
    "model_of",
]


def foolbox() -> Any:
    """Return the foolbox package.

    Returns
    -------
    module
        The package.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Its import asks setuptools and eagerpy for what they deprecate.
            warnings.simplefilter("ignore")
            import foolbox as package
    except ImportError as error:
        raise ImportError(
            "attacks need foolbox, which is not installed. Install it with "
            "pip install 'randsmooth[attacks]'."
        ) from error
    return package


def as_foolbox_model(
    clf: Any,
    n_noise: int = 32,
    *,
    frozen: bool = True,
    average: str = "probability",
    clip_range: tuple[float, float] = (0.0, 1.0),
    noise_seed: int | None = None,
) -> Any:
    """Return a smoothed classifier as a model that foolbox's attacks take.

    Its predictions are votes under `n_noise` draws, the gradients of its outputs averages over the
    same draws, which no certificate ever sees. What an attack reports as a success is one on these
    draws; `attack` confirms it with fresh ones.

    Foolbox climbs the cross-entropy of the outputs. With ``average="probability"`` its gradient is
    that of the average probability's log-loss, exactly, wherever the class with the most votes is
    the most probable one; elsewhere the outputs are normalised anew. With ``average="loss"`` they
    always are, since average logarithms are no log-probabilities: the gradient is the average of
    the losses' gradients less that of the logarithm of the outputs' sum. Where the average alone is
    to be climbed, let the attack's `get_loss_fn` return minus the label's output, as shown in the
    guide to attacks.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    n_noise : int, default=32
        Draws per input.

    frozen : bool, default=True
        Whether the draws are the same in every call, without which attacks that search for the
        smallest perturbation report noise; fresh ones suit attacks of a fixed size.

    average : {"probability", "loss"}, default="probability"
        What is averaged over the draws: probabilities, or their logarithms.

    clip_range : tuple of two floats, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates.

    noise_seed : int or None, default=None
        Seed of the draws; None is that of the classifier.

    Returns
    -------
    foolbox.models.PyTorchModel
        The model. Its inputs are tensors of the shape seen in `fit`, on the network's device.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    ImportError
        If foolbox is not installed.

    See Also
    --------
    attack : Attacks by name, judged by fresh votes.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from randsmooth import SmoothedClassifier
    >>> from randsmooth.attacks import as_foolbox_model
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype("float32") / 16
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 10))
    >>> clf = SmoothedClassifier(net, sigma=0.25, random_state=0).fit(X, y)
    >>> model = as_foolbox_model(clf, n_noise=16)
    >>> from foolbox.attacks import L2PGD
    >>> x, labels = torch.from_numpy(X[:8]), torch.from_numpy(y[:8])
    >>> _, moved, success = L2PGD(steps=10)(model, x, labels, epsilons=1.0)
    >>> moved.shape
    torch.Size([8, 64])
    """
    _check_limits(clip_range)
    whom = victim(clf, noise_seed=noise_seed)
    module = SmoothedModule(whom, n_noise, frozen=frozen, average=average)
    return model_of(module, clip_range)


def as_art_classifier(
    clf: Any,
    n_noise: int = 32,
    *,
    frozen: bool = True,
    average: str = "probability",
    clip_range: tuple[float, float] = (0.0, 1.0),
    noise_seed: int | None = None,
) -> Any:
    """Return a smoothed classifier as the adversarial-robustness-toolbox takes it.

    As `as_foolbox_model`, for the other library. Its loss is minus the output at the label, whose
    gradient is exactly that of the average, in either form. Inputs of any floating-point type are
    converted to that of the network, without which the toolbox's attacks by votes fail under
    NumPy 2.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    n_noise : int, default=32
        Draws per input.

    frozen : bool, default=True
        Whether the draws are the same in every call.

    average : {"probability", "loss"}, default="probability"
        What is averaged over the draws: probabilities, or their logarithms.

    clip_range : tuple of two floats, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates.

    noise_seed : int or None, default=None
        Seed of the draws; None is that of the classifier.

    Returns
    -------
    art.estimators.classification.PyTorchClassifier or BlackBoxClassifierNeuralNetwork
        The classifier: with gradients where the base is a network and the noise is added.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    ImportError
        If the toolbox is not installed.
    """
    _check_limits(clip_range)
    whom = victim(clf, noise_seed=noise_seed)
    module = SmoothedModule(whom, n_noise, frozen=frozen, average=average)
    return art_classifier_of(module, clip_range)


def _check_limits(clip_range: Any) -> None:
    """Refuse limits of the coordinates that a library could not take."""
    check_clip_range(clip_range)
    if clip_range is None:
        raise ValueError(
            "clip_range must be two numbers, the smaller first, got None. Hand in the range of the "
            "data."
        )


def art_classifier_of(module: SmoothedModule, clip_range: tuple[float, float]) -> Any:
    """Return a module as the adversarial-robustness-toolbox sees it.

    Parameters
    ----------
    module : SmoothedModule
        The module.

    clip_range : tuple of two floats
        Smallest and largest value of an input's coordinates.

    Returns
    -------
    art.estimators.classification.PyTorchClassifier or BlackBoxClassifierNeuralNetwork
        The classifier.
    """
    classifiers = art().estimators.classification
    known = {
        "input_shape": module.victim.input_shape,
        "nb_classes": module.n_classes,
        "clip_values": clip_range,
    }
    if module.victim.differentiable:
        return classifiers.PyTorchClassifier(
            module,
            # Exactly what is averaged: a cross-entropy would normalise what has its own norm.
            loss=torch.nn.NLLLoss(),
            device_type="gpu" if module.device.type == "cuda" else "cpu",
            **known,
        )

    def shares(x: NDArray[Any]) -> NDArray[Any]:
        rows = torch.from_numpy(np.ascontiguousarray(x)).to(module.device, module.dtype)
        scores: NDArray[Any] = module(rows).cpu().numpy()
        return scores

    return classifiers.BlackBoxClassifierNeuralNetwork(shares, **known)


def art() -> Any:
    """Return the adversarial-robustness-toolbox, with the parts of it that are used.

    Returns
    -------
    module
        The package.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its import asks SciPy for what that deprecates
            import art as package
            import art.attacks.evasion
            import art.estimators.classification
    except ImportError as error:
        raise ImportError(
            "this needs the adversarial-robustness-toolbox, which is not installed. Install it "
            "with pip install adversarial-robustness-toolbox."
        ) from error
    return package


def model_of(module: torch.nn.Module, clip_range: tuple[float, float]) -> Any:
    """Return a module as foolbox sees it, without a move to another device.

    Parameters
    ----------
    module : SmoothedModule
        The module.

    clip_range : tuple of two floats
        Smallest and largest value of an input's coordinates.

    Returns
    -------
    foolbox.models.PyTorchModel
        The model.
    """
    return foolbox().PyTorchModel(module, bounds=clip_range, device=module.device)
