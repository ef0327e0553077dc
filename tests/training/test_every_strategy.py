"""What holds for every strategy, whatever its paper."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn

from randsmooth import SmoothedClassifier
from randsmooth.noise import Gaussian
from randsmooth.training import STRATEGIES, NoisyTraining, TrainingStrategy

# Fewer steps and draws than the papers', so that the tests are quick.
QUICK: dict[str, dict[str, Any]] = {
    "macer": {"n_draws": 4},
    "smoothadv": {"n_draws": 2, "n_steps": 2},
    "smoothmix": {"n_draws": 2, "n_steps": 2},
    "catrs": {"n_draws": 2, "n_steps": 2},
    "adversarial": {"n_steps": 2},
    "trades": {"n_steps": 2},
    "adt": {"n_steps": 2, "n_samples": 1},
}
NAMES = sorted(STRATEGIES)
TUNED = {
    "augmentation": ("n_draws", [1, 2]),
    "stability": ("gamma", [0.5, 2.0]),
    "consistency": ("consistency_weight", [1.0, 5.0]),
    "macer": ("robustness_weight", [1.0, 4.0]),
    "smoothadv": ("eps", [0.1, 0.5]),
    "smoothmix": ("eta", [1.0, 5.0]),
    "catrs": ("high_weight", [0.5, 1.0]),
    "adversarial": ("eps", [0.05, 0.2]),
    "trades": ("beta", [1.0, 6.0]),
    "adt": ("entropy_weight", [0.0, 0.01]),
}

X, y = load_digits(return_X_y=True)
X, y = (X[:240] / 16).astype(np.float32), y[:240]


class Table(nn.Module):
    """A small net for rows of features, with dropout."""

    def __init__(self, n_outputs: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, n_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(x)
        return outputs


class Images(nn.Module):
    """A small net for images, with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(x)
        return outputs


class Probabilities(Table):
    """A net that returns probabilities, for NLLLoss."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


def strategy(name: str, **params: Any) -> TrainingStrategy:
    made = STRATEGIES[name](random_state=3, **QUICK.get(name, {}), **params)
    return made.set_params(noise=Gaussian(0.25)) if isinstance(made, NoisyTraining) else made


def net(*callbacks: Any, kind: type = NeuralNetClassifier, **params: Any) -> NeuralNetClassifier:
    torch.manual_seed(0)
    settings = {
        "module": Table,
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.1,
        "max_epochs": 2,
        "batch_size": 100,
        "train_split": None,
        "verbose": 0,
        **params,
    }
    return kind(callbacks=list(callbacks), **settings)


def weights(trained: NeuralNetClassifier) -> np.ndarray:
    parameters = trained.module_.parameters()
    return np.concatenate([p.detach().numpy().ravel() for p in parameters])


@pytest.mark.parametrize("name", NAMES)
def test_every_term_is_in_the_history_and_they_sum_to_the_loss(name: str) -> None:
    trained = net(strategy(name)).fit(X, y)
    for row in (*trained.history, *trained.history[-1]["batches"]):
        terms = [value for key, value in row.items() if key.endswith("_loss")]
        terms.remove(row["train_loss"])
        if terms:
            assert sum(terms) == pytest.approx(row["train_loss"], rel=1e-4, abs=1e-5)
    assert np.isfinite(weights(trained)).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_nets_whatever_else_is_drawn(name: str) -> None:
    first = weights(net(strategy(name)).fit(X, y))
    np.random.default_rng(0).random(10)
    np.random.seed(5)  # noqa: NPY002 (the global generator must not matter)
    assert np.array_equal(weights(net(strategy(name)).fit(X, y)), first)
    other = strategy(name).set_params(random_state=4)
    assert not np.array_equal(weights(net(other).fit(X, y)), first)


@pytest.mark.parametrize("name", NAMES)
def test_strategies_leave_torchs_generator_alone(name: str) -> None:
    linear = {"module": nn.Linear, "module__in_features": 64, "module__out_features": 10}
    net(**linear).fit(X, y)
    expected = torch.rand(3)
    net(strategy(name), **linear).fit(X, y)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", NAMES)
def test_images_single_logits_and_probabilities_train_too(name: str) -> None:
    images = net(strategy(name), module=Images, max_epochs=1).fit(X.reshape(-1, 1, 8, 8), y)
    binary = net(
        strategy(name),
        kind=NeuralNetBinaryClassifier,
        module__n_outputs=1,
        criterion=nn.BCEWithLogitsLoss,
        max_epochs=1,
    ).fit(X, (y > 4).astype(np.float32))
    likelihood = net(strategy(name), module=Probabilities, criterion=nn.NLLLoss, max_epochs=1)
    for trained in (images, binary, likelihood.fit(X, y)):
        assert np.isfinite(trained.history[-1]["train_loss"])


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_stays_double(name: str) -> None:
    class Double(Table):
        def __init__(self) -> None:
            super().__init__()
            self.double()

    trained = net(strategy(name), module=Double, max_epochs=1).fit(X.astype(np.float64), y)
    assert trained.module_.layers[0].weight.dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_strategies_clone_and_pickle(name: str) -> None:
    made = strategy(name)
    trained = net(made).fit(X, y)
    assert np.array_equal(pickle.loads(pickle.dumps(trained)).predict(X), trained.predict(X))
    copy = clone(made)
    assert repr(copy.get_params()) == repr(made.get_params())
    assert not any(attribute.endswith("_") for attribute in vars(copy))


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_after_pickling(name: str) -> None:
    trained = pickle.loads(pickle.dumps(net(strategy(name)).fit(X, y)))
    before = weights(trained)
    trained.partial_fit(X, y)
    assert len(trained.history) == 4
    assert not np.array_equal(weights(trained), before)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_strategies_are_tuned_inside_a_pipeline_and_a_grid_search(name: str) -> None:
    parameter, values = TUNED[name]
    smoothed = SmoothedClassifier(
        net(max_epochs=1),
        0.2,
        training=STRATEGIES[name](**QUICK.get(name, {})),
        n_selection=20,
        n_estimation=200,
        random_state=0,
    )
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(clip=True), smoothed),
        {f"smoothedclassifier__training__{parameter}": values},
        cv=2,
    ).fit(X, y)
    assert set(search.best_params_.values()) <= set(values)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    fitted = search.best_estimator_[-1]
    own = [c for c in fitted.estimator_.callbacks if isinstance(c[1], TrainingStrategy)]
    assert len(own) == 1
    assert getattr(own[0][1], parameter) in values
    assert fitted.certify(search.best_estimator_[:-1].transform(X[:5])).shape == (5,)


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_for_strategies_with_their_defaults(name: str) -> None:
    base = net(max_epochs=1, batch_size=16)
    clf = SmoothedClassifier(base, 0.25, training=name, n_estimation=200, random_state=0)
    clf.fit(X[:32], y[:32])
    (own,) = (c for _, c in clf.estimator_.callbacks if isinstance(c, TrainingStrategy))
    assert type(own) is STRATEGIES[name]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"augmentation"}))
def test_a_base_without_gradients_is_refused(name: str) -> None:
    clf = SmoothedClassifier(DecisionTreeClassifier(), training=strategy(name))
    message = r"^training must be GaussianAugmentation or None .* got \w+, which needs gradients"
    with pytest.raises(TypeError, match=message):
        clf.fit(X, y)


@pytest.mark.parametrize("name", NAMES)
def test_a_net_with_disabled_callbacks_is_refused(name: str) -> None:
    disabled = net().set_params(callbacks="disable")
    clf = SmoothedClassifier(disabled, training=strategy(name))
    with pytest.raises(TypeError, match=r"needs a net that runs callbacks, got .*'disable'"):
        clf.fit(X, y)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_come_as_dictionaries_are_refused(name: str) -> None:
    class Keyed(Table):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels)

    with pytest.raises(TypeError, match=r"^X must come in batches of one floating-point tensor"):
        net(strategy(name), module=Keyed).fit({"pixels": X}, y)
