"""Figure 1 (left) and Table 1 of Li et al. (2019), on all of MNIST."""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler

from randsmooth.models import MNISTNet
from randsmooth.noise import Gaussian
from randsmooth.training import GaussianAugmentation, StabilityTraining


def read(path):
    raw = gzip.open(path).read()
    return raw


def strategy(method, sigma, gamma, seed):
    if method == "stability":
        return [("smoothing", StabilityTraining(gamma, noise=Gaussian(sigma), random_state=seed))]
    if method == "augmentation":
        return [("smoothing", GaussianAugmentation(noise=Gaussian(sigma), random_state=seed))]
    return []


def train(method, sigma, X, y, *, epochs, gamma, seed):
    torch.manual_seed(seed)
    batches = epochs * -(-len(X) // 128)
    net = NeuralNetClassifier(
        MNISTNet,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=128,
        max_epochs=epochs,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[
            *strategy(method, sigma, gamma, seed),
            ("lr", LRScheduler("CosineAnnealingLR", T_max=batches, step_every="batch")),
        ],
    )
    return net.fit(X, y)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--method")
    p.add_argument("--sigma", type=float, default=0.7)
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument("--gamma", type=float, default=2.0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--limit", type=int, default=60000)
    p.add_argument("--cache", type=Path, required=True)
    a = p.parse_args()
    torch.set_num_threads(1)
    d = Path("/work/shared/data/mnist")
    X = np.frombuffer(read(d / "train-images-idx3-ubyte.gz"), np.uint8, offset=16)
    X = X.reshape(-1, 1, 28, 28).astype(np.float32) / 255
    y = np.frombuffer(read(d / "train-labels-idx1-ubyte.gz"), np.uint8, offset=8).astype(np.int64)
    X, y = X[: a.limit], y[: a.limit]
    net = train(a.method, a.sigma, X, y, epochs=a.epochs, gamma=a.gamma, seed=a.seed)
    name = f"mnist_{a.method}_{a.sigma:g}_e{a.epochs}_g{a.gamma:g}_s{a.seed}"
    torch.save(net.module_.state_dict(), a.cache / f"{name}.pt")
    print(name, "done", net.history[:, "dur"], flush=True)
