"""All image files are decoded by one rule: whole or not at all, upright, one page; nothing is printed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from siamfast.cli import main
from siamfast.data.clips import FolderClips
from siamfast.data.curation import decode_frame
from siamfast.data.readers import read_videos
from siamfast.data.sequence_pairs import SequencePairs
from siamfast.io.decoders import decode_pixels, jpeg_end
from siamfast.io.images import decode_bgr, image_size, read_image
from siamfast.tracking.inputs import as_rgb
from tests.evaluation.data_sets import evaluate, make_folder, summary

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a.jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "a.png": ("PNG", {}),
    "a.bmp": ("BMP", {}),
    "a.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "a.webp": ("WEBP", {}),
}


def _picture() -> np.ndarray:
    return cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (80, 60))


def _save(path: Path, orientation: int = 1) -> Path:
    kind, options = KINDS[path.name]
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(_picture()).save(path, kind, exif=exif, **options)
    return path


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_truncated_files_are_no_images_and_nothing_is_printed(
    name: str, share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = _save(tmp_path / name)
    assert read_image(path).shape == (60, 80, 3)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_image, decode_frame):
        with pytest.raises(ValueError, match=r"is cut short|cannot be decoded"):
            read(path)
    assert capfd.readouterr() == ("", "")


def test_a_thumbnails_end_is_not_the_end_and_trailing_data_is_ignored() -> None:
    thumbnail, whole = io.BytesIO(), io.BytesIO()
    Image.fromarray(_picture()).resize((8, 6)).save(thumbnail, "JPEG")
    block = b"Exif\0\0" + thumbnail.getvalue()
    Image.fromarray(_picture()).save(whole, "JPEG", exif=block)
    content = whole.getvalue()
    assert content.count(b"\xff\xd9") == 2
    assert jpeg_end(content[:-200]) is None
    assert jpeg_end(content) == len(content)
    assert jpeg_end(content + b"\0" * 500) == len(content)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_motion_photo_is_read_unless_truncated(
    progressive: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = io.BytesIO()
    Image.fromarray(_picture()).save(file, "JPEG", progressive=progressive)
    photo, video = file.getvalue(), b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 9 + b"\xff\xd8\xff\xd9\xff\xda"
    (tmp_path / "motion.jpg").write_bytes(photo + video)
    plain, _ = decode_bgr(photo)
    for image in (read_image(tmp_path / "motion.jpg")[..., ::-1], decode_frame(tmp_path / "motion.jpg")[0]):
        np.testing.assert_array_equal(image, plain)
    with pytest.raises(ValueError, match="is cut short"):
        decode_bgr(photo[:-100] + video)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_jpeg_is_no_image_but_camera_padding_is_fine(capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    content = cv2.imencode(".jpg", cv2.GaussianBlur(noise, (9, 9), 3))[1].tobytes()
    half = len(content) // 2
    for damaged in (
        content[:half] + b"\xff\xd9",
        content[:half] + b"\x55" * 40 + content[half + 40 :],
    ):
        with pytest.raises(ValueError, match=r"is damaged \(Corrupt JPEG data"):
            decode_bgr(damaged)
    padded, _ = decode_bgr(content[:-2] + b"\0\0\0\xff\xd9")
    np.testing.assert_array_equal(padded, decode_bgr(content)[0])
    assert capfd.readouterr() == ("", "")


def test_other_output_is_passed_on_while_a_decoder_is_captured(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    decode = cv2.imdecode

    def loud(*arguments: Any) -> Any:
        os.write(2, b"a line of another thread\nlibpng warning: iCCP: known incorrect sRGB profile\n")
        return decode(*arguments)

    monkeypatch.setattr(cv2, "imdecode", loud)
    assert decode_pixels(cv2.imencode(".png", _picture())[1].tobytes()).shape == (60, 80, 3)
    assert capfd.readouterr() == ("", "a line of another thread\n")


@pytest.mark.parametrize("name", [name for name in KINDS if name != "a.bmp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_inputs_follow_the_orientation_tag(name: str, orientation: int, tmp_path: Path) -> None:
    path = _save(tmp_path / name, orientation)
    image = read_image(path)
    assert image.shape == ((60, 80, 3) if orientation < 5 else (80, 60, 3))
    assert image_size(path) == image.shape[:2]
    np.testing.assert_array_equal(decode_frame(path)[0][..., ::-1], image)
    with Image.open(path) as opened:
        np.testing.assert_allclose(as_rgb(opened).astype(int), image, atol=1)
    plain = read_image(_save(tmp_path / name, 1))
    assert (orientation == 1) == np.array_equal(plain, image)


def test_an_orientation_after_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    content = _save(tmp_path / "a.png", 6).read_bytes()
    at = content.index(b"eXIf") - 4
    size = 12 + int.from_bytes(content[at : at + 4], "big")
    end = len(content) - 12
    moved = content[:at] + content[at + size : end] + content[at : at + size] + content[end:]
    (tmp_path / "a.png").write_bytes(moved)
    assert read_image(tmp_path / "a.png").shape == (80, 60, 3)
    assert image_size(tmp_path / "a.png") == (80, 60)


def test_deep_gray_images_are_the_same_from_pil_and_from_disk(tmp_path: Path) -> None:
    deep = np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as opened:
        np.testing.assert_array_equal(as_rgb(opened), read_image(tmp_path / "deep.png"))
    with pytest.raises(TypeError, match="PIL image of mode F"):
        as_rgb(Image.fromarray(deep.astype(np.float32)))


@pytest.mark.parametrize("name", ["pages.tif", "moving.png", "moving.webp"])
def test_several_pages_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [Image.fromarray(np.full((60, 80, 3), value, np.uint8)) for value in (0, 90, 180)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    assert main(["track", str(tmp_path / name), "--box", "10,10,20,20"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has 3 pages, expected one image per file" in line


def test_truncated_frames_are_rejected_in_eval_and_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "data")
    for frame in sorted((root / "a" / "img").iterdir())[2:]:
        content = frame.read_bytes()
        frame.write_bytes(content[: len(content) * 3 // 5])
    assert evaluate("folder", root, tmp_path / "out") == 1
    assert list(summary(tmp_path / "out")["trackers"]["mobile"]["sequences"]) == ["b"]
    pairs = SequencePairs(root / "a", 30)
    for place in range(8):
        crop = pairs.crop(0, place, np.array([80.0, 60]), 60.0, 64, False)
        assert (crop is None) == (place >= 2)
    clips = FolderClips(root / "a", 20, frames=8, side=33)
    with pytest.raises(ValueError, match="is cut short"):
        clips[0]
    assert "Premature" not in capfd.readouterr().err


def test_training_and_youtubebb_use_the_displayed_size_of_frames(tmp_path: Path) -> None:
    """Rotated frames are 80 pixels high and 60 wide."""
    folder = tmp_path / "frames" / "vid0"
    folder.mkdir(parents=True)
    for time in (0, 1000):
        _save(tmp_path / "a.jpg", 6).rename(folder / f"{time}.jpg")
    rows = [f"vid0,{time},0,person,0,present,0.5,1.0,0.25,0.75" for time in (0, 1000)]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    ((sequence,),) = read_videos("youtubebb", tmp_path)
    assert sequence.boxes[0].tolist() == [30, 20, 30, 40]
    # 38 pixels are less than half of 80, but not of 60: the box would be too high for the frame as stored.
    (folder / "groundtruth.txt").write_text("5,5,25,38\n5,5,25,38\n")
    assert SequencePairs(folder, 4)[0]["search"].shape == (3, 255, 255)
