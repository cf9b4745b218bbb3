"""What a mobile tracker asks of an engine, and the engine in PyTorch; `mobile_onnx` has the one in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from siamfast.geometry import STRIDE, box_centers_by_index
from siamfast.models.captured import Graphs
from siamfast.models.mobile import REGION, MobileTemplate, Region, SiamMobile, region_values

# Crops in one pass of PyTorch, which bounds its memory. On a CPU those of a pass have to fit its caches: 64 targets
# took 600 ms with 8 in float32, 750 with 16, 770 with 4 (AVX2); in bfloat16 they are half as large.
_TOGETHER = 16


class Search(NamedTuple):
    """The network's output for K crops: quality (K, h, w) 0 to 1, boxes (K, 4, h, w) left, top, right, bottom in
    search-crop pixels, and resemblance (K, h, w) to the template's target (`mobile.Located`), float32 arrays;
    embedding, K of (1, C, H, W), as the engine keeps them."""

    quality: NDArray[np.float32]
    boxes: NDArray[np.float32]
    resemblance: NDArray[np.float32]
    embedding: list[Any]


class Engine(Protocol):
    """The network and what it knows of each target, row by row.

    uploads: the device that frames go to before they are cropped, so that crops are tensors there; None: both are NumPy
    arrays. add: append targets, from template crops (K, 129, 129, 3) uint8 RGB and the boxes (K, 4) in them. keep: keep
    the targets of these rows, in this order. search: the network's output for search crops (K, S, S, 3) of the targets
    in `rows`. remember: let the regions around boxes (K, 4) of those crops guide the next search.
    """

    name: str
    precision: str
    uploads: torch.device | None

    def add(self, crops: Any, boxes: NDArray[np.float64]) -> None: ...

    def keep(self, rows: NDArray[np.int_]) -> None: ...

    def search(self, crops: Any, rows: NDArray[np.int_], *, guided: bool) -> Search: ...

    def remember(self, rows: NDArray[np.int_], embedding: list[Any], boxes: NDArray[np.float64]) -> None: ...


def region_start(boxes: NDArray[np.float64], cells: int) -> NDArray[np.int_]:
    """(K, 2) x, y of the first of 13 x 13 cells around the middles of boxes (K, 4) x, y, w, h in crop pixels, all
    within the crop's `cells` along a side."""
    middle = np.rint(box_centers_by_index(boxes) / STRIDE).astype(int)
    return np.clip(middle - REGION // 2, 0, cells - REGION)


class TorchEngine:
    """The network in PyTorch.

    graphs: what replays searches as CUDA graphs, on GPUs; None: they are launched operation by operation.

    Args:
        model: in eval mode; moved to `device`.
        device: where to run.
        precision: float32, bfloat16 or float16.
    """

    name = "torch"

    def __init__(self, model: SiamMobile, device: torch.device, precision: str) -> None:
        self._model: SiamMobile = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device, self.precision = device, precision
        self.uploads = device if device.type == "cuda" else None
        self.graphs = Graphs(self._step) if device.type == "cuda" else None
        self._together = _TOGETHER // 2 if device.type == "cpu" and precision == "float32" else _TOGETHER
        self._target: MobileTemplate | None = None  # of all targets, and their last regions
        self._last: Region | None = None

    @contextmanager
    def _threads(self, targets: int) -> Iterator[None]:
        """One thread for one target on a CPU: each of some hundred short operations waits for all of its threads. Two
        save a tenth of the time on an idle machine, and beside a busy process take 3 to 50 times as long."""
        if targets > 1 or self._device.type != "cpu":
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _autocast(self) -> torch.autocast:
        dtype = torch.bfloat16 if self.precision == "float32" else getattr(torch, self.precision)
        return torch.autocast(self._device.type, dtype, enabled=self.precision != "float32")

    def add(self, crops: Any, boxes: NDArray[np.float64]) -> None:
        with self._threads(len(crops)), torch.inference_mode():  # in float32, because it enters every search
            for first in range(0, len(crops), self._together):
                part = slice(first, first + self._together)
                # (K, S, S, 3) uint8 is (K, 3, S, S) in channels_last: the permutation copies nothing.
                images = torch.as_tensor(crops[part]).to(self._device).permute(0, 3, 1, 2).float()
                target = self._model.template(images, torch.from_numpy(boxes[part]).float().to(self._device))
                if self._target is None or self._last is None:
                    self._target, self._last = target, Region(*(each.clone() for each in target.region))
                else:
                    self._target = _joined(self._target, target)
                    self._last = Region(*map(_cat, self._last, target.region))

    def keep(self, rows: NDArray[np.int_]) -> None:
        if self._target is None or self._last is None or not len(rows):
            self._target = self._last = None
            return
        index = torch.from_numpy(rows).to(self._device)
        self._target, self._last = _of(self._target, index), Region(*(each[index] for each in self._last))

    def search(self, crops: Any, rows: NDArray[np.int_], *, guided: bool) -> Search:
        assert self._target is not None
        assert self._last is not None
        parts = []
        for first in range(0, len(rows), self._together):
            index = torch.from_numpy(rows[first : first + self._together]).to(self._device)
            with self._threads(len(rows)), torch.inference_mode():
                target = _of(self._target, index)
                last = [each[index] for each in self._last] if guided else []
                images = torch.as_tensor(crops[first : first + self._together]).to(self._device)
                step = self.graphs or self._step
                maps, embedding = step(images, target.kernel, *target.region, target.sides, *last)
            array = maps.cpu().numpy()  # the only time that the host waits for the device
            parts.append(Search(array[:, 0], array[:, 1:5], array[:, 5], list(embedding.split(1))))
        return joined(parts)

    def _step(
        self,
        images: torch.Tensor,
        kernel: torch.Tensor,
        embedding: torch.Tensor,
        values: torch.Tensor,
        sides: torch.Tensor,
        *last: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The maps of Search in one tensor (K, 6, h, w), and the embedding, from search crops (K, S, S, 3) uint8, the
        parts of a template, and those of the last regions or none."""
        with self._autocast():
            target = MobileTemplate(kernel, Region(embedding, values), sides)
            located = self._model(target, images.permute(0, 3, 1, 2).float(), Region(*last) if last else None)
            prediction = located.prediction
            quality = torch.sigmoid(prediction.scores) * torch.sigmoid(prediction.centerness)
            maps = torch.cat((quality[:, None], prediction.boxes, located.resemblance[:, None].float()), 1)
        return maps, located.embedding

    def remember(self, rows: NDArray[np.int_], embedding: list[Any], boxes: NDArray[np.float64]) -> None:
        assert self._last is not None
        starts = region_start(boxes, embedding[0].shape[-1])
        values = torch.from_numpy(region_values(boxes, STRIDE * starts.astype(np.float64))).float().to(self._device)
        with torch.inference_mode():
            index = torch.from_numpy(rows).to(self._device)
            parts = [e[..., y : y + REGION, x : x + REGION] for e, (x, y) in zip(embedding, starts, strict=True)]
            self._last.embedding[index] = torch.cat(parts).float()
            self._last.values[index] = values


def _cat(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cat((a, b))


def _joined(a: MobileTemplate, b: MobileTemplate) -> MobileTemplate:
    return MobileTemplate(_cat(a.kernel, b.kernel), Region(*map(_cat, a.region, b.region)), _cat(a.sides, b.sides))


def _of(template: MobileTemplate, index: torch.Tensor) -> MobileTemplate:
    region = Region(*(each[index] for each in template.region))
    return MobileTemplate(template.kernel[index], region, template.sides[index])


def joined(parts: list[Search]) -> Search:
    """One result for the crops of several."""
    if len(parts) == 1:
        return parts[0]
    return Search(
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.resemblance for part in parts]),
        [embedding for part in parts for embedding in part.embedding],
    )
