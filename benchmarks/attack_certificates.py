"""How many certificates break when certified inputs are attacked inside their radius.

Certifies images of digits and of MNIST, in l2 under Gaussian and in l1 under Laplace noise, attacks
each inside its radius by gradients and along the decision boundary by votes, lets 100,000 fresh
votes decide what is predicted there, and writes a table to ``docs/results``::

    python benchmarks/attack_certificates.py --data-home DIR --cache DIR

At most alpha times the number of certificates may break. Inputs whose certificate does are kept
in the cache, with what broke it. A network is trained once and kept; ``--cases`` chooses what is
added.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.attacks import PGD, Boundary, attack
from randsmooth.datasets import fetch_mnist
from randsmooth.models import LeNet
from randsmooth.noise import Gaussian, Laplace, Noise
from randsmooth.training import GaussianAugmentation
from tables import add_row, read_rows, rest_table, write_page

NAME = "attack_certificates"
ALPHA = 0.001
SHARE = 0.99  # of the radius


class DenseNet(nn.Sequential):
    """Two layers for digits."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def digits(data_home: Path | None) -> tuple[np.ndarray, ...]:
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32) / 16
    return X[::2], y[::2], X[1::2], y[1::2]


def mnist(data_home: Path | None) -> tuple[np.ndarray, ...]:
    train = fetch_mnist(data_home=data_home, split="train", return_X_y=True)
    return (*train, *fetch_mnist(data_home=data_home, split="test", return_X_y=True))


@dataclass(frozen=True)
class Case:
    """A data set, its network and a noise."""

    load: Callable[[Path | None], tuple[np.ndarray, ...]]
    module: type[nn.Module]
    noise: Noise
    epochs: int
    n_inputs: int

    @property
    def norm(self) -> str:
        """The norm that is certified."""
        return self.noise.norm


CASES = {
    "digits, Gaussian": Case(digits, DenseNet, Gaussian(0.25), 60, 898),
    "digits, Laplace": Case(digits, DenseNet, Laplace(0.15), 60, 898),
    "MNIST, Gaussian": Case(mnist, LeNet, Gaussian(0.5), 4, 160),
    "MNIST, Laplace": Case(mnist, LeNet, Laplace(0.35), 4, 160),
}
ATTACKS = {"PGD, 100 steps": PGD(n_steps=100), "boundary": Boundary(n_steps=1000)}


@dataclass
class Row:
    """What came of one attack on one case."""

    case: str
    attack: str
    norm: str
    n_certified: int
    mean_radius: float
    inside: int
    broken: int
    median_distance: float
    minutes: float


def fitted(name: str, case: Case, X: np.ndarray, y: np.ndarray, cache: Path) -> SmoothedClassifier:
    """Return the case's network, trained under its noise, ready to be certified."""
    path = cache / f"{name.replace(', ', '_')}.pt"
    net = NeuralNetClassifier(
        case.module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=128,
        max_epochs=case.epochs,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
        callbacks=[GaussianAugmentation(noise=case.noise, random_state=0)],
    ).initialize()
    if path.exists():
        net.module_.load_state_dict(torch.load(path, weights_only=True))
    else:
        print(f"training {name}", flush=True)
        torch.manual_seed(0)
        net.fit(X, y)
        torch.save(net.module_.state_dict(), path)
    clf = SmoothedClassifier(FrozenEstimator(net), noise=case.noise, alpha=ALPHA, random_state=0)
    return clf.fit(X[:100], y[:100])


def predicted(clf: SmoothedClassifier, X: np.ndarray, n_votes: int) -> np.ndarray:
    """Return what that many votes, seen by nobody before, predict."""
    fresh = SmoothedClassifier(
        FrozenEstimator(clf.estimator_), noise=clf.noise_, n_selection=n_votes, random_state=12345
    )
    return fresh.fit(X[:10], clf.classes_[np.arange(10) % len(clf.classes_)]).predict(X)


def attacked(
    name: str, case: Case, method: str, data: tuple[np.ndarray, ...], args: argparse.Namespace
) -> Row:
    X, y, X_test, _ = data
    step = max(1, len(X_test) // case.n_inputs)
    X_test = X_test[::step][: case.n_inputs]
    clf = fitted(name, case, X, y, args.cache)
    record = clf.certificates(X_test)
    kept = ~record.abstained
    X_test, label, radius = X_test[kept], record.label[kept], record.radius[kept]
    started = time.perf_counter()
    minimal = ATTACKS[method].minimal
    # Minimal perturbations are searched for in l2, and measured in the norm of the certificate.
    result = attack(
        clf,
        X_test,
        label,
        ATTACKS[method],
        norm="l2" if minimal else case.norm,
        eps=None if minimal else SHARE * radius,
        n_noise=16 if minimal else 32,
        noise_seed=99,
        verbose=1,
    )
    order = {"l1": 1, "l2": 2}[case.norm]
    moved = (result.adversarial.astype(float) - X_test.astype(float)).reshape(len(X_test), -1)
    distance = np.linalg.norm(moved, order, axis=1)
    inside = distance < radius
    # What was found further out is drawn towards its input: every certificate is put to the test.
    factor = np.where(inside, 1.0, SHARE * radius / np.maximum(distance, 1e-12))
    tried = X_test + (factor[:, None] * moved).reshape(X_test.shape)
    changed = predicted(clf, tried.astype(np.float32), args.n_votes) != label
    if changed.any():
        np.savez(
            args.cache / f"broken_{name}_{method}.npz",
            inputs=X_test[changed],
            adversarial=tried[changed],
            label=label[changed],
            radius=radius[changed],
        )
    return Row(
        name,
        method,
        case.norm,
        len(X_test),
        float(radius.mean()),
        int(inside.sum()),
        int(changed.sum()),
        float(np.median(distance / radius)),
        (time.perf_counter() - started) / 60,
    )


def report(output: Path, n_votes: int) -> None:
    """Write the table from the rows that there are."""
    rows = [Row(**row) for row in read_rows(output / f"{NAME}.json").values()]
    cells = [
        [
            row.case,
            row.norm,
            row.attack,
            str(row.n_certified),
            f"{row.mean_radius:.3f}",
            f"{row.median_distance:.2f}",
            str(row.inside),
            str(row.broken),
            str(int(binom.isf(0.05, row.n_certified, ALPHA))),
            f"{row.minutes:.0f}",
        ]
        for row in rows
    ]
    total = sum(row.n_certified for row in rows)
    write_page(
        output / f"{NAME}.rst",
        "Certificates under attack",
        "Made by ``python benchmarks/attack_certificates.py --data-home DIR --cache DIR``. Every "
        f"certificate (alpha = {ALPHA}, 10,000 draws) is attacked on noise of its own: by PGD with "
        f"32 fresh draws a step inside {SHARE} of its radius, and along the decision boundary by "
        "the votes of 16 frozen draws, where the closest point found is measured in the norm of "
        f"the certificate. What was found further out is drawn in to {SHARE} of the radius, and "
        f"{n_votes:,} fresh votes decide about every point.",
        f"Of {total:,} attacks on certificates {sum(row.broken for row in rows)} changed a label "
        "inside its radius.",
        rest_table(
            [
                "case",
                "norm",
                "attack",
                "certified inputs",
                "mean radius",
                "median distance / radius",
                "found inside",
                "broken",
                "allowed (95 %)",
                "minutes",
            ],
            cells,
        ),
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="folder of networks")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--n-votes", type=int, default=100_000)
    parser.add_argument("--report-only", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    args.cache.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{NAME}.json"
    for name in () if args.report_only else args.cases:
        case = CASES[name]
        data: Any = None
        for method in args.attacks:
            key = f"{name}, {method}"
            if key in read_rows(path):
                continue
            data = case.load(args.data_home) if data is None else data
            row = attacked(name, case, method, data, args)
            add_row(path, key, asdict(row))
            print(row, flush=True)
    report(args.output, args.n_votes)


if __name__ == "__main__":
    main()
