"""Curves of robust accuracy: what they add up, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from curve_of_linear import ATTACKS, CLF, EVERY, NET, SIZES, WIDE, X, Y
from linear_classifiers import LAPLACE, distances, labels, linear_net, smoothed
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import (
    PGD,
    RobustAccuracyCurve,
    Transfer,
    attack,
    robust_accuracy_curve,
)
from randsmooth.attacks import curve_run as curve_module
from randsmooth.bounds import neyman_pearson_radius
from randsmooth.exceptions import (
    AttackError,
    AttackFailedWarning,
    CertificationError,
)

EXACT = distances(NET, X, "l2")
EXACT_OF_EVERY = distances(NET, EVERY, "l2")
SMALL = np.arange(0.02, 0.3, 0.04)


@pytest.fixture(scope="module")
def record() -> RobustAccuracyCurve:
    return robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, **WIDE)


def test_the_truth_lies_between_certificate_and_attacks(record: RobustAccuracyCurve) -> None:
    exact = (EXACT > SIZES[:, None]).mean(axis=1)
    assert (record.certified_accuracy() <= exact + 1e-12).all()
    slack = (np.abs(EXACT - SIZES[:, None]) < 0.15 * SIZES[:, None] + 0.01).mean(axis=1)
    for name in (None, "PGD", "C&W"):
        withstood = record.robust_accuracy(name)
        assert (withstood >= exact - slack).all()
        assert (withstood <= exact + slack).all()
    assert (record.robust_accuracy("other net") >= record.robust_accuracy("PGD")).all()
    assert len(record.broken()) == 0


def test_the_worst_case_is_taken_input_by_input(record: RobustAccuracyCurve) -> None:
    worst = record.robust_accuracy()
    assert all((worst <= record.robust_accuracy(name)).all() for name in record.names)
    assert (np.diff(worst) <= 0).all()
    least = record.distance.min(axis=0)
    assert np.array_equal(worst, (least > SIZES[:, None]).mean(axis=1))
    assert record.transferred == (False, False, True)


def test_it_is_shown_as_a_table(record: RobustAccuracyCurve) -> None:
    n = len(X)
    assert repr(record) == (
        f"RobustAccuracyCurve(n_inputs={n}, attacks=['PGD', 'C&W', 'other net'], norm='l2', "
        f"n_broken=0)"
    )
    sizes, *rows = str(record).splitlines()
    assert sizes.split() == ["l2", "0", "0.1", "0.2", "0.4", "0.8"]
    assert [row[:10].strip() for row in rows] == [*ATTACKS, "worst case", "certified"]
    certified = [float(value) for value in rows[-1].split()[1:]]
    assert certified == pytest.approx(record.certified_accuracy(), abs=5e-4)


def test_a_certificate_that_claims_too_much_is_named_and_its_input_kept() -> None:
    clf = smoothed(NET)
    clf.bound = too_far
    sizes = np.array([0.1, 0.2, 0.3, 0.45, 0.6])
    curve = robust_accuracy_curve(clf, X, Y, {"PGD": PGD(n_steps=20)}, sizes, **WIDE)
    breakable = (sizes > 1.2 * EXACT[:, None]) & (sizes < curve.certified_radius[:, None])
    assert breakable.any(axis=1).sum() > 10
    assert set(curve.broken()) >= set(np.flatnonzero(breakable.any(axis=1)))
    assert len(curve.broken_inputs) == len(curve.broken_rows)
    assert (labels(NET, curve.broken_inputs) != Y[curve.broken_rows]).all()


def too_far(p_lower: np.ndarray, p_upper: np.ndarray, *, sigma: float) -> np.ndarray:
    """A bound that claims three times what holds."""
    return 3 * neyman_pearson_radius(p_lower, p_upper, sigma=sigma)


def test_few_votes_break_no_certificate() -> None:
    """Of ten votes many are wrong; a thousand more say so."""
    near = EVERY[EXACT_OF_EVERY < 0.3]
    y = labels(NET, near)
    settings = {"n_votes": 10, "n_noise": 8, **WIDE}
    curve = robust_accuracy_curve(CLF, near, y, {"PGD": PGD(n_steps=5)}, SMALL, **settings)
    said = curve.distance.min(axis=0) < curve.certified_radius
    assert said.any()
    assert len(curve.broken()) == 0


def test_a_minimal_attack_goes_as_far_as_a_size_allows() -> None:
    """Its own answer is where another class leads clearly; PGD needs no clear lead either."""
    w = (NET.weight[1] - NET.weight[0]).detach().numpy()
    towards = np.sign(labels(NET, X) - 0.5)[:, None] * w / np.linalg.norm(w)
    near = (X - (EXACT - 0.372)[:, None] * towards).astype(np.float32)
    assert np.allclose(distances(NET, near, "l2"), 0.372, atol=1e-5)
    assert (labels(NET, near) == Y).all()
    sizes = np.array([0.3, 0.4])
    settings = {"n_votes": 100, **WIDE}
    curve = robust_accuracy_curve(CLF, near, Y, ATTACKS, sizes, **settings)
    minimal, of_size = curve.robust_accuracy("C&W"), curve.robust_accuracy("PGD")
    assert minimal[0] >= 0.95
    assert minimal[1] == pytest.approx(of_size[1], abs=0.2)
    assert minimal[1] < 0.3
    clear = attack(CLF, near, Y, ATTACKS["C&W"], **settings)
    assert clear.distance.min() > 0.39


def test_worst_case_and_certificate_are_of_the_same_inputs() -> None:
    curve = RobustAccuracyCurve(
        sizes=np.array([0.5]),
        distance=np.array([[0.3, np.inf, np.inf, np.nan], [np.nan, np.inf, np.inf, np.nan]]),
        certified_radius=np.array([0.0, 0.6, 0.6, 0.6]),
        y=np.zeros(4, dtype=int),
        norm="l2",
        names=("A", "B"),
        transferred=(False, False),
        settings={},
        facts={},
    )
    assert curve.robust_accuracy() == pytest.approx(2 / 3)
    assert curve.certified_accuracy() == pytest.approx(2 / 3)
    assert curve.robust_accuracy("B") == 1
    none = replace(curve, distance=np.full((2, 4), np.nan))
    assert np.isnan(none.robust_accuracy()).all()
    assert np.isnan(none.certified_accuracy()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("A",)}, "distance must hold a row per attack and a column per input"),
        ({"certified_radius": np.zeros(2)}, "certified_radius must hold one number per input"),
        ({"broken_rows": np.array([1])}, "broken_inputs must hold one input for each of broken_r"),
        ({"norm": "l0"}, "norm must be one of 'l1', 'l2', 'linf', got 'l0'"),
        ({"sizes": np.array([2.0, 1.0])}, "sizes must be finite numbers"),
    ],
)
def test_a_record_whose_parts_do_not_fit_is_refused(record, change, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(record, **change)


def test_certificates_are_converted_to_the_norm_of_the_attacks() -> None:
    curve = robust_accuracy_curve(CLF, X, Y, ["pgd"], [0.05], "linf", n_noise=8)
    radius = CLF.certificates(X).radius
    assert np.allclose(curve.certified_radius, radius / np.sqrt(X.shape[1]), rtol=1e-9)
    laplace = robust_accuracy_curve(smoothed(NET, LAPLACE), X, Y, ["pgd"], [0.3], "l1", n_noise=8)
    assert len(laplace.broken()) == 0
    assert laplace.certified_radius.max() > 0.3


def test_a_net_without_noise_has_no_certificate() -> None:
    curve = robust_accuracy_curve(NET, X, Y, ["pgd", "cw"], [0.1, 0.3], **WIDE)
    assert not curve.certified_radius.any()
    assert curve.facts["noise"] is None
    assert curve.robust_accuracy() == pytest.approx((EXACT > [[0.1], [0.3]]).mean(axis=1), abs=0.05)


def test_an_input_that_fails_is_left_out_of_its_attack_alone() -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear_net()

        def forward(self, x):
            if (x[:, 0] > 3).any() and x.requires_grad:
                raise RuntimeError("the first coordinate is too large")
            return self.net(x)

    bad = X.copy()
    bad[3, 0] = 3.5
    attacks = {"PGD": PGD(n_steps=3), "carried over": Transfer(NET, PGD(n_steps=3))}
    clf = smoothed(Fragile().eval())
    said = (
        r"^1 of \d+ inputs failed in some attack, the first in 'PGD': RuntimeError: the first coo"
    )
    with pytest.warns(AttackFailedWarning, match=said) as warned:
        curve = robust_accuracy_curve(clf, bad, labels(NET, bad), attacks, [0.1, 0.2], **WIDE)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert np.flatnonzero(np.isnan(curve.distance[0])).tolist() == [3]
    assert not np.isnan(curve.distance[1]).any()
    message = "RuntimeError: the first coordinate is too large"
    assert curve.facts["failures"] == {"PGD": {"3": message}, "carried over": {}}


def test_an_attack_that_fails_everywhere_is_an_error_with_the_record(tmp_path) -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear_net()

        def forward(self, x):
            if x.requires_grad:
                raise RuntimeError("no way back")
            return self.net(x)

    attacks = {"PGD": PGD(n_steps=3), "carried over": Transfer(NET, PGD(n_steps=3))}
    run = partial(robust_accuracy_curve, smoothed(Fragile().eval()), X, Y, attacks, [0.1, 0.2])
    said = r"^attacks must work on some input, got 'PGD', which failed on all \d+ .* no way back"
    for _ in range(2):  # and again, when the file is read
        with pytest.raises(AttackError, match=said) as caught:
            run(path=tmp_path / "curve.npz", n_votes=50)
    assert np.isfinite(caught.value.result.certified_radius).all()
    assert not np.isnan(caught.value.result.distance[1]).any()


def test_an_input_that_cannot_be_certified_is_left_out(monkeypatch) -> None:
    def failing(self, X, **settings):
        raise CertificationError("row 2 failed", original(self, X, **settings), np.array([2]))

    original = SmoothedClassifier.certificates
    monkeypatch.setattr(SmoothedClassifier, "certificates", failing)
    with pytest.warns(
        AttackFailedWarning, match=r"the first in 'certificates': Certif.* row 2 fail"
    ):
        curve = robust_accuracy_curve(CLF, X, Y, {"PGD": PGD(n_steps=2)}, [0.1], n_votes=50)
    assert np.flatnonzero(np.isnan(curve.distance[0])).tolist() == [2]
    assert curve.certified_radius[2] == 0
    assert list(curve.facts["uncertified"]) == ["2"]


def test_at_size_zero_nothing_is_attacked(monkeypatch) -> None:
    def refused(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(curve_module.AttackRun, "result", refused)
    curve = robust_accuracy_curve(CLF, X, np.where(np.arange(len(X)) < 5, 1 - Y, Y), "pgd", [0.0])
    assert (curve.distance[0, :5] == 0).all()
    assert np.isinf(curve.distance[0, 5:]).all()


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"attacks": ["pgd", "cw"], "norm": "linf"}, ValueError, "norm must be 'l2' for 'cw', got"),
        ({"clip_range": (0.4, 0.5)}, ValueError, "X must lie within clip_range"),
        ({"autocast": "int8"}, ValueError, "autocast must be one of"),
        ({"n_noise": 0}, ValueError, "n_noise must be a positive integer"),
        ({"random_state": None}, ValueError, "random_state must be an integer of at least 0"),
        ({"attacks": {"t": Transfer(LogisticRegression())}}, NotFittedError, "This LogisticRegre"),
        ({"path": "/nowhere/at/all.npz"}, ValueError, "path must lie in a folder that can be writ"),
        ({"path": "."}, ValueError, "path must be a file, got the folder '.'"),
    ],
)
def test_everything_is_checked_before_the_first_draw(change, kind, message, monkeypatch) -> None:
    def refused(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(curve_module.AttackRun, "result", refused)
    monkeypatch.setattr(SmoothedClassifier, "certificates", refused)
    settings = {"clf": CLF, "X": X, "y": Y, "attacks": "pgd", "sizes": [0.1]} | change
    with pytest.raises(kind, match=f"^{message}"):
        robust_accuracy_curve(**settings)


def test_without_attacks_in_linf_it_is_pgd_alone() -> None:
    curve = robust_accuracy_curve(CLF, X[:3], Y[:3], sizes=[0.01], norm="linf", n_votes=50)
    assert curve.names == ("pgd",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [0.2, 0.1]}, r"sizes must be finite numbers of at least 0 in rising order, got"),
        ({"sizes": [-0.1]}, "sizes must be finite"),
        ({"sizes": [np.inf]}, "sizes must be finite"),
        ({"sizes": []}, "sizes must be finite"),
        (
            {"sizes": ["a"]},
            r"sizes must be finite numbers of at least 0 in rising order, got \['a'\]",
        ),
        ({"norm": "l3"}, "norm must be one of 'l1', 'l2', 'linf', got 'l3'"),
        ({"attacks": []}, r"attacks must hold at least one attack, got \[\]"),
        ({"attacks": ["fgsm"]}, "method must be one of 'pgd'"),
        ({"y": [9] * len(X)}, "y must hold labels among classes_"),
    ],
)
def test_what_makes_no_curve_is_refused(change, message: str) -> None:
    settings = {"clf": CLF, "X": X, "y": Y, "attacks": "pgd", "sizes": [0.1]} | change
    with pytest.raises(ValueError, match=f"^{message}"):
        robust_accuracy_curve(**settings)


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        (PGD(), r"attacks must be a sequence of names or a mapping of names to attacks, such as"),
        (3, r"attacks must be a sequence of names or a mapping .* got 3"),
        ([["pgd"]], r"attacks must have names, got \['pgd'\]. Hand in a mapping such as"),
        ([PGD()], r"attacks must have names, got PGD\("),
    ],
)
def test_attacks_without_names_are_refused(attacks, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        robust_accuracy_curve(CLF, X, Y, attacks, [0.1])


def test_an_unknown_attack_has_no_curve(record: RobustAccuracyCurve) -> None:
    with pytest.raises(ValueError, match=r"^name must be one of 'PGD', 'C&W', 'other net', got"):
        record.robust_accuracy("FGSM")


def test_a_curve_finds_what_single_attacks_find(record: RobustAccuracyCurve) -> None:
    """Wrong without an attack, or changed at a size by the attack of that size."""
    row = list(ATTACKS).index("PGD")
    left = np.arange(len(X))
    for size in SIZES:
        out = attack(CLF, X[left], Y[left], ATTACKS["PGD"], eps=max(size, 1e-30), **WIDE)
        assert np.array_equal(out.success, record.distance[row, left] <= size)
        left = left[~out.success]
