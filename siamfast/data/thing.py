"""Objects of synthetic scenes: their parts, appearance and motion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from siamfast.data.bends import Bend
from siamfast.data.photos import Photos
from siamfast.data.sprites import Appearance, Cutout, Points, Sprite, outline

Array = NDArray[np.float64]

# Shares of objects, or of their parts:
_CUTOUTS = 0.5  # cut out of photographs, if some have marked objects
_MIRRORED = 0.5  # share of the cut-outs
_BENT = 0.6  # share of the cut-outs
_RECOLORED = (0.0, 5.0, 15.0)  # deviations of a colour added to cut-outs, grey levels; drawn evenly
_RESEMBLES = 0.65  # copies of another object that have its appearance
_SAME_PARTS = 0.6  # copies with the same number of parts
_ONE_PART = 0.5  # moving objects that are rigid; the others have up to _MOST_PARTS
_MOST_PARTS = 5
_LIMB_LIKE_BODY = 0.45  # limbs with the body's appearance
_BODY_BEHIND = 0.5  # objects with their limbs in front
_SOMERSAULTS = 0.2  # objects that turn round and round
_TURNS_AWAY = 0.4  # objects that turn out of the plane


def curve(rng: np.random.Generator, length: int, amplitude: float, frames: float, channels: int = 1) -> Array:
    """(length, channels): a smooth curve through normal random values of deviation `amplitude`, every `frames`
    frames."""
    knots = max(2, int(length / frames) + 3)
    values = rng.normal(size=(knots, channels)) * amplitude
    at = np.linspace(0, knots - 1.001, length)
    low = at.astype(int)
    share = (at - low)[:, None]
    share = share * share * (3 - 2 * share)
    return values[low] * (1 - share) + values[low + 1] * share


class Thing:
    """An object of one to five parts that move, turn, scale, shear and swing."""

    def __init__(
        self,
        rng: np.random.Generator,
        length: int,
        size: float,
        start: Array,
        speed: float,
        *,
        like: Thing | None = None,
        appearance: Appearance | None = None,
        still: bool = False,
        photos: Photos | None = None,
    ) -> None:
        self.size = size
        # (sprite, joint in the body's units, size, swing in radians per frame)
        self.parts: list[tuple[Sprite, Array, float, Array]] = []
        resembles = like is not None and rng.random() < _RESEMBLES
        self.aspect: float = (
            like.aspect if resembles and like else float(np.exp(np.clip(rng.normal() * 0.5, -1.3, 1.3)))
        )
        self.appearance: Appearance = (
            like.appearance.near(rng) if resembles and like else (appearance or Appearance.draw(rng, photos))
        )
        self.cutout = self._cut(rng, photos, like)
        if self.cutout is not None:
            points = self.cutout.points
            bends = not still and rng.random() < _BENT
            bend = Bend.draw(rng, float(np.abs(points).max())) if bends else None
            sprite = Sprite(rng, points, self.appearance, self.cutout, bend)
            self.parts = [(sprite, np.zeros(2), 1.0, np.zeros(length))]
            self._move(rng, length, start, speed, still)
            self.side = np.zeros(length)  # a cut-out has no other sides
            if bends:
                self.side += rng.random() + np.cumsum(curve(rng, length, rng.choice([0.01, 0.03, 0.08]), 30)[:, 0])
            return
        count = 1 if still or rng.random() < _ONE_PART else int(rng.integers(2, _MOST_PARTS + 1))
        if like is not None and rng.random() < _SAME_PARTS:
            count = len(like.parts)
        for index in range(count):
            shares_appearance = index == 0 or rng.random() < _LIMB_LIKE_BODY
            aspect = self.aspect if index == 0 else float(np.exp(rng.normal() * 0.7))
            sprite = Sprite(
                rng, outline(rng, aspect), self.appearance if shares_appearance else Appearance.draw(rng, photos)
            )
            if index == 0:
                self.parts.append((sprite, np.zeros(2), 1.0, np.zeros(length)))
                continue
            angle = rng.uniform(0, 2 * np.pi)
            joint = self.parts[0][0].half * (np.cos(angle), np.sin(angle)) * rng.uniform(0.6, 1.05)
            swing = curve(rng, length, float(rng.choice([0.05, 0.3, 0.7])), rng.uniform(6, 30))[:, 0]
            self.parts.append((sprite, joint, rng.uniform(0.25, 0.75), swing + rng.uniform(-np.pi, np.pi)))
        if rng.random() < _BODY_BEHIND:
            self.parts.reverse()
        self._move(rng, length, start, speed, still)

    @staticmethod
    def _cut(rng: np.random.Generator, photos: Photos | None, like: Thing | None) -> Cutout | None:
        """An object cut out of a photograph, one that resembles `like`'s, or None."""
        if photos is None or not photos.marked:
            return None
        if like is not None and like.cutout is not None and rng.random() < _RESEMBLES:
            return like.cutout.near(rng)
        piece = photos.thing(rng) if rng.random() < _CUTOUTS else None
        if piece is None:
            return None
        return Cutout(photos, piece[0], bool(rng.random() < _MIRRORED), rng.normal(size=3) * rng.choice(_RECOLORED))

    def _move(self, rng: np.random.Generator, length: int, start: Array, speed: float, still: bool) -> None:
        ones = np.ones(length)
        self.gain, self.turn, self.zoom = ones, rng.uniform(-np.pi, np.pi) * ones, 0 * ones
        self.shear, self.position = np.zeros((length, 2)), np.repeat(start[None], length, 0)
        self.narrow, self.side = ones, 0 * ones
        if still:
            return
        self.position = start + np.cumsum(curve(rng, length, speed, rng.uniform(8, 40), 2), 0)
        self.turn = rng.normal() * 0.3 + curve(rng, length, rng.choice([0, 0.1, 0.3, 0.8]), rng.uniform(15, 60))[:, 0]
        if rng.random() < _SOMERSAULTS:
            self.turn += rng.normal() * 0.06 * np.arange(length)
        self.zoom = curve(rng, length, rng.choice([0.02, 0.12, 0.3]), rng.uniform(25, 80))[:, 0]
        self.zoom -= self.zoom[0]
        self.shear = curve(rng, length, rng.choice([0, 0.08, 0.2]), rng.uniform(10, 50), 2)
        if rng.random() < _TURNS_AWAY:  # narrower or wider, and its other sides come into view
            self.narrow = np.exp(curve(rng, length, 0.25, rng.uniform(15, 60))[:, 0])
            self.side = curve(rng, length, 0.5, rng.uniform(20, 60))[:, 0]
        self.gain = 1 + np.clip(curve(rng, length, rng.choice([0, 0.05, 0.15]), 30)[:, 0], -0.5, 0.5)

    def placed(self, t: int) -> Iterator[tuple[Sprite, Array, Array]]:
        """(sprite, matrix, origin) of each part in drawing order: a point p in units is at matrix @ p + origin."""
        cos, sin, (a, b) = np.cos(self.turn[t]), np.sin(self.turn[t]), self.shear[t]
        body = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1 + a, b], [0, 1 - a]])
        body = body * [self.narrow[t], 1 / np.sqrt(self.narrow[t])] * (self.size / 2 * np.exp(self.zoom[t]))
        for sprite, joint, size, swing in self.parts:
            cos, sin = np.cos(swing[t]), np.sin(swing[t])
            limb = body @ np.array([[cos, -sin], [sin, cos]]) * size
            # A limb turns about its upper end, the body (joint at its origin) about its middle.
            end = np.array([0, -0.7 * sprite.half[1]]) if joint.any() else np.zeros(2)
            yield sprite, limb, self.position[t] + body @ joint - limb @ end

    def points(self, t: int) -> Points:
        """All outlines in the frame: their extent is the exact box."""
        return np.concatenate(
            [sprite.outline(self.side[t]) @ matrix.T + origin for sprite, matrix, origin in self.placed(t)]
        )
