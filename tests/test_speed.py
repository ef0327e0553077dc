"""Networks run faster than as they are: the votes, and what the record says."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import chi2_contingency
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from randsmooth import Certificates, SmoothedClassifier
from randsmooth.exceptions import NotCompiledWarning


@pytest.fixture(name="X", scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((10, 1, 12, 12), dtype=np.float32)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.ReLU(),
        nn.Linear(32, 5),
    )


def smoothed(base: Any, X: NDArray[Any], **params: Any) -> SmoothedClassifier:
    settings = {"n_selection": 20, "n_estimation": 1000, "random_state": 0, **params}
    clf = SmoothedClassifier(FrozenEstimator(base), 1.0, **settings)
    return clf.fit(X, np.arange(len(X)) % 5)


def certified(base: Any, X: NDArray[Any], **params: Any) -> Certificates:
    return smoothed(base, X, **params).certificates(X)


def test_convolutions_run_with_the_channels_last_and_vote_as_before(X: NDArray[np.float32]) -> None:
    module = convolutional()
    quick, plain = certified(module, X), certified(module, X, shortcuts=False)
    assert quick.execution["layout"] == "channels last"
    assert plain.execution["layout"] is None
    # The same noise: votes next to a tie may fall otherwise, no others.
    assert np.abs(quick.counts - plain.counts).max() <= 1
    assert module[0].weight.is_contiguous()


@pytest.mark.parametrize("common_noise", [True, False])
def test_votes_of_convolutions_are_equal_for_every_batch_size_subset_and_worker(
    X: NDArray[np.float32], common_noise: bool
) -> None:
    module, settings = convolutional(), {"common_noise": common_noise, "n_estimation": 300}
    reference = certified(module, X, **settings).counts
    for params in ({"batch_size": 1}, {"batch_size": 48}, {"batch_size": 1000}, {"n_jobs": 2}):
        assert np.array_equal(certified(module, X, **settings, **params).counts, reference)
    assert np.array_equal(certified(module, X[5:10], **settings).counts, reference[5:10])
    with joblib.parallel_config("loky"):
        assert np.array_equal(certified(module, X, n_jobs=2, **settings).counts, reference)


class OwnWay(NeuralNetClassifier):
    """A net that turns its inputs before its module sees them."""

    def infer(self, x: Tensor, **params: Any) -> Tensor:
        return super().infer(x.flip(-1), **params)


def net(kind: type[NeuralNetClassifier]) -> NeuralNetClassifier:
    made = kind(convolutional(), criterion=nn.CrossEntropyLoss, classes=list(range(5)))
    return made.initialize()


def test_a_net_with_a_way_of_its_own_is_run_by_it(X: NDArray[np.float32]) -> None:
    own, turned = certified(net(OwnWay), X), certified(net(NeuralNetClassifier), X[..., ::-1])
    assert own.execution["layout"] is None
    for ours, theirs in zip(own.counts, turned.counts, strict=True):
        table = np.array([ours, theirs])
        assert chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue > 1e-5
    with pytest.warns(
        NotCompiledWarning, match=r"^compile=True has no effect on a net whose class"
    ):
        assert certified(net(OwnWay), X, compile=True).execution["compiled"] is False


@pytest.mark.slow
def test_a_compiled_network_votes_as_before_and_compiles_once(
    X: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = convolutional()
    clf = smoothed(module, X, compile=True)
    record = clf.certificates(X)
    if record.execution["compiled"]:  # not where there is no C++ compiler
        monkeypatch.setattr("randsmooth.speed.CompiledForward", None)
    again = clf.set_params(batch_size=7, n_jobs=2).certificates(X)
    assert np.array_equal(again.counts, record.counts)
    assert np.abs(record.counts - certified(module, X).counts).max() <= 2


class Scaled(nn.Module):
    """A network with a setting that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.sign = convolutional(), 1.0

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.sign * self.layers(x)
        return outputs


def of_the_optimiser(module: Scaled) -> None:
    with torch.no_grad():
        module.layers[-1].bias += torch.tensor([0.0, 0.0, 1e6, 0.0, 0.0])


def behind_its_back(module: Scaled) -> None:
    module.layers[-1].bias.data[2] = 1e6


def of_a_setting(module: Scaled) -> None:
    module.sign = -1.0


def of_two_that_are_swapped(module: Scaled) -> None:
    bias = module.layers[-1].bias.data
    bias[:2] = bias[:2].flip(0).clone()


@pytest.mark.parametrize(
    "change", [of_the_optimiser, behind_its_back, of_a_setting, of_two_that_are_swapped]
)
def test_a_change_of_the_network_is_seen_by_the_next_call(
    X: NDArray[np.float32], change: Callable[[Scaled], None]
) -> None:
    module = Scaled()
    with torch.no_grad():
        module.layers[-1].bias += torch.tensor([0.3, -0.3, 0.0, 0.0, 0.0])
    clf = smoothed(module, X)
    before = clf.certificates(X)
    assert np.array_equal(clf.certificates(X).counts, before.counts)
    change(module)
    after = clf.certificates(X)
    assert np.array_equal(after.counts, certified(module, X).counts)
    assert not np.array_equal(after.counts, before.counts)


def test_a_network_is_taken_apart_once_for_many_calls(
    X: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    clf = smoothed(convolutional(), X)
    first = clf.predict(X)
    monkeypatch.setattr("randsmooth.entrance_memory.entrance", None)
    assert np.array_equal(clf.predict(X), first)
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(clf)).predict(X)  # what is stored has forgotten


def test_without_a_compiler_the_network_runs_as_it_is_with_a_warning(
    X: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(module: nn.Module, batch: Tensor) -> Any:
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr("randsmooth.acceleration._compiled", no_compiler)
    module = convolutional()
    with pytest.warns(NotCompiledWarning, match=r"could not be compiled .* no C\+\+ compiler"):
        record = certified(module, X, compile=True)
    assert record.execution["compiled"] is False
    assert np.abs(record.counts - certified(module, X).counts).max() <= 1


def test_reduced_precision_is_written_into_the_record(X: NDArray[np.float32]) -> None:
    record = certified(convolutional(), X, autocast="bfloat16", n_estimation=200)
    assert record.execution["autocast"] == "bfloat16"
    assert record.execution["shortcut"] is None
    full = certified(convolutional(), X, n_estimation=200)
    assert "autocast" not in full.execution
    assert 0 < np.abs(record.counts - full.counts).sum() < 0.1 * full.counts.sum()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"autocast": "int8"}, r"^autocast must be None, 'bfloat16', 'float16', got 'int8'"),
        ({"compile": "yes"}, r"^compile must be True or False, got 'yes'"),
        ({"shortcuts": 1}, r"^shortcuts must be True or False, got 1"),
        ({"common_noise": None}, r"^common_noise must be True or False, got None"),
    ],
)
def test_options_out_of_range_are_refused(
    X: NDArray[np.float32], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        certified(convolutional(), X, **params)
