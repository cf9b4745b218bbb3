"""SiamFC tracking as the community writes it (siamfc-pytorch, rewritten): the peer of the tracking benchmark.

float32, NCHW, a convolution with one group per search image, OpenCV crops that pad the whole frame, one scale after
the other. Run as a program to measure both trackers in one process, interleaved frame by frame:

    python -m benchmarks.peers.siamfc_tracker WEIGHTS SEQUENCES [--frames 200]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray

from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_model

EXEMPLAR, INSTANCE, STRIDE, CELLS, UPSAMPLE = 127, 255, 8, 17, 16
SCALE_STEP, SCALE_LR, PENALTY, INFLUENCE = 1.0375, 0.59, 0.9745, 0.176


def padded_crop(
    image: NDArray[np.uint8], center: NDArray[np.float64], size: float, out_size: int, fill: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """image: (H, W, 3); center: y, x -> (out_size, out_size, 3): the whole frame is padded if the window leaves it."""
    side = round(size)
    low = np.round(center - (side - 1) / 2).astype(int)
    pad = max(0, int(max((-low).max(), (low + side - image.shape[:2]).max())))
    if pad:
        image = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=fill.tolist())
        low = low + pad
    patch = image[low[0] : low[0] + side, low[1] : low[1] + side]
    return cv2.resize(patch, (out_size, out_size), interpolation=cv2.INTER_LINEAR)


class CommunityTracker:
    """siamfc-pytorch's tracker on 0-based boxes: no clamps, no confidence."""

    name = "siamfc-pytorch"

    def __init__(self, model: SiamFC, device: str = "cpu") -> None:
        model, self.device = copy.deepcopy(model).to(device).eval().float(), device
        raw = not bool(model.input_mean.any()) and bool((model.input_std == 1).all())
        self.backbone = model.backbone if raw else model.embed
        self.window = np.outer(np.hanning(CELLS * UPSAMPLE), np.hanning(CELLS * UPSAMPLE))
        self.window /= self.window.sum()
        self.factors = SCALE_STEP ** np.linspace(-1, 1, 3)

    def _embed(self, crops: list[NDArray[np.uint8]]) -> torch.Tensor:
        return self.backbone(torch.from_numpy(np.stack(crops)).to(self.device).permute(0, 3, 1, 2).float())

    @torch.no_grad()
    def init(self, image: NDArray[np.uint8], box: ArrayLike) -> None:
        x, y, w, h = np.asarray(box, dtype=np.float64)
        self.center = np.array([y + (h - 1) / 2, x + (w - 1) / 2])
        self.size = np.array([h, w])
        self.z_side = np.sqrt(np.prod(self.size + 0.5 * self.size.sum()))
        self.x_side = self.z_side * INSTANCE / EXEMPLAR
        self.fill = image.mean(axis=(0, 1))
        self.kernel = self._embed([padded_crop(image, self.center, self.z_side, EXEMPLAR, self.fill)])

    @torch.no_grad()
    def update(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        x = self._embed([padded_crop(image, self.center, self.x_side * f, INSTANCE, self.fill) for f in self.factors])
        n, c, h, w = x.shape
        maps = F.conv2d(x.reshape(1, n * c, h, w), self.kernel.expand(n, -1, -1, -1), groups=n)[0] * 0.001
        side = CELLS * UPSAMPLE
        large = np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_CUBIC) for m in maps.cpu().numpy()])
        large[[0, 2]] *= PENALTY
        best = int(large.max(axis=(1, 2)).argmax())
        response = large[best] - large[best].min()
        response = (1 - INFLUENCE) * response / (response.sum() + 1e-16) + INFLUENCE * self.window
        peak = np.array(np.unravel_index(response.argmax(), response.shape))
        offset = (peak - (side - 1) / 2) * STRIDE / UPSAMPLE
        self.center = self.center + offset * self.x_side * self.factors[best] / INSTANCE
        growth = 1 - SCALE_LR + SCALE_LR * self.factors[best]
        self.size, self.z_side, self.x_side = self.size * growth, self.z_side * growth, self.x_side * growth
        low = self.center - (self.size - 1) / 2
        return np.array([low[1], low[0], self.size[1], self.size[0]])


def main() -> None:
    from siamfast.data.sequences import read_sequences
    from siamfast.evaluation.metrics import overlap
    from siamfast.io.video import read_image
    from siamfast.tracking.siamfc import SiamFCTracker

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    model = load_model(arguments.weights)
    our_times: list[float] = []
    peer_times: list[float] = []
    totals = []
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for sequence in read_sequences(arguments.sequences):
        sequence = sequence.first(arguments.frames)
        frames = [read_image(path) for path in sequence.frames]
        ours, peer = SiamFCTracker(model, precision=arguments.precision), CommunityTracker(model)
        ours.init(frames[0], sequence.boxes[0])
        peer.init(frames[0], sequence.boxes[0])
        boxes: list[list[ArrayLike]] = [[sequence.boxes[0]], [sequence.boxes[0]]]
        times: list[list[float]] = [[], []]
        for frame in frames[1:]:
            for k in (0, 1):
                begin = time.perf_counter()
                boxes[k].append(ours.update(frame).box if k == 0 else peer.update(frame))
                times[k].append(time.perf_counter() - begin)
        ao = [float(np.nanmean(overlap(track, sequence.boxes))) for track in boxes]
        totals.append(ao)
        fast, slow = (statistics.median(t) for t in times)
        our_times += times[0]
        peer_times += times[1]
        print(
            f"{sequence.name:<10} AO ours {ao[0]:.3f} peer {ao[1]:.3f}   FPS ours {1 / fast:.1f} peer {1 / slow:.1f} "
            f"({slow / fast:.1f} x)   {ours.precision}"
        )
    mean = np.mean(totals, axis=0)
    fast, slow = statistics.median(our_times), statistics.median(peer_times)
    print(
        f"{'mean':<10} AO ours {mean[0]:.3f} peer {mean[1]:.3f}   FPS ours {1 / fast:.1f} peer {1 / slow:.1f} "
        f"({slow / fast:.1f} x)"
    )


if __name__ == "__main__":
    main()
