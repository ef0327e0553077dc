"""Pictures of certified confidence, in scikit-learn's Display convention."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from randsmooth._plotting import NORM_SYMBOLS, named, require_matplotlib
from randsmooth.certificates.confidence import MEASURES, ConfidenceCertificates
from randsmooth.confidence_logs import ConfidenceLog, read_confidence_log
from randsmooth.metrics import certifying_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import FillBetweenPolyCollection
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

__all__ = ["CertifiedConfidenceCurve", "CertifiedConfidenceDisplay"]

_N_RADII = 61
_NAMES = {"cdf": "by distribution", "mean": "by mean"}


@dataclass(frozen=True, eq=False)
class CertifiedConfidenceCurve:
    """Certified confidence of some inputs as a function of the radius.

    Parameters
    ----------
    radii : ndarray of float64, shape (n_radii,)
        Radii, rising.

    bounds : mapping of str to ndarray of float64, shape (n_rows, n_radii)
        For each method, "cdf" or "mean", the certified confidence of each input.

    measure : {"score", "margin"}
        The measure of confidence.

    norm : str
        Norm of the radii.

    name : str or None, default=None
        Name for the legend.
    """

    radii: NDArray[np.float64]
    bounds: Mapping[str, NDArray[np.float64]]
    measure: str
    norm: str
    name: str | None = None

    def mean(self, method: str) -> NDArray[np.float64]:
        """Return the mean over the inputs at each radius."""
        means: NDArray[np.float64] = self.bounds[method].mean(axis=0)
        return means

    def quartiles(self, method: str) -> NDArray[np.float64]:
        """Return the first and the third quartile of the inputs, shape (2, n_radii)."""
        return np.quantile(self.bounds[method], (0.25, 0.75), axis=0)


class CertifiedConfidenceDisplay:
    """Certified confidence against the radius, by the distribution of scores and by their mean.

    Make one with `from_estimator`, `from_certificates` or `from_logs`. The lines are means over
    the inputs: solid for the bound that uses the distribution of the scores, dashed for the one
    that uses their mean alone. The shaded part holds the middle half of the inputs for the first.

    Parameters
    ----------
    curves : CertifiedConfidenceCurve or sequence of CertifiedConfidenceCurve
        What to draw.

    Attributes
    ----------
    lines_ : dict of str to list of matplotlib Line2D
        The lines of each method.

    bands_ : list of matplotlib FillBetweenPolyCollection
        The middle half of the inputs, one for each curve.

    ax_ : matplotlib Axes
        Axes with the curves.

    figure_ : matplotlib Figure
        Figure that holds the axes.

    See Also
    --------
    randsmooth.CertifiedAccuracyDisplay : How far the labels hold.

    References
    ----------
    .. [1] A. Kumar, A. Levine, S. Feizi and T. Goldstein, "Certifying confidence via randomized
       smoothing", NeurIPS 2020.
    """

    def __init__(
        self, curves: CertifiedConfidenceCurve | Sequence[CertifiedConfidenceCurve]
    ) -> None:
        self.curves = [curves] if isinstance(curves, CertifiedConfidenceCurve) else list(curves)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        measure: str = "score",
        radii: ArrayLike | None = None,
        name: str | None = None,
        noise_seed: int | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Certify the confidence of a fitted classifier and draw it.

        Parameters
        ----------
        estimator : SmoothedClassifier or Pipeline
            A fitted smoothed classifier, or a pipeline whose last step is one.

        X : array-like
            Inputs.

        measure : {"score", "margin"}, default="score"
            The measure of confidence.

        radii : array-like of float or None, default=None
            Radii to evaluate; by default up to where nothing is left of it.

        name : str or None, default=None
            Name for the legend; by default that of the classifier's class.

        noise_seed : int or None, default=None
            Seed of the noise bank.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedConfidenceDisplay
            The display, already drawn.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        smoothed, inputs = certifying_step(estimator, X)
        record = smoothed.confidence_certificates(inputs, measure=measure, noise_seed=noise_seed)
        named_record = {name or type(smoothed).__name__: record}
        return cls.from_certificates(named_record, radii=radii, ax=ax, **kwargs)

    @classmethod
    def from_certificates(
        cls,
        certificates: ConfidenceCertificates | Mapping[str, ConfidenceCertificates],
        *,
        radii: ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the confidence that one record or several certify.

        Parameters
        ----------
        certificates : ConfidenceCertificates or mapping of str to ConfidenceCertificates
            A record, or several by name.

        radii : array-like of float or None, default=None
            Radii to evaluate; by default up to where nothing is left of the confidence.

        name : str or None, default=None
            Name of a single record for the legend.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedConfidenceDisplay
            The display, already drawn.
        """
        require_matplotlib(f"{cls.__name__}.from_certificates")
        curves = []
        for label, record in named(certificates, name):
            asked = _telling_radii(record) if radii is None else np.unique(np.asarray(radii, float))
            bounds = {method: record.lower_bound(asked, method=method) for method in _NAMES}
            curve = CertifiedConfidenceCurve(
                asked, bounds, record.measure, record.noise.norm, label
            )
            curves.append(curve)
        return cls(curves).plot(ax, **kwargs)

    @classmethod
    def from_logs(
        cls,
        logs: ConfidenceLog | str | os.PathLike[str] | Mapping[str, Any],
        *,
        measure: str = "score",
        name: str | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the certified confidence in one log or several; abstentions are left out.

        Parameters
        ----------
        logs : ConfidenceLog, path, or mapping of str to either
            A log, or several by name.

        measure : {"score", "margin"}, default="score"
            The measure of confidence in the logs, which they do not state.

        name : str or None, default=None
            Name of a single log for the legend.

        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedConfidenceDisplay
            The display, already drawn.
        """
        require_matplotlib(f"{cls.__name__}.from_logs")
        curves = []
        for label, given in named(logs, name):
            log = given if isinstance(given, ConfidenceLog) else read_confidence_log(given)
            answered = log.label != -1
            bounds = {"cdf": log.distribution_bound[answered], "mean": log.mean_bound[answered]}
            curves.append(CertifiedConfidenceCurve(log.radii, bounds, measure, "l2", label))
        return cls(curves).plot(ax, **kwargs)

    def plot(self, ax: Axes | None = None, *, show_band: bool = True, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw into, new ones by default.

        show_band : bool, default=True
            Whether to shade the middle half of the inputs.

        **kwargs : dict
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        CertifiedConfidenceDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the curves are of different measures.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        measures = {curve.measure for curve in self.curves}
        if len(measures) > 1:
            raise ValueError(
                f"curves must be of one measure of confidence, got {sorted(measures)}."
            )
        if ax is None:
            _, ax = plt.subplots()
        self.lines_: dict[str, list[Line2D]] = {method: [] for method in _NAMES}
        self.bands_: list[FillBetweenPolyCollection] = []
        for curve in self.curves:
            self._draw(ax, curve, show_band, kwargs)
        _finish(ax, self.curves)
        self.ax_: Axes = ax
        self.figure_: Figure | SubFigure = ax.figure
        return self

    def _draw(
        self, ax: Axes, curve: CertifiedConfidenceCurve, show_band: bool, style: dict[str, Any]
    ) -> None:
        color: Any = None
        for method, line_style in (("cdf", "-"), ("mean", "--")):
            settings: dict[str, Any] = {"linestyle": line_style, "linewidth": 1.8} | style
            if color is not None:
                settings["color"] = color
            label = ", ".join(filter(None, [curve.name, _NAMES[method]]))
            (line,) = ax.plot(curve.radii, curve.mean(method), label=label, **settings)
            color = line.get_color()
            self.lines_[method].append(line)
        if show_band:
            low, high = curve.quartiles("cdf")
            band = ax.fill_between(curve.radii, low, high, color=color, alpha=0.12, linewidth=0)
            self.bands_.append(band)


def _telling_radii(record: ConfidenceCertificates) -> NDArray[np.float64]:
    """Return radii up to where next to nothing is certified for any input."""
    low, high = MEASURES[record.measure]
    nearly_nothing = low + 0.01 * (high - low)
    largest = float(record.radius(nearly_nothing).max(initial=0.0))
    return np.linspace(0.0, largest or record.noise.scale, _N_RADII)


def _finish(ax: Axes, curves: Sequence[CertifiedConfidenceCurve]) -> None:
    """Label the axes, fit their limits and put up a legend."""
    norms = {NORM_SYMBOLS.get(curve.norm, curve.norm) for curve in curves}
    measure = curves[0].measure
    ax.set(
        xlabel=f"radius ({norms.pop()})" if len(norms) == 1 else "radius",
        ylabel=f"certified {measure}",
        xlim=(0, max(float(curve.radii[-1]) for curve in curves) or 1),
        ylim=MEASURES[measure],
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, loc="upper right")
