"""Small data sets in the layouts that `siamfast eval` reads, and the command run on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from siamfast.cli import main
from siamfast.data.synthetic import SyntheticVideo

FRAMES = 8


def write_frames(folder: Path, seed: int) -> np.ndarray:
    """Write frames as JPEG files; returns their boxes (T, 4)."""
    folder.mkdir(parents=True)
    boxes = []
    for t, (frame, box) in enumerate(SyntheticVideo(seed, length=FRAMES, size=(120, 160))):
        cv2.imwrite(str(folder / f"{t + 1:08d}.jpg"), frame[..., ::-1])
        boxes.append(box)
    return np.array(boxes)


def box_rows(boxes: np.ndarray) -> str:
    return "\n".join(",".join(f"{v:.4f}" for v in row) for row in boxes) + "\n"


def make_otb(root: Path) -> Path:
    for seed, name in enumerate(("Basketball", "Bolt")):
        boxes = write_frames(root / name / "img", seed)
        (root / name / "groundtruth_rect.txt").write_text(box_rows(boxes + np.array([1, 1, 0, 0])))
    return root


def make_got10k(root: Path) -> Path:
    names = [f"GOT-10k_Val_{n:06d}" for n in (1, 2)]
    for seed, name in enumerate(names):
        folder = root / "val" / name
        (folder / "groundtruth.txt").write_text(box_rows(write_frames(folder, seed)))
        (folder / "meta_info.ini").write_text("[METAINFO]\nresolution: (160, 120)\n")
        labels = {"cover": [8] * 6 + [0, 3], "absence": [0] * 6 + [1, 0], "cut_by_image": [0] * FRAMES}
        for label, values in labels.items():
            (folder / f"{label}.label").write_text("\n".join(map(str, values)) + "\n")
    (root / "val" / "list.txt").write_text("\n".join(names) + "\n")
    return root


def make_lasot(root: Path) -> Path:
    for seed, name in enumerate(("cat-1", "cat-2")):
        folder = root / "cat" / name
        boxes = write_frames(folder / "img", seed)
        (folder / "groundtruth.txt").write_text(box_rows(boxes))
        (folder / "full_occlusion.txt").write_text(",".join(["0"] * (FRAMES - 1) + ["1"]))
        (folder / "out_of_view.txt").write_text(",".join(["0"] * FRAMES))
    return root


def make_folder(root: Path) -> Path:
    for seed, name in enumerate(("a", "b")):
        (root / name / "groundtruth.txt").write_text(box_rows(write_frames(root / name / "img", seed)))
    return root


MAKERS = {"otb": make_otb, "got10k": make_got10k, "lasot": make_lasot, "folder": make_folder}


def evaluate(kind: str, root: Path, out: Path, *words: str) -> int:
    return main(["eval", str(root), "--dataset", kind, "--out", str(out), *words])


def summary(out: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return contents
