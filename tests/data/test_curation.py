"""Curation leaves the crops that SiamFC would cut, whole or not at all, and goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
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
from siamfast.data.tree import TreeWriter, make_writer, tree_folder
from siamfast.io import images
from siamfast.ops.siamfc_crops import siamfc_crops
from tests.data.test_readers import _object, _xml

GROUP = "VID/train/ILSVRC2015_VID_train_0001"


def _video(root: Path, name: str, frames: int, *, size: tuple[int, int] = (90, 120), tracks: int = 2) -> None:
    """Blurred noise of a video's own, a box that moves, in VID's layout."""
    data, annotations = root / "Data" / name, root / "Annotations" / name
    data.mkdir(parents=True)
    annotations.mkdir(parents=True)
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    noise = cv2.GaussianBlur(rng.integers(0, 255, (*size, 3), np.uint8), (0, 0), 3)
    for n in range(frames):
        cv2.imwrite(str(data / f"{n:06d}.JPEG"), np.roll(noise, n, 1), [cv2.IMWRITE_JPEG_QUALITY, 98])
        boxes = [_object(t, (30 + n % 40 + 20 * t, 10 + n % 40 + 20 * t, 40, 15)) for t in range(tracks)]
        (annotations / f"{n:06d}.xml").write_text(_xml(*boxes))


def _dataset(root: Path) -> Path:
    for name, frames in ((f"{GROUP}/a", 5), (f"{GROUP}/b", 70), ("VID/val/c", 3)):
        _video(root, name, frames)
    return root


def _parts_of(path: Path) -> int:
    """How many parts a store has, while it is being written."""
    import lmdb

    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as reading:
        return int(reading.stat()["entries"] > 1)


def _contents(store: CropStore) -> dict[tuple[str, int, str], bytes]:
    return {
        (track.name, int(frame), kind): store.jpeg(track, n, kind)
        for track in store.tracks
        for n, frame in enumerate(track.frames)
        for kind in "zx"
    }


def test_crops_equal_siamfcs(tmp_path: Path) -> None:
    root = _dataset(tmp_path / "data")
    writer = StoreWriter(tmp_path / "out", {"kind": "vid", "exemplar": 127, "instance": 255})
    curate(Recipe("vid"), root, writer, workers=0)
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
    """A crop of 3 frame pixels an output pixel: decoded at half the size, within JPEG's error of the full decode."""
    _video(tmp_path, f"{GROUP}/big", 1, size=(900, 1200), tracks=0)
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
    assert shifted > 1.5 * np.abs(smooth[0] - smooth[1]).mean()  # it lies where it should


def test_workers_and_shards_do_not_change_the_crops(tmp_path: Path) -> None:
    root = _dataset(tmp_path / "data")
    assert main(["curate", "vid", str(root), str(tmp_path / "one"), "--workers", "0"]) == 0
    assert main(["curate", "vid", str(root), str(tmp_path / "two"), "--workers", "2"]) == 0
    for shard in ("1/2", "2/2"):
        assert main(["curate", "vid", str(root), str(tmp_path / "shards"), "--workers", "0", "--shard", shard]) == 0
    one = _contents(CropStore(tmp_path / "one"))
    assert len(one) == 2 * 2 * 78
    assert one == _contents(CropStore(tmp_path / "two")) == _contents(CropStore(tmp_path / "shards"))
    assert len(list((tmp_path / "shards").glob("*.lmdb"))) == 2


def test_dask_survives_a_killed_worker(tmp_path: Path) -> None:
    """A cluster of two processes, one of which is killed while it works: the store is the same."""
    distributed = pytest.importorskip("distributed")
    root = _dataset(tmp_path / "data")
    for n in range(6):
        _video(root, f"{GROUP}/more{n}", 40)
    assert main(["curate", "vid", str(root), str(tmp_path / "whole"), "--workers", "0"]) == 0
    # Its nannies set OMP_NUM_THREADS in this process, where other tests count on several threads.
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
        assert running.poll() is None  # in the midst of it
        os.kill(victim, signal.SIGKILL)
        _, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors[-2000:]
    assert _contents(CropStore(tmp_path / "dask")) == _contents(CropStore(tmp_path / "whole"))


def test_a_killed_run_resumes_to_the_same_store(tmp_path: Path) -> None:
    """SIGKILL at three moments, then the same command again."""
    root = _dataset(tmp_path / "data")
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
    assert _contents(CropStore(tmp_path / "killed")) == _contents(CropStore(tmp_path / "whole"))


def test_finished_parts_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, asked = _dataset(tmp_path / "data"), []
    original = curation.curate_part

    def counted(recipe: Recipe, root: Path, video: Path, first: int) -> Part:
        asked.append((video.name, first))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return original(recipe, root, video, first)

    monkeypatch.setattr(curation, "curate_part", counted)
    words = ["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]
    assert main(words) == 130
    assert main(words) == 0
    assert main(words) == 0
    assert asked == [("a", 0), ("b", 0), ("b", 0), ("b", 64), ("c", 0)]


def test_unreadable_files_are_skipped_counted_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _dataset(tmp_path / "data")
    frames = root / "Data" / GROUP / "a"
    (frames / "000001.JPEG").write_bytes((frames / "000001.JPEG").read_bytes()[:-300])
    (frames / "000002.JPEG").write_bytes(b"no image")
    (root / "Annotations" / GROUP / "a" / "000003.xml").write_text("<annotation>")
    assert main(["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]) == 1
    assert "3 could not be read" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert sorted(Path(row["path"]).name for row in rows) == ["000001.JPEG", "000002.JPEG", "000003.xml"]
    assert {row["reason"].split(" (")[0] for row in rows} == {
        "is cut short",
        "cannot be decoded",
        "not XML that is read here",
    }
    track = CropStore(tmp_path / "out").tracks[0]
    assert track.frames.tolist() == [0, 4]
    assert main(["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]) == 1  # nothing done, same list
    assert len((tmp_path / "out" / "errors.jsonl").read_text().splitlines()) == 3


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((200, 200, 3), np.uint8))
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="claims 200 x 200 pixels, more than 1000"):
        decode_frame(tmp_path / "large.png")


def test_the_tree_layout_equals_the_seeds(tmp_path: Path) -> None:
    root = _dataset(tmp_path / "data")
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


def test_names_cannot_escape_the_tree(tmp_path: Path) -> None:
    writer = TreeWriter(tmp_path / "out", {"kind": "folder"})
    with pytest.raises(ValueError, match="would be written outside of"):
        writer.add(Part("../../elsewhere", 0, 1, [], []))
    assert tree_folder("vid", "Annotations/VID/val/v").as_posix() == "Data/VID/train/e/v"


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


def test_verify_reports_damaged_crops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import lmdb

    root = _dataset(tmp_path / "data")
    out = tmp_path / "out"
    assert main(["curate", "vid", str(root), str(out), "--workers", "0"]) == 0
    assert main(["curate", "vid", str(out), "--verify"]) == 0
    with lmdb.open(str(out / "crops.lmdb"), subdir=False) as env, env.begin(write=True) as writing:
        assert writing.put(f"z:Annotations/{GROUP}/a:0:3".encode(), b"damaged")
        assert writing.delete(f"x:Annotations/{GROUP}/a:1:4".encode())
    capsys.readouterr()
    assert main(["curate", "vid", str(out), "--verify"]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "2 wrong" in printed.err


def test_a_store_can_be_pickled_to_other_processes(tmp_path: Path) -> None:
    root = _dataset(tmp_path / "data")
    assert main(["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]) == 0
    store = CropStore(tmp_path / "out")
    again = pickle.loads(pickle.dumps(store))
    assert again.jpeg(again.tracks[0], 0, "z") == store.jpeg(store.tracks[0], 0, "z")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vid", "nowhere", "OUT"], "ROOT: nowhere is not a folder"),
        (["vid", "DATA", "DATA/out"], "OUT: "),
        (["otb", "DATA", "OUT"], "ROOT: no videos of the layout 'otb'"),
        (["vid", "DATA", "OUT", "--shard", "3/2"], "--shard: got '3/2', expected I/N"),
        (["vid", "DATA", "OUT", "--instance", "100"], "instance: got 100, expected 127 to 4096"),
        (["vid", "DATA", "OUT", "--workers", "-2"], "--workers: got -2"),
        (["vid", "DATA", "OUT", "--scheduler", "tcp://x:1"], "--scheduler: given without --engine dask"),
        (["vid", "OUT"], "ROOT: left out"),
        (["vid", "OUT", "--verify"], "store: no *.lmdb in"),
    ],
)
def test_bad_input_is_named_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    _video(tmp_path / "DATA", "VID/val/c", 1)
    changed = [w.replace("DATA", str(tmp_path / "DATA")).replace("OUT", str(tmp_path / "OUT")) for w in words]
    assert main(["curate", *changed]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA"]


def test_another_recipe_in_the_same_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _video(tmp_path / "data", "VID/val/c", 1)
    for layout in ("lmdb", "tree"):
        words = ["curate", "vid", str(tmp_path / "data"), str(tmp_path / layout), "--layout", layout, "--workers", "0"]
        assert main(words) == 0
        assert main([*words, "--instance", "303"]) == 2
        assert "was made with" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["lmdb", "tree"])
def test_repaired_files_are_read_by_the_next_run(layout: str, tmp_path: Path) -> None:
    """A frame of a later part, a whole annotation, and a video whose first part had the error of a later frame."""
    root = _dataset(tmp_path / "data")
    frame = root / "Data" / GROUP / "b" / "000066.JPEG"
    late = root / "Annotations" / GROUP / "b" / "000068.xml"
    first = root / "Annotations" / "VID" / "val" / "c" / "000000.xml"
    whole = {path: path.read_bytes() for path in (frame, late, first)}
    for path in whole:
        path.write_bytes(b"<broken")
    out, words = tmp_path / "out", ["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]
    words += ["--layout", layout]
    assert main(words) == 1
    assert len((out / "errors.jsonl").read_text().splitlines()) == 3
    for path, content in whole.items():
        path.write_bytes(content)
    assert main(words) == 0
    assert not (out / "errors.jsonl").exists()
    expected = tmp_path / "expected"
    assert main([*words[:3], str(expected), *words[4:]]) == 0
    if layout == "lmdb":
        assert _contents(CropStore(out)) == _contents(CropStore(expected))
    else:
        assert _files(out) == _files(expected)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.jpg")}


@pytest.mark.parametrize("layout", ["lmdb", "tree"])
def test_a_full_disk_is_reported_in_one_line_with_the_file(layout: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk's."""
    root, out = _dataset(tmp_path / "data"), tmp_path / "out"
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES)); "
        "from siamfast.cli import main; sys.exit(main(sys.argv[1:]))"
    ).replace("BYTES", "60000" if layout == "lmdb" else "2000")
    command = [sys.executable, "-c", limited, "curate", "vid", str(root), str(out), "--workers=0", "--layout", layout]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 2, ran.stderr
    lines = ran.stderr.replace("\r", "\n").splitlines()
    assert "Traceback" not in ran.stderr
    assert str(out) in lines[-1]
    assert "siamfast curate: error: " in lines[-1]


def test_a_second_command_on_a_store_is_refused_unless_the_first_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = _dataset(tmp_path / "data"), tmp_path / "out"
    words = ["curate", "vid", str(root), str(out), "--workers", "0"]
    script = "import sys, time; from siamfast.io.files import only_writer\nwith only_writer(sys.argv[1], 'crops'):\n"
    script += " print('held', flush=True); time.sleep(100)"
    other = subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{out}: another command is writing there" in line
    assert main([*words, "--shard", "1/2"]) == 0  # a file of its own
    other.kill()
    other.wait()
    assert main(words) == 0
