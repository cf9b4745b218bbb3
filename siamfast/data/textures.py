"""Procedural textures: 1/f noise, dead leaves, patterns, gradients; a bank of them, and coloured pieces of the bank."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from siamfast.data.seeds import Stream

Image = NDArray[np.float32]  # (H, W, 3)

SIDE = 256
BANK = 96  # textures that a process draws once; scenes cut, mix and recolour pieces of them
PROCEDURAL = 0.2  # share of procedural textures if there are photographs


def fractal(rng: np.random.Generator, exponent: float | None = None) -> Image:
    """Noise with a 1/f**exponent spectrum, like natural images (Field 1987); stretched, with correlated channels."""
    exponent = rng.uniform(0.8, 2.2) if exponent is None else exponent
    frequency = np.fft.fftfreq(SIDE)
    radius = np.sqrt(frequency[:, None] ** 2 * rng.uniform(0.4, 2.5) + frequency**2)
    radius[0, 0] = 1.0
    falling = radius**exponent
    share = rng.uniform(0.0, 0.6)  # share of each channel's own noise; the rest is common to all three
    planes = []
    for _ in range(3):
        spectrum = (rng.normal(size=(SIDE, SIDE)) + 1j * rng.normal(size=(SIDE, SIDE))) / falling
        spectrum[0, 0] = 0
        plane = np.fft.ifft2(spectrum).real
        planes.append(plane / (plane.std() + 1e-9))
    return np.stack([share * p + (1 - share) * planes[0] for p in planes], 2).astype(np.float32)


def dead_leaves(rng: np.random.Generator) -> Image:
    """Overlapping opaque discs, boxes and strokes of power-law size (Matheron 1968; Lee, Mumford, Huang 2001)."""
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    palette = rng.normal(size=(int(rng.integers(3, 9)), 3)) * rng.uniform(0.2, 1.0) + rng.normal() * 0.4
    palette += rng.normal(size=(len(palette), 1))
    for _ in range(int(rng.integers(150, 400))):
        radius = min(4 * rng.pareto(1.6) + 2, SIDE / 3)
        color = (palette[rng.integers(len(palette))] + rng.normal(size=3) * 0.15).tolist()
        at = rng.uniform(0, SIDE, 2)
        kind = rng.integers(3)
        if kind == 0:
            axes = (int(radius), int(radius * rng.uniform(0.3, 1)))
            cv2.ellipse(image, _pixel(at), axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
        elif kind == 1:
            sides = (radius * 2, radius * 2 * rng.uniform(0.2, 1))
            corners = cv2.boxPoints((tuple(at), sides, rng.uniform(0, 90)))
            cv2.fillConvexPoly(image, corners.astype(np.int32), color, cv2.LINE_AA)
        else:
            end = at + rng.normal(size=2) * radius * 4
            cv2.line(image, _pixel(at), _pixel(end), color, int(rng.integers(1, 6)), cv2.LINE_AA)
    return image


def pattern(rng: np.random.Generator) -> Image:
    """Stripes, checks, dots or waves at any angle, softened, over a little noise."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
    u = (x * np.cos(angle) + y * np.sin(angle)) / period
    v = (y * np.cos(angle) - x * np.sin(angle)) / period * rng.uniform(0.3, 3)
    kind = rng.integers(4)
    if kind == 0:
        plane = np.sign(np.sin(2 * np.pi * u))
    elif kind == 1:
        plane = np.sign(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v))
    elif kind == 2:
        plane = np.where((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < rng.uniform(0.03, 0.15), 1.0, -1.0)
    else:
        plane = np.sin(2 * np.pi * u) + np.sin(2 * np.pi * v)
    direction = rng.normal(size=3) * 0.6 + rng.normal()
    soft = cv2.GaussianBlur(plane.astype(np.float32), (0, 0), rng.uniform(0.5, 2))
    return soft[..., None] * direction.astype(np.float32) + fractal(rng) * np.float32(rng.uniform(0.05, 0.6))


def gradient(rng: np.random.Generator) -> Image:
    """A plain surface: one linear gradient and faint noise."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE - 0.5
    slope = x * rng.normal() + y * rng.normal()
    tint = (rng.normal(size=3) * 0.5 + 1).astype(np.float32)
    return slope[..., None].astype(np.float32) * tint + fractal(rng, 1.5) * np.float32(rng.uniform(0.02, 0.4))


@cache
def bank() -> tuple[Image, ...]:
    """BANK textures of mean 0 and deviation 1, the same in every process."""
    makers = (fractal, dead_leaves, dead_leaves, pattern, gradient, fractal)
    textures = []
    for index in range(BANK):
        texture = makers[index % len(makers)](np.random.default_rng((Stream.TEXTURES, index)))
        textures.append(((texture - texture.mean()) / (texture.std() + 1e-6)).astype(np.float32))
    return tuple(textures)


def color(rng: np.random.Generator) -> NDArray[np.float64]:
    """An RGB colour, 0..255: any lightness, mostly muted, sometimes saturated, like objects in photographs."""
    lightness, saturation = rng.uniform(20, 230), rng.beta(1.1, 4.0) * 100
    hue = rng.normal(size=3)
    hue -= hue.mean()
    return lightness + saturation * hue / (np.abs(hue).max() + 1e-6)


def cut(
    rng: np.random.Generator,
    side: int,
    base: NDArray[np.float64] | None = None,
    contrast: float | None = None,
    source: int | None = None,
) -> Image:
    """A random piece of a texture in the bank as (side, side, 3), 0..255: `base` colour + `contrast` * texture."""
    texture = bank()[rng.integers(BANK) if source is None else source]
    size = rng.uniform(0.35, 1.0) * SIDE
    x, y = rng.uniform(0, SIDE - size, 2)
    piece = texture[int(y) : int(y + size), int(x) : int(x + size)]
    if rng.random() < 0.5:
        piece = cv2.flip(piece, 1)
    if rng.random() < 0.5:
        piece = cv2.transpose(piece)
    piece = cv2.resize(piece, (side, side), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        piece = piece @ (np.eye(3) + rng.normal(size=(3, 3)) * 0.3).astype(np.float32)
    base = color(rng) if base is None else base
    contrast = rng.uniform(4, 60) if contrast is None else contrast
    # By rows: NumPy takes several times as long for sums with three numbers at a time.
    rows = piece.reshape(side, -1) * np.float32(contrast)
    rows += np.tile(base.astype(np.float32), side)
    return np.clip(rows, 0, 255, out=rows).reshape(side, side, 3)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    return int(point[0]), int(point[1])
