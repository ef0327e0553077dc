"""Curves of robust accuracy: what they add up, keep, resume and refuse."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from linear_classifiers import LAPLACE, distances, inputs, labels, linear_net, smoothed
from torch import nn

from randsmooth.attacks import (
    PGD,
    CarliniWagner,
    RobustAccuracyCurve,
    Transfer,
    attack,
    robust_accuracy_curve,
)
from randsmooth.attacks import curve as curve_module
from randsmooth.exceptions import InvalidFileError
from randsmooth.robust_accuracy_display import RobustAccuracyDisplay

NET = linear_net()
EVERY = inputs(60)
X = EVERY[distances(NET, EVERY, "l2") > 0.06]
Y = labels(NET, X)
CLF = smoothed(NET)
EXACT = distances(NET, X, "l2")
SIZES = np.array([0.0, 0.1, 0.2, 0.4, 0.8])
ATTACKS = {
    "PGD": PGD(n_steps=40),
    "C&W": CarliniWagner(n_steps=60),
    "other net": Transfer(linear_net(seed=5), PGD(n_steps=20)),
}
WIDE = {"clip_range": (-5.0, 5.0)}


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


def test_a_certificate_that_an_attack_breaks_is_named(record: RobustAccuracyCurve) -> None:
    radius = record.certified_radius.copy()
    radius[4] = 100.0
    assert replace(record, certified_radius=radius).broken().tolist() == [4]


def test_inputs_that_could_not_be_attacked_do_not_count(record: RobustAccuracyCurve) -> None:
    distance = record.distance.copy()
    distance[0, :3] = np.nan
    assert np.allclose(
        replace(record, distance=distance).robust_accuracy("PGD"),
        (distance[0, 3:] > SIZES[:, None]).mean(axis=1),
    )


def test_a_record_survives_a_file(record: RobustAccuracyCurve, tmp_path) -> None:
    path = tmp_path / "curve.npz"
    record.save(path)
    again = RobustAccuracyCurve.load(path)
    for name in ("sizes", "distance", "certified_radius", "y"):
        assert np.array_equal(getattr(again, name), getattr(record, name), equal_nan=True)
    assert (again.norm, again.names, again.transferred) == (
        "l2",
        tuple(ATTACKS),
        (False,) * 2 + (True,),
    )
    assert again.settings["PGD"]["n_steps"] == 40
    assert again.facts["alpha"] == 0.01
    (tmp_path / "other").write_bytes(b"nothing")
    with pytest.raises(InvalidFileError, match="is damaged, or not a file that RobustAccuracyC"):
        RobustAccuracyCurve.load(tmp_path / "other")
    CLF.certificates(X).save(tmp_path / "certificates")
    with pytest.raises(InvalidFileError, match=r"not a randsmooth.RobustAccuracyCurve"):
        RobustAccuracyCurve.load(tmp_path / "certificates")


def test_an_interrupted_run_goes_on(record: RobustAccuracyCurve, tmp_path, monkeypatch) -> None:
    path, calls = tmp_path / "curve.npz", []
    original = curve_module.AttackRun

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(curve_module, "AttackRun", interrupted)
    with pytest.raises(KeyboardInterrupt):
        robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, path=path, **WIDE)
    resumed = robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, path=path, **WIDE)
    assert np.array_equal(resumed.distance, record.distance)
    n_calls = len(calls)
    robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, path=path, **WIDE)
    assert len(calls) == n_calls


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sizes": [0.1]}, "sizes"),
        ({"attacks": ["pgd"]}, "attacks"),
        ({"X": X[::-1]}, "X"),
        ({"clf": smoothed(linear_net(seed=2))}, "votes"),
        ({"n_noise": 4}, "n_noise"),
        ({"noise_seed": 4}, "noise_seed"),
    ],
)
def test_the_file_of_another_run_is_refused(
    record: RobustAccuracyCurve, tmp_path, change, named: str
) -> None:
    path = tmp_path / "curve.npz"
    record.save(path)
    settings = {"clf": CLF, "X": X, "y": Y, "attacks": ATTACKS, "sizes": SIZES} | WIDE | change
    with pytest.raises(ValueError, match=rf"^path must be a new file .*\b{named}\b.* differ"):
        robust_accuracy_curve(**settings, path=path)


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
    curve = robust_accuracy_curve(clf, bad, labels(NET, bad), attacks, [0.1], **WIDE)
    assert np.flatnonzero(np.isnan(curve.distance[0])).tolist() == [3]
    assert not np.isnan(curve.distance[1]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [0.2, 0.1]}, r"sizes must be finite numbers of at least 0 in rising order, got"),
        ({"sizes": [-0.1]}, "sizes must be finite"),
        ({"sizes": [np.inf]}, "sizes must be finite"),
        ({"sizes": []}, "sizes must be finite"),
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


def test_an_unknown_attack_has_no_curve(record: RobustAccuracyCurve) -> None:
    with pytest.raises(ValueError, match=r"^name must be one of 'PGD', 'C&W', 'other net', got"):
        record.robust_accuracy("FGSM")


def test_the_picture_has_solid_dashed_and_filled_parts(record: RobustAccuracyCurve) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    display = RobustAccuracyDisplay.from_curve(record, linewidth=3)
    lines = display.lines_
    assert list(lines) == list(ATTACKS)
    assert [line.get_linestyle() for line in lines.values()] == ["-", "-", "--"]
    assert all(line.get_linewidth() == 3 for line in lines.values())
    assert np.array_equal(lines["PGD"].get_ydata(), record.robust_accuracy("PGD"))
    assert len(display.certified_) == 1
    assert display.ax_.get_xlabel() == r"size of the attack ($\ell_2$)"
    plt.close("all")


def test_several_classifiers_have_one_colour_each(record: RobustAccuracyCurve) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    none = replace(record, certified_radius=np.zeros(len(X)))
    display = RobustAccuracyDisplay({"smoothed": record, "plain": none}).plot()
    assert list(display.lines_) == ["smoothed", "plain"]
    assert len(display.certified_) == 1
    assert np.array_equal(display.lines_["plain"].get_ydata(), none.robust_accuracy())
    plt.close("all")
    with pytest.raises(ValueError, match=r"^curves must be of one norm, got l2, linf"):
        RobustAccuracyDisplay({"a": record, "b": replace(record, norm="linf")}).plot()
    with pytest.raises(ValueError, match=r"^at least one curve must be given"):
        RobustAccuracyDisplay({}).plot()


def test_a_curve_finds_what_single_attacks_find(record: RobustAccuracyCurve) -> None:
    """Wrong without an attack, or changed at a size by the attack of that size."""
    row = list(ATTACKS).index("PGD")
    left = np.arange(len(X))
    for size in SIZES:
        out = attack(CLF, X[left], Y[left], ATTACKS["PGD"], eps=max(size, 1e-30), **WIDE)
        assert np.array_equal(out.success, record.distance[row, left] <= size)
        left = left[~out.success]
