"""Pictures of the draws that were spent: what they show, and what they say about it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest

from randsmooth.certificates import certify_counts
from randsmooth.draws_display import DrawsCurve, DrawsDisplay

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def record():
    votes = np.array([[90, 10], [950, 50], [90, 10], [1500, 500]])
    return certify_counts(votes // 10, votes, sigma=0.5)


def spent(*n_draws, radii=None):
    """Stand in for a record, of which a display only reads these."""
    return SimpleNamespace(n_draws=np.array(n_draws, dtype=np.int64), radii=radii)


def texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


class TestCurve:
    def test_it_rises_at_every_number_that_an_input_took(self):
        numbers, share = DrawsCurve(np.array([400, 100, 100, 1000])).steps()
        assert numbers.tolist() == [100, 400, 1000]
        assert share.tolist() == [0.5, 0.75, 1.0]

    def test_numbers_are_those_of_the_inputs(self):
        curve = DrawsCurve(np.array([100, 200, 600]))
        assert (curve.mean, curve.median, curve.total) == (300, 200, 900)

    def test_no_inputs_are_refused(self):
        with pytest.raises(ValueError, match="n_draws must hold at least one input, got none"):
            DrawsCurve(np.array([], dtype=int))


class TestDisplay:
    def test_line_and_mean_are_those_of_the_record(self, record):
        display = DrawsDisplay.from_certificates(record)
        assert display.line_.get_xdata().tolist() == [100, 100, 1000, 2000]
        assert display.line_.get_ydata().tolist() == [0, 0.5, 0.75, 1]
        assert display.line_.get_drawstyle() == "steps-post"
        assert display.mean_line_.get_xdata() == [800, 800]
        assert display.mean_line_.get_color() == display.line_.get_color()

    def test_axes_say_what_they_show(self, record):
        display = DrawsDisplay.from_certificates(record, name="Mine")
        assert display.ax_.get_xlabel() == "estimation draws per input (dashed: mean)"
        assert display.ax_.get_ylabel() == "share of inputs decided"
        assert display.ax_.get_xscale() == "log"
        assert display.ax_.get_xlim() == (pytest.approx(90), pytest.approx(2200))
        assert display.ax_.get_ylim() == (0, 1)
        assert texts(display) == ["Mine\nmean 800, median 550, total 3,200"]
        assert display.figure_ is display.ax_.figure

    def test_record_without_a_name_has_its_numbers(self, record):
        assert texts(DrawsDisplay.from_certificates(record)) == [
            "mean 800, median 550, total 3,200"
        ]

    @pytest.mark.parametrize(
        ("radii", "words"),
        [
            ([0.5], "radius 0.5"),
            ([0.25, 0.5, 1.0], "radii 0.25, 0.5, 1"),
            (np.arange(9) / 4, "9 radii from 0 to 2"),
        ],
    )
    def test_sequential_runs_name_their_radii(self, radii, words):
        run = spent(10, 20, radii=np.array(radii))
        numbers = "mean 15, median 15, total 30"
        assert texts(DrawsDisplay.from_certificates(run)) == [f"{words}\n{numbers}"]
        named = DrawsDisplay.from_certificates({"Sequential": run})
        assert texts(named) == [f"Sequential, {words}\n{numbers}"]

    @pytest.mark.parametrize(
        ("total", "words"),
        [
            (9_999, "9,999"),
            (10_000, "10 k"),
            (300_000, "300 k"),
            (999_600, "1 M"),
            (22_718_000, "22.7 M"),
            (50_000_000_000, "50 G"),
        ],
    )
    def test_large_totals_are_given_in_short(self, total, words):
        label = texts(DrawsDisplay.from_certificates(spent(total)))[0]
        assert label.endswith(f"total {words}")

    def test_several_records_share_the_axes(self, record):
        display = DrawsDisplay.from_certificates({"Planned": record, "Fixed": spent(5000, 5000)})
        assert [text.partition("\n")[0] for text in texts(display)] == ["Planned", "Fixed"]
        assert len(display.line_) == len(display.mean_line_) == 2
        assert display.line_[0].get_color() != display.line_[1].get_color()
        assert display.ax_.get_xlim() == (pytest.approx(90), pytest.approx(5500))

    def test_second_display_joins_the_axes_of_the_first(self, record):
        first = DrawsDisplay.from_certificates(record, name="First")
        second = DrawsDisplay.from_certificates(
            spent(50, 500), name="Second", ax=first.ax_, show_mean=False, color="black"
        )
        assert second.ax_ is first.ax_
        assert len(texts(second)) == 2
        assert second.ax_.get_xlim() == (pytest.approx(45), pytest.approx(2200))
        assert second.ax_.get_xlabel() == "estimation draws per input (dashed: mean)"
        assert second.line_.get_color() == "black"

    def test_mean_can_be_left_out(self, record):
        display = DrawsDisplay.from_certificates(record, show_mean=False)
        assert display.mean_line_ is None
        assert display.ax_.get_xlabel() == "estimation draws per input"

    def test_display_can_be_drawn_again_under_another_name(self, record):
        display = DrawsDisplay.from_certificates(record, name="Old")
        first = display.ax_
        assert display.plot(name="New", linewidth=5) is display
        assert display.ax_ is not first
        assert texts(display)[0].startswith("New\n")
        assert display.line_.get_linewidth() == 5

    def test_one_number_for_all_is_one_step(self):
        display = DrawsDisplay.from_certificates(spent(10_000, 10_000))
        assert display.line_.get_xdata().tolist() == [10_000, 10_000]
        assert display.line_.get_ydata().tolist() == [0, 1]
        assert display.ax_.get_xlim() == (pytest.approx(900), pytest.approx(11_000))

    def test_inputs_without_draws_are_decided_from_the_start(self):
        display = DrawsDisplay.from_certificates(spent(0, 0, 100, 1000))
        assert display.line_.get_xdata().tolist() == [0.5, 0.5, 100, 1000]
        assert display.line_.get_ydata().tolist() == [0.5, 0.5, 0.75, 1]
        assert display.ax_.get_xlim()[0] == pytest.approx(90)

    def test_run_without_any_draws_still_has_axes(self):
        display = DrawsDisplay.from_certificates(spent(0, 0))
        assert display.line_.get_ydata().tolist() == [1, 1]
        assert display.ax_.get_xlim() == (pytest.approx(0.9), pytest.approx(11))

    @pytest.mark.parametrize("size", [(3.4, 2.6), (6.4, 4.8)])
    def test_legend_stands_above_the_axes_and_within_the_figure(self, size):
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        run = spent(602, 602, 33_000, 100_000, radii=np.arange(9) / 4)
        display = DrawsDisplay.from_certificates(run, name="Sequential", ax=ax)
        figure.canvas.draw()
        legend = display.ax_.get_legend().get_window_extent()
        assert legend.y0 >= ax.get_window_extent().y1
        assert figure.bbox.x0 <= legend.x0
        assert legend.x1 <= figure.bbox.x1
        assert legend.y1 <= figure.bbox.y1

    def test_numbers_on_the_axis_are_written_out(self, record):
        display = DrawsDisplay.from_certificates(record)
        display.figure_.canvas.draw()
        labels = [label.get_text() for label in display.ax_.get_xticklabels()]
        assert {"100", "1,000"} <= set(labels)

    def test_names_are_given_once(self, record):
        with pytest.raises(ValueError, match=r"name must be None where several .*, got 'b'"):
            DrawsDisplay.from_certificates({"a": record}, name="b")

    def test_empty_mapping_is_refused(self):
        with pytest.raises(ValueError, match="at least one curve must be given, got an empty"):
            DrawsDisplay.from_certificates({})

    def test_missing_matplotlib_is_named_with_the_extra(self, record, monkeypatch):
        display = DrawsDisplay(DrawsCurve(record.n_draws))
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"from_certificates needs matplotlib.*\[plot\]"):
            DrawsDisplay.from_certificates(record)
        with pytest.raises(ImportError, match=r"DrawsDisplay\.plot needs matplotlib.*\[plot\]"):
            display.plot()
