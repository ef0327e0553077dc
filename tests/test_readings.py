"""Scores as the engine sorts them into cells, against the same scores sorted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from nets import Linear, SingleLogit
from randsmooth.bases import ArrayBase, Base
from randsmooth.batch_size import BatchSize
from randsmooth.entrance import entrance
from randsmooth.network import net_base
from randsmooth.noise import Gaussian, Stream
from randsmooth.noise_bank import SHARED, Ballot, noise_bank
from randsmooth.parallel import count_in_chunks
from randsmooth.readings import SCORE_UNITS, Scores
from randsmooth.speed import Speed
from randsmooth.stopping import FixedDraws

N_INPUTS, N_FEATURES, N_CLASSES, N_DRAWS, N_CELLS = 13, 5, 4, 300, 50
BALLOT = Ballot(Gaussian(0.5), 3, Stream.ESTIMATION, True)
LOGITS = Linear(torch.eye(5), torch.zeros(5))
LABELS = np.arange(N_INPUTS) % N_CLASSES


@pytest.fixture(name="X", scope="module")
def _inputs() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(N_INPUTS, N_FEATURES)).astype(np.float32)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(rng.normal(size=(N_CLASSES, N_FEATURES)).astype(np.float32))
    return Linear(weight, torch.zeros(N_CLASSES))


def table(
    base: Base, X: NDArray[Any], measure: str = "score", *, batch_size: int = 64, n_jobs: int = 1
) -> NDArray[np.int64]:
    meeting = entrance(
        base, X.shape[1:], BALLOT.noise, common_noise=True, speed=Speed(shortcuts=False)
    )
    return count_in_chunks(
        meeting,
        X,
        BALLOT,
        FixedDraws(N_DRAWS, len(X)),
        batch_size=BatchSize(batch_size),
        reading=Scores(LABELS[: len(X)], N_CELLS, measure),
        n_jobs=n_jobs,
        description="",
        verbose=0,
    ).counts


def noisy_rows(X: NDArray[np.float32]) -> torch.Tensor:
    bank = noise_bank(BALLOT, X.shape[1:], np.float32, torch.device("cpu"))
    noise = bank.piece([SHARED], 0, N_DRAWS)[0]
    return torch.from_numpy(X)[:, None] + noise


@pytest.mark.parametrize("measure", ["score", "margin"])
def test_cells_and_sums_are_those_of_the_scores(
    module: nn.Module, X: NDArray[np.float32], measure: str
) -> None:
    scores = torch.softmax(module(noisy_rows(X).flatten(0, 1)), 1).detach().double().numpy()
    scores = scores.reshape(N_INPUTS, N_DRAWS, N_CLASSES)
    own = np.take_along_axis(scores, LABELS[:, None, None], 2)[..., 0]
    np.put_along_axis(scores, LABELS[:, None, None], -1, 2)
    share = own if measure == "score" else (own - scores.max(axis=2) + 1) / 2
    found = table(net_base(module, X[:1]), X, measure)
    for row in range(N_INPUTS):
        expected, _ = np.histogram(share[row], bins=np.arange(N_CELLS + 1) / N_CELLS)
        # A score may lie on another side of a threshold in another order of rounding.
        assert np.abs(found[row, :N_CELLS] - expected).sum() <= 2
    assert (found[:, : N_CELLS + 1].sum(axis=1) == N_DRAWS).all()
    np.testing.assert_allclose(found[:, -2] / (SCORE_UNITS * N_DRAWS), share.mean(1), rtol=1e-6)
    assert (found[:, -1] == 0).all()


def test_no_score_is_overstated_at_a_threshold_or_in_the_sum() -> None:
    class Fixed(nn.Module):
        """Gives class 0 the largest number in single precision below a third."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            below = float(np.nextafter(np.float32(1 / 3), np.float32(0)))
            return torch.tensor([[below, 1 - below]]).log().repeat(len(x), 1)

    X = np.zeros((2, 2), dtype=np.float32)
    base = net_base(Fixed(), X[:1])
    score = float(base.scores(torch.zeros(1, 2))[0, 0])
    found = table(base, X)
    assert found[0, -2] <= N_DRAWS * score * SCORE_UNITS
    assert found[0, int(score * N_CELLS)] == N_DRAWS


def test_tables_do_not_depend_on_batches_or_workers(
    module: nn.Module, X: NDArray[np.float32]
) -> None:
    base = net_base(module, X[:1])
    whole = table(base, X)
    np.testing.assert_array_equal(table(base, X, batch_size=48), whole)
    np.testing.assert_array_equal(table(base, X, n_jobs=2), whole)
    np.testing.assert_array_equal(table(base, X[:3]), whole[:3])


def test_scores_of_a_scikit_learn_classifier_are_its_probabilities(
    X: NDArray[np.float32],
) -> None:
    y = np.array([1, 3])[np.arange(N_INPUTS) % 2]
    fitted = LogisticRegression().fit(X, y)
    base = ArrayBase(fitted, np.arange(N_CLASSES), torch.float32)
    scores = base.scores(torch.from_numpy(X))
    np.testing.assert_array_equal(scores[:, [1, 3]], fitted.predict_proba(X))
    assert (scores[:, [0, 2]] == 0).all()
    assert table(base, X).shape == (N_INPUTS, N_CELLS + 3)


def net(module: Any, criterion: Any, kind: Any = NeuralNetClassifier, **params: Any) -> Any:
    return kind(module, criterion=criterion, **params).initialize()


class Probabilities(Linear):
    def __init__(self) -> None:
        super().__init__(torch.eye(5), torch.zeros(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(super().forward(x), 1)


@pytest.mark.parametrize(
    "estimator",
    [
        net(LOGITS, nn.CrossEntropyLoss),
        net(Probabilities, nn.NLLLoss),
        net(Probabilities, nn.MSELoss, predict_nonlinearity=None),
        net(
            LOGITS,
            nn.MultiMarginLoss,
            predict_nonlinearity=lambda x: torch.softmax(2 * x, 1),
        ),
        net(SingleLogit(5), nn.BCEWithLogitsLoss, NeuralNetBinaryClassifier),
    ],
)
def test_scores_of_a_net_are_those_of_its_predict_proba(
    estimator: Any, X: NDArray[np.float32]
) -> None:
    base = net_base(estimator, X[:1])
    with torch.inference_mode():
        scores = base.scores(torch.from_numpy(X))
    np.testing.assert_allclose(scores, estimator.predict_proba(X)[:, : base.n_classes], rtol=1e-6)


def test_draws_without_a_score_are_counted_apart(X: NDArray[np.float32]) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            outputs = x[:, :4].clone()
            outputs[x[:, 4] > 0] = torch.nan
            return outputs

    found = table(net_base(Broken(), X[:1] * 0), X)
    assert (found[:, -1] == (noisy_rows(X)[..., 4] > 0).sum(1).numpy()).all()
    reading = Scores(LABELS, N_CELLS, "score")
    np.testing.assert_array_equal(reading.n_draws(found), np.full(N_INPUTS, N_DRAWS))
