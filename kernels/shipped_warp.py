"""The warp's Triton kernels in the configurations that run without tuning, at shapes of performance.md's table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from siamfast.kernels import correspondence_warp, correspondence_warp_backward, correspondence_warp_top, warp_launch
from siamfast.kernels.integers import cdiv, next_power_of_2
from siamfast.kernels.static import Build
from siamfast.kernels.warp_features import (
    BLOCK_CELLS,
    BLOCK_CHANNELS,
    EPS,
    NUM_WARPS,
    through_unit_rows_kernel,
    unit_rows_kernel,
)
from siamfast.kernels.warp_windows import SIDE
from siamfast.kernels.xcorr_launch import EXACT


class _Case(NamedTuple):
    name: str
    batch: int
    channels: int
    side: tuple[int, int]
    values: int
    window: int = 0  # kind of warp_windows
    radius: int = 0
    topk: int = 0

    @property
    def cells(self) -> int:
        return self.side[0] * self.side[1]

    @property
    def seen(self) -> int:
        """Keys of a query away from the border."""
        return self.cells if not self.window else min(self.cells, (2 * self.radius + 1) ** 2)


_LARGE = 1, 512, (60, 108), 5
_CASES = (
    _Case("large", *_LARGE),
    _Case("large, radius 12", *_LARGE, window=1, radius=12),
    _Case("large, circle 12, top 10", *_LARGE, window=2, radius=12, topk=10),
    _Case("25x25", 8, 256, (25, 25), 1),
    _Case("grids that differ, top 10", 8, 256, (25, 25), 1, window=3, radius=12, topk=10),
)
# Products, and what rows are stored in: unit features, features as they are, float32 with TF32 forbidden.
_PRODUCTS = (("ieee", "fp16", 2), ("tf32", "fp32", 4), (EXACT, "fp32", 4))
_TILE = ("exempt_ptr", "i32"), ("bounds_ptr", "i32"), ("places_ptr", "fp64")


def builds(chip: int) -> Iterator[Build]:
    """Every kernel, as it is launched on sm_`chip`."""
    yield from _features()
    for case in _CASES:
        for precision, dtype, size in _PRODUCTS:
            name = f"{case.name}, {'exact' if precision == EXACT else dtype}"
            yield from (_top if case.topk else _plain)(case, name, precision, dtype, size, chip)


def _features() -> Iterator[Build]:
    """512 channels of 60 x 108 cells."""
    channels, cells = 512, 60 * 108
    tiles = {"BLOCK_CELLS": BLOCK_CELLS, "BLOCK_CHANNELS": BLOCK_CHANNELS, "NORMALIZE": True, "LEAST": EPS}
    yield Build(
        "warp rows, large, fp32", unit_rows_kernel, {"features_ptr": "fp32", "rows_ptr": "fp16", "inverse_ptr": "fp32"},
        {**tiles, "CP": channels, "f_x": 1}, {"num_warps": NUM_WARPS}, 6 * channels * cells, 3 * channels * cells,
        floats=("factor",),
    )  # fmt: skip
    yield Build(
        "warp slopes of features, large, fp32", through_unit_rows_kernel,
        {"slopes_ptr": "fp32", "features_ptr": "fp32", "inverse_ptr": "fp32", "out_ptr": "fp32"},
        {**tiles, "CP": channels, "f_x": 1}, {"num_warps": NUM_WARPS}, 12 * channels * cells, 6 * channels * cells,
        floats=("factor",),
    )  # fmt: skip


def _constants(case: _Case, precision: str, size: int, backward: bool = False) -> dict[str, Any]:
    padded, block = warp_launch.row_blocks(case.channels, size, precision, backward)
    return {"WINDOW": case.window, "BIAS": False, "CP": padded, "BLOCK_C": block, "SIDE": SIDE, "PRECISION": precision,
            "UPCAST": False}  # fmt: skip


def _tiles(config: dict[str, int]) -> dict[str, int]:
    return {k: v for k, v in config.items() if k.startswith("BLOCK")}


def _options(config: dict[str, int]) -> dict[str, int]:
    return {k: config[k] for k in ("num_warps", "num_stages")}


def _work(case: _Case, size: int) -> tuple[int, int, int]:
    """Bytes of the features' rows, of values in and out, and FLOP of one product of features."""
    rows = 2 * case.batch * case.cells * case.channels * size
    return rows, 8 * case.batch * case.values * case.cells, 2 * case.batch * case.cells * case.seen * case.channels


def _pointers(dtype: str, *names: str) -> dict[str, str]:
    indices = {"index_ptr": "i64"}
    found = {"query_ptr": dtype, "keys_ptr": dtype, "bias_ptr": "fp32", **dict(_TILE)}
    return found | {name: indices.get(name, "fp32") for name in names}


def _plain(case: _Case, name: str, precision: str, dtype: str, size: int, chip: int) -> Iterator[Build]:
    constants, rate = _constants(case, precision, size), "bf16" if size == 2 else "fp32"
    rows, values, flop = _work(case, size)
    block = warp_launch.values_block(case.values)
    weighing = 2 * case.batch * case.cells * case.seen * case.values
    config = warp_launch.forward_config(
        case.window > 0, precision, constants["BLOCK_C"] == constants["CP"], case.values
    )
    split = 1
    if not case.window:
        split = warp_launch.split_of(cdiv(case.cells, config["BLOCK_Q"]) * case.batch, case.cells, 16)
    yield Build(
        f"warp forward, {name}", correspondence_warp.warp_forward_kernel,
        _pointers(dtype, "values_ptr", "sums_ptr", "state_ptr", "index_ptr"),
        {**constants, **block, **_tiles(config), "SPLIT": split}, _options(config), rows + values, flop + weighing,
        rate=rate, wide=True,
    )  # fmt: skip
    constants = _constants(case, precision, size, backward=True)
    slopes = {
        "DETAILS": True,
        **warp_launch.slopes_block(case.values),
        "SLOPES": "tf32" if precision != EXACT else EXACT,
    }
    config = warp_launch.backward_config(precision, chip, case.window, case.values, by_key=False, of_values=False)
    pointers = _pointers(dtype, "values_ptr", "grad_ptr", "ends_ptr", "index_ptr")
    yield Build(
        f"warp dquery, {name}", correspondence_warp_backward.warp_query_slopes_kernel,
        pointers | {"d_query_ptr": "fp32"}, {**constants, **slopes, **_tiles(config)}, _options(config),
        2 * rows + values, 2 * flop + weighing, rate="fp32", wide=True,
    )  # fmt: skip
    for kind, of_values in (("dkeys", False), ("dvalues", True)):
        config = warp_launch.backward_config(precision, chip, case.window, case.values, True, of_values)
        yield Build(
            f"warp {kind}, {name}", correspondence_warp_backward.warp_key_slopes_kernel,
            pointers | {"d_keys_ptr": "fp32", "d_values_ptr": "fp32", "d_bias_ptr": "fp32"},
            {**constants, **slopes, **_tiles(config), "OF_VALUES": of_values}, _options(config),
            (1 if of_values else 2) * rows + values, (1 if of_values else 2) * flop + weighing, rate="fp32", wide=True,
        )  # fmt: skip


def _top(case: _Case, name: str, precision: str, dtype: str, size: int, chip: int) -> Iterator[Build]:
    constants, rate = _constants(case, precision, size), "bf16" if size == 2 else "fp32"
    rows, values, flop = _work(case, size)
    config = warp_launch.top_config(case.window, precision, chip)
    places = next_power_of_2(case.topk)
    down, across = (cdiv(cells, SIDE) for cells in case.side)
    tiles = down * across if case.window else cdiv(case.cells, config["BLOCK_Q"])
    split = warp_launch.split_of(tiles * case.batch, case.cells, warp_launch.MOST_LISTED // case.topk)
    yield Build(
        f"warp lists, {name}", correspondence_warp_top.warp_lists_kernel,
        _pointers(dtype, "best_ptr", "state_ptr") | {"index_ptr": "i32"},
        {**constants, **_tiles(config), "SPLIT": split, "KT": case.topk, "PLACES": places}, _options(config), rows,
        flop, rate=rate, wide=True,
    )  # fmt: skip
    if precision != "ieee":
        return  # what follows is the same for all
    listed = 2 * case.topk
    power = next_power_of_2(listed)
    chosen = case.batch * case.cells * case.topk
    yield Build(
        f"warp chosen, {name}", correspondence_warp_top.warp_chosen_kernel,
        dict.fromkeys(("best_ptr", "state_ptr", "values_ptr", "out_ptr", "ends_ptr"), "fp32")
        | {"index_ptr": "i32", "chosen_ptr": "i64"},
        {"SPLIT": 2, "PARTS": 2, "KT": case.topk, "LISTED": power, "POST": False, "BLOCK": max(1, 4096 // power**2)},
        {"num_warps": 4}, 16 * chosen + values, 2 * chosen * case.values,
    )  # fmt: skip
    block = min(128, constants["CP"])
    shared = {"CP": constants["CP"], "KT": case.topk, "BLOCK_C": block}
    yield Build(
        f"warp top slopes, {name}", correspondence_warp_top.warp_top_slopes_kernel,
        {"query_ptr": dtype, "keys_ptr": dtype, "index_ptr": "i64"}
        | dict.fromkeys(("values_ptr", "bias_ptr", "grad_ptr", "ends_ptr", "weights_ptr", "slopes_ptr", "d_query_ptr"),
                        "fp32"),
        {**shared, "BIAS": False, "PLACES": places}, {"num_warps": 4}, 2 * rows + values,
        4 * chosen * case.channels,
    )  # fmt: skip
    yield Build(
        f"warp top dkeys, {name}", correspondence_warp_top.warp_top_keys_kernel,
        {"query_ptr": dtype, "order_ptr": "i64", "begins_ptr": "i64"}
        | dict.fromkeys(("grad_ptr", "weights_ptr", "slopes_ptr", "d_keys_ptr", "d_values_ptr", "d_bias_ptr"), "fp32"),
        {**shared, "NEED_VALUES": True, "BLOCK_K": max(2, next_power_of_2(case.values))}, {"num_warps": 4},
        2 * rows + values, 2 * chosen * case.channels,
    )  # fmt: skip
