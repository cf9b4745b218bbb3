"""One synthetic scene: a background, a target, distractors and occluders, with their motion, light and camera."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.data import textures
from siamfast.data.photos import Photos, Piece
from siamfast.data.sensor import sensor_image
from siamfast.data.sprites import Appearance
from siamfast.data.thing import Thing, curve

Array = NDArray[np.float64]

_BACKGROUND = 512  # side of the background's picture
# Shares of scenes, or of their objects:
_CAMOUFLAGED = 0.25  # targets that look like the background
_STAYS = 0.9  # targets that never leave the frame
_IN_FRONT = 0.3  # moving objects that pass in front of the target
_COVERED = 0.3  # scenes with one more object that passes in front, unlike the target
_COMES_NEAR = 0.75  # copies of the target that come near it; other objects always do
_SHADED = 0.2  # scenes partly in shadow
_COMPRESSED = 0.4  # scenes compressed as JPEG
_MOTION_BLUR = 0.4
# Strengths of effects, drawn evenly from these:
_EXTRA_SURFACES = (0, 1, 1, 2, 4)
_CAMERA_SPEEDS = (0, 0.5, 2.5, 8)  # pixels per frame
_SHAKES = (0, 0, 1.5)  # pixels
_SPEEDS = (0.5, 2, 5, 10)  # sixtieths of the target's size per frame
_LIGHTS = (0, 0.05, 0.2)
_CASTS = (0, 0.05)
_NOISES = (0, 1.5, 4)  # grey levels
_DEFOCUS = (0, 0, 0, 0.8, 1.5)  # pixels


class Scene:
    """A scene, fully decided by its seed; renders any window of any frame.

    Coordinates are frame pixels; the first pixel spans 0 to 1. A window is (x, y, width, height). copies: whether some
    moving objects resemble the target.
    """

    def __init__(
        self,
        seed: tuple[int, ...],
        length: int,
        size: tuple[int, int],
        photos: Photos | None = None,
        *,
        copies: bool = True,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.length, self.height, self.width = seed, length, *size
        self._photos = photos
        picture, piece = self._paint_background(rng)
        self._place_objects(rng, picture, piece, copies)
        self._draw_conditions(rng)

    def _paint_background(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], Piece | None]:
        """Make the background and the camera's motion; returns its picture and, if it is a photograph, its piece."""
        picture, piece = self._surface(rng)
        for _ in range(int(rng.choice(_EXTRA_SURFACES))):  # more surfaces, with random borders: snow, wood, sky
            plane = cv2.resize(textures.bank()[rng.integers(textures.BANK)][..., 0], (_BACKGROUND, _BACKGROUND))
            share = np.clip((plane - np.float32(rng.normal() * 0.7)) * np.float32(rng.uniform(2, 12)) + 0.5, 0, 1)
            picture += (self._surface(rng)[0] - picture) * share[..., None]
        self.background = [picture.astype(np.uint8)]
        for _ in range(3):
            self.background.append(cv2.resize(self.background[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        # A photograph has fewer pixels than a procedural background: enlarged as much it would be blurred, and only the
        # target would be sharp.
        scale = rng.uniform(0.8, 3.0) if piece is None else np.exp(rng.uniform(np.log(0.3), np.log(1.5)))
        self.background_scale = float(scale * max(1.0, self.height / 480))
        self.camera = np.cumsum(curve(rng, self.length, rng.choice(_CAMERA_SPEEDS), 25, 2), 0)
        self.shake = curve(rng, self.length, rng.choice(_SHAKES), 2, 2)
        return picture, piece

    def _place_objects(
        self, rng: np.random.Generator, picture: NDArray[np.float32], piece: Piece | None, copies: bool
    ) -> None:
        """Make the target, the still objects, and the objects that move behind and in front of it."""
        frame, length, photos = np.array([self.width, self.height], float), self.length, self._photos
        target_size = float(self.height * np.exp(rng.uniform(np.log(0.06), np.log(0.4))))
        speed = float(rng.choice(_SPEEDS)) * target_size / 60
        camouflaged = rng.random() < _CAMOUFLAGED
        appearance = Appearance.draw(rng, photos)
        if camouflaged and piece is not None and photos is not None:
            appearance = Appearance(
                appearance.base, appearance.contrast, appearance.source, photos, replace(piece.near(rng), size=0.4)
            )
        elif camouflaged:
            mean_color = picture.reshape(-1, 3)[rng.integers(0, picture.size // 3, 50)].mean(0)
            appearance = Appearance(mean_color + rng.normal(size=3) * 15, appearance.contrast, appearance.source)
        self.target = Thing(
            rng, length, target_size, frame * rng.uniform(0.2, 0.8, 2), speed, appearance=appearance, photos=photos
        )
        if rng.random() < _STAYS:
            self.target.position = _reflected(self.target.position, 0.08 * frame, 0.92 * frame)
        self.still = [
            Thing(
                rng,
                length,
                target_size * np.exp(rng.normal() * 0.8),
                frame * rng.uniform(-0.1, 1.1, 2),
                0,
                still=True,
                photos=photos,
            )
            for _ in range(int(rng.integers(0, 20)))
        ]
        self.behind: list[Thing] = []
        self.front: list[Thing] = []
        for _ in range(int(rng.integers(0, 6))):
            model = self.target if copies else None
            thing = self._passer(rng, target_size * np.exp(rng.normal() * 0.25), speed, model)
            (self.front if rng.random() < _IN_FRONT else self.behind).append(thing)
        if rng.random() < _COVERED:
            self.front.append(self._passer(rng, target_size * rng.uniform(0.4, 1.2), speed * 1.5, None))

    def _draw_conditions(self, rng: np.random.Generator) -> None:
        """Draw light, shadow, noise and blur."""
        length = self.length
        self.light = np.clip(1 + curve(rng, length, rng.choice(_LIGHTS), 20), 0.4, 1.8)
        self.cast = 1 + curve(rng, length, rng.choice(_CASTS), 40, 3)
        self.shadow = rng.uniform(0.4, 0.85) if rng.random() < _SHADED else 1.0
        self.shadow_line = (rng.uniform(0, 2 * np.pi), curve(rng, length, 0.3, 40)[:, 0], rng.uniform(0.01, 0.1))
        self.noise = float(rng.choice(_NOISES))
        self.jpeg = bool(rng.random() < _COMPRESSED)
        self.defocus = float(rng.choice(_DEFOCUS))
        self.blurs = bool(rng.random() < _MOTION_BLUR)

    def _surface(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], Piece | None]:
        """A background's picture and, if it is from a photograph, its piece."""
        if self._photos is None or rng.random() < textures.PROCEDURAL:
            return textures.cut(rng, _BACKGROUND), None
        piece = self._photos.draw(rng, middle=False)
        return self._photos.paint(piece, _BACKGROUND), piece

    def _passer(self, rng: np.random.Generator, size: float, speed: float, like: Thing | None) -> Thing:
        """An object that comes near the target at some moment: a distractor or an occluder."""
        start = np.array([self.width, self.height]) * rng.uniform(0, 1, 2)
        thing = Thing(rng, self.length, size, start, speed, like=like, photos=self._photos)
        if like is None or rng.random() < _COMES_NEAR:
            moment, distance = int(rng.integers(self.length)), 1.6 if like is not None else 0.4
            meets = self.target.position[moment] + rng.normal(size=2) * self.target.size * distance
            thing.position = thing.position - thing.position[moment] + meets
        return thing

    def box(self, t: int) -> Array:
        """(4,) x, y, w, h: the tight box of the target's whole silhouette, visible or not."""
        points = self.target.points(t) + self.shake[t]
        low, high = points.min(0), points.max(0)
        return np.concatenate([low, high - low])

    def visible(self, t: int) -> float:
        """The share of the target's silhouette that is inside the frame and not covered."""
        x, y, w, h = self.box(t)
        inside = x >= 0 and y >= 0 and x + w <= self.width and y + h <= self.height
        if inside and not self.front:
            return 1.0
        scale = 40 / max(w, h)
        canvas = np.zeros((max(1, round(h * scale)), max(1, round(w * scale)), 1), np.float32)
        corner = np.array([x, y])
        self._draw(canvas, self.target, t, corner, np.full(2, scale), paint=1.0)
        total = float(canvas.sum())
        for thing in self.front:
            self._draw(canvas, thing, t, corner, np.full(2, scale), paint=0.0)
        self._fill_outside(canvas, corner, np.full(2, scale), np.zeros(1))
        return float(canvas.sum()) / total if total else 0.0

    def mask(self, t: int) -> NDArray[np.uint8]:
        """(height, width): 1 where the target is visible, 0 elsewhere, also where an object in front covers it."""
        canvas = np.zeros((self.height, self.width, 1), np.float32)
        for thing in (self.target, *self.front):
            self._draw(canvas, thing, t, np.zeros(2), np.ones(2), paint=float(thing is self.target))
        return (canvas[..., 0] > 0.5).astype(np.uint8)

    def render(
        self, t: int, window: tuple[float, float, float, float], out: tuple[int, int], *, with_target: bool = True
    ) -> NDArray[np.uint8]:
        """The window of frame t as (out_height, out_width, 3) uint8 RGB; outside the frame, its mean colour.

        An enlarged window is first drawn in the frame's own pixels, so a small target is as coarse as in a photograph.
        """
        x, y, width, height = window
        native = min(out[0], max(1, round(height))), min(out[1], max(1, round(width)))
        scale, corner = np.array([native[1] / width, native[0] / height]), np.array([x, y])
        canvas = self._composite(t, corner, scale, native, with_target)
        if x < 0 or y < 0 or x + width > self.width or y + height > self.height:
            shape = (24, max(1, round(24 * self.width / self.height)))
            small = self._composite(
                t, np.zeros(2), np.array([shape[1] / self.width, shape[0] / self.height]), shape, with_target
            )
            self._fill_outside(canvas, corner, scale, small.mean((0, 1)))
        image = sensor_image(canvas, (*self.seed, t), window, noise=self.noise, compress=self.jpeg)
        if native == out:
            return image
        return np.asarray(cv2.resize(image, out[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)

    def _composite(
        self, t: int, corner: Array, scale: Array, out: tuple[int, int], with_target: bool
    ) -> NDArray[np.float32]:
        canvas = self._draw_background(t, corner, scale, out)
        for thing in self.still:
            self._draw(canvas, thing, t, corner - self.camera[t], scale)
        for thing in (*self.behind, *([self.target] if with_target else []), *self.front):
            self._draw(canvas, thing, t, corner, scale)
        canvas *= (self.light[t] * self.cast[t]).astype(np.float32)
        if self.shadow < 1:
            canvas *= self._shade(t, corner, scale, out)
        if self.blurs:
            canvas = self._motion_blur(canvas, t, scale)
        if self.defocus:
            canvas = cv2.GaussianBlur(canvas, (0, 0), self.defocus * float(np.clip(scale[0], 0.3, 2)))
        return canvas

    def _draw_background(self, t: int, corner: Array, scale: Array, out: tuple[int, int]) -> NDArray[np.float32]:
        step = self.background_scale * scale  # window pixels per background pixel
        level = int(np.clip(np.floor(-np.log2(step.min())), 0, 3))
        step = step * 2**level
        shift = (self.camera[t] + self.shake[t] - corner) * scale + 0.5 * step - 0.5
        affine = np.array([[step[0], 0, shift[0]], [0, step[1], shift[1]]])
        picture = cv2.warpAffine(self.background[level], affine, out[::-1], borderMode=cv2.BORDER_REFLECT)
        return picture.astype(np.float32)

    def _draw(
        self, canvas: NDArray[np.float32], thing: Thing, t: int, corner: Array, scale: Array, paint: float | None = None
    ) -> None:
        for sprite, matrix, origin in thing.placed(t):
            place = (origin + self.shake[t] - corner) * scale
            sprite.draw(canvas, matrix * scale[:, None], place, float(thing.gain[t]), paint, side=float(thing.side[t]))

    def _shade(self, t: int, corner: Array, scale: Array, out: tuple[int, int]) -> NDArray[np.float32]:
        """A soft-edged shadow over one side of a moving line."""
        angle, offset, softness = self.shadow_line
        direction = np.array([np.cos(angle), np.sin(angle)])
        x = (corner[0] + np.arange(out[1]) / scale[0]) / self.width - 0.5
        y = (corner[1] + np.arange(out[0]) / scale[1]) / self.height - 0.5
        distance = (direction[0] * x + direction[1] * y[:, None] - offset[t]) / softness
        side = np.clip(distance, -1, 1) * 0.5 + 0.5
        return (self.shadow + (1 - self.shadow) * side).astype(np.float32)[..., None]

    def _motion_blur(self, canvas: NDArray[np.float32], t: int, scale: Array) -> NDArray[np.float32]:
        """Blur along the target's motion over 0.3 frames, as by a shutter open for a third of the time."""
        path = self.target.position + self.shake
        motion = (path[min(t + 1, self.length - 1)] - path[max(t - 1, 0)]) / 2 * scale * 0.6
        reach = min(float(np.hypot(*motion)) / 2, 8.0)
        if reach < 0.75:
            return canvas
        half = int(np.ceil(reach))
        kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        end = np.round(motion / np.hypot(*motion) * reach).astype(int)
        cv2.line(kernel, tuple((half - end).tolist()), tuple((half + end).tolist()), 1.0)
        return cv2.filter2D(canvas, -1, kernel / kernel.sum())

    def _fill_outside(self, canvas: NDArray[np.float32], corner: Array, scale: Array, fill: Array) -> None:
        x0, y0 = np.round(-corner * scale).astype(int).tolist()
        x1, y1 = np.round((np.array([self.width, self.height]) - corner) * scale).astype(int).tolist()
        canvas[: max(0, y0)] = fill
        canvas[max(0, y1) :] = fill
        canvas[:, : max(0, x0)] = fill
        canvas[:, max(0, x1) :] = fill


def _reflected(path: Array, low: Array, high: Array) -> Array:
    """The path folded back at the borders, so that it stays between `low` and `high`."""
    span = high - low
    phase = np.mod(path - low, 2 * span)
    return low + np.minimum(phase, 2 * span - phase)
