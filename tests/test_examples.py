"""The gallery, the documentation's snippets and the README run as they stand."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GALLERY = sorted((ROOT / "examples").glob("plot_*.py"))
PAGES = sorted((ROOT / "docs").glob("*.rst"))


def test_there_is_a_gallery():
    assert len(GALLERY) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_a_gallery_script_runs_without_a_warning(script):
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env=os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_the_script_for_clusters_goes_on_with_its_store(tmp_path):
    script, store = ROOT / "examples" / "certify_on_a_cluster.py", tmp_path / "run.sqlite"
    printed = []
    for _ in range(2):
        finished = subprocess.run(
            [sys.executable, str(script), "--store", str(store)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        printed.append(finished.stdout.splitlines()[-1])
    assert printed[0] == printed[1]
    assert "497 images" in printed[0]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run(page):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testfile(
        str(page), module_relative=False, optionflags=flags, encoding="utf-8"
    )
    assert failed == 0


@pytest.mark.slow
def test_the_snippets_of_the_readme_run():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert snippets
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, names)
    assert len(names["radii"]) == 10


def test_links_of_the_readme_point_to_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\((\S+?)\)", text) if "://" not in link]
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
