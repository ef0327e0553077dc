"""Pictures of robust accuracy, in scikit-learn's Display convention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from randsmooth._plotting import NORM_SYMBOLS, named, require_matplotlib
from randsmooth.attacks.curve import RobustAccuracyCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import FillBetweenPolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

__all__ = ["RobustAccuracyDisplay"]


class RobustAccuracyDisplay:
    """Robust accuracy against the size of attacks, above the certified accuracy.

    Attacks on the classifier itself are solid, those carried over from another one dashed, the
    certificate is filled: the truth lies between it and the lowest line. Where several classifiers
    are drawn, their certificates are thin dotted lines of the same colour.

    Parameters
    ----------
    curves : RobustAccuracyCurve or mapping of str to RobustAccuracyCurve
        What to draw: one classifier's, or several by name, of which each gets one colour and the
        worst case of its attacks is drawn.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The lines, by their names in the legend.

    certified_ : list of matplotlib FillBetweenPolyCollection or Line2D
        The certificates: filled, or lines where there are several classifiers.

    ax_ : matplotlib Axes
        Axes with the curves.

    figure_ : matplotlib Figure
        Figure that holds the axes.
    """

    lines_: dict[str, Line2D]
    certified_: list[FillBetweenPolyCollection | Line2D]
    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, curves: RobustAccuracyCurve | Mapping[str, RobustAccuracyCurve]) -> None:
        self.curves = curves

    @classmethod
    def from_curve(
        cls,
        curves: RobustAccuracyCurve | Mapping[str, RobustAccuracyCurve],
        *,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw one record or several.

        Parameters
        ----------
        curves : RobustAccuracyCurve or mapping of str to RobustAccuracyCurve
            What to draw.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        RobustAccuracyDisplay
            The display, already drawn.
        """
        return cls(curves).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        RobustAccuracyDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the records are of different norms.

        TypeError
            If they are no records.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        several = named(self.curves, None)
        if not all(isinstance(curve, RobustAccuracyCurve) for _, curve in several):
            raise TypeError(
                f"curves must be a RobustAccuracyCurve, or several by name in a mapping, got "
                f"{type(self.curves).__name__}."
            )
        norms = sorted({curve.norm for _, curve in several})
        if len(norms) > 1:
            raise ValueError(f"curves must be of one norm, got {', '.join(norms)}.")
        beside = ax is None  # in a figure of our own there is room for the legend
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.lines_, self.certified_ = {}, []
        alone = len(several) == 1
        for index, (name, curve) in enumerate(several):
            if alone:
                self._draw_attacks(ax, curve, kwargs)
            else:
                self._draw_line(ax, curve, None, str(name), f"C{index}", kwargs)
            self._draw_certificate(ax, curve, "0.6" if alone else f"C{index}", alone)
        ax.set(
            xlabel=f"size of the attack ({NORM_SYMBOLS[norms[0]]})",
            ylabel="accuracy",
            ylim=(0, 1),
        )
        if alone:
            ax.legend()
        else:
            self._explain(ax, beside)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_attacks(self, ax: Axes, curve: RobustAccuracyCurve, kwargs: dict[str, Any]) -> None:
        for index, name in enumerate(curve.names):
            self._draw_line(ax, curve, name, name, f"C{index}", kwargs)

    def _draw_line(
        self,
        ax: Axes,
        curve: RobustAccuracyCurve,
        attack: str | None,
        label: str,
        colour: str,
        kwargs: dict[str, Any],
    ) -> None:
        dashed = attack is not None and curve.transferred[curve.names.index(attack)]
        style = {
            "label": label,
            "color": colour,
            "linestyle": "--" if dashed else "-",
            "marker": ".",
        } | kwargs
        (self.lines_[label],) = ax.plot(curve.sizes, curve.robust_accuracy(attack), **style)

    def _draw_certificate(
        self, ax: Axes, curve: RobustAccuracyCurve, colour: str, alone: bool
    ) -> None:
        if not curve.certified_radius.any():
            return
        # Between the sizes that were attacked it is known, too.
        sizes = np.linspace(0, curve.sizes[-1], 201)
        shares = curve.certified_accuracy(sizes)
        style: dict[str, Any] = {"color": colour}
        if alone:
            style |= {"alpha": 0.3, "linewidth": 0, "label": "certified"}
            self.certified_.append(ax.fill_between(sizes, shares, **style))
        else:
            style |= {"linestyle": ":", "linewidth": 1.3}
            self.certified_ += ax.plot(sizes, shares, **style)

    def _explain(self, ax: Axes, beside: bool) -> None:
        """Add the legend, with one entry for all certificates."""
        handles, labels = ax.get_legend_handles_labels()
        if self.certified_:
            from matplotlib.lines import Line2D

            handles.append(Line2D([], [], color="0.4", linestyle=":", linewidth=1.3))
            labels.append("certified")
        if beside:
            ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
        else:
            ax.legend(handles, labels, fontsize="small", framealpha=0.7)
