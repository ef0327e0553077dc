"""What the start, the steps and the samples of distributional training's ascent are worth.

Two small nets are trained on scikit-learn's digits, one on clean images and one against PGD, and
the worst distribution of every test image is searched for with several settings::

    python benchmarks/adt_initial_std.py
"""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from randsmooth.training.adversarial import AdversarialTraining
from randsmooth.training.adversarial_distributional import AdversarialDistributionalTraining
from randsmooth.training.strategy import TrainingStrategy
from tables import rest_table, write_page

EPS, N_TRAINING, N_REPEATS = 0.1, 1200, 5
STARTS = {"ln 2": math.log(2), "0.1": 0.1, "0.01": 0.01}
STEPS, SAMPLES, WEIGHTS = (7, 20), (1, 5), (0.0, 0.01)


class DigitsNet(nn.Sequential):
    """Two hidden layers."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )


def trained_net(strategy: TrainingStrategy | None, X: Any, y: Any) -> NeuralNetClassifier:
    torch.manual_seed(0)
    return NeuralNetClassifier(
        DigitsNet,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-3,
        max_epochs=20,
        batch_size=100,
        callbacks=[] if strategy is None else [strategy],
        train_split=None,
        verbose=0,
    ).fit(X, y)


def attacked(
    net: NeuralNetClassifier, strategy: TrainingStrategy, x: Tensor, targets: Tensor
) -> tuple[float, float, float]:
    """Return the mean loss and the accuracy at fresh rows, and the spread of their distribution."""
    strategy.on_train_begin(net)
    losses, correct, spreads = [], [], []
    for _ in range(N_REPEATS):
        rows = strategy.prepare(net, x, targets)
        with torch.no_grad():
            logits = net.module_(rows)
        losses.append(nn.functional.cross_entropy(logits, targets).item())
        correct.append((logits.argmax(1) == targets).float().mean().item())
        if isinstance(strategy, AdversarialDistributionalTraining):
            normal = torch.randn(
                (200, *x.shape), generator=torch.Generator().manual_seed(0), dtype=x.dtype
            )
            drawn = strategy.worst_.perturbations(normal) / EPS
            spreads.append(drawn.std(dim=0).mean().item())
    strategy.on_train_end(net)
    return (
        float(np.mean(losses)),
        float(np.mean(correct)),
        float(np.mean(spreads)) if spreads else 0.0,
    )


def study(net: NeuralNetClassifier, x: Tensor, targets: Tensor) -> str:
    net.module_.eval()
    with torch.no_grad():
        logits = net.module_(x)
    clean = nn.functional.cross_entropy(logits, targets).item()
    accuracy = (logits.argmax(1) == targets).float().mean().item()
    rows = [["none (clean images)", "", "", "", f"{clean:.3f}", f"{accuracy:.3f}", "", "0"]]
    for n_steps in STEPS:
        strategy = AdversarialTraining(EPS, n_steps=n_steps, random_state=0)
        loss, accuracy, _ = attacked(net, strategy, x, targets)
        rows.append(
            ["PGD", "", str(n_steps), "", f"{loss:.3f}", f"{accuracy:.3f}", "", str(n_steps)]
        )
    settings = [
        *product([False], WEIGHTS, STEPS[:1], SAMPLES, STARTS),
        *product([True], WEIGHTS, STEPS, SAMPLES, STARTS),
    ]
    for within_range, weight, n_steps, n_samples, start in settings:
        strategy = AdversarialDistributionalTraining(
            "exp",
            EPS,
            entropy_weight=weight,
            n_steps=n_steps,
            n_samples=n_samples,
            initial_std=STARTS[start],
            within_range=within_range,
            random_state=0,
        )
        loss, accuracy, spread = attacked(net, strategy, x, targets)
        rows.append(
            [
                f"exp, entropy weight {weight:g}{'' if within_range else ', clipped'}",
                start,
                str(n_steps),
                str(n_samples),
                f"{loss:.3f}",
                f"{accuracy:.3f}",
                f"{spread:.3f}",
                str(n_steps * n_samples),
            ]
        )
    header = [
        "attack",
        "initial_std",
        "n_steps",
        "n_samples",
        "mean loss",
        "accuracy",
        "std of delta / eps",
        "passes a row",
    ]
    return rest_table(header, rows)


def main() -> None:
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    x, targets = torch.from_numpy(X[N_TRAINING:]), torch.from_numpy(y[N_TRAINING:])
    plain = trained_net(None, X[:N_TRAINING], y[:N_TRAINING])
    robust = trained_net(AdversarialTraining(EPS, random_state=0), X[:N_TRAINING], y[:N_TRAINING])
    write_page(
        Path("docs/results/adt_initial_std.rst"),
        "Where distributional training starts its ascent",
        "Made by ``python benchmarks/adt_initial_std.py``: scikit-learn's digits, "
        f"{len(x)} test images, a net of two hidden layers of 64, l-infinity {EPS:g}. The ascent "
        'of ``AdversarialDistributionalTraining("exp")`` searches for the worst distribution of '
        f"each image; loss and accuracy are those of one fresh sample an image, over {N_REPEATS} "
        "searches. PGD stands beside, from a random point of the ball. A pass is one forward and "
        "backward pass of one image. Published: ln 2, 7 steps, 5 samples, entropy weight 0.01, the "
        "whole ball clipped to the range of the pixels.",
        "**A net trained on clean images**",
        study(plain, x, targets),
        f"**The same net trained against PGD** (l-infinity {EPS:g}, ten steps)",
        study(robust, x, targets),
    )


if __name__ == "__main__":
    main()
