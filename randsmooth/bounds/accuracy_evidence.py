"""What the votes on a test set say about accuracy under attack, bound by bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from randsmooth.bounds.risk_gaps import entropy_gap
from randsmooth.bounds.supporting_lines import (
    ProbabilityLower,
    tight_accuracy_samples,
    tight_gap_samples,
)
from randsmooth.bounds.total_variation import total_variation_gap
from randsmooth.intervals.entropy import (
    collision_probability,
    deflated_exp_entropy,
    entropy_correction,
)
from randsmooth.intervals.means import mean_lower, mean_upper

_EPSILON = float(np.finfo(np.float64).eps)
# Shares, sums and differences below are off by less than this.
_ROUNDING = 32 * _EPSILON


@dataclass(frozen=True)
class Evidence:
    """Votes on a test set.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_inputs, n_classes)
        Votes to estimate with.

    anchor_counts : ndarray of int64, shape (n_inputs, n_classes), or None
        Independent votes.

    true_class : ndarray of int64, shape (n_inputs,)
        Column of the true class, -1 where there is none.
    """

    counts: NDArray[np.int64]
    anchor_counts: NDArray[np.int64] | None
    true_class: NDArray[np.int64]

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Share of right votes on each input."""
        return self.share_of(self.counts)

    def share_of(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of right votes on each input, in either set of votes.

        Parameters
        ----------
        counts : ndarray of int64, shape (n_inputs, n_classes)
            The votes.

        Returns
        -------
        ndarray of float64, shape (n_inputs,)
            The shares, 0 where no column is the true class.
        """
        right = np.take_along_axis(counts, np.maximum(self.true_class, 0)[:, None], axis=1)[:, 0]
        shares: NDArray[np.float64] = np.where(self.true_class >= 0, right, 0) / counts.sum(axis=1)
        return shares


@dataclass(frozen=True)
class Knowledge:
    """What is known of the noise and of an attack on it.

    Parameters
    ----------
    attack : float
        Size of the attack.

    divergence, max_divergence, total_variation : float or None
        How far it moves the noise, by three measures.

    probability_lower : callable or None
        What it leaves of a probability.
    """

    attack: float
    divergence: float | None
    max_divergence: float | None
    total_variation: float | None
    probability_lower: ProbabilityLower | None

    @property
    def smallest_divergence(self) -> float | None:
        """The closest bound on the Kullback-Leibler divergence; that of any order is one."""
        known = [d for d in (self.divergence, self.max_divergence) if d is not None]
        return min(known) if known else None

    @property
    def distance(self) -> float | None:
        """The closest bound on the total variation distance."""
        known = [] if self.total_variation is None else [self.total_variation]
        if self.smallest_divergence is not None:
            known.append(float(total_variation_gap(self.smallest_divergence)))
        return min(known) if known else None


@dataclass(frozen=True)
class AccuracyBound:
    """One way to bound the loss of accuracy, and the accuracy that is left.

    Parameters
    ----------
    gap : callable
        Takes a failure probability, returns the upper bound on the loss.

    accuracy : callable
        Takes a failure probability, returns the lower bound on what is left.
    """

    gap: Callable[[float], float]
    accuracy: Callable[[float], float]


def bounds_from(
    evidence: Evidence, knowledge: Knowledge, estimate: str
) -> dict[str, AccuracyBound]:
    """Every bound that the votes and what is known of the noise allow.

    Parameters
    ----------
    evidence : Evidence
        The votes.

    knowledge : Knowledge
        What is known of the noise.

    estimate : str
        Method of the confidence bounds on means.

    Returns
    -------
    dict from str to AccuracyBound
        The bounds by name.
    """
    bounds = {}
    if knowledge.probability_lower is not None and evidence.anchor_counts is not None:
        anchors = evidence.share_of(evidence.anchor_counts)
        bounds["tight"] = _tight(
            evidence, anchors, knowledge.probability_lower, knowledge.attack, estimate
        )
    if knowledge.distance is not None:
        bounds["total_variation"] = _total_variation(evidence, knowledge.distance, estimate)
    draws = evidence.counts.sum(axis=1)
    if knowledge.max_divergence is not None and draws.min() > 1:
        agreement = collision_probability(evidence.counts)
        bounds["collision"] = _agreement(
            evidence, agreement, 1.0, knowledge.max_divergence, estimate
        )
    if knowledge.smallest_divergence is not None:
        agreement = deflated_exp_entropy(evidence.counts)
        largest = float(entropy_correction(draws, evidence.counts.shape[1]).max())
        bounds["entropy"] = _agreement(
            evidence, agreement, largest, knowledge.smallest_divergence, estimate
        )
    return bounds


def _tight(
    evidence: Evidence,
    anchors: NDArray[np.float64],
    probability_lower: ProbabilityLower,
    attack: float,
    estimate: str,
) -> AccuracyBound:
    known, shares = evidence.true_class >= 0, evidence.shares
    lost, high = tight_gap_samples(shares, anchors, attack, probability_lower=probability_lower)
    left, low = tight_accuracy_samples(shares, anchors, attack, probability_lower=probability_lower)
    # Where every answer is wrong, an attack has nothing to take.
    lost, left = np.where(known, lost, 0.0), np.where(known, left, 0.0)
    return AccuracyBound(
        lambda level: _share(mean_upper(lost, alpha=level, high=high, method=estimate), 1),
        lambda level: _share(mean_lower(left, alpha=level, low=low, method=estimate), -1),
    )


def _total_variation(evidence: Evidence, distance: float, estimate: str) -> AccuracyBound:
    return AccuracyBound(
        lambda level: distance,
        lambda level: _share(
            mean_lower(evidence.shares, alpha=level, method=estimate) - distance, -1
        ),
    )


def _agreement(
    evidence: Evidence,
    agreement: NDArray[np.float64],
    largest: float,
    divergence: float,
    estimate: str,
) -> AccuracyBound:
    """Bound from how often votes agree, for samples in [0, `largest`]."""
    weight = float(np.exp(-divergence)) * (1 - 4 * _EPSILON)
    total, high = evidence.shares + weight * agreement, 1 + weight * largest + _ROUNDING
    return AccuracyBound(
        lambda level: float(
            entropy_gap(
                mean_lower(agreement, alpha=level, high=largest, method=estimate), divergence
            )
        ),
        lambda level: _share(mean_lower(total, alpha=level, high=high, method=estimate) - 1, -1),
    )


def _share(value: float | NDArray[np.float64], direction: int) -> float:
    """Move a value past its rounding, and into [0, 1]."""
    return float(np.clip(value + direction * _ROUNDING, 0.0, 1.0))
