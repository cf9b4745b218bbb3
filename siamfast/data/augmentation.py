"""Random draws for `siamfast.augment`: how each crop of a batch is moved, mirrored, coloured, blurred and cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from siamfast.data.draws import Draws
from siamfast.geometry import box_centers, index_to_edge
from siamfast.ops.augment import augment, no_draws
from siamfast.ops.augment.reference import COLUMNS

_AT = {name: number for number, name in enumerate(COLUMNS)}
_CUT = (0.1, 0.4)  # sides of a cut-out, as shares of the output's; about random erasing's areas


def draw_augmentation(
    count: int,
    size: tuple[int, int],
    generator: torch.Generator | Draws,
    *,
    out_size: tuple[int, int] | None = None,
    shift: float = 0.0,
    stretch: float = 0.0,
    flip: float | torch.Tensor = 0.0,
    color_jitter: float = 0.0,
    gray: float | torch.Tensor = 0.0,
    blur: float = 0.0,
    noise: float = 0.0,
    cutout: float = 0.0,
) -> torch.Tensor:
    """Draws for a batch, for `siamfast.augment`; the rows are independent of each other.

    Args:
        count: number of images.
        size: (height, width) of the images.
        generator: of the CPU; the draws depend on it alone, so a resumed run draws the same. Or `Draws`: for a part of
            a batch.
        out_size: (height, width) of the output; None: `size`.
        shift: the output's middle moves by up to this many output pixels along x and y. A crop of 239 of 255 pixels
            moves by up to 8 without leaving the image.
        stretch: the output shows up to this share more or less of the image, the same along x and y.
        flip: share of mirrored images, or (count,) bool, one per image.
        color_jitter: brightness, contrast and saturation factors are uniform in 1 +- this.
        gray: share of images made gray, or (count,) bool, one per image.
        blur: share of images blurred by a Gaussian of sigma 0.5 to 2 pixels.
        noise: largest sigma of the noise, grey levels; each image's sigma is uniform from 0 to this.
        cutout: share of images with a rectangle cut out, each side 10 to 40 % of the output's.

    Returns:
        (count, 14) float32 on the CPU; columns as in `siamfast.augment`.

    Raises:
        ValueError: a share outside 0 to 1, or another number outside its range.

    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> draws = draw_augmentation(8, (255, 255), generator, out_size=(239, 239), shift=8, flip=0.5)
    >>> images = torch.zeros(8, 3, 255, 255, dtype=torch.uint8)
    >>> augment(images, draws, out_size=239).shape
    torch.Size([8, 3, 239, 239])
    """
    random = generator if isinstance(generator, Draws) else Draws(generator)
    flips, grays = (_share(n, v, count, random) for n, v in (("flip", flip), ("gray", gray)))
    for name, value, most in (
        ("blur", blur, 1.0), ("cutout", cutout, 1.0), ("color_jitter", color_jitter, 1.0), ("stretch", stretch, 0.45),
        ("noise", noise, 255.0), ("shift", shift, 1e5),
    ):  # fmt: skip
        if not 0 <= value <= most:
            raise ValueError(f"{name}: got {value!r}, expected 0 to {most:g}")

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * random.rand(count)

    height, width = size if out_size is None else out_size
    draws = no_draws(count, size)
    scale = torch.exp(uniform(-1, 1) * torch.log1p(torch.tensor(stretch)))
    draws[:, _AT["x"]] += uniform(-shift, shift) * scale
    draws[:, _AT["y"]] += uniform(-shift, shift) * scale
    draws[:, _AT["step_x"]] = torch.where(flips, -scale, scale)
    draws[:, _AT["step_y"]] = scale
    for name in ("brightness", "contrast", "saturation"):
        draws[:, _AT[name]] = uniform(1 - color_jitter, 1 + color_jitter)
    draws[grays, _AT["saturation"]] = 0
    sigmas, blurred = uniform(0.5, 2.0), uniform(0, 1) < blur
    draws[:, _AT["blur"]] = torch.where(blurred, sigmas, 0.0)
    draws[:, _AT["noise"]] = uniform(0, noise)
    draws[:, _AT["seed"]] = random.randint(1 << 24, count).float()
    cut = uniform(0, 1) < cutout
    for low, high, side in (("left", "right", width), ("top", "bottom", height)):
        length = side * uniform(*_CUT)
        begin = uniform(0, 1) * (side - length)
        draws[:, _AT[low]] = torch.where(cut, begin.round(), 0.0)
        draws[:, _AT[high]] = torch.where(cut, (begin + length).round(), 0.0)
    return draws


def augment_boxes(boxes: torch.Tensor, draws: torch.Tensor, out_size: tuple[int, int]) -> torch.Tensor:
    """Boxes of images, converted to the output of `augment`.

    Args:
        boxes: (N, 4) x, y, w, h in pixels of the images, counted from the edge of the first pixel.
        draws: (N, 14), as given to `augment`.
        out_size: (height, width) of its output.

    Returns:
        (N, 4) in output pixels, with the boxes' dtype and device. They may leave the output.

    Raises:
        RuntimeError: the numbers of boxes and draws differ.

    >>> import torch
    >>> draws = no_draws(1, (255, 255))
    >>> augment_boxes(torch.tensor([[100.0, 100.0, 20.0, 10.0]]), draws, (239, 239)).tolist()
    [[92.0, 92.0, 20.0, 10.0]]
    """
    table = draws.to(boxes)
    middle, step = index_to_edge(table[:, :2]), table[:, 2:4]
    half = boxes.new_tensor([out_size[1] / 2, out_size[0] / 2])
    ends = torch.stack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]))
    low, high = (((ends - middle) / step) + half).aminmax(dim=0)
    return torch.cat((low, high - low), 1)


def augment_pair(
    template: torch.Tensor,
    search: torch.Tensor,
    boxes: torch.Tensor,
    generator: torch.Generator | Draws,
    *,
    flip: float = 0.0,
    color_jitter: float = 0.2,
    gray: float = 0.15,
    blur: float = 0.1,
    noise: float = 0.0,
    cutout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Augment a batch of pairs. Light, blur and noise are drawn per crop, gray and mirroring per pair; only search
    crops get cut-outs.

    Args:
        template: (N, 3, Hz, Wz) uint8 RGB.
        search: (N, 3, Hx, Wx) uint8 RGB.
        boxes: (N, 4) x, y, w, h of the targets in search-crop pixels.
        generator, ...: as for `draw_augmentation`.

    Returns:
        template and search as float32 RGB, 0..255, channels_last, and the boxes.

    >>> import torch
    >>> z, x = torch.zeros(2, 3, 127, 127, dtype=torch.uint8), torch.zeros(2, 3, 255, 255, dtype=torch.uint8)
    >>> [t.shape[2] for t in augment_pair(z, x, torch.ones(2, 4), torch.Generator().manual_seed(0))[:2]]
    [127, 255]
    """
    draws = draw_crops(
        {"template": template, "search": search},
        generator,
        flip=flip,
        gray=gray,
        cutout=cutout,
        color_jitter=color_jitter,
        blur=blur,
        noise=noise,
    )
    size = (search.shape[2], search.shape[3])
    boxes = augment_boxes(boxes, draws["search"], size)
    return augment(template, draws["template"]), augment(search, draws["search"]), boxes


def draw_crops(
    crops: Mapping[str, torch.Tensor],
    generator: torch.Generator | Draws,
    *,
    flip: float | torch.Tensor,
    gray: float | torch.Tensor,
    cutout: float,
    **others: Any,
) -> dict[str, torch.Tensor]:
    """Draws for all crops of a batch of pairs or triples. Mirroring and gray are the same for the crops of a sample,
    the rest is drawn per crop; only search crops get cut-outs.

    Args:
        crops: name -> (N, 3, H, W), each of its own size; "search" is the search crop.
        generator, ...: as for `draw_augmentation`.

    Returns:
        name -> (N, 14) draws, as of `draw_augmentation`.

    >>> import torch
    >>> crops = {"template": torch.zeros(4, 3, 127, 127), "search": torch.zeros(4, 3, 255, 255)}
    >>> draws = draw_crops(crops, torch.Generator().manual_seed(0), flip=0.5, gray=0.1, cutout=0.2, blur=0.1)
    >>> [(name, tuple(rows.shape)) for name, rows in draws.items()]
    [('template', (4, 14)), ('search', (4, 14))]
    """
    count = len(next(iter(crops.values())))
    random = generator if isinstance(generator, Draws) else Draws(generator)
    flip, gray = _share("flip", flip, count, random), _share("gray", gray, count, random)
    return {
        name: draw_augmentation(
            count,
            (images.shape[2], images.shape[3]),
            random,
            flip=flip,
            gray=gray,
            cutout=cutout if name == "search" else 0.0,
            **others,
        )
        for name, images in crops.items()
    }


def _share(name: str, value: float | torch.Tensor, count: int, random: Draws) -> torch.Tensor:
    """(count,) bool: `value` itself, or drawn if it is a share."""
    if isinstance(value, torch.Tensor):
        if value.shape != (count,) or value.dtype != torch.bool:
            raise ValueError(f"{name}: got {tuple(value.shape)} {value.dtype}, expected ({count},) torch.bool")
        return value.cpu()
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: got {value!r}, expected a share between 0 and 1")
    return random.rand(count) < value


def jittered(boxes: torch.Tensor, normal: torch.Tensor, share: float) -> torch.Tensor:
    """Boxes (N, 4) x, y, w, h with middles and sides changed by normal (N, 4) times a share of the sides."""
    sides = boxes[:, 2:] * torch.exp(share * normal[:, 2:].clamp(-3, 3))
    middle = box_centers(boxes) + share * normal[:, :2] * boxes[:, 2:]
    return torch.cat((middle - sides / 2, sides), 1)
