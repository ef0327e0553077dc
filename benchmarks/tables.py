"""Results in the documentation: pages in reStructuredText, and the rows that they are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def rest_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def write_page(path: Path, heading: str, *parts: str) -> None:
    """Write a page of results and print it."""
    text = "\n\n".join([f"{heading}\n{'=' * len(heading)}", *parts]).rstrip() + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(text)


def read_rows(path: Path) -> dict[str, Any]:
    """Return the kept rows by key; none where there is no file yet."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def add_row(path: Path, key: str, row: Any) -> None:
    """Keep a row beside those of the file as it is now: other runs may have added to it."""
    text = json.dumps({**read_rows(path), key: row}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
