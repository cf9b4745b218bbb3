"""The tables and plots in the pages match the committed rows, and go stale when the rows change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import tables


def test_committed_tables_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--check"]) == 0, f"run `make tables`: {capsys.readouterr().out}"


def test_a_new_row_makes_tables_and_plots_stale_and_rewrites_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("docs", tables.RESULTS):
        shutil.copytree(tables.ROOT / folder, tmp_path / folder)
    shutil.copy(tables.ROOT / "README.md", tmp_path)
    root = ["--root", str(tmp_path)]
    assert tables.main([*root, "--check"]) == 0
    (stem, rows), *_ = tables.devices(tmp_path).items()
    (changed,) = [row for row in rows if (row["op"], row["case"], row["pass"]) == tables.HEADLINES[0][:3]]
    changed["contenders"]["siamfast"]["p50_us"] = 123.4
    with (tmp_path / tables.RESULTS / f"{stem}.jsonl").open("a") as file:
        file.write(json.dumps(changed) + "\n")
    before = (tmp_path / "README.md").read_text()
    assert tables.main([*root, "--check"]) == 1
    assert (tmp_path / "README.md").read_text() == before  # a check writes nothing
    named = capsys.readouterr().out
    assert all(
        name in named for name in ("README.md", "performance.md", *(f"{stem}-{plot}.png" for plot in tables.DRAWN))
    )
    assert tables.main(root) == 0
    assert "| 123 us |" in (tmp_path / "README.md").read_text()
    assert tables.main([*root, "--check"]) == 0


def test_a_row_of_a_dirty_tree_gives_way_to_a_clean_one(tmp_path: Path) -> None:
    about = {"op": "a", "case": "b", "pass": "call", "contenders": {}}
    commits = ("1-dirty", "2", "3-dirty", "4", "5-dirty")
    for count, newest in ((1, "1-dirty"), (3, "2"), (5, "4")):
        file = tmp_path / f"{count}.jsonl"
        file.write_text("".join(json.dumps(about | {"commit": commit}) + "\n" for commit in commits[:count]))
        assert [row["commit"] for row in tables.latest(file)] == [newest]
