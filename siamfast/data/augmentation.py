"""Photometric augmentation of whole batches on the device that trains: jitter, gray, blur; geometry is the crops'."""

from __future__ import annotations

import torch
import torch.nn.functional as F

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV's and PIL's gray


def augment_pair(
    template: torch.Tensor,
    search: torch.Tensor,
    generator: torch.Generator,
    *,
    color_jitter: float = 0.2,
    gray: float = 0.15,
    blur: float = 0.1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment a batch of pairs: each crop its own light and blur, gray for both crops of a pair or for neither.

    Args:
        template: (N, 3, Hz, Wz) uint8 or float RGB, 0..255.
        search: (N, 3, Hx, Wx), likewise.
        generator: of the CPU; it alone decides what is drawn, so that a resumed run draws the same.
        color_jitter: brightness, contrast and saturation factors are uniform in 1 +- this.
        gray: share of pairs that lose their colour (as in SiamFC's original training, section 4.3 of the paper).
        blur: share of crops that are blurred by a Gaussian of sigma 0.5 to 2 pixels.

    Returns:
        both as float32 RGB, 0..255, in the memory format they came in.

    >>> import torch
    >>> z, x = torch.zeros(2, 3, 127, 127, dtype=torch.uint8), torch.zeros(2, 3, 255, 255, dtype=torch.uint8)
    >>> [t.shape[2] for t in augment_pair(z, x, torch.Generator().manual_seed(0))]
    [127, 255]
    """
    both_gray = torch.rand(template.shape[0], generator=generator) < gray
    first = augment_images(template, both_gray, generator, color_jitter=color_jitter, blur=blur)
    return first, augment_images(search, both_gray, generator, color_jitter=color_jitter, blur=blur)


def augment_images(
    images: torch.Tensor, gray: torch.Tensor, generator: torch.Generator, *, color_jitter: float, blur: float
) -> torch.Tensor:
    """images: (N, 3, H, W) uint8 or float RGB, 0..255; gray: (N,) bool, which lose their colour -> float32, as
    `augment_pair` treats each half of its pairs."""
    count, device = images.shape[0], images.device
    factors = 1 + color_jitter * (2 * torch.rand(3, count, 1, 1, 1, generator=generator) - 1)
    sigmas = 0.5 + 1.5 * torch.rand(count, generator=generator)
    blurred = torch.rand(count, generator=generator) < blur
    brightness, contrast, saturation = factors.to(device)
    images = images.float()
    # Jitter is affine in colour: out = M @ rgb + offset, with one matrix and one offset for each image.
    luma = torch.tensor(_LUMA, device=device)
    mix = torch.where(gray.to(device).view(-1, 1, 1), 0.0, saturation.view(-1, 1, 1))
    matrix = mix * torch.eye(3, device=device) + (1 - mix) * luma.expand(3, 3)
    gain = (brightness * contrast).view(-1, 1, 1)
    mean = images.mean((2, 3)) @ luma
    offset = (mean.view(-1, 1) * (1 - contrast.view(-1, 1)) * brightness.view(-1, 1)).expand(-1, 3)
    flat = torch.baddbmm(offset.unsqueeze(2), gain * matrix, images.flatten(2))
    out = flat.view(images.shape).clamp_(0, 255)
    for index in blurred.nonzero().flatten().tolist():
        out[index] = _gaussian_blur(out[index], float(sigmas[index]))
    if images.is_contiguous(memory_format=torch.channels_last):
        out = out.contiguous(memory_format=torch.channels_last)
    return out


def _gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """image: (3, H, W); separable, the border replicated."""
    radius = max(1, round(3 * sigma))
    taps = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(image.unsqueeze(0), [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)[0]
