"""Boxes in files: each format gives back what was written, within its rounding; what is wrong is named in one line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from siamfast.annotation.boxes import Box, Clip, by_target
from siamfast.annotation.formats import FORMATS, format_of, read_boxes, write_boxes
from siamfast.annotation.own import is_own_boxes

COUNT = 12
CLIP = Clip('clip <&">', 640, 480, COUNT)
NAMES = {name: f"boxes{kind.suffix}" for name, kind in FORMATS.items()}
_side = st.floats(0.01, 5000)
_place = st.floats(-300, 5000)
_label = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8)


@st.composite
def _boxes(draw: st.DrawFn) -> list[Box]:
    labels = {target: draw(_label) for target in (1, 2, 30)}
    places = draw(st.sets(st.tuples(st.integers(0, COUNT - 1), st.sampled_from([1, 2, 30])), min_size=1))
    return [
        Box(frame, target, draw(_place), draw(_place), draw(_side), draw(_side), labels[target], draw(st.floats(0, 1)))
        for frame, target in sorted(places)
    ]


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=40)
@given(boxes=_boxes())
def test_every_format_gives_back_what_was_written(name: str, boxes: list[Box]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_boxes(Path(folder) / NAMES[name], boxes, CLIP)
        back = [box for box in read_boxes(Path(folder) / NAMES[name]) if not box.absent]
    back.sort(key=lambda box: (box.frame, box.target))
    assert [box.frame for box in back] == [box.frame for box in boxes]
    assert [box.target for box in back] == [box.target for box in boxes]
    for one, other in zip(back, boxes, strict=True):
        assert one.sides == pytest.approx(other.sides, abs=0.011)
        if name in ("csv", "jsonl", "coco"):
            assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        if name in ("csv", "jsonl", "coco", "cvat"):
            assert one.label == other.label


@pytest.mark.parametrize("name", ["csv", "jsonl", "cvat", "got10k"])
def test_absence_is_written_and_read(name: str, tmp_path: Path) -> None:
    boxes = [Box(0, 1, 5, 6, 7, 8), Box(1, 1, 0, 0, 0, 0), Box(5, 1, 5, 6, 7, 8)]
    write_boxes(tmp_path / NAMES[name], boxes, Clip("a", 64, 48, 6))
    assert read_boxes(tmp_path / NAMES[name]) == boxes


def test_cvat_ends_a_track_before_a_gap_and_skips_frames_that_cvat_interpolated(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    boxes = [Box(frame, 1, 5, 6, 7, 8) for frame in (0, 3, 4)]
    write_boxes(path, boxes, Clip("a", 64, 48, 9))
    read = [(0, False), (1, True), (3, False), (4, False), (5, True)]
    assert [(box.frame, box.absent) for box in read_boxes(path)] == read
    path.write_text(
        path.read_text().replace('frame="4" outside="0" occluded="0" keyframe="1"', 'frame="4" keyframe="0"')
    )
    assert [box.frame for box in read_boxes(path)] == [0, 1, 3, 5]


def test_a_persons_key_frames_in_cvat_are_read_as_they_were_written(tmp_path: Path) -> None:
    boxes = [Box(0, 1, 5, 6, 7, 8), Box(2, 1, 0, 0, 0, 0), Box(4, 1, 5, 6, 7, 8), Box(5, 2, 5, 6, 7, 8)]
    write_boxes(tmp_path / "a.xml", boxes, Clip("a", 64, 48, 9))
    assert read_boxes(tmp_path / "a.xml") == boxes


def test_a_target_that_is_absent_at_first_keeps_its_label(tmp_path: Path) -> None:
    boxes = [Box(0, 1, 0, 0, 0, 0), Box(1, 1, 5, 6, 7, 8, "cat"), Box(2, 1, 5, 6, 7, 8, "cat")]
    write_boxes(tmp_path / "a.xml", boxes, Clip("a", 64, 48, 3))
    assert [box.label for box in read_boxes(tmp_path / "a.xml") if not box.absent] == ["cat", "cat"]


def test_rows_of_commas_alone_are_no_rows_and_lines_end_at_line_ends_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,id,x,y,w,h\n0,1,1,2,3,4\n,,,,,\n  \n")
    assert read_boxes(tmp_path / "a.csv") == [Box(0, 1, 1, 2, 3, 4)]
    boxes = [Box(0, 1, 1, 2, 3, 4, "a\u2028b"), Box(1, 1, 1, 2, 3, 4, "a\u2028b")]
    for name in ("a.jsonl", "b.csv"):
        write_boxes(tmp_path / name, boxes, CLIP)
        assert read_boxes(tmp_path / name) == boxes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_excel_is_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("frame,id,x,y,w,h,label\r\n0,1,2,3,4,5,\u00e4\r\n", encoding=encoding)
    assert read_boxes(path) == [Box(0, 1, 2.0, 3.0, 4.0, 5.0, "\u00e4", 1.0)]
    path.write_bytes(b"frame,id,x,y,w,h,label\n0,1,2,3,4,5,\xe4\n")
    with pytest.raises(ValueError, match=r"boxes.csv: byte 35 is not UTF-8 text"):
        read_boxes(path)


def test_numbers_of_targets_are_exact_and_labels_are_text(tmp_path: Path) -> None:
    rows = [f'{{"frame": 0, "id": {2**53 + n}, "box": [1, 2, 3, 4], "label": 5}}' for n in range(2)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    boxes = read_boxes(tmp_path / "a.jsonl")
    assert [box.target for box in boxes] == [2**53, 2**53 + 1]
    assert [box.label for box in boxes] == ["5", "5"]


def test_coco_has_the_names_of_the_images(tmp_path: Path) -> None:
    write_boxes(tmp_path / "a.json", [Box(1, 1, 2, 3, 4, 5)], Clip("a", 64, 48, 2, ["a.png", "b.jpeg"]))
    assert [image["file_name"] for image in json.loads((tmp_path / "a.json").read_text())["images"]] == [
        "a.png",
        "b.jpeg",
    ]


def test_mot_counts_frames_and_pixels_from_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,7,11,21,30,40,1,-1,-1,-1\n2,7,11,21,30,40,0,-1,-1,-1\n")
    assert read_boxes(tmp_path / "a.txt") == [Box(0, 7, 10, 20, 30, 40)]


_TARGET = st.lists(
    st.one_of(st.none(), st.tuples(st.floats(-50, 900), st.floats(-50, 900), st.floats(1, 900), st.floats(1, 900))),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(
    st.lists(_TARGET, min_size=1, max_size=3),
    st.sampled_from(["object", "cat & dog", '"q" <x>', "ü 猫", "a,b;c"]),
    st.sampled_from(["v", "a & b.mp4", "x\"y'.avi"]),
)
def test_a_file_that_was_written_is_known_as_such(
    targets: list[list[tuple[float, float, float, float] | None]], label: str, name: str
) -> None:
    """Boxes, or None for absence, of each target from frame 2 on; another comment, or another box, is not ours."""
    boxes = [
        Box(2 + t, number, *(sides or (0.0, 0.0, 0.0, 0.0)), label, 1.0 if sides is None else 0.25)
        for number, own in enumerate(targets, start=3)
        for t, sides in enumerate(own)
    ]
    assume(any(not box.absent for box in boxes))
    for kind in FORMATS.values():
        if kind.suffix:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"boxes{kind.suffix}"
                write_boxes(path, boxes, Clip(name, 640, 480, 12))
                assert is_own_boxes(path)
                path.write_bytes(path.read_bytes() + b"\n")
                assert not is_own_boxes(path)


def test_the_output_of_siamfast_track_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,x,y,w,h,confidence,lost\n3,1,2,3,4,0.5,1\n")
    assert read_boxes(tmp_path / "a.csv") == [Box(3, 1, 1, 2, 3, 4, confidence=0.5)]


def test_boxes_may_come_in_any_order_but_once_per_target_and_frame() -> None:
    box = Box(5, 1, 1, 2, 3, 4)
    assert by_target([box, box._replace(frame=2)]) == {1: [box._replace(frame=2), box]}
    with pytest.raises(ValueError, match=r"target 1 has two boxes at frame 5"):
        by_target([box, box])
    lines: list[str] = []
    assert by_target([box, box._replace(x=9), box._replace(target=2)], lines.append) == {
        1: [box], 2: [box._replace(target=2)],
    }  # fmt: skip
    assert lines == ["target 1 has two boxes at frame 5 (counted from 0); the first one counts"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n1,2\n", "line 1: no column frame, w, h"),
        ("a.csv", "frame,id,x,y,w,h\n0,1,10,5,20,5,40,5,40,5\n", "line 2: got 10 values, expected 6"),
        ("a.csv", "frame,x,y,w,h,x\n0,1,2,3,4,5\n", "line 1: two columns x"),
        ("a.csv", "frame,id,x,y,w,h\n-1,1,1,2,3,4\n", "line 2: frame: got '-1'"),
        ("a.csv", "frame,id,x,y,w,h\n0,a,1,2,3,4\n", "line 2: id: got 'a'"),
        ("a.csv", "frame,id,x,y,w,h\n0,1,1,2,3\n", "line 2: box: got"),
        ("a.csv", "frame,id,x,y,w,h\n0,1,1,2,inf,4\n", "line 2: box: got"),
        ("a.csv", "frame,id,x,y,w,h\n0,1,1,2,-3,4\n", "line 2: box: got 1,2,-3,4, expected w and h above 0, or"),
        ("a.csv", "frame,id,x,y,w,h\n0,1,1,2,nan,4\n", "line 2: box: got 1,2,nan,4, expected"),
        ("a.txt", "1,1,5,5,10,-2,1\n", "line 1: box: got 4,4,10,-2"),
        ("a.csv", "frame,id,x,y,w,h\n", "no boxes in it"),
        ("a.jsonl", '{"frame": 0}\n', "line 1: got .* expected an object with frame, id and box"),
        ("a.jsonl", "{\n", "line 1: Expecting"),
        ("a.jsonl", "[" * 100_000, "brackets within brackets"),
        ("a.json", "[" * 100_000, "brackets within brackets"),
        ("a.jsonl", '{"frame": 0, "id": 1, "box": [1, 2, 3, 4], "label": "a\\u0001"}\n', "line 1: label: got 'a.x01'"),
        ("a.jsonl", '{"frame": 0, "id": 1, "box": [1, 2, 3, 4], "label": "\\ud800"}\n', "line 1: label: got"),
        ("a.csv", "frame,id,x,y,w,h\n0,1e300,1,2,3,4\n", "line 2: id: got '1e300'"),
        ("a.txt", "1,1,2,3\n", "line 1: got '1,1,2,3', expected numbers frame,id"),
        ("a.txt", "0,1,2,3,4,5\n", "line 1: frame: got 0, expected 1 or more"),
        ("a.json", "[]", "not COCO"),
        ("a.json", '{"images": [{"id": 1}], "annotations": [{"image_id": 2, "bbox": [1, 2, 3, 4]}]}', "not COCO"),
        ("a.json", '{"images": [{"video_id": 1}, {"video_id": 2}], "annotations": []}', "several videos"),
        (
            "a.xml",
            "<annotations><track id='0' label='a'><box frame='1' xtl='3'/></track></annotations>",
            "track 0, frame 1",
        ),
        ("a.xml", "<a><track id='0'/><track id='1'/><track id='0'/></a>", "two tracks have the id 0"),
        (
            "a.xml",
            "<a><track id='0'><box frame='1' rotation='90.0' xtl='3' ytl='3' xbr='9' ybr='9'/></track></a>",
            "track 0, frame 1: got a rotation of 90.0",
        ),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "not XML that is read here"),
        ("a.doc", "1", "its ending does not say the format"),
    ],
)
def test_a_malformed_file_is_named_with_the_place(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_boxes(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_with_something_in_it_is_not_overwritten_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OSError, match="out"):
        write_boxes(tmp_path / "out", [Box(0, 1, 1, 2, 3, 4)], CLIP)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_an_unknown_format_is_one_line() -> None:
    with pytest.raises(ValueError, match="format: got 'voc', expected one of csv"):
        format_of("a.csv", "voc")
