"""Ten thousand damaged classifier files: each is refused, or is the classifier that was saved."""

from __future__ import annotations

import io
import json
import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from torch import nn

from randsmooth import SmoothedClassifier
from randsmooth.classifier_header import sealed
from randsmooth.fingerprints import model_fingerprint

ROWS = np.random.default_rng(0).random((30, 4), dtype=np.float32)
LABELS = np.arange(30) % 3
VALUES: list[Any] = [None, True, -1, 0, 3, 2**31, 10**30, 1e300, "x", "os", [], [1, "a"], {}]
VALUES += [{"name": "os"}, "<U300000000", "|O", "randsmooth.models:DnCNN", "sklearn", "module"]


class Small(nn.Linear):
    def __init__(self, width: int = 4) -> None:
        super().__init__(width, 3)


def flipped(content: bytes, random: np.random.Generator) -> bytes:
    """Some bytes of it changed, cut, doubled or swapped for others."""
    damaged = bytearray(content)
    for _ in range(random.integers(1, 5)):
        place, much = int(random.integers(len(damaged))), int(random.integers(1, 9))
        kind = random.integers(4)
        if kind == 0:
            damaged[place] ^= 1 << random.integers(8)
        elif kind == 1:
            del damaged[place : place + much]
        elif kind == 2:
            damaged[place:place] = damaged[place : place + much]
        else:
            damaged[place : place + much] = random.bytes(much)
        damaged = damaged or bytearray(b"\0")
    return bytes(damaged)


def rezipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return buffer.getvalue()


def other_header(header: bytes, random: np.random.Generator) -> bytes:
    """A header of which one value is another, as if it had been written so."""
    changed = json.loads(header)
    section = changed[["base", "fitted", "parameters"][random.integers(3)]]
    name = sorted(section)[random.integers(len(section))]
    if random.random() < 0.2:
        del section[name]
    else:
        section[name] = VALUES[random.integers(len(VALUES))]
    return json.dumps(sealed(changed)).encode()


def damaged(original: bytes, random: np.random.Generator) -> bytes:
    kind = random.integers(3)
    if kind == 0:
        return flipped(original, random)
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if kind == 1:
        members["classifier.json"] = other_header(members["classifier.json"], random)
    else:
        (other,) = members.keys() - {"classifier.json"}
        members[other] = flipped(members[other], random)
    return rezipped(members)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("base", "n_files"), [(Small, 7_000), (GaussianNB(), 3_000)])
def test_a_damaged_file_is_refused_or_unchanged(base, n_files, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    clf = SmoothedClassifier(base, training=None, n_estimation=50, random_state=0)
    path = tmp_path / "clf.rs"
    clf.fit(ROWS, LABELS).save(path)
    original, random = path.read_bytes(), np.random.default_rng(0)
    module = Small if base is Small else None
    expected = model_fingerprint(clf.estimator_)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_loaded = 0
    for _ in range(n_files):
        path.unlink()  # to write over it would wait for the disk
        path.write_bytes(damaged(original, random))
        try:
            loaded = SmoothedClassifier.load(path, module=module)
        except ValueError:  # InvalidFileError is one
            continue
        n_loaded += 1
        assert model_fingerprint(loaded.estimator_) == expected
    assert n_loaded < n_files / 4
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 500e6
    assert [entry.name for entry in Path().iterdir()] == ["clf.rs"]
