"""Curves of robust accuracy on disk: kept, resumed, and refused where they are of another run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from curve_of_linear import ATTACKS, CLF, NET, SIZES, WIDE, X, Y
from linear_classifiers import linear_net, smoothed
from sklearn.linear_model import LogisticRegression

from randsmooth import SmoothedClassifier
from randsmooth.attacks import (
    PGD,
    Boundary,
    RobustAccuracyCurve,
    Transfer,
    robust_accuracy_curve,
)
from randsmooth.attacks import curve_run as curve_module
from randsmooth.exceptions import (
    InvalidFileError,
)
from randsmooth.noise import Gaussian


@pytest.fixture(scope="module")
def record() -> RobustAccuracyCurve:
    return robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, **WIDE)


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
    with pytest.raises(InvalidFileError, match=r"is a folder, not a file"):
        RobustAccuracyCurve.load(tmp_path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("norm", None),
        ("names", 3),
        ("names", ["PGD", "one more"]),
        ("facts", []),
        ("distance", None),
        ("distance", np.zeros((5, 7))),
        ("certified_radius", np.array(["a"])),
    ],
)
def test_a_damaged_file_is_refused(record, tmp_path, part: str, value) -> None:
    path = tmp_path / "curve.npz"
    record.save(path)
    arrays = dict(np.load(path))
    header = json.loads(arrays["header"].tobytes())
    changed = arrays if part in arrays else header
    if value is None:
        del changed[part]
    else:
        changed[part] = value
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(InvalidFileError, match=r"curve.npz (is damaged|holds .* not a )"):
        RobustAccuracyCurve.load(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"run": None}, "holds a record that does not say how it was made"),
        ({"done": None}, "does not say what was done"),
    ],
)
def test_a_record_that_does_not_know_its_run_is_not_resumed(
    record, tmp_path, facts, message: str
) -> None:
    path = tmp_path / "curve.npz"
    replace(record, facts=record.facts | facts).save(path)
    with pytest.raises(InvalidFileError, match=message):
        robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, path=path, **WIDE)


def test_an_interrupted_run_goes_on(record: RobustAccuracyCurve, tmp_path, monkeypatch) -> None:
    path, calls = tmp_path / "curve.npz", []
    original = curve_module.AttackRun

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 6:  # three of them are checks
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(curve_module, "AttackRun", interrupted)
    with pytest.raises(KeyboardInterrupt):
        robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, path=path, **WIDE)
    assert len(RobustAccuracyCurve.load(path).facts["done"]) == 2
    resumed = robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, path=path, **WIDE)
    assert np.array_equal(resumed.distance, record.distance)
    n_calls = len(calls)
    robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, path=path, **WIDE)
    assert len(calls) == n_calls + 3


def other(**changes) -> SmoothedClassifier:
    return SmoothedClassifier(**{**CLF.get_params(deep=False), **changes}).fit(X, Y)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sizes": [0.1]}, "sizes"),
        ({"attacks": ["pgd"]}, "attacks"),
        ({"X": X[::-1]}, "X"),
        ({"clf": smoothed(linear_net(seed=2))}, "model"),
        ({"clf": other(noise=Gaussian(0.1001))}, "noise"),
        ({"clf": other(alpha=0.02)}, "alpha"),
        ({"clf": other(bound="renyi")}, "bound"),
        ({"clf": other(n_selection=50)}, "n_selection"),
        ({"clf": other(n_estimation=100)}, "n_estimation"),
        ({"clf": other(common_noise=False)}, "common_noise"),
        ({"clf": other(autocast="bfloat16")}, "base_autocast"),
        ({"autocast": "bfloat16"}, "autocast"),
        ({"random_state": 1}, "random_state"),
        (
            {"attacks": ATTACKS | {"other net": Transfer(linear_net(seed=6), PGD(n_steps=20))}},
            "attacks",
        ),
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


def test_networks_of_equal_votes_are_told_apart(tmp_path) -> None:
    """Without noise, the votes of a net and of one twice as sure are the same."""
    path, attacks = tmp_path / "curve.npz", {"PGD": PGD(n_steps=2)}
    robust_accuracy_curve(NET, X, Y, attacks, [0.1], path=path)
    with pytest.raises(ValueError, match=r"whose model differ"):
        robust_accuracy_curve(linear_net(scale=6.0), X, Y, attacks, [0.1], path=path)


def test_a_classifier_that_a_later_run_could_not_know_again_has_no_file(tmp_path) -> None:
    class Local(LogisticRegression):
        pass

    clf = Local().fit(X, Y)
    attacks = {"b": Boundary(n_steps=2)}
    assert robust_accuracy_curve(clf, X, Y, attacks, [0.1], **WIDE).distance.shape == (1, len(X))
    with pytest.raises(
        TypeError, match=r"^path must be None where a classifier is of a class that"
    ):
        robust_accuracy_curve(clf, X, Y, attacks, [0.1], path=tmp_path / "curve.npz", **WIDE)
