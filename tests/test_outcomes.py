"""Certificates from all outcomes of the noise: nothing is random, and no alpha is spent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from randsmooth import Certificates, SmoothedClassifier
from randsmooth.display import CertifiedAccuracyDisplay
from randsmooth.exceptions import CertificationError
from randsmooth.noise import DeterministicSplitting, Uniform

LEVELS = 8


class Parity(nn.Module):
    """Votes by a scrambled function of the input, so that all outcomes matter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cell = (x * 7.3).floor().long().sum(dim=1) % 3
        return nn.functional.one_hot(cell, 3).float()


def fitted(estimator: Any = None, **params: Any) -> SmoothedClassifier:
    noise = DeterministicSplitting(1.0, levels=LEVELS)
    X = np.zeros((3, 2), dtype=np.float32)
    module = FrozenEstimator(estimator or Parity())
    return SmoothedClassifier(module, noise=noise, random_state=0, **params).fit(X, [0, 1, 2])


def grid() -> np.ndarray:
    axis = np.arange(LEVELS + 1, dtype=np.float32) / LEVELS
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def test_every_outcome_votes_once_and_no_alpha_is_spent() -> None:
    clf = fitted()
    record = clf.certificates(grid())
    assert (record.counts.sum(axis=1) == clf.noise_.n_outcomes).all()
    np.testing.assert_array_equal(record.selection_counts, record.counts)
    assert record.alpha == 0
    assert record.bound == "exact"
    assert (record.n_draws == clf.noise_.n_outcomes).all()


def test_labels_never_change_within_a_radius_over_the_whole_grid() -> None:
    X = grid()
    record = fitted().certificates(X)
    assert (record.radius > 0).any()
    distance = np.abs(X[:, None] - X[None]).sum(axis=2)
    other = record.label[:, None] != record.label[None]
    # The ball is closed here, and the grid is all there is.
    assert not (other & (distance <= record.radius[:, None] + 1e-6)).any()


def test_seeds_noise_banks_batches_and_workers_make_no_difference() -> None:
    X = grid()
    record = fitted().certificates(X)
    for clf in (fitted(common_noise=False), fitted(n_jobs=2), fitted(batch_size=5)):
        other = clf.set_params(random_state=9).certificates(X, noise_seed=123)
        np.testing.assert_array_equal(other.counts, record.counts)
    np.testing.assert_array_equal(fitted().predict(X), record.label)
    shares = record.counts / record.counts.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(fitted().predict_proba(X), shares)


def test_asked_radii_are_answered_from_the_same_votes() -> None:
    X = grid()
    exact = fitted().certify(X)
    asked = fitted().certificates(X, radii=[0.125, 0.25])
    expected = np.select([exact >= 0.25, exact >= 0.125], [0.25, 0.125], 0.0)
    np.testing.assert_array_equal(asked.radius, expected)
    np.testing.assert_array_equal(asked.abstained, expected == 0)
    assert fitted().expected_cost(X).n_draws == len(X) * 16


def test_abstaining_predictions_abstain_at_exact_ties_alone() -> None:
    X = grid()
    clf = fitted()
    votes = np.sort(clf.certificates(X).counts, axis=1)
    tied = votes[:, -1] == votes[:, -2]
    np.testing.assert_array_equal(clf.predict(X, abstain=-1) == -1, tied)


def test_the_record_is_saved_and_drawn_but_not_certified_anew(tmp_path: Any) -> None:
    record = fitted().certificates(grid())
    record.save(tmp_path / "exact.npz")
    loaded = Certificates.load(tmp_path / "exact.npz")
    assert loaded.noise == record.noise
    np.testing.assert_array_equal(loaded.radius, record.radius)
    record.to_tsv(tmp_path / "exact.tsv", record.label)
    display = CertifiedAccuracyDisplay.from_certificates(record, record.label)
    assert display.curves[0].lower[0] > 0
    for again in (lambda: record.with_alpha(0.01), lambda: record.with_bound("binary")):
        with pytest.raises(ValueError, match=r"every outcome of the noise was tried"):
            again()


def test_inputs_that_fail_abstain() -> None:
    class Breaks(Parity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x[:, :1] > 0.9, torch.nan, super().forward(x))

    with pytest.raises(CertificationError) as caught:
        fitted(Breaks()).certify(grid())
    record = caught.value.certificates
    assert record.abstained[caught.value.failed].all()
    assert (record.radius[caught.value.failed] == 0).all()
    with pytest.raises(CertificationError) as caught:
        fitted(Breaks()).certify(np.ones((2, 2)))
    assert caught.value.certificates.abstained.all()


def test_alpha_must_be_positive_for_drawn_noise() -> None:
    record = fitted().certificates(grid()[:2])
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"^alpha must lie strictly between 0 and 1, got 0\.0"):
        Certificates(**fields | {"noise": Uniform(0.5)})
