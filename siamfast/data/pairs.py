"""Training pairs from annotated sequences of real frames: two frames of one target, cropped as SiamFC crops them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from siamfast.data.sequences import Sequence, read_sequences
from siamfast.data.windows import draw_windows
from siamfast.ops.crop_and_resize import crop_and_resize

_TRIES = 20  # frames of one item that may fail to decode before it is an error


class SequencePairs(Dataset[dict[str, torch.Tensor]]):
    """Pairs of frames at most `max_gap` apart from a folder of sequences (frames + groundtruth.txt).

    Item i depends on (seed, i) alone, whatever the number of workers. Sequences are drawn uniformly, so that a long
    one does not outweigh a short one.

    Args:
        root: a sequence folder, or a folder of them (`siamfast.data.sequences.read_sequences`).
        length: number of items.
        seed: seed of the draws.
        exemplar, instance: sides of the template and the search crop, pixels.
        context_amount: context around the box, as a share of w + h (0.5: the paper).
        max_gap: largest distance of the two frames.
        max_shift: largest shift of the target from the search crop's centre, in crop pixels.
        max_stretch: largest relative change of the search window's size.
        negatives: share of items whose search crop comes from another sequence (or another place of the only one).

    Raises:
        ValueError: a folder without usable sequences, or a frame that cannot be decoded over and over.

    >>> pairs = SequencePairs("sequences", 1000)  # doctest: +SKIP
    >>> pairs[0]["search"].shape  # doctest: +SKIP
    torch.Size([3, 255, 255])
    """

    def __init__(
        self,
        root: str | Path,
        length: int,
        *,
        seed: int = 0,
        exemplar: int = 127,
        instance: int = 255,
        context_amount: float = 0.5,
        max_gap: int = 100,
        max_shift: float = 32.0,
        max_stretch: float = 0.08,
        negatives: float = 0.0,
    ) -> None:
        if length < 0:
            raise ValueError(f"length: got {length}, expected 0 or more")
        self.length, self.seed = length, seed
        self.exemplar, self.instance, self.context_amount = exemplar, instance, context_amount
        self.max_gap, self.max_shift, self.max_stretch, self.negatives = max_gap, max_shift, max_stretch, negatives
        self._sequences = [(s, shown) for s in read_sequences(root) if len(shown := _shown(s)) >= 1]
        if not self._sequences:
            raise ValueError(f"root: {str(root)!r} has no sequence with a visible target")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """template (3, exemplar, exemplar) and search (3, instance, instance) uint8, box (4,) float32 x, y, w, h of the
        target in search-crop pixels, positive: whether the search crop shows the template's target."""
        if not 0 <= index < self.length:
            raise IndexError(f"index: got {index}, expected 0 to {self.length - 1}")
        rng = np.random.default_rng((self.seed, index))
        for _ in range(_TRIES):
            item = self._draw(rng)
            if item is not None:
                return item
        raise ValueError(f"root: {_TRIES} drawn frames in a row could not be decoded; the last sequences are damaged")

    def _draw(self, rng: np.random.Generator) -> dict[str, torch.Tensor] | None:
        positive = rng.random() >= self.negatives
        chosen = int(rng.integers(len(self._sequences)))
        sequence, shown = self._sequences[chosen]
        first = int(rng.choice(shown))
        if positive or len(self._sequences) == 1:
            second = int(rng.choice(shown[np.abs(shown - first) <= self.max_gap]))
            other = sequence
        else:
            other, candidates = self._sequences[
                (chosen + int(rng.integers(1, len(self._sequences)))) % len(self._sequences)
            ]
            second = int(rng.choice(candidates))
        images = read_rgb(sequence.frames[first]), read_rgb(other.frames[second])
        if images[0] is None or images[1] is None:
            return None
        windows = draw_windows(
            rng,
            sequence.boxes[first],
            other.boxes[second],
            exemplar=self.exemplar,
            instance=self.instance,
            context_amount=self.context_amount,
            max_shift=self.max_shift,
            max_stretch=self.max_stretch,
        )
        center = windows.search_center
        if not positive and other is sequence:
            # One sequence alone: its own background, a whole search window away from the target.
            center = center + windows.search_size * np.array([1.0, 0.0])
        # The box stays exact in the crop: no rounding of the window. Windows count from the edge of the first pixel,
        # crop_and_resize from its centre.
        template = crop_and_resize(
            images[0], windows.template_center - 0.5, windows.template_size, self.exemplar, rounding="subpixel"
        )
        search = crop_and_resize(images[1], center - 0.5, windows.search_size, self.instance, rounding="subpixel")
        return {
            "template": torch.from_numpy(template[0]).permute(2, 0, 1),
            "search": torch.from_numpy(search[0]).permute(2, 0, 1),
            "box": torch.from_numpy(windows.box.astype(np.float32)),
            "positive": torch.tensor(positive),
        }


def _shown(sequence: Sequence) -> np.ndarray:
    """Indices of the frames that show the target with an area."""
    boxes = np.asarray(sequence.boxes)
    return np.flatnonzero(np.isfinite(boxes).all(1) & (boxes[:, 2:] >= 1).all(1))


def read_rgb(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, or None where the file cannot be decoded."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None else image[..., ::-1]
