"""Label propagation through a video: the loop over frames around `correspondence_warp`, with the settings of known
projects."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from siamfast.ops.correspondence_warp import correspondence_warp

# Each project's test-time settings. "context": the first frame and this many before the current one.
PRESETS: dict[str, dict[str, Any]] = {
    # Wang, Jabri, Efros 2019: cosine times sqrt(512), the five largest weights after the softmax, frames averaged.
    "timecycle": {
        "temperature": 512**-0.5, "topk": 5, "topk_norm": "post", "frames": "mean", "context": 7, "pad_start": True,
    },
    # Jabri, Owens, Efros 2020: radius 12 (strict), not for the first frame.
    "crw": {
        "temperature": 0.05, "topk": 10, "radius": 12, "window": "circle", "first_global": True, "context": 20,
        "pad_start": True,
    },
    # Caron et al. 2021.
    "dino": {"temperature": 0.1, "topk": 5, "radius": 12, "window": "square", "context": 7},
    # Li et al. 2019: plain products, temperature 1.
    "uvc": {"temperature": 1.0, "normalize": False, "topk": 5, "topk_norm": "post", "frames": "mean", "context": 7},
    # Vondrick et al. 2018: plain products, twice as sharp as in training, the three frames before.
    "color": {"temperature": 0.5, "normalize": False, "context": 3},
}  # fmt: skip


def propagate_labels(
    features: Iterable[torch.Tensor], labels: torch.Tensor, *, preset: str = "crw", **overrides: Any
) -> Iterator[torch.Tensor]:
    """Carry the labels of the first frame through a video, frame by frame.

    Args:
        features: (C, H, W) or (1, C, H, W) per frame, in order; any iterable, read as needed.
        labels: (K, H, W) of the first frame, floating: a mask or a distribution over K classes.
        preset: "timecycle", "crw", "dino", "uvc", or "color" (also "colour") for features trained by colour alone.
        overrides: any option of `correspondence_warp` except returns and global_frames; `context` (number of frames
            before the current one), `first_global` (whether the radius does not bound the first frame), `pad_start`
            (whether copies of the first frame replace those before the video's start, as in CRW and TimeCycle).

    Yields:
        (K, H, W) for every frame; the first is `labels`.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name.

    >>> import torch, siamfast
    >>> video, mask = torch.randn(4, 16, 8, 8), torch.rand(2, 8, 8)
    >>> [tuple(frame.shape) for frame in siamfast.propagate_labels(video, mask, preset="dino", radius=3)]
    [(2, 8, 8), (2, 8, 8), (2, 8, 8), (2, 8, 8)]
    """
    preset = "color" if preset == "colour" else preset  # its former name
    if preset not in PRESETS:
        raise ValueError(f"preset: got {preset!r}, expected one of {', '.join(PRESETS)}")
    if not isinstance(labels, torch.Tensor) or labels.dim() != 3 or not labels.is_floating_point():
        what = tuple(labels.shape) if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ValueError(f"labels: got {what}, expected a floating tensor (K, H, W)")
    options = PRESETS[preset] | overrides
    context, first_global = options.pop("context"), options.pop("first_global", False)
    pad_start = options.pop("pad_start", False)
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise ValueError(f"context: got {context!r}, expected a whole number above 0")
    for name in ("returns", "global_frames", "key_bias"):
        if name in options:
            raise TypeError(f"{name}: got {options[name]!r}, expected none: the loop over frames sets it")
    known = inspect.signature(correspondence_warp).parameters
    unknown = [name for name in overrides if name not in (*known, "context", "first_global", "pad_start")]
    if unknown:
        raise TypeError(f"overrides: got {', '.join(unknown)}, expected options of correspondence_warp")
    return _propagate(features, labels, context, first_global, pad_start, options)


def _propagate(
    features: Iterable[torch.Tensor], labels: torch.Tensor, context: int, first_global: bool, pad_start: bool,
    options: dict[str, Any],
) -> Iterator[torch.Tensor]:  # fmt: skip
    keys: list[torch.Tensor] = []  # the first frame, then the last `context`
    values: list[torch.Tensor] = []
    for number, frame in enumerate(features):
        if not isinstance(frame, torch.Tensor):
            raise TypeError(f"features: got frame {number} of type {type(frame).__name__}, expected a torch.Tensor")
        current = frame.unsqueeze(0) if frame.dim() == 3 else frame
        if current.dim() != 4 or current.shape[0] != 1:
            raise ValueError(f"features: got frame {number} of shape {tuple(frame.shape)}, expected (C, H, W)")
        if number == 0:
            if current.shape[2:] != labels.shape[1:]:
                raise ValueError(
                    f"labels: got {tuple(labels.shape)}, expected the features' grid {tuple(current.shape[2:])}"
                )
            current_labels = labels
        else:
            alone = options.get("radius") is not None and first_global
            current_labels = correspondence_warp(
                current,
                torch.stack(keys, 1),
                torch.stack(values, 1),
                global_frames=(0,) if alone else (),
                **options,
            )[0]
        yield current_labels
        copies = context + 1 if number == 0 and pad_start else 1
        keys += [current] * copies
        values += [current_labels.unsqueeze(0)] * copies
        if len(keys) > context + 1:
            del keys[1], values[1]
