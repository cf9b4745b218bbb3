"""Dense correspondence: the values of earlier frames, weighted by the softmax affinity of features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_variadic

from siamfast.ops import dispatch, library
from siamfast.ops.correspondence_warp import autograd as raw
from siamfast.ops.correspondence_warp import eager, reference
from siamfast.ops.correspondence_warp.call import Options, Tensors

_DETAILS = ("confidence", "entropy", "lse", "indices")  # the raw op's outputs beside the values, with details
_RETURNS = ("values", "flow", *_DETAILS)


def can_run(backend: str, device_type: str, dtype: torch.dtype, *, raise_error: bool = False) -> bool:
    """Whether `backend` serves correspondence_warp on this device and dtype."""
    return dispatch.can_run(backend, device_type, dtype, raise_error)


# ---------------------------------------------------------------------------------------------------- public functions
def correspondence_warp(
    query: torch.Tensor,
    reference: torch.Tensor,
    values: torch.Tensor,
    *,
    temperature: float = 0.07,
    normalize: bool = True,
    radius: float | None = None,
    window: str = "square",
    global_frames: Sequence[int] = (),
    topk: int | None = None,
    topk_norm: str = "pre",
    frames: str = "joint",
    key_bias: torch.Tensor | None = None,
    returns: Sequence[str] = ("values",),
) -> Any:
    """Warp `values` of earlier frames onto the current one through the softmax affinity of their features.

    ``out[n, k, i] = sum_j softmax_j(<q_i, r_j> / temperature + key_bias_j) * values[n, k, j]`` (Wang, Jabri, Efros
    2019, "Learning Correspondence from the Cycle-Consistency of Time", eq. 1; Jabri, Owens, Efros 2020, "Space-Time
    Correspondence as a Contrastive Random Walk"). The N x N affinity is never stored, forward or backward.

    Args:
        query: (N, C, Hq, Wq) features of the current frame, floating.
        reference: (N, C, Hr, Wr), or (N, T, C, Hr, Wr) for T context frames; query's dtype and device.
        values: (N, K, Hr, Wr) or (N, T, K, Hr, Wr), floating, any dtype: mask, labels, colours.
        temperature: divides the products.
        normalize: scale features to length 1 first; a zero feature then matches all keys alike.
        radius: use only keys within this many cells of the query's own place (on the keys' grid; centres scale if the
            grids differ). window "square": ``|dy|, |dx| <= radius``; "circle": ``dy^2 + dx^2 < radius^2``.
        global_frames: context frames that the radius does not bound, counted from 0.
        topk: use only the k keys with the largest logits, ties to the lower index; all if there are fewer.
        topk_norm: "pre": softmax over the chosen; "post": chosen after the softmax, not renormalised.
        frames: "joint": one softmax over all context frames; "mean": one per frame, with averaged results.
        key_bias: (N, Hr, Wr) or (N, T, Hr, Wr), added to the logits.
        returns: any of "values" (N, K, Hq, Wq); "flow" (N, 2, Hq, Wq), the expected place of the match minus the
            query's own, dx and dy in cells of the keys' grid; "confidence", the largest weight, "entropy" of the
            weights in nats and "lse", the log-sum-exp of the logits, (N, Hq, Wq); "indices" (N, k, Hq, Wq) int64 of the
            chosen keys in the flattened (T, Hr, Wr), largest first (k = 1 without topk). With frames="mean",
            confidence, entropy and lse are means over frames, and indices are per frame, (N, T, k, Hq, Wq).

    Returns:
        One tensor for one name, a tuple in the given order for several; values in their own dtype, the others in
        float32 (float64 for float64 features). Gradients flow to query, reference, values and key_bias through all but
        indices.

    Raises:
        TypeError, ValueError: an argument that does not fit, by its name; a window that leaves a query without a key.

    >>> import torch, siamfast
    >>> now, before, mask = torch.randn(1, 64, 20, 20), torch.randn(1, 64, 20, 20), torch.rand(1, 1, 20, 20)
    >>> siamfast.correspondence_warp(now, before, mask, radius=5, topk=10).shape
    torch.Size([1, 1, 20, 20])
    """
    if has_torch_function_variadic(query, reference, values, key_bias):
        return handle_torch_function(
            correspondence_warp, (query, reference, values, key_bias), query, reference, values,
            temperature=temperature, normalize=normalize, radius=radius, window=window, global_frames=global_frames,
            topk=topk, topk_norm=topk_norm, frames=frames, key_bias=key_bias, returns=returns,
        )  # fmt: skip
    if values is None:
        raise TypeError("values: got None, expected a torch.Tensor")
    tensors, names, options = _inputs(
        query, reference, values, key_bias, returns, global_frames,
        temperature, normalize, radius, window, topk, topk_norm, frames,
    )  # fmt: skip
    if names == ("values",) and frames != "mean":
        return raw.warp(tensors, options)[0]
    query, keys, values, bias = tensors
    count, channels, values_dtype = keys.shape[1], values.shape[2], values.dtype
    if "flow" in names:  # bfloat16 would round a place of about 100 cells by a quarter
        values = values.to(eager.compute_dtype(query))
        values = torch.cat([values, _places(keys, values)], 2)
    average = frames == "mean"
    if average:  # each frame becomes a sample
        query = query.repeat_interleave(count, 0)
        keys, values = keys.flatten(0, 1).unsqueeze(1), values.flatten(0, 1).unsqueeze(1)
        bias = None if bias is None else bias.flatten(0, 1).unsqueeze(1)
    outputs = raw.warp(Tensors(query, keys, values, bias), options)
    results_by_name = dict(zip(("values", *_DETAILS) if options.details else ("values",), outputs, strict=False))
    if average:
        results_by_name = {k: v.unflatten(0, (-1, count)) for k, v in results_by_name.items()}
        results_by_name = {k: v if k == "indices" else v.mean(1) for k, v in results_by_name.items()}
    if "flow" in names:
        results_by_name["flow"] = results_by_name["values"][:, channels:] - _own_places(query, keys, values.dtype)
        results_by_name["values"] = results_by_name["values"][:, :channels].to(values_dtype)
    results = tuple(results_by_name[name] for name in names)
    return results[0] if len(results) == 1 else results


def correspondence_affinity(
    query: torch.Tensor,
    reference: torch.Tensor,
    *,
    temperature: float = 0.07,
    normalize: bool = True,
    radius: float | None = None,
    window: str = "square",
    global_frames: Sequence[int] = (),
    topk: int | None = None,
    topk_norm: str = "pre",
    frames: str = "joint",
    key_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The affinity that `correspondence_warp` never stores, for inspection of small inputs.

    Args:
        query, reference, temperature, normalize, radius, window, global_frames, topk, topk_norm, frames, key_bias: as
            for `correspondence_warp`: query (N, C, Hq, Wq), reference (N, C, Hr, Wr) or (N, T, C, Hr, Wr).

    Returns:
        (N, Hq, Wq, T, Hr, Wr): the weight of each key for each query, 0 for keys that it does not use. With
        frames="mean" each frame's weights sum to 1/T.

    Raises:
        TypeError, ValueError: as for `correspondence_warp`.

    >>> import torch, siamfast
    >>> float(siamfast.correspondence_affinity(torch.ones(1, 4, 2, 2), torch.ones(1, 4, 2, 2))[0, 0, 0].sum())
    1.0
    """
    (query, keys, _, bias), _, o = _inputs(
        query, reference, None, key_bias, ("values",), global_frames,
        temperature, normalize, radius, window, topk, topk_norm, frames,
    )  # fmt: skip
    count, grid = keys.shape[1], (keys.shape[3], keys.shape[4])
    dtype = eager.compute_dtype(query)
    parts = [slice(t, t + 1) for t in range(count)] if frames == "mean" else [slice(0, count)]
    pieces = []
    for part in parts:
        allowed = _reference_allowed(query, keys[:, part], o)
        piece = None if bias is None else bias[:, part].to(dtype)
        with torch.autocast(query.device.type, enabled=False):
            scores = _reference_logits(query.to(dtype), keys[:, part].to(dtype), piece, allowed, o)
        affinity = _reference_weights(scores, o)
        pieces.append(affinity.unflatten(2, (-1, *grid)) / len(parts))
    return torch.cat(pieces, 2).unflatten(1, query.shape[2:])


def _reference_allowed(query: torch.Tensor, keys: torch.Tensor, o: Options) -> torch.Tensor:
    grids = (query.shape[2], query.shape[3]), (keys.shape[1], keys.shape[3], keys.shape[4])
    return reference.allowed_keys(*grids, o.public_radius, o.public_window, tuple(o.global_frames), query.device)


def _reference_logits(query: Any, keys: Any, bias: Any, allowed: Any, o: Options) -> torch.Tensor:
    return reference.logits(query, keys, bias, allowed, o.temperature, o.normalize)


def _reference_weights(scores: torch.Tensor, o: Options) -> torch.Tensor:
    return reference.weights(scores, o.topk or None, o.public_topk_norm)[0]


# -------------------------------------------------------------------------------------------------------------- checks
# What the checks read of a tensor.
_Kind = tuple[torch.Size, torch.dtype, torch.device]


def _kind(name: str, value: torch.Tensor) -> _Kind:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a torch.Tensor")
    return value.shape, value.dtype, value.device


def _inputs(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor | None, key_bias: torch.Tensor | None,
    returns: Sequence[str], global_frames: Sequence[int], *options: Any,
) -> tuple[Tensors, tuple[str, ...], Options]:  # fmt: skip
    """The raw op's tensors, with an axis of frames; the names of the outputs; the raw op's options."""
    queries, references = _kind("query", query), _kind("reference", keys)
    mixed = references[1] != queries[1] and {references[1], queries[1]} <= set(dispatch.FLOATS)
    if mixed and library.autocast_enabled(query.device.type):
        query, keys = query.float(), keys.float()  # one came from a network under autocast, the other did not
        queries, references = _kind("query", query), _kind("reference", keys)
    several, names, checked = _checked(
        queries,
        references,
        None if values is None else _kind("values", values),
        None if key_bias is None else _kind("key_bias", key_bias),
        tuple(returns) if isinstance(returns, list) else returns,  # a list has no hash
        _whole(global_frames),
        *options,
    )
    if not several:
        keys = keys.unsqueeze(1)
        values = None if values is None else values.unsqueeze(1)
        key_bias = None if key_bias is None else key_bias.unsqueeze(1)
    return Tensors(query, keys, keys[:, :, :0] if values is None else values, key_bias), names, checked


def _whole(frames: Sequence[int]) -> tuple[int, ...]:
    if type(frames) is tuple and not frames:  # as in most calls: half a microsecond less
        return frames
    if not isinstance(frames, Sequence) or not all(isinstance(t, int) for t in frames):
        raise TypeError(f"global_frames: got {frames!r}, expected a sequence of whole numbers")
    return tuple(frames)


@dispatch.remembered
def _checked(
    query: _Kind, keys: _Kind, values: _Kind | None, key_bias: _Kind | None, returns: Sequence[str], *options: Any
) -> tuple[bool, tuple[str, ...], Options]:
    """Whether the keys come with an axis of frames, the names of the outputs, and the raw op's options.

    One check of everything, remembered: a question for each part costs more than the answer.
    """
    several = _check_kinds(query, keys, values, key_bias)
    names, details = _asked(returns)
    place = keys[0]
    return several, names, _options(query[0][2:], place[-2:], place[1] if several else 1, details, *options)


def _check_kinds(query: _Kind, keys: _Kind, values: _Kind | None, key_bias: _Kind | None) -> bool:
    """Whether the keys come with an axis of frames."""
    given = {"query": query, "reference": keys, "values": values, "key_bias": key_bias}
    for name, kind in given.items():
        if kind is not None and not kind[1].is_floating_point:
            raise TypeError(f"{name}: got dtype {kind[1]}, expected a floating dtype")
        if kind is not None and kind[2] != query[2]:
            raise ValueError(f"{name}: got device {kind[2]}, expected query's {query[2]}")
    shape, place = query[0], keys[0]
    if len(shape) != 4 or 0 in shape[1:]:
        raise ValueError(f"query: got shape {tuple(shape)}, expected (N, C, Hq, Wq), none but N of size 0")
    if keys[1] != query[1]:
        raise TypeError(f"reference: got dtype {keys[1]}, expected query's {query[1]}")
    if len(place) not in (4, 5) or place[0] != shape[0] or place[-3] != shape[1]:
        expected = f"({shape[0]}, [T,] {shape[1]}, Hr, Wr)"
        raise ValueError(f"reference: got shape {tuple(place)}, expected {expected}")
    if 0 in place[1:]:
        raise ValueError(f"reference: got shape {tuple(place)}, expected at least one frame and one cell")
    several = len(place) == 5
    before, grid = tuple(place[: 2 if several else 1]), tuple(place[-2:])
    if values is not None:
        got = tuple(values[0])
        if len(got) != len(place) or (got[: len(before)], got[-2:]) != (before, grid):
            raise ValueError(f"values: got shape {got}, expected {(*before, 'K', *grid)}".replace("'", ""))
    if key_bias is not None and tuple(key_bias[0]) != (*before, *grid):
        raise ValueError(f"key_bias: got shape {tuple(key_bias[0])}, expected {(*before, *grid)}")
    return several


def _asked(returns: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The outputs' names, and whether some of them are details."""
    names = (returns,) if isinstance(returns, str) else tuple(returns) if isinstance(returns, Sequence) else ()
    if not names or not all(map(_RETURNS.__contains__, names)):
        raise ValueError(f"returns: got {returns!r}, expected some of {', '.join(_RETURNS)}")
    return names, any(map(names.__contains__, _DETAILS))


def _options(
    queries: Sequence[int], keys: Sequence[int], count: int, details: bool, global_frames: Sequence[int],
    temperature: float, normalize: bool, radius: float | None, window: str, topk: int | None, topk_norm: str,
    frames: str,
) -> Options:  # fmt: skip
    """The raw op's options, checked, for grids of these (H, W) and `count` frames of keys."""
    if not (_is_number(temperature) and 0 < temperature < math.inf):
        raise ValueError(f"temperature: got {temperature!r}, expected a number above 0")
    for name, value, choices in (
        ("window", window, ("square", "circle")),
        ("topk_norm", topk_norm, ("pre", "post")),
        ("frames", frames, ("joint", "mean")),
    ):
        if value not in choices:
            raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(choices)}")
    if topk is not None and (isinstance(topk, bool) or not isinstance(topk, int) or topk < 1):
        raise ValueError(f"topk: got {topk!r}, expected a whole number above 0 or None")
    chosen = tuple(sorted({t + count if -count <= t < 0 else t for t in global_frames}))
    if any(not 0 <= t < count for t in chosen):
        raise ValueError(f"global_frames: got {tuple(global_frames)}, expected frames of the {count} given")
    if radius is not None:
        if not (_is_number(radius) and 0 <= radius < math.inf):
            raise ValueError(f"radius: got {radius!r}, expected 0 or more, or None")
        if chosen and frames == "mean" and count > 1:
            raise ValueError("global_frames: got some with frames='mean' and a radius, expected frames='joint'")
        # int: torch.jit.trace makes sizes tensors
        away = [_farthest(int(q), int(k)) for q, k in zip(queries, keys, strict=True)]
        squares = sum(a * a for a in away)
        empty = squares >= radius * radius if window == "circle" else max(away) > radius
        if empty and not chosen:
            raise ValueError(f"radius: got {radius!r}, which leaves some query without a key; expected more")
    return Options(
        float(temperature),
        bool(normalize),
        radius=-1.0 if radius is None else float(radius),
        circle=window == "circle",
        global_frames=list(chosen),
        topk=min(topk or 0, (1 if frames == "mean" else count) * keys[0] * keys[1]),
        post=topk_norm == "post",
        details=details,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _farthest(queries: int, keys: int) -> float:
    """The largest distance between a query's place and its nearest key along one axis, in cells of the keys."""
    places = [(i + 0.5) * keys / queries - 0.5 for i in range(queries)]
    return max(abs(place - min(max(round(place), 0), keys - 1)) for place in places)


def _places(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(N, T, 2, Hr, Wr): x and y of every key, as two more channels of values."""
    axes = [torch.arange(side, dtype=values.dtype, device=keys.device) for side in keys.shape[3:]]
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y)).expand(keys.shape[0], keys.shape[1], -1, -1, -1)


def _own_places(query: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(2, Hq, Wq): x and y of every query in cells of the keys' grid."""
    axes = [
        (torch.arange(q, dtype=dtype, device=query.device) + 0.5) * k / q - 0.5
        for q, k in zip(query.shape[2:], keys.shape[3:], strict=True)
    ]
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y))
