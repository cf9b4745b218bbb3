"""The last steps of a rendered window, as in a camera: noise, 8 bits and JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_NOISE: list[NDArray[np.float32]] = []


def sensor_image(
    canvas: NDArray[np.float32],
    seed: tuple[int, ...],
    window: tuple[float, float, float, float],
    *,
    noise: float,
    compress: bool,
) -> NDArray[np.uint8]:
    """Turn a window's light into an image; the result is the same for the same seed and window.

    Args:
        canvas: (H, W, 3) RGB, 0..255.
        seed: of the scene, and the frame's number.
        window: x, y, width, height in frame pixels.
        noise: deviation, grey levels.
        compress: whether the image goes through JPEG.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rng = np.random.default_rng((*seed, *(int(v * 16) & 0xFFFFFFFF for v in window)))
    if noise:
        # One table of noise, entered at random: drawing 200,000 normals would take as long as everything else.
        table = _noise_table()
        start = int(rng.integers(len(table) - canvas.size)) if canvas.size < len(table) else 0
        values = (
            np.resize(table[start:], canvas.size) if canvas.size >= len(table) else table[start : start + canvas.size]
        )
        canvas = canvas + values.reshape(canvas.shape) * np.float32(noise)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    if compress:
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image


def _noise_table() -> NDArray[np.float32]:
    if not _NOISE:
        _NOISE.append(np.random.default_rng(5).normal(size=1_000_000).astype(np.float32))
    return _NOISE[0]
