"""Photographs as textures and as pairs of views depend on their seeds alone and have exact boxes."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from siamfast.cli import main
from siamfast.data import textures
from siamfast.data.bends import POSES, Bend
from siamfast.data.cutouts import normalized_cut
from siamfast.data.photos import Photos
from siamfast.data.sprites import Appearance, Cutout, Sprite
from siamfast.data.static_pairs import StaticPairs, _Place
from siamfast.data.synthetic import SyntheticPairs, SyntheticVideo
from siamfast.models.mobilenet import ARCHITECTURE, MobileNetV2
from siamfast.models.weights import save_tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six photographs of dead leaves, one in a subfolder, and a file that is no photograph."""
    root = tmp_path_factory.mktemp("photos")
    (root / "more").mkdir()
    for number in range(6):
        image = textures.dead_leaves(np.random.default_rng(number)) * 60 + 120
        image = cv2.resize(np.clip(image, 0, 255), (300, 200 + 10 * number)).astype(np.uint8)
        cv2.imwrite(str(root / ("more" if number == 5 else ".") / f"{number}.png"), image)
    (root / "SOURCE.txt").write_text("made here")
    return root


def test_photographs_are_listed_at_any_depth_and_scaled_down(folder: Path, tmp_path: Path) -> None:
    photos = Photos(folder)
    assert sorted(f.name for f in photos.files) == [f"{n}.png" for n in range(6)]
    assert photos.read(0).shape == (200, 300, 3)
    cv2.imwrite(str(tmp_path / "large.jpg"), np.full((960, 1600, 3), 90, np.uint8))
    assert Photos(tmp_path).read(0).shape == (320, 533, 3)
    assert len(pickle.loads(pickle.dumps(photos))) == 6


def test_a_piece_is_cut_at_its_stated_place(folder: Path) -> None:
    photos = Photos(folder)
    piece = photos.draw(np.random.default_rng(0), middle=True)
    image = photos.read(piece.number)
    size = round(piece.size * min(image.shape[:2]))
    whole = photos.paint(piece, size)
    plain = whole[:, ::-1] if piece.mirrored else whole
    if piece.color is None:
        differences = cv2.matchTemplate(image, plain.astype(np.uint8), cv2.TM_SQDIFF)
        assert differences.min() == 0
    assert whole.shape == (size, size, 3)


@pytest.mark.parametrize(("name", "error"), [("missing", FileNotFoundError), ("empty", ValueError)])
def test_a_folder_without_photographs_is_named(tmp_path: Path, name: str, error: type[Exception]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=rf"photos: .*{name}"):
        Photos(tmp_path / name)


def test_a_damaged_photograph_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="torn.jpg cannot be decoded"):
        Photos(tmp_path).read(0)


def test_four_of_five_textures_are_photographs(folder: Path) -> None:
    photos = Photos(folder)
    textures = [
        SyntheticVideo(seed, length=2, size=(60, 80), photos=photos)._scene.target.appearance for seed in range(120)
    ]
    share = np.mean([look.piece is not None for look in textures])
    assert 0.65 < share < 0.95  # 0.8, three deviations of 120 draws wide
    plain = SyntheticVideo(3, length=2, size=(60, 80))
    assert plain._scene.target.appearance.piece is None


def test_pairs_with_photographs_depend_on_seed_and_index_alone(folder: Path) -> None:
    pairs = [SyntheticPairs(40, seed=1, photos=folder, recent=3, exemplar=129, instance=257) for _ in range(2)]
    for index in (0, 7, 31):
        first, second = pairs[0][index], pairs[1][index]
        assert all(first[name].equal(second[name]) for name in first)
        assert first["recent"].shape == first["template"].shape == (3, 129, 129)


def test_static_pairs_depend_on_their_seed_alone(folder: Path) -> None:
    first, second, other = (StaticPairs(folder, 50, seed=seed, recent=2) for seed in (0, 0, 1))
    for index in (0, 13, 49):
        pair, again = first[index], second[index]
        assert all(pair[name].equal(again[name]) for name in pair)
        assert not pair["search"].equal(other[index]["search"])
    with pytest.raises(IndexError, match="got 50"):
        first[50]


def test_static_pairs_have_the_fields_of_other_sources(folder: Path) -> None:
    options = {"seed": 2, "exemplar": 129, "instance": 257, "recent": 3}
    static, drawn = StaticPairs(folder, 4, **options)[1], SyntheticPairs(4, **options)[1]  # type: ignore[arg-type]
    assert static.keys() == drawn.keys()
    assert all(static[name].dtype == drawn[name].dtype and static[name].shape == drawn[name].shape for name in drawn)


@pytest.mark.parametrize("seed", range(16))
def test_the_box_of_a_view_surrounds_the_target(seed: int) -> None:
    """A target painted white on black: its extent in the crop is the box, except for blur from resampling."""
    rng = np.random.default_rng(seed)
    box = np.array([120.0, 90, 90, 60])
    place = _Place(np.zeros((240, 320, 3), np.uint8), box, False)
    angle = np.linspace(0, 2 * np.pi, 400)
    outline = np.stack([np.sign(f) * np.abs(f) ** 0.7 for f in (np.cos(angle), np.sin(angle))], 1) * box[2:] / 2
    points = np.round((outline + place.middle - 0.5) * 16).astype(np.int32)
    place.image = np.ascontiguousarray(cv2.fillPoly(place.image.copy(), [points], (255, 255, 255), cv2.LINE_AA, 4))
    view = place.view(rng)
    target = place.box_in(view)
    center, size, side = target[:2] + target[2:] / 2 + rng.normal(size=2) * 10, 200.0, 257
    crop = place.crop(view, center, size, side)
    rows, columns = (np.nonzero(crop[..., 0].max(axis) > 127)[0] for axis in (1, 0))
    expected = np.concatenate([(target[:2] - center) * side / size + side / 2, target[2:] * side / size])
    measured = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    # fillPoly paints up to half a pixel beyond the outline, which is enlarged 1.3 to 1.6 times here, at both ends.
    np.testing.assert_allclose(measured, expected, atol=3.5)


# -------------------------------------------------------------------------------------------- things in photographs
@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One photograph of a red ellipse on green, marked by its alpha channel; and one without."""
    root = tmp_path_factory.mktemp("marked")
    image = np.zeros((200, 300, 4), np.uint8)
    image[..., 1] = 160
    cv2.ellipse(image, (170, 90), (60, 40), 0, 0, 360, (0, 0, 230, 255), -1)
    cv2.imwrite(str(root / "thing.png"), image)
    cv2.imwrite(str(root / "plain.png"), np.full((200, 300, 3), 90, np.uint8))
    return root


def test_an_alpha_channel_marks_an_object(marked: Path) -> None:
    photos = Photos(marked)
    (number,) = photos.marked
    outline = photos.outline(number)
    assert outline is not None
    np.testing.assert_allclose([*outline.min(0), *outline.max(0)], [110, 50, 231, 131], atol=1)
    assert photos.outline(1 - number) is None
    marked_thing = photos.thing(np.random.default_rng(0))
    assert marked_thing is not None
    assert marked_thing[0] == number


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cutouts_pixels_match_its_outline(marked: Path, mirrored: bool) -> None:
    """Red inside the outline, green outside, except for blur from resampling at the border."""
    photos = Photos(marked)
    cutout = Cutout(photos, photos.marked[0], mirrored, np.zeros(3))
    sprite = Sprite(np.random.default_rng(0), cutout.points, Appearance.draw(np.random.default_rng(1)), cutout)
    picture = cutout.paint(sprite.scale)
    inside, outside = (cv2.erode(alpha, np.ones((7, 7))) > 0 for alpha in (sprite._alpha, 255 - sprite._alpha))
    assert (picture[inside][:, 0] > 200).all()
    assert (picture[outside][:, 0] < 30).all()
    assert abs(np.ptp(cutout.points[:, 0]) / np.ptp(cutout.points[:, 1]) - 121 / 81) < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_a_bent_cutouts_pixels_match_its_outline(marked: Path, seed: int) -> None:
    """Holds in all poses, and the extent equals the outline's."""
    photos, rng = Photos(marked), np.random.default_rng(seed)
    cutout = Cutout(photos, photos.marked[0], False, np.zeros(3))
    bend = Bend.draw(rng, float(np.abs(cutout.points).max()))
    sprite = Sprite(rng, cutout.points, Appearance.draw(rng), cutout, bend)
    sprite._shade = np.ones_like(sprite._shade)
    extents = []
    for pose in range(POSES):
        picture = sprite.pyramid(pose / POSES)[0]
        inside, outside = (cv2.erode(a, np.ones((9, 9))) > 0 for a in (picture[..., 3], 255 - picture[..., 3]))
        assert (picture[inside][:, 0] > 190).all()
        assert (picture[outside][:, 0] < 40).all()
        outline = sprite.outline(pose / POSES) * sprite.scale + 56
        rows, columns = (np.nonzero(picture[..., 3].max(axis) > 127)[0] for axis in (1, 0))
        low, high = outline.min(0), outline.max(0)
        np.testing.assert_allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], [*low, *high], atol=1.5)
        extents.append(high - low)
    assert np.ptp(extents, axis=0).max() > 4  # the cutout bends


def test_objects_become_targets_and_distractors(marked: Path) -> None:
    photos = Photos(marked)
    scenes = [SyntheticVideo(seed, length=2, size=(120, 160), photos=photos)._scene for seed in range(60)]
    assert 0.3 < np.mean([scene.target.cutout is not None for scene in scenes]) < 0.7  # half, three deviations wide
    boxes = [StaticPairs(marked, 20, instance=257, exemplar=129)[i]["template_box"] for i in range(20)]
    aspects = np.array([float(box[2] / box[3]) for box in boxes])
    assert (np.abs(aspects - 121 / 81) < 0.05).mean() > 0.4  # the ellipse's own, in seven of ten


def test_a_normalized_cut_separates_different_textures() -> None:
    rng = np.random.default_rng(0)
    cells = np.zeros((12, 16), bool)
    cells[3:9, 5:12] = True
    texture, other = rng.normal(size=(2, 32, 1, 1))
    features = np.where(cells, texture, other) + rng.normal(size=(32, 12, 16)) * 0.1
    cut = normalized_cut(features)
    assert np.array_equal(cut.cells, cells)
    assert cut.border == 0


def test_cutouts_are_written_once(tmp_path: Path, marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = MobileNetV2()
    save_tensors(model.state_dict(), tmp_path / "b.safetensors", architecture=ARCHITECTURE, metadata={})
    words = ["cutouts", str(marked), str(tmp_path / "out"), "--backbone", str(tmp_path / "b.safetensors")]
    assert main(words) == 0
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert {Path(name).stem for name in written} == {"thing", "plain"}
    assert main(words) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == written
    assert "of 2 photographs show an object" in capsys.readouterr().out
    assert main(["cutouts", str(marked), str(marked)]) == 2
    assert "is PHOTOS" in capsys.readouterr().err


def test_negatives_of_static_pairs_show_another_photograph(folder: Path) -> None:
    items = [StaticPairs(folder, 40, negatives=1.0)[i] for i in range(8)]
    assert not any(bool(item["positive"]) for item in items)
