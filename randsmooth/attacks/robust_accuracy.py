"""One call for a curve: everything is checked before anything is run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from randsmooth.attacks.arguments import attack_method, rising_sizes
from randsmooth.attacks.curve import NORMS, RobustAccuracyCurve
from randsmooth.attacks.curve_run import CurveRun
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.victim import victim
from randsmooth.checks import check_choice, check_count

__all__ = ["robust_accuracy_curve"]


def robust_accuracy_curve(
    clf: Any,
    X: ArrayLike,
    y: ArrayLike,
    attacks: Sequence[str] | Mapping[str, str | AttackMethod] | None = None,
    sizes: ArrayLike = (0.25, 0.5, 0.75, 1.0),
    norm: str = "l2",
    *,
    n_noise: int = 32,
    n_restarts: int = 1,
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    n_votes: int = 1000,
    noise_seed: int | None = None,
    random_state: int = 0,
    autocast: str | None = None,
    path: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> RobustAccuracyCurve:
    """Return what attacks of rising size achieve, beside what is certified for the same inputs.

    An attack of a fixed size is run for each size on the inputs that withstood the smaller ones;
    one that searches for the smallest perturbation is run once; at size 0 nothing is. See `attack`
    for how successes are judged. Certificates are drawn from streams that no attack sees.
    Everything is checked before the first draw. An input that fails costs its own result: it is NaN
    in the record, whose facts say why.

    Parameters
    ----------
    clf : SmoothedClassifier, or a trained network
        The fitted classifier. One that is not smoothed has no certificates.

    X : array-like of shape (n_inputs, ...)
        The inputs.

    y : array-like of shape (n_inputs,)
        Their labels.

    attacks : sequence of str, mapping of str to str or AttackMethod, or None, default=None
        The attacks: names in `METHODS`, or attacks by names of your own, `Transfer` among them.
        None is ``("pgd", "cw")`` in l2, and ``("pgd",)`` in the other norms.

    sizes : array-like of float, shape (n_sizes,)
        Sizes of the attacks in rising order, 0 allowed, in the units of `X`.

    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of a perturbation.

    n_noise : int, default=32
        Draws that an attack averages over.

    n_restarts : int, default=1
        How often each input is attacked at each size, until that succeeds.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates.

    n_votes : int, default=1000
        Draws by which an attacked input is judged, and as many by which it is confirmed.

    noise_seed : int or None, default=None
        Seed of all noise; None is that of the classifier.

    random_state : int, default=0
        Seed of what the attacks themselves draw.

    autocast : {"bfloat16", "float16"} or None, default=None
        Reduced precision of the passes that attacks make.

    path : str, path-like or None, default=None
        A file to which what is known is saved after the certificates, and after every attack and
        size. A run that was interrupted goes on where it stopped; one of another model, noise or
        parameter, or of another source of a `Transfer`, is refused.

    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    RobustAccuracyCurve
        The record.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `path` holds another run or lies in no folder.

    TypeError
        If an attack needs gradients and the base has none, or `attacks` is no collection of them.

    InvalidFileError
        If `path` holds something else.

    AttackError
        If an attack failed on every input that it was tried on. Its `result` is the record.

    Warns
    -----
    AttackFailedWarning
        If some inputs could not be attacked, or not certified.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from randsmooth import SmoothedClassifier
    >>> from randsmooth.attacks import PGD, robust_accuracy_curve
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype("float32") / 16
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 10))
    >>> clf = SmoothedClassifier(net, sigma=0.25, random_state=0).fit(X, y)
    >>> curve = robust_accuracy_curve(clf, X[:20], y[:20], {"pgd": PGD(n_steps=10)}, [0.5, 1.0])
    >>> bool((curve.certified_accuracy() <= curve.robust_accuracy()).all())
    True
    """
    check_choice("norm", norm, NORMS)
    for name, count in (("n_votes", n_votes), ("n_restarts", n_restarts)):
        check_count(name, count)
    check_count("random_state", random_state, least=0)
    if path is not None:
        _check_path(path)
    methods, asked = _methods(attacks, norm), rising_sizes(sizes)
    settings = {
        "norm": norm,
        "n_noise": n_noise,
        "n_restarts": n_restarts,
        "clip_range": clip_range,
        "n_votes": n_votes,
        "random_state": random_state,
        "autocast": autocast,
    }
    target = victim(clf, X, noise_seed=noise_seed)
    run = CurveRun(target, X, y, methods, asked, settings, verbose)
    if path is not None and Path(path).exists():
        run.resume(path)
    run.go_on(path)
    run.report()
    return run.record()


def _methods(
    attacks: Sequence[str] | Mapping[str, str | AttackMethod] | None, norm: str
) -> dict[str, AttackMethod]:
    """Return the attacks by name, checked."""
    if attacks is None:
        attacks = ("pgd", "cw") if norm == "l2" else ("pgd",)
    if isinstance(attacks, str):
        attacks = (attacks,)
    if not isinstance(attacks, Mapping | Sequence):
        raise TypeError(
            f"attacks must be a sequence of names or a mapping of names to attacks, such as "
            f"{{'pgd': PGD()}}, got {attacks!r}."
        )
    if not attacks:
        raise ValueError(f"attacks must hold at least one attack, got {attacks!r}.")
    nameless = [name for name in attacks if not isinstance(name, str)]
    if nameless:
        raise TypeError(
            f"attacks must have names, got {nameless[0]!r}. Hand in a mapping such as "
            f"{{'pgd': PGD()}}."
        )
    named = attacks if isinstance(attacks, Mapping) else {name: name for name in attacks}
    return {name: attack_method(method) for name, method in named.items()}


def _check_path(path: str | os.PathLike[str]) -> None:
    """Refuse a file that could not be written after hours of attacks."""
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"path must be a file, got the folder {str(file)!r}.")
    if not (file.parent.is_dir() and os.access(file.parent, os.W_OK)):
        raise ValueError(
            f"path must lie in a folder that can be written to, got {str(file)!r}. Make the folder "
            f"first."
        )
