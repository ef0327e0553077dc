"""Pictures of what certification took in draws, in scikit-learn's Display convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from randsmooth._plotting import named, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

    from randsmooth.certificates import Certificates

__all__ = ["DrawsCurve", "DrawsDisplay"]

# Stands for no draws at all on the logarithmic axis, beyond its left end.
_NO_DRAWS = 0.5

_MEAN = " (dashed: mean)"

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, eq=False)
class DrawsCurve:
    """Share of the inputs that were decided with so many draws or fewer.

    It is a rising step function, continuous from the right. Only estimation draws are counted, not
    those that chose the class or that planned the number.

    Parameters
    ----------
    n_draws : ndarray of int64, shape (n_inputs,)
        Estimation draws of each input, at least one input.

    radii : tuple of float or None, default=None
        The radii that a sequential run was asked about.

    name : str or None, default=None
        Name for the legend.

    Raises
    ------
    ValueError
        If there is no input.

    Examples
    --------
    >>> import numpy as np
    >>> from randsmooth.draws_display import DrawsCurve
    >>> curve = DrawsCurve(np.array([100, 100, 400, 1000]))
    >>> curve.steps()
    (array([ 100,  400, 1000]), array([0.5 , 0.75, 1.  ]))
    >>> curve.mean, curve.median, curve.total
    (400.0, 250.0, 1600)
    """

    n_draws: NDArray[np.int64]
    radii: tuple[float, ...] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.n_draws.size:
            raise ValueError("n_draws must hold at least one input, got none.")

    @property
    def mean(self) -> float:
        """Mean number of draws."""
        return float(self.n_draws.mean())

    @property
    def median(self) -> float:
        """Median number of draws."""
        return float(np.median(self.n_draws))

    @property
    def total(self) -> int:
        """Draws of all inputs together."""
        return int(self.n_draws.sum())

    def steps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return where the curve rises, and what it rises to.

        Returns
        -------
        n_draws : ndarray of int64, shape (n_steps,)
            The different numbers of draws, rising.

        share : ndarray of float64, shape (n_steps,)
            Share of the inputs that took as many or fewer.
        """
        numbers, inputs = np.unique(self.n_draws, return_counts=True)
        return numbers, inputs.cumsum() / self.n_draws.size


class DrawsDisplay:
    """What certification took: the share of inputs decided against the draws each of them got.

    Make one with `from_certificates`. A dashed line marks the mean, and the legend states mean,
    median and total. It stands above the axes: a figure of your own makes room for it with
    ``layout="constrained"``. Only estimation draws are counted; draws that chose the class or
    planned the number come on top.

    Parameters
    ----------
    curves : DrawsCurve or sequence of DrawsCurve
        What to draw.

    Attributes
    ----------
    line_ : matplotlib Line2D or list of Line2D
        The curve, a list where there are several.

    mean_line_ : matplotlib Line2D, list of Line2D, or None
        The dashed line at the mean, None without one.

    ax_ : matplotlib Axes
        Axes with the curves.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    See Also
    --------
    randsmooth.CertifiedAccuracyDisplay : What the draws bought.

    Examples
    --------
    >>> from randsmooth.certificates import certify_counts
    >>> from randsmooth.draws_display import DrawsDisplay
    >>> record = certify_counts([[1, 99], [99, 1]], [[10, 990], [90, 10]], sigma=0.5)
    >>> display = DrawsDisplay.from_certificates(record, name="planned")
    >>> display.curves[0].mean
    550.0
    """

    def __init__(self, curves: DrawsCurve | Sequence[DrawsCurve]) -> None:
        self.curves = [curves] if isinstance(curves, DrawsCurve) else list(curves)

    @classmethod
    def from_certificates(
        cls,
        certificates: Certificates | Mapping[str, Certificates],
        *,
        name: str | None = None,
        show_mean: bool = True,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what one run or several took.

        Parameters
        ----------
        certificates : Certificates or mapping of str to Certificates
            A record, or several by name.

        name : str or None, default=None
            Name of a single record for the legend.

        show_mean : bool, default=True
            Whether to mark the mean.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        DrawsDisplay
            The display, already drawn.
        """
        require_matplotlib(f"{cls.__name__}.from_certificates")
        curves = []
        for label, record in named(certificates, name):
            asked = getattr(record, "radii", None)
            radii = None if asked is None else tuple(np.asarray(asked, dtype=float).tolist())
            curves.append(DrawsCurve(record.n_draws, radii, label))
        return cls(curves).plot(ax, show_mean=show_mean, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        show_mean: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        name : str or None, default=None
            Name of a single curve for the legend, instead of its own.

        show_mean : bool, default=True
            Whether to mark the mean.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        DrawsDisplay
            The display itself.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        fresh = not ax.has_data()
        lines, means = [], []
        for curve in self.curves:
            lines.append(_draw_line(ax, curve, {"label": _label(curve, name)} | kwargs))
            if show_mean:
                means.append(_draw_mean(ax, curve, lines[-1].get_color()))
        _finish(ax, self.curves, fresh=fresh, show_mean=show_mean)
        self.line_: Line2D | list[Line2D] = lines[0] if len(lines) == 1 else lines
        self.mean_line_: Line2D | list[Line2D] | None = (
            means[0] if len(means) == 1 else means or None
        )
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        return self


def _label(curve: DrawsCurve, name: str | None) -> str:
    """Return the entry of the legend: name and radii where there are any, then the numbers."""
    head = [text for text in (name or curve.name, _radii_in_words(curve.radii)) if text]
    numbers = f"mean {curve.mean:,.0f}, median {curve.median:,.0f}, total {_in_short(curve.total)}"
    return "\n".join(filter(None, [", ".join(head), numbers]))


def _radii_in_words(radii: tuple[float, ...] | None) -> str | None:
    if not radii:
        return None
    if len(radii) <= 4:
        return f"{'radius' if len(radii) == 1 else 'radii'} {', '.join(f'{r:g}' for r in radii)}"
    return f"{len(radii)} radii from {min(radii):g} to {max(radii):g}"


def _in_short(total: int) -> str:
    if total < 10_000:
        return f"{total:,}"
    rounded = float(f"{total:.3g}")
    size, prefix = next(pair for pair in _PREFIXES if rounded >= pair[0])
    return f"{rounded / size:.3g} {prefix}"


def _draw_line(ax: Axes, curve: DrawsCurve, style: dict[str, Any]) -> Line2D:
    settings: dict[str, Any] = {
        "drawstyle": "steps-post",
        "linewidth": 1.8,
        "solid_joinstyle": "miter",
    } | style
    numbers, share = curve.steps()
    start = 0.0 if numbers[0] else share[0]
    places = np.maximum([numbers[0], *numbers], _NO_DRAWS)
    (line,) = ax.plot(places, [start, *share], **settings)
    return line


def _draw_mean(ax: Axes, curve: DrawsCurve, color: Any) -> Line2D:
    return ax.axvline(
        max(curve.mean, _NO_DRAWS), color=color, linestyle="--", linewidth=1.2, zorder=1.5
    )


def _finish(ax: Axes, curves: Sequence[DrawsCurve], *, fresh: bool, show_mean: bool) -> None:
    """Label the axes, fit their limits and put the legend above them."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    drawn = np.concatenate([curve.n_draws[curve.n_draws > 0] for curve in curves])
    most = float(drawn.max(initial=10))
    fewest = min(float(drawn.min(initial=most)), most / 10)
    left, right = 0.9 * fewest, 1.1 * most
    explained = show_mean or ax.get_xlabel().endswith(_MEAN)
    if not fresh:
        left, right = min(left, ax.get_xlim()[0]), max(right, ax.get_xlim()[1])
    ax.set_xlim(left, right)
    ax.set_xscale("log")
    ax.set(
        xlabel=f"estimation draws per input{_MEAN if explained else ''}",
        ylabel="share of inputs decided",
        ylim=(0, 1),
    )
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.legend(
        frameon=False,
        fontsize="small",
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        borderaxespad=0,
        borderpad=0,
        handlelength=1.2,
    )
