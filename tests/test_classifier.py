from __future__ import annotations

import pickle
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import EpochScoring
from torch import nn

from nets import Linear, Perceptron, SingleLogit
from randsmooth import SmoothedClassifier, certified_accuracy_scorer
from randsmooth.bounds import renyi_radius
from randsmooth.exceptions import CertificationError, TooFewDrawsWarning, WeightLeakWarning
from randsmooth.noise import Gaussian, Laplace
from randsmooth.training import GaussianAugmentation, StabilityTraining

Arrays = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def digits() -> Arrays:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def iris() -> Arrays:
    X, y = load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / 2, y


@pytest.fixture(scope="module")
def smoothed(digits: Arrays) -> SmoothedClassifier:
    X, y = digits
    return quick(n_estimation=1000).fit(X[:600], y[:600])


def quick(estimator: Any = None, sigma: float = 0.25, **params: Any) -> SmoothedClassifier:
    settings = {"n_selection": 50, "n_estimation": 200, "random_state": 0, **params}
    return SmoothedClassifier(estimator, sigma, **settings)


def net(module: Any = Perceptron, *, n_classes: int = 10, **params: Any) -> NeuralNetClassifier:
    named = {"module__n_classes": n_classes} if module is Perceptron else {}
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 3,
        "train_split": None,
        "verbose": 0,
        "iterator_train__shuffle": True,
        **named,
        **params,
    }
    return NeuralNetClassifier(module, **settings)


# -- bases -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(None, id="default"),
        pytest.param(DecisionTreeClassifier(random_state=0), id="scikit-learn"),
        pytest.param(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), id="pipeline"
        ),
        pytest.param(net(), id="skorch"),
        pytest.param(make_pipeline(StandardScaler(), net()), id="skorch-in-pipeline"),
        pytest.param(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), id="module"),
    ],
)
def test_any_base_is_trained_and_certified(digits: Arrays, estimator: Any) -> None:
    X, y = digits
    clf = quick(estimator, n_estimation=500).fit(X[:900], y[:900])
    certificates = clf.certificates(X[900:940])
    assert clf.score(X[900:], y[900:]) > 0.6
    assert np.array_equal(certificates.label, clf.predict(X[900:940]))
    assert np.array_equal(certificates.radius, clf.certify(X[900:940]))
    assert (certificates.counts.sum(axis=1) == 500).all()
    assert (certificates.selection_counts.sum(axis=1) == 50).all()
    assert certificates.radius.max() > 0.1


def test_a_module_class_is_a_base(iris: Arrays) -> None:
    X, y = iris
    clf = quick(Perceptron, 0.2).fit(X, y)
    assert clf.score(X, y) > 0.5
    assert isinstance(clf.estimator_, NeuralNetClassifier)


def test_a_module_instance_is_copied_and_its_weights_are_the_start(iris: Arrays) -> None:
    X, y = iris
    module = nn.Linear(4, 3)
    before = module.weight.detach().clone()
    nn.init.constant_(module.bias, 5.0)
    clf = quick(module, 0.2).fit(X, y)
    assert torch.equal(module.weight, before)
    assert not torch.equal(clf.estimator_.module_.weight, before)
    assert clf.estimator_.module_.bias.mean().item() == pytest.approx(5.0, abs=1.0)


def test_images_of_any_shape_are_inputs(digits: Arrays) -> None:
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    conv = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    clf = quick(conv).fit(images[:300], y[:300])
    assert clf.input_shape_ == (1, 8, 8)
    assert clf.certify(images[300:310]).shape == (10,)
    flat = quick(LogisticRegression(max_iter=1000)).fit(images[:300], y[:300])
    assert np.array_equal(
        flat.predict(images[300:]), quick().fit(X[:300], y[:300]).predict(X[300:])
    )


@pytest.mark.parametrize("common_noise", [True, False])
def test_reversed_views_are_inputs(digits: Arrays, common_noise: bool) -> None:
    X, y = digits
    for estimator in (None, net()):
        clf = quick(estimator, common_noise=common_noise)
        clf.fit(X[:200][::-1, ::-1], y[:200][::-1])
        radii = clf.certify(X[:3, ::-1])
        assert np.array_equal(clf.certify(X[:3, ::-1][::-1]), radii[::-1])
        assert np.array_equal(clf.certify(X[:1, ::-1][::-1]), radii[:1])


def test_tensors_are_inputs(digits: Arrays) -> None:
    X, y = digits
    clf = quick(net()).fit(torch.from_numpy(X[:200]).float(), torch.from_numpy(y[:200]))
    assert np.array_equal(clf.predict(torch.from_numpy(X[:9])), clf.predict(X[:9]))


def test_a_double_precision_module_gets_double_precision_rows(iris: Arrays) -> None:
    X, y = iris
    clf = quick(FrozenEstimator(nn.Linear(4, 3).double())).fit(X, y)
    assert clf.certify(X[:3]).shape == (3,)
    assert quick(nn.Linear(4, 3).double()).fit(X, y).predict(X[:3]).shape == (3,)


def test_noise_is_added_before_a_narrow_network_rounds(iris: Arrays) -> None:
    X, y = iris
    module = Linear(torch.eye(3, 4), torch.zeros(3))
    wide = quick(FrozenEstimator(module), shortcuts=False).fit(X, y).certificates(X).counts
    narrow = quick(FrozenEstimator(module.bfloat16())).fit(X, y).certificates(X).counts
    assert np.abs(wide - narrow).mean() < 2


@pytest.mark.parametrize("kind", [str, object, np.int8, bool])
def test_labels_of_any_kind_come_back(iris: Arrays, kind: type) -> None:
    X, y = iris
    labels = np.array(["setosa", "versicolor", "virginica"])[y] if kind in (str, object) else y
    labels = (y > 0) if kind is bool else labels.astype(kind)
    for estimator in (None, net(n_classes=3)):
        clf = quick(estimator, 0.3).fit(X, labels)
        assert set(clf.predict(X)) <= set(labels)
        assert set(clf.certificates(X[:5]).label) <= set(labels)
        assert clf.predict_proba(X[:5]).sum(axis=1) == pytest.approx(1)


def test_a_binary_skorch_net_votes_by_its_threshold(digits: Arrays) -> None:
    X, y = digits[0], digits[1] >= 5
    binary = NeuralNetBinaryClassifier(SingleLogit, max_epochs=20, lr=0.5, verbose=0)
    clf = quick(binary).fit(X, y)
    assert clf.score(X, y) > 0.75
    assert clf.classes_.tolist() == [False, True]
    strict = quick(binary.set_params(threshold=0.999)).fit(X, y)
    assert strict.predict(X).sum() < clf.predict(X).sum()


class Probability(SingleLogit):
    """One probability a row."""

    def forward(self, x):
        return super().forward(x).sigmoid()


@pytest.mark.parametrize(
    ("module", "criterion"), [(SingleLogit, nn.BCEWithLogitsLoss), (Probability, nn.BCELoss)]
)
@pytest.mark.parametrize(("threshold", "positives"), [(0.0, 9), (1.0, 0)])
def test_a_threshold_at_the_end_of_the_scale_decides_everything(
    digits: Arrays, module: type, criterion: type, threshold: float, positives: int
) -> None:
    X, y = digits[0][:100], digits[1][:100] >= 5
    binary = NeuralNetBinaryClassifier(
        module, criterion=criterion, threshold=threshold, max_epochs=1, verbose=0
    )
    clf = quick(binary, training=None).fit(X, y)
    assert clf.predict(X[:9]).sum() == positives


def test_tables_keep_their_column_names(iris: Arrays) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    by_name = make_pipeline(
        make_column_transformer((StandardScaler(), ["petal length (cm)", "petal width (cm)"])),
        LogisticRegression(max_iter=1000),
    )
    clf = quick(by_name, 0.3).fit(X, y)
    assert clf.feature_names_in_.tolist() == X.columns.tolist()
    assert clf.score(X, y) > 0.9
    trained = LogisticRegression(max_iter=1000).fit(X, y)
    frozen = quick(FrozenEstimator(trained), 0.3).fit(X, y)
    assert frozen.certify(X[:3]).shape == (3,)
    with pytest.raises(ValueError, match=r"feature names should match those that were passed"):
        clf.predict(X.rename(columns=str.upper))


# -- frozen bases ------------------------------------------------------------------------------


def test_a_frozen_base_is_never_trained(iris: Arrays) -> None:
    X, y = iris
    trained = LogisticRegression(max_iter=1000).fit(X, y)
    coefficients = trained.coef_.copy()
    clf = quick(FrozenEstimator(trained)).fit(X[:100], y[:100])
    assert clf.estimator_ is trained
    assert np.array_equal(trained.coef_, coefficients)
    assert clf.classes_.tolist() == [0, 1, 2]


def test_the_columns_of_a_frozen_net_are_the_sorted_labels_where_their_number_agrees(
    iris: Arrays,
) -> None:
    X, y = iris
    labels = np.array(["c", "a", "b"])[y]
    module = Linear(torch.zeros(3, 4), torch.tensor([0.0, 1.0, 0.0]))
    clf = quick(FrozenEstimator(module)).fit(X, labels)
    assert clf.classes_.tolist() == ["a", "b", "c"]
    assert set(clf.predict(X[:5])) == {"b"}


def test_the_columns_of_a_frozen_net_are_numbers_where_fit_saw_fewer_labels(iris: Arrays) -> None:
    X, y = iris
    bias = torch.zeros(10)
    bias[7] = 1
    frozen = FrozenEstimator(Linear(torch.zeros(10, 4), bias))
    with pytest.warns(UserWarning, match=r"^y holds 3 labels but the frozen net has 10 columns"):
        clf = quick(frozen).fit(X, np.array([3, 5, 7])[y])
    assert clf.classes_.tolist() == list(range(10))
    assert set(clf.predict(X[:5])) == {7}


def test_a_skorch_net_trained_by_hand_keeps_its_own_columns(iris: Arrays) -> None:
    X, y = iris
    labels = np.array([3, 5, 7])[y]
    trained = net(max_epochs=30).fit(X.astype(np.float32), labels)
    with pytest.warns(UserWarning, match=r"^y holds 3 labels"):
        clf = quick(FrozenEstimator(trained), 0.05).fit(X, labels)
    agreement = clf.predict(X) == trained.predict(X.astype(np.float32))
    assert agreement.mean() > 0.9


@pytest.mark.parametrize("labels", [[0, 1, 11], ["a", "b", "c"], ["0", "1", "2"]])
def test_labels_that_a_frozen_net_does_not_know_are_refused(iris: Arrays, labels: list) -> None:
    X, y = iris
    frozen = quick(FrozenEstimator(Linear(torch.zeros(10, 4), torch.zeros(10))))
    with pytest.raises(ValueError, match=r"^y must hold labels that the frozen estimator knows"):
        frozen.fit(X, np.array(labels)[y])


def test_labels_that_a_frozen_classifier_does_not_know_are_refused(iris: Arrays) -> None:
    X, y = iris
    trained = LogisticRegression(max_iter=1000).fit(X, y)
    with pytest.raises(ValueError, match=r"^y must hold labels that .* knows, got \[3\]"):
        quick(FrozenEstimator(trained)).fit(X, y + 1)


@pytest.mark.parametrize("estimator", [LogisticRegression(), net(), nn.Linear])
def test_a_frozen_base_that_was_never_trained_is_refused(iris: Arrays, estimator: Any) -> None:
    with pytest.raises(NotFittedError, match=r"^estimator must be trained before it is frozen"):
        quick(FrozenEstimator(estimator)).fit(*iris)


def test_dropout_and_batch_norm_are_in_evaluation_mode(iris: Arrays) -> None:
    X, y = iris
    module = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), nn.Dropout(0.9)).train()
    means = module[0].running_mean.clone()
    clf = quick(FrozenEstimator(module)).fit(X, y)
    first, second = clf.certificates(X), clf.certificates(X)
    assert np.array_equal(first.counts, second.counts)
    assert torch.equal(module[0].running_mean, means)


# -- noise and training ------------------------------------------------------------------------


class Spy(FunctionTransformer):
    """Keeps everything that passes through."""

    seen: ClassVar[list[NDArray[Any]]] = []

    def transform(self, X):
        Spy.seen.append(np.array(X))
        return X


def test_training_noise_equals_certification_noise_under_a_scaling_pipeline() -> None:
    X = np.concatenate([np.full((60, 5), -40.0), np.full((60, 5), 40.0)])
    y = np.repeat([0, 1], 60)
    base = make_pipeline(
        Spy(), FunctionTransformer(lambda x: x / 40), LogisticRegression(max_iter=1000)
    )
    Spy.seen = []
    clf = quick(base, 3.0, n_selection=1000, n_estimation=1000, training="augmentation").fit(X, y)
    trained_on = np.concatenate(Spy.seen)
    Spy.seen = []
    clf.certify(X[:1])
    certified_on = np.concatenate(Spy.seen)
    centres = np.where(trained_on > 0, 40.0, -40.0)
    assert (trained_on - centres).std() == pytest.approx(3.0, rel=0.03)
    assert (certified_on - X[0]).std() == pytest.approx(3.0, rel=0.03)
    assert not np.isin(trained_on - centres, certified_on - X[0]).any()


def test_a_skorch_base_trains_with_the_noise_it_certifies(iris: Arrays) -> None:
    clf = quick(net(n_classes=3), 0.4, noise="laplace").fit(*iris)
    strategy = dict(clf.estimator_.callbacks_)["smoothing"]
    assert isinstance(strategy, StabilityTraining)
    assert strategy.noise == Laplace(0.4) == clf.noise_
    assert len(clf.estimator_.history[:, "stability_loss"]) == 3


@pytest.mark.parametrize(
    ("training", "recorded"),
    [
        ("auto", True),
        ("stability", True),
        (StabilityTraining(3.0), True),
        ("augmentation", False),
        (GaussianAugmentation(), False),
        (None, False),
    ],
)
def test_the_training_parameter_chooses_the_strategy(iris, training: Any, recorded: bool) -> None:
    clf = quick(net(n_classes=3), training=training).fit(*iris)
    assert ("stability_loss" in clf.estimator_.history[-1]) == recorded


def test_a_strategy_that_the_user_put_on_the_net_is_the_one_that_runs(iris: Arrays) -> None:
    own = net(n_classes=3, callbacks=[StabilityTraining(4.0), EpochScoring("accuracy")])
    clf = quick(own, 0.7).fit(*iris)
    strategies = [c for _, c in clf.estimator_.callbacks_ if isinstance(c, StabilityTraining)]
    assert [(s.gamma, s.noise) for s in strategies] == [(4.0, Gaussian(0.7))]
    assert own.callbacks[0].noise is None


def test_sample_weights_reach_the_base_once_per_noisy_copy(iris: Arrays) -> None:
    X, y = iris
    weight = np.where(y == 2, 0.0, 1.0)
    clf = quick(sigma=0.1).fit(X, y, sample_weight=weight)
    assert 2 not in clf.predict(X[y != 2])


def test_weights_that_leave_one_class_are_refused_by_name(iris: Arrays) -> None:
    X, y = iris
    with pytest.raises(ValueError, match=r"^SVC refused to be fitted with sample_weight: .*class"):
        quick(SVC()).fit(X, y, sample_weight=(y == 1).astype(float))
    with pytest.raises(ValueError, match=r"^The 'C' parameter of SVC must be"):
        quick(SVC(C=-1.0)).fit(X, y)


def test_metadata_reaches_the_base_that_asks_for_it(iris: Arrays) -> None:
    X, y = iris
    weight = np.where(y == 2, 0.0, 1.0)
    with config_context(enable_metadata_routing=True):
        asking = LogisticRegression().set_fit_request(sample_weight=True)
        clf = quick(asking, 0.1).fit(X, y, sample_weight=weight)
        assert 2 not in clf.predict(X[y != 2])
        with pytest.raises(UnsetMetadataPassedError, match=r"not explicitly set"):
            quick(LogisticRegression(), 0.1).fit(X, y, sample_weight=weight)


def test_fit_leaves_the_global_generators_alone(iris: Arrays) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick(net(n_classes=3)).fit(*iris)
    assert torch.equal(torch.rand(3), expected)


def test_fits_with_one_seed_are_equal_and_later_calls_deterministic(iris: Arrays) -> None:
    X, y = iris
    first, second = (quick(net(n_classes=3)).fit(X, y).certificates(X) for _ in range(2))
    assert np.array_equal(first.counts, second.counts)
    unseeded = quick(random_state=None).fit(X, y)
    assert np.array_equal(unseeded.certify(X), unseeded.certify(X))


def test_another_noise_seed_draws_another_bank(smoothed: SmoothedClassifier, digits) -> None:
    X = digits[0][600:650]
    usual, fresh = smoothed.certificates(X), smoothed.certificates(X, noise_seed=12345)
    assert not np.array_equal(usual.counts, fresh.counts)
    assert fresh.noise_seed == 12345
    assert usual.noise_seed == smoothed.noise_seed_


# -- certificates ------------------------------------------------------------------------------


@pytest.mark.parametrize("common_noise", [True, False])
def test_votes_do_not_depend_on_company_order_batch_size_or_jobs(digits, common_noise) -> None:
    X, y = digits
    clf = quick(common_noise=common_noise).fit(X[:300], y[:300])
    reference = clf.certificates(X[300:340]).counts
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(clf.certificates(X[300:340][order]).counts, reference[order])
    assert np.array_equal(clf.certificates(X[305:307]).counts, reference[5:7])
    for changed in ({"batch_size": 17}, {"n_jobs": 2}):
        clf.set_params(**changed)
        assert np.array_equal(clf.certificates(X[300:340]).counts, reference)


@pytest.mark.parametrize(
    ("noise", "bounds"),
    [
        ("gaussian", ["auto", "neyman_pearson", "binary", "renyi", "pixeldp", renyi_radius]),
        ("laplace", ["auto", "neyman_pearson", "binary", "renyi", "pixeldp", "teng"]),
        ("uniform", ["auto", "neyman_pearson", "binary"]),
    ],
)
def test_every_bound_certifies_from_the_same_votes(digits, noise: str, bounds: list) -> None:
    X, y = digits
    clf = quick(noise=noise, n_estimation=1000).fit(X[:300], y[:300])
    record = clf.certificates(X[300:330])
    for bound in bounds:
        clf.set_params(bound=bound)
        direct = clf.certificates(X[300:330])
        assert np.array_equal(direct.counts, record.counts)
        assert np.array_equal(direct.radius, record.with_bound(bound).radius)
        assert direct.radius.max() > 0


class Triangular(Gaussian):
    """A noise of the user's own, for which no bound is known by name."""

    name = "triangular"


def test_a_noise_of_ones_own_needs_a_bound_of_ones_own(iris: Arrays) -> None:
    with pytest.raises(ValueError, match=r"^bound must be a function .* for triangular noise"):
        quick(noise=Triangular(0.3)).fit(*iris)
    clf = quick(noise=Triangular(0.3), bound=renyi_radius).fit(*iris)
    assert clf.certificates(iris[0][:3]).bound == "randsmooth.bounds.gaussian.renyi_radius"


def test_a_bound_for_another_noise_is_refused_before_training(iris: Arrays) -> None:
    with pytest.raises(ValueError, match=r"^bound must be one for uniform noise, got 'renyi'"):
        quick(noise="uniform", bound="renyi").fit(*iris)


def test_predictions_are_the_majority_of_the_vote_shares(smoothed, digits) -> None:
    X = digits[0][600:]
    shares = smoothed.predict_proba(X)
    assert np.array_equal(smoothed.predict(X), smoothed.classes_[shares.argmax(axis=1)])
    assert shares * 50 == pytest.approx(np.round(shares * 50))


def test_progress_is_shown_on_request(smoothed: SmoothedClassifier, digits, capsys) -> None:
    clone_of = pickle.loads(pickle.dumps(smoothed)).set_params(verbose=1)
    clone_of.certify(digits[0][600:603])
    err = capsys.readouterr().err
    assert "selection draws: 100%" in err
    assert "estimation draws: 100%" in err


# -- at home in scikit-learn -------------------------------------------------------------------


def test_a_grid_search_over_sigma_uses_certified_accuracy(digits: Arrays) -> None:
    X, y = digits
    search = GridSearchCV(
        quick(n_estimation=300),
        {"sigma": [0.05, 0.4]},
        scoring=certified_accuracy_scorer(0.3),
        cv=2,
    ).fit(X[:400], y[:400])
    assert search.best_params_ == {"sigma": 0.4}
    low, high = search.cv_results_["mean_test_score"]
    assert low < 0.05 < 0.3 < high


def test_parameters_of_the_net_and_the_strategy_can_be_searched(iris: Arrays) -> None:
    search = GridSearchCV(
        quick(net(n_classes=3), training=StabilityTraining()),
        {"training__gamma": [0.5, 2.0], "estimator__lr": [0.01]},
        cv=2,
    ).fit(*iris)
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()


def test_it_is_the_last_step_of_a_pipeline_and_cross_validates(iris: Arrays) -> None:
    pipeline = make_pipeline(StandardScaler(), quick())
    scores = cross_val_score(pipeline, *iris, cv=3)
    assert scores.mean() > 0.8
    certified = cross_val_score(pipeline, *iris, cv=3, scoring=certified_accuracy_scorer(0.1))
    assert 0 < certified.mean() <= scores.mean()


def test_it_clones_and_pickles(smoothed: SmoothedClassifier, digits: Arrays) -> None:
    copy = pickle.loads(pickle.dumps(smoothed))
    assert np.array_equal(copy.certify(digits[0][600:610]), smoothed.certify(digits[0][600:610]))
    with_net = quick(net(), training=StabilityTraining(2.0))
    assert clone(with_net).training.gamma == 2.0
    with_module = clone(quick(nn.Linear(64, 10)))
    assert isinstance(with_module.estimator, nn.Linear)
    fitted = quick(net()).fit(digits[0][:100], digits[1][:100])
    restored = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(restored.predict(digits[0]), fitted.predict(digits[0]))


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sigma": 0.0}, r"^sigma must be positive and finite, got 0.0"),
        ({"sigma": -1.0}, r"^sigma must be positive and finite, got -1.0"),
        ({"sigma": np.nan}, r"^sigma must be positive and finite, got nan"),
        ({"sigma": np.inf}, r"^sigma must be positive and finite, got inf"),
        ({"alpha": 0.0}, r"^alpha must lie strictly between 0 and 1, got 0.0"),
        ({"alpha": 1.5}, r"^alpha must lie strictly between 0 and 1, got 1.5"),
        ({"n_selection": 0}, r"^n_selection must be a positive integer, got 0"),
        (
            {"n_estimation": 10.5},
            r"^n_estimation must be 'two-stage', .* or a positive integer, got 10.5",
        ),
        ({"batch_size": "big"}, r"^batch_size must be 'auto' or a positive integer, got 'big'"),
        ({"bound": "best"}, r"^bound must be one of 'auto', .* or a function, got 'best'"),
        ({"noise": "pink"}, r"^noise must be one of 'gaussian', .*, got 'pink'"),
        ({"training": "none"}, r"^training must be one of 'auto', .*, got 'none'"),
    ],
)
def test_a_parameter_out_of_range_is_refused(iris, params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**params).fit(*iris)


def test_a_parameter_of_the_wrong_kind_is_refused(iris: Arrays) -> None:
    with pytest.raises(TypeError, match=r"^estimator must be a torch module .* got 'svm'"):
        quick("svm").fit(*iris)
    with pytest.raises(TypeError, match=r"^estimator must be a torch module"):
        quick(LogisticRegression).fit(*iris)
    with pytest.raises(TypeError, match=r"^training must be a name, None or a strategy"):
        quick(training=3).fit(*iris)
    with pytest.raises(TypeError, match=r"^training must be GaussianAugmentation or None for"):
        quick(training="stability").fit(*iris)


def test_a_device_that_torch_does_not_know_is_refused(iris: Arrays) -> None:
    with pytest.raises(ValueError, match=r"^device must be 'auto' or a torch device .*'warp'"):
        quick(nn.Linear(4, 3), device="warp").fit(*iris)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused(smoothed, digits, value: float) -> None:
    X, y = digits[0][:20].copy(), digits[1][:20]
    X[3, 5] = value
    with pytest.raises(ValueError, match=r"^Input X contains (NaN|infinity)"):
        quick().fit(X, y)
    with pytest.raises(ValueError, match=r"^Input X contains (NaN|infinity)"):
        smoothed.certify(X)


def test_images_of_another_shape_are_refused(digits: Arrays) -> None:
    X, y = digits
    images = X.reshape(-1, 1, 8, 8)
    clf = quick(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).fit(images[:100], y[:100])
    for wrong in (images[:8, :, :4], images[:8, 0], X[:8], images[:8, 0].tolist()):
        with pytest.raises(ValueError, match=r"^X must hold inputs of shape \(1, 8, 8\), as seen"):
            clf.certify(wrong)


def test_a_table_with_other_columns_is_refused(smoothed: SmoothedClassifier, digits) -> None:
    with pytest.raises(ValueError, match=r"^X has 63 features, but SmoothedClassifier is expect"):
        smoothed.certify(digits[0][:, 1:])


def test_one_class_only_is_refused(iris: Arrays) -> None:
    with pytest.raises(ValueError, match=r"^y must hold at least two classes, got one class: \[0"):
        quick().fit(iris[0][:50], iris[1][:50])


def test_certifying_before_fit_is_refused(iris: Arrays) -> None:
    for method in ("predict", "predict_proba", "certify", "certificates"):
        with pytest.raises(NotFittedError, match=r"^This SmoothedClassifier instance is not fit"):
            getattr(quick(), method)(iris[0])


def test_a_single_logit_network_is_refused_with_the_remedy(digits: Arrays) -> None:
    X, y = digits[0], digits[1] >= 5
    message = r"^estimator must return at least two columns, .* NeuralNetBinaryClassifier"
    with pytest.raises(ValueError, match=message):
        quick(SingleLogit).fit(X, y)
    with pytest.raises(ValueError, match=message):
        quick(FrozenEstimator(SingleLogit())).fit(X, y)


class Odd(nn.Module):
    """A network whose output is not one row per input."""

    def forward(self, x):
        return {"logits": x}


def test_a_network_that_does_not_return_rows_is_refused(iris: Arrays) -> None:
    with pytest.raises(ValueError, match=r"^estimator must return one row of outputs .*got dict"):
        quick(FrozenEstimator(Odd())).fit(*iris)


def test_a_net_with_too_few_columns_is_refused(iris: Arrays) -> None:
    with pytest.raises(ValueError, match=r"^estimator must return one column per class, got 2 c"):
        quick(nn.Linear(4, 2)).fit(*iris)


def test_a_net_around_a_module_instance_warns_that_weights_leak(iris: Arrays) -> None:
    with pytest.warns(WeightLeakWarning, match=r"holds a module instance, Linear: .* leak"):
        quick(net(nn.Linear(4, 3))).fit(*iris)


def test_a_net_that_runs_no_callbacks_is_refused_with_the_remedy(iris: Arrays) -> None:
    with pytest.raises(TypeError, match=r"^training=StabilityTraining\(\) needs a net that runs"):
        quick(net(n_classes=3, callbacks="disable")).fit(*iris)
    assert quick(net(n_classes=3, callbacks="disable"), training=None).fit(*iris)


def test_too_few_draws_for_alpha_are_announced_with_the_number_that_suffices(iris) -> None:
    clf = quick(n_estimation=5).fit(*iris)
    with pytest.warns(TooFewDrawsWarning, match=r"^n_estimation=5 .* alpha=0.001: .* is 11\.$"):
        assert not clf.certify(iris[0]).any()
    clf.set_params(bound="binary", n_estimation=9)
    with pytest.warns(TooFewDrawsWarning, match=r"is 10\.$"):
        clf.certify(iris[0])
    clf.set_params(n_estimation=10).certify(iris[0])


@pytest.mark.parametrize("noise_seed", [-1, 2**63, 1.5, "x"])
def test_a_noise_seed_out_of_range_is_refused(smoothed, digits, noise_seed: Any) -> None:
    with pytest.raises(ValueError, match=r"^noise_seed must be an integer from 0 to 2\*\*63 - 1"):
        smoothed.certify(digits[0][:2], noise_seed=noise_seed)


class Fragile(nn.Module):
    """A network without a finite answer to large inputs."""

    def forward(self, x):
        outputs = x[:, :2].clone()
        outputs[x[:, 0] > 50] = torch.nan
        return outputs


def test_outputs_that_are_not_finite_cost_their_own_inputs_only(iris: Arrays) -> None:
    X = iris[0].copy()
    clf = quick(FrozenEstimator(Fragile())).fit(X, iris[1] > 0)
    whole = clf.certificates(X)
    X[[10, 20], 0] = 100
    with pytest.raises(CertificationError, match=r"^X has 2 inputs .* rows \[10, 20\]") as caught:
        clf.certify(X)
    record = caught.value.certificates
    assert "200 of 200 network outputs are not finite" in str(caught.value) or "50 of 50" in str(
        caught.value
    )
    assert caught.value.failed.tolist() == [10, 20]
    assert record.abstained[[10, 20]].all()
    kept = np.setdiff1d(np.arange(len(X)), [10, 20])
    assert np.array_equal(record.radius[kept], whole.radius[kept])
    with pytest.raises(CertificationError, match=r"could not classify") as caught:
        clf.predict(X)
    assert caught.value.certificates is None


def test_pandas_labels_and_missing_columns_are_handled(iris: Arrays) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    clf = quick(net(n_classes=3)).fit(X, pd.Series(y).map({0: "a", 1: "b", 2: "c"}))
    assert set(clf.predict(X)) <= {"a", "b", "c"}
