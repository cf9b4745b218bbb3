"""Masks are propagated through videos, written in their own form and scored as in DAVIS; correspondence is drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from siamfast.cli import main
from siamfast.data.synthetic import SyntheticVideo
from siamfast.evaluation.masks import region_similarity, score_masks
from siamfast.io.masks import default_palette, read_mask, write_mask
from siamfast.models.correspondence import CorrespondenceEncoder
from siamfast.tracking.correspondence_figure import confident_cells, flow_color, match
from siamfast.tracking.drawing import draw_mask
from siamfast.tracking.propagation import MaskPropagator

FAST = ["--size", "120", "--context", "2"]


class Colors(torch.nn.Module):
    """An encoder that returns the color around every eighth pixel, whose matches are obvious."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = torch.nn.functional.avg_pool2d(images.float(), 3, 8, 1, count_include_pad=False)
        return torch.cat([pooled / 255, torch.ones_like(pooled[:, :1])], 1)


def _moving_squares() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A red and a blue square that move over green by 4 pixels per frame, and their masks 1 and 7."""
    frames, masks = [], []
    for t in range(5):
        frame, mask = np.full((120, 160, 3), (0, 200, 0), np.uint8), np.zeros((120, 160), np.uint8)
        for number, color, y, x in ((1, (250, 0, 0), 24, 24 + 4 * t), (7, (0, 0, 250), 70, 110 - 4 * t)):
            frame[y : y + 32, x : x + 32], mask[y : y + 32, x : x + 32] = color, number
        frames.append(frame)
        masks.append(mask)
    return frames, masks


def _folder(path: Path, frames: list[np.ndarray]) -> Path:
    path.mkdir()
    for t, frame in enumerate(frames):
        cv2.imwrite(str(path / f"shot{t + 1}.png"), frame[..., ::-1])
    return path


def test_several_objects_move_with_their_colors() -> None:
    frames, masks = _moving_squares()
    propagator = MaskPropagator(Colors(), size=241, preset="dino", context=2)
    for t, mask in enumerate(propagator.propagate(frames, masks[0])):
        assert mask.dtype == np.uint8
        for number in (1, 7):
            assert region_similarity(mask == number, masks[t] == number) > 0.8, (t, number)
        assert set(np.unique(mask)) <= {0, 1, 7}


def test_the_packaged_encoder_beats_an_untrained_one() -> None:
    """Overlap with the true masks 6 frames on, over synthetic videos whose target is large and in sight."""
    torch.manual_seed(0)
    propagators = MaskPropagator(size=160), MaskPropagator(CorrespondenceEncoder(width=32), size=160)
    overlaps: list[list[float]] = [[], []]
    for seed in range(900, 912):
        video = SyntheticVideo(seed, length=7, size=(240, 320))
        first, last = video.mask(0), video.mask(6)
        if min(first.sum(), last.sum()) < 2500:
            continue
        for propagator, values in zip(propagators, overlaps, strict=True):
            *_, mask = propagator.propagate([video.frame(t) for t in range(7)], first)
            values.append(region_similarity(mask, last))
    assert len(overlaps[0]) >= 3
    assert np.mean(overlaps[0]) > np.mean(overlaps[1]) + 0.1, overlaps


def test_synthetic_masks_fill_their_boxes() -> None:
    video = SyntheticVideo(5, length=3, size=(240, 320))
    mask = video.mask(1)
    assert set(np.unique(mask)) <= {0, 1}
    rows, columns = np.nonzero(mask)
    x, y, w, h = video.box(1)
    assert x - 1 <= columns.min() <= columns.max() <= x + w
    assert y - 1 <= rows.min() <= rows.max() <= y + h


@pytest.mark.parametrize("kind", ["indexed", "gray", "coloured"])
def test_masks_are_written_in_the_form_they_were_given(tmp_path: Path, kind: str) -> None:
    numbers = np.zeros((6, 8), np.uint8)
    numbers[1:3, 1:3], numbers[4:, 4:] = 1, 2
    palette = np.zeros((256, 3), np.uint8)
    palette[1:3] = (10, 20, 30), (200, 100, 50)
    if kind == "indexed":
        write_mask(tmp_path / "m.png", numbers, palette)
    elif kind == "gray":
        numbers *= 100
        Image.fromarray(numbers).save(tmp_path / "m.png")
    else:
        Image.fromarray(palette[numbers]).save(tmp_path / "m.png")
    read = read_mask(tmp_path / "m.png")
    np.testing.assert_array_equal(read.numbers, numbers)
    write_mask(tmp_path / "again.png", read.numbers, read.palette)
    with Image.open(tmp_path / "m.png") as one, Image.open(tmp_path / "again.png") as other:
        np.testing.assert_array_equal(np.asarray(one.convert("RGB")), np.asarray(other.convert("RGB")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.png", "m.png"]


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"--mask: .* colours .*, expected one of at most 255 for each object"):
        read_mask(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_mask(tmp_path / "text.png")


def test_the_palette_equals_daviss() -> None:
    assert default_palette()[[0, 1, 2, 3, 4, 8]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [64, 0, 0],
    ]


def test_the_command_writes_masks_overlay_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, masks = _moving_squares()
    video, truth = _folder(tmp_path / "video", frames), tmp_path / "truth"
    truth.mkdir()
    for t, mask in enumerate(masks):
        write_mask(truth / f"shot{t + 1}.png", mask, default_palette())
    out, overlay = tmp_path / "masks", tmp_path / "overlay.mp4"
    words = ["propagate", str(video), "--mask", str(truth / "shot1.png"), "--out", str(out)]
    assert main([*words, "--overlay", str(overlay), "--score", str(truth), *FAST]) == 0
    assert sorted(p.name for p in out.iterdir()) == [f"shot{t}.png" for t in range(1, 6)]
    np.testing.assert_array_equal(read_mask(out / "shot1.png").numbers, masks[0])
    capture = cv2.VideoCapture(str(overlay))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    captured = capsys.readouterr()
    assert "mask of shot1: 2 objects: 1 (1024 pixels), 7 (1024 pixels)\n" in captured.err
    header, *rows, last = captured.out.strip().splitlines()
    assert header.split()[:3] == ["object", "J", "mean"]
    assert [row.split()[0] for row in rows] == ["1", "7", "mean"]
    assert last.startswith("J&F mean 0.")
    assert main([*words, *FAST]) == 2  # the folder is not empty: nothing is overwritten
    assert "not a new or empty folder" in capsys.readouterr().err


def test_scores_leave_out_the_first_frame_and_the_last(tmp_path: Path) -> None:
    masks = [np.zeros((20, 20), np.uint8) for _ in range(4)]
    for mask in masks:
        mask[5:15, 5:15] = 3
    wrong = [np.zeros_like(masks[0]), masks[1], masks[2], np.zeros_like(masks[0])]
    for folder, content in (("ours", wrong), ("truth", masks)):
        (tmp_path / folder).mkdir()
        for t, mask in enumerate(content):
            write_mask(tmp_path / folder / f"{t}.png", mask, None)
    paths = [sorted((tmp_path / folder).iterdir()) for folder in ("ours", "truth")]
    (region, edge) = score_masks(*paths)[3]
    assert (region.mean, edge.mean) == (1, 1)


def test_a_mask_named_like_a_later_frame_starts_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, masks = _moving_squares()
    video = _folder(tmp_path / "video", frames)
    write_mask(tmp_path / "shot3.png", masks[2], None)
    out = tmp_path / "masks"
    assert main(["propagate", str(video), "--mask", str(tmp_path / "shot3.png"), "--out", str(out), *FAST]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["shot3.png", "shot4.png", "shot5.png"]
    np.testing.assert_array_equal(read_mask(out / "shot3.png").numbers, masks[2])
    printed = capsys.readouterr().err
    assert "mask of shot3: 2 objects" in printed
    assert "3/3" in printed


def test_objects_keep_numbers_above_255(tmp_path: Path) -> None:
    frames, masks = _moving_squares()
    video = _folder(tmp_path / "video", frames)
    write_mask(tmp_path / "m.png", masks[0].astype(np.uint16) * 300, None)
    out = tmp_path / "masks"
    words = ["propagate", str(video), "--mask", str(tmp_path / "m.png"), "--out", str(out)]
    assert main([*words, "--overlay", str(tmp_path / "o.mp4"), *FAST]) == 0
    assert set(read_mask(out / "shot5.png").objects()) == {300, 2100}


def test_an_object_smaller_than_a_cell_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, masks = _moving_squares()
    video = _folder(tmp_path / "video", frames)
    masks[0][5:8, 5:8] = 4
    write_mask(tmp_path / "m.png", masks[0], None)
    words = ["propagate", str(video), "--mask", str(tmp_path / "m.png")]
    assert main([*words, "--out", str(tmp_path / "small"), *FAST]) == 0
    assert "4 (9 pixels), 7 (1024 pixels); too small to be followed at this --size, give a larger one: 4\n" in (
        capsys.readouterr().err
    )
    assert main([*words, "--out", str(tmp_path / "large"), "--size", "480", "--context", "2"]) == 0
    assert "too small" not in capsys.readouterr().err
    assert 4 in read_mask(tmp_path / "large" / "shot2.png").objects()


def test_colored_ground_truth_is_scored_by_its_colors(tmp_path: Path) -> None:
    """The first object is hidden in later frames: the second one stays the second."""
    colors = np.array([[0, 0, 0], [0, 0, 250], [250, 0, 0]], np.uint8)
    for folder in ("ours", "truth"):
        (tmp_path / folder).mkdir()
    for t in range(4):
        numbers = np.zeros((20, 20), np.uint8)
        numbers[2:8, 2:8], numbers[10:18, 10:18] = (1 if t == 0 else 0), 2
        palette = default_palette()
        palette[:3] = colors
        write_mask(tmp_path / "ours" / f"{t}.png", numbers, palette)
        Image.fromarray(colors[numbers]).save(tmp_path / "truth" / f"{t}.png")
    paths = [sorted((tmp_path / folder).iterdir()) for folder in ("ours", "truth")]
    assert score_masks(*paths)[2][0].mean == 1
    Image.fromarray(colors[[[1, 2], [0, 2]]][::-1]).resize((20, 20), 0).save(tmp_path / "truth" / "0.png")
    write_mask(tmp_path / "ours" / "0.png", np.ones((20, 20), np.uint8), None)
    with pytest.raises(ValueError, match=r"--score: .* has the objects \[1, 2\], expected the mask's, \[1\]"):
        score_masks(*paths)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mask", "nowhere.png"], "--mask: nowhere.png is not a file"),
        (["--mask", "EMPTY"], "mask: got the numbers [0], expected 0 to 65535, not all of them 0"),
        (["--mask", "SMALL"], "frames: frame 0 is (120, 160), expected the mask's (10, 10)"),
        (["--mask", "MASK", "--score", "nowhere"], "--score: nowhere is not a folder"),
        (["--mask", "MASK", "--size", "3"], "size: got 3, expected a whole number of pixels"),
        (["--mask", "MASK", "--preset", "best"], "preset: got 'best', expected one of"),
        (["--mask", "MASK", "--context", "0"], "context: got 0"),
        (["--mask", "MASK", "--weights", "MASK"], "weights: "),
    ],
)
def test_bad_input_is_named_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    frames, masks = _moving_squares()
    video = _folder(tmp_path / "video", frames[:2])
    for name, mask in (("MASK", masks[0]), ("EMPTY", masks[0] * 0), ("SMALL", masks[0][24:34, 24:34])):
        write_mask(tmp_path / f"{name}.png", mask, None)
    words = [str(tmp_path / f"{w}.png") if w.isupper() else w for w in words]
    assert main(["propagate", str(video), "--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("siamfast propagate: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_overlays_tint_objects_and_leave_the_rest() -> None:
    image, numbers = np.full((9, 9, 3), 100, np.uint8), np.zeros((9, 9), np.uint8)
    numbers[3:6, 3:6] = 255
    drawn = draw_mask(image, numbers)
    assert (drawn[0, 0] == 100).all()
    assert drawn[4, 4].tolist() == [114, 50, 50]


def test_matches_follow_the_images_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # its error is ten times this temperature
    rng = np.random.default_rng(0)
    blocks = cv2.resize(rng.integers(0, 255, (30, 40, 3), np.uint8), (320, 240), interpolation=cv2.INTER_NEAREST)
    matches = match(
        MaskPropagator(Colors(), size=240), blocks, np.roll(blocks, (8, 16), (0, 1)), temperature=1e-4, topk=1
    )
    assert matches.flow.shape == (31, 41, 2)
    inner = matches.flow[4:-4, 4:-4]
    assert np.mean(np.abs(inner - (2, 1)).max(-1) < 0.01) > 0.9
    y, x = confident_cells(matches.confidence, 1)[0]
    assert matches.confidence[y, x] == matches.confidence.max()


def test_flow_colors_encode_direction_and_length() -> None:
    right, left, short = flow_color(np.array([[1, 0], [-1, 0], [0.1, 0]], np.float32), 1.0)
    assert right.tolist() == [255, 0, 0]
    assert left.tolist() == [0, 255, 255]
    assert short[0] == 255
    assert short[1] > 200


def test_the_figure_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = SyntheticVideo(5, length=4, size=(120, 160))
    names = [str(tmp_path / f"{t}.png") for t in (0, 3)]
    for name, t in zip(names, (0, 3), strict=True):
        cv2.imwrite(name, video.frame(t)[..., ::-1])
    figure = tmp_path / "figure.png"
    assert main(["show-correspondence", *names, "--out", str(figure), "--size", "120"]) == 0
    drawn = cv2.imread(str(figure))
    assert min(drawn.shape[:2]) > 500
    assert drawn.std() > 10
    assert main(["show-correspondence", *names, "--out", str(tmp_path / "figure.txt")]) == 2
    assert "expected a name ending in" in capsys.readouterr().err
