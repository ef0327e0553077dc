"""Runs that are killed outright, at random moments, and go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "kill_and_resume.py"
    finished = subprocess.run(
        [sys.executable, str(script), "--kills", "4", "--output", str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr + finished.stdout
    assert "differ from the uninterrupted run" in finished.stdout
