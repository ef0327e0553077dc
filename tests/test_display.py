"""Pictures of certified accuracy: what they draw, and what they say about it."""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from randsmooth.certificates import certify_counts
from randsmooth.curves import CertifiedAccuracyCurve, certified_accuracy_curve
from randsmooth.display import CertifiedAccuracyDisplay
from randsmooth.logs import read_log
from randsmooth.metrics import certified_accuracy_interval

mpl.use("Agg")
import matplotlib.pyplot as plt

Y = np.array([0, 0, 0, 1, 1])


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def record():
    votes = np.array([[9900, 100], [9000, 1000], [8000, 2000], [5000, 5000], [9000, 1000]])
    return certify_counts(votes // 100, votes, sigma=0.5)


def texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


class TestCurve:
    def test_every_drop_is_drawn_where_it_is(self):
        correct = np.array([True, True, False, True])
        curve = certified_accuracy_curve(
            correct, np.array([0.5, 0.2, 0.9, 0.5]), certificate_alpha=0.001, norm="l2"
        )
        assert curve.radii.tolist() == [0, 0.2, 0.5, 0.5]
        assert curve.accuracy.tolist() == [0.75, 0.75, 0.5, 0.0]

    def test_asked_radii_are_evaluated_in_rising_order(self):
        curve = certified_accuracy_curve(
            np.array([True, True]), np.array([0.5, 0.2]), [0.3, 0.1], certificate_alpha=0.1, norm=""
        )
        assert curve.radii.tolist() == [0.1, 0.3]
        assert curve.accuracy.tolist() == [1.0, 0.5]

    def test_infinite_radius_keeps_the_curve_up(self):
        curve = certified_accuracy_curve(
            np.array([True, True]), np.array([0.5, np.inf]), certificate_alpha=0.1, norm="l2"
        )
        assert curve.radii.tolist() == [0, 0.5, 0.5]
        assert curve.accuracy.tolist() == [1, 1, 0.5]

    def test_nothing_certified_is_a_flat_zero(self):
        curve = certified_accuracy_curve(
            np.array([False, False]), np.array([0.0, 1.0]), certificate_alpha=0.1, norm="l2"
        )
        assert curve.radii.tolist() == [0, 0]
        assert curve.accuracy.tolist() == [0, 0]


class TestDisplay:
    def test_line_and_band_are_those_of_the_record(self, record):
        display = CertifiedAccuracyDisplay.from_certificates(record, Y, common_noise=False)
        radii, shares = display.line_.get_data()
        assert radii.tolist() == [0.0, *np.sort(record.radius[:3]), record.radius[0]]
        np.testing.assert_allclose(shares, [0.6, 0.6, 0.4, 0.2, 0.0], atol=1e-15)
        assert display.line_.get_drawstyle() == "steps-pre"
        lower, upper = certified_accuracy_interval(
            [3, 3, 2, 1, 0], 5, certificate_alpha=0.001, common_noise=False
        )
        np.testing.assert_array_equal(display.curves[0].lower, lower)
        np.testing.assert_array_equal(display.curves[0].upper, upper)
        (band,) = display.band_.get_paths()
        assert band.vertices[:, 1].min() == 0
        assert band.vertices[:, 1].max() == upper.max()

    def test_axes_say_what_they_show(self, record):
        display = CertifiedAccuracyDisplay.from_certificates(record, Y, name="mine")
        assert display.ax_.get_xlabel() == r"certified radius ($\ell_2$)"
        assert display.ax_.get_ylabel() == "certified accuracy"
        assert display.ax_.get_ylim() == (0, 1)
        assert display.ax_.get_xlim() == (0, pytest.approx(1.04 * record.radius[0]))
        assert texts(display) == ["mine", "95 % band"]
        assert display.figure_ is display.ax_.figure

    def test_several_records_share_the_axes(self, record):
        display = CertifiedAccuracyDisplay.from_certificates(
            {"auto": record, "binary": record.with_bound("binary")}, Y, band_alpha=0.1
        )
        assert texts(display) == ["auto", "binary", "90 % band"]
        assert len(display.line_) == len(display.band_) == 2
        assert display.line_[0].get_color() != display.line_[1].get_color()

    def test_different_norms_are_named_curve_by_curve(self, record):
        votes = record.counts
        other = certify_counts(record.selection_counts, votes, noise="laplace", sigma=0.5)
        display = CertifiedAccuracyDisplay.from_certificates({"a": record, "b": other}, Y)
        assert texts(display)[:2] == [r"a ($\ell_2$)", r"b ($\ell_1$)"]
        assert display.ax_.get_xlabel() == "certified radius"

    def test_second_display_joins_the_axes_of_the_first(self, record):
        first = CertifiedAccuracyDisplay.from_certificates(record, Y, name="first")
        right = first.ax_.get_xlim()[1]
        second = CertifiedAccuracyDisplay.from_certificates(
            record.take([1, 2]), [0, 0], name="second", ax=first.ax_, color="black"
        )
        assert second.ax_ is first.ax_
        assert texts(second) == ["first", "second", "95 % band"]
        assert second.ax_.get_xlim()[1] == right
        assert second.line_.get_color() == "black"

    def test_band_can_be_left_out(self, record):
        display = CertifiedAccuracyDisplay.from_certificates(record, Y, show_band=False)
        assert display.band_ is None
        assert display.ax_.get_legend() is None

    def test_display_can_be_drawn_again_under_another_name(self, record):
        display = CertifiedAccuracyDisplay.from_certificates(record, Y, name="old")
        first = display.ax_
        assert display.plot(name="new", linewidth=5) is display
        assert display.ax_ is not first
        assert texts(display)[0] == "new"
        assert display.line_.get_linewidth() == 5

    def test_record_without_certificates_still_has_axes(self):
        votes = np.array([[5, 5]])
        record = certify_counts(votes, votes.copy(), sigma=1.0)
        display = CertifiedAccuracyDisplay.from_certificates(record, [0])
        assert display.ax_.get_xlim() == (0, 1)

    def test_display_is_made_of_curves(self):
        curve = CertifiedAccuracyCurve(
            radii=np.array([0.0, 1.0]),
            accuracy=np.array([0.9, 0.5]),
            lower=np.array([0.8, 0.4]),
            upper=np.array([1.0, 0.6]),
            band_alpha=0.05,
            norm="linf",
        )
        display = CertifiedAccuracyDisplay(curve).plot()
        assert display.ax_.get_xlabel() == r"certified radius ($\ell_\infty$)"

    def test_asked_radii_are_drawn(self, record):
        display = CertifiedAccuracyDisplay.from_certificates(record, Y, radii=[0, 0.25, 0.5])
        shares = display.line_.get_ydata()
        assert shares.tolist() == record.certified_accuracy(Y, [0, 0.25, 0.5]).tolist()

    def test_names_are_given_once(self, record):
        with pytest.raises(ValueError, match="name must be None where several curves have their"):
            CertifiedAccuracyDisplay.from_certificates({"a": record}, Y, name="b")

    def test_empty_mapping_is_refused(self):
        with pytest.raises(ValueError, match="at least one curve must be given, got an empty"):
            CertifiedAccuracyDisplay.from_certificates({}, Y)

    def test_missing_matplotlib_is_named_with_the_extra(self, record, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"from_certificates needs matplotlib.*\[plot\]"):
            CertifiedAccuracyDisplay.from_certificates(record, Y)


class Recorded(BaseEstimator):
    """Answers every question with a record that is already there."""

    def __init__(self, record=None, common_noise=True):
        self.record = record
        self.common_noise = common_noise

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def certificates(self, X):
        return self.record.take(np.asarray(X)[:, 0])


class TestFromEstimator:
    X = np.arange(5)[:, np.newaxis]

    @pytest.mark.parametrize("common_noise", [True, False])
    def test_estimator_certifies_and_says_whether_noise_was_shared(self, record, common_noise):
        display = CertifiedAccuracyDisplay.from_estimator(Recorded(record, common_noise), self.X, Y)
        direct = CertifiedAccuracyDisplay.from_certificates(record, Y, common_noise=common_noise)
        np.testing.assert_array_equal(display.curves[0].lower, direct.curves[0].lower)
        np.testing.assert_array_equal(display.line_.get_data(), direct.line_.get_data())
        assert texts(display)[0] == "Recorded"

    def test_pipeline_hands_on_what_it_transformed(self, record):
        flipped = FunctionTransformer(lambda rows: rows[::-1])
        pipeline = make_pipeline(flipped, Recorded(record)).fit(self.X, Y)
        display = CertifiedAccuracyDisplay.from_estimator(pipeline, self.X, Y[::-1], name="mine")
        assert display.line_.get_ydata()[0] == pytest.approx(0.6)
        assert texts(display)[0] == "mine"

    def test_estimator_that_does_not_certify_is_refused(self):
        with pytest.raises(TypeError, match="estimator must be a SmoothedClassifier"):
            CertifiedAccuracyDisplay.from_estimator(BaseEstimator(), self.X, Y)


class TestFromLogs:
    def test_published_logs_are_drawn_by_name(self, shared):
        folder = shared / "reference" / "published"
        paths = {
            sigma: folder / f"cohen2019_cifar10_resnet110_sigma_{sigma}.tsv"
            for sigma in ("0.25", "0.50")
        }
        display = CertifiedAccuracyDisplay.from_logs(paths, alpha=0.01, radii=[0, 0.5, 0.75])
        shares = [line.get_ydata().round(3).tolist() for line in display.line_]
        assert shares == [[0.748, 0.428, 0.266], [0.652, 0.414, 0.32]]
        assert texts(display) == ["0.25", "0.50", "95 % band"]

    def test_log_can_be_read_before(self, shared):
        path = shared / "reference" / "published" / "cohen2019_cifar10_resnet110_sigma_0.12.tsv"
        display = CertifiedAccuracyDisplay.from_logs(read_log(path), name="read", norm="l1")
        assert display.line_.get_ydata()[0] == pytest.approx(0.814)
        assert display.ax_.get_xlabel() == r"certified radius ($\ell_1$)"
