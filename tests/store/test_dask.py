"""The same run on a Dask cluster of this machine, some of whose workers do not survive it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from murders import murderous_run
from runs import N_INPUTS, X, classifier, same_counts

from randsmooth import VoteStore
from randsmooth.exceptions import CertificationError, ClusterLostError

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CLF = classifier()
INPUTS = X[:N_INPUTS]


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[Any]:
    import dask

    local = {
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": "60s",
        "temporary-directory": str(tmp_path_factory.mktemp("dask")),
    }
    paths = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    os.environ["PYTHONPATH"] = paths
    with (
        dask.config.set(local),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_cluster_gives_the_counts_of_one_process(client: Any, tmp_path: Path) -> None:
    with joblib.parallel_config("dask"):
        record = CLF.certificates(INPUTS, store=tmp_path / "run.sqlite")
    assert same_counts(record, CLF.certificates(INPUTS))


def test_a_worker_that_dies_costs_nothing_but_time(client: Any, tmp_path: Path) -> None:
    clf, inputs, n_dead = murderous_run(tmp_path, 1)
    with joblib.parallel_config("dask"):
        record = clf.certificates(inputs, store=tmp_path / "run.sqlite")
    assert n_dead() == 1
    assert same_counts(record, CLF.certificates(inputs))


def test_a_block_that_kills_every_worker_is_given_up(client: Any, tmp_path: Path) -> None:
    clf, inputs, n_dead = murderous_run(tmp_path, 50)
    path, started = tmp_path / "run.sqlite", time.monotonic()
    with (
        joblib.parallel_config("dask"),
        pytest.raises(CertificationError, match="the worker at it died") as caught,
    ):
        clf.certificates(inputs, store=path)
    assert time.monotonic() - started < 200
    assert n_dead() >= 3
    failed = caught.value.failed.tolist()
    assert 29 in failed
    good = [row for row in range(30) if row not in failed]
    assert same_counts(caught.value.certificates.take(good), CLF.certificates(inputs[good]))
    with VoteStore(path) as store:
        assert sorted(store.failed) == failed


def test_a_cluster_without_workers_is_given_up(client: Any, monkeypatch) -> None:
    from randsmooth.crews import clusters

    monkeypatch.setattr(clusters, "_PATIENCE", 1.0)
    monkeypatch.setattr(clusters, "_LOOK", 0.2)
    crew = clusters.DaskCluster(len, client)
    ticket = client.submit(time.sleep, 30, pure=False)
    monkeypatch.setattr(client, "nthreads", dict)
    with pytest.raises(ClusterLostError, match=r"has had no worker for 1 seconds\. Start some"):
        crew.finished([ticket])
    client.cancel([ticket], force=True)
