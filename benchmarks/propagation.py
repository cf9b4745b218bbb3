"""Masks carried through annotated video by several features: the packaged encoder, an untrained one, raw AlexNets.

python -m benchmarks.propagation SEQUENCE [--size 480] [--alexnet WEIGHTS ...] [--results FILE]

SEQUENCE has `img/` and `masks/`. Prints a line with J and F (DAVIS) per encoder, with the same settings for all.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import harness
from siamfast.evaluation.masks import boundary_accuracy, region_similarity, statistics
from siamfast.io.listing import image_files
from siamfast.io.masks import read_mask
from siamfast.io.video import open_frames
from siamfast.models.correspondence import CorrespondenceEncoder
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.siamfc_weights import load_model
from siamfast.tracking.propagation import MaskPropagator


class RawAlexNet(torch.nn.Module):
    """SiamFC's backbone. Its cell i lies at pixel 43 + 8i: with 43 pixels around the image, at 8i."""

    def __init__(self, weights: str | None) -> None:
        super().__init__()
        self.siamfc = load_model(weights)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.siamfc.embed(F.pad(images.float(), (43,) * 4, mode="replicate"))


def measure(encoder: torch.nn.Module, sequence: Path, size: int) -> dict[str, Any]:
    truth = [read_mask(path).numbers > 0 for path in image_files(sequence / "masks")]
    with open_frames(sequence) as frames:
        images = [image for _, image in frames]
    began = time.perf_counter()
    masks = list(MaskPropagator(encoder, size=size).propagate(images, truth[0].astype(np.uint8)))
    spent = time.perf_counter() - began
    pairs = list(zip(masks, truth, strict=True))[1:-1]
    region, edge = (
        statistics([score(mask, true) for mask, true in pairs]) for score in (region_similarity, boundary_accuracy)
    )
    return {"J": region._asdict(), "F": edge._asdict(), "frames_per_second": round(len(masks) / spent, 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequence", type=Path)
    parser.add_argument("--size", type=int, default=480)
    parser.add_argument("--alexnet", action="append", default=[], help="other weights of SiamFC than the packaged ones")
    parser.add_argument("--results", type=Path, help="append the rows here")
    options = parser.parse_args()
    torch.manual_seed(0)
    encoders = {
        "packaged encoder": load_encoder(),
        "untrained, width 32": CorrespondenceEncoder(width=32),
        "untrained, width 64": CorrespondenceEncoder(width=64),
        "AlexNet, packaged SiamFC": RawAlexNet(None),
    } | {f"AlexNet, {Path(path).name}": RawAlexNet(path) for path in options.alexnet}
    for name, encoder in encoders.items():
        row = {"features": name, "sequence": options.sequence.name, "size": options.size}
        row |= measure(encoder, options.sequence, options.size)
        print(
            f"{name:32} J {row['J']['mean']:.3f}  F {row['F']['mean']:.3f}  {row['frames_per_second']} frames/s",
            flush=True,
        )
        if options.results:
            harness.append(harness.about("cpu") | row, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
