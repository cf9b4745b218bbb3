"""Run by test_augment.py with TRITON_INTERPRET=1: the kernel on CPU tensors against the reference."""

from __future__ import annotations

import numpy as np
import torch
from siamfast.kernels.augment import launch

from siamfast.ops.augment import no_draws
from siamfast.ops.augment.reference import augment as reference

# Levels, at factors of up to 2 and 3: float32 weights of places that are float32 themselves; half precision's weights;
# then the output's own rounding. The interpreter cuts bfloat16's last bits off, where a GPU rounds: twice the error.
ALLOWED = {torch.float32: 0.01, torch.bfloat16: 0.8, torch.float16: 0.8}
ROUNDING = {torch.float32: 2.0**-22, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


def main() -> None:
    seed = int(np.random.default_rng().integers(2**31))
    rng = np.random.default_rng(seed)
    for case in range(16):
        dtype = list(ALLOWED)[case % 3]
        count, height, width = int(rng.integers(1, 3)), int(rng.integers(1, 75)), int(rng.integers(1, 75))
        # Surrounded by a wrong value, so that a read outside the image shows.
        surrounding = torch.full((count, 3, height + 4, width + 6), 255, dtype=torch.uint8)
        images = surrounding[:, :, 2 : height + 2, 3 : width + 3]
        images.copy_(torch.from_numpy(rng.integers(0, 200, images.shape)))
        if rng.random() < 0.3:
            images = images.contiguous(memory_format=torch.channels_last)
        table = no_draws(count, (height, width))
        table[:, :2] += torch.from_numpy(rng.uniform(-20, 20, (count, 2)).astype(np.float32))
        table[:, 2:4] = torch.from_numpy(rng.uniform(0.5, 2, (count, 2)) * rng.choice([-1, 1], (count, 2)))
        table[:, 4] = torch.from_numpy(rng.uniform(0.5, 3, count) * rng.choice([0, 1], count))
        table[:, 5:8] = torch.from_numpy(rng.uniform(0, 1.5, (count, 3)))
        table[:, 8] = torch.from_numpy(rng.uniform(0, 20, count) * rng.choice([0, 1], count))
        table[:, 9] = torch.from_numpy(rng.integers(0, 1 << 24, count))
        table[:, 10:] = torch.from_numpy(rng.uniform(-10, 60, (count, 4)))
        out = tuple(int(v) for v in rng.integers(1, 70, 2))
        mean, std = rng.uniform(0, 130, 3).tolist(), rng.uniform(1, 60, 3).tolist()
        result = launch.forward(
            images=images, draws=table, height=out[0], width=out[1], mean=mean, std=std, dtype=dtype
        )
        expected = reference(images, table, *out, mean, std, torch.float64)
        allowed = ALLOWED[dtype] / torch.tensor(std)[:, None, None] + ROUNDING[dtype] * expected.abs()
        off = (result.double() - expected).abs()
        assert bool((off <= allowed).all()), (seed, case, dtype, off.max().item())
    distant_pixels()
    print("18 cases")


def distant_pixels() -> None:
    """Channels, or rows, of which the last begins 2^31 bytes after the first, which is no int32 number. Of the memory
    only the pixels are ever written."""
    height, width = 9, 12
    options, table = {"mean": [0.0] * 3, "std": [1.0] * 3}, no_draws(1, (height, width))
    for strides in ((1 << 30, width, 1), (width, 1 << 28, 1)):
        memory = torch.empty((1 << 31) + 3 * height * width, dtype=torch.uint8)
        images = memory.as_strided((1, 3, height, width), (0, *strides))
        images.copy_(torch.arange(images.numel()).view(images.shape) % 251)
        result = launch.forward(images=images, draws=table, height=8, width=8, dtype=torch.float32, **options)
        expected = reference(images, table, 8, 8, *options.values(), torch.float64)
        assert (result.double() - expected).abs().max() <= 2 * ALLOWED[torch.float32], strides


if __name__ == "__main__":
    main()
