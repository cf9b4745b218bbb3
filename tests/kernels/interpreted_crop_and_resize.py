"""Run by test_crop_and_resize.py with TRITON_INTERPRET=1: the kernel on CPU tensors against the reference."""

from __future__ import annotations

import numpy as np
import torch
from siamfast.kernels.crop_and_resize import launch

from siamfast.ops.crop_and_resize.reference import crop_and_resize as reference

# As for the other backends: a rounding to whole levels may fall either way, the rest is interpolation at that dtype.
# The interpreter cuts bfloat16's last bits off, which is a level at most of 255, beside float32's error.
ALLOWED = {torch.uint8: 1.0, torch.float32: 2e-3, torch.bfloat16: 1.002, torch.float16: 0.13}


def main() -> None:
    rng = np.random.default_rng()
    seed = int(rng.integers(2**31))
    rng = np.random.default_rng(seed)
    cases = 0
    for rule in range(3):
        for border in range(3):
            for dtype, allowed in ALLOWED.items():
                channels, height, width = (int(v) for v in rng.integers(1, (4, 20, 20)))
                count = int(rng.integers(1, 4))
                images = count if rng.random() < 0.5 else 1
                # Surrounded by a wrong value, so that a read outside the image shows.
                wrong = 255 if dtype == torch.uint8 else float("nan")
                surrounding = torch.full((images, channels, height + 4, width + 6), wrong, dtype=dtype)
                image = surrounding[:, :, 2 : height + 2, 3 : width + 3]
                image.copy_(torch.from_numpy(rng.uniform(0, 200, image.shape)))
                if rng.random() < 0.3:
                    image = image.contiguous(memory_format=torch.channels_last)
                windows = torch.from_numpy(rng.uniform(-15, 25, (count, 4)))
                windows[:, 2:] = windows[:, 2:].abs() + 0.5
                if rule == 0:
                    windows = windows.round().clamp_min(-15)
                    windows[:, 2:].clamp_(min=1)
                fill = torch.from_numpy(rng.uniform(0, 200, (images, channels)))
                out = tuple(int(v) for v in rng.integers(1, 18, 2))
                result = launch.forward(
                    image=image,
                    windows=windows,
                    fill=fill,
                    out_height=out[0],
                    out_width=out[1],
                    border=border,
                    rule=rule,
                    layout=torch.contiguous_format,
                )
                expected = reference(image, windows, fill, *out, border, rule, False)
                difference = (result.double() - expected.double()).abs().max().item()
                assert difference <= allowed, (seed, rule, border, dtype, difference)
                cases += 1
    print(f"{cases} cases")


if __name__ == "__main__":
    main()
