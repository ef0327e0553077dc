"""Adversarial distributional training: Dong et al. (2020)."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor

from randsmooth.checks import (
    check_choice,
    check_clip_range,
    check_count,
    check_inputs_in_range,
    check_positive,
    check_weight,
)
from randsmooth.training.generator_strategy import GeneratorStrategy
from randsmooth.training.generator_training import (
    Architecture,
    as_rows,
    checked_output,
    gradient_features,
)
from randsmooth.training.generators import latent_code_length
from randsmooth.training.losses import negative_log_likelihood
from randsmooth.training.perturbation import as_tensor, warmed_up
from randsmooth.training.tanh_gaussian import TanhGaussian, climb, rho_of_std

__all__ = ["AdversarialDistributionalTraining"]

# The published weights of the entropy.
ENTROPY_WEIGHTS = {"exp": 0.01, "exp-am": 0.01, "imp-am": 1.0}


class AdversarialDistributionalTraining(GeneratorStrategy):
    r"""Train on perturbations drawn from the worst distribution within an l-infinity ball.

    The saddle point of Dong et al. [1]_, equation 4,

    .. math::

        \min_\theta \; \frac{1}{B} \sum_{i=1}^{B} \; \max_{\phi_i} \;
        \mathbb{E}_{p_{\phi_i}(\delta)}\bigl[-\ln p_{y_i}(x_i + \delta)\bigr]
        + \lambda \, \mathcal{H}(p_{\phi_i}), \qquad \|\delta\|_\infty \le \epsilon,

    where :math:`\mathcal{H}` is the entropy *per coordinate*, in nats, as in the authors' code. The
    net minimises its own loss on one sample a row; the clean inputs are not trained on. With
    :math:`\lambda = 0` the worst distribution is a point, and this is adversarial training. Nothing
    is certified by it.

    - ``"exp"``: :math:`\delta = \epsilon \tanh(\mu + \sigma r)`, r standard normal, whose
      parameters climb by `n_steps` steps for each row, on `n_samples` samples each, against the net
      in evaluation mode. A batch costs `n_steps` forward and backward passes over `n_samples` times
      its rows beside the training pass.
    - ``"exp-am"``: a generator predicts :math:`\mu` and :math:`\rho` from the input, the gradient
      of its loss and the gradient at the corner of the ball to which the first points. It climbs
      what the net descends, by one backward pass of the batch and an optimiser of its own. History
      has ``criterion_loss`` and ``entropy_loss``, which is :math:`-\lambda \mathcal{H}`. A
      batch costs two passes of the net and one of the generator beside the training pass.
    - ``"imp-am"``: the generator makes the perturbation itself from the same things and a latent
      code z, uniform on [-1, 1] in `n_latent` dimensions. The entropy has no formula: a posterior
      learns to guess z, and its mean code length U, in nats per dimension, bounds the diversity.
      ``entropy_loss`` is :math:`\lambda \max(0, U - U_0)`, which generator and posterior descend.

    Generator and posterior are pickled with the strategy, and their optimisers with them. Training
    that goes on continues with them; ``fit`` and ``clone`` start afresh.

    Parameters
    ----------
    variant : {"exp", "exp-am", "imp-am"}, default="exp"
        What the distribution is.

    eps : float, default=0.3
        Radius of the ball, in the units of the inputs. The default is for digits in [0, 1];
        published: 8/255 for CIFAR, 4/255 for SVHN.

    entropy_weight : float or None, default=None
        :math:`\lambda`. None for the published 0.01, or 1 for ``"imp-am"``.

    n_steps : int, default=7
        Steps of the inner ascent of ``"exp"``.

    n_samples : int, default=5
        Samples of each row's distribution in such a step.

    step_size : float, default=0.3
        Length of such a step in each coordinate of :math:`\mu` and :math:`\rho`.

    initial_std : float, default=0.6931471805599453
        Standard deviation :math:`\sigma = \mathrm{softplus}(\rho)` before tanh where the ascent
        starts, or where the generator of ``"exp-am"`` does. Published: ln 2, the default; seven
        steps of 0.3 bring it no lower than 0.115, so that ``entropy_weight=0`` is not yet an
        attack. Near 0 the ascent is one, in tanh space.

    accumulate_gradients : bool, default=False
        Whether each step of ``"exp"`` follows the sum of all gradients so far, as the authors' code
        does because it never clears them; algorithm 1 of the paper does not.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates, which the perturbed inputs keep to;
        None for inputs without limits.

    within_range : bool, default=True
        Whether tanh maps to the part of the ball within `clip_range`. Published: False, the whole
        ball and then clipping, whose gradient is 0: of a black pixel the distribution never learns
        that it should leave the clipped half of its ball.

    warm_up : int, default=0
        Epochs over which `eps` grows linearly to its value.

    generator : torch.nn.Module, type, callable or None, default=None
        The generator, copied, or what builds it when called with the numbers of channels (for
        anything but images: of columns, an input being flattened) that come in and go out: 3 C in
        and 2 C out for ``"exp-am"``; for ``"imp-am"`` C out, and one channel or `n_latent` columns
        more in. None for three residual blocks as published, or two dense layers for tables.

    generator_lr : float, default=2e-4
        Learning rate of the generator and the posterior, by Adam with the published betas.

    width : int, default=16
        Channels of our own generator's first layer, a sixteenth of a dense layer's units, and
        channels of the posterior's first layer. Published: 256 for the generator (ten million
        weights; 40,000 with 16), 32 for the posterior.

    normalize_gradients : bool, default=True
        Whether the gradients that the generator sees have root mean square 1 in each row.
        Published: False, the bare gradients of the mean loss of the batch.

    n_latent : int, default=64
        Dimensions of the latent code of ``"imp-am"``.

    entropy_threshold : float, default=0.5
        :math:`U_0`, below which more diversity earns nothing. Published: 0.9, but a posterior that
        ignores the perturbation already has U = 0.8696, so that the term is off from there on.

    posterior : torch.nn.Module, type, callable or None, default=None
        The posterior, copied, or what builds it when called with the channels or columns of a
        perturbation and with ``2 * n_latent``, the columns of what it returns: means, then rhos.
        It sees perturbations divided by the largest there may be, the values of tanh.

    random_state : int, RandomState instance or None, default=None
        Seed of the samples and of the generator's and the posterior's initial weights.

    Attributes
    ----------
    worst_ : TanhGaussian
        What ``"exp"`` found for the rows of its last batch.

    See Also
    --------
    randsmooth.training.adversarial.AdversarialTraining : Trains on the worst point alone.

    References
    ----------
    .. [1] Y. Dong, Z. Deng, T. Pang, H. Su and J. Zhu, "Adversarial distributional training for
       robust deep learning", NeurIPS 2020, sections 3.1 to 3.4 and algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from randsmooth.training.adversarial_distributional import (
    ...     AdversarialDistributionalTraining,
    ... )
    >>> X, y = load_digits(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear,
    ...     module__in_features=64,
    ...     module__out_features=10,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     callbacks=[AdversarialDistributionalTraining("exp-am", eps=0.1, random_state=0)],
    ...     max_epochs=2,
    ...     verbose=0,
    ... )
    >>> net = net.fit(X.astype("float32") / 16, y)
    >>> len(net.history[:, "entropy_loss"])
    2
    """

    def __init__(
        self,
        variant: str = "exp",
        eps: float = 0.3,
        *,
        entropy_weight: float | None = None,
        n_steps: int = 7,
        n_samples: int = 5,
        step_size: float = 0.3,
        initial_std: float = math.log(2),
        accumulate_gradients: bool = False,
        clip_range: tuple[float, float] | None = (0.0, 1.0),
        within_range: bool = True,
        warm_up: int = 0,
        generator: Any = None,
        generator_lr: float = 2e-4,
        width: int = 16,
        normalize_gradients: bool = True,
        n_latent: int = 64,
        entropy_threshold: float = 0.5,
        posterior: Any = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(random_state=random_state)
        self.variant = variant
        self.eps = eps
        self.entropy_weight = entropy_weight
        self.n_steps = n_steps
        self.n_samples = n_samples
        self.step_size = step_size
        self.initial_std = initial_std
        self.accumulate_gradients = accumulate_gradients
        self.clip_range = clip_range
        self.within_range = within_range
        self.warm_up = warm_up
        self.generator = generator
        self.generator_lr = generator_lr
        self.width = width
        self.normalize_gradients = normalize_gradients
        self.n_latent = n_latent
        self.entropy_threshold = entropy_threshold
        self.posterior = posterior

    def check(self, net: NeuralNet) -> None:
        """Refuse parameters that are out of range.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net to be trained.

        Raises
        ------
        ValueError
            If `variant` is unknown, a length, rate or deviation is not positive, `entropy_weight`
            is negative, a number is not a positive integer, `entropy_threshold` is not finite,
            `clip_range` is no range, or `warm_up` is negative or no integer.

        TypeError
            If `generator` or `posterior` is neither a module nor something that builds one.
        """
        check_choice("variant", self.variant, tuple(ENTROPY_WEIGHTS))
        for name in ("eps", "step_size", "initial_std", "generator_lr"):
            check_positive(name, getattr(self, name))
        if self.entropy_weight is not None:
            check_weight("entropy_weight", self.entropy_weight)
        for name in ("n_steps", "n_samples", "width", "n_latent"):
            check_count(name, getattr(self, name))
        if not (isinstance(self.entropy_threshold, Real) and math.isfinite(self.entropy_threshold)):
            raise ValueError(f"entropy_threshold must be finite, got {self.entropy_threshold!r}.")
        check_clip_range(self.clip_range)
        check_count("warm_up", self.warm_up, least=0)
        for name in ("generator", "posterior"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(
                    f"{name} must be a module, a callable that builds one, or None, got {value!r}."
                )

    def architecture(self) -> Architecture:
        """Return what the generator and the posterior are built from.

        Returns
        -------
        Architecture
            Without a latent code for ``"exp-am"``.
        """
        if self.variant == "imp-am":
            return Architecture(self.generator, self.posterior, self.width, self.n_latent)
        return Architecture(self.generator, None, self.width, 0)

    def prepare(self, net: NeuralNet, inputs: Tensor, targets: Any) -> Tensor:
        """Return one sample of each row's worst distribution.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        inputs : Tensor of shape (n_rows, ...)
            The batch as the user handed it in.

        targets : Tensor of shape (n_rows, ...)
            Its targets.

        Returns
        -------
        Tensor of shape (n_rows, ...)
            The perturbed inputs, in the balls around `inputs` and in the clip range.

        Raises
        ------
        ValueError
            If an input lies outside the clip range, or a network returns a wrong shape.
        """
        check_inputs_in_range(inputs, self.clip_range)
        eps = warmed_up(self.eps, len(net.history), self.warm_up)
        centre, half_width = self._support(inputs, eps)
        if self.variant == "exp":
            self.worst_ = self._worst_distribution(net, centre, half_width, targets)
            normal = self.standard_normal(inputs.shape, inputs)
            return self._clipped(centre + self.worst_.perturbations(normal))
        with self.attacking(net):
            features = gradient_features(
                lambda x: self._losses(net, x, targets),
                inputs,
                lambda gradient: self._clipped(inputs + eps * gradient.sign()),
                normalize=self.normalize_gradients,
            )
        make = self._sampled if self.variant == "exp-am" else self._implicit
        perturbations, entropy_loss = make(inputs, features, half_width)
        return self.handed_over(self._clipped(centre + perturbations), entropy_loss)[0]

    def objective(
        self, net: NeuralNet, loss: Tensor, outputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the criterion's loss and, with a generator, the term for the entropy.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net in training.

        loss : Tensor
            The criterion's loss on the perturbed batch.

        outputs : Tensor of shape (n_rows, ...)
            What the module returned for it.

        targets : Tensor of shape (n_rows, ...)
            Its targets.

        Returns
        -------
        dict of str to Tensor
            The terms.
        """
        if not self.leaves_:
            return {"criterion_loss": loss}
        return {"criterion_loss": loss, "entropy_loss": self.leaves_[1]}

    def _changes_the_loss(self) -> bool:
        return self.variant != "exp"

    def _weight(self) -> float:
        published = ENTROPY_WEIGHTS[self.variant]
        return published if self.entropy_weight is None else self.entropy_weight

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self.clip_range is None else x.clamp(*self.clip_range)

    def _support(self, inputs: Tensor, eps: float) -> tuple[Tensor, float | Tensor]:
        """Return the centre and half the width of where each coordinate may go."""
        if self.clip_range is None or not self.within_range:
            return inputs, eps
        lower, upper = self._clipped(inputs - eps), self._clipped(inputs + eps)
        return (lower + upper) / 2, (upper - lower) / 2

    def _losses(self, net: NeuralNet, rows: Tensor, targets: Tensor) -> Tensor:
        return negative_log_likelihood(self.log_probabilities(net, rows), targets)

    def _worst_distribution(
        self, net: NeuralNet, centre: Tensor, half_width: float | Tensor, targets: Tensor
    ) -> TanhGaussian:
        """Return where each row's distribution climbs to."""
        weight, n = self._weight(), self.n_samples
        repeated = torch.cat([targets] * n)
        rho = torch.full_like(centre, rho_of_std(self.initial_std))

        def gradients(distribution: TanhGaussian) -> tuple[Tensor, Tensor]:
            normal = self.standard_normal((n, *centre.shape), centre)
            perturbations = distribution.perturbations(normal).requires_grad_()
            with torch.enable_grad():
                rows = self._clipped(centre + perturbations).flatten(0, 1)
                loss = self._losses(net, rows, repeated).sum() / n
                (by_perturbation,) = torch.autograd.grad(loss, [perturbations])
            per_coordinate = weight / (n * centre[0].numel())
            return distribution.gradients(normal, by_perturbation, per_coordinate)

        with self.attacking(net):
            return climb(
                gradients,
                TanhGaussian(torch.zeros_like(centre), rho, half_width),
                n_steps=self.n_steps,
                step_size=self.step_size,
                accumulate_gradients=self.accumulate_gradients,
            )

    def _sampled(
        self, inputs: Tensor, features: Tensor, half_width: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return samples of the predicted distributions, and minus their weighted entropy."""
        output = self.networks(inputs, self.generator_lr)["generator"](features)
        n_rows, n, *size = as_rows(inputs).shape
        output = checked_output("generator", output, (n_rows, 2 * n, *size))
        mean, rho = (part.reshape(inputs.shape) for part in output.chunk(2, dim=1))
        distribution = TanhGaussian(mean, rho + rho_of_std(self.initial_std), half_width)
        normal = self.standard_normal(inputs.shape, inputs)
        entropy = distribution.surprisals(normal).mean()
        return distribution.perturbations(normal), -self._weight() * entropy

    def _implicit(
        self, inputs: Tensor, features: Tensor, half_width: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return perturbations made of latent codes, and the term for what gives the codes away."""
        networks = self.networks(inputs, self.generator_lr)
        latent = as_tensor(self.generator_.uniform(-1, 1, (len(inputs), self.n_latent)), inputs)
        code = networks["latent_map"](latent) if "latent_map" in networks else latent
        output = networks["generator"](torch.cat([features, code], dim=1))
        rows = as_rows(inputs)
        perturbations = torch.tanh(checked_output("generator", output, tuple(rows.shape)))
        guess = networks["posterior"](perturbations)
        guess = checked_output("posterior", guess, (len(rows), 2 * self.n_latent))
        excess = torch.relu(latent_code_length(latent, guess) - self.entropy_threshold)
        return half_width * perturbations.reshape(inputs.shape), self._weight() * excess
