"""All data sets are read from their own layouts, with the irregularities of the real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from siamfast.data.readers import LAYOUTS, list_videos, read_videos
from siamfast.data.sequences import Sequence
from siamfast.data.vid import read_vid_xml

Problems = list[tuple[Path, str]]


def _frames(folder: Path, names: list[str], size: tuple[int, int] = (40, 60)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((*size, 3), np.uint8))


def _read(kind: str, root: Path) -> tuple[list[tuple[Sequence, ...]], Problems]:
    problems: Problems = []
    videos = list(read_videos(kind, root, lambda path, reason: problems.append((path, reason))))
    for video in videos:
        for sequence in video:
            assert sequence.frames == video[0].frames  # all tracks share the decoded frames
            assert sequence.boxes.shape == (len(sequence.frames), 4)
            assert all(path.is_file() for path in sequence.frames)
            assert sequence.visibility is None or sequence.visibility.shape == (len(sequence.frames),)
    return videos, problems


def _xml(*objects: str) -> str:
    size = "<size><width>60</width><height>40</height></size>"
    return f"<annotation><folder>v</folder><filename>000000</filename>{size}{''.join(objects)}</annotation>"


def _object(track: int | str, box: tuple[int, int, int, int], occluded: int = 0, generated: int = 0) -> str:
    tags = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmax", "xmin", "ymax", "ymin"), box, strict=True))
    return (
        f"<object><trackid>{track}</trackid><name>n02691156</name><bndbox>{tags}</bndbox>"
        f"<occluded>{occluded}</occluded><generated>{generated}</generated></object>"
    )


def _vid(root: Path) -> Path:
    """A video of 4 frames, whose third is missing, with two tracks; one of the validation; one whose XML is torn."""
    group = "VID/train/ILSVRC2015_VID_train_0001"
    videos = {f"{group}/ILSVRC2015_train_00139005": 4, f"{group}/broken": 2, "VID/val/ILSVRC2015_val_00000000": 2}
    for name, count in videos.items():
        _frames(root / "Data" / name, [f"{n:06d}.JPEG" for n in range(count)])
        (root / "Annotations" / name).mkdir(parents=True)
        for n in range(count):
            text = _xml(_object(0, (19 + n, 10 + n, 29, 20)))
            (root / "Annotations" / name / f"{n:06d}.xml").write_text(text)
    first = root / "Annotations" / f"{group}/ILSVRC2015_train_00139005"
    second = _object(1, (70, 50, 45, -3), occluded=1, generated=1)
    (first / "000001.xml").write_text(_xml(_object(0, (20, 11, 29, 20)), second))
    (first / "000003.xml").write_text(_xml())
    (root / "Data" / f"{group}/ILSVRC2015_train_00139005" / "000002.JPEG").unlink()
    (root / "Annotations" / f"{group}/broken" / "000001.xml").write_text("<annotation><object>")
    return root


def test_vid_has_one_sequence_per_track(tmp_path: Path) -> None:
    videos, problems = _read("vid", _vid(tmp_path))
    names = [sequence.name for video in videos for sequence in video]
    assert names == [
        "train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00139005.0",
        "train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00139005.1",
        "train/ILSVRC2015_VID_train_0001/broken.0",
        "val/ILSVRC2015_val_00000000.0",
    ]
    first, second = videos[0]
    assert [path.name for path in first.frames] == ["000000.JPEG", "000001.JPEG", "000003.JPEG"]
    nan = [np.nan] * 4
    np.testing.assert_array_equal(first.boxes, [[10, 20, 10, 10], [11, 20, 10, 10], nan])  # xmax - xmin + 1
    np.testing.assert_array_equal(second.boxes, [nan, [50, -3, 21, 49], nan])  # leaves the image: kept as given
    assert second.visibility is not None
    assert second.visibility.tolist() == [0, 0.5, 0]
    assert sorted(reason.split(" (")[0] for _, reason in problems) == [
        "its frame is missing",
        "not XML that is read here",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b "b">]><annotation><object>&b;</object></annotation>', "EntitiesForbidden"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', None),
        (_xml(_object("../../x", (2, 1, 2, 1))), "expected letters and digits"),
        (_xml(_object(0, (2, 1, 2, 1)).replace("<xmin>1</xmin>", "")), "no bndbox of four numbers"),
        (_xml(_object(0, (2, 1, 2, 1)).replace("<xmin>1", "<xmin>nan")), "not finite"),
        ("\x00\x01", "not XML"),
        ("", "not XML"),
    ],
)
def test_unsafe_annotations_are_rejected(tmp_path: Path, text: str, message: str | None) -> None:
    (tmp_path / "a.xml").write_text(text)
    if message is None:
        assert read_vid_xml(tmp_path / "a.xml") == []  # nothing is fetched
        return
    with pytest.raises(ValueError, match=message):
        read_vid_xml(tmp_path / "a.xml")


def _got10k(root: Path) -> None:
    folder = root / "train" / "GOT-10k_Train_000001"
    _frames(folder, [f"{n:08d}.jpg" for n in (1, 2, 3)])
    (folder / "groundtruth.txt").write_bytes(b"1.0,2.0,3.0,4.0\r\n5,6,7,8\r\n1,1,2,2\r\n")
    (folder / "absence.label").write_text("0\n0\n1\n")
    (folder / "cover.label").write_text("8\n4\n0\n")
    short = root / "train" / "GOT-10k_Train_000002"
    _frames(short, ["00000001.jpg"])
    (short / "groundtruth.txt").write_text("1,1,2,2\n1,1,2,2\n")
    test = root / "test" / "GOT-10k_Test_000001"
    _frames(test, ["00000001.jpg", "00000002.jpg"])
    (test / "groundtruth.txt").write_text("9,9,2,2")


def test_got10k_is_read(tmp_path: Path) -> None:
    _got10k(tmp_path)
    ((train,), (test,)), problems = _read("got10k", tmp_path)
    np.testing.assert_array_equal(train.boxes, [[1, 2, 3, 4], [5, 6, 7, 8], [np.nan] * 4])
    assert train.visibility is not None
    assert train.visibility.tolist() == [1, 0.5, 0]
    np.testing.assert_array_equal(test.boxes, [[9, 9, 2, 2], [np.nan] * 4])  # a test set has the first box alone
    assert [path.name for path, _ in problems] == ["GOT-10k_Train_000002"]


def test_otb_is_read(tmp_path: Path) -> None:
    _frames(tmp_path / "Jogging" / "img", ["0001.jpg", "0002.jpg"])
    (tmp_path / "Jogging" / "groundtruth_rect.1.txt").write_text("1\t1\t5\t6\n2\t3\t5\t6\n")
    (tmp_path / "Jogging" / "groundtruth_rect.2.txt").write_text("11,11,5,6\n12,13,5,6\n")
    _frames(tmp_path / "Diving" / "img", [f"{n:04d}.jpg" for n in range(1, 219)])
    (tmp_path / "Diving" / "groundtruth_rect.txt").write_text("5 5 5 5\n" * 215)
    _frames(tmp_path / "Odd" / "img", ["0001.jpg"])
    (tmp_path / "Odd" / "groundtruth_rect.txt").write_text("1,1,NaN,NaN\n1,1,2,2\n")
    ((diving,), (first, second)), problems = _read("otb", tmp_path)
    assert (first.name, second.name) == ("Jogging.1", "Jogging.2")
    np.testing.assert_array_equal(first.boxes[0], [0, 0, 5, 6])  # counted from 1 there, from 0 here
    assert (len(diving), diving.frames[-1].name) == (215, "0215.jpg")  # annotated in part
    assert [path.name for path, _ in problems] == ["Odd"]


def test_an_empty_otb_annotation_file_is_no_target(tmp_path: Path) -> None:
    """Human4's first file is empty, and the got10k toolkit calls the other one Human4."""
    _frames(tmp_path / "Human4" / "img", ["0001.jpg", "0002.jpg"])
    (tmp_path / "Human4" / "groundtruth_rect.1.txt").write_text("\n")
    (tmp_path / "Human4" / "groundtruth_rect.2.txt").write_text("11,11,5,6\n12,13,5,6\n")
    ((only,),), problems = _read("otb", tmp_path)
    assert (only.name, problems) == ("Human4", [])
    (tmp_path / "Human4" / "groundtruth_rect.2.txt").write_text("")
    videos, problems = _read("otb", tmp_path)
    assert videos == []
    assert "no boxes in it" in problems[0][1]


def test_lasot_is_read(tmp_path: Path) -> None:
    for number in (2, 10):
        folder = tmp_path / "airplane" / f"airplane-{number}"
        _frames(folder / "img", ["00000001.jpg", "00000002.jpg", "00000003.jpg"])
        (folder / "groundtruth.txt").write_text("1,2,3,4\n0,0,0,0\n1,2,3,4\n")
        (folder / "full_occlusion.txt").write_text("0,0,1")
        (folder / "out_of_view.txt").write_text("0,1,0")
    videos, problems = _read("lasot", tmp_path)
    assert [video[0].name for video in videos] == ["airplane-2", "airplane-10"]
    assert np.isnan(videos[0][0].boxes[1]).all()
    assert videos[0][0].visibility is not None
    assert videos[0][0].visibility.tolist() == [1, 0, 0]
    assert problems == []


def test_trackingnet_is_read(tmp_path: Path) -> None:
    for split in ("TRAIN_2", "TRAIN_10"):
        _frames(tmp_path / split / "frames" / f"{split}v", [f"{n}.jpg" for n in range(11)])
        (tmp_path / split / "anno").mkdir()
        (tmp_path / split / "anno" / f"{split}v.txt").write_text("1,2,3,4\n" * 11)
    (tmp_path / "TRAIN_2" / "anno" / "missing.txt").write_text("1,2,3,4\n")
    videos, problems = _read("trackingnet", tmp_path)
    assert [video[0].name for video in videos] == ["TRAIN_2v", "TRAIN_10v"]
    assert [path.name for path in videos[0][0].frames][-2:] == ["9.jpg", "10.jpg"]
    assert [path.name for path, _ in problems] == ["missing.txt"]


def test_youtubebb_is_read(tmp_path: Path) -> None:
    _frames(tmp_path / "frames" / "AAB-_6", ["0.jpg", "1000.jpg", "2000.jpg"])
    (tmp_path / "boxes.csv").write_text(
        "AAB-_6,0,0,person,0,present,0.5,0.75,0.25,0.5\nAAB-_6,1000,0,person,0,absent,-1,-1,-1,-1\n"
        "AAB-_6,1000,0,person,1,present,0,1,0,1\nAAB-_6,x,0,person,0,present,0,1,0,1\ngone,0,0,cat,0,present,0,1,0,1\n"
    )
    ((first, second),), problems = _read("youtubebb", tmp_path)
    np.testing.assert_array_equal(first.boxes, [[30, 10, 15, 10], [np.nan] * 4, [np.nan] * 4])
    np.testing.assert_array_equal(second.boxes[1], [0, 0, 60, 40])
    assert sorted(reason[:6] for _, reason in problems) == ["line 4", "no fra"]


def test_a_line_of_youtubebb_without_a_video_is_refused(tmp_path: Path) -> None:
    good = "a,0,0,person,0,present,0.5,0.75,0.25,0.5\n"
    (tmp_path / "boxes.csv").write_text(good + "../etc,0,0,person,0,present,0,1,0,1\n")
    with pytest.raises(ValueError, match=r"boxes\.csv, line 2: got '\.\./etc,"):
        list_videos("youtubebb", tmp_path)


def test_davis_is_read(tmp_path: Path) -> None:
    _frames(tmp_path / "JPEGImages" / "480p" / "bear", ["00000.jpg", "00001.jpg"])
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 10:30], mask[20:22, 3:4] = 1, 2
    (tmp_path / "Annotations" / "480p" / "bear").mkdir(parents=True)
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "Annotations" / "480p" / "bear" / "00000.png")
    ((first, second),), problems = _read("davis", tmp_path)
    np.testing.assert_array_equal(first.boxes, [[10, 5, 20, 10], [np.nan] * 4])
    np.testing.assert_array_equal(second.boxes[0], [3, 20, 1, 2])
    assert (first.name, problems) == ("bear.1", [])


def test_davis_is_read_at_480p_unless_the_root_is_another_size(tmp_path: Path) -> None:
    for size in ("1080p", "480p", "Full-Resolution"):
        _frames(tmp_path / "JPEGImages" / size / "bear", ["00000.jpg"])
        (tmp_path / "Annotations" / size / "bear").mkdir(parents=True)
        Image.fromarray(np.ones((40, 60), np.uint8)).save(tmp_path / "Annotations" / size / "bear" / "00000.png")
    for root, size in ((tmp_path, "480p"), (tmp_path / "JPEGImages" / "1080p", "1080p")):
        ((only,),), problems = _read("davis", root)
        assert only.frames[0] == tmp_path / "JPEGImages" / size / "bear" / "00000.jpg"
        assert problems == []
    (tmp_path / "JPEGImages" / "480p").rename(tmp_path / "480p")
    with pytest.raises(ValueError, match="has 1080p, Full-Resolution, expected 480p; give one as ROOT"):
        _read("davis", tmp_path)


def test_mot_is_read(tmp_path: Path) -> None:
    _frames(tmp_path / "MOT17-02" / "img1", ["000001.jpg", "000002.jpg"])
    (tmp_path / "MOT17-02" / "gt").mkdir()
    (tmp_path / "MOT17-02" / "gt" / "gt.txt").write_text(
        "1,2,913,484,97,109,1,1,0.8\r\n2,2,912,484,97,109,1,1,0.25\r\n1,5,3,3,4,4,0,12,1\r\n9,2,1,1,1,1,1,1,1\r\nx\r\n"
    )
    ((only,),), problems = _read("mot", tmp_path)
    assert only.name == "MOT17-02.2"  # track 5 is marked as ignored
    np.testing.assert_array_equal(only.boxes, [[912, 483, 97, 109], [911, 483, 97, 109]])
    assert only.visibility is not None
    assert only.visibility.tolist() == [0.8, 0.25]
    assert [reason[:6] for _, reason in problems] == ["line 5"]


def test_folder_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _frames(tmp_path / name / "img", ["1.png", "2.png"])
        (tmp_path / name / "groundtruth.txt").write_text("1,1,2,2\nnan,nan,nan,nan\n" if name == "a" else "1,1,2\n")
    ((only,),), problems = _read("folder", tmp_path)
    assert only.name == "a"
    assert [path.name for path, _ in problems] == ["b"]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_folder_of_another_layout_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="root: "):
        list(read_videos(kind, tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="root: "):
        list(read_videos(kind, tmp_path / "empty"))


def test_without_a_reporter_a_problem_is_an_error(tmp_path: Path) -> None:
    _got10k(tmp_path)
    with pytest.raises(ValueError, match="1 frames, but 2 boxes .*GOT-10k_Train_000002"):
        list(read_videos("got10k", tmp_path))


def test_a_bad_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kind: got 'coco', expected one of vid, got10k"):
        read_videos("coco", ".")


def test_videos_are_listed_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of millions of frames is never listed at once."""
    _vid(tmp_path)
    listed: list[Path] = []
    original: Callable[[Path], list[Path]] = __import__("siamfast.data.vid", fromlist=["image_files"]).image_files
    monkeypatch.setattr("siamfast.data.vid.image_files", lambda folder: (listed.append(folder), original(folder))[1])
    next(read_videos("vid", tmp_path, lambda path, reason: None))
    assert len(listed) == 1
