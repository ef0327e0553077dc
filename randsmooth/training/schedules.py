"""Schedules of the training noise: a scale that grows over the first epochs."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from randsmooth.checks import check_count, check_weight
from randsmooth.training.noisy import NoisyTraining
from randsmooth.training.perturbation import warmed_up

__all__ = ["SigmaWarmUp"]


class SigmaWarmUp(Callback):  # type: ignore[misc]
    r"""Let the training noise grow to its full scale over the first epochs.

    In epoch t, counted from 1, the strategy on the net that trains with noise (`NoisyTraining`)
    gets it at the scale

    .. math::

        \sigma_t = \sigma \Bigl(s + (1 - s) \min\bigl(1, \tfrac{t}{T}\bigr)\Bigr),

    so that the scale is :math:`\sigma` from epoch T on. A net that does not learn under large
    noise from its first weights may do so once it has learned under small noise. What is certified
    afterwards is the noise of the strategy, at its full scale. History has the factor of
    :math:`\sigma` as ``noise_factor``. Training that goes on with ``partial_fit`` goes on with the
    schedule. A loss or a step that itself contains :math:`\sigma`, as MACER's and SmoothMix's do,
    has the scale that is drawn.

    Parameters
    ----------
    n_epochs : int, default=10
        The epoch T from which on the noise has its full scale.

    start : float, default=0.0
        The share s of the scale that the schedule starts from, at least 0 and below 1.

    See Also
    --------
    GaussianAugmentation : A strategy that it works with.

    Notes
    -----
    It may stand anywhere among the net's callbacks: the factor is set when an epoch begins, before
    the first batch.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.noise import Gaussian
    >>> from randsmooth.training import GaussianAugmentation
    >>> from randsmooth.training.schedules import SigmaWarmUp
    >>> X, y = load_digits(return_X_y=True)
    >>> noisy = GaussianAugmentation(noise=Gaussian(0.5), random_state=0)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.LazyLinear,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[noisy, SigmaWarmUp(n_epochs=2)],
    ...     max_epochs=3,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> net.history[:, "noise_factor"]
    [0.5, 1.0, 1.0]
    """

    def __init__(self, n_epochs: int = 10, *, start: float = 0.0) -> None:
        self.n_epochs = n_epochs
        self.start = start

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Refuse parameters out of range, and nets without noise that can be scaled.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        **kwargs
            What else skorch passes.

        Raises
        ------
        ValueError
            If `n_epochs` is not a positive integer, `start` is not at least 0 and below 1, or no
            strategy on the net trains with noise.

        TypeError
            If the strategy's noise is not added to the inputs.
        """
        check_count("n_epochs", self.n_epochs)
        check_weight("start", self.start)
        if self.start >= 1:
            raise ValueError(f"start must be below 1, got {self.start!r}.")
        strategy = _noisy_strategy(net)
        if strategy is None:
            raise ValueError(
                f"callbacks must hold a strategy that trains with noise for SigmaWarmUp, such as "
                f"GaussianAugmentation, got {[type(c).__name__ for _, c in net.callbacks_]}."
            )
        if strategy.noise is not None and not strategy.noise.additive:
            raise TypeError(
                f"noise must be added to the inputs for SigmaWarmUp to scale it, got "
                f"{strategy.noise!r} in {type(strategy).__name__}. Leave SigmaWarmUp out."
            )

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Set the factor of the epoch on the strategy that trains with noise.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        **kwargs
            What else skorch passes.
        """
        factor = self.start + warmed_up(1 - self.start, len(net.history), self.n_epochs)
        strategy = _noisy_strategy(net)
        if strategy is not None:
            strategy.noise_factor_ = factor
        net.history.record("noise_factor", factor)


def _noisy_strategy(net: NeuralNet) -> NoisyTraining | None:
    """Return the one strategy that a net may have, where it trains with noise."""
    return next((c for _, c in net.callbacks_ if isinstance(c, NoisyTraining)), None)
