"""Drawing on a frame: box, confidence, response map, masks; and showing it in a window where possible."""

from __future__ import annotations

import colorsys
import os
import sys
from collections.abc import Collection, Hashable, Mapping

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamfast.io.images import Image
from siamfast.io.masks import default_palette

_LOST = " lost"
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


# Okabe and Ito's vermilion, yellow and sky blue, which colour-blind people tell apart too.
_CONFIDENCES = np.array([(213, 94, 0), (240, 228, 66), (86, 180, 233)])


def confidence_color(confidence: float) -> tuple[int, int, int]:
    """RGB from vermilion (0) over yellow (0.5) to blue (1).

    >>> confidence_color(0.0), confidence_color(1.0)
    ((213, 94, 0), (86, 180, 233))
    """
    red, green, blue = (round(np.interp(confidence, (0, 0.5, 1), channel)) for channel in _CONFIDENCES.T)
    return red, green, blue


def draw_box(image: Image, box: ArrayLike, color: tuple[int, int, int], label: str = "") -> Image:
    """Draw a box and its label into `image`, in place; the line width follows the image's size.

    Args:
        image: (H, W, 3) uint8 RGB, contiguous. box: x, y, w, h in pixels, may be outside. color: RGB.
        label: written above the box on black, kept within the image.

    Returns:
        `image`.
    """
    height, width = image.shape[:2]
    # Clipped far outside the image: with the shift, OpenCV's coordinates have 16 bits.
    limits = np.array([-2.0 * width, -2.0 * height, 3.0 * width, 3.0 * height])
    x, y, w, h = np.asarray(box, dtype=np.float64).tolist()
    low_x, low_y = np.clip([x, y], limits[:2], limits[2:]).round().astype(int).tolist()
    high_x, high_y = np.clip([x + w - 1, y + h - 1], limits[:2], limits[2:]).round().astype(int).tolist()
    line = max(2, round(min(height, width) / 240))  # at least 2: a darker line around it would hide a single pixel
    cv2.rectangle(image, (low_x, low_y), (high_x, high_y), BLACK, line + 2)
    cv2.rectangle(image, (low_x, low_y), (high_x, high_y), color, line)
    if label:
        font, size, stroke = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, min(height, width) / 900), max(1, line // 2)
        (text_w, text_h), base = cv2.getTextSize(label, font, size, stroke)
        left = min(max(low_x, 0), max(width - text_w, 0))
        bottom = min(max(low_y - base - line, text_h + line), height - base)
        cv2.rectangle(image, (left, bottom - text_h - 1), (left + text_w, bottom + base - 1), BLACK, cv2.FILLED)
        cv2.putText(image, label, (left, bottom), font, size, color, stroke, cv2.LINE_AA)
    return image


def draw_response(image: Image, response: NDArray[np.float32], left: bool = False) -> Image:
    """Draw a map as a heat map (lowest blue, highest red) into the lower right corner, or the left one, in place.

    Args:
        image: (H, W, 3) uint8 RGB, contiguous. response: (h, w).
    """
    height, width = image.shape[:2]
    side = min(height, width) // 3
    if side < 8:
        return image
    span = float(np.ptp(response))
    gray = ((response - response.min()) * (255.0 / span if span > 0 else 0.0)).astype(np.uint8)
    # An upsampled map of 17 cells is smooth; shrinking by area keeps its peak.
    small = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA if gray.shape[0] > side else cv2.INTER_LINEAR)
    heat = cv2.cvtColor(cv2.applyColorMap(small, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    begin = 0 if left else width - side
    image[height - side :, begin : begin + side] = heat
    cv2.rectangle(image, (begin, height - side), (begin + side - 1, height - 1), WHITE, 1)
    return image


def draw_track(
    image: Image,
    box: ArrayLike,
    confidence: float,
    response: NDArray[np.float32] | None = None,
    guidance: NDArray[np.float32] | None = None,
    lost: bool = False,
) -> Image:
    """A copy of `image` with the box, the confidence and, where given, the response map on the right and the guidance
    on the left; `lost` says so beside the confidence.

    >>> import numpy as np
    >>> draw_track(np.zeros((120, 160, 3), np.uint8), (20, 30, 40, 40), 0.9).shape
    (120, 160, 3)
    """
    drawn = np.ascontiguousarray(image).copy()
    if response is not None:
        draw_response(drawn, response)
    if guidance is not None:
        draw_response(drawn, guidance, left=True)
    return draw_box(drawn, box, confidence_color(confidence), f"{confidence:.2f}{_LOST * lost}")


def target_color(number: int) -> tuple[int, int, int]:
    """A light RGB colour per target; neighbouring numbers differ much.

    >>> target_color(1) != target_color(2)
    True
    """
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1.0, 0.65, 1.0)  # the golden ratio: no two hues near
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_several(image: Image, tracks: Mapping[int, tuple[ArrayLike, float]], lost: Collection[Hashable] = ()) -> Image:
    """A copy of `image` with the boxes of several targets, each in its own colour, with its number and confidence.

    Args:
        image: (H, W, 3) uint8 RGB. tracks: number -> (box x, y, w, h, confidence). lost: the numbers of lost targets.
    """
    drawn = np.ascontiguousarray(image).copy()
    for number, (box, confidence) in tracks.items():
        draw_box(drawn, box, target_color(number), f"{number} {confidence:.2f}{_LOST * (number in lost)}")
    return drawn


def draw_mask(
    image: NDArray[np.uint8], numbers: NDArray[np.uint8] | NDArray[np.uint16], share: float = 0.5
) -> NDArray[np.uint8]:
    """A copy of image (H, W, 3) RGB with the objects of numbers (H, W) tinted, each in its own colour."""
    order = np.zeros(
        max(256, int(numbers.max()) + 1), np.uint8
    )  # colours by rank: a single object with number 255 gets the first colour, not the last
    present = np.unique(numbers[numbers > 0])
    order[present] = present if len(present) and present[-1] < 16 else np.arange(1, len(present) + 1)
    color = default_palette()[order[numbers]].astype(np.float32)
    tinted = np.where((numbers > 0)[..., None], image * (1 - share) + color * share, image)
    edge = np.zeros(numbers.shape, bool)
    edge[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    edge[1:] |= numbers[1:] != numbers[:-1]
    tinted[edge] = 255
    return tinted.astype(np.uint8)


def window_missing() -> str | None:
    """None when a window can be opened, else the reason why not."""
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if gui.split(":")[-1].strip().upper() == "NONE":
        return "this OpenCV is built without windows (opencv-python-headless)"
    # Without a display Qt ends the whole process, so no window may be tried.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    return None


def check_window(option: str) -> None:
    """Raises:
    ValueError: no window can be opened; the message names `option`.
    """
    missing = window_missing()
    if missing is not None:
        raise ValueError(f"{option}: a window cannot be opened: {missing}")


def select_box(image: Image) -> tuple[float, float, float, float]:
    """Let the user draw the box in a window: x, y, w, h.

    Raises:
        ValueError: no window can be opened, or no box was drawn.
    """
    missing = window_missing()
    if missing is not None:
        raise ValueError(f"--box: give it as x,y,w,h: a window to draw it in cannot be opened: {missing}")
    title = "siamfast: draw the box, then press Enter"
    try:
        drawn = cv2.selectROI(title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), showCrosshair=False)
        cv2.destroyWindow(title)
    except cv2.error as error:
        raise ValueError(f"--box: give it as x,y,w,h: a window cannot be opened ({error.err})") from error
    x, y, w, h = (float(v) for v in drawn)
    if w <= 0 or h <= 0:
        raise ValueError("--box: no box was drawn")
    return x, y, w, h


def show(image: Image, box: ArrayLike, *, title: str) -> None:
    """Show a frame with its box in a window.

    Raises:
        ValueError: no window can be opened.
    """
    check_window("visualize")
    show_frame(draw_box(np.ascontiguousarray(image).copy(), box, (0, 255, 0)), title=title)


def show_frame(image: Image, *, title: str) -> str:
    """Show a frame in a window, which `check_window` has allowed; returns the key that was pressed, or ""."""
    cv2.imshow(title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    key = cv2.waitKey(1) & 0xFF
    return chr(key) if key != 0xFF else ""
