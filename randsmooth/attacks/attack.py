"""Attack a smoothed classifier, and let fresh votes say what came of it."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from randsmooth.attacks.arguments import attack_method
from randsmooth.attacks.method import AttackMethod
from randsmooth.attacks.result import AttackResult
from randsmooth.attacks.run import AttackRun
from randsmooth.attacks.victim import victim
from randsmooth.checks import check_count

__all__ = ["attack"]


def attack(
    clf: Any,
    X: ArrayLike,
    y: ArrayLike,
    method: str | AttackMethod = "pgd",
    *,
    norm: str = "l2",
    eps: ArrayLike | None = None,
    n_noise: int = 32,
    frozen: bool | None = None,
    n_restarts: int = 1,
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    n_votes: int = 1000,
    noise_seed: int | None = None,
    random_state: int = 0,
    autocast: str | None = None,
    verbose: int = 0,
) -> AttackResult:
    """Return what an attack on a smoothed classifier achieves, by fresh votes.

    The attack sees `n_noise` draws at a time, from a stream that no certificate sees. What it finds
    is judged by `n_votes` others, and what is judged a success is confirmed by `n_votes` further
    ones, which nothing was chosen by. Inputs that are misclassified as they are count as successes
    at distance 0.

    What is found for an input depends on the input, the seeds and the parameters alone, but for the
    rounding of networks; only `Boundary` and `Square` draw for several inputs at once.

    Parameters
    ----------
    clf : SmoothedClassifier
        The fitted classifier.

    X : array-like of shape (n_inputs, ...)
        The inputs.

    y : array-like of shape (n_inputs,)
        Their labels, from which the attack leads away.

    method : str or AttackMethod, default="pgd"
        The attack: a name in `METHODS`, or an object with settings of its own.

    norm : {"l1", "l2", "linf"}, default="l2"
        Norm of a perturbation, over all coordinates of an input.

    eps : float, array-like of shape (n_inputs,) or None, default=None
        How large a perturbation may be, in the units of `X`. None is for attacks that search for
        the smallest, to which infinity is the same.

    n_noise : int, default=32
        Draws that the attack averages over.

    frozen : bool or None, default=None
        Whether these stay the same throughout an attack. None is as the attack needs it: frozen
        where the smallest perturbation is searched for, else fresh at every step.

    n_restarts : int, default=1
        How often each input is attacked, until it succeeds.

    clip_range : tuple of two floats or None, default=(0.0, 1.0)
        Smallest and largest value of an input's coordinates. None is no limit; attacks that need
        one get the range of the inputs, three times as wide.

    n_votes : int, default=1000
        Draws by which an attacked input is judged, and as many by which it is confirmed.

    noise_seed : int or None, default=None
        Seed of all noise; None is that of the classifier.

    random_state : int, default=0
        Seed of what the attack itself draws, such as random starts.

    autocast : {"bfloat16", "float16"} or None, default=None
        Reduced precision of the passes that the attack makes, which is several times
        faster. Votes are those that are certified all the same.

    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    AttackResult
        One row per input.

    Raises
    ------
    ValueError
        If a parameter is out of range, or inputs lie outside the clip range.

    NotFittedError
        If the classifier is not fitted.

    TypeError
        If the attack needs gradients and the base has none.

    ImportError
        If foolbox is not installed.

    AttackError
        If some inputs could not be attacked. Its `result` holds the others'.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from randsmooth import SmoothedClassifier
    >>> from randsmooth.attacks import PGD, attack
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype("float32") / 16
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 10))
    >>> clf = SmoothedClassifier(net, sigma=0.25, random_state=0).fit(X, y)
    >>> result = attack(clf, X[:20], y[:20], PGD(n_steps=10), eps=1.0)
    >>> result.success.shape, bool((result.distance <= 1).all())
    ((20,), True)
    """
    asked, target = attack_method(method), victim(clf, X, noise_seed=noise_seed)
    run = AttackRun(
        target,
        target.inputs(X),
        y,
        asked,
        norm=norm,
        eps=eps,
        n_noise=n_noise,
        frozen=frozen,
        clip_range=clip_range,
        n_votes=n_votes,
        seed=random_state,
        autocast=autocast,
        verbose=verbose,
    )
    check_count("n_restarts", n_restarts)
    return run.result(n_restarts)
