"""Certify digits on a cluster of two processes of this machine, into a store that survives.

A Dask cluster is started on the loopback interface, and a run is handed to it::

    python examples/certify_on_a_cluster.py [--store run.sqlite] [--scheduler tcp://host:8786]

Stop it with Ctrl-C, or kill a worker, and call it again with the same ``--store``: it goes on.
``--scheduler`` names a cluster that is there already, on other machines: nothing else changes.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import joblib
import torch
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from torch import nn

from randsmooth import SmoothedClassifier, VoteStore


def fitted() -> tuple[SmoothedClassifier, ...]:
    """Train a small network for noise, and return it with the images that are left."""
    X, y = load_digits(return_X_y=True)
    X = X.astype("float32") / 16
    torch.manual_seed(0)  # the same weights every time: a store is one model's
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    clf = SmoothedClassifier(net, sigma=0.25, n_estimation=10_000, random_state=0, verbose=1)
    return clf.fit(X[:1300], y[:1300]), X[1300:], y[1300:]


def main() -> None:
    """Start a cluster or join one, certify, and read the store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("--scheduler", default=None, help="address of a running scheduler")
    args = parser.parse_args()
    with ExitStack() as stack:
        if args.scheduler is None:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
                )
            )
            stack.enter_context(Client(cluster))
        else:
            stack.enter_context(Client(args.scheduler))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        path = args.store or Path(folder) / "run.sqlite"
        clf, X, y = fitted()
        with joblib.parallel_config("dask"):
            clf.certificates(X, store=path)
        with VoteStore(path) as store:
            record = store.certificates()
            shares = record.certified_accuracy(y, [0.0, 0.25, 0.5])
            print(f"{len(store)} images; certified accuracy at 0, 0.25 and 0.5: {shares.round(3)}")


if __name__ == "__main__":
    main()
