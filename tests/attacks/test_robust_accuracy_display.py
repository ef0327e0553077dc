"""Pictures of robust accuracy."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from curve_of_linear import ATTACKS, CLF, SIZES, WIDE, X, Y

from randsmooth.attacks import (
    RobustAccuracyCurve,
    robust_accuracy_curve,
)
from randsmooth.robust_accuracy_display import RobustAccuracyDisplay


@pytest.fixture(scope="module")
def record() -> RobustAccuracyCurve:
    return robust_accuracy_curve(CLF, X, Y, ATTACKS, SIZES, **WIDE)


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
    (certified,) = display.certified_
    assert certified.get_color() == display.lines_["smoothed"].get_color()
    assert certified.get_linestyle() == ":"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["smoothed", "plain", "certified"]
    inside = RobustAccuracyDisplay({"a": record, "b": none}).plot(plt.subplots()[1])
    assert len(inside.ax_.get_legend().get_texts()) == 3
    assert np.array_equal(display.lines_["plain"].get_ydata(), none.robust_accuracy())
    plt.close("all")
    with pytest.raises(ValueError, match=r"^curves must be of one norm, got l2, linf"):
        RobustAccuracyDisplay({"a": record, "b": replace(record, norm="linf")}).plot()
    with pytest.raises(ValueError, match=r"^at least one curve must be given"):
        RobustAccuracyDisplay({}).plot()
    with pytest.raises(
        TypeError, match=r"^curves must be a RobustAccuracyCurve, or several by name"
    ):
        RobustAccuracyDisplay.from_curve([record, record])
