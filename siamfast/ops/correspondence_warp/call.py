"""The arguments and outputs of the warp's raw op, by name."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch


class Tensors(NamedTuple):
    """The raw op's tensors."""

    query: torch.Tensor  # (N, C, Hq, Wq)
    keys: torch.Tensor  # (N, T, C, Hr, Wr)
    values: torch.Tensor  # (N, T, K, Hr, Wr)
    key_bias: torch.Tensor | None  # (N, T, Hr, Wr)

    @property
    def bias_or_query(self) -> torch.Tensor:
        """The tensor with the dtype of the bias's gradient."""
        return self.query if self.key_bias is None else self.key_bias


class Options(NamedTuple):
    """The options of the raw op and the C++ kernels."""

    temperature: float
    normalize: bool
    radius: float  # in cells of the keys' grid; below 0: no window
    circle: bool
    global_frames: list[int]  # frames that the window does not bound
    topk: int  # 0: all keys
    post: bool  # weights of all keys, cut to the top k; else a softmax of the top k
    details: bool  # whether to return more than the values

    @property
    def public_radius(self) -> float | None:
        """The radius as in `correspondence_warp` and the specification; the next properties likewise."""
        return None if self.radius < 0 else self.radius

    @property
    def public_window(self) -> str:
        return "circle" if self.circle else "square"

    @property
    def public_topk(self) -> int | None:
        return self.topk or None

    @property
    def public_topk_norm(self) -> str:
        return "post" if self.post else "pre"


class Gradients(NamedTuple):
    """The loss's derivatives by the op's outputs; indices have none."""

    values: torch.Tensor  # (N, K, Hq, Wq)
    confidence: torch.Tensor  # (N, Hq, Wq), as the next two
    entropy: torch.Tensor
    lse: torch.Tensor


class Outputs(NamedTuple):
    """The op's outputs; without details all but the values are empty."""

    values: torch.Tensor  # (N, K, Hq, Wq)
    confidence: torch.Tensor  # (N, Hq, Wq), like the next two
    entropy: torch.Tensor
    lse: torch.Tensor
    indices: torch.Tensor  # (N, k, Hq, Wq) int64 of the chosen keys in the flattened (T, Hr, Wr); k = 1 for all keys


class BackwardCall(NamedTuple):
    """The arguments of the raw op's backward."""

    grads: Gradients
    outputs: Outputs  # forward's
    tensors: Tensors
    options: Options
    needs: list[bool]  # gradients needed for query, keys, values, key_bias

    @classmethod
    def of(cls, *flat: Any) -> BackwardCall:
        """From the dispatcher's flat arguments."""
        arguments = iter(flat)
        grads = Gradients(*itertools.islice(arguments, len(Gradients._fields)))
        outputs = Outputs(*itertools.islice(arguments, len(Outputs._fields)))
        tensors = Tensors(*itertools.islice(arguments, len(Tensors._fields)))
        options = Options(*itertools.islice(arguments, len(Options._fields)))
        (needs,) = arguments
        return cls(grads, outputs, tensors, options, list(needs))
