"""Curation writes the crops that SiamFC would cut, whole or not at all, and resumes where it was stopped."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest

from siamfast.cli import main
from siamfast.data import curation
from siamfast.data.curation import Recipe, curate, curate_part, decode_frame
from siamfast.data.store import CropStore
from siamfast.data.store_writer import Part, StoreWriter
from siamfast.data.tree import make_writer
from siamfast.ops.siamfc_crops import siamfc_crops
from tests.data.test_readers import _object, _xml
from tests.data.vid_videos import GROUP, contents, make_dataset, make_video


def _parts_of(path: Path) -> int:
    """Whether a store has a finished part yet, read while it is being written: 1 or 0."""
    import lmdb

    try:
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as reading:
            return int(reading.stat()["entries"] > 1)
    except lmdb.Error:  # its first pages are not written yet
        return 0


def test_crops_equal_siamfcs(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    writer = StoreWriter(tmp_path / "out", {"kind": "vid", "exemplar": 127, "instance": 255})
    curate(Recipe("vid"), root, writer)
    writer.close()
    store = CropStore(tmp_path / "out")
    assert [(t.name, len(t.frames)) for t in store.tracks] == [
        (f"Annotations/{GROUP}/a.0", 5),
        (f"Annotations/{GROUP}/a.1", 5),
        (f"Annotations/{GROUP}/b.0", 70),
        (f"Annotations/{GROUP}/b.1", 70),
        ("Annotations/VID/val/c.0", 3),
        ("Annotations/VID/val/c.1", 3),
    ]
    track = store.tracks[1]
    image = cv2.imread(str(root / "Data" / GROUP / "a" / "000002.JPEG"))[..., ::-1]
    expected = siamfc_crops(image, (32, 15, 21, 26))
    for kind, crop in (("z", expected.template), ("x", expected.search)):
        difference = store.crop(track, 2, kind).astype(float) - np.asarray(crop, float)
        assert np.abs(difference).mean() < 4, kind  # JPEG at quality 90
    x, y, w, h = track.boxes[2]
    scale = 127 / np.sqrt((21 + 23.5) * (26 + 23.5))
    assert (x, y, w, h) == (32, 15, 21, 26)
    assert track.scales[2] == pytest.approx(scale, abs=1e-5)
    assert track.sizes[2].tolist() == [90, 120]


def test_large_targets_decoded_at_half_size_look_the_same(tmp_path: Path) -> None:
    """A crop with 3 frame pixels per output pixel is decoded at half size, within JPEG's error of the full decode."""
    make_video(tmp_path, f"{GROUP}/big", 1, size=(900, 1200), tracks=0)
    path = tmp_path / "Annotations" / GROUP / "big" / "000000.xml"
    path.write_text(_xml(_object(0, (699, 500, 599, 400))))
    part = curate_part(Recipe("vid"), tmp_path, path.parent, 0)
    frame = tmp_path / "Data" / GROUP / "big" / "000000.JPEG"
    assert decode_frame(frame, 2)[0].shape == (450, 600, 3)
    expected = siamfc_crops(cv2.imread(str(frame))[..., ::-1], (500, 400, 200, 200))
    crop = cv2.imdecode(np.frombuffer(part.crops[0].instance, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    smooth = [cv2.GaussianBlur(np.ascontiguousarray(i).astype(np.float32), (0, 0), 2) for i in (crop, expected.search)]
    assert np.abs(smooth[0] - smooth[1]).mean() < 3
    shifted = np.abs(np.roll(smooth[0], 2, 1) - smooth[1]).mean()
    assert shifted > 1.5 * np.abs(smooth[0] - smooth[1]).mean()  # the crop is at the right place


def test_workers_and_shards_do_not_change_the_crops(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    assert main(["curate", "vid", str(root), str(tmp_path / "one"), "--workers", "0"]) == 0
    assert main(["curate", "vid", str(root), str(tmp_path / "two"), "--workers", "2"]) == 0
    for shard in ("1/2", "2/2"):
        assert main(["curate", "vid", str(root), str(tmp_path / "shards"), "--workers", "0", "--shard", shard]) == 0
    expected = contents(CropStore(tmp_path / "one"))
    assert len(expected) == 2 * 2 * 78
    assert expected == contents(CropStore(tmp_path / "two")) == contents(CropStore(tmp_path / "shards"))
    assert len(list((tmp_path / "shards").glob("*.lmdb"))) == 2


def test_dask_survives_a_killed_worker(tmp_path: Path) -> None:
    """One of two worker processes is killed while it works: the store is the same."""
    distributed = pytest.importorskip("distributed")
    root = make_dataset(tmp_path / "data")
    for n in range(6):
        make_video(root, f"{GROUP}/more{n}", 40)
    assert main(["curate", "vid", str(root), str(tmp_path / "whole"), "--workers", "0"]) == 0
    # Dask's nannies set OMP_NUM_THREADS in this process, but other tests need several threads.
    with (
        mock.patch.dict(os.environ),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        words = ["curate", "vid", str(root), str(tmp_path / "dask"), "--engine=dask"]
        command = [sys.executable, "-m", "siamfast.cli", *words, f"--scheduler={cluster.scheduler_address}"]
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        store = tmp_path / "dask" / "crops.lmdb"
        while not (store.exists() and _parts_of(store)) and time.monotonic() < deadline:
            time.sleep(0.02)
        victim = next(iter(cluster.workers.values())).pid
        assert running.poll() is None  # still at work
        os.kill(victim, signal.SIGKILL)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors[-2000:]
    assert contents(CropStore(tmp_path / "dask")) == contents(CropStore(tmp_path / "whole"))


def test_a_killed_run_resumes_to_the_same_store(tmp_path: Path) -> None:
    """SIGKILL at three moments, then the same command again."""
    root = make_dataset(tmp_path / "data")
    assert main(["curate", "vid", str(root), str(tmp_path / "whole"), "--workers", "0"]) == 0
    command = [
        sys.executable,
        "-m",
        "siamfast.cli",
        "curate",
        "vid",
        str(root),
        str(tmp_path / "killed"),
        "--workers=0",
    ]
    began = time.monotonic()
    subprocess.run([*command[:-2], str(tmp_path / "timed"), "--workers=0"], check=True, capture_output=True)
    whole = time.monotonic() - began
    for share in (0.6, 0.75, 0.9):
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(share * whole)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert contents(CropStore(tmp_path / "killed")) == contents(CropStore(tmp_path / "whole"))


def test_finished_parts_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, curated = make_dataset(tmp_path / "data"), []
    original = curation.curate_part

    def counted(recipe: Recipe, root: Path, video: Path, first: int) -> Part:
        curated.append((video.name, first))
        if len(curated) == 2:
            raise KeyboardInterrupt
        return original(recipe, root, video, first)

    monkeypatch.setattr(curation, "curate_part", counted)
    words = ["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]
    assert main(words) == 130
    assert main(words) == 0
    assert main(words) == 0
    assert curated == [("a", 0), ("b", 0), ("b", 0), ("b", 64), ("c", 0)]


def test_the_tree_layout_equals_the_seeds(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    words = ["curate", "vid", str(root), str(tmp_path / "out"), "--layout", "tree", "--workers", "0"]
    assert main(words) == 0
    folder = tmp_path / "out" / "Data" / "VID" / "train"
    assert sorted(p.name for p in folder.iterdir()) == ["b", "e"]
    names = sorted(p.name for p in (folder / "b" / "a").iterdir())
    assert names[:4] == ["000000.00.crop.x.jpg", "000000.00.crop.z.jpg", "000000.01.crop.x.jpg", "000000.01.crop.z.jpg"]
    assert cv2.imread(str(folder / "e" / "c" / "000002.01.crop.x.jpg")).shape == (255, 255, 3)
    journal = tmp_path / "out" / "parts.jsonl"
    journal.write_text(journal.read_text() + '{"video": "torn')
    assert main(words) == 0
    assert journal.read_text().endswith("\n")
    assert len(journal.read_text().splitlines()) == 1 + 4


def test_stores_grow_beyond_their_initial_map_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siamfast.data.store_writer._FIRST_SIZE", 1 << 16)
    writer = make_writer("lmdb", tmp_path, Recipe("folder"))
    noise = np.random.default_rng(0).integers(0, 255, 40_000, np.uint8).tobytes()
    from siamfast.data.store_writer import Crop

    for n in range(10):
        writer.add(Part("v", n * 64, 640, [Crop("0", n * 64, noise, noise, (1, 2, 3, 4), 1.0, 0.5, (90, 120))], []))
    writer.close()
    store = CropStore(tmp_path)
    assert store.jpeg(store.tracks[0], 9, "x") == noise
    assert len(store) == 10


def test_a_store_can_be_pickled_to_other_processes(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data")
    assert main(["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]) == 0
    store = CropStore(tmp_path / "out")
    again = pickle.loads(pickle.dumps(store))
    assert again.jpeg(again.tracks[0], 0, "z") == store.jpeg(store.tracks[0], 0, "z")
