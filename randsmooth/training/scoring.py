"""Certified accuracy as a score during training, for checkpoints, early stopping and schedules."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from randsmooth.certificates import Certificates
from randsmooth.certificates.radii import certifying_probabilities
from randsmooth.checks import check_count, check_weight
from randsmooth.intervals import GroupSequentialTest
from randsmooth.network import net_base
from randsmooth.noise import Noise
from randsmooth.training.perturbation import frozen
from randsmooth.training.strategy import TrainingStrategy

__all__ = ["CertifiedAccuracyScoring"]

# Seeds from here on are the scoring's: a classifier and a strategy draw theirs from below 2**31.
_FIRST_SEED = 2**62


class CertifiedAccuracyScoring(Callback):  # type: ignore[misc]
    r"""Score a net by its certified accuracy at one radius, at the end of an epoch.

    The score is the share of some validation inputs that the smoothed net classifies right with a
    radius of at least `radius`, as `SmoothedClassifier.certificates` with ``radii=[radius]`` has
    it: each input is drawn for only until it is decided whether the radius holds. History gets the
    score under `name`, whether it is above all before under ``<name>_best``, and the mean number of
    draws an input took under ``<name>_draws``, so that skorch's own callbacks can go by it:
    ``Checkpoint(monitor="certified_accuracy_best")``,
    ``EarlyStopping(monitor="certified_accuracy", lower_is_better=False)`` and ``LRScheduler``. They
    must stand behind it among the callbacks.

    The score is for choosing between epochs and settings. What was chosen by it must be certified
    on *other* inputs: on these it is too good, though each single certificate holds.

    Parameters
    ----------
    radius : float
        The radius, at least 0, in the units of the inputs as the net is handed them, in the norm
        of the noise.

    noise : Noise or None, default=None
        The noise to certify with. None is that of the first training strategy on the net that has
        one, which is what `SmoothedClassifier` certifies with.

    X : array-like of shape (n_inputs, ...) or None, default=None
        Validation inputs. None is the validation split of the net.

    y : array-like of int, shape (n_inputs,), or None, default=None
        Their classes as the net sees them, numbers from 0. Within `SmoothedClassifier` these are
        indices into its sorted labels.

    n_inputs : int or None, default=200
        How many of the validation inputs are scored, chosen at random once; None is all.

    n_selection : int, default=30
        Draws that choose the class of each input.

    n_estimation : int, default=1000
        The most fresh draws that decide about the radius.

    alpha : float, default=0.001
        Failure probability of each certificate.

    every : int, default=1
        Score the first epoch and every epoch whose number is a multiple of this. Others repeat the
        last score, and are never the best.

    name : str, default="certified_accuracy"
        Name in the history.

    random_state : int, RandomState instance or None, default=None
        Source of the choice of inputs and of the noise, both the same in all epochs of a training.
        None derives a seed from that of the strategy where it has one, as within
        `SmoothedClassifier`.

    See Also
    --------
    randsmooth.metrics.certified_accuracy_scorer : The same score for a grid search.

    Notes
    -----
    Training goes on as if it had not been interrupted, with the same weights to the last bit: the
    modules go back to the modes they were in, and no generator of the training is touched. The
    seeds of the scoring's noise are numbers that neither a training nor the final certification
    draws.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from skorch.callbacks import EarlyStopping
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training import GaussianAugmentation
    >>> from randsmooth.training.scoring import CertifiedAccuracyScoring
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[
    ...         GaussianAugmentation(noise=Gaussian(0.25), random_state=0),
    ...         CertifiedAccuracyScoring(0.25, n_inputs=50),
    ...         EarlyStopping("certified_accuracy", lower_is_better=False, patience=2),
    ...     ],
    ...     max_epochs=2,
    ...     lr=0.1,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, ("certified_accuracy", "certified_accuracy_best")])
    2
    """

    rows_: tuple[NDArray[Any], NDArray[np.int64]] | None

    def __init__(
        self,
        radius: float,
        *,
        noise: Noise | None = None,
        X: Any = None,
        y: Any = None,
        n_inputs: int | None = 200,
        n_selection: int = 30,
        n_estimation: int = 1000,
        alpha: float = 0.001,
        every: int = 1,
        name: str = "certified_accuracy",
        random_state: Any = None,
    ) -> None:
        self.radius = radius
        self.noise = noise
        self.X = X
        self.y = y
        self.n_inputs = n_inputs
        self.n_selection = n_selection
        self.n_estimation = n_estimation
        self.alpha = alpha
        self.every = every
        self.name = name
        self.random_state = random_state

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Refuse parameters out of range, before any training.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        **kwargs
            What else skorch passes.

        Raises
        ------
        ValueError
            If a parameter is out of range, no noise is known, only one of `X` and `y` is given, or
            a callback that goes by the score comes before it.

        TypeError
            If `noise` is no Noise object.
        """
        check_weight("radius", self.radius)
        for name in ("n_selection", "n_estimation", "every"):
            check_count(name, getattr(self, name))
        if self.n_inputs is not None:
            check_count("n_inputs", self.n_inputs)
        if not (isinstance(self.alpha, float) and 0 < self.alpha < 1):
            raise ValueError(f"alpha must lie strictly between 0 and 1, got {self.alpha!r}.")
        if (self.X is None) != (self.y is None):
            given = "X" if self.y is None else "y"
            raise ValueError(f"X and y must be given together, or neither, got {given} alone.")
        self._check_order(net)
        self.noise_ = self._own_noise(net)
        self.seed_ = self._own_seed(net)
        self.rows_ = None

    def on_epoch_begin(self, net: NeuralNet, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Choose the inputs to score, before the first batch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        dataset_valid : Dataset or None, default=None
            Its validation split.

        **kwargs
            What else skorch passes.

        Raises
        ------
        ValueError
            If there are no validation inputs, their classes are not numbers from 0, or so many
            draws can never certify the radius.

        TypeError
            If they are not single floating-point arrays.
        """
        if self.rows_ is not None:
            return
        dataset = dataset_valid if self.X is None else net.get_dataset(self.X, self.y)
        if dataset is None or len(dataset) == 0:
            raise ValueError(
                "X must hold validation inputs for CertifiedAccuracyScoring where the net has "
                "none, got None. Give the net a train_split, or hand in X= and y=."
            )
        n_rows = len(dataset) if self.n_inputs is None else min(self.n_inputs, len(dataset))
        chosen = np.random.default_rng(self.seed_).permutation(len(dataset))[:n_rows]
        with _kept_generators():  # a data set may draw its augmentations
            self.rows_ = _arrays([dataset[int(row)] for row in np.sort(chosen)])
        self.noise_ = self.noise_.for_inputs(self.rows_[0].shape[1:])
        self._check_reachable()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Score the net, or repeat the last score, and record it.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.

        Raises
        ------
        ValueError
            If a class among the validation inputs is none of the net's.
        """
        earlier = [row[self.name] for row in list(net.history)[:-1] if self.name in row]
        score, n_draws = earlier[-1] if earlier else 0.0, 0.0
        due = not earlier or len(net.history) % self.every == 0
        if due and self.rows_ is not None:
            X, y = self.rows_
            record = self._certificates(net, X, y)
            score = float(record.certified_accuracy(y, [self.radius])[0])
            n_draws = float((record.n_draws + record.selection_counts.sum(axis=1)).mean())
        net.history.record(self.name, score)
        net.history.record(f"{self.name}_best", not earlier or score > max(earlier))
        net.history.record(f"{self.name}_draws", n_draws)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Let go of the validation inputs.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        self.rows_ = None

    def _certificates(self, net: NeuralNet, X: NDArray[Any], y: NDArray[np.int64]) -> Certificates:
        from randsmooth.classifier import SmoothedClassifier  # which imports the strategies

        parts = [part for part in vars(net).values() if isinstance(part, nn.Module)]
        with ExitStack() as held:
            held.enter_context(_kept_generators())
            for part in parts:
                held.enter_context(frozen(part))
            n_classes = net_base(net, X[:1]).n_classes
            if y.max() >= n_classes:
                raise ValueError(
                    f"y must hold classes of the net, 0 to {n_classes - 1}, got {y.max()} among "
                    f"the validation inputs."
                )
            clf = SmoothedClassifier(
                FrozenEstimator(net),
                noise=self.noise_,
                n_selection=self.n_selection,
                n_estimation=self.n_estimation,
                alpha=self.alpha,
                random_state=0,
            )
            held.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "y holds .* labels but the frozen net has")
            return clf.fit(X, y).certificates(X, radii=[self.radius], noise_seed=self.seed_)

    def _own_noise(self, net: NeuralNet) -> Noise:
        noise = self.noise
        if noise is None:
            noises = (getattr(strategy, "noise", None) for strategy in _strategies(net))
            noise = next((found for found in noises if found is not None), None)
        if noise is None:
            raise ValueError(
                "noise must be a Noise object such as Gaussian(0.25) for CertifiedAccuracyScoring "
                "where no strategy on the net has one, got None."
            )
        if not isinstance(noise, Noise):
            raise TypeError(f"noise must be a Noise object or None, got {noise!r}.")
        return noise

    def _own_seed(self, net: NeuralNet) -> int:
        """Return a seed that is neither the training's nor one a classifier draws."""
        given = self.random_state
        if given is None:
            seeds = (strategy.random_state for strategy in _strategies(net))
            given = next((seed for seed in seeds if isinstance(seed, (int, np.integer))), None)
        elif not isinstance(given, (int, np.integer)):
            given = check_random_state(given).randint(2**31 - 1)
        word = np.random.SeedSequence(None if given is None else int(given)).generate_state(
            1, np.uint64
        )[0]
        return _FIRST_SEED + int(word) % _FIRST_SEED

    def _check_order(self, net: NeuralNet) -> None:
        for _, callback in net.callbacks_:
            if callback is self:
                return
            if getattr(callback, "monitor", None) in (self.name, f"{self.name}_best"):
                raise ValueError(
                    f"callbacks must hold {type(callback).__name__} behind "
                    f"CertifiedAccuracyScoring, whose score it goes by, got it in front."
                )

    def _check_reachable(self) -> None:
        if self.noise_.n_outcomes is not None:
            return
        _, p0 = certifying_probabilities(np.array([float(self.radius)]), self.noise_)
        if p0[0] == 1:
            raise ValueError(
                f"radius must be one that {self.noise_!r} can certify, got {self.radius!r}. Give a "
                f"smaller radius, or noise of a larger scale."
            )
        test = GroupSequentialTest(float(p0[0]), self.alpha, self.n_estimation)
        if not test.can_claim:
            raise ValueError(
                f"n_estimation must be at least {test.smallest_n_max} to certify a radius of "
                f"{self.radius!r} with {self.noise_!r} at alpha={self.alpha!r}, got "
                f"{self.n_estimation!r}."
            )


def _strategies(net: NeuralNet) -> list[TrainingStrategy]:
    return [callback for _, callback in net.callbacks_ if isinstance(callback, TrainingStrategy)]


def _kept_generators() -> Any:
    """Return a context that leaves torch's generators as they were."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))


def _arrays(pairs: list[tuple[Any, Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return inputs and classes as arrays."""
    inputs = [x for x, _ in pairs]
    if not all(isinstance(x, (Tensor, np.ndarray)) for x in inputs):
        raise TypeError(
            f"X must hold single arrays for CertifiedAccuracyScoring, got "
            f"{type(inputs[0]).__name__}."
        )
    X = torch.stack([torch.as_tensor(x) for x in inputs]).cpu().numpy()
    if X.dtype.kind != "f":
        raise TypeError(f"X must hold floating-point inputs, got {X.dtype}.")
    given = np.array([np.asarray(y) for _, y in pairs])
    numbers = given.dtype.kind in "iuf" and given.shape == (len(X),)
    y = given.astype(np.int64) if numbers else np.array([-1])
    if not numbers or (y != given).any() or (y < 0).any():
        raise ValueError(
            f"y must hold the classes of the validation inputs as numbers from 0, got "
            f"{given.ravel()[:5].tolist()}."
        )
    return X, y
