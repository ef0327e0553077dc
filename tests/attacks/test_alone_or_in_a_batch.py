"""What an attack finds for an input depends on no other input of the call."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_classifiers import N_FEATURES, inputs, smoothed
from torch import nn

from randsmooth.attacks import PGD, SPSA, CarliniWagner, Transfer, attack
from randsmooth.attacks import run as run_module
from randsmooth.attacks.pgd import random_starts


def curved_net() -> nn.Module:
    """A net on which starts matter."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(N_FEATURES, 16), nn.Tanh(), nn.Linear(16, 2)).double().eval()


NET = curved_net()
CLF = smoothed(NET)
X = inputs(9).astype(np.float64)
with torch.no_grad():
    Y = NET(torch.from_numpy(X)).argmax(1).numpy()
METHODS = {
    "pgd l1": ("l1", 0.3, PGD(n_steps=3)),
    "pgd l2": ("l2", 0.3, PGD(n_steps=3)),
    "pgd linf": ("linf", 0.1, PGD(n_steps=3)),
    "spsa": ("l2", 0.3, SPSA(n_steps=3, n_directions=4)),
    "cw": ("l2", None, CarliniWagner(n_steps=20, n_searches=2)),
    "transfer": ("l2", 0.3, Transfer(NET, PGD(n_steps=3))),
}


def moved(name: str, rows: np.ndarray, random_state: int = 0) -> np.ndarray:
    norm, eps, method = METHODS[name]
    settings = {"norm": norm, "eps": eps, "n_noise": 8, "n_votes": 100, "n_restarts": 2}
    settings |= {"clip_range": (-5.0, 5.0), "random_state": random_state}
    return attack(CLF, X[rows], Y[rows], method, **settings).adversarial


@pytest.mark.parametrize("name", METHODS)
def test_alone_reversed_and_in_batches_of_any_size_it_is_the_same(name: str, monkeypatch) -> None:
    rows = np.arange(len(X))
    together = moved(name, rows)
    close = {"rtol": 0, "atol": 1e-9}  # a network rounds by the size of its batch
    assert np.allclose(moved(name, rows[::-1])[::-1], together, **close)
    alone = np.concatenate([moved(name, rows[i : i + 1]) for i in range(3)])
    assert np.allclose(alone, together[:3], **close)
    monkeypatch.setattr(run_module, "_ROWS", 16)
    assert np.allclose(moved(name, rows), together, **close)


def test_another_seed_starts_elsewhere() -> None:
    rows = np.arange(len(X))
    assert not np.allclose(moved("pgd l2", rows), moved("pgd l2", rows, 1), atol=1e-3)


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2), ("linf", np.inf)])
def test_random_starts_fill_the_unit_ball_evenly(norm: str, order: float) -> None:
    class Asked:
        x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
        seed = 0

    Asked.norm = norm
    points = random_starts(Asked).numpy()
    lengths = np.linalg.norm(points, order, axis=1)
    assert lengths.max() <= 1 + 1e-6
    assert (lengths <= 0.8).mean() == pytest.approx(0.8**3, abs=0.03)
    assert np.abs(points.mean(axis=0)).max() < 0.04
    assert (np.sign(points) > 0).mean(axis=0) == pytest.approx([0.5] * 3, abs=0.03)
