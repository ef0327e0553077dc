"""Train a small convolutional net on digits, certify it, and draw what is proved.

With and without stability training, the certified accuracy of 200 held-out images is printed at
several radii under three bounds, all from the same votes, and the curves are drawn into a figure.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from randsmooth import Certificates, CertifiedAccuracyDisplay, SmoothedClassifier

mpl.use("Agg")
import matplotlib.pyplot as plt

SIGMA = 0.5
RADII = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
BOUNDS = {
    "neyman_pearson": "Neyman-Pearson",
    "renyi": "Rényi (Li et al. 2019)",
    "pixeldp": "PixelDP",
}
TRAININGS = {"stability": "with stability training", None: "without"}


def network() -> nn.Module:
    """Return a small convolutional net for 8 x 8 images, with logits for ten digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def certify(training: str | None) -> tuple[Certificates, np.ndarray]:
    """Return the certificates of 200 held-out digits, and their true labels."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(
        images, digits.target, test_size=200, stratify=digits.target, random_state=0
    )
    clf = SmoothedClassifier(
        network(), SIGMA, training=training, alpha=0.001, random_state=0, n_jobs=2, verbose=1
    )
    clf.fit(X_train, y_train)
    return clf.certificates(X_test), y_test


def print_table(records: dict[str, Certificates], y: np.ndarray) -> None:
    """Print the certified accuracy at each radius, one line per training and bound."""
    print(f"\nCertified accuracy of {len(y)} images, sigma = {SIGMA}, in l2, alpha = 0.001")
    print(f"{'training':<26}{'bound':<24}" + "".join(f"r={r:<7g}" for r in RADII))
    for training, record in records.items():
        for bound, title in BOUNDS.items():
            accuracy = record.with_bound(bound).certified_accuracy(y, RADII)
            print(f"{training:<26}{title:<24}" + "".join(f"{a:<9.3f}" for a in accuracy))


def draw(records: dict[str, Certificates], y: np.ndarray, path: Path) -> None:
    """Draw one panel per training, one curve per bound."""
    figure, axes = plt.subplots(
        1, 2, figsize=(11, 4.2), sharex=True, sharey=True, layout="constrained"
    )
    for ax, (training, record) in zip(axes, records.items(), strict=True):
        for bound, title in BOUNDS.items():
            CertifiedAccuracyDisplay.from_certificates(
                record.with_bound(bound), y, name=title, ax=ax, show_band=bound == "neyman_pearson"
            )
        ax.set_title(training.capitalize())
    axes[0].set_xlim(0, max(record.radius.max() for record in records.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder of the figure"
    )
    path = parser.parse_args().output / "certified_accuracy.png"
    started, records = time.perf_counter(), {}
    for training, title in TRAININGS.items():
        print(f"\nTraining a convolutional net on digits {title} ...", flush=True)
        records[title], y = certify(training)
    print_table(records, y)
    draw(records, y, path)
    print(f"\nThe curves are in {path.resolve()}  ({time.perf_counter() - started:.0f} s in all)")


if __name__ == "__main__":
    main()
