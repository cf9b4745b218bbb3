"""The `cpp` backend of the logistic loss: arguments of the raw op handed to siamfast._C."""

from __future__ import annotations

import torch

from siamfast.ops import dispatch
from siamfast.ops.balanced_logistic_loss.call import Options

_IGNORE, _HALF_WEIGHTED = 1, 2  # places in Options' tuple of what neutral cells count for
_NONE = 2  # of the reductions


def forward(
    scores: torch.Tensor,  # (N, 1, H, W) or (N, H, W)
    labels: torch.Tensor | None,  # (1 or N, H, W) float32
    centers: torch.Tensor | None,  # (N, 2) float32
    options: Options,
) -> tuple[torch.Tensor, torch.Tensor]:
    module = dispatch.loaded_extension()
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
        dispatch.CODES[scores.dtype], scores.data_ptr(), 0 if labels is None else labels.data_ptr(),
        labels is not None and labels.shape[0] == 1, 0 if centers is None else centers.data_ptr(), losses.data_ptr(),
        slope.data_ptr(),
    )  # fmt: skip
    return losses, slope
