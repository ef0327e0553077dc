"""Accuracy of a randomized classifier under attack: bounds from the votes on a test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from randsmooth.bounds.accuracy_evidence import Evidence, Knowledge, bounds_from
from randsmooth.bounds.divergences import checked_attack
from randsmooth.bounds.risk_gaps import collision_gap, entropy_gap
from randsmooth.bounds.supporting_lines import (
    ProbabilityLower,
    supporting_line,
    tight_accuracy_samples,
    tight_gap_samples,
)
from randsmooth.bounds.total_variation import (
    gaussian_total_variation,
    laplace_total_variation,
    total_variation_gap,
    uniform_total_variation,
)
from randsmooth.intervals.validation import (
    checked_alpha,
    checked_class_counts,
    checked_counts,
    checked_integers,
)

__all__ = [
    "AccuracyGap",
    "accuracy_gap_from_counts",
    "collision_gap",
    "entropy_gap",
    "gaussian_total_variation",
    "laplace_total_variation",
    "supporting_line",
    "tight_accuracy_samples",
    "tight_gap_samples",
    "total_variation_gap",
    "uniform_total_variation",
]


@dataclass(frozen=True, repr=False)
class AccuracyGap:
    """What an attack can take from the accuracy of a classifier that answers with one vote.

    `gap` and `accuracy` hold together with probability at least 1 - `delta` over the test points,
    drawn independently from the distribution that the accuracy is about, and over the votes on
    them. Both are for attackers who know the classifier but not its noise.

    Parameters
    ----------
    attack : float
        Size of the attack.

    norm : str or None
        Norm in which it is measured.

    delta : float
        Failure probability of `gap` and `accuracy` together.

    gap : float
        Upper bound on the accuracy without attack less the accuracy under attack.

    accuracy : float
        Lower bound on the accuracy under attack.

    clean_accuracy : float
        Share of all votes that are right, without attack. An estimate and no bound.

    bound : str
        Name of the bound behind `gap`.

    accuracy_bound : str
        Name of the bound behind `accuracy`.

    estimate : str
        Method of the confidence bounds on means.

    n_inputs : int
        Number of test points.

    n_draws : int
        Number of votes on a test point, the fewest where it varies, anchors not included.

    gaps : mapping from str to float
        The gap by every bound that could be evaluated. Each holds with probability at least
        1 - `delta` on its own, if it is picked before looking.
    """

    attack: float
    norm: str | None
    delta: float
    gap: float
    accuracy: float
    clean_accuracy: float
    bound: str
    accuracy_bound: str
    estimate: str
    n_inputs: int
    n_draws: int
    gaps: Mapping[str, float]

    def __repr__(self) -> str:
        """Return the two statements, rounded outward, and where they come from."""
        size = f"{self.attack:g}" + (f" in {self.norm}" if self.norm else "")
        gap = min(np.ceil(self.gap * 1e4) / 1e4, 1.0)
        accuracy = np.floor(self.accuracy * 1e4) / 1e4
        return (
            f"AccuracyGap(attack of {size}: gap <= {gap:.4f} ({self.bound}), "
            f"accuracy >= {accuracy:.4f} ({self.accuracy_bound}), delta={self.delta:g}, "
            f"{self.n_inputs} inputs, {self.n_draws} draws each)"
        )


def accuracy_gap_from_counts(
    counts: ArrayLike,
    anchor_counts: ArrayLike | None,
    true_class: ArrayLike,
    *,
    attack: float,
    delta: float,
    divergence: float | None = None,
    max_divergence: float | None = None,
    total_variation: float | None = None,
    probability_lower: ProbabilityLower | None = None,
    bound: str = "auto",
    estimate: str = "betting",
    norm: str | None = None,
) -> AccuracyGap:
    r"""Confidence bounds on the accuracy of a randomized classifier under attack, from its votes.

    The classifier answers with one noisy vote. With probability at least 1 - `delta` over the
    test points and the votes, an attack of at most this size takes no more than `gap` from its
    accuracy, and leaves at least `accuracy`. The test points must be independent draws from the
    distribution that the accuracy is about, and so must be the votes, **those on different
    points included: every point needs noise of its own.** How many votes a point gets must not
    depend on them. Half of `delta` is spent on each of the two statements.

    Parameters
    ----------
    counts : array-like of int, shape (n_inputs, n_classes)
        Votes on each test point, with a column for every possible answer.

    anchor_counts : array-like of int, shape (n_inputs, n_classes), or None
        Votes on the same points that are independent of `counts`. They choose where the tight
        bound is close. Without them it is not available.

    true_class : array-like of int, shape (n_inputs,)
        Column of the true class of each point; -1 where it is not among them, so that every
        answer is wrong.

    attack : float
        Size of the attack, at least 0, in the norm of the noise.

    delta : float
        Failure probability of the two statements together, strictly between 0 and 1.

    divergence : float or None, default=None
        Upper bound on the Kullback-Leibler divergence between the noise and its copy moved by
        such an attack, as from `gaussian_divergence`.

    max_divergence : float or None, default=None
        The same for the divergence of order infinity.

    total_variation : float or None, default=None
        The same for the total variation distance. None takes what follows from the divergences.

    probability_lower : callable or None, default=None
        Takes probabilities and the size of the attack, and returns what is left of them, as
        ``noise.probability_lower``; see `supporting_line` for what it must be.

    bound : {"auto", "tight", "total_variation", "collision", "entropy"}, default="auto"
        Which bound. "auto" takes the closest of those it can, with the failure probability
        divided between the ones that are estimated: of the tight one and total variation where
        the tight one is available, of all others where it is not.

    estimate : {"betting", "bernstein", "hoeffding"}, default="betting"
        Which confidence bound on means, as for `mean_lower`.

    norm : str or None, default=None
        Name of the norm, for the record.

    Returns
    -------
    AccuracyGap
        The two bounds, and the gap by every bound alone.

    Raises
    ------
    TypeError
        If an argument is not numeric.

    ValueError
        If an argument is out of range, shapes do not match, nothing is known of the noise, or
        the bound is unknown or not available.

    Notes
    -----
    Each bound is the mean of one bounded sample for each point, whose expectation is on the safe
    side. With the vote share :math:`s_j` of the true class, :math:`T_j` from
    `deflated_exp_entropy` and :math:`\epsilon` the divergence, the entropy bounds the accuracy
    by :math:`E[s_j + e^{-\epsilon} T_j] - 1`, so that one confidence bound covers test points,
    votes and entropy at once. The order of the rows matters in the last digits of the betting
    bound, and must not depend on the votes.

    References
    ----------
    .. [1] R. Pinot, L. Meunier, A. Araujo, H. Kashima, F. Yger, C. Gouy-Pailler and J. Atif,
       "Theoretical evidence for adversarial robustness through randomization", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.bounds.accuracy import accuracy_gap_from_counts, gaussian_total_variation
    >>> from randsmooth.bounds.divergences import gaussian_divergence
    >>> counts = np.tile([[990, 10], [950, 50]], (500, 1))
    >>> accuracy_gap_from_counts(
    ...     counts,
    ...     None,
    ...     np.zeros(1000, dtype=int),
    ...     attack=0.25,
    ...     delta=0.001,
    ...     divergence=gaussian_divergence(0.25, sigma=0.5),
    ...     total_variation=gaussian_total_variation(0.25, sigma=0.5),
    ...     norm="l2",
    ... )
    AccuracyGap(attack of 0.25 in l2: gap <= 0.1975 (total_variation), accuracy >= 0.7634 (...
    """
    level = _checked_delta(delta)
    if estimate not in _ESTIMATES:
        names = ", ".join(map(repr, _ESTIMATES))
        raise ValueError(f"estimate must be one of {names}, got {estimate!r}.")
    size = _checked_number("attack", attack)
    evidence = _checked_evidence(counts, anchor_counts, true_class)
    knowledge = Knowledge(
        size,
        _checked_measure("divergence", divergence),
        _checked_measure("max_divergence", max_divergence),
        _checked_share("total_variation", total_variation),
        probability_lower,
    )
    bounds = bounds_from(evidence, knowledge, estimate)
    costly, free, for_accuracy = _chosen(bound, list(bounds))
    gap = {name: bounds[name].gap(level / 2 / max(len(costly), 1)) for name in (*costly, *free)}
    accuracy = {name: bounds[name].accuracy(level / 2 / len(for_accuracy)) for name in for_accuracy}
    winner = min(gap, key=gap.__getitem__)
    accuracy_winner = max(accuracy, key=accuracy.__getitem__)
    return AccuracyGap(
        attack=size,
        norm=norm,
        delta=level,
        gap=gap[winner],
        accuracy=accuracy[accuracy_winner],
        clean_accuracy=float(evidence.shares.mean()),
        bound=winner,
        accuracy_bound=accuracy_winner,
        estimate=estimate,
        n_inputs=len(evidence.shares),
        n_draws=int(evidence.counts.sum(axis=1).min()),
        gaps={name: one.gap(level) for name, one in bounds.items()},
    )


_ESTIMATES = ("betting", "bernstein", "hoeffding")
_BOUNDS = ("tight", "total_variation", "collision", "entropy")
_NEEDS = {
    "tight": "probability_lower and anchor_counts",
    "total_variation": "total_variation or a divergence",
    "collision": "max_divergence and two votes on every input",
    "entropy": "divergence or max_divergence",
}


def _chosen(bound: str, available: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of the bounds on the gap that are estimated, that are not, and for the accuracy."""
    if bound not in ("auto", *_BOUNDS):
        names = ", ".join(map(repr, ("auto", *_BOUNDS)))
        raise ValueError(f"bound must be one of {names}, got {bound!r}.")
    if not available:
        raise ValueError(
            "divergence, max_divergence, total_variation or probability_lower with anchor_counts "
            "must be given, got none of them."
        )
    if bound != "auto":
        if bound not in available:
            raise ValueError(
                f"bound must be one that is available ({', '.join(map(repr, available))}), got "
                f"{bound!r}, which needs {_NEEDS[bound]}."
            )
        available = [bound]
    estimated = ["tight"] if "tight" in available else available
    free = [name for name in available if name == "total_variation"]
    return [name for name in estimated if name not in free], free, estimated


def _checked_evidence(
    counts: ArrayLike, anchor_counts: ArrayLike | None, true_class: ArrayLike
) -> Evidence:
    votes = checked_class_counts(counts)
    if votes.ndim != 2 or not len(votes):
        raise ValueError(
            f"counts must have one row for each of at least one input, got shape {votes.shape!r}."
        )
    anchors = None if anchor_counts is None else checked_counts("anchor_counts", anchor_counts)
    if anchors is not None and anchors.shape != votes.shape:
        raise ValueError(
            f"anchor_counts must have the shape of counts, {votes.shape!r}, got {anchors.shape!r}."
        )
    for name, table in (("counts", votes), ("anchor_counts", anchors)):
        if table is not None and (table.sum(axis=1) < 1).any():
            raise ValueError(f"{name} must have a vote in every row, got a row of zeros.")
    labels = checked_integers("true_class", true_class)
    if labels.shape != votes.shape[:1]:
        raise ValueError(
            f"true_class must have one entry for each of the {len(votes)} rows of counts, "
            f"got shape {labels.shape!r}."
        )
    outside = (labels < -1) | (labels >= votes.shape[1])
    if outside.any():
        raise ValueError(
            f"true_class must be a column of counts, below {votes.shape[1]}, or -1, "
            f"got {labels[outside].item(0)!r}."
        )
    return Evidence(votes, anchors, labels)


def _checked_delta(delta: float) -> float:
    try:
        return checked_alpha(delta)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("alpha", "delta")) from None


def _checked_measure(name: str, value: float | None) -> float | None:
    return None if value is None else _checked_number(name, value)


def _checked_share(name: str, share: float | None) -> float | None:
    value = _checked_measure(name, share)
    if value is not None and value > 1:
        raise ValueError(f"{name} must be at most 1, got {value!r}.")
    return value


def _checked_number(name: str, value: float) -> float:
    array = checked_attack(value, name=name)
    if array.ndim:
        raise ValueError(f"{name} must be a single number, got shape {array.shape!r}.")
    return float(array)
