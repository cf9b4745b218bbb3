"""The record of a run: metrics.jsonl always, TensorBoard scalars and response maps if it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import torch
import torch.nn.functional as F


class Record:
    """Writes beside the checkpoint in `out`; rows of steps after `step` (of a killed run) are dropped.

    out None: nothing is written.
    """

    def __init__(self, out: Path | None, step: int) -> None:
        self._rows: IO[str] | None = None
        self._writer: Any = None
        if out is None:
            return
        path = out / "metrics.jsonl"
        rows = ""
        if step and path.exists():
            # A kill may cut the last line, and steps after the last checkpoint will be repeated.
            rows = "".join(line for line in path.read_text().splitlines(True) if _step_of(line, step + 1) <= step)
        self._rows = path.open("w")
        self._rows.write(rows)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print("TensorBoard is not installed (pip install 'siamfast[train]'): scalars go to metrics.jsonl only")
        else:
            self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if self._rows is None:
            return
        self._rows.write(json.dumps({"step": step, **values}) + "\n")
        self._rows.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def responses(self, step: int, search: torch.Tensor, response: torch.Tensor, count: int = 8) -> None:
        """Search crops with their response map overlaid in red: search (N, 3, S, S) 0..255, response (N, 1, H, W)."""
        if self._writer is None:
            return
        images = search[:count].float().cpu() / 255
        maps = torch.sigmoid(response[:count].float().cpu())
        maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
        overlays = images * 0.6
        overlays[:, :1] += 0.4 * maps
        self._writer.add_images("validation/response", overlays.clamp(0, 1), step)

    def close(self) -> None:
        if self._rows is not None:
            self._rows.close()
        if self._writer is not None:
            self._writer.close()


def _step_of(line: str, torn: int) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return torn
