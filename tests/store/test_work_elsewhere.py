"""What else workers elsewhere count: predictions, confidences, runs within a cluster's task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from murders import murderous_run
from runs import N_INPUTS, X, classifier, y

from randsmooth.exceptions import CertificationError
from randsmooth.metrics import certified_accuracy_scorer

CLF = classifier()
INPUTS = X[:N_INPUTS]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_predictions_and_confidences_are_the_same_elsewhere(backend: str) -> None:
    shares, confidence = CLF.predict_proba(INPUTS), CLF.certify_confidence(INPUTS, radius=0.1)
    with joblib.parallel_config(backend, n_jobs=2):
        assert np.array_equal(CLF.predict_proba(INPUTS), shares)
        assert np.array_equal(CLF.certify_confidence(INPUTS, radius=0.1), confidence)


@pytest.mark.slow
def test_a_prediction_that_always_kills_is_given_up_and_named(tmp_path: Path) -> None:
    clf, inputs, n_dead = murderous_run(tmp_path, 100)
    with (
        joblib.parallel_config("loky", n_jobs=2),
        pytest.raises(CertificationError, match="the worker at it died, 3 times") as caught,
    ):
        clf.predict(inputs)
    assert n_dead() >= 3
    assert 29 in caught.value.failed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_within_a_task_of_a_cluster_ends() -> None:
    """Its task would wait for workers that are busy with such tasks."""
    distributed = pytest.importorskip("distributed")
    from sklearn.model_selection import cross_val_score

    def scores() -> Any:
        scorer = certified_accuracy_scorer(0.1)
        return cross_val_score(classifier(), X[:200], y[:200], cv=2, scoring=scorer)

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        there = scores()
    assert np.array_equal(there, scores())


SCRIPT = """
import joblib
from runs import X, classifier
with joblib.parallel_config("loky", n_jobs=2):
    classifier(n_estimation=200_000).certificates(X[:400], store={path!r})
"""


@pytest.mark.slow
def test_workers_do_not_outlive_the_process_that_was_killed(tmp_path: Path) -> None:
    path, temporary = tmp_path / "run.sqlite", tmp_path / "temporary"
    temporary.mkdir()
    paths = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(path=str(path))],
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    workers = wait_for(lambda: children(run.pid), 120)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert wait_for(lambda: not any(alive(worker) for worker in workers), 60)
    assert not list(temporary.glob("randsmooth-*"))


def children(pid: int) -> list[int]:
    """The two workers of a process, once both are there."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    workers = [child for child, command in commands.items() if b"popen_loky" in command]
    return workers if len(workers) == 2 else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Any, seconds: float) -> Any:
    """What a condition gives as soon as it is anything; nothing where time runs out."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    return None
