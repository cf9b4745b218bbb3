"""The `cpp` backend of the logistic loss: arguments of the raw op handed to siamfast._C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from siamfast.ops import _backend

if TYPE_CHECKING:
    from siamfast.ops._balanced_logistic_loss_raw import Options

CODES = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}
_IGNORE, _HALF_WEIGHTED = 1, 2  # places in Options' tuple of what neutral cells count for
_NONE = 2  # of the reductions


def reason(device_type: str, dtype: torch.dtype) -> str | None:
    """Why the C++ kernel cannot serve, or None."""
    if device_type != "cpu":
        return f"the C++ kernel takes CPU tensors, not {device_type}"
    if dtype not in CODES:
        return f"the C++ kernel has no {dtype}"
    module, cause = _backend.extension()
    return None if module is not None else cause


def forward(
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W)
    labels: torch.Tensor | None,  # (1 or N, H, W) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:
    module, cause = _backend.extension()
    if module is None:
        raise RuntimeError(cause)
    samples, height, width = scores.shape[0], scores.shape[-2], scores.shape[-1]
    one_number = options.reduction != _NONE
    losses = torch.empty(() if one_number else (samples,), dtype=torch.float32)
    slope = torch.empty(scores.shape, dtype=torch.float32)
    scores = scores.contiguous()
    labels = None if labels is None else labels.contiguous()
    centers = None if centers is None else centers.contiguous()
    module.balanced_logistic_loss(
        (samples, height, width, options.metric, options.balance, one_number, torch.get_num_threads()),
        (
            options.stride, options.r_pos, max(options.r_neg, options.r_pos),
            -1.0 if options.neutral == _IGNORE else 0.5, options.neg_weight,
            1.0 if options.neutral == _HALF_WEIGHTED else 0.0, options.factor(samples),
        ),
        CODES[scores.dtype], scores.data_ptr(), 0 if labels is None else labels.data_ptr(),
        labels is not None and labels.shape[0] == 1, 0 if centers is None else centers.data_ptr(), losses.data_ptr(),
        slope.data_ptr(),
    )  # fmt: skip
    return losses, slope
