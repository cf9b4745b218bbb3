"""The raw op of augment: registration and choice of the backend. Its arguments are already checked."""

from __future__ import annotations

from typing import Any

import torch

from siamfast.ops import dispatch, library
from siamfast.ops.augment import cpp, reference, triton
from siamfast.ops.augment.call import AugmentCall, Options


def augment(call: AugmentCall) -> torch.Tensor:  # (N, 3, height, width) dtype, channels_last
    """The op; no input has a gradient."""
    result: torch.Tensor = _augment(call.images, call.draws, *call.options)
    return result


def _kernel(images: torch.Tensor, draws: torch.Tensor, *options: Any) -> torch.Tensor:
    call = AugmentCall(images, draws, Options(*options))
    chosen = dispatch.pick(images.device, call.options.dtype)
    if chosen == "cpp":
        return cpp.forward(call)
    if chosen == "triton" and triton.serves(call):
        return triton.forward(call)
    # One matrix per axis is also the best plain formula, so "torch" and "reference" are the same here.
    return reference.augment(images, draws, *call.options)


def _fake(images: Any, draws: Any, *options: Any) -> Any:
    o = Options(*options)
    size = images.shape[0], 3, o.height, o.width
    return images.new_empty(size, dtype=o.dtype).contiguous(memory_format=torch.channels_last)


def _in_vmap(info: Any, dims: tuple[int | None, ...], images: Any, draws: Any, *options: Any) -> tuple[Any, int]:
    """torch.func.vmap's axis is one more axis of samples."""
    whole = [
        tensor.expand(info.batch_size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip((images, draws), dims, strict=False)
    ]
    result = _augment(whole[0].flatten(0, 1), whole[1].flatten(0, 1), *options)
    return result.unflatten(0, (info.batch_size, -1)), 0


_augment = library.register(
    "augment(Tensor images, Tensor draws, SymInt height, SymInt width, float[] mean, float[] std, ScalarType dtype) "
    "-> Tensor",
    _kernel,
    _fake,
)
torch.library.register_vmap("siamfast::augment", _in_vmap, lib=library.LIBRARY)
