"""What gradients of smoothed classifiers cost, and what an attack by votes takes.

Compares a gradient averaged over draws with loops of single-draw gradients through foolbox, side
by side on the network of Li et al. (2019), runs the boundary attack on 100 images of the MNIST
test set, and writes a table to ``docs/results``::

    python benchmarks/attack_cost.py --data-home DIR

Weights are random for the gradients, whose cost does not depend on them, and those of a short
training under noise for the boundary attack.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from measuring import Run, interleave, machine, ratios, spread, versions
from randsmooth import SmoothedClassifier
from randsmooth.attacks import Boundary, attack
from randsmooth.attacks.library import foolbox
from randsmooth.attacks.method import Question
from randsmooth.attacks.pgd import PGD
from randsmooth.attacks.smoothed_module import SmoothedModule
from randsmooth.attacks.victim import victim
from randsmooth.datasets import fetch_mnist
from randsmooth.models import LeNet, MNISTNet
from tables import rest_table, write_page

SIGMA, N_NOISE = 0.7, 32
NETS: tuple[type[nn.Module], ...] = (MNISTNet, LeNet)
N_INPUTS = (1, 4, 16, 64)
BOUNDARY_NOISE = 16


def frozen_classifier(net: nn.Module) -> SmoothedClassifier:
    clf = SmoothedClassifier(FrozenEstimator(net), SIGMA, random_state=0)
    return clf.fit(np.zeros((10, 1, 28, 28), np.float32), np.arange(10))


def single_draws(
    net: nn.Module, x: Tensor, y: Tensor, n_at_once: int, *, frozen_weights: bool
) -> Callable[[int], Tensor]:
    """Return a loop that asks foolbox for the gradient at one draw of some inputs after the other.

    The library asks for the gradients of the weights too, unless they are frozen beforehand.
    """
    from eagerpy import crossentropy, value_and_grad
    from eagerpy.astensor import astensor

    model = foolbox().PyTorchModel(net, bounds=(-10, 10), device="cpu")

    def gradient(rows: Tensor, labels: Tensor) -> Tensor:
        noisy = astensor(rows + SIGMA * torch.randn_like(rows))
        wanted = astensor(labels)
        return value_and_grad(lambda z: crossentropy(model(z), wanted).sum(), noisy)[1].raw

    def averaged(number: int) -> Tensor:
        net.requires_grad_(not frozen_weights)
        total = torch.zeros_like(x)
        for _ in range(N_NOISE):
            pairs = zip(x.split(n_at_once), y.split(n_at_once), strict=True)
            total += torch.cat([gradient(*pair) for pair in pairs])
        return total / N_NOISE

    return averaged


def all_draws(
    clf: SmoothedClassifier, x: Tensor, y: Tensor, autocast: str | None
) -> Callable[[int], Tensor]:
    """Return what a step of PGD does: the gradient of the average loss over fresh draws."""
    module = SmoothedModule(victim(clf), N_NOISE, frozen=False, average="loss", autocast=autocast)
    sizes = torch.ones(len(x), dtype=torch.float64)
    question = Question(module, x, y, "l2", sizes, (0.0, 1.0), x, 0)
    method = PGD(average="loss")
    return lambda number: method.ascent(question, x)


def gradients(rounds: int) -> list[list[str]]:
    """Return rows of the table: seconds of ours, and how many times more the loops take."""
    rows = []
    for kind in NETS:
        torch.manual_seed(0)
        net = kind().eval()
        clf = frozen_classifier(net)
        for n in N_INPUTS:
            x, y = torch.rand(n, 1, 28, 28), torch.arange(n) % 10
            ours = Run("float32", all_draws(clf, x, y, None))
            half = Run("bfloat16", all_draws(clf, x, y, "bfloat16"))
            loops = [
                Run("one", single_draws(net, x, y, 1, frozen_weights=False)),
                Run("batched", single_draws(net, x, y, n, frozen_weights=False)),
                Run("frozen", single_draws(net, x, y, n, frozen_weights=True)),
            ]
            runs = [ours, half, *loops]
            for run in runs:
                run(0)
            interleave(runs, rounds)
            against = [ratios(loop.cpu, mine.cpu) for mine in (ours, half) for loop in loops]
            row = [kind.__name__, str(n), spread(ours.cpu), *against]
            print(row, flush=True)
            rows.append(row)
    return rows


def boundary(data_home: Path | None, n_images: int) -> str:
    """Return what the boundary attack on a trained network took."""
    X, y = fetch_mnist(data_home=data_home, split="train", return_X_y=True)
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        MNISTNet,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=64,
        max_epochs=2,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )
    clf = SmoothedClassifier(
        net, SIGMA, training="augmentation", autocast="bfloat16", random_state=0
    )
    clf.fit(X[:2000], y[:2000])
    X, y = fetch_mnist(data_home=data_home, split="test", return_X_y=True)
    X, y = X[:n_images], y[:n_images]
    method = Boundary()
    cpu, wall = time.process_time(), time.perf_counter()
    result = attack(clf, X, y, method, n_noise=BOUNDARY_NOISE, n_votes=300, verbose=1)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return (
        f"{method.n_steps:,} steps of the boundary attack on {n_images} test images, by the votes "
        f"of {BOUNDARY_NOISE} frozen draws in bfloat16, took {wall / 60:.1f} minutes "
        f"({cpu / 60:.1f} of one processor). Another class was confirmed for "
        f"{100 * result.success.mean():.0f} % of them, at a median l2 distance of "
        f"{np.median(result.distance[result.success]):.2f}."
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--n-images", type=int, default=100)
    return parser.parse_args()


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    rows = gradients(args.rounds)
    write_page(
        args.output / "attack_cost.rst",
        "What attacks cost",
        "Made by ``python benchmarks/attack_cost.py --data-home DIR``. "
        f"{machine()}, one thread; {versions('torch', 'foolbox', 'numpy')}.",
        f"The gradient of the average loss over {N_NOISE} fresh draws: seconds of processor time "
        "in single precision, and how many times more a loop through foolbox takes (in the last "
        "three columns, how many times more than with ``autocast='bfloat16'``). The loop goes "
        "over the draws of one input after the other (*single*), or over draws with inputs "
        "batched (*batched*), as the library comes: it asks for the gradients of the weights too. "
        "In the columns called *frozen* its user has frozen them, and inputs are batched. Median "
        f"and quartiles of {args.rounds} rounds. With many inputs a batched loop is bound by "
        "arithmetic, and what is left to save is that of the weights and of the precision.",
        rest_table(
            [
                *("network", "inputs", "float32, s"),
                *("single", "batched", "frozen"),
                *("single, bf16", "batched, bf16", "frozen, bf16"),
            ],
            rows,
        ),
        boundary(args.data_home, args.n_images),
    )


if __name__ == "__main__":
    main()
