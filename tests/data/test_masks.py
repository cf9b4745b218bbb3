"""Mask images of all common kinds are read right, repaired with a note, or refused in one line."""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from siamfast.io.masks import MaskImage, default_palette, read_mask, read_written, write_mask

HEIGHT, WIDTH = 60, 80


def _disc() -> np.ndarray:
    """(60, 80) bool: a disc off the center."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - 20) ** 2 + (columns - 45) ** 2 < 14**2


def _two_rectangles() -> np.ndarray:
    """(60, 80) with 0, 1 and 2: two rectangles that touch."""
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[10:30, 10:30], numbers[10:30, 30:50] = 1, 2
    return numbers


def _smooth(levels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(levels, (0, 0), 1.5)


@pytest.mark.parametrize(
    ("dtype", "ids"), [(np.uint16, (300, 65535)), (np.uint16, (1, 2)), (np.int32, (26001, 26002)), (np.float32, (1, 7))]
)
def test_objects_of_deep_masks_keep_their_numbers(tmp_path: Path, dtype: type, ids: tuple[int, int]) -> None:
    numbers = np.choose(_two_rectangles(), [0, *ids])
    Image.fromarray(numbers.astype(dtype)).save(tmp_path / "m.tif")
    mask = read_mask(tmp_path / "m.tif")
    np.testing.assert_array_equal(mask.numbers, numbers)
    assert mask.objects() == dict.fromkeys(ids, 400)
    write_mask(tmp_path / "m.png", mask.numbers, mask.palette)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numbers, numbers)
    np.testing.assert_array_equal(read_written(tmp_path / "m.png").numbers, numbers)


def _soft_kinds() -> dict[str, Image.Image]:
    disc = _disc()
    smooth = _smooth(disc * np.uint8(255))
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[..., 0] = smooth
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return {
        "gray.png": Image.fromarray(smooth),
        "deep.png": Image.fromarray(smooth.astype(np.uint16) * 257),
        "red.png": Image.fromarray(red),
        "gray.jpg": Image.fromarray(disc * np.uint8(255)),
        "colored.jpg": Image.fromarray(np.where(disc[..., None], np.uint8([200, 40, 90]), np.uint8(0))),
        "indexed.png": Image.fromarray(smooth).convert("P"),
        "white.png": Image.merge("LA", [Image.new("L", (WIDTH, HEIGHT), 255), Image.fromarray(smooth)]),
        "black.png": Image.merge("LA", [Image.new("L", (WIDTH, HEIGHT), 0), Image.fromarray(smooth)]),
        "opaque.png": Image.fromarray(smooth).convert("RGBA"),
        "cut-out.png": Image.fromarray(np.dstack([noise, smooth])),
        "shares.tif": Image.fromarray(smooth.astype(np.float32) / 255),
    }


@pytest.mark.parametrize("name", list(_soft_kinds()))
def test_soft_edges_do_not_split_an_object(tmp_path: Path, name: str) -> None:
    _soft_kinds()[name].save(tmp_path / name)
    mask = read_mask(tmp_path / name)
    assert len(mask.objects()) == 1
    assert (mask.numbers > 0)[_disc()].mean() > 0.97
    assert (mask.numbers > 0)[~_disc()].mean() < 0.01
    assert "cut at half" in "; ".join(mask.notes)


def test_transparent_pixels_are_background_in_any_color(tmp_path: Path) -> None:
    rgba = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    rgba[..., 3] = _disc() * 255
    Image.fromarray(rgba).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numbers > 0, _disc())
    rgba[..., :3] = default_palette()[_two_rectangles()]
    rgba[..., 3] = (_two_rectangles() > 0) * 255
    Image.fromarray(rgba).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numbers > 0, _two_rectangles() > 0)
    assert len(read_mask(tmp_path / "m.png").objects()) == 2


def test_masks_are_rotated_like_their_frames(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(_two_rectangles()).save(tmp_path / "m.png", exif=turned)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numbers, np.rot90(_two_rectangles(), -1))


def test_black_is_background_at_any_index_of_a_palette(tmp_path: Path) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[0], palette[2] = (255, 0, 0), (0, 0, 255)
    write_mask(tmp_path / "m.png", np.choose(_two_rectangles(), [1, 0, 2]).astype(np.uint8), palette)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numbers > 0, _two_rectangles() > 0)


def _wrong(name: str) -> tuple[Image.Image, dict[str, object]]:
    numbers = _two_rectangles()
    if name == "several.png":
        return Image.fromarray(_smooth(numbers * np.uint8(120))), {}
    if name == "several.jpg":
        return Image.fromarray(numbers * np.uint8(120)), {}
    if name == "photo.jpg":
        colors = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
        return Image.fromarray(cv2.resize(colors, (WIDTH, HEIGHT))), {}
    if name == "pages.tif":
        return Image.fromarray(numbers), {"save_all": True, "append_images": [Image.fromarray(numbers)]}
    if name == "large.tif":
        return Image.fromarray(numbers.astype(np.int32) * 70000), {}
    if name == "negative.tif":
        return Image.fromarray(numbers.astype(np.int32) - 1), {}
    if name == "fractions.tif":
        return Image.fromarray(numbers.astype(np.float32) * 1.5), {}
    return Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80)), {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("several.png", "soft edges"),
        ("several.jpg", "soft edges"),
        ("photo.jpg", "not a mask"),
        ("pages.tif", "has 2 pages, expected one image"),
        ("large.tif", "has the number 140000"),
        ("negative.tif", "below 0"),
        ("fractions.tif", "not whole numbers"),
        ("many.png", "not a mask"),
    ],
)
def test_masks_without_clear_objects_are_refused(tmp_path: Path, name: str, message: str) -> None:
    image, options = _wrong(name)
    image.save(tmp_path / name, **options)
    with pytest.raises(ValueError, match=message) as error:
        read_mask(tmp_path / name)
    assert str(error.value).startswith(f"--mask: {tmp_path / name} has ")


def test_color_with_16_bits_per_channel_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), np.dstack([_two_rectangles().astype(np.uint16)] * 3))
    with pytest.raises(ValueError, match="16 bits per channel"):
        read_mask(tmp_path / "m.png")


def test_thin_touching_objects_stay_objects(tmp_path: Path) -> None:
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[20, 10:30], numbers[21, 10:30] = 1, 2
    write_mask(tmp_path / "m.png", numbers, default_palette())
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").numbers, numbers)


def test_colors_keep_the_numbers_of_an_earlier_mask(tmp_path: Path) -> None:
    colors = np.array([[0, 0, 0], [0, 0, 250], [250, 0, 0]], np.uint8)
    Image.fromarray(colors[_two_rectangles()]).save(tmp_path / "first.png")
    first = read_mask(tmp_path / "first.png")
    Image.fromarray(colors[np.where(_two_rectangles() == 1, 0, _two_rectangles())]).save(tmp_path / "later.png")
    later = read_mask(tmp_path / "later.png", like=first)
    assert later.objects() == {2: 400}
    assert first.objects() == {1: 400, 2: 400}
    assert read_mask(tmp_path / "later.png").objects() == {1: 400}


def test_notes_are_empty_when_nothing_was_repaired(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", _two_rectangles(), default_palette())
    mask = read_mask(tmp_path / "m.png")
    assert isinstance(mask, MaskImage)
    assert mask.notes == ()


def test_a_chunk_that_claims_to_be_huge_takes_no_memory(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", _two_rectangles(), default_palette())
    content = bytearray((tmp_path / "m.png").read_bytes())
    at = content.index(b"IDAT") - 4
    content[at : at + 4] = (0x7FFFFFFF).to_bytes(4, "big")
    (tmp_path / "m.png").write_bytes(content)
    tracemalloc.start()
    with contextlib.suppress(ValueError):  # or the rows that are there, which are whole
        read_mask(tmp_path / "m.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 26
