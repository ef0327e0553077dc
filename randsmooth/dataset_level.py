"""Bounds for a whole test set: they allow for invalid certificates and for the finite sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from randsmooth.intervals import clopper_pearson_lower, clopper_pearson_upper
from randsmooth.intervals.distribution import dkw_margin
from randsmooth.intervals.validation import checked_counts

__all__ = ["certified_accuracy_interval", "n_invalid_upper"]

# Shares of the band's failure probability that the lower end spends under shared noise: on the
# noise drawn, and on the test set drawn. The first is the dearer one.
_SHARED_NOISE, _TEST_SET = 0.4, 0.1


def n_invalid_upper(
    n_rows: int, *, certificate_alpha: float, alpha: float = 0.05, common_noise: bool = True
) -> int:
    r"""Upper bound on how many of some certificates are invalid.

    With probability at least 1 - `alpha` over the noise, at most this many of `n_rows` given
    inputs have an invalid certificate. The certified accuracy *of these very inputs* is then at
    least the observed one less ``n_invalid_upper(...) / n_rows``.

    Parameters
    ----------
    n_rows : int
        Number of inputs, at least 1.

    certificate_alpha : float
        Failure probability of each certificate; 0 where they are exact.

    alpha : float, default=0.05
        Failure probability of the bound.

    common_noise : bool, default=True
        Whether the inputs shared their noise, so that their certificates may fail together.

    Returns
    -------
    int
        The bound, from 0 to `n_rows`.

    Raises
    ------
    ValueError
        If a probability is outside (0, 1) or `n_rows` is not positive.

    Notes
    -----
    Independent certificates fail as rarely as :math:`\mathrm{Bin}(m, \alpha_c)` at worst: the
    bound is the smallest :math:`q` with :math:`P(\mathrm{Bin}(m, \alpha_c) > q) \le \alpha`.
    Under shared noise only the expected number :math:`m \alpha_c` is known, and Markov's
    inequality :math:`P(N > q) \le m \alpha_c / (q + 1)` gives the bound.

    Examples
    --------
    >>> from randsmooth.metrics import n_invalid_upper
    >>> n_invalid_upper(500, certificate_alpha=0.001, alpha=0.001, common_noise=False)
    4
    """
    _check_certificate_alpha(certificate_alpha)
    _check_probability("alpha", alpha)
    if n_rows < 1:
        raise ValueError(f"n_rows must be at least 1, got {n_rows!r}.")
    if certificate_alpha == 0:
        return 0
    if common_noise:
        return min(n_rows, max(0, math.ceil(n_rows * certificate_alpha / alpha) - 1))
    return int(binom.isf(alpha, n_rows, certificate_alpha))


def certified_accuracy_interval(
    n_correct: ArrayLike,
    n_rows: ArrayLike,
    *,
    certificate_alpha: float,
    alpha: float = 0.05,
    common_noise: bool = True,
    simultaneous: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Confidence interval for certified accuracy beyond a finite test set.

    With probability at least 1 - `alpha` over the test set and the noise together, both ends
    hold: the share of *all* inputs that keep their right label under every perturbation shorter
    than the radius is at least the lower end, invalid certificates accounted for; and the share
    that the same procedure certifies is at most the upper end. The interval is for one radius
    chosen in advance, or with `simultaneous` for all radii at once.

    Parameters
    ----------
    n_correct : array-like of int
        Number of rows that were right and certified at the radius.

    n_rows : array-like of int
        Number of rows, drawn independently of each other and of training.

    certificate_alpha : float
        Failure probability of each certificate; 0 where they are exact.

    alpha : float, default=0.05
        Failure probability of the interval, half of it for each end.

    common_noise : bool, default=True
        Whether all rows shared their noise. Their certificates may then fail together, and the
        lower end allows for it.

    simultaneous : bool, default=False
        Whether the intervals are to hold together for every radius there is, so that the numbers of
        correct rows may be those of a whole curve, or of a radius chosen after looking at it.

    Returns
    -------
    lower : ndarray of float64
        Lower end, at least 0.

    upper : ndarray of float64
        Upper end, at most 1.

    Raises
    ------
    ValueError
        If a probability is outside (0, 1) or a count is outside [0, `n_rows`].

    Notes
    -----
    Let :math:`Z` say that a row was right and certified, :math:`V` that its certificate is true.
    One certificate fails with probability at most :math:`\alpha_c`, so
    :math:`P(Z, \neg V) \le \alpha_c`.

    *Own noise for each row.* The rows are independent, :math:`E Z \le E V + \alpha_c`, and the
    Clopper-Pearson bound at level :math:`\alpha / 2` for :math:`E Z`, less :math:`\alpha_c`, is
    the lower end.

    *Shared noise* :math:`B`. Given :math:`B` the rows are still independent, and
    :math:`E[Z \mid B] \le E V + \delta(B)` where :math:`E\,\delta(B) \le \alpha_c`. By Markov's
    inequality :math:`\delta(B) \le \alpha_c / (0.4 \alpha)` but for a probability of
    :math:`0.4 \alpha`; the Clopper-Pearson bound at level :math:`0.1 \alpha`, less that
    allowance, is the lower end. The allowance is wide unless :math:`\alpha_c` is far below
    :math:`\alpha`: certify at a small `alpha`, which costs little radius, or with noise of its
    own for each row.

    The upper end is the Clopper-Pearson bound at level :math:`\alpha / 2`.

    *All radii at once.* A row is right and certified at a radius if a number of its own, the
    certified radius or less than nothing where it is wrong, reaches it. The observed shares are
    therefore an empirical distribution function, and the bound of Dvoretzky, Kiefer and Wolfowitz,
    with the constant of Massart [1]_, takes the place of the Clopper-Pearson bounds. The allowances
    hold for all radii at once as they are: a certificate that is invalid at some radius is invalid.

    References
    ----------
    .. [1] P. Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of
       Probability 18(3), 1990.

    Examples
    --------
    >>> from randsmooth.metrics import certified_accuracy_interval
    >>> lower, upper = certified_accuracy_interval(
    ...     300, 500, certificate_alpha=0.001, common_noise=False
    ... )
    >>> print(f"{lower:.3f} {upper:.3f}")
    0.555 0.643
    """
    _check_certificate_alpha(certificate_alpha)
    _check_probability("alpha", alpha)
    level, allowance = alpha / 2, certificate_alpha
    if common_noise and certificate_alpha > 0:
        level, allowance = _TEST_SET * alpha, certificate_alpha / (_SHARED_NOISE * alpha)
    if simultaneous:
        share = _checked_share(n_correct, n_rows)
        lower = share - dkw_margin(n_rows, alpha=level)
        upper = np.minimum(share + dkw_margin(n_rows, alpha=alpha / 2), 1.0)
    else:
        lower = clopper_pearson_lower(n_correct, n_rows, alpha=level)
        upper = clopper_pearson_upper(n_correct, n_rows, alpha=alpha / 2)
    return np.maximum(lower - allowance, 0.0), upper


def _checked_share(n_correct: ArrayLike, n_rows: ArrayLike) -> NDArray[np.float64]:
    correct, rows = checked_counts("n_correct", n_correct), checked_counts("n_rows", n_rows)
    if not (correct <= rows).all():
        raise ValueError(f"n_correct must be at most n_rows, got {n_correct!r} of {n_rows!r}.")
    return np.asarray(correct / rows)


def _check_certificate_alpha(certificate_alpha: float) -> None:
    if certificate_alpha != 0:
        _check_probability("certificate_alpha", certificate_alpha)


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}.")
