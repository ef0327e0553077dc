"""The picture of certified confidence, by what it draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from randsmooth import CertifiedConfidenceDisplay, ConfidenceCertificates, SmoothedClassifier
from randsmooth.confidence_display import CertifiedConfidenceCurve


@pytest.fixture(autouse=True)
def _figures_without_a_screen() -> Iterator[None]:
    with mpl.rc_context({"backend": "agg"}):
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted() -> tuple[SmoothedClassifier, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    clf = SmoothedClassifier(sigma=0.25, n_estimation=500, random_state=0)
    return clf.fit(X[:300] / 16, y[:300]), X[300:340] / 16


@pytest.fixture(scope="module")
def record(fitted: Any) -> ConfidenceCertificates:
    clf, X = fitted
    return clf.confidence_certificates(X)


def test_lines_are_the_means_of_both_bounds(record: ConfidenceCertificates) -> None:
    radii = [0.0, 0.1, 0.3]
    display = CertifiedConfidenceDisplay.from_certificates(record, radii=radii, name="net")
    for method, style in (("cdf", "-"), ("mean", "--")):
        (line,) = display.lines_[method]
        np.testing.assert_array_equal(line.get_xdata(), radii)
        expected = record.lower_bound(radii, method=method).mean(axis=0)
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert line.get_linestyle() == style
    colors = {display.lines_[method][0].get_color() for method in ("cdf", "mean")}
    assert len(colors) == 1
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["net, by distribution", "net, by mean"]
    assert display.ax_.get_xlabel() == r"radius ($\ell_2$)"
    assert display.ax_.get_ylabel() == "certified score"
    assert len(display.bands_) == 1


def test_radii_go_to_where_nothing_is_left_by_default(record: ConfidenceCertificates) -> None:
    display = CertifiedConfidenceDisplay.from_certificates(record)
    (line,) = display.lines_["cdf"]
    assert line.get_ydata()[-1] < 0.02
    assert line.get_ydata()[0] > 0.5


def test_several_records_get_colours_of_their_own(
    fitted: Any, record: ConfidenceCertificates
) -> None:
    clf, X = fitted
    other = clf.confidence_certificates(X[:5])
    display = CertifiedConfidenceDisplay.from_certificates({"all": record, "five": other})
    first, second = display.lines_["cdf"]
    assert first.get_color() != second.get_color()


def test_an_estimator_at_the_end_of_a_pipeline_is_drawn(fitted: Any) -> None:
    _, X = fitted
    clf = SmoothedClassifier(sigma=0.25, n_estimation=200, random_state=0)
    piped = make_pipeline(MinMaxScaler(), clf).fit(X, np.arange(len(X)) % 2)
    axes = plt.figure().add_subplot()
    display = CertifiedConfidenceDisplay.from_estimator(piped, X, measure="margin", ax=axes)
    assert display.ax_ is axes
    assert display.curves[0].measure == "margin"
    assert display.ax_.get_ylim() == (-1, 1)
    assert display.curves[0].name == "SmoothedClassifier"


def test_logs_are_drawn_without_their_abstentions(shared: Path) -> None:
    path = shared / "reference" / "published" / "kumar2020_cifar10_score_sigma_0.25.tsv"
    display = CertifiedConfidenceDisplay.from_logs({"ResNet-110": path})
    curve = display.curves[0]
    assert 300 < len(curve.bounds["cdf"]) < 500
    assert (curve.mean("cdf")[1:] >= curve.mean("mean")[1:]).all()
    low, high = curve.quartiles("cdf")
    assert (low <= high).all()


def test_curves_of_different_measures_do_not_share_axes() -> None:
    curves = [
        CertifiedConfidenceCurve(
            np.array([0.0, 1.0]), {"cdf": np.ones((2, 2)), "mean": np.ones((2, 2))}, measure, "l2"
        )
        for measure in ("score", "margin")
    ]
    with pytest.raises(ValueError, match=r"^curves must be of one measure .*'margin', 'score'"):
        CertifiedConfidenceDisplay(curves).plot()


def test_bands_can_be_left_out_and_lines_styled(record: ConfidenceCertificates) -> None:
    curve = CertifiedConfidenceDisplay.from_certificates(record, radii=[0, 0.1]).curves[0]
    display = CertifiedConfidenceDisplay(curve).plot(show_band=False, color="black", linewidth=3)
    assert display.bands_ == []
    assert display.lines_["mean"][0].get_color() == "black"
    assert display.lines_["cdf"][0].get_linewidth() == 3
