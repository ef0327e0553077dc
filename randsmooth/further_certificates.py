"""What a smoothed classifier certifies beyond its label."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth.bounds.accuracy import AccuracyGap
from randsmooth.certificates.confidence import ConfidenceCertificates
from randsmooth.certification import ExpectedCost, certification_run
from randsmooth.questions import (
    certified_confidence,
    certified_top_k,
    check_confidence_question,
)
from randsmooth.randomized_accuracy import randomized_accuracy_gap

__all__ = ["FurtherCertificates"]


class FurtherCertificates:
    """Methods of `SmoothedClassifier` about more than which class is the most probable."""

    def certify_confidence(
        self,
        X: ArrayLike,
        *,
        radius: ArrayLike | None = None,
        threshold: ArrayLike | None = None,
        measure: str = "score",
        method: str = "cdf",
        n_thresholds: int = 1024,
        noise_seed: int | None = None,
    ) -> NDArray[np.float64]:
        r"""Return how confident the smoothed classifier provably stays, or how far.

        The confidence is the expectation under noise of the probability that the base gives the
        label, or of its margin over the other classes. With `radius`, it provably is at least the
        returned value at every point within that radius; with `threshold`, it provably stays at
        the threshold or above within the returned radius. Each input's answers hold with
        probability at least 1 - `alpha` over the noise, for all radii asked about together.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The inputs.

        radius : float or array-like of float, shape (n_radii,), or None, default=None
            Radii in the norm of the noise. Either this or `threshold` must be given.

        threshold : float or array-like of float, shape (n_thresholds,), or None, default=None
            Levels of the confidence.

        measure : {"score", "margin"}, default="score"
            The probability of the label, from 0 to 1, or by how much it exceeds that of the most
            probable other class in the same draw, from -1 to 1.

        method : {"cdf", "mean"}, default="cdf"
            Whether the bound uses the distribution of the confidence over the draws, or its mean
            alone. The first is much the larger at positive radii.

        n_thresholds : int, default=1024
            Levels that the scores are compared with. Memory is proportional to them, and no more
            than one part in so many of the range is lost by not keeping the scores.

        noise_seed : int or None, default=None
            Seed of the noise bank; None is `noise_seed_`.

        Returns
        -------
        ndarray of float64, shape (n_samples,), (n_samples, n_radii) or (n_samples, n_thresholds)
            Lower bounds on the confidence, or certified radii for a threshold, 0 where it is not
            certified even at the input.

        Raises
        ------
        ValueError
            If not exactly one of `radius` and `threshold` is given, one is out of range, or so
            many draws can never certify the threshold.

        TypeError
            If the base gives no probabilities.

        CertificationError
            If some inputs could not be classified. Its `certificates` holds the record.

        See Also
        --------
        confidence_certificates : The whole record, for many radii and thresholds.

        Notes
        -----
        The class is the one that `predict` returns, chosen by the selection draws. The
        `n_estimation` scores are sorted into cells as they come, so that nothing grows with their
        number. See [1]_, Theorems 1 and 2.

        References
        ----------
        .. [1] A. Kumar, A. Levine, S. Feizi and T. Goldstein, "Certifying confidence via
           randomized smoothing", NeurIPS 2020.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from randsmooth import SmoothedClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = SmoothedClassifier(sigma=0.25, n_estimation=1000, random_state=0)
        >>> clf = clf.fit(X[:500] / 16, y[:500])
        >>> clf.certify_confidence(X[500:502] / 16, radius=[0.0, 0.1, 0.2]).shape
        (2, 3)
        """
        check_confidence_question(self, radius, threshold, measure=measure, method=method)
        record = self.confidence_certificates(
            X, measure=measure, n_thresholds=n_thresholds, noise_seed=noise_seed
        )
        if threshold is None:
            return record.lower_bound(np.asarray(radius), method=method)
        return record.radius(threshold, method=method)

    def confidence_certificates(
        self,
        X: ArrayLike,
        *,
        measure: str = "score",
        n_thresholds: int = 1024,
        noise_seed: int | None = None,
    ) -> ConfidenceCertificates:
        """Return the record from which any certified confidence follows without further draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The inputs.

        measure, n_thresholds, noise_seed : optional
            As for `certify_confidence`.

        Returns
        -------
        ConfidenceCertificates
            One row per input. Its `lower_bound` and `radius` answer for any radius and threshold.

        Raises
        ------
        ValueError
            If `measure` or `n_thresholds` is out of range, or the base's scores are no
            probabilities.

        TypeError
            If the base gives no probabilities.

        CertificationError
            If some inputs could not be classified. Its `certificates` holds the record.
        """
        run = certification_run(self, X, noise_seed)
        return certified_confidence(run, measure, n_thresholds)

    def certify_top_k(
        self,
        X: ArrayLike,
        k: int,
        *,
        labels: ArrayLike | None = None,
        noise_seed: int | None = None,
    ) -> NDArray[np.float64]:
        r"""Return the radius within which a class provably stays among the `k` most probable ones.

        Each input's radius is valid with probability at least 1 - `alpha` over the noise, provided
        input and label were chosen before that noise was seen.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The inputs.

        k : int
            Among how many classes, from 1 to the number of classes.

        labels : array-like of shape (n_samples,) or None, default=None
            The class of each input to certify, such as the true one. None is the predicted one.

        noise_seed : int or None, default=None
            Seed of the noise bank; None is `noise_seed_`.

        Returns
        -------
        ndarray of float64, shape (n_samples,)
            Radii in the norm of the noise; 0 where nothing is certified.

        Raises
        ------
        ValueError
            If `k` is out of range, or a label is not among `classes_`.

        CertificationError
            If some inputs could not be classified. Its `certificates` holds the record.

        Notes
        -----
        Half of `alpha` bounds the probability of the class from below, the other half those of all
        others from above. The class stays among the first `k` as long as no set of `k` others can
        overtake it [1]_, Theorem 1.

        References
        ----------
        .. [1] J. Jia, X. Cao, B. Wang and N. Z. Gong, "Certified robustness for top-k predictions
           against adversarial perturbations via randomized smoothing", ICLR 2020.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from randsmooth import SmoothedClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = SmoothedClassifier(sigma=0.25, n_estimation=1000, random_state=0)
        >>> clf = clf.fit(X[:500] / 16, y[:500])
        >>> first, third = (clf.certify_top_k(X[500:510] / 16, k) for k in (1, 3))
        >>> bool((third >= first).all())
        True
        """
        return certified_top_k(certification_run(self, X, noise_seed), k, labels).radius

    def accuracy_gap(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epsilon: float,
        delta: float = 0.05,
        *,
        bound: str = "auto",
        estimate: str = "betting",
        noise_seed: int | None = None,
    ) -> AccuracyGap:
        r"""Return how much accuracy an attack can take from the classifier that votes once.

        This is about the *randomized* classifier, which answers with the base's class for a single
        noisy copy of the input, and not about the majority of many votes. With probability at least
        1 - `delta` over the test points and the votes, no attack of size `epsilon` takes more than
        ``gap`` from its accuracy, and at least ``accuracy`` is left, on average over all inputs of
        the kind. The test points must be independent draws of that kind.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Test points.

        y : array-like of shape (n_samples,)
            Their true labels. One that is not among `classes_` is always answered wrong.

        epsilon : float
            Size of the attack in the norm of the noise.

        delta : float, default=0.05
            Failure probability of both statements together.

        bound : {"auto", "tight", "total_variation", "collision", "entropy"}, default="auto"
            Which bound; "auto" is the closest valid one. The record names it.

        estimate : {"betting", "bernstein", "hoeffding"}, default="betting"
            Which confidence bound on means.

        noise_seed : int or None, default=None
            Seed of the noise; None is `noise_seed_`. Every test point gets noise of its own,
            whatever `common_noise` says.

        Returns
        -------
        AccuracyGap
            Both bounds, and the gap by every bound that is available.

        Raises
        ------
        ValueError
            If `epsilon`, `delta` or another argument is out of range, or the bound is not
            available for this noise.

        CertificationError
            If some inputs could not be classified.

        Notes
        -----
        The entropy bound is that of [1]_. In place of an estimate of the entropy, for which
        nothing is guaranteed, it uses a quantity whose expectation is below
        :math:`e^{-H}` for any number of votes.

        References
        ----------
        .. [1] R. Pinot, L. Meunier, A. Araujo, H. Kashima, F. Yger, C. Gouy-Pailler and J. Atif,
           "Theoretical evidence for adversarial robustness through randomization", NeurIPS 2019.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from randsmooth import SmoothedClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = SmoothedClassifier(sigma=0.25, n_estimation=500, random_state=0)
        >>> clf = clf.fit(X[:1000] / 16, y[:1000])
        >>> record = clf.accuracy_gap(X[1000:] / 16, y[1000:], epsilon=0.1)
        >>> record.bound, 0 < record.gap < 0.2, record.accuracy > 0.7
        ('tight', True, True)
        """
        return randomized_accuracy_gap(
            self, X, y, epsilon, delta, bound=bound, estimate=estimate, noise_seed=noise_seed
        )

    def expected_cost(
        self, X: ArrayLike, *, radii: ArrayLike | None = None, noise_seed: int | None = None
    ) -> ExpectedCost:
        """Return how many draws and seconds `certificates` is expected to take.

        The draws that choose the classes, and a pilot where there is one, are made: they tell the
        speed, and how far each input is from being decided.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            The inputs, or some that stand for them.

        radii, noise_seed : optional
            As for `certificates`.

        Returns
        -------
        ExpectedCost
            Draws of all inputs together, and seconds.
        """
        return certification_run(self, X, noise_seed).expected_cost(radii)
