"""Fitted classifiers on disk: the same votes, and nothing run that was not allowed."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from nets import Perceptron
from randsmooth import SmoothedClassifier, TwoStage
from randsmooth.classifier_header import sealed
from randsmooth.exceptions import InvalidFileError
from randsmooth.models import LeNet
from randsmooth.noise import Splitting

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
PARITY = (y % 2).astype(np.float32)
IMAGES = np.random.default_rng(0).random((20, 1, 28, 28), dtype=np.float32)


class Layers(nn.Sequential):
    def __init__(self, width: int = 32, n_classes: int = 10) -> None:
        super().__init__(
            nn.Linear(64, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, n_classes),
        )


class WithSoftmax(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 10), nn.Softmax(1))


class Choosy(nn.Module):
    """A network that is more than its weights."""

    def __init__(self, act: Any = torch.relu, sharp: bool = False) -> None:
        super().__init__()
        self.a, self.act, self.sharp = nn.Linear(64, 10), act, sharp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.act(self.a(x))
        return -scores if self.sharp else scores


def short(module: Any, **how: Any) -> NeuralNetClassifier:
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        train_split=None,
        verbose=0,
        **how,
    )


def one_logit() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 1), nn.Flatten(0))


def binary() -> NeuralNetBinaryClassifier:
    return NeuralNetBinaryClassifier(
        one_logit, max_epochs=1, train_split=None, verbose=0, threshold=0.3
    )


WORDS = np.array([f"class {i}" for i in range(10)])
CASES = {
    "module class": (Layers, {}, X, y, {"module": Layers}),
    "module instance": (Layers(16), {}, X, WORDS[y], {"module": Layers(16)}),
    "skorch net": (short(Layers, module__width=8), {}, X, y, {"module": lambda: Layers(8)}),
    "frozen module": (FrozenEstimator(Layers()), {}, X, y, {"module": Layers}),
    "skorch net of a class": (short(Layers, module__width=8), {}, X, y, {"module": Layers}),
    "double precision": (FrozenEstimator(Layers().double()), {}, X, y, {"module": Layers}),
    "probabilities": (
        NeuralNetClassifier(WithSoftmax, max_epochs=1, train_split=None, verbose=0),
        {},
        X,
        y,
        {"module": WithSoftmax},
    ),
    "a lazy layer": (short(Perceptron, module__n_classes=10), {}, X, y, {"module": Perceptron}),
    "a single logit": (binary(), {}, X, PARITY, {"module": one_logit}),
    "network by name": (short(LeNet, module__n_classes=10), {}, IMAGES, np.arange(20) % 10, {}),
    "logistic regression": (LogisticRegression(max_iter=2000), {}, X, WORDS[y], {}),
    "pipeline": (
        make_pipeline(StandardScaler(), RandomForestClassifier(5)),
        {},
        X,
        y,
        {"trusted": ["sklearn.tree._tree.Tree"]},
    ),
    "default": (None, {"noise": "laplace", "n_estimation": "two-stage"}, X, y, {}),
    "another noise": (None, {"noise": Splitting(0.4)}, X, y, {}),
    "two stages": (None, {"n_estimation": TwoStage(n_max=500, n_pilot=100)}, X, y, {}),
    "reduced precision": (Layers, {"autocast": "bfloat16"}, X, y, {"module": Layers}),
}


@pytest.mark.filterwarnings("ignore::randsmooth.exceptions.WeightLeakWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_loaded_classifier_gives_the_same_votes(case: str, tmp_path: Path) -> None:
    base, parameters, inputs, labels, how = CASES[case]
    settings = {"sigma": 0.25, "n_estimation": 200, "random_state": 0, "alpha": 0.01, **parameters}
    torch.manual_seed(0)
    clf = SmoothedClassifier(base, **settings).fit(inputs[:300], labels[:300])
    path = tmp_path / "clf.rs"
    clf.save(path)
    again = SmoothedClassifier.load(path, **how)
    one, other = (c.certificates(inputs[-20:]) for c in (clf, again))
    assert np.array_equal(one.counts, other.counts)
    assert np.array_equal(one.selection_counts, other.selection_counts)
    assert np.array_equal(one.label, other.label)
    assert one.label.dtype == other.label.dtype
    assert one.facts == other.facts
    kept = {**clf.get_params(deep=False), "estimator": None}
    assert {**again.get_params(deep=False), "estimator": None} == kept
    again.set_params(training=None).fit(inputs[:40], labels[:40])  # an estimator like any other


def test_a_loaded_classifier_goes_on_with_a_store(tmp_path: Path) -> None:
    torch.manual_seed(0)
    clf = SmoothedClassifier(Layers, n_estimation=100, random_state=0).fit(X[:200], y[:200])
    clf.certificates(iter([X[:10]]), store=tmp_path / "run.sqlite")
    clf.save(tmp_path / "clf.rs")
    again = SmoothedClassifier.load(tmp_path / "clf.rs", module=Layers)
    record = again.certificates(iter([X[:30]]), store=tmp_path / "run.sqlite")
    assert np.array_equal(record.counts, clf.certificates(X[:30]).counts)


def test_names_of_columns_are_kept(tmp_path: Path) -> None:
    table = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    clf = SmoothedClassifier(n_estimation=100, random_state=0).fit(table[:300], y[:300])
    clf.save(tmp_path / "clf.rs")
    again = SmoothedClassifier.load(tmp_path / "clf.rs")
    assert np.array_equal(again.predict(table[:20]), clf.predict(table[:20]))
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(table[:20].rename(columns={"pixel 0": "first"}))


def test_arguments_of_a_class_are_those_it_was_trained_with(tmp_path: Path) -> None:
    path = tmp_path / "clf.rs"
    settings = {"training": None, "n_estimation": 50, "random_state": 0}
    clf = SmoothedClassifier(short(Choosy, module__sharp=True), **settings).fit(X[:100], y[:100])
    clf.save(path)
    again = SmoothedClassifier.load(path, module=Choosy)
    assert np.array_equal(again.certificates(X[:9]).counts, clf.certificates(X[:9]).counts)
    with pytest.raises(ValueError, match=r"^module must be as it was when .* got <function"):
        SmoothedClassifier.load(path, module=lambda: Choosy())
    with pytest.raises(ValueError, match=r"^module must be as it was when .* got Choosy\("):
        SmoothedClassifier.load(path, module=Choosy(torch.tanh, sharp=True))
    with pytest.raises(ValueError, match=r"^module must take the arguments .* got Linear: missing"):
        SmoothedClassifier.load(path, module=nn.Linear)
    own = short(Choosy, module__sharp=True, module__act=torch.tanh)
    SmoothedClassifier(own, **settings).fit(X[:100], y[:100]).save(path)
    with pytest.raises(ValueError, match=r"^module must make the network with its own act, which"):
        SmoothedClassifier.load(path, module=Choosy)
    SmoothedClassifier.load(path, module=lambda: Choosy(torch.tanh, sharp=True))


@pytest.mark.filterwarnings("ignore::randsmooth.exceptions.WeightLeakWarning")
def test_a_net_that_cannot_be_saved_is_named(tmp_path: Path) -> None:
    path, settings = tmp_path / "clf.rs", {"training": None, "n_estimation": 50, "random_state": 0}
    piped = make_pipeline(StandardScaler(), short(nn.Sequential(nn.Linear(64, 10))))
    clf = SmoothedClassifier(piped, **settings).fit(X[:100], y[:100])
    with pytest.raises(TypeError, match=r"^estimator must be made of what skops can .* Pipeline"):
        clf.save(path)
    odd = short(Layers, predict_nonlinearity=torch.sigmoid)
    clf = SmoothedClassifier(odd, **settings).fit(X[:100], y[:100])
    with pytest.raises(ValueError, match=r"^predict_nonlinearity must be 'auto' or None to be "):
        clf.save(path)
    clf = SmoothedClassifier(Layers, **settings).fit(X[:100], y[:100])
    clf.estimator_.module_.__class__ = WithState
    with pytest.raises(TypeError, match=r"^estimator must have tensors only .* got dict in _extra"):
        clf.save(path)
    clf = SmoothedClassifier(**settings).fit(X[:100], y[:100])
    with pytest.raises(
        ValueError, match=r"^verbose must be a number or a name to be saved, got \["
    ):
        clf.set_params(verbose=[1]).save(path)
    assert not list(tmp_path.iterdir())


class WithState(Layers):
    def get_extra_state(self) -> Any:
        return {"a": 1}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "clf.rs"
    SmoothedClassifier(Layers, training=None, random_state=0).fit(X[:100], y[:100]).save(path)
    return path


class OwnNet(NeuralNetClassifier):
    """A net of a class of its own."""


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clf.rs"
    with pytest.raises(NotFittedError):
        SmoothedClassifier().save(path)
    base = LogisticRegression(max_iter=2000)
    clf = SmoothedClassifier(base, bound=lambda p, q, sigma: 0 * p).fit(X[:100], y[:100])
    with pytest.raises(ValueError, match=r"^bound must be a name to be saved, got <function"):
        clf.save(path)
    own = OwnNet(Layers, max_epochs=1, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0)
    clf = SmoothedClassifier(own, random_state=0).fit(X[:100], y[:100])
    with pytest.raises(TypeError, match=r"^estimator must be a torch module or .* got OwnNet\."):
        clf.save(path)
    assert not list(tmp_path.iterdir())


def test_a_module_that_is_not_allowed_is_asked_for(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"^module must be given .*module=Layers\)"):
        SmoothedClassifier.load(saved)
    with pytest.raises(
        ValueError, match=r"(?s)^module must have the layers of the file: .*size mis"
    ):
        SmoothedClassifier.load(saved, module=lambda: Layers(7))
    with pytest.raises(TypeError, match=r"^module must make a torch module, got 'net'"):
        SmoothedClassifier.load(saved, module=lambda: "net")


def test_a_type_that_is_not_trusted_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "clf.rs"
    base = OddRegression(max_iter=2000)
    clf = SmoothedClassifier(base, n_estimation=50, random_state=0).fit(X[:100], y[:100])
    clf.save(path)
    name = f"{OddRegression.__module__}.OddRegression"
    with pytest.raises(ValueError, match=f"^trusted must name every type .* with {name}"):
        SmoothedClassifier.load(path)
    again = SmoothedClassifier.load(path, trusted=[name])
    assert np.array_equal(again.predict(X[:9]), clf.predict(X[:9]))


class OddRegression(LogisticRegression):
    """A class that nobody allowed."""


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def rewritten(path: Path, **members: bytes) -> Path:
    """The file with some of its members changed, or added."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    names = {"header": "classifier.json", "weights": "weights.safetensors", "base": "base.skops"}
    for name, value in members.items():
        content[names.get(name, name)] = value
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


MISSING = object()


def header_with(path: Path, seal: bool = True, **changes: Any) -> bytes:
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("classifier.json"))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            if value is MISSING:
                del header[section][key]
            else:
                header[section][key] = value
        else:
            header[section] = value
    return json.dumps(sealed(header) if "format" not in changes and seal else header).encode()


def compressed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("classifier.json", b"0" * 10**7)
        archive.writestr("base.skops", b"0" * 10**7)
    return buffer.getvalue()


def test_a_hostile_file_is_refused_and_runs_nothing(saved, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    original = saved.read_bytes()
    payload = pickle.dumps(Harm())
    cases = {
        "no zip": b"nothing",
        "a pickle": payload,
        "compressed": compressed(),
        "cut": original[: len(original) // 2],
    }
    for content in cases.values():
        saved.write_bytes(content)
        with pytest.raises(InvalidFileError):
            SmoothedClassifier.load(saved, module=Layers)
    changes = [
        {"weights": payload},
        {"weights": b"\xff" * 8 + b"{}"},  # a header of 2**64 bytes
        {"header": b"[]"},
        {"more": b"text"},
        {"../outside": b"text"},
    ]
    headers: list[dict[str, Any]] = [
        {"format": "other"},
        {"base__kind": "sklearn"},
        {"base__kind": "os"},
        {"fitted__classes_dtype": "|O"},
        {"fitted__noise": {"name": "os"}},
        {"fitted__noise": {"name": "gaussian", "scale": -1}},
    ]
    for change in headers:
        saved.write_bytes(original)
        changes.append({"header": header_with(saved, **change)})
    for change in changes:
        saved.write_bytes(original)
        with pytest.raises(InvalidFileError):
            SmoothedClassifier.load(rewritten(saved, **change), module=Layers)
    for name in ("os:system", "randsmooth.models.evil:x", "randsmooth.modelsx:Layers"):
        saved.write_bytes(original)
        header = header_with(saved, base__module=name)
        with pytest.raises((ValueError, ImportError)):
            SmoothedClassifier.load(rewritten(saved, header=header))
    saved.write_bytes(original)
    header = header_with(saved, base__module="randsmooth.models:__name__")
    with pytest.raises(InvalidFileError, match="which is no module"):
        SmoothedClassifier.load(rewritten(saved, header=header))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clf.rs"]


@pytest.fixture
def named(tmp_path: Path) -> Path:
    path = tmp_path / "named.rs"
    clf = SmoothedClassifier(short(LeNet, module__n_classes=10), training=None, random_state=0)
    clf.fit(IMAGES, np.arange(20) % 10).save(path)
    return path


CHANGES = {
    "its labels take": ("fitted__classes_dtype", "<U300000000", "classes_dtype must be at most"),
    "no classes": ("fitted__classes", MISSING, "KeyError.'classes'"),
    "one class": ("fitted__classes", [1], "classes must be at least two labels"),
    "equal classes": ("fitted__classes", [1] * 10, "classes must be different labels"),
    "no list": ("fitted__classes", 3, "classes must be a list of labels, got 3"),
    "more classes": ("fitted__classes", list(range(11)), "one column per class"),
    "shape": ("fitted__input_shape", 3, "input_shape must be a list of positive whole numbers"),
    "large": ("fitted__input_shape", [1, 2**30, 2], "input_shape must be at most 16,777,216"),
    "another shape": ("fitted__input_shape", [1, 3, 3], "holds no classifier: "),
    "features": ("fitted__n_features_in_", 9, "n_features_in_ must be that of the shape"),
    "names": ("fitted__feature_names_in_", ["a", "b"], "feature_names_in_ must be 1 names"),
    "seed": ("fitted__noise_seed", "x", "noise_seed must be a whole number"),
    "parameter": ("parameters__evil", 1, "unexpected keyword argument 'evil'"),
    "draws": ("parameters__n_estimation", {"a": 1}, "unexpected keyword argument 'a'"),
    "negative": ("parameters__n_estimation", -1, "n_estimation must be .* got -1"),
    "frozen": ("base__frozen", 1, "frozen must be True or False"),
    "fingerprint": ("base__fingerprint", 1, "fingerprint must be text"),
    "other model": ("base__fingerprint", "00", "its base is not what was saved"),
    "number": ("base__module", 3, "module must be text"),
    "no module": ("base__module", "randsmooth.models.evil:x", "which does not exist"),
    "argument": ("base__arguments", {"evil": 1}, "unexpected keyword argument 'evil'"),
    "arguments": ("base__arguments", [1], "arguments must be numbers and text by name"),
    "nested": ("base__arguments", {"a": [1]}, "arguments must be numbers and text by name"),
    "wide": ("base__arguments", {"n_classes": 10**9}, "n_classes=1000000000: too large"),
    "wider": ("base__arguments", {"n_classes": 900}, "size mismatch for"),
    "another": ("base__module", "randsmooth.models:MNISTNet", "names no network of its weights"),
    "not kept": ("base__not_kept", "x", "not_kept must be a list of names"),
    "threshold": ("base__threshold", None, "threshold must be a number"),
    "criterion": ("base__criterion", "os", "criterion must be one of"),
    "outputs": ("base__nonlinearity", "os", "nonlinearity must be 'auto' or None"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_value_that_no_classifier_has_is_named(change: str, named: Path) -> None:
    key, value, message = CHANGES[change]
    header = header_with(named, **{key: value})
    with pytest.raises(InvalidFileError, match=message):
        SmoothedClassifier.load(rewritten(named, header=header))


class Stubborn(nn.Linear):
    """A network whose constructor looks at its values."""

    def __init__(self) -> None:
        super().__init__(64, 10)
        self.largest = float(self.weight.detach().abs().max().numpy()) < 10


def test_a_class_that_looks_at_its_values_is_made_all_the_same(tmp_path: Path) -> None:
    clf = SmoothedClassifier(Stubborn, training=None, n_estimation=50, random_state=0)
    clf.fit(X[:100], y[:100]).save(tmp_path / "clf.rs")
    again = SmoothedClassifier.load(tmp_path / "clf.rs", module=Stubborn)
    assert np.array_equal(again.predict(X[:9]), clf.predict(X[:9]))


def test_a_header_that_was_changed_is_refused(named: Path) -> None:
    header = header_with(named, seal=False, parameters__alpha=0.5)
    with pytest.raises(InvalidFileError, match="its header was changed after it was saved"):
        SmoothedClassifier.load(rewritten(named, header=header))


def test_a_scikit_learn_base_of_other_classes_or_features_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clf.rs"
    SmoothedClassifier(n_estimation=50, random_state=0).fit(X[:100], y[:100]).save(path)
    original = path.read_bytes()
    for change, message in (
        ({"fitted__classes": [0, 1, 2]}, "its base has the classes"),
        ({"fitted__input_shape": [3], "fitted__n_features_in_": 3}, "its base has 64 features"),
    ):
        path.write_bytes(original)
        header = header_with(path, **change)
        with pytest.raises(InvalidFileError, match=message):
            SmoothedClassifier.load(rewritten(path, header=header))


def test_a_hostile_base_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "clf.rs"
    SmoothedClassifier(n_estimation=50, random_state=0).fit(X[:100], y[:100]).save(path)
    original = path.read_bytes()
    for content in (b"", b"text", pickle.dumps(Harm()), compressed()):
        path.write_bytes(original)
        with pytest.raises(InvalidFileError, match="the base of the file is damaged"):
            SmoothedClassifier.load(rewritten(path, base=content))
    assert not Path("harmed").exists()


def test_a_missing_file_and_a_missing_library_are_named(tmp_path, monkeypatch) -> None:
    with pytest.raises(InvalidFileError, match="does not exist"):
        SmoothedClassifier.load(tmp_path / "nothing")
    clf = SmoothedClassifier(n_estimation=50, random_state=0).fit(X[:100], y[:100])
    original = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == "skops":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'randsmooth\[skops\]'"):
        clf.save(tmp_path / "clf.rs")
