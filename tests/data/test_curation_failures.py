"""Curation passes over unreadable files and refuses bad input, other recipes and full disks in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamfast.cli import main
from siamfast.data.curation import Recipe, curate_part, decode_frame
from siamfast.data.store import CropStore
from siamfast.data.store_writer import Part
from siamfast.data.tree import TreeWriter, tree_folder
from siamfast.io import images
from tests.data.vid_videos import GROUP, contents, make_dataset, make_video


def test_unreadable_files_are_skipped_counted_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_dataset(tmp_path / "data")
    frames = root / "Data" / GROUP / "a"
    (frames / "000001.JPEG").write_bytes((frames / "000001.JPEG").read_bytes()[:-300])
    (frames / "000002.JPEG").write_bytes(b"no image")
    (root / "Annotations" / GROUP / "a" / "000003.xml").write_text("<annotation>")
    assert main(["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]) == 1
    assert re.search(r"made \d+ crops of \d+ frames in \d+ s; 3 could not be read", capsys.readouterr().err)
    rows = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert sorted(Path(row["path"]).name for row in rows) == ["000001.JPEG", "000002.JPEG", "000003.xml"]
    assert {row["reason"].split(" (")[0] for row in rows} == {
        "is cut short",
        "cannot be decoded",
        "not XML that is read here",
    }
    track = CropStore(tmp_path / "out").tracks[0]
    assert track.frames.tolist() == [0, 4]
    assert main(["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]) == 1  # the list is the same
    assert len((tmp_path / "out" / "errors.jsonl").read_text().splitlines()) == 3


def test_the_last_line_says_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_dataset(tmp_path / "data")
    command = ["curate", "vid", str(root), str(tmp_path / "out"), "--workers", "0"]
    assert main(command) == 0
    crops = 2 * sum(len(track.frames) for track in CropStore(tmp_path / "out").tracks)
    assert f"made {crops} crops of " in capsys.readouterr().err
    assert main(command) == 0
    assert "nothing was missing" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["otb", "vid", "folder", "got10k"])
def test_a_video_that_a_worker_does_not_have_is_an_error(kind: str, tmp_path: Path) -> None:
    part = curate_part(Recipe(kind), tmp_path, tmp_path / "Annotations" / "VID" / "val" / "a", 0)
    assert not part.crops
    assert part.errors


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((200, 200, 3), np.uint8))
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="claims 200 x 200 pixels, more than 1000"):
        decode_frame(tmp_path / "large.png")


def test_names_cannot_escape_the_tree(tmp_path: Path) -> None:
    writer = TreeWriter(tmp_path / "out", {"kind": "folder"})
    with pytest.raises(ValueError, match="would be written outside of"):
        writer.add(Part("../../elsewhere", 0, 1, [], []))
    assert tree_folder("vid", "Annotations/VID/val/v").as_posix() == "Data/VID/train/e/v"


def test_verify_reports_damaged_crops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import lmdb

    root = make_dataset(tmp_path / "data")
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
        (["vid", "OUT"], "ROOT: missing"),
        (["vid", "OUT", "--verify"], "store: no *.lmdb in"),
    ],
)
def test_bad_input_is_named_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    make_video(tmp_path / "DATA", "VID/val/c", 1)
    changed = [w.replace("DATA", str(tmp_path / "DATA")).replace("OUT", str(tmp_path / "OUT")) for w in words]
    assert main(["curate", *changed]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["DATA"]


def test_another_recipe_in_the_same_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_video(tmp_path / "data", "VID/val/c", 1)
    for layout in ("lmdb", "tree"):
        words = ["curate", "vid", str(tmp_path / "data"), str(tmp_path / layout), "--layout", layout, "--workers", "0"]
        assert main(words) == 0
        assert main([*words, "--instance", "303"]) == 2
        assert "was made with" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["lmdb", "tree"])
def test_repaired_files_are_read_by_the_next_run(layout: str, tmp_path: Path) -> None:
    """A frame of a later part, a whole annotation, and a video whose first part failed because of a later frame."""
    root = make_dataset(tmp_path / "data")
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
        assert contents(CropStore(out)) == contents(CropStore(expected))
    else:
        assert _files(out) == _files(expected)


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.jpg")}


@pytest.mark.parametrize("layout", ["lmdb", "tree"])
def test_a_full_disk_is_reported_in_one_line_with_the_file(layout: str, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    root, out = make_dataset(tmp_path / "data"), tmp_path / "out"
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
    root, out = make_dataset(tmp_path / "data"), tmp_path / "out"
    words = ["curate", "vid", str(root), str(out), "--workers", "0"]
    script = "import sys, time; from siamfast.io.files import only_writer\nwith only_writer(sys.argv[1], 'crops'):\n"
    script += " print('held', flush=True); time.sleep(100)"
    other = subprocess.Popen([sys.executable, "-c", script, str(out)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{out}: another command is writing there" in line
    assert main([*words, "--shard", "1/2"]) == 0  # another shard writes another file
    other.kill()
    other.wait()
    assert main(words) == 0


def test_a_repaired_line_of_a_shared_table_is_read_for_its_video(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for time in (0, 1000):
            noise = np.random.default_rng(time).integers(0, 256, (60, 80, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "data" / name / f"{time}.jpg"), noise)
    line = "{},{},0,cat,0,present,0.2,0.6,0.2,0.6\n"
    good = [line.format(name, time) for name in "ab" for time in (0, 1000)]
    table = tmp_path / "data" / "boxes.csv"
    table.write_text("".join([*good[:3], good[3].replace("present", "pre").replace("0.6", "?")]))
    words = ["curate", "youtubebb", str(tmp_path / "data"), str(tmp_path / "out"), "--workers", "0"]
    assert main(words) == 1
    errors = [json.loads(text) for text in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert [error["reason"][:6] for error in errors] == ["line 4"]
    table.write_text("".join(good))
    assert main(words) == 0
    assert len(CropStore(tmp_path / "out")) == 4
