"""How the warp's raw op is called and what it gives: tensors, options and outputs by name."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch


class Tensors(NamedTuple):
    """The tensors that the raw op takes."""

    query: torch.Tensor  # (N, C, Hq, Wq)
    keys: torch.Tensor  # (N, T, C, Hr, Wr)
    values: torch.Tensor  # (N, T, K, Hr, Wr)
    key_bias: torch.Tensor | None  # (N, T, Hr, Wr)

    @property
    def bias_or_query(self) -> torch.Tensor:
        """Whose dtype the bias's gradient has."""
        return self.query if self.key_bias is None else self.key_bias


class Options(NamedTuple):
    """As the raw ops and the C++ kernels take them."""

    temperature: float
    normalize: bool
    radius: float  # in cells of the keys' grid; below 0: no window
    circle: bool
    global_frames: list[int]  # which the window does not bound
    topk: int  # 0: all keys
    post: bool  # weights of all keys, cut to the top k; else a softmax of the top k
    details: bool  # whether more than the values is wanted

    @property
    def public_radius(self) -> float | None:
        """As `correspondence_warp` and the specification take it, and so on."""
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
    """Without details all but the values are empty."""

    values: torch.Tensor  # (N, K, Hq, Wq)
    confidence: torch.Tensor  # (N, Hq, Wq), as the next two
    entropy: torch.Tensor
    lse: torch.Tensor
    indices: torch.Tensor  # (N, k, Hq, Wq) int64 of the chosen keys in the flattened (T, Hr, Wr); k = 1 for all keys


class BackwardCall(NamedTuple):
    """The arguments of the raw op's backward."""

    grads: Gradients
    given: Outputs  # forward's
    tensors: Tensors
    options: Options
    needs: list[bool]  # gradients wanted for query, keys, values, key_bias

    @classmethod
    def of(cls, *flat: Any) -> BackwardCall:
        """From what the dispatcher passes, one after another."""
        rest = iter(flat)
        grads = Gradients(*itertools.islice(rest, len(Gradients._fields)))
        given = Outputs(*itertools.islice(rest, len(Outputs._fields)))
        tensors = Tensors(*itertools.islice(rest, len(Tensors._fields)))
        options = Options(*itertools.islice(rest, len(Options._fields)))
        (needs,) = rest
        return cls(grads, given, tensors, options, list(needs))
