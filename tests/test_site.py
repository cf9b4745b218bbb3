"""The documentation's site shows all public names and all pages; `make docs` builds it, with warnings as errors."""

from __future__ import annotations

import re
from pathlib import Path

import siamfast
import siamfast.compat

DOCS = Path(__file__).parents[1] / "docs"
_ENTRY = re.compile(r"^\.\. (?:auto\w+|py:data):: ([\w.]+)", re.MULTILINE)
_TREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _entries() -> list[str]:
    return [name for page in (DOCS / "reference").glob("*.md") for name in _ENTRY.findall(page.read_text())]


def test_every_public_name_is_in_the_reference() -> None:
    entries = _entries()
    public = {f"siamfast.{name}" for name in siamfast.__all__}
    public |= {f"siamfast.compat.{name}" for name in siamfast.compat.__all__}
    assert not sorted(public - set(entries))
    assert not sorted(name for name in entries if entries.count(name) > 1)


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set()
    for page in DOCS.rglob("index.md"):
        for tree in _TREE.findall(page.read_text()):
            lines = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / line).relative_to(DOCS).as_posix() for line in lines}
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert pages - listed == {"index"}
    assert listed <= pages
