"""The same run on a Dask and on a Ray cluster of this machine, some of whose workers die of it."""

from __future__ import annotations

import builtins
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from murders import murderous_run
from runs import N_INPUTS, X, classifier, same_counts

from randsmooth import VoteStore
from randsmooth.crews import clusters
from randsmooth.exceptions import CertificationError, ClusterLostError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CLF = classifier()
INPUTS = X[:N_INPUTS]


@contextmanager
def dask_cluster(folder: Path) -> Iterator[Any]:
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    local = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": "60s",
        "temporary-directory": str(folder),
    }
    with (
        dask.config.set(local),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def ray_cluster(folder: Path) -> Iterator[Any]:
    ray, register = pytest.importorskip("ray"), pytest.importorskip("ray.util.joblib")
    register.register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


CLUSTERS = {"dask": dask_cluster, "ray": ray_cluster}


@pytest.fixture(scope="module", params=CLUSTERS)
def backend(request, tmp_path_factory) -> Iterator[str]:
    """A cluster of two workers, by joblib's name of it."""
    with pytest.MonkeyPatch.context() as patch:
        paths = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        patch.setenv("PYTHONPATH", paths)  # workers look for the modules of these tests there
        patch.setenv("RAY_worker_niceness", "0")  # other tests are not to starve these workers
        patch.setattr(builtins, "print", print)  # Ray puts another in its place, for good
        with CLUSTERS[request.param](tmp_path_factory.mktemp(request.param)):
            yield request.param


def test_a_cluster_gives_the_counts_of_one_process(backend: str, tmp_path: Path) -> None:
    with joblib.parallel_config(backend):
        record = CLF.certificates(INPUTS, store=tmp_path / "run.sqlite")
        shares = CLF.predict_proba(INPUTS)
    assert same_counts(record, CLF.certificates(INPUTS))
    assert np.array_equal(shares, CLF.predict_proba(INPUTS))


def test_a_worker_that_dies_costs_nothing_but_time(backend: str, tmp_path: Path) -> None:
    clf, inputs, n_dead = murderous_run(tmp_path, 1)
    with joblib.parallel_config(backend):
        record = clf.certificates(inputs, store=tmp_path / "run.sqlite")
    assert n_dead() == 1
    assert same_counts(record, CLF.certificates(inputs))


def test_a_block_that_kills_every_worker_is_given_up(backend: str, tmp_path: Path) -> None:
    clf, inputs, n_dead = murderous_run(tmp_path, 50)
    path = tmp_path / "run.sqlite"
    with (
        joblib.parallel_config(backend),
        pytest.raises(CertificationError, match="the worker at it died") as caught,
    ):
        clf.certificates(inputs, store=path)
    assert 3 <= n_dead() < 50
    failed = caught.value.failed.tolist()
    assert 29 in failed
    good = [row for row in range(30) if row not in failed]
    assert same_counts(caught.value.certificates.take(good), CLF.certificates(inputs[good]))
    with VoteStore(path) as store:
        assert sorted(store.failed) == failed


class Deserted:
    """A cluster without workers, as its client sees it, whose tasks never end."""

    status = "pending"

    def nthreads(self) -> dict[str, int]:
        return {}

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": False}]

    def wait(self, tickets: Any, **how: Any) -> tuple[list[Any], list[Any]]:
        return [], tickets


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (clusters.DaskCluster, r"has had no worker for 1 seconds\. Start some"),
        (clusters.RayCluster, r"has had no node for 1 seconds\. Start one"),
    ],
)
def test_a_cluster_without_workers_is_given_up(kind: Any, message: str, monkeypatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(clusters, "_PATIENCE", 1.0)
    monkeypatch.setattr(clusters, "_LOOK", 0.2)
    monkeypatch.setattr("distributed.wait", lambda *tickets, **how: time.sleep(0.2))
    crew = object.__new__(kind)
    crew._client = crew._ray = Deserted()
    with pytest.raises(ClusterLostError, match=message):
        crew.finished([Deserted()])
