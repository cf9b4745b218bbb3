"""SiamFC's pair of crops of one box: the exemplar and the instance, with their windows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamfast.geometry import box_centers_by_index
from siamfast.ops.crop_and_resize import crop_and_resize, mean_color
from siamfast.ops.crop_and_resize.windows import convention, make_windows


def context_size(boxes: ArrayLike, *, context_amount: float = 0.5) -> Any:
    """The side of the square around a box and its context: s_z = sqrt((w + p)(h + p)), p = context_amount * (w + h).

    Source: Bertinetto et al. 2016, section 3.4, where p = (w + h) / 4 per side, that is context_amount = 0.5.

    Args:
        boxes: (4,) or (M, 4): x, y, w, h in pixels.
        context_amount: 0 or more.

    Returns:
        float64, a number for one box, (M,) for several; pixels.

    Raises:
        ValueError: another shape, sides that are not finite and above 0, or a negative context_amount.

    >>> float(context_size([0, 0, 100, 100]))
    200.0
    """
    values = np.asarray(boxes, dtype=np.float64)
    if values.ndim not in (1, 2) or values.shape[-1] != 4:
        raise ValueError(f"boxes: got shape {values.shape}, expected (4,) or (M, 4)")
    sides = values[..., 2:]
    if not (np.isfinite(values).all() and (sides > 0).all()):
        raise ValueError(f"boxes: got {boxes!r}, expected finite numbers, w and h above 0")
    if not 0 <= context_amount < np.inf:
        raise ValueError(f"context_amount: got {context_amount!r}, expected 0 or more")
    return np.sqrt((sides + context_amount * sides.sum(-1, keepdims=True)).prod(-1))


class SiamFCCrops(NamedTuple):
    """Two crops of one box.

    template, search: (exemplar, exemplar, C), (instance, instance, C), the image's dtype. template_window,
    search_window: (3,) x, y, side of the crop's square, image pixels. template_padding, search_padding: how far it
    reaches beyond the image's left, top, right, bottom edge, pixels. template_box, search_box: (4,) x, y, w, h of the
    target in the crop, crop pixels. scale: crop pixels per image pixel, before rounding.
    """

    template: NDArray[Any]
    search: NDArray[Any]
    template_window: NDArray[np.float64]
    search_window: NDArray[np.float64]
    template_padding: tuple[int, int, int, int]
    search_padding: tuple[int, int, int, int]
    template_box: NDArray[np.float64]
    search_box: NDArray[np.float64]
    scale: float


def siamfc_crops(
    image: NDArray[Any], box: ArrayLike, *, exemplar: int = 127, instance: int = 255, context_amount: float = 0.5
) -> SiamFCCrops:
    """The exemplar and instance crops of a box, as in SiamFC's curation: both padded with the image's mean.

    Args:
        image: (H, W, C) numpy array.
        box: (4,) x, y, w, h in 0-based pixels.
        exemplar, instance: sides of the crops in pixels.
        context_amount: context around the box, as a share of w + h.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> import numpy as np, siamfast
    >>> crops = siamfast.siamfc_crops(np.zeros((360, 480, 3), np.uint8), (10, 20, 60, 80))
    >>> crops.template.shape, crops.search.shape, crops.search_padding
    ((127, 127, 3), (255, 255, 3), (100, 80, 0, 0))
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise TypeError(f"image: got {type(image).__name__}, expected a numpy array (H, W, C)")
    side = float(context_size(box, context_amount=context_amount))
    target = np.asarray(box, dtype=np.float64)
    x, y, w, h = target.tolist()
    center = box_centers_by_index(target)
    mean = mean_color(image)
    color = np.trunc(mean) if image.dtype == np.uint8 else mean
    crops, windows, paddings, boxes = [], [], [], []
    for out, size in ((exemplar, side), (instance, side * instance / exemplar)):
        crops.append(crop_and_resize(image, center, size, out, fill=color, rounding="siamfc")[0])
        left, top, wide, _ = make_windows(center, size, convention("siamfc"))[0].tolist()
        windows.append(np.array([left, top, wide]))
        right, bottom = left + wide - image.shape[1], top + wide - image.shape[0]
        over_left, over_top, over_right, over_bottom = (max(0, int(v)) for v in (-left, -top, right, bottom))
        paddings.append((over_left, over_top, over_right, over_bottom))
        boxes.append(np.array([x - left, y - top, w, h]) * (out / wide))
    return SiamFCCrops(
        crops[0], crops[1], windows[0], windows[1], paddings[0], paddings[1], boxes[0], boxes[1], exemplar / side
    )
