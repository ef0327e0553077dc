"""Tables in reStructuredText, for the results in the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


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
