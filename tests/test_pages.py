"""All blocks of README and docs that a reader can paste run, in the page's order, in a folder of small data."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siamfast.cli import main
from siamfast.commands import export
from siamfast.models.siamfc import SiamFC
from siamfast.tracking.siamfc import SiamFCTracker
from tests.pages_world import make_world

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
_STARTS = ("siamfast ", "python ")  # of blocks, and lines, that are commands to run
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# Not available in tests: a camera, a stream, the VOT toolkit, the user's NanoTrack, another OpenCV.
_NOT_HERE = ("siamfast track 0", "rtsp://", "siamfast vot", "--peers")
_PLACEHOLDER = re.compile(r"\bROOT\b|\bOUT\b|\bSEQUENCES\b|\[|\|")  # a synopsis, not a line to paste
# Arguments added to those in a page, so that a command ends in seconds.
_SMALLER = {
    "train": "--steps 2 --batch-size 2 --val-pairs 2 --val-every 2 --workers 0 --device cpu",
    "synthesize": "--clips 1 --size 64x96",
    "curate": "--workers 0",
    "propagate": "--size 120 --context 4",
    "show-correspondence": "--size 120",
}
# The pages have boxes of those clips; one page's crops are made by workers.
_AS_IT_IS = ("synthesize track-clips/", "synthesize clips/", "curate folder clips/")
_BARE = ("README.md", "docs/start.md", "docs/tutorial.md")  # their blocks need nothing but those before them
_SHORTER = {
    "1_000_000": "8",
    "batch_size=32": "batch_size=2",
    "start=1200": "start=0",
    "num_workers=4": "num_workers=0",
}


def _blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks that are commands or Python."""
    blocks = _BLOCK.findall((ROOT / page).read_text())
    return [(language, text) for language, text in blocks if language == "python" or text.startswith(_STARTS)]


def _commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(_STARTS) and _can_run(line)]


def _run(line: str) -> int:
    if line.startswith("python "):
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(["bash", "-c", line], env=environment, stdout=subprocess.DEVNULL, check=False).returncode
    words = shlex.split(line, comments=True)[1:]
    return main([*words, *([] if any(part in line for part in _AS_IT_IS) else _SMALLER.get(words[0], "").split())])


def _can_run(line: str) -> bool:
    return not any(part in line for part in _NOT_HERE) and not _PLACEHOLDER.search(line.partition("#")[0])


def _names() -> dict[str, Any]:
    """The variables that the pages' Python uses."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    frames = list(rng.integers(0, 256, (3, 120, 160, 3), dtype=np.uint8))
    first_mask = np.zeros((120, 160), np.uint8)
    first_mask[30:60, 40:80] = 1
    feature = torch.rand(1, 16, 22, 22, generator=generator)
    return {
        "torch": torch,
        "frames": frames,
        "first_frame": frames[0],
        "next_frame": frames[1],
        "frame": frames[0],
        "x": torch.rand(2, 16, 22, 22, generator=generator),
        "z": torch.rand(2, 16, 6, 6, generator=generator),
        "b": torch.zeros(1),
        "box": (40, 30, 40, 30),
        "first_mask": first_mask,
        "first_labels": torch.rand(2, 22, 22),
        "features": [feature[0]] * 3,
        "now": feature,
        "before": feature,
        "mask": torch.rand(1, 1, 22, 22),
        "generator": generator,
        "tracker": SiamFCTracker(SiamFC().eval(), precision="float32"),
        "centers": [[60.0, 45.0]] * 32,
        "sizes": [[64.0, 64.0]] * 32,
        "boxes": torch.rand(32, 4) * 50,
    }


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_pages_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = _blocks(page)
    if not blocks:
        return
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "_CLIPS", 2)  # that calibrate 8 bits
    if page not in _BARE:
        make_world(tmp_path)
        monkeypatch.syspath_prepend(tmp_path / "packages")
        names = _names()
    for language, text in blocks:
        if language == "python":
            for long, short in _SHORTER.items():
                text = text.replace(long, short)
            exec(compile(text, page, "exec"), names)
            continue
        for line in _commands(text):
            assert _run(line) == 0, f"{line}: {capsys.readouterr().err[-300:]}"
