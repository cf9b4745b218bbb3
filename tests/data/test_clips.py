"""Clips show one place through a window per frame, and give the place of the last view in the first."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from siamfast.data.clips import FolderClips, SyntheticClips
from siamfast.data.synthetic import SyntheticVideo

Clips = Dataset[dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for seed, name in ((3, "a"), (5, "b/img")):
        (root / name).mkdir(parents=True)
        video = SyntheticVideo(seed, length=12, size=(240, 320))
        for t in range(12):
            cv2.imwrite(str(root / name / f"{t}.png"), video.frame(t)[..., ::-1])
    return root


@pytest.mark.parametrize("source", ["synthetic", "folder"])
def test_places_locate_the_last_view_in_the_first(source: str, videos: Path) -> None:
    """Cells of the last view look like the first view at their place, and less like it two cells away."""
    clips: Clips = SyntheticClips(40, seed=7) if source == "synthetic" else FolderClips(videos, 40, seed=7)
    at_place, two_cells_aside, inside_share = [], [], []
    for index in range(0, 40, 4):
        item = clips[index]
        first, last = (F.avg_pool2d(item["frames"][n][None].float(), 9, 1, 4) for n in (0, -1))
        places = item["places"]
        inside = ((places >= 2) & (places <= 18)).all(0)
        for shift, differences in ((0, at_place), (2, two_cells_aside)):
            grid = (places.permute(1, 2, 0)[None] + shift) / 20 * 2 - 1
            sampled = F.grid_sample(first, grid, align_corners=True)
            differences.append(float((sampled - last[:, :, ::8, ::8]).abs()[0, :, inside].mean()))
        inside_share.append(float(inside.float().mean()))
    assert np.mean(at_place) < 0.6 * np.mean(two_cells_aside)
    assert np.mean(inside_share) > 0.4


def test_workers_do_not_change_the_clips(videos: Path) -> None:
    for clips in (SyntheticClips(4, seed=1, side=65), FolderClips(videos, 4, seed=1, side=65)):
        for index, item in enumerate(DataLoader(clips, batch_size=None, num_workers=2)):
            for name, value in clips[index].items():
                assert torch.equal(item[name], value)
    assert not torch.equal(
        SyntheticClips(4, seed=2, side=65)[0]["frames"], SyntheticClips(4, seed=1, side=65)[0]["frames"]
    )


def test_short_videos_repeat_their_frames(tmp_path: Path) -> None:
    for t in range(2):
        cv2.imwrite(str(tmp_path / f"{t}.png"), np.full((90, 120, 3), 100 * t, np.uint8))
    item = FolderClips(tmp_path, 1, frames=5, side=65)[0]
    assert item["frames"].shape == (6, 3, 65, 65)
    assert item["frames"].float().std(dim=(1, 2, 3)).max() < 1


def test_clips_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frames: got 1, expected a whole number, 2 or more"):
        SyntheticClips(1, frames=1)
    with pytest.raises(FileNotFoundError, match="data: .* is not a folder"):
        FolderClips(tmp_path / "nowhere", 1)
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="20 drawn clips in a row could not be read; .*[12].png cannot be decoded"):
        FolderClips(tmp_path, 1)[0]
