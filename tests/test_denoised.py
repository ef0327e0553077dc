"""A classifier behind a denoiser: its columns, its mode, its certificate."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import Tensor, nn

from nets import Linear, SingleLogit
from randsmooth import SmoothedClassifier
from randsmooth.denoised import DenoisedClassifier
from randsmooth.exceptions import CertificationError
from randsmooth.models.denoiser import DenseDenoiser, DnCNN

Arrays = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def iris() -> Arrays:
    X, y = load_iris(return_X_y=True)
    return ((X - X.mean(axis=0)) / 2).astype(np.float32), y


def halved(rows: Tensor) -> Tensor:
    return rows / 2


def seeded(seed: int, build: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def network(n_in: int = 4, n_classes: int = 3, seed: int = 0) -> nn.Module:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_classes))

    return seeded(seed, build)


def fitted(net: Any) -> Any:
    return net.initialize()


def certificates(module: Any, data: Arrays, **params: Any) -> Any:
    settings = {"sigma": 0.5, "n_selection": 50, "n_estimation": 400, "random_state": 0} | params
    return SmoothedClassifier(FrozenEstimator(module), **settings).fit(*data).certificates(data[0])


# -- what it computes --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_base_sees_denoised_rows(dtype):
    denoiser, base = DenseDenoiser(4, 8).to(dtype), network().to(dtype)
    rows = torch.randn(5, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    whole = DenoisedClassifier(denoiser, base)
    assert torch.equal(whole(rows), base(denoiser(rows)))
    assert torch.equal(whole.denoised(rows), denoiser(rows))


def test_each_part_computes_in_its_own_type():
    denoiser, base = DenseDenoiser(4, 8), network().double()
    rows = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = DenoisedClassifier(denoiser, base)(rows)
    assert torch.equal(outputs, base(denoiser(rows.float()).double()))


def test_a_denoiser_may_be_a_module_a_net_or_a_function():
    module = DenseDenoiser(4, 8)
    net = fitted(NeuralNetRegressor(module, train_split=None))
    rows, base = torch.ones(2, 4), network()
    expected = base(module(rows))
    for denoiser in (module, net, module.forward, lambda rows: (module(rows), "and more")):
        assert torch.equal(DenoisedClassifier(denoiser, base)(rows), expected)


def test_columns_of_a_classifier_are_its_log_probabilities(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    base = LogisticRegression().fit(X, names)
    whole = DenoisedClassifier(halved, base)
    rows = torch.from_numpy(X)
    expected = base.predict_log_proba(X / 2)
    np.testing.assert_allclose(whole(rows).numpy(), expected, rtol=1e-5)
    assert list(whole.classes_) == ["setosa", "versicolor", "virginica"]
    record = certificates(whole, (X, names))
    plain = certificates(make_pipeline(Halver(), FrozenEstimator(base)).fit(X, names), (X, names))
    np.testing.assert_array_equal(record.counts, plain.counts)
    np.testing.assert_array_equal(record.label, plain.label)


class Halver(StandardScaler):
    """Halves a table, whatever it was fitted on."""

    def transform(self, X, copy=None):
        return np.asarray(X) / np.float32(2)


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_the_vote_is_what_predict_says_even_against_the_probabilities(iris, threshold):
    X, y = iris[0][50:], iris[1][50:]
    base = FixedThresholdClassifier(LogisticRegression(), threshold=threshold).fit(X, y)
    votes = DenoisedClassifier(halved, base)(torch.from_numpy(X)).argmax(dim=1).numpy()
    predicted = base.predict(X / 2)
    assert (predicted != base.classes_[base.predict_proba(X / 2).argmax(axis=1)]).any()
    np.testing.assert_array_equal(base.classes_[votes], predicted)


def test_a_certain_probability_has_finite_columns(iris):
    base = LogisticRegression(C=1e6, max_iter=5000).fit(*iris)
    outputs = DenoisedClassifier(lambda rows: 1e6 * rows, base)(torch.from_numpy(iris[0]))
    assert outputs.isfinite().all()


def test_a_classifier_without_probabilities_gives_one_hot_rows(iris):
    base = RidgeClassifier().fit(*iris)
    outputs = DenoisedClassifier(halved, FrozenEstimator(base))(torch.from_numpy(iris[0]))
    expected = np.eye(3)[base.predict(iris[0] / 2)]
    np.testing.assert_array_equal(outputs.numpy(), expected)


def test_classifiers_see_flat_rows_and_their_own_column_names(iris):
    X, y = iris
    images = torch.from_numpy(X).reshape(-1, 1, 2, 2)
    flat = DenoisedClassifier(halved, LogisticRegression().fit(X, y))
    assert torch.equal(flat(images), flat(torch.from_numpy(X)))
    table = pd.DataFrame(X, columns=list("abcd"))
    for base in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        named = DenoisedClassifier(halved, base.fit(table, y))
        expected = base.predict_log_proba(table / 2)
        np.testing.assert_allclose(named(torch.from_numpy(X)).numpy(), expected, rtol=2e-3)


class Shifted(NeuralNetClassifier):
    """A net that shows its module something else than it is given."""

    def infer(self, x, **fit_params):
        return super().infer(x + 1, **fit_params)


def test_a_net_with_an_infer_of_its_own_keeps_it():
    module = network()
    net = fitted(Shifted(module, criterion=nn.CrossEntropyLoss))
    rows = torch.ones(2, 4)
    whole = DenoisedClassifier(halved, net)
    assert torch.equal(whole(rows), module(rows / 2 + 1))
    assert torch.equal(pickle.loads(pickle.dumps(whole))(rows), whole(rows))


def test_columns_of_nets_vote_as_their_predict():
    rows = 9 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    softmax = nn.Sequential(network(), nn.Softmax(dim=1))
    sigmoid = nn.Sequential(seeded(1, lambda: nn.Linear(4, 1)), nn.Sigmoid(), nn.Flatten(0))
    nets = [
        NeuralNetClassifier(network(), criterion=nn.CrossEntropyLoss),
        NeuralNetClassifier(softmax, criterion=nn.NLLLoss),
        NeuralNetClassifier(network(), predict_nonlinearity=negated_softmax),
        NeuralNetBinaryClassifier(seeded(1, lambda: SingleLogit(4))),
        NeuralNetBinaryClassifier(seeded(1, lambda: SingleLogit(4)), threshold=0.7),
        NeuralNetBinaryClassifier(sigmoid, criterion=nn.BCELoss, threshold=0.4),
    ]
    for net in map(fitted, nets):
        votes = DenoisedClassifier(halved, net)(rows).argmax(dim=1)
        net.classes_inferred_ = np.arange(3)
        predicted = net.predict((rows / 2).numpy())
        np.testing.assert_array_equal(votes.numpy(), predicted)
        assert len(np.unique(predicted)) > 1
    logarithms = DenoisedClassifier(halved, nets[1])(rows)
    assert torch.allclose(logarithms.exp().sum(dim=1), torch.ones(200))


def negated_softmax(outputs: Tensor) -> Tensor:
    return torch.softmax(-outputs, dim=1)


# -- its mode, its copies ----------------------------------------------------------------------


def test_it_is_deterministic_from_the_start_and_training_leaves_the_base_alone():
    denoiser = DnCNN(1, 4, 3).train()
    base = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).train()
    whole = DenoisedClassifier(denoiser, base)
    rows = torch.ones(2, 1, 4, 4)
    assert torch.equal(whole(rows), whole(rows))
    assert whole.train() is whole
    assert denoiser.layers[3].training
    assert not any(part.training for part in base.modules())
    assert not whole.eval().denoiser.training


def test_it_can_be_copied_moved_and_saved():
    whole = DenoisedClassifier(DenseDenoiser(4, 8), network())
    rows = torch.ones(2, 4)
    for other in (pickle.loads(pickle.dumps(whole)), copy.deepcopy(whole)):
        assert torch.equal(other(rows), whole(rows))
    assert clone(FrozenEstimator(whole)).estimator is whole
    fresh = DenoisedClassifier(DenseDenoiser(4, 8), network(seed=1))
    assert not torch.equal(fresh(rows), whole(rows))
    fresh.load_state_dict(whole.state_dict())
    assert torch.equal(fresh(rows), whole(rows))
    assert {name.split(".")[0] for name in whole.state_dict()} == {"denoiser", "base"}
    assert whole.to(torch.float64)(rows).dtype == torch.float64
    net = fitted(NeuralNetClassifier(network(), criterion=nn.CrossEntropyLoss))
    assert "base.0.weight" in DenoisedClassifier(halved, net).state_dict()


# -- its certificate ---------------------------------------------------------------------------


def test_the_noise_in_front_of_the_denoiser_is_exactly_sigma():
    # Together a half-space at the distance 0.3 from the point, in the units of the inputs.
    base = Linear(torch.tensor([[0.0, 0.0], [5.0, 0.0]]), torch.tensor([0.0, -2.0]))
    whole = DenoisedClassifier(lambda rows: 4 * rows, base)
    X, y = np.array([[0.4, 0.0], [-0.2, 0.0]], dtype=np.float32), np.array([1, 0])
    record = certificates(whole, (X, y), sigma=0.25, n_estimation=20_000, bound="binary")
    assert list(record.label) == [1, 0]
    shares = record.counts.max(axis=1) / 20_000
    np.testing.assert_allclose(shares, 0.88493, atol=0.012)  # Phi(0.3 / 0.25)
    assert (record.radius < 0.3).all()
    assert (record.radius > 0.27).all()


@pytest.mark.parametrize("classifier", ["network", "sklearn"])
def test_votes_depend_on_neither_batches_nor_jobs_nor_shortcuts(iris, classifier):
    base = network() if classifier == "network" else LogisticRegression().fit(*iris)
    few = iris[0][::10], iris[1][::10]
    whole = DenoisedClassifier(DenseDenoiser(4, 8), base)
    expected = certificates(whole, few).counts
    assert len(np.unique(expected)) > 3
    for params in ({"batch_size": 48}, {"shortcuts": False}, {"n_jobs": 2}):
        np.testing.assert_array_equal(certificates(whole, few, **params).counts, expected)


@pytest.mark.slow
def test_votes_are_the_same_in_other_processes(iris):
    few = iris[0][::10], iris[1][::10]
    whole = DenoisedClassifier(DenseDenoiser(4, 8), LogisticRegression().fit(*iris))
    expected = certificates(whole, few).counts
    with joblib.parallel_config("loky"):
        np.testing.assert_array_equal(certificates(whole, few, n_jobs=2).counts, expected)


def test_further_questions_have_answers(iris):
    whole = DenoisedClassifier(halved, LogisticRegression().fit(*iris))
    clf = SmoothedClassifier(FrozenEstimator(whole), n_estimation=200, random_state=0).fit(*iris)
    radius = clf.certify_confidence(iris[0][:5], threshold=0.3)
    assert radius.shape == (5,)
    assert (radius > 0).all()
    assert clf.score(*iris) > 0.6


# -- what bad parts get ------------------------------------------------------------------------


def test_parts_of_the_wrong_kind_are_refused():
    message = "denoiser must be a torch module, a fitted skorch net or a callable on tensors, got"
    for denoiser in (None, 3, DenseDenoiser):
        with pytest.raises(TypeError, match=message):
            DenoisedClassifier(denoiser, network())
    for base in (None, halved, LogisticRegression, StandardScaler()):
        with pytest.raises(TypeError, match="base must be a torch module, a fitted skorch net or"):
            DenoisedClassifier(halved, base)


def test_parts_that_are_not_fitted_are_refused():
    with pytest.raises(NotFittedError, match="denoiser must be fitted, got NeuralNetRegressor"):
        DenoisedClassifier(NeuralNetRegressor(DenseDenoiser), network())
    with pytest.raises(NotFittedError, match="base must be fitted, got NeuralNetClassifier"):
        DenoisedClassifier(halved, NeuralNetClassifier(nn.Linear))
    with pytest.raises(NotFittedError, match="base must be a fitted classifier, got Logistic"):
        DenoisedClassifier(halved, LogisticRegression())


def test_a_binary_net_needs_a_threshold_inside_the_unit_interval():
    net = fitted(NeuralNetBinaryClassifier(SingleLogit(4), threshold=1.0))
    with pytest.raises(ValueError, match=r"base must have a threshold inside \(0, 1\), got 1.0"):
        DenoisedClassifier(halved, net)


@pytest.mark.parametrize(
    ("denoiser", "error", "message"),
    [
        (lambda rows: rows[:, :2], ValueError, r"denoiser must return rows of the shape .* got"),
        (lambda rows: rows / 0, ValueError, "denoiser must return finite values, got inf or nan"),
        (lambda rows: rows.numpy(), TypeError, "denoiser must return a tensor, got ndarray"),
    ],
    ids=["shape", "not finite", "no tensor"],
)
def test_a_denoiser_that_returns_no_rows_is_named(iris, denoiser, error, message):
    whole = DenoisedClassifier(denoiser, network())
    with pytest.raises(error, match=message):
        whole(torch.ones(2, 4))
    with pytest.raises(error, match=message):
        SmoothedClassifier(FrozenEstimator(whole), random_state=0).fit(*iris)


def test_large_finite_values_are_finite():
    rows = torch.full((2, 4), 3e38)
    assert DenoisedClassifier(lambda rows: rows, network())(rows).isfinite().all()


def test_compiled_rows_that_are_not_finite_have_no_vote(monkeypatch):
    # The base would hide an infinite value.
    base = nn.Sequential(nn.Tanh(), nn.Linear(4, 3))
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 1.0, 1.0]])
    whole = DenoisedClassifier(torch.reciprocal, base)
    expected = whole(rows[:1])
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    outputs = whole(rows)
    torch.testing.assert_close(outputs[:1], expected)
    assert outputs[1].isnan().all()


def test_a_denoiser_that_fails_under_noise_alone_is_named(iris):
    whole = DenoisedClassifier(lambda rows: (10 - rows).log(), network())
    with pytest.raises(CertificationError, match="denoiser must return finite values"):
        certificates(whole, iris, sigma=20.0)


def test_a_scikit_learn_base_keeps_its_own_labels_whatever_fit_is_shown() -> None:
    X, y = load_digits(return_X_y=True)
    X, names = (X[:200] / 16).astype(np.float32), np.array([f"digit {label}" for label in y[:200]])
    denoised = DenoisedClassifier(nn.Identity(), LogisticRegression(max_iter=500).fit(X, names))
    clf = SmoothedClassifier(FrozenEstimator(denoised), 0.05, n_estimation=100, random_state=0)
    clf.fit(X[:3], names[:3])
    assert clf.classes_.tolist() == sorted(set(names))
    assert np.mean(clf.predict(X[:50]) == names[:50]) > 0.9
    with pytest.raises(ValueError, match=r"^y must hold labels that the frozen estimator knows"):
        clf.fit(X[:3], np.array(["nought", "one", "two"]))
