"""The specification of correspondence_warp: the whole affinity as one matrix, then its softmax, then a product."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def allowed_keys(
    query_grid: tuple[int, int],
    key_grid: tuple[int, int, int],  # T, Hr, Wr
    radius: float | None,
    window: str,
    global_frames: tuple[int, ...],
    device: torch.device | str | None = None,
) -> torch.Tensor:  # (Hq*Wq, T*Hr*Wr) bool
    """The keys that each query may use: those within `radius` cells of its own place, on the keys' grid."""
    (hq, wq), (frames, hr, wr) = query_grid, key_grid
    if radius is None:
        return torch.ones(hq * wq, frames * hr * wr, dtype=torch.bool, device=device)
    # Cell centres of the query grid, in cells of the key grid.
    y = (torch.arange(hq, dtype=torch.float64, device=device) + 0.5) * hr / hq - 0.5
    x = (torch.arange(wq, dtype=torch.float64, device=device) + 0.5) * wr / wq - 0.5
    dy = (torch.arange(hr, device=device) - y[:, None]).abs()[:, None, :, None]  # (Hq, 1, Hr, 1)
    dx = (torch.arange(wr, device=device) - x[:, None]).abs()[None, :, None, :]  # (1, Wq, 1, Wr)
    # Squares are compared, since roots are rounded as the library likes: PyTorch's of 32 is not that of C or CUDA.
    near = (dy <= radius) & (dx <= radius) if window == "square" else dy * dy + dx * dx < radius * radius
    near = near.reshape(hq * wq, 1, hr * wr).repeat(1, frames, 1)
    if global_frames:
        near[:, list(global_frames)] = True
    return near.reshape(hq * wq, -1)


def logits(
    query: torch.Tensor,  # (N, C, Hq, Wq)
    keys: torch.Tensor,  # (N, T, C, Hr, Wr)
    key_bias: torch.Tensor | None,  # (N, T, Hr, Wr)
    allowed: torch.Tensor,  # (Hq*Wq, T*Hr*Wr)
    temperature: float,
    normalize: bool,
) -> torch.Tensor:  # (N, Hq*Wq, T*Hr*Wr)
    """<q_i, r_j> / temperature + key_bias_j; -inf where the window forbids it."""
    q, r = query.flatten(2), keys.transpose(1, 2).flatten(2)
    if normalize:
        q, r = F.normalize(q, dim=1), F.normalize(r, dim=1)
    values = torch.einsum("nci,ncj->nij", q, r) / temperature
    if key_bias is not None:
        values = values + key_bias.flatten(1)[:, None]
    return values.masked_fill(~allowed, float("-inf"))


def weights(values: torch.Tensor, topk: int | None, topk_norm: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits -> (affinity, order): softmax over all keys, over the k largest, or cut to them; ties to the lower
    index."""
    order = torch.sort(values, dim=-1, descending=True, stable=True).indices
    if topk is None:
        return torch.softmax(values, -1), order[..., :1]
    order = order[..., :topk]
    chosen = torch.zeros_like(values).scatter(-1, order, 1.0) > 0  # torch.jit.trace has no scatter of bools
    if topk_norm == "pre":
        return torch.softmax(values.masked_fill(~chosen, float("-inf")), -1), order
    return torch.softmax(values, -1) * chosen, order


def correspondence_warp(
    query: torch.Tensor,  # (N, C, Hq, Wq)
    keys: torch.Tensor,  # (N, T, C, Hr, Wr)
    values: torch.Tensor,  # (N, T, K, Hr, Wr)
    key_bias: torch.Tensor | None,  # (N, T, Hr, Wr)
    temperature: float,
    normalize: bool,
    radius: float | None,
    window: str,
    global_frames: tuple[int, ...],
    topk: int | None,
    topk_norm: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One softmax over all keys.

    Returns:
        values (N, K, Hq, Wq); confidence, entropy, lse (N, Hq, Wq); indices (N, k, Hq, Wq). The confidence is the
        weight of the first index: among equal keys that one alone has its slope.
    """
    grid = (query.shape[2], query.shape[3])
    allowed = allowed_keys(grid, (keys.shape[1], *keys.shape[3:]), radius, window, global_frames, query.device)
    scores = logits(query, keys, key_bias, allowed, temperature, normalize)
    affinity, order = weights(scores, topk, topk_norm)
    warped = torch.einsum("nij,nkj->nki", affinity, values.transpose(1, 2).flatten(2).to(affinity.dtype))
    entropy = -torch.where(affinity > 0, affinity * affinity.clamp_min(1e-38).log(), 0.0).sum(-1)
    return (
        warped.unflatten(2, grid),
        affinity.gather(-1, order[..., :1]).squeeze(-1).unflatten(1, grid),
        entropy.unflatten(1, grid),
        torch.logsumexp(scores, -1).unflatten(1, grid),
        order.transpose(1, 2).unflatten(2, grid),
    )
