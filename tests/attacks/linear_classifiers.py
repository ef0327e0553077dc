"""Linear classifiers, whose smoothed decision is theirs: the distance to it is known exactly."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.noise import Gaussian, Laplace, Noise

N_FEATURES = 12
DUAL = {"l1": np.inf, "l2": 2, "linf": 1}


def linear_net(seed: int = 0, scale: float = 3.0) -> nn.Module:
    """Two classes: the sign of w.(x - 1/2)."""
    w = scale * np.random.default_rng(seed).standard_normal(N_FEATURES).astype(np.float32)
    net = nn.Linear(N_FEATURES, 2)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(np.stack([-w, w]) / 2))
        net.bias.copy_(torch.tensor([w.sum() / 4, -w.sum() / 4]))
    return net.eval()


def inputs(n: int = 40, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 0.8, (n, N_FEATURES)).astype(np.float32)


def smoothed(net: nn.Module, noise: Noise | None = None, seed: int = 0) -> SmoothedClassifier:
    noise = Gaussian(0.1) if noise is None else noise
    clf = SmoothedClassifier(FrozenEstimator(net), noise=noise, random_state=seed, alpha=0.01)
    return clf.fit(np.zeros((2, N_FEATURES), dtype=np.float32), [0, 1])


def labels(net: nn.Module, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(X)).argmax(1).numpy()


def distances(net: nn.Module, X: np.ndarray, norm: str) -> np.ndarray:
    """Distance of each input to the plane, without limits to its coordinates."""
    w = (net.weight[1] - net.weight[0]).detach().double().numpy()
    b = (net.bias[1] - net.bias[0]).item()
    return np.abs(X.astype(float) @ w + b) / np.linalg.norm(w, DUAL[norm])


LAPLACE = Laplace(0.1)
