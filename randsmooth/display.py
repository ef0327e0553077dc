"""Pictures of certified accuracy, in scikit-learn's Display convention."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from randsmooth._plotting import NORM_SYMBOLS, named, require_matplotlib
from randsmooth.curves import CertifiedAccuracyCurve, certified_accuracy_curve
from randsmooth.logs import CertificationLog, read_log
from randsmooth.metrics import certifying_step, correct_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import FillBetweenPolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

    from randsmooth.certificates import Certificates

__all__ = ["CertifiedAccuracyCurve", "CertifiedAccuracyDisplay"]


class CertifiedAccuracyDisplay:
    """Certified accuracy against the radius, with a confidence band for the finite test set.

    Make one with `from_estimator`, `from_certificates` or `from_logs`. The band holds at each
    radius by itself, or with `simultaneous` along the whole curve at once. Its lower end bounds the
    accuracy under attack on all inputs of the kind and allows for invalid certificates; its upper
    end bounds what the same procedure would certify on them.

    Parameters
    ----------
    curves : CertifiedAccuracyCurve or sequence of CertifiedAccuracyCurve
        What to draw.

    Attributes
    ----------
    line_ : matplotlib Line2D or list of Line2D
        The curve, a list where there are several.

    band_ : matplotlib FillBetweenPolyCollection, list of them, or None
        The band, None without one.

    ax_ : matplotlib Axes
        Axes with the curves.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from randsmooth.certificates import certify_counts
    >>> from randsmooth.display import CertifiedAccuracyDisplay
    >>> votes = [[100, 9_900], [9_990, 10], [5_000, 5_000]]
    >>> record = certify_counts([[1, 99], [99, 1], [50, 50]], votes, sigma=0.5)
    >>> display = CertifiedAccuracyDisplay.from_certificates(record, [1, 0, 1])
    >>> display.curves[0].accuracy.round(2)
    array([0.67, 0.67, 0.33, 0.  ])
    """

    def __init__(self, curves: CertifiedAccuracyCurve | Sequence[CertifiedAccuracyCurve]) -> None:
        self.curves = [curves] if isinstance(curves, CertifiedAccuracyCurve) else list(curves)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        radii: ArrayLike | None = None,
        name: str | None = None,
        band_alpha: float = 0.05,
        simultaneous: bool = False,
        show_band: bool = True,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Certify inputs and draw their certified accuracy.

        Parameters
        ----------
        estimator : SmoothedClassifier or Pipeline
            A fitted smoothed classifier, or a pipeline that ends in one; the radii are then in the
            units of the transformed inputs.

        X : array-like
            Inputs.

        y : array-like of shape (n_rows,)
            True labels.

        radii : array-like of float or None, default=None
            Radii to evaluate. By default every radius at which the curve drops, which draws it
            exactly.

        name : str or None, default=None
            Name for the legend, by default that of the class.

        band_alpha : float, default=0.05
            Failure probability of the band at each radius.

        simultaneous : bool, default=False
            Whether the band holds along the whole curve at once.

        show_band : bool, default=True
            Whether to draw the band.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedAccuracyDisplay
            The display, already drawn.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        smoothed, inputs = certifying_step(estimator, X)
        return cls.from_certificates(
            smoothed.certificates(inputs),
            y,
            radii=radii,
            name=type(smoothed).__name__ if name is None else name,
            common_noise=getattr(smoothed, "common_noise", True),
            band_alpha=band_alpha,
            simultaneous=simultaneous,
            show_band=show_band,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_certificates(
        cls,
        certificates: Certificates | Mapping[str, Certificates],
        y: ArrayLike,
        *,
        radii: ArrayLike | None = None,
        name: str | None = None,
        common_noise: bool | None = None,
        band_alpha: float = 0.05,
        simultaneous: bool = False,
        show_band: bool = True,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the certified accuracy of one record or several.

        Parameters
        ----------
        certificates : Certificates or mapping of str to Certificates
            A record, or several of the same inputs by name.

        y : array-like of shape (n_rows,)
            True labels.

        radii : array-like of float or None, default=None
            Radii to evaluate. By default every radius at which the curve drops.

        name : str or None, default=None
            Name of a single record for the legend.

        common_noise : bool or None, default=None
            Whether the inputs shared their noise, which widens the band downwards. None is what
            each record says, and shared where it says nothing.

        band_alpha : float, default=0.05
            Failure probability of the band at each radius.

        simultaneous : bool, default=False
            Whether the band holds along the whole curve at once.

        show_band : bool, default=True
            Whether to draw the band.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedAccuracyDisplay
            The display, already drawn.
        """
        require_matplotlib(f"{cls.__name__}.from_certificates")
        curves = []
        for label, record in named(certificates, name):
            correct, radius = correct_rows(y, record.label, record.radius)
            curve = certified_accuracy_curve(
                correct & ~record.abstained,
                radius,
                radii,
                certificate_alpha=record.alpha,
                band_alpha=band_alpha,
                simultaneous=simultaneous,
                common_noise=record.execution.get("common_noise", True)
                if common_noise is None
                else common_noise,
                norm=record.noise.norm,
                name=label,
            )
            curves.append(curve)
        return cls(curves).plot(ax, show_band=show_band, **kwargs)

    @classmethod
    def from_logs(
        cls,
        logs: CertificationLog | str | os.PathLike[str] | Mapping[str, Any],
        *,
        radii: ArrayLike | None = None,
        name: str | None = None,
        alpha: float = 0.001,
        norm: str = "l2",
        common_noise: bool = False,
        band_alpha: float = 0.05,
        simultaneous: bool = False,
        show_band: bool = True,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the certified accuracy in one log or several.

        Parameters
        ----------
        logs : CertificationLog, path, or mapping of str to either
            A log, or several by name.

        radii : array-like of float or None, default=None
            Radii to evaluate. By default every radius at which the curve drops.

        name : str or None, default=None
            Name of a single log for the legend.

        alpha : float, default=0.001
            Failure probability of each certificate in the logs, which they do not state.

        norm : str, default="l2"
            Norm of the radii in the logs.

        common_noise : bool, default=False
            Whether the inputs shared their noise. Those of published logs had their own.

        band_alpha : float, default=0.05
            Failure probability of the band at each radius.

        simultaneous : bool, default=False
            Whether the band holds along the whole curve at once.

        show_band : bool, default=True
            Whether to draw the band.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedAccuracyDisplay
            The display, already drawn.
        """
        require_matplotlib(f"{cls.__name__}.from_logs")
        curves = []
        for label, given in named(logs, name):
            log = given if isinstance(given, CertificationLog) else read_log(given)
            curve = certified_accuracy_curve(
                log.correct,
                log.radius,
                radii,
                certificate_alpha=alpha,
                band_alpha=band_alpha,
                simultaneous=simultaneous,
                common_noise=common_noise,
                norm=norm,
                name=label,
            )
            curves.append(curve)
        return cls(curves).plot(ax, show_band=show_band, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        show_band: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        name : str or None, default=None
            Name of a single curve for the legend, instead of its own.

        show_band : bool, default=True
            Whether to draw the confidence band.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedAccuracyDisplay
            The display itself.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        fresh = not ax.has_data()
        one_norm = len({curve.norm for curve in self.curves}) == 1
        lines, bands = [], []
        for curve in self.curves:
            label = _label(name or curve.name, None if one_norm else curve.norm)
            lines.append(_draw_line(ax, curve, {"label": label} | kwargs))
            if show_band:
                bands.append(_draw_band(ax, curve, lines[-1].get_color()))
        _finish(ax, self.curves, fresh=fresh, show_band=show_band)
        self.line_: Line2D | list[Line2D] = lines[0] if len(lines) == 1 else lines
        self.band_: FillBetweenPolyCollection | list[FillBetweenPolyCollection] | None = (
            bands[0] if len(bands) == 1 else bands or None
        )
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        return self


def _label(name: str | None, norm: str | None) -> str | None:
    if norm is None:
        return name
    return f"{name} ({NORM_SYMBOLS.get(norm, norm)})"


def _draw_line(ax: Axes, curve: CertifiedAccuracyCurve, style: dict[str, Any]) -> Line2D:
    settings: dict[str, Any] = {
        "drawstyle": "steps-pre",
        "linewidth": 1.8,
        "solid_joinstyle": "miter",
    } | style
    (line,) = ax.plot(curve.radii, curve.accuracy, **settings)
    return line


def _draw_band(ax: Axes, curve: CertifiedAccuracyCurve, color: Any) -> FillBetweenPolyCollection:
    return ax.fill_between(
        curve.radii, curve.lower, curve.upper, step="pre", color=color, alpha=0.15, linewidth=0
    )


def _finish(
    ax: Axes, curves: Sequence[CertifiedAccuracyCurve], *, fresh: bool, show_band: bool
) -> None:
    """Label the axes, fit their limits and put up a legend where anything is named."""
    norms = {NORM_SYMBOLS.get(curve.norm, curve.norm) for curve in curves}
    widest = 1.04 * max(float(curve.radii.max()) for curve in curves)
    right = widest if fresh else max(widest, ax.get_xlim()[1])
    ax.set(
        xlabel=f"certified radius ({norms.pop()})" if len(norms) == 1 else "certified radius",
        ylabel="certified accuracy",
        xlim=(0, right or 1),
        ylim=(0, 1),
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.8)
    ax.set_axisbelow(True)
    key = f"{100 * (1 - curves[0].band_alpha):g} % band"
    _, labels = ax.get_legend_handles_labels()
    if show_band and key not in labels:
        ax.fill_between([], [], [], color="0.5", alpha=0.3, linewidth=0, label=key)
    entries = zip(*ax.get_legend_handles_labels(), strict=True)
    ordered = sorted(entries, key=lambda entry: entry[1] == key)
    if ordered:
        handles, texts = zip(*ordered, strict=True)
        ax.legend(handles, texts, frameon=False, loc="upper right")
