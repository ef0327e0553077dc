"""SmoothedClassifier: train for noise, vote, certify."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import (
    _routing_enabled,
    process_routing,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from randsmooth.certificates import Certificates
from randsmooth.certification import certification_run
from randsmooth.classifier_files import ClassifierFiles
from randsmooth.crews import elsewhere
from randsmooth.entrance_memory import EntranceMemory
from randsmooth.fitting import (
    Recipe,
    check_training,
    fit_estimator,
    own_estimator,
    unwrap,
)
from randsmooth.frozen import frozen_classes
from randsmooth.further_certificates import FurtherCertificates
from randsmooth.inputs import forward_strides, on_host
from randsmooth.noise import Noise, noise_from_name
from randsmooth.parameters import check_parameters
from randsmooth.sentinel import check_sentinel, undecided_votes
from randsmooth.sklearn_protocol import ScikitLearnProtocol
from randsmooth.sources import in_batches, is_stream
from randsmooth.streamed import streamed_certificates
from randsmooth.two_stage import TwoStage

__all__ = ["SmoothedClassifier"]


class SmoothedClassifier(
    FurtherCertificates,
    ClassifierFiles,
    ScikitLearnProtocol,
    MetaEstimatorMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    r"""A classifier smoothed by noise, whose predictions come with a certified radius.

    It returns the class that its base classifier :math:`f` returns most often on noisy copies of
    the input, :math:`g(x) = \arg\max_c P(f(x + \varepsilon) = c)`, and certifies from vote counts a
    radius within which no change of the input changes :math:`g`.

    The guarantee: for each input that was chosen before the noise was seen, with probability at
    least 1 - `alpha` over the draws of the noise, :math:`g` is constant at the reported label in
    the open ball of the reported radius, in the norm of the noise. Draws that choose the label and
    draws that bound its probability are disjoint. Floating-point noise is taken to be what it
    approximates: the sum of input and noise is treated as exact.

    Parameters
    ----------
    estimator : object, default=None
        The base: a torch module (class or instance), a skorch net, any scikit-learn classifier, a
        Pipeline, or `FrozenEstimator` around a trained one. A module is trained as a skorch net
        with Adam for 30 epochs; an instance is copied, and its weights are the starting point.
        What is frozen, a bare trained module included, is never trained; a frozen module is put
        into evaluation mode and moved to `device`. None is `LogisticRegression(max_iter=1000)`.
        Scaling belongs inside it: the noise is added to `X` as handed in.

    sigma : float, default=0.25
        Scale of the noise, in the units of `X` as handed in: the standard deviation of Gaussian
        noise, the scale of Laplace noise, the half-width of uniform noise.

    noise : str or Noise, default="gaussian"
        The noise: "gaussian" certifies in :math:`\ell_2`, "laplace" and "uniform" in
        :math:`\ell_1`; further names are in `randsmooth.noise.NOISES`. A `Noise` object carries
        its own scale, and `sigma` is not used, unless it leaves its scale open.

    training : str, TrainingStrategy or None, default="auto"
        How to train for the noise. "auto" is stability training for torch and skorch bases and
        augmentation by noisy copies for others; further names are those of
        `randsmooth.training.STRATEGIES`. None trains on the inputs as they are. A net with a
        strategy among its callbacks keeps it, and takes "auto" alone.

    bound : str or callable, default="auto"
        From probabilities to radius: a name in `randsmooth.bounds.BOUNDS`, "auto" for the tightest
        sound one, or a function ``bound(p_lower, p_upper, sigma=...)``. "binary" reproduces
        published tables.

    n_selection : int, default=100
        Draws that choose the label of each input.

    n_estimation : int, "two-stage" or TwoStage, default=10_000
        Fresh draws that bound its probability; the most there may be where `certify` is asked
        about given radii. "two-stage" plans the number for each input by a pilot whose draws are
        not used again, see `TwoStage`.

    alpha : float, default=0.001
        Failure probability of each input's certificate.

    common_noise : bool, default=True
        Whether all inputs share one bank of noise, which is faster. Every certificate holds by
        itself either way; with common noise, certificates of different inputs are dependent.

    batch_size : int or "auto", default="auto"
        Rows of one forward pass.

    device : str, default="auto"
        Where a torch base runs; "auto" is a GPU where there is one. A skorch net keeps its own
        device unless another is named.

    shortcuts : bool, default=True
        Whether a network may be computed in a cheaper way: inputs and noise pass its first layer
        apart, and its layers run in faster kernels. The votes have the same distribution. The
        record's `execution` says what was done.

    compile : bool, default=False
        Whether to compile a network for certification and prediction, which takes up to a minute.

    autocast : {"bfloat16", "float16"} or None, default=None
        Reduced precision inside a network. What is certified is then the network in this
        precision. Noise is added in single precision all the same.

    n_jobs : int or None, default=None
        Workers over the inputs, as in joblib. Threads, unless a `joblib.parallel_config` says
        otherwise.

    random_state : int, RandomState instance or None, default=None
        Source of the weights, the order of the batches, and the noise.

    verbose : int, default=0
        Whether to show progress.

    Attributes
    ----------
    estimator_ : object
        The trained base.

    classes_ : ndarray of shape (n_classes,)
        The labels.

    n_features_in_ : int
        Number of features, or of channels, seen in `fit`.

    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Column names, where `X` was a table.

    input_shape_ : tuple of int
        Shape of one input.

    noise_ : Noise
        The noise.

    noise_seed_ : int
        Seed of the noise, drawn once in `fit`: everything after `fit` is deterministic.

    See Also
    --------
    randsmooth.Certificates : What `certificates` returns.
    randsmooth.training : The training strategies.

    Notes
    -----
    Results depend on the noise seed, the input and the parameters alone: not on the batch size, the
    order of the inputs or the number of jobs. Inputs that were searched for against one noise bank
    must be certified with another: hand a fresh `noise_seed` to `certify`.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via randomized
       smoothing", ICML 2019.

    .. [2] B. Li, C. Chen, W. Wang and L. Carin, "Certified adversarial robustness with additive
       noise", NeurIPS 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from randsmooth import SmoothedClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> clf = SmoothedClassifier(sigma=0.25, n_estimation=1000, random_state=0)
    >>> clf = clf.fit(X_train, y_train)
    >>> radii = clf.certify(X_test[:5])
    >>> radii.shape, bool((radii >= 0).all())
    ((5,), True)
    """

    def __init__(
        self,
        estimator: Any = None,
        sigma: float = 0.25,
        *,
        noise: str | Noise = "gaussian",
        training: Any = "auto",
        bound: Any = "auto",
        n_selection: int = 100,
        n_estimation: int | str | TwoStage = 10_000,
        alpha: float = 0.001,
        common_noise: bool = True,
        batch_size: int | str = "auto",
        device: str = "auto",
        shortcuts: bool = True,
        compile: bool = False,
        autocast: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.sigma = sigma
        self.noise = noise
        self.training = training
        self.bound = bound
        self.n_selection = n_selection
        self.n_estimation = n_estimation
        self.alpha = alpha
        self.common_noise = common_noise
        self.batch_size = batch_size
        self.device = device
        self.shortcuts = shortcuts
        self.compile = compile
        self.autocast = autocast
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: ArrayLike, **fit_params: Any) -> Self:
        """Train the base for the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The inputs: a table, images, any shape.

        y : array-like of shape (n_samples,)
            Their labels.

        **fit_params : dict
            Passed on to the base's `fit`. Values that come one per input, such as sample weights,
            are repeated for its noisy copies.

        Returns
        -------
        SmoothedClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter or the data is out of range, or the labels do not fit the base.

        TypeError
            If a parameter is of the wrong kind.

        NotFittedError
            If a frozen base was never trained.

        Warns
        -----
        WeightLeakWarning
            If a net holds a module instance, whose weights every clone inherits.
        """
        check_parameters(self)
        X_array, y_array = validate_data(
            self, on_host(X), y, dtype=(np.float64, np.float32), allow_nd=True
        )
        check_classification_targets(y_array)
        X_array = forward_strides(X_array)
        self.input_shape_ = X_array.shape[1:]
        random = check_random_state(self.random_state)
        self.noise_ = noise_from_name(self.noise, self.sigma).for_inputs(self.input_shape_)
        self.noise_.check_inputs(X_array)
        self.noise_seed_ = int(random.randint(2**31 - 1))
        self._memory = EntranceMemory()
        check_training(self.training)
        estimator, frozen = unwrap(self.estimator)
        if frozen:
            self.classes_ = frozen_classes(estimator, X_array, y_array, self.device)
            self.estimator_ = estimator
            return self
        encoder = LabelEncoder().fit(y_array)
        self.classes_ = encoder.classes_
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least two classes, got one class: {self.classes_}.")
        self.estimator_ = fit_estimator(
            own_estimator(estimator, self.device, self.verbose),
            X_array,
            encoder.transform(y_array).astype(np.int64),
            Recipe(self.noise_, self.training, int(random.randint(2**31 - 1)), self.device),
            feature_names=getattr(self, "feature_names_in_", None),
            fit_params=process_routing(self, "fit", **fit_params).estimator.fit
            if _routing_enabled()
            else fit_params,
        )
        return self

    def predict(self, X: ArrayLike, *, abstain: Any = None) -> NDArray[Any]:
        r"""Return the class with the most votes among the selection draws.

        These are the labels that `certificates` reports. With `abstain`, an answer other than this
        sentinel differs from that of :math:`g` with probability at most `alpha` over the noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The inputs.

        abstain : label or None, default=None
            What to return where the votes leave open which class is the most probable: where the
            exact binomial test between the two classes with the most votes has a p-value above
            `alpha` [1]_. It must not be a class itself. None never abstains.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predicted labels.

        Raises
        ------
        ValueError
            If `abstain` is one of the classes.

        TypeError
            If `abstain` is text and the classes are numbers, or the other way round.

        Warns
        -----
        TooFewDrawsWarning
            If so many selection draws can never do otherwise than abstain.

        References
        ----------
        .. [1] J. Cohen, E. Rosenfeld and Z. Kolter, "Certified adversarial robustness via
           randomized smoothing", ICML 2019, Proposition 1.
        """
        if abstain is not None:
            check_sentinel(abstain, self.classes_)
        votes = certification_run(self, X).label_votes()
        labels: NDArray[Any] = self.classes_[votes.argmax(axis=1)]
        if abstain is None:
            return labels
        undecided = undecided_votes(votes, self)
        labels = labels.astype(np.result_type(labels.dtype, np.asarray(abstain).dtype))
        labels[undecided] = abstain
        return labels

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the vote shares of the classes among the selection draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Shares, in the order of `classes_`. Their resolution is 1 / `n_selection`.
        """
        votes = certification_run(self, X).label_votes()
        shares: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
        return shares

    def certify(
        self,
        X: Any,
        *,
        radii: ArrayLike | None = None,
        noise_seed: int | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> NDArray[np.float64]:
        """Return the certified radius of each input.

        Each input's radius is valid with probability at least 1 - `alpha` over the noise, provided
        the input was chosen before that noise was seen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or a source of inputs
            The inputs, as in `certificates`.

        radii : float, array-like of float or None, default=None
            Radii to decide about. With them each input is drawn for only until it is decided which
            of them hold, at most `n_estimation` times, and its radius is the largest of them that
            is certified. None asks for the largest radius that `n_estimation` draws certify.

        noise_seed : int or None, default=None
            Seed of the noise bank; None is `noise_seed_`.

        store : str, path-like or None, default=None
            A file of votes to write and to go on with, as in `certificates`.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            Radii in the units of `X`, in the norm of the noise; 0 where the classifier abstains.

        Raises
        ------
        ValueError
            If a radius is negative or not finite.

        CertificationError
            If some inputs could not be classified. The error keeps what was computed.

        Warns
        -----
        TooFewDrawsWarning
            If so many draws can never certify at this `alpha`, or not one of the radii.
        """
        return self.certificates(X, radii=radii, noise_seed=noise_seed, store=store).radius

    def certificates(
        self,
        X: Any,
        *,
        radii: ArrayLike | None = None,
        noise_seed: int | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> Certificates:
        """Return the whole record of a certification: labels, radii, bounds and votes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or a source of inputs
            The inputs. A torch `Dataset`, a `DataLoader`, an iterator of batches or a NumPy array
            on disk is read a block at a time, and only what is being certified is in memory; where
            items or batches are tuples, their first entries count.

        radii : float, array-like of float or None, default=None
            Radii to decide about, as in `certify`. All claims on one input hold together with
            probability at least 1 - `alpha`, however many radii are asked about. The votes of such
            a run are no sample of a fixed size: its record stays as it is.

        noise_seed : int or None, default=None
            Seed of the noise bank; None is `noise_seed_`.

        store : str, path-like or None, default=None
            A file to which votes are written as they are counted. A run that was interrupted,
            whatever the reason, goes on where it stopped when it is called in the same way again,
            and ends with the same counts. `VoteStore` reads the file, also while it grows.

        Returns
        -------
        Certificates
            One row per input.

        Raises
        ------
        ValueError
            If a radius is negative or not finite.

        StoreMismatchError
            If `store` holds a run of another model, of other inputs, noise, seed or draws.

        StoreBusyError
            If another run writes to `store`.

        StoreWriteError
            If `store` cannot be written to. What it holds is safe.

        InvalidFileError
            If `store` is something else.

        CertificationError
            If some inputs could not be classified. Its `certificates` holds the record, in which
            they abstain, and its `failed` their rows.

        Warns
        -----
        TooFewDrawsWarning
            If `n_estimation` draws can never certify at this `alpha`, or not one of the radii.
        """
        X = in_batches(X, len(getattr(self, "input_shape_", ())))
        if store is None and not (is_stream(X) or elsewhere()):
            return certification_run(self, X, noise_seed).certificates(radii)
        return streamed_certificates(self, X, radii=radii, noise_seed=noise_seed, store=store)
