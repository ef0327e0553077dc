"""A classifier that never saw noise, behind a denoiser, as one network."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from randsmooth.acceleration import first_output
from randsmooth.denoised.parts import classifying_module, denoising_module, part_name
from randsmooth.training.perturbation import frozen

__all__ = ["DenoisedClassifier"]


class DenoisedClassifier(nn.Module):
    r"""A classifier behind a denoiser, as one network: ``base(denoiser(rows))``.

    Smoothed, it is denoised smoothing (Salman et al. [1]_; with a diffusion model as the denoiser
    Carlini et al. [2]_)::

        whole = FrozenEstimator(DenoisedClassifier(denoiser, base))
        clf = SmoothedClassifier(whole, sigma=0.5).fit(X, y)

    Noise is added in front of the denoiser, at exactly `sigma` in the units of `X` as handed in,
    and the certificate is for :math:`x \mapsto \arg\max_c P(f(D(x + \varepsilon)) = c)`. It holds
    whatever the denoiser does; a bad one only makes the radii small.

    Both parts are used as they are, without a copy, and in evaluation mode, to which the
    constructor sets them. No gradient ever reaches the base's weights. Without `FrozenEstimator`,
    or as the module of a skorch net, training therefore changes the denoiser alone; see Examples.

    Parameters
    ----------
    denoiser : torch.nn.Module, skorch.NeuralNet or callable (Tensor) -> Tensor
        From noisy rows to rows of the same shape: a module, a fitted net, or any deterministic
        function on tensors. It is not told the noise level; a network is trained for one.

    base : torch.nn.Module, skorch.NeuralNet or scikit-learn classifier
        A trained classifier: a module that returns logits, or a fitted estimator. scikit-learn's
        own see each input as one flat row.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels of the columns, for a scikit-learn base alone.

    Raises
    ------
    TypeError
        If a part is none of these.

    NotFittedError
        If a net or classifier is not fitted.

    See Also
    --------
    DiffusionDenoiser : A diffusion model as a denoiser in one step.
    randsmooth.models.denoiser.DnCNN : A denoiser for images.
    randsmooth.models.denoiser.DenseDenoiser : A denoiser for tables.

    Notes
    -----
    The columns are the module's own outputs; for a skorch net that returns probabilities their
    logarithms; for a binary net zero and by how much the logit exceeds its threshold; for a
    scikit-learn classifier the logarithm of `predict_proba`, in the order of `classes_`, or a
    one-hot row where there is none. The largest is always that of the class which `predict`
    returns.

    Each part computes in the type of its own parameters. Modules and plain nets are submodules,
    which `to` moves and `state_dict` holds; what a net with an `infer` of its own, a callable or a
    scikit-learn classifier needs stays where it is. The check that denoised rows are finite makes
    a GPU wait once a batch.

    References
    ----------
    .. [1] H. Salman, M. Sun, G. Yang, A. Kapoor and J. Z. Kolter, "Denoised smoothing: a provable
       defense for pretrained classifiers", NeurIPS 2020, section 2.

    .. [2] N. Carlini, F. Tramèr, K. Dvijotham, L. Rice, M. Sun and J. Z. Kolter, "(Certified!!)
       adversarial robustness for free!", ICLR 2023.

    Examples
    --------
    A denoiser is a regression on the clean inputs from noisy ones (mean squared error, [1]_), which
    needs no labels and no base:

    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skorch import NeuralNetClassifier, NeuralNetRegressor
    >>> from randsmooth import SmoothedClassifier
    >>> from randsmooth.denoised import DenoisedClassifier
    >>> from randsmooth.models.denoiser import DenseDenoiser
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training import GaussianAugmentation
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).astype("float32")
    >>> _ = torch.manual_seed(0)
    >>> noisy = GaussianAugmentation(noise=Gaussian(0.5), random_state=0)
    >>> denoiser = NeuralNetRegressor(
    ...     DenseDenoiser(64),
    ...     optimizer=torch.optim.Adam,
    ...     lr=1e-3,
    ...     max_epochs=3,
    ...     train_split=None,
    ...     callbacks=[noisy],
    ...     verbose=0,
    ... )
    >>> denoiser = denoiser.fit(X, X)

    Any classifier trained on clean inputs can stand behind it:

    >>> base = LogisticRegression(max_iter=1000).fit(X, y)
    >>> whole = FrozenEstimator(DenoisedClassifier(denoiser, base))
    >>> clf = SmoothedClassifier(whole, sigma=0.5, n_estimation=500, random_state=0).fit(X, y)
    >>> clf.certify(X[:3]).shape
    (3,)

    With a network as the base, the denoiser can be trained to keep the base's answers (the
    stability objective of [1]_): the targets are what the base says of the clean inputs.

    >>> network = torch.nn.Linear(64, 10)  # trained on clean inputs
    >>> answers = network(torch.from_numpy(X)).argmax(dim=1).numpy()
    >>> tuned = NeuralNetClassifier(
    ...     DenoisedClassifier(denoiser, network),
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     optimizer=torch.optim.Adam,
    ...     max_epochs=1,
    ...     train_split=None,
    ...     callbacks=[noisy],
    ...     verbose=0,
    ... )
    >>> tuned = tuned.fit(X, answers)
    """

    def __init__(self, denoiser: Any, base: Any) -> None:
        super().__init__()
        self.denoiser = denoising_module(denoiser)
        self.base = classifying_module(base)
        if hasattr(self.base, "classes_"):
            self.classes_ = self.base.classes_
        self.eval()

    def denoised(self, rows: Tensor) -> Tensor:
        """Return what the base sees of some rows.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy rows.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            The denoised rows.

        Raises
        ------
        TypeError
            If the denoiser returns no tensor.

        ValueError
            If it returns another shape, or values that are not finite.
        """
        denoised = first_output(self.denoiser(_in_own_type(self.denoiser, rows)))
        if not isinstance(denoised, Tensor):
            raise TypeError(f"denoiser must return a tensor, got {type(denoised).__name__}.")
        if denoised.shape != rows.shape:
            raise ValueError(
                f"denoiser must return rows of the shape that it is given, got "
                f"{tuple(denoised.shape)} for {tuple(rows.shape)}."
            )
        # Training has a way of its own to end where numbers are no longer finite, and compiled code
        # cannot ask.
        asks = not (self.training or torch.compiler.is_compiling())
        if asks and not _is_finite(denoised):
            raise ValueError(
                "denoiser must return finite values, got inf or nan. Look at its weights, or clip "
                "its outputs to the range of the inputs."
            )
        return denoised

    def forward(self, rows: Tensor) -> Tensor:
        """Return the base's outputs for the denoised rows.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, ...)
            Noisy rows.

        Returns
        -------
        Tensor of shape (n_rows, n_classes)
            One column a class. Gradients flow through a base that is a network, and none into its
            weights.

        Raises
        ------
        TypeError
            If the denoiser returns no tensor, or is to be trained without a gradient.

        ValueError
            If the denoiser returns another shape, or values that are not finite.
        """
        denoised = self.denoised(rows)
        denoised = _in_own_type(self.base, denoised)
        if torch.compiler.is_compiling():
            # Rows that are not finite have no finite columns, and no vote.
            return first_output(self.base(denoised)) + 0 * denoised.flatten(1).sum(1, keepdim=True)
        if not torch.is_grad_enabled():
            return first_output(self.base(denoised))
        with frozen(self.base):
            outputs = first_output(self.base(denoised))
        if self.training and not outputs.requires_grad:
            raise TypeError(
                f"denoiser must be a module with weights and base a network for DenoisedClassifier "
                f"to be trained, got {part_name(self.denoiser)} and {part_name(self.base)}. Wrap "
                f"it in FrozenEstimator, or train the denoiser by itself."
            )
        return outputs

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the denoiser; the base stays in evaluation mode.

        Parameters
        ----------
        mode : bool, default=True
            Whether the denoiser is in training.

        Returns
        -------
        DenoisedClassifier
            The module itself.
        """
        super().train(mode)
        self.base.train(False)
        return self


def _in_own_type(part: nn.Module, rows: Tensor) -> Tensor:
    """Return rows in the type of a part's parameters; a part without them takes any."""
    floating = (p.dtype for p in part.parameters() if p.is_floating_point())
    return rows.to(next(floating, rows.dtype))


def _is_finite(rows: Tensor) -> bool:
    # A finite sum has finite terms, and takes one pass without a copy.
    return bool(rows.sum().isfinite()) or bool(rows.isfinite().all())
