"""What the compiler makes of every shipped configuration, for chips that need not be here.

`siamfast bench --static` prints the table: registers, stack, spills, shared memory, tensor-core instructions and
128-bit loads from memory of each kernel on sm_80, sm_90 and sm_100.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from siamfast.kernels import crop_and_resize, xcorr, xcorr_backward, xcorr_depthwise, xcorr_launch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

CHIPS = (80, 90, 100)
# Dynamic shared memory a block may ask for, bytes (CUDA C++ programming guide, compute capabilities).
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
_SIZES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class Build:
    """One kernel with the constants that a launcher gives it for one shape."""

    name: str
    kernel: Any
    pointers: dict[str, str]  # argument -> element type
    constants: dict[str, Any]
    options: dict[str, Any]
    tensor_cores: bool = False
    floats: tuple[str, ...] = field(default=("alpha", "beta"))


@dataclass(frozen=True)
class Usage:
    """What the cubin uses; bytes for stack and shared, counts for the rest."""

    registers: int
    stack: int
    spills: int
    shared: int
    tensor_core: int
    wide_loads: int


def compile_for(build: Build, chip: int) -> Usage:
    """Compile `build` for sm_`chip` and read its cubin. Pointers are aligned as torch's allocator aligns them."""
    names = build.kernel.arg_names
    signature = {
        n: "constexpr"
        if n in build.constants
        else "*" + build.pointers[n]
        if n in build.pointers
        else "fp32"
        if n in build.floats
        else "i32"
        for n in names
    }
    steps = [n for n in ("x_n", "dx_n", "z_n") if n in names]  # of images: 16 divides them at the table's shapes
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in (*build.pointers, *steps)}
    source = ASTSource(build.kernel, signature, constexprs=build.constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", chip, 32), options=build.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        used = {n: int(v) for n, v in re.findall(r"(REG|STACK|LOCAL):(\d+)", _cuobjdump("-res-usage", file.name))}
        code = _cuobjdump("-sass", file.name)
    return Usage(
        used["REG"],
        used["STACK"],
        used["LOCAL"],
        compiled.metadata.shared,
        len(re.findall(r"\b(?:HGMMA|HMMA|QGMMA|UTC\w*MMA)\b", code)),
        len(re.findall(r"\b(?:LDG|LDGSTS)\.\S*\.128", code)),
    )


def _cuobjdump(*arguments: str) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


# (name, template, search, channels, kernels of a template, padding) of design.md's table
FULL = (
    ("siamfc track", (6, 6), (22, 22), 256, 1),
    ("siamfc train", (6, 6), (20, 20), 256, 1),
    ("alexnet v2", (17, 17), (49, 49), 32, 1),
    ("siamrpn up-channel", (4, 4), (20, 20), 256, 10),
    ("lighttrack pixelwise", (1, 1), (16, 16), 96, 64),
)
DEPTHWISE = (
    ("pysot resnet", (5, 5), 0),
    ("pysot alexnet", (4, 4), 0),
    ("siamcar", (7, 7), 0),
    ("siamfc++ googlenet", (3, 3), 0),
    ("nanotrack", (4, 4), 1),
)


def shipped() -> Iterator[Build]:
    """Every kernel at every shape of the table; float16 is compiled like bfloat16 and left out."""
    for dtype in ("fp32", "bf16"):
        for row in FULL:
            yield from _full(dtype, *row)
        for name, template, padding in DEPTHWISE:
            yield from _depthwise(dtype, name, template, padding)
    for dtype in ("u8", "fp32", "bf16"):
        yield from _crop(dtype)


def _full(
    dtype: str, name: str, template: tuple[int, int], search: tuple[int, int], channels: int, kernels: int
) -> Iterator[Build]:
    size, (hz, wz), (height, width) = _SIZES[dtype], template, search
    common = {"HZ": hz, "WZ": wz, "HX": height, "WX": width, "PH": 0, "PW": 0}
    product = {"PRECISION": "tf32" if dtype == "fp32" else "ieee", "UPCAST": False}
    blocks = xcorr_launch.forward_blocks(hz, wz, height, width, kernels)
    assert blocks is not None
    config = xcorr_launch.forward_config(blocks, channels, size)
    options = {k: config[k] for k in ("num_warps", "num_stages")}
    plane = {"x_c": height * width, "x_x": 1}
    pointers = {"z_ptr": dtype, "x_ptr": dtype, "scale_ptr": "fp32", "bias_ptr": "fp32", "out_ptr": dtype}
    scales = {"SCALES": 0, "BIASES": 0}
    yield Build(
        f"xcorr forward, {name}, {dtype}", xcorr.full_forward_kernel, pointers,
        {**common, **product, **blocks, **scales, **plane, "C": channels, "ALL_PAIRS": False, "SPLIT": 1,
         "VECTOR": xcorr_launch.vector(width, height, height * width, size, blocks),
         "BLOCK_C": config["BLOCK_C"]},
        options, tensor_cores=True,
    )  # fmt: skip
    config = xcorr_launch.search_config(size)
    options = {k: config[k] for k in ("num_warps", "num_stages")}
    tiles = {k: v for k, v in config.items() if k.startswith("BLOCK")}
    yield Build(
        f"xcorr dx, {name}, {dtype}", xcorr_backward.search_gradient_kernel,
        {"grad_ptr": dtype, "z_ptr": dtype, "scale_ptr": "fp32", "dx_ptr": dtype},
        {**common, **product, **tiles, "SCALES": 0, "ALL_PAIRS": False, "FLAT": True,
         "dx_c": height * width, "dx_x": 1}, options, tensor_cores=True,
    )  # fmt: skip
    tiles = {k: v for k, v in xcorr_launch.template_config(size).items() if k.startswith("BLOCK")}
    yield Build(
        f"xcorr dz, {name}, {dtype}", xcorr_backward.template_gradient_kernel,
        {"grad_ptr": dtype, "x_ptr": dtype, "dz_ptr": dtype},
        {**common, **product, **tiles, **plane, "FLAT": True}, options, tensor_cores=True,
    )  # fmt: skip


def _depthwise(dtype: str, name: str, template: tuple[int, int], padding: int) -> Iterator[Build]:
    hz, wz = template
    common = {"PH": padding, "PW": padding, "HZ": hz, "WZ": wz}
    yield Build(
        f"depthwise forward, {name}, {dtype}", xcorr_depthwise.depthwise_forward_kernel,
        {"z_ptr": dtype, "x_ptr": dtype, "out_ptr": dtype},
        {**common, "BLOCK_P": xcorr_depthwise.FORWARD_PLANES, "BLOCK_Q": xcorr_depthwise.FORWARD_CELLS, "z_x": 1,
         "x_x": 1, "out_x": 1},
        {"num_warps": xcorr_depthwise.FORWARD_WARPS},
    )  # fmt: skip
    yield Build(
        f"depthwise backward, {name}, {dtype}", xcorr_depthwise.depthwise_backward_kernel,
        {"grad_ptr": dtype, "z_ptr": dtype, "x_ptr": dtype, "dz_ptr": dtype, "dx_ptr": dtype},
        {**common, **xcorr_depthwise.backward_blocks(hz, wz), "NEED_Z": True, "NEED_X": True, "grad_x": 1, "z_x": 1,
         "x_x": 1, "dx_x": 1},
        {"num_warps": xcorr_depthwise.BACKWARD_WARPS},
    )  # fmt: skip


def _crop(dtype: str) -> Iterator[Build]:
    pointers = {"image_ptr": dtype, "windows_ptr": "fp64", "fill_ptr": "fp32", "out_ptr": dtype}
    for rule, border in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0)):
        constants = {"BORDER": border, "RULE": rule, "WHOLE": dtype == "u8", "BLOCK": crop_and_resize.BLOCK}
        options = {"num_warps": crop_and_resize.NUM_WARPS, "enable_fp_fusion": False}
        name = f"crop_and_resize, rule {rule}, border {border}, {dtype}"
        yield Build(name, crop_and_resize.crop_and_resize_kernel, pointers, constants, options)


HEADER = f"{'kernel':52} {'chip':>6} {'regs':>5} {'stack':>6} {'spills':>6} {'shared':>7} {'mma':>5} {'128-bit':>7}"


def line(build: Build, chip: int, usage: Usage) -> str:
    """One row under HEADER."""
    return (
        f"{build.name:52} sm_{chip:<3} {usage.registers:5} {usage.stack:6} {usage.spills:6} {usage.shared:7} "
        f"{usage.tensor_core:5} {usage.wide_loads:7}"
    )
