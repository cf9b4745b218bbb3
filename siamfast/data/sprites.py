"""Textured shapes with exact outlines: the parts of the objects in synthetic video."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.data import textures
from siamfast.data.bends import POSES, Bend
from siamfast.data.photos import Photos, Piece
from siamfast.geometry import edge_to_index, middle_by_index

SIDE = 112  # pixels of a sprite's picture
_FACES = POSES  # views of a texture in a full turn
_MARGIN = 3  # clear pixels around the shape, so that filtering has a transparent border

Points = NDArray[np.float64]  # (P, 2) x, y


def outline(rng: np.random.Generator, aspect: float) -> Points:
    """A closed outline around the origin, about 2 * sqrt(aspect) wide and 2 / sqrt(aspect) high."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    kind = rng.integers(4)
    if kind == 0:  # smooth blob: a circle with random low harmonics
        radius = 1 + sum(rng.normal() * 0.35 / m * np.cos(m * turn + rng.uniform(0, 6.3)) for m in range(2, 7))
        points = np.maximum(radius, 0.25)[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    elif kind == 1:  # polygon, star-shaped
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        if np.diff(np.append(angles, angles[0] + 2 * np.pi)).max() > 2.6:
            angles = np.arange(corners) * 2 * np.pi / corners
        radius = rng.uniform(0.5, 1, corners)
        points = radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    elif kind == 2:  # superellipse, from diamond to almost a box
        power = 2 / rng.uniform(0.8, 6)
        cos, sin = np.cos(turn), np.sin(turn)
        points = np.stack([np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power], 1)
    else:  # quadrilateral
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) + rng.normal(size=(4, 2)) * 0.12
    low, high = points.min(0), points.max(0)
    points = (points - (low + high) / 2) / ((high - low) / 2)
    return points * [np.sqrt(aspect), 1 / np.sqrt(aspect)]


@dataclass(frozen=True)
class Appearance:
    """The look of an object: colour, contrast and source of a procedural texture, or a piece of a photograph."""

    base: NDArray[np.float64]
    contrast: float
    source: int
    photos: Photos | None = None
    piece: Piece | None = None

    @staticmethod
    def draw(rng: np.random.Generator, photos: Photos | None = None) -> Appearance:
        appearance = Appearance(textures.color(rng), float(rng.uniform(4, 55)), int(rng.integers(textures.BANK)))
        if photos is None or rng.random() < textures.PROCEDURAL:
            return appearance
        return replace(appearance, photos=photos, piece=photos.draw(rng, middle=True))

    def near(self, rng: np.random.Generator) -> Appearance:
        """Nearly the same appearance, for a distractor."""
        base = self.base + rng.normal(size=3) * rng.choice([3.0, 12.0, 30.0])
        appearance = replace(self, base=base, contrast=self.contrast * float(rng.uniform(0.8, 1.25)))
        return appearance if self.piece is None else replace(appearance, piece=self.piece.near(rng))

    def paint(self, rng: np.random.Generator, back: bool) -> NDArray[np.float32]:
        """(SIDE, SIDE, 3), 0..255; the back is another piece of the same texture or photograph."""
        if self.photos is None or self.piece is None:
            return textures.cut(rng, SIDE, self.base, self.contrast, self.source)
        return self.photos.paint(self.piece.near(rng) if back else self.piece, SIDE)


class Cutout:
    """An object of a photograph as a sprite's shape and picture.

    Args:
        photos: the photographs.
        number: of the photograph; its alpha channel marks the object.
        mirrored: left and right exchanged. shift: (3,) added to the colours, grey levels.
    """

    def __init__(self, photos: Photos, number: int, mirrored: bool, shift: NDArray[np.float64]) -> None:
        outline = photos.outline(number)
        assert outline is not None
        self._photos, self._number, self._mirrored, self._shift = photos, number, mirrored, shift
        low, high = outline.min(0), outline.max(0)
        self._middle, self._unit = (low + high) / 2, float(np.sqrt((high - low).prod())) / 2
        points = (outline - self._middle) / self._unit
        self.points: Points = points * [-1, 1] if mirrored else points

    def near(self, rng: np.random.Generator) -> Cutout:
        """Nearly the same object, for a distractor."""
        shift = self._shift + rng.normal(size=3) * rng.choice([3.0, 10.0, 25.0])
        return Cutout(self._photos, self._number, bool(rng.random() < 0.3) != self._mirrored, shift)

    def paint(self, scale: float) -> NDArray[np.float32]:
        """(SIDE, SIDE, 3), 0..255, `scale` pixels per unit: the photograph around the object."""
        image = self._photos.read(self._number)
        factor = scale / self._unit
        while factor < 0.6:  # filtered, not sampled
            image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
            factor *= 2
        level = factor * self._unit / scale
        sign = -1.0 if self._mirrored else 1.0
        across, down = (SIDE / 2 - np.array([sign, 1.0]) * self._middle / level * factor).tolist()
        # Pixel centres are at integers for warpAffine, at halves for us.
        matrix = np.array(
            [[sign * factor, 0, across + 0.5 * sign * factor - 0.5], [0, factor, down + 0.5 * factor - 0.5]]
        )
        drawn = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.clip(drawn + self._shift, 0, 255).astype(np.float32)


class Sprite:
    """One shape with a texture all around it, or flat and bent; `points` are in its own units.

    `scale` pixels of its picture are one unit, and the origin is in the middle of the picture. As an argument, `side`
    counts the turns about the upright axis, or the cycles of the bend.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        points: Points,
        appearance: Appearance,
        cutout: Cutout | None = None,
        bend: Bend | None = None,
    ) -> None:
        self.points, self._cutout, self._bend = points, cutout, bend
        self.half = np.abs(points).max(0)
        poses = [points] if bend is None else [points, *(bend.forward(points, pose) for pose in range(POSES))]
        self.scale = (SIDE / 2 - _MARGIN) / float(max(np.abs(pose).max() for pose in poses))
        polygon, alpha = self._silhouette(points)
        self._appearance = appearance
        self._seed = int(rng.integers(2**32))
        self._faces: dict[int, list[NDArray[np.uint8]]] = {}
        y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE - 0.5
        self._shade = np.ones((SIDE, SIDE, 1), np.float32)
        if rng.random() < (0.7 if cutout is None else 0.2):  # light from one side
            self._shade += (rng.uniform(0, 0.7) * (x * rng.normal() + y * rng.normal()))[..., None].astype(np.float32)
        if cutout is None and rng.random() < 0.4:  # darker towards the rim, like round objects
            depth = cv2.distanceTransform(alpha, cv2.DIST_L2, 3)
            self._shade *= (1 - rng.uniform(0.1, 0.7) * np.exp(-depth / rng.uniform(2, 8)))[..., None]
        lined = cutout is None and rng.random() < 0.15
        self._line = (textures.color(rng).tolist(), int(rng.integers(1, 5))) if lined else None
        if cutout is None and rng.random() < 0.05:  # with a hole
            cv2.circle(alpha, (SIDE // 2, SIDE // 2), int(rng.uniform(0.05, 0.2) * SIDE), 0, -1)
        self._polygon, self._alpha = polygon, alpha

    def outline(self, side: float) -> Points:
        """(P, 2) the bent outline, exactly that of the picture."""
        return self.points if self._bend is None else self._bend.forward(self.points, _face(side))

    def _silhouette(self, points: Points) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """The outline in pixels of the picture, with 4 fractional bits, and its inside as 255."""
        polygon = np.round((points * self.scale + middle_by_index(SIDE)) * 16).astype(np.int32)
        alpha = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(alpha, [polygon], 255, cv2.LINE_AA, 4)
        return polygon, alpha

    def _surface(self, back: bool) -> NDArray[np.float32]:
        """The texture of the front or the back with its markings, (SIDE, SIDE, 3); the same at each call."""
        rng = np.random.default_rng((self._seed, back))
        if self._cutout is not None:
            return self._cutout.paint(self.scale)
        paint = self._appearance.paint(rng, back)
        marked = self._appearance.piece is None or rng.random() < 0.2
        for _ in range(int(rng.integers(0, 5)) if marked else 0):  # markings
            at = tuple((rng.uniform(0.2, 0.8, 2) * SIDE).astype(int).tolist())
            axes = tuple(rng.uniform(3, SIDE / 4, 2).astype(int).tolist())
            thickness = int(rng.choice([-1, -1, 2, 4]))
            cv2.ellipse(
                paint, at, axes, rng.uniform(0, 180), 0, 360, textures.color(rng).tolist(), thickness, cv2.LINE_AA
            )
        return paint

    def pyramid(self, side: float = 0.0) -> list[NDArray[np.uint8]]:
        """The picture turned or bent, (SIDE, SIDE, 4) uint8 RGBA, then at half and quarter size, so that small objects
        are filtered, not sampled."""
        face = _face(side)
        if face not in self._faces:
            color, alpha = self._surface(False), self._alpha
            if self._bend is not None:
                place = (np.arange(SIDE, dtype=np.float32) - middle_by_index(SIDE)) / np.float32(self.scale)
                across, down = self._bend.backward(place[None], place[:, None], face)
                x, y = (v.astype(np.float32) * self.scale + np.float32(middle_by_index(SIDE)) for v in (across, down))
                color = cv2.remap(color, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
                alpha = self._silhouette(self.outline(side))[1]
            elif face:  # the front moves out at one edge as the back comes in at the other
                start = face * 2 * SIDE // _FACES
                color = np.roll(np.hstack([color, self._surface(True)]), -start, 1)[:, :SIDE]
            color = color * self._shade
            if self._line:
                cv2.polylines(color, [self._polygon], True, self._line[0], self._line[1], cv2.LINE_AA, 4)
            picture = np.dstack([np.clip(color, 0, 255).astype(np.uint8), alpha])
            half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            quarter = cv2.resize(half, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            self._faces[face] = [picture, half, quarter]  # type: ignore[list-item]
        return self._faces[face]

    def draw(
        self,
        canvas: NDArray[np.float32],  # (H, W, 3), or (H, W, 1) with `paint`; drawn over in place
        matrix: NDArray[np.float64],  # (2, 2) units -> canvas pixels
        origin: NDArray[np.float64],  # (2,) the origin's place in canvas pixels; the first pixel spans 0 to 1
        gain: float = 1.0,
        paint: float | None = None,
        side: float = 0.0,
    ) -> None:
        """Composite the sprite, with its light times `gain`, over the canvas; with `paint`, its silhouette in that
        value."""
        height, width = canvas.shape[:2]
        to_canvas = matrix / self.scale
        level = int(np.clip(np.floor(-np.log2(np.sqrt(abs(np.linalg.det(to_canvas))) + 1e-9)), 0, 2))
        picture = self.pyramid(side if paint is None or self._bend is not None else 0.0)[level]
        to_canvas = to_canvas * 2**level
        # Pixel centres are at integers for warpAffine, at halves for us.
        end = picture.shape[0]
        shift = edge_to_index(origin) - to_canvas @ np.full(2, middle_by_index(end))
        corners = np.array([[-1, -1], [end, -1], [end, end], [-1, end]]) @ to_canvas.T + shift
        x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int), 0).tolist()
        x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height)).tolist()
        if x1 <= x0 or y1 <= y0:
            return
        affine = np.column_stack([to_canvas, shift - (x0, y0)])
        drawn = cv2.warpAffine(
            picture, affine, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        # By rows: NumPy takes several times as long for products with one number per three.
        channels = canvas.shape[2]
        covered = canvas[y0:y1, x0:x1]
        part = covered.reshape(y1 - y0, -1)
        alpha = np.repeat(drawn[..., 3], channels, 1) * np.float32(1 / 255)
        if paint is None:
            color = cv2.cvtColor(drawn, cv2.COLOR_RGBA2RGB).reshape(part.shape) * np.float32(gain)
        else:
            color = np.float32(paint)
        covered[:] = (part + (color - part) * alpha).reshape(covered.shape)


def _face(side: float) -> int:
    """The number of the view or pose to draw."""
    return round(side * _FACES) % _FACES
