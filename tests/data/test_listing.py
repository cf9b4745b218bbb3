"""Files that tools leave among the data are ignored in all layouts."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.cli import main
from siamfast.data.clips import FolderClips
from siamfast.data.photos import Photos
from siamfast.data.readers import LAYOUTS, read_videos
from siamfast.data.store import CropStore
from siamfast.data.store_pairs import is_store
from tests.data import test_readers
from tests.evaluation.data_sets import make_folder


def _litter(root: Path) -> None:
    """Add to all folders copies of their files where Jupyter and macOS leave theirs, and macOS's `._` files."""
    for folder in [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())]:
        content = list(folder.iterdir())
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
            (folder / name).mkdir()
            for path in content:
                if path.is_file():
                    shutil.copy(path, folder / name)
                else:
                    shutil.copytree(path, folder / name / path.name)
        for path in content:
            (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        (folder / ".DS_Store").touch()


def _listing(kind: str, root: Path) -> list[object]:
    problems: list[object] = []
    videos = read_videos(kind, root, lambda path, reason: problems.append((path, reason)))
    return [(s.name, s.frames, np.nan_to_num(s.boxes).tolist()) for video in videos for s in video] + problems


@pytest.mark.parametrize("kind", list(LAYOUTS))
def test_every_reader_ignores_files_that_tools_leave(kind: str, tmp_path: Path) -> None:
    if kind == "folder":
        make_folder(tmp_path / "data")
    elif kind == "vid":
        test_readers._vid(tmp_path / "data")
    elif kind == "got10k":
        test_readers._got10k(tmp_path / "data")
    else:
        (tmp_path / "data").mkdir()
        getattr(test_readers, f"test_{kind}_is_read")(tmp_path / "data")
    before = _listing(kind, tmp_path / "data")
    assert before
    _litter(tmp_path / "data")
    assert _listing(kind, tmp_path / "data") == before


def test_stores_clips_and_photographs_ignore_files_that_tools_leave(tmp_path: Path) -> None:
    root, store = make_folder(tmp_path / "data"), tmp_path / "store"
    assert main(["curate", "folder", str(root), str(store), "--workers", "0"]) == 0
    crops, videos, photos = len(CropStore(store)), FolderClips(root, 1).videos, Photos(root).files
    _litter(root)
    (store / "._crops.lmdb").write_bytes(b"\0\5\x16\7")
    assert len(CropStore(store)) == crops
    assert FolderClips(root, 1).videos == videos
    assert Photos(root).files == photos
    (store / "crops.lmdb").unlink()
    assert not is_store(store)


def test_a_folder_with_only_files_that_tools_leave_is_empty(tmp_path: Path) -> None:
    for t in range(2):
        cv2.imwrite(str(tmp_path / f"{t}.png"), np.zeros((60, 80, 3), np.uint8))
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 10:40] = 1
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "0.png"), mask)
    words = ["--mask", str(tmp_path / "masks" / "0.png"), "--out", str(tmp_path / "out"), "--size", "60"]
    assert main(["propagate", str(tmp_path), *words]) == 0
