"""The `cpp` backend of correspondence_warp, forward: arguments of the raw op handed to siamfast._C."""

from __future__ import annotations

import torch

from siamfast.ops import _backend
from siamfast.ops import _correspondence_warp_torch as blocked

CODES = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}
_ABSENT = (0, 1, 0, 0, 0, 0, 0)


def reason(device_type: str, dtype: torch.dtype) -> str | None:
    """Why the C++ kernel cannot serve, or None."""
    if device_type != "cpu":
        return f"the C++ kernel takes CPU tensors, not {device_type}"
    if dtype not in CODES:
        return f"the C++ kernel has no {dtype}"
    module, cause = _backend.extension()
    return None if module is not None else cause


def _maps(t: torch.Tensor) -> tuple[int, ...]:
    """t: (N, T, C, H, W)."""
    return t.data_ptr(), CODES[t.dtype], *(step * t.element_size() for step in t.stride())


def forward(
    query: torch.Tensor,  # (N, C, Hq, Wq)
    keys: torch.Tensor,  # (N, T, C, Hr, Wr)
    values: torch.Tensor,  # (N, T, K, Hr, Wr)
    key_bias: torch.Tensor | None,  # (N, T, Hr, Wr)
    temperature: float,
    normalize: bool,
    radius: float,  # below 0: no window
    circle: bool,
    global_frames: list[int],
    topk: int,  # 0: all keys
    post: bool,
    details: bool,  # whether more than the values is wanted
) -> blocked.Outputs:
    module, cause = _backend.extension()
    if module is None:
        raise RuntimeError(cause)
    (n, channels, hq, wq), (frames, hr, wr), count = query.shape, (keys.shape[1], *keys.shape[3:]), values.shape[2]
    given = values.float() if values.dtype not in CODES else values
    bias = None if key_bias is None else key_bias.unsqueeze(2)
    bias = None if bias is None else bias.float() if bias.dtype not in CODES else bias
    found = torch.empty((n, count, hq, wq), dtype=torch.float32)
    maps = [torch.empty((n, hq, wq) if details else (0,), dtype=torch.float32) for _ in range(3)]
    indices = torch.empty((n, topk or 1, hq, wq) if details else (0,), dtype=torch.int64)
    module.correspondence_warp(
        (n, frames, channels, count, hq, wq, hr, wr, topk, torch.get_num_threads()),
        (normalize, circle, post, details),
        temperature,
        radius,
        [t in global_frames for t in range(frames)],
        _maps(query.unsqueeze(1)),
        _maps(keys),
        _maps(given),
        _ABSENT if bias is None else _maps(bias),
        tuple(t.data_ptr() for t in (found, *maps, indices)),
    )
    return found.to(values.dtype), maps[0], maps[1], maps[2], indices


def backward(
    grads: tuple[torch.Tensor, ...],  # of values (N, K, Hq, Wq), confidence, entropy, lse (N, Hq, Wq)
    given: tuple[torch.Tensor, ...],  # forward's outputs, with details
    flat: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None],  # of `blocked.prepared`, float32
    query_grid: tuple[int, int],
    key_grid: tuple[int, int, int],  # T, Hr, Wr
    radius: float,
    circle: bool,
    global_frames: list[int],
) -> tuple[torch.Tensor, ...]:  # as `flat`; of all keys, no top k
    module, cause = _backend.extension()
    if module is None:
        raise RuntimeError(cause)
    q, r, v, bias = (None if t is None else t.detach().contiguous() for t in flat)
    assert q is not None
    assert r is not None
    assert v is not None
    (n, channels), count, (frames, hr, wr) = q.shape[:2], v.shape[1], key_grid
    found = torch.empty_like(q), torch.empty_like(r), torch.empty_like(v), q.new_empty(n, r.shape[2])

    def maps(t: torch.Tensor) -> tuple[int, ...]:
        """t: (N, C, T * H * W)."""
        cells = t.shape[2]
        return t.data_ptr(), 1, 4 * t.shape[1] * cells, 4 * hr * wr, 4 * cells, 4 * wr, 4

    query = q.data_ptr(), 1, 4 * channels * q.shape[2], 0, 4 * q.shape[2], 4 * query_grid[1], 4
    held = [t.contiguous() for t in (*given, *(g.float() for g in grads))]
    module.correspondence_warp_backward(
        (n, frames, channels, count, *query_grid, hr, wr, 0, torch.get_num_threads()),
        (False, circle, False, True),
        radius,
        [t in global_frames for t in range(frames)],
        query,
        maps(r),
        maps(v),
        _ABSENT if bias is None else maps(bias[:, None]),
        tuple(t.data_ptr() for t in held),
        tuple(t.data_ptr() for t in found),
    )
    return found
