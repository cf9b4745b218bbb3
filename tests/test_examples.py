"""The scripts and notebooks of examples/ run, and print what they promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# Options for a short run, and a pattern that the output has.
SCRIPTS = {
    "drop_in.py": ("", r"largest difference of a gradient: \d\.\de-0[5-9]"),
    "train_own.py": ("--steps 31 --batch-size 4", r"step 30: loss"),
    "correspondence.py": ("", r"weights sum to 1\.000"),
    "many_targets.py": ("--frames 35", r"35 frames; at the end 1, 3 are followed"),
    "evaluate_own.py": ("", r"clip-001 siamfast: AO 0\.\d+"),
    "deploy_onnx.py": ("--length 6", r"[67] rows; the last: [\d.,; \w]+"),
}


def test_every_example_is_tried() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SCRIPTS.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_runs(name: str, tmp_path: Path) -> None:
    if name == "deploy_onnx.py":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    options, pattern = SCRIPTS[name]
    command = [sys.executable, str(EXAMPLES / name), *options.split()]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(pattern, done.stdout), done.stdout
    if name == "train_own.py":
        losses = [float(value) for value in re.findall(r"loss ([\d.]+)", done.stdout)]
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_the_notebook_runs(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    book = json.loads(path.read_text())
    names: dict[str, object] = {}
    for number, cell in enumerate(cell for cell in book["cells"] if cell["cell_type"] == "code"):
        assert cell["outputs"] == []
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    import matplotlib.pyplot as plt

    assert plt.get_fignums()
    plt.close("all")
    if path.name == "loss.ipynb":
        assert "the peak is at x, y = (10, 8)" in capsys.readouterr().out
