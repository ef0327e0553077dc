"""Sequential and two-stage runs of a fitted classifier, and what they cost."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom, chi2_contingency, norm
from sklearn.frozen import FrozenEstimator
from torch import nn

from nets import Linear
from randsmooth import Certificates, SmoothedClassifier, TwoStage
from randsmooth.certificates.radii import certifying_probabilities
from randsmooth.exceptions import CertificationError, TooFewDrawsWarning
from randsmooth.intervals import clopper_pearson_lower
from randsmooth.noise import Gaussian, Laplace, Noise, Uniform

SIGMA, RADII = 0.5, [0.0, 0.25, 0.5, 0.75]


def plane(n_features: int = 6, **params: Any) -> SmoothedClassifier:
    """Return the half-space classifier, whose smoothed radius is the distance to its plane."""
    weight = torch.zeros(2, n_features)
    weight[1, 0] = 1.0
    settings = {"n_selection": 50, "n_estimation": 2000, "random_state": 0, **params}
    clf = SmoothedClassifier(FrozenEstimator(Linear(weight, torch.zeros(2))), SIGMA, **settings)
    return clf.fit(np.zeros((2, n_features), dtype=np.float32), [0, 1])


def at_distances(distances: NDArray[np.floating], n_features: int = 6) -> NDArray[np.float32]:
    """Return different inputs at these distances from the plane."""
    X = np.random.default_rng(0).normal(size=(len(distances), n_features)).astype(np.float32)
    X[:, 0] = distances
    return X


@pytest.fixture(name="X", scope="module")
def inputs() -> NDArray[np.float32]:
    return at_distances(np.linspace(-1.2, 1.2, 40))


# -- sequential runs -----------------------------------------------------------------------------


def test_a_sequential_run_certifies_the_largest_radius_asked_about(X: NDArray[np.float32]) -> None:
    clf = plane(n_estimation=20_000)
    record = clf.certificates(X, radii=RADII)
    truth = np.abs(X[:, 0])
    clear = np.min(np.abs(truth[:, None] - RADII), axis=1) > 0.05
    clear &= record.label == (X[:, 0] > 0)
    expected = np.array([max(r for r in RADII if r <= t) for t in truth])
    assert np.array_equal(record.radius[clear], expected[clear])
    assert clear.mean() > 0.5
    assert not record.abstained[clear].any()
    assert (record.radius <= truth).all()
    assert np.array_equal(record.label, clf.predict(X))
    assert np.array_equal(record.radius, clf.certify(X, radii=RADII))
    assert record.n_draws.max() <= 20_000
    assert np.median(record.n_draws) < 2000


def test_a_clear_question_takes_few_draws_and_a_close_one_all_of_them() -> None:
    record = plane(n_estimation=5000).certificates(at_distances([0.1, 0.501, 2.0]), radii=0.5)
    assert record.n_draws[0] < 100
    assert record.n_draws[1] > 1000
    assert record.n_draws[2] < 100
    assert record.radius.tolist() == [0.0, 0.0, 0.5]
    assert record.abstained.tolist() == [True, True, False]


def test_radii_are_sorted_and_repetitions_dropped(X: NDArray[np.float32]) -> None:
    record = plane().certificates(X, radii=(0.5, 0.0, 0.25, 0.5))
    assert record.radii.tolist() == [0.0, 0.25, 0.5]
    assert np.array_equal(record.radius, plane().certify(X, radii=[0, 0.25, 0.5]))


def test_asking_about_more_radii_never_takes_a_certificate_away(X: NDArray[np.float32]) -> None:
    together = plane().certify(X, radii=RADII)
    for radius in RADII[1:]:
        alone = plane().certify(X, radii=radius)
        assert (together[alone > 0] >= radius).all()


def test_no_larger_radius_holds_without_the_smaller_ones(X: NDArray[np.float32]) -> None:
    clf = plane(n_estimation=400)
    record = clf.certificates(X, radii=[0.3, 0.30001])
    assert (record.radius[~record.abstained] == 0.30001).sum() > 5


@pytest.mark.parametrize("common_noise", [True, False])
def test_sequential_runs_are_equal_for_every_batch_size_order_subset_and_number_of_jobs(
    X: NDArray[np.float32], common_noise: bool
) -> None:
    def run(rows: Any = slice(None), **params: Any) -> Certificates:
        return plane(common_noise=common_noise, **params).certificates(X[rows], radii=RADII)

    reference = run()
    for params in ({"batch_size": 7}, {"batch_size": 512}, {"n_jobs": 2}):
        other = run(**params)
        assert np.array_equal(other.counts, reference.counts)
        assert np.array_equal(other.radius, reference.radius)
    order = np.random.default_rng(1).permutation(len(X))
    assert np.array_equal(run(order).counts, reference.counts[order])
    assert np.array_equal(run(slice(11, 13)).counts, reference.counts[11:13])
    with joblib.parallel_config("loky"):
        assert np.array_equal(run(n_jobs=2).radius, reference.radius)


@pytest.mark.parametrize("noise", [Gaussian(0.5), Laplace(0.4), Uniform(1.0)])
@pytest.mark.parametrize("bound", ["auto", "binary", "renyi", "pixeldp"])
def test_the_certifying_probability_reaches_its_radius_and_hardly_more(
    noise: Noise, bound: str
) -> None:
    if bound in ("renyi", "pixeldp") and noise.name == "uniform":
        with pytest.raises(ValueError, match=r"^bound must be one for uniform noise"):
            certifying_probabilities(np.array([0.1]), noise, bound)
        return
    radii = np.array([0.0, 1e-6, 0.1, 0.3, 0.7])
    name, p0 = certifying_probabilities(radii, noise, bound)
    assert name == ("binary" if bound == "auto" else bound)
    assert (np.diff(p0) >= 0).all()
    assert (p0 > 0.5).all()
    exact = {
        "gaussian": norm.cdf(radii / 0.5),
        "laplace": 1 - np.exp(-radii / 0.4) / 2,
        "uniform": 0.5 + radii / 2,
    }[noise.name]
    if bound in ("auto", "binary"):
        assert (p0 >= exact).all()
        assert np.allclose(p0, exact, rtol=1e-8)
    else:
        assert (p0 >= exact - 1e-9).all()


@pytest.mark.slow
def test_false_claims_are_as_rare_as_alpha_says_and_not_much_rarer() -> None:
    # Just inside the radius, where a claim is false and most likely.
    n_inputs, alpha = 4000, 0.1
    X = at_distances(np.full(n_inputs, 0.4999))
    clf = plane(n_estimation=300, alpha=alpha, common_noise=False)
    n_false = int((clf.certify(X, radii=[0.25, 0.5, 0.75]) >= 0.5).sum())
    assert n_false <= binom.ppf(1 - 1e-4, n_inputs, alpha)
    assert n_false >= binom.ppf(1e-4, n_inputs, 0.5 * alpha)


@pytest.mark.slow
def test_claims_are_about_as_many_as_those_of_all_draws() -> None:
    X = at_distances(np.random.default_rng(1).uniform(0, 1, 300))
    clf = plane(n_estimation=10_000, bound="binary")
    fixed, sequential = clf.certify(X), clf.certificates(X, radii=RADII)
    for radius in RADII:
        assert (sequential.radius >= radius).mean() > (fixed >= radius).mean() - 0.02
    assert sequential.n_draws.mean() < 3000


def test_a_sequential_record_refuses_to_be_certified_anew(X: NDArray[np.float32]) -> None:
    record = plane().certificates(X, radii=[0.25])
    message = r"^with_bound and with_alpha need votes whose number was fixed .* \[0.25\]"
    with pytest.raises(ValueError, match=message):
        record.with_bound("renyi")
    with pytest.raises(ValueError, match=message):
        record.with_alpha(0.01)
    assert "radii=[0.25]" in repr(record)


def test_a_sequential_record_survives_the_disk(X: NDArray[np.float32], tmp_path: Path) -> None:
    record = plane().certificates(X, radii=RADII)
    record.save(tmp_path / "run.npz")
    loaded = Certificates.load(tmp_path / "run.npz")
    assert np.array_equal(loaded.radii, record.radii)
    assert loaded.facts == record.facts
    assert np.array_equal(loaded.radius, record.radius)
    assert loaded.take([3, 5]).radii.tolist() == RADII


def test_a_radius_that_was_not_asked_about_cannot_stand_in_a_sequential_record(
    X: NDArray[np.float32],
) -> None:
    record = plane().certificates(X, radii=RADII)
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"^radius must be one of radii, or 0, got otherwise"):
        Certificates(**{**fields, "radii": [0.1]})


@pytest.mark.parametrize(
    ("radii", "message"),
    [
        ([-0.1, 0.2], r"^radii must be one or more finite numbers of at least 0, got \[-0.1, 0.2"),
        ([], r"^radii must be one or more finite numbers"),
        ([np.nan], r"^radii must be one or more finite numbers"),
        ([np.inf], r"^radii must be one or more finite numbers"),
        ("wide", r"^radii must be numbers, got 'wide'"),
    ],
)
def test_impossible_radii_are_refused(X: NDArray[np.float32], radii: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plane().certify(X, radii=radii)


def test_too_few_draws_for_a_radius_are_said_with_how_many_it_takes() -> None:
    X = at_distances([3.0])
    message = r"n_estimation=500 draws can never certify radii \[1.5\] .* that can is (\d+)"
    with pytest.warns(TooFewDrawsWarning, match=message) as caught:
        record = plane(n_estimation=500).certificates(X, radii=[0.5, 1.5])
    assert record.radius.tolist() == [0.5]
    needed = int(str(caught[0].message).rsplit(" ", 1)[1].rstrip("."))
    p0 = norm.cdf(1.5 / SIGMA)
    assert p0**needed <= 0.001 < p0 ** (needed - 1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plane(n_estimation=needed).certify(X, radii=[0.5, 1.5]).tolist() == [1.5]


def test_radii_that_no_number_of_draws_can_certify_are_named() -> None:
    clf = plane(noise="uniform")
    with pytest.warns(TooFewDrawsWarning, match=r"^radii \[2.0\] are beyond what any number"):
        record = clf.certificates(at_distances([3.0, 3.0]), radii=[0.25, 2.0])
    assert record.radius.tolist() == [0.25, 0.25]
    with pytest.warns(TooFewDrawsWarning, match=r"^radii \[2.0\] are beyond"):
        nothing = clf.certificates(at_distances([3.0, 3.0]), radii=2.0)
    assert nothing.abstained.all()
    assert not nothing.n_draws.any()


def test_inputs_that_cannot_be_classified_abstain_in_a_sequential_record() -> None:
    X = at_distances([1.0, 1.0, 1.0])
    X[1, 0] = 1e30
    weight = torch.zeros(2, 6)
    weight[1, 0] = 1e30
    clf = SmoothedClassifier(FrozenEstimator(Linear(weight, torch.zeros(2))), SIGMA, n_selection=50)
    clf.fit(np.zeros((2, 6), dtype=np.float32), [0, 1])
    with pytest.raises(CertificationError, match=r"rows \[1\].* not finite") as caught:
        clf.certify(X, radii=[0.0, 0.5])
    assert caught.value.certificates.radius.tolist() == [0.5, 0.0, 0.5]
    assert caught.value.certificates.abstained.tolist() == [False, True, False]


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Make SIGINT a KeyboardInterrupt, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupted_run_returns_promptly_and_leaves_no_thread_at_work(
    X: NDArray[np.float32], n_jobs: int
) -> None:
    before = torch.get_num_threads()
    clf = plane(n_estimation=10**9, n_jobs=n_jobs)

    def workers() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.endswith("(worker)")]

    alarm = threading.Timer(2.0, signal.raise_signal, [signal.SIGINT])
    alarm.start()
    with pytest.raises(KeyboardInterrupt):
        clf.certify(X)
    alarm.join()
    deadline = time.monotonic() + 20
    while workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers()
    assert torch.get_num_threads() == before


# -- two stages ----------------------------------------------------------------------------------


def test_a_two_stage_run_certifies_from_fresh_draws_as_many_as_its_pilot_planned(
    X: NDArray[np.float32],
) -> None:
    two_stage = TwoStage(n_max=3000, n_pilot=200, loss=0.1)
    record = plane(n_estimation=two_stage).certificates(X)
    whole = plane(n_estimation=3000).certificates(X)
    assert record.radii is None
    assert record.n_draws.max() <= 3000
    assert len(np.unique(record.n_draws)) > 3
    assert record.n_draws.sum() < 0.8 * whole.n_draws.sum()
    assert record.radius.mean() > 0.8 * whole.radius.mean()
    # A fixed run of as many draws has the very same votes: those of the pilot are in no count.
    for row in (0, 7, 20):
        n_draws = int(record.n_draws[row])
        alone = plane(n_estimation=n_draws).certificates(X[row : row + 1])
        assert np.array_equal(alone.counts[0], record.counts[row])
        assert alone.radius[0] == record.radius[row]
    assert np.array_equal(record.with_bound("binary").n_draws, record.n_draws)


def test_two_stage_is_a_name_too(X: NDArray[np.float32]) -> None:
    record = plane(n_estimation="two-stage").certificates(X[::10])
    assert record.n_draws.max() <= TwoStage().n_max
    assert np.array_equal(
        plane(n_estimation=TwoStage()).certificates(X[::10]).counts, record.counts
    )


def test_radii_take_at_most_the_draws_of_two_stages(X: NDArray[np.float32]) -> None:
    clf = plane(n_estimation=TwoStage(n_max=700, n_pilot=50))
    assert clf.certificates(X, radii=0.5).n_draws.max() <= 700


# -- cost ----------------------------------------------------------------------------------------


def test_the_expected_cost_is_near_the_cost(X: NDArray[np.float32]) -> None:
    clf = plane(n_estimation=20_000)
    for radii in (None, [0.5], RADII):
        expected = clf.expected_cost(X, radii=radii)
        spent = clf.certificates(X, radii=radii).n_draws.sum() + 50 * len(X)
        assert expected.n_draws == pytest.approx(spent, rel=0.5)
        assert expected.seconds > 0
    assert clf.expected_cost(X).n_draws == 20_050 * len(X)
    assert "about 802,000 draws" in str(clf.expected_cost(X))
    planned = plane(n_estimation=TwoStage(n_max=2000, n_pilot=100))
    spent = planned.certificates(X).n_draws.sum() + 150 * len(X)
    assert planned.expected_cost(X).n_draws == spent


def test_a_verbose_run_says_beforehand_what_it_will_take(
    X: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    plane(verbose=1).certify(X, radii=RADII)
    shown = capsys.readouterr().err
    assert "40 inputs: about" in shown
    assert shown.index("40 inputs: about") < shown.index("estimation draws: 100%")
    plane().certify(X)
    assert not capsys.readouterr().err


# -- shortcuts -----------------------------------------------------------------------------------


def perceptron(n_hidden: int) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(20, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 3))


def certified(module: nn.Module, X: NDArray[Any], **params: Any) -> Certificates:
    settings = {"n_selection": 20, "n_estimation": 4000, "random_state": 0, **params}
    clf = SmoothedClassifier(FrozenEstimator(module), SIGMA, **settings)
    return clf.fit(X, np.arange(len(X)) % 3).certificates(X)


@pytest.mark.parametrize(
    ("n_hidden", "noise", "shortcut"),
    [
        (8, "gaussian", "law of the first layer"),
        (40, "gaussian", "first layer apart"),
        (8, "laplace", "first layer apart"),
    ],
)
def test_a_shortcut_is_named_and_has_the_same_distribution_of_votes(
    n_hidden: int, noise: str, shortcut: str
) -> None:
    X = np.random.default_rng(0).normal(size=(9, 4, 5)).astype(np.float32)
    short = certified(perceptron(n_hidden), X, noise=noise)
    plain = certified(perceptron(n_hidden), X, noise=noise, shortcuts=False)
    assert short.execution["shortcut"] == shortcut
    assert plain.execution["shortcut"] is None
    for ours, theirs in zip(short.counts, plain.counts, strict=True):
        table = np.array([ours, theirs])
        assert chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue > 1e-4
    if shortcut == "first layer apart":  # the very same noise, but for the last bits
        assert np.abs(short.counts - plain.counts).max() <= 2


def test_noise_of_its_own_takes_the_first_layer_apart_only_by_its_law() -> None:
    X = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    wide = certified(perceptron(40), X, common_noise=False)
    narrow = certified(perceptron(8), X, common_noise=False)
    assert wide.execution["shortcut"] is None
    assert narrow.execution["shortcut"] == "law of the first layer"
    assert wide.execution["common_noise"] is False


@pytest.mark.parametrize("n_hidden", [8, 40])
def test_votes_through_a_shortcut_are_equal_for_every_batch_size_subset_and_worker(
    n_hidden: int,
) -> None:
    X = np.random.default_rng(0).normal(size=(33, 20)).astype(np.float32)
    module = perceptron(n_hidden)
    reference = certified(module, X).counts
    for params in ({"batch_size": 7}, {"batch_size": 100}, {"n_jobs": 2}):
        assert np.array_equal(certified(module, X, **params).counts, reference)
    assert np.array_equal(certified(module, X[7:11]).counts, reference[7:11])
    assert np.array_equal(certified(module, X[7:10], batch_size=1).counts, reference[7:10])
    with joblib.parallel_config("loky"):
        assert np.array_equal(certified(module, X, n_jobs=2).counts, reference)


def test_the_law_of_the_first_layer_certifies_a_plane_at_its_distance() -> None:
    # The smoothed class probability is known exactly, and so are its confidence limits.
    distances = np.array([0.2, 0.6, 1.0])
    record = plane(n_estimation=50_000, bound="binary").certificates(at_distances(distances))
    assert record.execution["shortcut"] == "law of the first layer"
    p = norm.cdf(distances / SIGMA)
    spread = np.sqrt(p * (1 - p) / 50_000)
    assert (np.abs(record.counts[:, 1] / 50_000 - p) < 5 * spread).all()
    exact = clopper_pearson_lower(record.counts[:, 1], 50_000, alpha=0.001)
    assert np.allclose(record.p_lower, exact)
