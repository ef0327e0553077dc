from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import Tensor, nn

from randsmooth import SmoothedClassifier, certified_accuracy_scorer
from randsmooth.noise import Gaussian, Laplace
from randsmooth.training import GaussianAugmentation, StabilityTraining
from randsmooth.training.scoring import CertifiedAccuracyScoring

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X, y = X[:600], y[:600]


class Net(nn.Module):
    """A net with every layer whose mode or randomness an interruption might disturb."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.hidden = nn.LazyLinear(48)
        self.norm = nn.BatchNorm1d(48)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(48, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(self.dropout(torch.relu(self.norm(self.hidden(x)))))
        return logits


class Images(nn.Module):
    """A convolution in front, whose layout a certification may change."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Dropout(0.2), nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def net(*callbacks: Any, seed: int = 0, **params: Any) -> NeuralNetClassifier:
    torch.manual_seed(seed)
    settings = {
        "module": Net,
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "lr": 0.1,
        "max_epochs": 3,
        "batch_size": 50,
        "iterator_train__shuffle": True,
        "verbose": 0,
        **params,
    }
    return NeuralNetClassifier(callbacks=list(callbacks), **settings)


def noisy(**params: Any) -> GaussianAugmentation:
    return GaussianAugmentation(noise=Gaussian(0.25), random_state=1, **params)


def scoring(radius: float = 0.2, **params: Any) -> CertifiedAccuracyScoring:
    return CertifiedAccuracyScoring(radius, **{"n_inputs": 40, "n_estimation": 300, **params})


def weights(trained: NeuralNetClassifier) -> list[Tensor]:
    return list(trained.module_.state_dict().values())


@pytest.mark.parametrize("module", [Net, Images])
@pytest.mark.parametrize("strategy", [GaussianAugmentation, StabilityTraining])
def test_training_is_the_same_to_the_last_bit_with_and_without_the_score(module, strategy) -> None:
    rows = X if module is Net else X.reshape(-1, 1, 8, 8)
    trained = []
    for callbacks in ([], [scoring()]):
        own = strategy(noise=Gaussian(0.25), random_state=1)
        trained.append(net(own, *callbacks, module=module).fit(rows, y))
        trained[-1].after_ = torch.rand(3), np.random.get_state()[1:3]  # noqa: NPY002
    assert all(map(torch.equal, weights(trained[0]), weights(trained[1])))
    assert torch.equal(trained[0].after_[0], trained[1].after_[0])
    states = [one.after_[1] for one in trained]
    assert states[0][1] == states[1][1]
    assert np.array_equal(states[0][0], states[1][0])
    layouts = [[p.stride() for p in one.module_.parameters()] for one in trained]
    assert layouts[0] == layouts[1]


def test_the_net_goes_back_to_the_modes_it_was_in() -> None:
    modes = []

    class Modes(Callback):
        def on_epoch_end(self, net, **kwargs):
            parts = [*net.module_.modules(), *net.criterion_.modules()]
            flags = [p.requires_grad for p in net.module_.parameters()]
            modes.append(([part.training for part in parts], flags))

    class Mixed(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.module_.train()
            net.module_.norm.eval()
            net.module_.output.bias.requires_grad_(False)

    net(noisy(), Mixed(), Modes(), scoring(), Modes(), max_epochs=1).fit(X, y)
    assert modes[0] == modes[1]
    assert True in modes[0][0]
    assert False in modes[0][0]
    assert False in modes[0][1]


def test_the_score_is_the_certified_accuracy_of_the_smoothed_net() -> None:
    split = predefined_split(torch.utils.data.TensorDataset(*map(torch.tensor, (X[500:], y[500:]))))
    callback = scoring(n_inputs=None, n_estimation=1000)
    trained = net(noisy(), callback, train_split=split).fit(X[:500], y[:500])
    assert callback.seed_ >= 2**62
    clf = SmoothedClassifier(
        FrozenEstimator(trained), 0.25, n_selection=30, n_estimation=1000, random_state=7,
        shortcuts=False,
    ).fit(X[500:], y[500:])  # fmt: skip
    record = clf.certificates(X[500:], radii=[0.2], noise_seed=callback.seed_)
    last = trained.history[-1]
    # But for a vote or two that hang on the last bit of a sum, the draws are the same.
    expected = record.certified_accuracy(y[500:], [0.2])[0]
    assert last["certified_accuracy"] == pytest.approx(expected, abs=0.011)
    assert last["certified_accuracy_draws"] == pytest.approx(30 + record.n_draws.mean(), abs=1)
    # Other noise, as in the final certification, tells much the same of the same net.
    other = clf.certificates(X[500:], radii=[0.2]).certified_accuracy(y[500:], [0.2])[0]
    assert last["certified_accuracy"] == pytest.approx(other, abs=0.05)


def test_scores_and_bests_follow_the_history_of_a_training_that_goes_on() -> None:
    trained = net(noisy(), scoring(), max_epochs=4).fit(X, y)
    trained.partial_fit(X, y)
    scores = trained.history[:, "certified_accuracy"]
    assert trained.history[:, "certified_accuracy_best"] == [
        score > max(scores[:i], default=-1) for i, score in enumerate(scores)
    ]
    assert scores[-1] > scores[0] > 0
    again = net(noisy(), scoring(), max_epochs=4).fit(X, y)
    assert again.history[:, "certified_accuracy"] == scores[:4]


def test_epochs_that_are_not_scored_repeat_the_score_and_cost_nothing() -> None:
    every = net(noisy(), scoring(every=3, name="robust"), max_epochs=7).fit(X, y)
    scores, draws = every.history[:, "robust"], every.history[:, "robust_draws"]
    assert [n > 0 for n in draws] == [True, False, True, False, False, True, False]
    assert (scores[1], scores[3], scores[4], scores[6]) == (scores[0], *scores[2:3] * 2, scores[5])
    bests = np.array(every.history[:, "robust_best"])
    assert not bests[[1, 3, 4, 6]].any()
    assert bests[0]


def test_the_noise_is_that_of_the_strategy_and_of_the_smoothed_classifier() -> None:
    seen = []

    class Noises(Callback):
        def on_epoch_end(self, net, **kwargs):
            own = next(c for _, c in net.callbacks_ if isinstance(c, CertifiedAccuracyScoring))
            seen.append((own.noise_, own.seed_))

    base = net(scoring(), Noises(), max_epochs=1)
    clf = SmoothedClassifier(base, sigma=0.4, noise="laplace", random_state=0).fit(X, y)
    net(StabilityTraining(noise=Gaussian(0.3)), scoring(noise=Laplace(0.2)), Noises()).fit(X, y)
    assert [noise for noise, _ in seen[:2]] == [Laplace(0.4), Laplace(0.2)]
    again = SmoothedClassifier(base, sigma=0.4, noise="laplace", random_state=0).fit(X, y)
    column = "certified_accuracy"
    assert again.estimator_.history[:, column] == clf.estimator_.history[:, column]
    # What a classifier draws as a seed lies below 2**31.
    assert all(seed >= 2**62 > clf.noise_seed_ for _, seed in seen)


def test_one_seed_for_the_scoring_and_the_training_gives_them_different_noise() -> None:
    strategy, callback = noisy(), scoring(random_state=1)
    net(strategy, callback, max_epochs=1).fit(X, y)
    assert callback.seed_ != strategy.random_state
    other = scoring(random_state=2)
    net(noisy(), other, max_epochs=1).fit(X, y)
    assert other.seed_ != callback.seed_


def test_validation_inputs_may_be_handed_in_and_are_scored_in_part() -> None:
    asked = []

    class Counted(NeuralNetClassifier):
        def evaluation_step(self, batch, training=False):
            asked.append(len(batch[0]))
            return super().evaluation_step(batch, training=training)

    torch.manual_seed(0)
    callback = scoring(X=X[500:], y=y[500:], n_inputs=10, n_estimation=100, n_selection=5)
    trained = Counted(
        Net, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=1, verbose=0,
        callbacks=[noisy(), callback],
    ).fit(X[:500], y[:500])  # fmt: skip
    # Two single rows tell the number of columns, before the score and in its fit.
    assert sum(asked) >= 10 * 5
    assert trained.history[-1, "certified_accuracy_draws"] <= 105
    assert (trained.history[-1, "certified_accuracy"] * 10) % 1 == pytest.approx(0, abs=1e-9)
    assert trained.callbacks_[-2][1].rows_ is None


def test_a_binary_net_with_one_logit_is_scored() -> None:
    few = y < 2
    binary = NeuralNetBinaryClassifier(
        nn.Linear, module__in_features=64, module__out_features=1, lr=0.5, max_epochs=5, verbose=0,
        callbacks=[noisy(), scoring(n_inputs=20)],
    ).fit(X[few], y[few].astype(np.float32))  # fmt: skip
    assert binary.history[-1, "certified_accuracy"] > 0.9


def test_double_precision_and_labels_missing_among_the_inputs_are_scored() -> None:
    double = X.astype(np.float64)
    callback = scoring(X=double[y < 3][:20], y=y[y < 3][:20])
    own = nn.Sequential(nn.Linear(64, 10).double())
    trained = net(noisy(), callback, module=own, max_epochs=6).fit(double, y)
    assert trained.history[-1, "certified_accuracy"] > 0.5


def test_the_best_checkpoint_by_certified_accuracy_is_loaded_when_training_ends(tmp_path) -> None:
    checkpoint = Checkpoint("certified_accuracy_best", dirname=str(tmp_path), load_best=True)
    scores = []

    class Spoiled(Callback):
        """Ruins the net after the fifth epoch, so that the best is not the last."""

        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 5:
                nn.init.zeros_(net.module_.output.weight)

    class Scores(Callback):
        def on_epoch_end(self, net, **kwargs):
            scores.append(net.history[-1, "certified_accuracy"])

    callbacks = noisy(), Spoiled(), scoring(), checkpoint, Scores()
    trained = net(*callbacks, max_epochs=5, lr=0.05).fit(X, y)
    assert scores[4] < 0.3 < max(scores)
    # The history is loaded with the weights.
    assert len(trained.history) == 1 + int(np.argmax(scores))
    clf = SmoothedClassifier(FrozenEstimator(trained), 0.25, n_estimation=300, bound="binary")
    loaded = certified_accuracy_scorer(0.2)(clf.set_params(random_state=0).fit(X, y), X, y)
    assert loaded == pytest.approx(max(scores), abs=0.2)


def test_training_stops_early_where_certified_accuracy_no_longer_grows() -> None:
    stop = EarlyStopping("certified_accuracy", lower_is_better=False, patience=2, load_best=True)
    frozen_rate = net(noisy(), scoring(), stop, max_epochs=30, lr=0.2).fit(X, y)
    assert 3 <= len(frozen_rate.history) < 30
    scores = frozen_rate.history[:, "certified_accuracy"]
    assert max(scores[-2:]) <= max(scores[:-2]) * (1 + 1e-4)


def test_the_learning_rate_falls_where_certified_accuracy_no_longer_grows() -> None:
    falling = LRScheduler(
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        monitor="certified_accuracy", mode="max", patience=0, factor=0.1,
    )  # fmt: skip
    rates = []

    class Rates(Callback):
        def on_epoch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    trained = net(noisy(), scoring(), falling, Rates(), max_epochs=8).fit(X, y)
    scores = trained.history[:, "certified_accuracy"]
    fell = [scores[i] <= max(scores[:i]) * (1 + 1e-4) for i in range(1, 8)]
    assert [after < before for before, after in pairwise(rates)] == fell
    assert any(fell)


def test_a_pipeline_and_a_grid_search_tune_the_strategy_of_a_smoothed_classifier() -> None:
    clf = SmoothedClassifier(
        net(scoring(), max_epochs=2),
        sigma=0.25,
        training=StabilityTraining(),
        n_estimation=200,
        random_state=0,
    )
    pipeline = make_pipeline(FunctionTransformer(), clf)
    search = GridSearchCV(
        pipeline,
        {"smoothedclassifier__training__gamma": [0.0, 2.0]},
        scoring=certified_accuracy_scorer(0.1, sequential=True),
        cv=2,
    ).fit(X, y)
    best = search.best_estimator_[-1]
    assert best.training.gamma in (0.0, 2.0)
    assert best.training.noise is None
    terms = best.estimator_.history[:, ("certified_accuracy", "stability_loss")]
    assert len(terms) == 2
    assert (terms[-1][1] > 0) == (best.training.gamma > 0)
    assert search.predict(X[:5]).shape == (5,)


def test_it_clones_pickles_and_prints_its_columns(capsys) -> None:
    callback = scoring(X=X[:20], y=y[:20])
    assert clone(callback).get_params()["radius"] == 0.2
    trained = net(noisy(), callback, verbose=1, max_epochs=2).fit(X, y)
    assert "certified_accuracy" in capsys.readouterr().out
    copy = pickle.loads(pickle.dumps(trained))
    assert (copy.predict(X[:20]) == trained.predict(X[:20])).all()
    assert len(copy.partial_fit(X, y).history) == 4


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"radius": -0.1}, r"^radius must be finite and at least 0, got -0.1"),
        ({"radius": float("inf")}, r"^radius must be finite and at least 0, got inf"),
        ({"radius": "large"}, r"^radius must be finite and at least 0, got 'large'"),
        ({"radius": 5.0}, r"^radius must be one that Gaussian\(.* can certify, got 5.0"),
        ({"radius": 0.6}, r"^n_estimation must be at least \d+ to certify a radius of 0.6 with"),
        ({"n_inputs": 0}, r"^n_inputs must be a positive integer, got 0"),
        ({"n_selection": 0}, r"^n_selection must be a positive integer, got 0"),
        ({"n_estimation": 1.5}, r"^n_estimation must be a positive integer, got 1.5"),
        ({"every": 0}, r"^every must be a positive integer, got 0"),
        ({"alpha": 1.0}, r"^alpha must lie strictly between 0 and 1, got 1.0"),
        ({"X": X}, r"^X and y must be given together, or neither, got X alone"),
        ({"y": y}, r"^X and y must be given together, or neither, got y alone"),
        ({"X": X, "y": y + 5}, r"^y must hold classes of the net, 0 to 9, got 14 among"),
        ({"X": X, "y": y - 1}, r"^y must hold the classes .* as numbers from 0, got \["),
        ({"X": X, "y": y + 0.5}, r"^y must hold the classes .* as numbers from 0, got \["),
        ({"X": X, "y": y.astype(str)}, r"^y must hold the classes .* as numbers from 0, got \["),
    ],
)
def test_parameters_out_of_range_are_refused(params, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(noisy(), scoring(**{"n_inputs": None, **params})).fit(X, y)


def test_a_net_without_validation_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^X must hold validation inputs .* Give the net a train"):
        net(noisy(), scoring(), train_split=None).fit(X, y)


def test_inputs_that_are_not_single_float_arrays_are_refused() -> None:
    given = scoring(X={"x": X}, y=y)
    with pytest.raises(TypeError, match=r"^X must hold single arrays .*, got dict"):
        net(noisy(), given).fit(X, y)
    with pytest.raises(TypeError, match=r"^X must hold floating-point inputs, got int64"):
        net(noisy(), scoring(X=(16 * X).astype(int), y=y)).fit(X, y)


def test_a_net_without_noise_is_refused_and_noise_must_be_noise() -> None:
    with pytest.raises(
        ValueError, match=r"^noise must be a Noise object .* no strategy on the net"
    ):
        net(scoring()).fit(X, y)
    with pytest.raises(TypeError, match=r"^noise must be a Noise object or None, got 'gaussian'"):
        net(scoring(noise="gaussian")).fit(X, y)


@pytest.mark.parametrize(
    "callback",
    [Checkpoint("certified_accuracy_best", dirname="never"), EarlyStopping("certified_accuracy")],
)
def test_callbacks_that_go_by_the_score_must_stand_behind_it(callback, tmp_path) -> None:
    if isinstance(callback, Checkpoint):
        callback.set_params(dirname=str(tmp_path))
    message = rf"^callbacks must hold {type(callback).__name__} behind CertifiedAccuracyScoring"
    with pytest.raises(ValueError, match=message):
        net(noisy(), callback, scoring()).fit(X, y)


def test_a_stratified_split_whose_classes_come_in_order_is_scored_in_all_of_them() -> None:
    order = np.argsort(y, kind="stable")
    callback = scoring()
    kept = []

    class Labels(Callback):
        def on_epoch_end(self, net, **kwargs):
            kept.append(callback.rows_[1])

    split = ValidSplit(3, stratified=True)
    net(noisy(), callback, Labels(), train_split=split, max_epochs=2).fit(X[order], y[order])
    assert len(np.unique(kept[0])) >= 8
    assert np.array_equal(*kept)
