"""Put siamfast's correlation into your own tracker: the same response, sooner.

    python examples/drop_in.py

A head as in SiamRPN++ and its relatives: features of template and search crop, correlated channel by channel.
"""

import time

import torch
import torch.nn.functional as F

import siamfast


def their_xcorr(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """The depthwise correlation that many projects have, by a grouped convolution."""
    batch, channels = kernel.shape[:2]
    x = x.reshape(1, batch * channels, *x.shape[2:])
    kernel = kernel.reshape(batch * channels, 1, *kernel.shape[2:])
    out = F.conv2d(x, kernel, groups=batch * channels)
    return out.reshape(batch, channels, *out.shape[2:])


class Head(torch.nn.Module):
    """Scores for each place of a search crop."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.template = torch.nn.Conv2d(channels, channels, 3)
        self.search = torch.nn.Conv2d(channels, channels, 3)
        self.score = torch.nn.Conv2d(channels, 2, 1)
        self.use_siamfast = True

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        z, x = self.template(z), self.search(x)
        maps = siamfast.xcorr_depthwise(z, x) if self.use_siamfast else their_xcorr(x, z)
        return self.score(maps)


def step(head: Head, z: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The gradient of a weight after forward and backward, and the seconds that they took."""
    head.zero_grad()
    began = time.perf_counter()
    head(z, x).square().mean().backward()
    return head.template.weight.grad.clone(), time.perf_counter() - began


def main() -> None:
    torch.manual_seed(0)
    head, z, x = Head(), torch.randn(8, 256, 7, 7), torch.randn(8, 256, 31, 31)
    results = {}
    for _ in range(3):  # the first calls warm up
        for head.use_siamfast in (True, False):
            results[head.use_siamfast] = step(head, z, x)
    (ours, seconds), (theirs, their_seconds) = results[True], results[False]
    print(f"largest difference of a gradient: {float((ours - theirs).abs().max() / theirs.abs().max()):.1e}")
    print(f"forward and backward: {1e3 * seconds:.1f} ms, with the grouped convolution {1e3 * their_seconds:.1f} ms")
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


if __name__ == "__main__":
    main()
