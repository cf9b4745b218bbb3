"""The `torch` backend of correspondence_warp: a few query rows at a time, forward and backward, so that no N x N
matrix is ever stored. Backward recomputes each block's weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from siamfast.ops import library
from siamfast.ops.correspondence_warp.call import Gradients, Options, Outputs, Tensors

_BLOCK = 1_000_000  # logits per block: 4 MB in float32; backward keeps about 15 such arrays


def compute_dtype(query: torch.Tensor) -> torch.dtype:
    """The dtype of the products: float32 for bfloat16 features, which would change about 1 % of the top-10 sets."""
    return torch.float64 if query.dtype == torch.float64 else torch.float32


def no_details(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Empty confidence, entropy, lse and indices for calls without details; outputs of an op may not alias."""
    confidence, entropy, lse = (values.new_empty(0) for _ in range(3))
    return confidence, entropy, lse, values.new_empty(0, dtype=torch.int64)


def _unit(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features, dim=1)


def _blocks(query: torch.Tensor, keys: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of query rows with logits that fit a block."""
    per_row = query.shape[0] * query.shape[3] * keys.shape[1] * keys.shape[3] * keys.shape[4]
    step = max(1, _BLOCK // max(1, per_row))
    for begin in range(0, query.shape[2], step):
        yield begin, min(begin + step, query.shape[2])


def _forbidden(rows: tuple[int, int], query: torch.Tensor, keys: torch.Tensor, options: Options) -> torch.Tensor | None:
    """(rows * Wq, T * Hr * Wr) bool: keys outside the window of each query; None without a window."""
    radius = options.radius
    if radius < 0:
        return None
    (hq, wq), (frames, hr, wr) = query.shape[2:], (keys.shape[1], *keys.shape[3:])
    device = query.device
    y = (torch.arange(*rows, dtype=torch.float64, device=device) + 0.5) * hr / hq - 0.5
    x = (torch.arange(wq, dtype=torch.float64, device=device) + 0.5) * wr / wq - 0.5
    dy = (torch.arange(hr, device=device) - y[:, None]).abs()
    dx = (torch.arange(wr, device=device) - x[:, None]).abs()
    if options.circle:
        far = dy.square()[:, None, :, None] + dx.square()[None, :, None, :] >= radius * radius
    else:
        far = (dy > radius)[:, None, :, None] | (dx > radius)[None, :, None, :]
    far = far.reshape(-1, 1, hr * wr).repeat(1, frames, 1)
    far[:, options.global_frames] = False
    return far.flatten(1)


def _largest(scores: torch.Tensor, k: int) -> torch.Tensor:
    """(N, n, k) indices of the k largest, largest first, ties to the lower index (torch.topk does not promise it)."""
    least = torch.topk(scores, k, dim=-1).values[..., -1:]
    above, equal = scores > least, scores == least
    free = k - above.sum(-1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(-1) <= free))
    count = scores.shape[-1]
    # Put the chosen ones in rising order of index, then sort by value without changing that order among equals.
    rank = torch.where(chosen, torch.arange(count, 0, -1, device=scores.device), 0)
    index = torch.topk(rank, k, dim=-1).indices
    order = torch.sort(scores.gather(-1, index), dim=-1, descending=True, stable=True).indices
    return index.gather(-1, order)


def _attend(
    q: torch.Tensor,  # (N, C, n) normalised, divided by the temperature
    r: torch.Tensor,  # (N, C, J) normalised
    v: torch.Tensor,  # (N, K, J)
    bias: torch.Tensor | None,  # (N, J)
    forbidden: torch.Tensor | None,  # (n, J)
    options: Options,
) -> Outputs:
    """values (N, K, n); with details confidence, entropy, lse (N, n), indices (N, k, n), else four empty tensors."""
    topk, post, details = options.topk, options.post, options.details
    scores = torch.matmul(q.transpose(1, 2), r)
    if bias is not None:
        scores = scores + bias[:, None]
    if forbidden is not None:
        scores = scores.masked_fill(forbidden, float("-inf"))
    lse = torch.logsumexp(scores, -1) if details or (topk and post) else scores.new_empty(0)
    if topk:
        index = _largest(scores.detach(), topk)
        kept = scores.gather(-1, index)
        weights = torch.exp(kept - lse[..., None]) if post else torch.softmax(kept, -1)
        # Only the values of the chosen keys. They are gathered from v itself, so that backward adds into (N, K, J):
        # with v expanded over the queries, its gradient would first be written out for every query.
        flat = index.flatten(1)[:, None].expand(-1, v.shape[1], -1)
        gathered = torch.gather(v, 2, flat).unflatten(2, index.shape[1:])  # (N, K, n, k)
        warped = (gathered * weights[:, None]).sum(-1)
    else:
        weights = torch.softmax(scores, -1)
        warped = torch.matmul(v, weights.transpose(1, 2))
    if not details:
        # Four separate empty tensors: outputs of an op must not alias each other.
        first, second, third = (warped.new_zeros(0) for _ in range(3))
        return Outputs(warped, first, second, third, first.long())
    if not topk:
        index = scores.argmax(-1, keepdim=True)
    entropy = -torch.where(weights > 0, weights * weights.clamp_min(1e-38).log(), 0.0).sum(-1)
    confidence = (weights if topk else weights.gather(-1, index))[..., 0]
    return Outputs(warped, confidence, entropy, lse, index.transpose(1, 2))


def _prepare(
    tensors: Tensors, options: Options
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The tensors flattened, in the compute dtype: (N, C, Q), (N, C, J), (N, K, J), (N, J)."""
    query, keys, values, bias = tensors
    dtype = compute_dtype(query)
    q, r = query.to(dtype).flatten(2), keys.to(dtype).transpose(1, 2).flatten(2)
    if options.normalize:
        q, r = _unit(q), _unit(r)
    v = values.to(dtype).transpose(1, 2).flatten(2)
    return q / options.temperature, r, v, None if bias is None else bias.to(dtype).flatten(1)


def forward(tensors: Tensors, options: Options) -> Outputs:
    q, r, v, bias = _prepare(tensors, options)
    query, keys, values, _ = tensors
    details = options.details
    hq, wq = query.shape[2:]
    # Results are written into place block by block: small results between large temporaries would pin glibc's heap, and
    # the memory of all blocks would add up (measured: 1.4 GB at 120 x 120 cells, against 25 MB).
    joined: list[torch.Tensor] = []
    for rows in _blocks(query, keys):
        far = _forbidden(rows, query, keys, options)
        span = slice(rows[0] * wq, rows[1] * wq)
        block = _attend(q[:, :, span], r, v, bias, far, options)
        if not joined:
            joined = [b.new_empty((*b.shape[:-1], hq * wq)) if details or n == 0 else b for n, b in enumerate(block)]
        for whole, part in zip(joined[: 5 if details else 1], block, strict=False):
            whole[..., span] = part
        del block, part
    shaped = [j.unflatten(-1, (hq, wq)) if details or n == 0 else j for n, j in enumerate(joined)]
    return Outputs(shaped[0].to(values.dtype), *shaped[1:])


def backward(
    grads: Gradients,
    tensors: Tensors,
    options: Options,
    needs: list[bool],  # gradients needed for query, keys, values, key_bias
) -> tuple[torch.Tensor, ...]:
    query, keys = tensors.query, tensors.keys
    wq = query.shape[3]
    with library.autograd_enabled():
        pairs_of_needs = zip(tensors, needs, strict=True)
        inputs = [None if t is None else t.detach().requires_grad_(n) for t, n in pairs_of_needs]
        prepared = _prepare(Tensors(*inputs), options)  # type: ignore[arg-type]
        flat = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in prepared]
        q, r, v, bias = flat
        assert q is not None
        assert r is not None
        assert v is not None
        totals = [torch.zeros_like(t) if t is not None and t.requires_grad else None for t in flat]
        for rows in _blocks(query, keys):
            far = _forbidden(rows, query, keys, options)
            span = slice(rows[0] * wq, rows[1] * wq)
            outputs = _attend(q[:, :, span], r, v, bias, far, options)[: 4 if options.details else 1]
            slopes = [g.flatten(-2)[..., span].to(o.dtype) for g, o in zip(grads, outputs, strict=False)]
            leaves = [t for t, total in zip(flat, totals, strict=True) if total is not None]
            live = [(o, s) for o, s in zip(outputs, slopes, strict=True) if o.requires_grad]
            ends, starts = [o for o, _ in live], [s for _, s in live]
            parts = torch.autograd.grad(ends, leaves, starts, allow_unused=True)  # type: ignore[arg-type]
            for total, part in zip([t for t in totals if t is not None], parts, strict=True):
                if part is not None:
                    total += part
        # From the flattened, normalised tensors back to the inputs.
        pairs = [(p, t) for p, t in zip(prepared, totals, strict=True) if p is not None and t is not None]
        sources = [t for t, n in zip(inputs, needs, strict=True) if n and t is not None]
        back = iter(torch.autograd.grad([p for p, _ in pairs], sources, [t for _, t in pairs]) if sources else ())
        return tuple(next(back) if n else query.new_empty(0) for n in needs)
