"""Attacks on the soft smoothed classifier: what SmoothAdv and SmoothMix share."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from torch import Tensor

from randsmooth.checks import check_clip_range, check_count
from randsmooth.training.losses import mean_log_probabilities, negative_log_likelihood
from randsmooth.training.noisy import NoisyTraining

__all__ = ["SmoothedAttack"]


class SmoothedAttack(NoisyTraining):
    r"""Base of the strategies that attack the soft smoothed classifier.

    The attack climbs :math:`-\ln \frac{1}{m} \sum_{k=1}^{m} p_y(x' + \varepsilon_k)` in `x'`, the
    noise held still (Salman et al. [1]_, equation 6): the logarithm of the average probability, not
    the average of the logarithms. Noise comes on top of `x'`, which alone is held to the ball and
    the clip range. A subclass has the parameters below and its own constructor.

    Parameters
    ----------
    noise : Noise or None, default=None
        Noise to train with; it must be one that is added to the inputs.

    random_state : int, RandomState instance or None, default=None
        Seed of the training noise.

    Attributes
    ----------
    n_draws : int
        Noise draws m of each input.

    n_steps : int
        Steps of the attack.

    clip_range : tuple of two floats or None
        Smallest and largest value of an attacked input's coordinates.

    warm_up : int
        Epochs over which the strategy grows to its full strength.

    References
    ----------
    .. [1] H. Salman, G. Yang, J. Li, P. Zhang, H. Zhang, I. Razenshteyn and S. Bubeck, "Provably
       robust deep learning via adversarially trained smoothed classifiers", NeurIPS 2019.
    """

    n_draws: int
    n_steps: int
    clip_range: tuple[float, float] | None
    warm_up: int

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range, and noise that has no gradient to climb.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `n_draws` or `n_steps` is not a positive integer, `warm_up` is not an integer of at
            least 0, `clip_range` is not a range, or `noise` is not added to the inputs.
        """
        check_count("n_draws", self.n_draws)
        check_count("n_steps", self.n_steps)
        check_count("warm_up", self.warm_up, least=0)
        check_clip_range(self.clip_range)
        if self.noise is not None and not self.noise.additive:
            raise ValueError(
                f"noise must be added to the inputs for {type(self).__name__}, whose attack needs "
                f"gradients through it, got {self.noise!r}. Use noise such as Gaussian(0.25), or "
                f"train with GaussianAugmentation or StabilityTraining."
            )

    def smoothed_loss(self, net: NeuralNet, x: Tensor, targets: Any, draws: Tensor) -> Tensor:
        """Return the loss of the soft smoothed classifier, summed over the rows.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        x : Tensor of shape (n_rows, ...)
            Inputs, without noise.

        targets : Tensor of shape (n_rows, ...)
            Their classes.

        draws : Tensor of shape (n_draws * n_rows, ...)
            Noise, as `draw` returns it.

        Returns
        -------
        Tensor of shape ()
            The loss; one forward pass of all ``n_draws * n_rows`` rows.
        """
        log_p = self.log_probabilities(net, self.corrupted(x, draws))
        mean = mean_log_probabilities(self.by_draw(log_p))
        return negative_log_likelihood(mean, targets).sum()
