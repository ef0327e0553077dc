"""Robust accuracy under attack of the networks of Li et al. (2019), as in their figures 3 and 4.

Trains the paper's network with stability training, plainly, adversarially and by TRADES, attacks
all of them with the paper's settings and with stronger ones, certifies the smoothed one, asks
whether its gradients are masked, and writes tables and figures to ``docs/results``::

    python benchmarks/reproduce_stn_attacks.py --data-home DIR --cache DIR
    python benchmarks/reproduce_stn_attacks.py --dataset cifar10 --data-home DIR --cache DIR

Networks and what attacks found are kept in the cache after every size, so that an interrupted run
goes on. ``--parts`` and ``--norms`` choose what is added; ``--report-only`` draws what there is.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reproduce_stn_mnist import Run, load, trained, untrained
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier

from randsmooth import RobustAccuracyDisplay, SmoothedClassifier
from randsmooth.attacks import (
    PGD,
    AttackMethod,
    CarliniWagner,
    RobustAccuracyCurve,
    Transfer,
    gradient_masking_report,
    robust_accuracy_curve,
)
from randsmooth.training import TRADES, AdversarialTraining
from tables import rest_table, write_page

ALPHA = 0.05
BASELINES = ("adversarial training", "TRADES")
PARTS = ("published", "strong", "baselines", "sigmas", "masking")
SETTINGS = {"published": {"n_noise": 10, "n_votes": 10}, "strong": {"n_noise": 16, "n_votes": 100}}


@dataclass(frozen=True)
class Experiment:
    """What differs between the paper's two data sets."""

    sigma: float
    sigmas: tuple[float, ...]  # 0 is the plain network without noise
    sizes: dict[str, tuple[float, ...]]
    eps: float  # of adversarial training, l-infinity
    beta: float  # of TRADES
    masking_eps: float


EXPERIMENTS = {
    "mnist": Experiment(
        0.7,
        (0.0, 0.25, 0.7, 1.0),
        {
            "l2": tuple(np.arange(0, 4.01, 0.5).tolist()),
            "linf": tuple(np.round(np.arange(0, 0.51, 0.1), 1).tolist()),
        },
        0.3,
        1.0,
        2.0,
    ),
    "cifar10": Experiment(
        100 / 255,
        (0.0, 25 / 255, 100 / 255),
        {
            "l2": tuple(np.round(np.arange(0, 1.41, 0.2), 1).tolist()),
            "linf": tuple((np.arange(0, 21, 2) / 255).tolist()),
        },
        8 / 255,
        6.0,
        0.6,
    ),
}


def published(norm: str) -> dict[str, AttackMethod]:
    """Return the paper's attack: 20 steps, no random start; in l2 on the margin."""
    if norm == "l2":
        method = PGD(n_steps=20, random_start=False, loss="margin", average="loss")
    else:
        method = PGD(n_steps=20, relative_step_size=0.1, random_start=False, average="loss")
    return {"as published": method}


def strong(norm: str, sources: dict[str, Any]) -> dict[str, AttackMethod]:
    """Return more steps, in l2 on either loss, the smallest perturbation, and what carries over."""
    attacks: dict[str, AttackMethod] = {"PGD": PGD(n_steps=40)}
    if norm == "l2":
        attacks["PGD, margin"] = PGD(n_steps=40, loss="margin")
        attacks["Carlini-Wagner"] = CarliniWagner(
            n_searches=3, n_steps=60, step_size=0.15, confidence=1.0, initial_const=10.0
        )
    carried = {f"from {name}": Transfer(net, PGD(n_steps=40)) for name, net in sources.items()}
    return {**attacks, **carried}


def network(
    method: str, sigma: float, args: argparse.Namespace, experiment: Experiment
) -> NeuralNetClassifier:
    """Return a trained network, from the cache where it is there."""
    if method in ("stability", "plain"):
        run = Run(args.dataset, method, sigma or experiment.sigma, args.epochs, 2.0, 1.0, 0)
        return trained(run, args.data_home, args.cache, args.device, None)
    warm_up = args.baseline_epochs - 1
    settings = {"eps": experiment.eps, "n_steps": 5, "warm_up": warm_up, "random_state": 0}
    strategies = {
        "adversarial training": AdversarialTraining(**settings),
        "TRADES": TRADES(experiment.beta, **settings),
    }
    run = Run(args.dataset, "plain", experiment.sigma, args.baseline_epochs, 2.0, 1.0, 0)
    name = method.partition(" ")[0].lower()
    path = args.cache / f"{args.dataset}_{name}_e{args.baseline_epochs}_n{args.baseline_images}.pt"
    if path.exists():
        net = untrained(run, 1, args.device).initialize()
        net.module_.load_state_dict(torch.load(path, map_location=args.device, weights_only=True))
        return net
    X, y = load(args.dataset, "train", args.data_home)
    X, y = X[: args.baseline_images], y[: args.baseline_images]
    print(f"training {path.stem}", flush=True)
    torch.manual_seed(0)
    net = untrained(run, -(-len(X) // 128), args.device)
    net.set_params(callbacks=[("strategy", strategies[method]), *net.callbacks])
    # From scratch, and at the full rate, attacks of this size leave the loss at that of guessing.
    net.set_params(lr=3e-4)
    plain = network("plain", 0.0, args, experiment)
    net.initialize().module_.load_state_dict(plain.module_.state_dict())
    net.partial_fit(X, y)
    torch.save(net.module_.state_dict(), path)
    return net


def smoothed(
    net: NeuralNetClassifier, sigma: float, args: argparse.Namespace, X: Any, y: Any
) -> SmoothedClassifier:
    clf = SmoothedClassifier(
        FrozenEstimator(net),
        sigma,
        n_estimation=args.n_estimation,
        alpha=ALPHA,
        autocast=args.autocast,
        random_state=0,
    )
    return clf.fit(X, y)


class Study:
    """The curves of one data set, each made once and kept."""

    def __init__(self, args: argparse.Namespace, X: np.ndarray, y: np.ndarray) -> None:
        self.args, self.X, self.y = args, X, y
        self.experiment = EXPERIMENTS[args.dataset]
        self.curves: dict[tuple[str, str, str], RobustAccuracyCurve] = {}
        self.masking = ""
        self.nets: dict[tuple[str, float], Any] = {}

    def path(self, name: str, norm: str, setting: str) -> Path:
        stem = f"attacks_{self.args.dataset}_{name}_{norm}_{setting}_n{len(self.X)}"
        return self.args.cache / f"{stem.replace(' ', '_')}.npz"

    def curve(
        self, name: str, clf: Any, attacks: dict[str, AttackMethod], norm: str, setting: str
    ) -> None:
        path, started = self.path(name, norm, setting), time.perf_counter()
        if not self.args.report_only:
            self.curves[name, norm, setting] = robust_accuracy_curve(
                clf,
                self.X,
                self.y,
                attacks,
                self.experiment.sizes[norm],
                norm,
                path=path,
                autocast=self.args.autocast,
                verbose=1,
                **SETTINGS[setting],
            )
            print(f"{name}, {norm}, {setting}: {time.perf_counter() - started:.0f} s", flush=True)
        elif path.exists():
            self.curves[name, norm, setting] = RobustAccuracyCurve.load(path)

    def net(self, method: str, sigma: float = 0.0) -> Any:
        """Return a network, trained once; none where only what there is is to be drawn."""
        key = (method, sigma)
        if key not in self.nets and not self.args.report_only:
            self.nets[key] = network(method, sigma, self.args, self.experiment)
        return self.nets.get(key)

    def stn(self, sigma: float) -> Any:
        """Return the smoothed network."""
        if self.args.report_only:
            return None
        return smoothed(self.net("stability", sigma), sigma, self.args, self.X, self.y)

    def run(self, parts: list[str]) -> None:
        """Make what is asked for; without networks, what the cache holds."""
        for norm in self.args.norms:
            self.in_norm(norm, parts)
        if "sigmas" in parts:
            for sigma in self.experiment.sigmas:
                clf = self.net("plain") if sigma == 0 else self.stn(sigma)
                name = f"sigma = {sigma:.3g}"
                self.curve(name, clf, {"PGD": PGD(n_steps=20)}, "l2", "strong")
        if "masking" in parts:
            sigma = self.experiment.sigma
            self.masking = self._masking(self.stn(sigma), self.net("plain"))

    def in_norm(self, norm: str, parts: list[str]) -> None:
        """Attack in one norm."""
        stn = self.stn(self.experiment.sigma)
        if "published" in parts:
            self.curve("STN", stn, published(norm), norm, "published")
        if "strong" in parts:
            sources = {
                "a plain net": self.net("plain"),
                "an adversarial one": self.net(BASELINES[0]),
            }
            self.curve("STN", stn, strong(norm, sources), norm, "strong")
        if "baselines" in parts:
            for method in ("plain", *BASELINES):
                self.curve(method, self.net(method), strong(norm, {}), norm, "strong")

    def _masking(self, clf: Any, plain: Any) -> str:
        path = self.args.cache / f"masking_{self.args.dataset}_n{len(self.X)}.txt"
        if not path.exists() and not self.args.report_only:
            report = gradient_masking_report(
                clf,
                self.X[:100],
                self.y[:100],
                self.experiment.masking_eps,
                source=plain,
                method=PGD(n_steps=20),
                n_noise=16,
                n_votes=300,
            )
            path.write_text(f"{report}\n")
        return path.read_text() if path.exists() else ""


def figures(study: Study, output: Path) -> list[str]:
    """Draw the paper's figures from what there is, and return their names."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    dataset, names = study.args.dataset, []
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained", squeeze=False)
    for ax, norm in zip(axes[0], ("l2", "linf"), strict=True):
        shown = study.curves.get(("STN", norm, "strong"))
        if shown is not None:
            RobustAccuracyDisplay.from_curve(shown, ax=ax)
        for name, marker in zip(("plain", *BASELINES), "sv^", strict=True):
            beside = study.curves.get((name, norm, "strong"))
            if beside is not None:
                style = {"color": "0.4", "linestyle": ":", "marker": marker, "markersize": 4}
                ax.plot(beside.sizes, beside.robust_accuracy(), label=name, **style)
        ax.legend(fontsize=8, frameon=False)
    names.append(f"stn_attacks_{dataset}.png")
    fig.savefig(output / names[-1], dpi=110)
    plt.close(fig)
    sigmas = {n: c for (n, norm, _), c in study.curves.items() if n.startswith("sigma")}
    if sigmas:
        display = RobustAccuracyDisplay.from_curve(sigmas)
        names.append(f"stn_attacks_{dataset}_sigmas.png")
        display.figure_.savefig(output / names[-1], dpi=110)
        plt.close("all")
    return names


def percents(values: np.ndarray) -> list[str]:
    return [f"{100 * value:.1f}" for value in values]


def tables(study: Study) -> list[str]:
    parts = []
    for norm in ("l2", "linf"):
        rows = []
        for (name, of, setting), curve in study.curves.items():
            if of != norm:
                continue
            for attack in curve.names:
                label = f"{name} ({setting})" if name == "STN" else name
                rows.append([label, attack, *percents(curve.robust_accuracy(attack))])
            if curve.certified_radius.any():
                rows.append([name, "certified", *percents(curve.certified_accuracy())])
            rows[-1][1] += f"; {len(curve.broken())} broken" if rows[-1][1] == "certified" else ""
        if rows:
            sizes = [f"{size:.3g}" for size in study.experiment.sizes[norm]]
            title = {"l2": "l2", "linf": "l-infinity"}[norm]
            heading = f"Robust accuracy in per cent, {title}"
            parts += [
                f"{heading}\n{'-' * len(heading)}",
                rest_table(["network", "attack", *sizes], rows),
            ]
    return parts


def report(study: Study, output: Path) -> None:
    """Write the page from what there is."""
    output.mkdir(parents=True, exist_ok=True)
    dataset, args = study.args.dataset, study.args
    images = [f".. image:: {name}\n   :alt: Robust accuracy" for name in figures(study, output)]
    masked = (
        [
            "Are gradients masked?\n---------------------",
            "::\n\n    " + "\n    ".join(study.masking.splitlines()),
        ]
        if study.masking
        else []
    )
    command = "python benchmarks/reproduce_stn_attacks.py" + (
        "" if dataset == "mnist" else f" --dataset {dataset}"
    )
    command += f" --autocast {args.autocast}" if args.autocast else ""
    write_page(
        output / f"stn_attacks_{dataset}.rst",
        f"Attacks on stability training, {'MNIST' if dataset == 'mnist' else 'CIFAR-10'}",
        f"Made by ``{command} --data-home DIR --cache DIR``. {len(study.X)} evenly spaced test "
        f"images, sigma = {study.experiment.sigma:.2g}; {args.epochs} epochs of stability and "
        f"plain training, {args.baseline_epochs} on {args.baseline_images:,} images of "
        f"adversarial training and TRADES (l-infinity, {study.experiment.eps:.3g}, 5 steps), which "
        "go on from the plain network. As published: 20 steps that average over 10 draws, judged "
        "by 10 votes, by which an input may be wrong that more votes would get right. Strong: 40 "
        "steps over 16 draws, judged and confirmed by 100 votes each; what Carlini-Wagner finds is "
        "judged along its ray at each size. "
        f"Passes are made in {args.autocast or 'float32'}. Attacks on the network itself are "
        f"solid, those carried over dashed, the certificate (alpha = {ALPHA}, "
        f"{args.n_estimation:,} draws) is filled, other networks dotted.",
        *images,
        *tables(study),
        *masked,
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=EXPERIMENTS, default="mnist")
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="folder of networks and curves")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--norms", nargs="+", choices=("l2", "linf"), default=["l2", "linf"])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--baseline-epochs", type=int, default=5)
    parser.add_argument("--baseline-images", type=int, default=10_000)
    parser.add_argument("--n-test", type=int, default=300)
    parser.add_argument("--n-estimation", type=int, default=1000)
    parser.add_argument("--autocast", choices=("bfloat16",), default=None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--report-only", action="store_true")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    args.cache.mkdir(parents=True, exist_ok=True)
    X, y = load(args.dataset, "test", args.data_home)
    step = len(X) // args.n_test
    study = Study(args, X[::step][: args.n_test], y[::step][: args.n_test])
    study.run(args.parts)
    report(study, args.output)


if __name__ == "__main__":
    main()
