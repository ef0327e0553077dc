"""Denoised smoothing on MNIST: one network that never saw noise, bare and behind a denoiser.

Trains a LeNet on clean images, a small denoiser for the noise, and a LeNet on noisy images for
comparison; certifies the same test images with each and writes
``docs/results/denoised_mnist.rst``::

    python benchmarks/denoised_mnist.py --data-home DIR --cache DIR

Networks and votes are kept in the cache, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from randsmooth import Certificates, SmoothedClassifier
from randsmooth.datasets import fetch_mnist
from randsmooth.denoised import DenoisedClassifier
from randsmooth.models import LeNet
from randsmooth.models.denoiser import DnCNN
from randsmooth.noise import Gaussian
from randsmooth.training import GaussianAugmentation
from tables import rest_table, write_page

RADII = (0.0, 0.5, 1.0)
BATCH_SIZE = 128
ALPHA = 0.001


def settings(epochs: int, n_batches: int, noise: Gaussian | None) -> dict[str, object]:
    """Return what the three trainings share: Adam, a rate that falls to zero, fresh noise."""
    schedule = LRScheduler("CosineAnnealingLR", T_max=epochs * n_batches, step_every="batch")
    augmentation = [] if noise is None else [GaussianAugmentation(noise=noise, random_state=0)]
    return {
        "optimizer": torch.optim.Adam,
        "lr": 1e-3,
        "batch_size": BATCH_SIZE,
        "max_epochs": epochs,
        "train_split": None,
        "iterator_train__shuffle": True,
        "callbacks": [*augmentation, ("lr", schedule)],
    }


def trained(net: NeuralNet, X: np.ndarray, y: np.ndarray, path: Path) -> tuple[nn.Module, float]:
    """Return the net's module and the seconds that its training took, from the cache if there."""
    if path.exists():
        kept = torch.load(path, weights_only=True)
        net.initialize().module_.load_state_dict(kept["weights"])
        return net.module_, kept["seconds"]
    print(f"training {path.stem}", flush=True)
    torch.manual_seed(0)
    started = time.perf_counter()
    net.fit(X, y)
    seconds = time.perf_counter() - started
    torch.save({"weights": net.module_.state_dict(), "seconds": seconds}, path)
    return net.module_, seconds


def certified(
    module: nn.Module, sigma: float, X: np.ndarray, y: np.ndarray, n: int, path: Path
) -> Certificates:
    """Return the record of the test images, from the cache if there."""
    if not path.exists():
        print(f"certifying {path.stem}", flush=True)
        clf = SmoothedClassifier(
            FrozenEstimator(module), sigma, n_estimation=n, alpha=ALPHA, random_state=0
        )
        clf.fit(X, y).certificates(X, radii=RADII).save(path)
    return Certificates.load(path)


def clean_accuracy(module: nn.Module, X: np.ndarray, y: np.ndarray) -> float:
    module.eval()
    with torch.inference_mode():
        labels = [module(rows).argmax(dim=1) for rows in torch.from_numpy(X).split(BATCH_SIZE)]
    return float(np.mean(torch.cat(labels).numpy() == y))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-home", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="folder of networks and votes")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=1, help="of the denoiser")
    parser.add_argument("--base-epochs", type=int, default=2, help="of either LeNet")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--n-test", type=int, default=200)
    parser.add_argument("--n-estimation", type=int, default=2000, help="most draws")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    args.cache.mkdir(parents=True, exist_ok=True)
    X, y = fetch_mnist(data_home=args.data_home, split="train", return_X_y=True)
    X_test, y_test = fetch_mnist(data_home=args.data_home, split="test", return_X_y=True)
    step = len(X_test) // args.n_test
    X_few, y_few = X_test[::step][: args.n_test], y_test[::step][: args.n_test]
    n_batches, noise = -(-len(X) // BATCH_SIZE), Gaussian(args.sigma)
    base_settings = {"criterion": nn.CrossEntropyLoss}
    at = f"{args.sigma:g}"

    plain, plain_seconds = trained(
        NeuralNetClassifier(LeNet, **base_settings, **settings(args.base_epochs, n_batches, None)),
        X,
        y,
        args.cache / f"denoised_plain_e{args.base_epochs}.pt",
    )
    denoiser, denoiser_seconds = trained(
        NeuralNetRegressor(
            DnCNN,
            module__width=args.width,
            module__depth=args.depth,
            **settings(args.epochs, n_batches, noise),
        ),
        X,
        X,
        args.cache / f"denoised_dncnn_{at}_w{args.width}_d{args.depth}_e{args.epochs}.pt",
    )
    noisy, noisy_seconds = trained(
        NeuralNetClassifier(LeNet, **base_settings, **settings(args.base_epochs, n_batches, noise)),
        X,
        y,
        args.cache / f"denoised_augmented_{at}_e{args.base_epochs}.pt",
    )
    size = f"w{args.width}_d{args.depth}_e{args.epochs}"
    modules = {
        "LeNet, clean images": (plain, plain_seconds, "plain"),
        "the same behind the denoiser": (
            DenoisedClassifier(denoiser, plain),
            plain_seconds + denoiser_seconds,
            f"behind_{size}",
        ),
        "LeNet, noisy images": (noisy, noisy_seconds, "augmented"),
    }
    rows = []
    for name, (module, seconds, kind) in modules.items():
        path = (
            args.cache
            / f"denoised_{kind}_b{args.base_epochs}_{at}_{args.n_test}_r{args.n_estimation}.npz"
        )
        record = certified(module, args.sigma, X_few, y_few, args.n_estimation, path)
        accuracy = [clean_accuracy(module, X_test, y_test)]
        accuracy += list(record.certified_accuracy(y_few, RADII))
        shown = [f"{100 * share:.1f}" for share in accuracy]
        rows.append([name, f"{seconds:.0f}", *shown, f"{record.n_draws.mean():.0f}"])

    n_weights = sum(p.numel() for p in denoiser.parameters())
    epochs = "1 epoch" if args.epochs == 1 else f"{args.epochs} epochs"
    write_page(
        args.output / "denoised_mnist.rst",
        "A denoiser in front of a network that never saw noise",
        "Made by ``python benchmarks/denoised_mnist.py``. A LeNet is trained on clean MNIST images "
        f"for {args.base_epochs} epochs. `randsmooth.models.denoiser.DnCNN` of depth {args.depth} "
        f"and width {args.width} ({n_weights:,} weights) is trained for {epochs} to undo "
        f"Gaussian noise of sigma {at}, by mean squared error, and never sees the LeNet, which is "
        "not touched. For comparison a LeNet is trained on noisy images, for as many epochs as "
        "the clean one.",
        f"{len(y_few)} evenly spaced test images; 100 selection draws, at most "
        f"{args.n_estimation:,} estimation draws, drawn sequentially until every radius is "
        f"decided, alpha = {ALPHA}; certified accuracy in per cent. "
        "Without noise: accuracy of the network itself on the 10,000 clean test images. Seconds "
        "are those of all the training, by the clock, on a machine with other work to do.",
        rest_table(
            [
                "network",
                "seconds",
                "without noise",
                *[f"r = {radius:g}" for radius in RADII],
                "draws an image",
            ],
            rows,
        ),
    )


if __name__ == "__main__":
    main()
