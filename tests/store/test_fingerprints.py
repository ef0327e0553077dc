"""A store knows its model again, and takes no other for it."""

from __future__ import annotations

import copy
import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import skops.io
import torch
from runs import X, y
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.exceptions import StoreMismatchError
from randsmooth.fingerprints import model_fingerprint

ROWS, LABELS = X[:150].astype(np.float32), y[:150]


class Net(nn.Module):
    """A network of which the weights are not all that decides."""

    def __init__(self, act: Any = torch.relu, sharp: bool = False, **more: Any) -> None:
        super().__init__()
        self.a = nn.Linear(64, 10)
        self.act, self.sharp = act, sharp
        self.register_buffer("mean", torch.zeros(64), persistent=False)
        vars(self).update(more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.a(self.act(x - self.mean))
        return -scores if self.sharp else scores


class Scaled(nn.Module):
    """A network that TorchScript compiles."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.a = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.a(x) * self.factor
        return scores


def net(module: Any = None, **how: Any) -> NeuralNetClassifier:
    layers = nn.Sequential(nn.Linear(64, 10)) if module is None else module
    settings = {"criterion": nn.CrossEntropyLoss, "max_epochs": 1, "train_split": None, **how}
    return NeuralNetClassifier(layers, verbose=0, **settings)


def times(factor: float) -> Any:
    return lambda x: x * factor


def changed(**attributes: Any) -> nn.Module:
    torch.manual_seed(0)
    module = Net()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


OTHERS = {
    "an attribute": lambda: changed(sharp=True),
    "a function": lambda: changed(act=torch.tanh),
    "a lambda": lambda: changed(act=times(1)),
    "what a lambda encloses": lambda: changed(act=times(2)),
    "a partial": lambda: changed(act=functools.partial(torch.softmax, dim=1)),
    "a buffer that is not kept": lambda: changed(mean=torch.ones(64)),
    "an array": lambda: changed(table=np.zeros(3)),
    "an array's shape": lambda: changed(table=np.zeros((3, 1))),
    "an array's type": lambda: changed(table=np.zeros(3, dtype=np.float32)),
    "objects": lambda: changed(table=np.array([None, 1])),
    "no elements": lambda: changed(table=np.zeros((0, 2))),
    "a masked array": lambda: changed(table=np.ma.masked_array(np.zeros(3), [1, 0, 0])),
    "a sparse array": lambda: changed(table=scipy.sparse.csr_array(np.eye(3))),
    "another sparse array": lambda: changed(table=scipy.sparse.csr_matrix(np.eye(2))),
    "a set": lambda: changed(table={1, 2}),
    "a dict": lambda: changed(table={"a": [1, (2.0, None)]}),
    "a type of numbers": lambda: changed(table=torch.float64),
    "a type of arrays": lambda: changed(table=np.dtype("f8")),
    "a scalar": lambda: changed(table=np.float32(1)),
    "a size": lambda: changed(table=torch.Size([1, 2])),
    "a lock": lambda: changed(table=threading.Lock()),
    "a library": lambda: changed(table=np),
    "a sparse tensor": lambda: changed(table=torch.eye(3).to_sparse()),
    "a weight": lambda: changed(a=nn.Linear(64, 10)),
    "a part": lambda: changed(a=nn.Sequential(nn.Linear(64, 10))),
    "itself": lambda: (lambda module: vars(module).update(table=[module]) or module)(changed()),
}


def test_whatever_decides_votes_of_a_module_counts() -> None:
    prints = [model_fingerprint(make()) for make in (changed, *OTHERS.values())]
    assert len(set(prints)) == len(prints)
    assert prints == [model_fingerprint(make()) for make in (changed, *OTHERS.values())]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_how_a_module_is_run_does_not_count() -> None:
    module = changed()
    expected = model_fingerprint(module)
    assert model_fingerprint(copy.deepcopy(module).eval()) == expected
    hooked = copy.deepcopy(module)
    hooked.register_forward_hook(lambda *_: None)
    assert model_fingerprint(hooked) == expected
    assert model_fingerprint(torch.compile(module)) == expected
    assert model_fingerprint(module) == expected


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_scripted_module_is_known_by_weights_code_and_attributes() -> None:
    torch.manual_seed(0)
    module = Scaled(2.0)
    expected = model_fingerprint(torch.jit.script(module))
    assert model_fingerprint(torch.jit.script(module)) == expected
    other = copy.deepcopy(module)
    other.factor = 3.0
    assert model_fingerprint(torch.jit.script(other)) != expected
    other = copy.deepcopy(module)
    other.a.weight.data[0, 0] += 1
    assert model_fingerprint(torch.jit.script(other)) != expected


@pytest.mark.parametrize(
    "attribute",
    [(i for i in range(2)), nn.parameter.UninitializedParameter()],
    ids=["generator", "no values yet"],
)
def test_what_cannot_be_known_again_is_refused(attribute: Any) -> None:
    module = Net(table=attribute)
    with pytest.raises(
        TypeError, match=r"^estimator must consist of values that can be known again, got Net: a "
    ):
        model_fingerprint(module)


def test_the_threshold_and_the_outputs_of_a_net_count() -> None:
    layers = nn.Sequential(nn.Linear(64, 1), nn.Flatten(0))
    one = NeuralNetBinaryClassifier(layers, threshold=0.5).initialize()
    other = NeuralNetBinaryClassifier(layers, threshold=0.9).initialize()
    assert model_fingerprint(one) != model_fingerprint(other)
    layers = nn.Sequential(nn.Linear(64, 10), nn.Softmax(1))
    nets = [
        net(layers),
        net(layers, criterion=nn.NLLLoss),
        net(layers, predict_nonlinearity=None),
        net(layers, criterion=nn.BCEWithLogitsLoss),
    ]
    prints = {model_fingerprint(each.initialize()) for each in nets}
    assert len(prints) == len(nets)
    assert model_fingerprint(layers) in prints  # a module's outputs are logits


def test_how_a_net_was_trained_does_not_count() -> None:
    trained = net().fit(ROWS, LABELS)
    expected = model_fingerprint(trained)
    vars(trained).update(lr=7, max_epochs=9, iterator_train__shuffle=True, verbose=1)
    trained.history_.clear()
    assert model_fingerprint(trained) == expected


def seeded(make: Any) -> Any:
    torch.manual_seed(0)
    return make().fit(ROWS, LABELS)


CLASSIFIERS = {
    "k-d tree": lambda: KNeighborsClassifier(algorithm="kd_tree"),
    "ball tree": lambda: KNeighborsClassifier(algorithm="ball_tree"),
    "forest": lambda: RandomForestClassifier(3, random_state=0),
    "boosted trees": lambda: HistGradientBoostingClassifier(max_iter=2, random_state=0),
    "support vectors": SVC,
    "perceptron": lambda: MLPClassifier((4,), max_iter=200, tol=10, random_state=0),
    "pipeline": lambda: make_pipeline(
        StandardScaler(), FunctionTransformer(np.abs), LogisticRegression(max_iter=2000)
    ),
    "search": lambda: GridSearchCV(GaussianNB(), {"var_smoothing": [1e-3, 1e-2]}, cv=2),
    "calibrated": lambda: CalibratedClassifierCV(GaussianNB(), cv=2),
    "frozen": lambda: FrozenEstimator(GaussianNB().fit(ROWS, LABELS)),
    "pipeline with a net": lambda: make_pipeline(StandardScaler(), net()),
    "search with a net": lambda: GridSearchCV(net(), {"lr": [0.1, 0.2]}, cv=2),
    "calibrated net": lambda: CalibratedClassifierCV(net(), cv=2),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_same_classifier_is_known_again(name: str) -> None:
    clf = seeded(CLASSIFIERS[name])
    expected = model_fingerprint(clf)
    clf.predict(ROWS[:5])
    assert model_fingerprint(clf) == expected
    assert model_fingerprint(seeded(CLASSIFIERS[name])) == expected
    assert model_fingerprint(copy.deepcopy(clf)) == expected
    if "net" not in name:
        content = skops.io.dumps(clf)
        trusted = skops.io.get_untrusted_types(data=content)
        assert model_fingerprint(skops.io.loads(content, trusted=trusted)) == expected
    if hasattr(clf, "n_jobs"):
        assert model_fingerprint(clf.set_params(n_jobs=2)) == expected
    if name != "frozen":
        torch.manual_seed(0)
        other = CLASSIFIERS[name]().fit(ROWS, np.roll(LABELS, 1))
        assert model_fingerprint(other) != expected


def test_a_parameter_of_a_classifier_counts() -> None:
    trained = LogisticRegression(max_iter=2000).fit(ROWS, LABELS)
    expected = model_fingerprint(trained)
    assert model_fingerprint(copy.deepcopy(trained).set_params(C=2)) != expected
    weights = trained.coef_.copy()
    trained.coef_ = weights + 1e-16 * (np.arange(64) == 9)
    assert model_fingerprint(trained) == model_fingerprint(trained)
    trained.coef_ = np.nextafter(weights, 1)
    assert model_fingerprint(trained) != expected


def test_a_store_of_another_module_is_refused(tmp_path: Path) -> None:
    def smoothed(module: nn.Module) -> SmoothedClassifier:
        frozen = FrozenEstimator(module)
        return SmoothedClassifier(frozen, n_estimation=50, random_state=0).fit(ROWS, LABELS)

    path = tmp_path / "run.sqlite"
    smoothed(changed()).certificates(ROWS[:2], store=path)
    smoothed(changed()).certificates(ROWS[:2], store=path)
    for other in ("an attribute", "a buffer that is not kept"):
        with pytest.raises(StoreMismatchError, match="by another model"):
            smoothed(OTHERS[other]()).certificates(ROWS[:2], store=path)
