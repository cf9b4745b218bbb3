"""The Triton kernel is right in the interpreter, and every configuration compiles without spills for real chips."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")


def test_kernel_equals_the_reference_in_the_interpreter() -> None:
    script = Path(__file__).with_name("interpreted_crop.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "36 cases"


def _resources(cubin: bytes, folder: Path) -> dict[str, int]:
    """REG, STACK, SHARED, LOCAL as cuobjdump prints them."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", text)}


@pytest.mark.parametrize("chip", [80, 90, 100])
@pytest.mark.parametrize("pointer", ["u8", "fp32", "bf16", "fp16"])
def test_kernel_compiles_without_stack_or_spills(chip: int, pointer: str, tmp_path: Path) -> None:
    from siamfast.kernels.crop_and_resize import BLOCK, NUM_WARPS, crop_and_resize_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = crop_and_resize_kernel.arg_names
    pointers = {"image_ptr": f"*{pointer}", "windows_ptr": "*fp64", "fill_ptr": "*fp32", "out_ptr": f"*{pointer}"}
    for rule, border in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0)):
        constants = {"BORDER": border, "RULE": rule, "WHOLE": pointer == "u8", "BLOCK": BLOCK}
        signature = {n: pointers.get(n, "constexpr" if n in constants else "i32") for n in names}
        source = ASTSource(crop_and_resize_kernel, signature, constexprs=constants)
        options = {"num_warps": NUM_WARPS, "enable_fp_fusion": False}
        compiled = triton.compile(source, target=GPUTarget("cuda", chip, 32), options=options)
        used = _resources(compiled.asm["cubin"], tmp_path)
        assert used["STACK"] == 0, (rule, border, used)
        assert used["LOCAL"] == 0, (rule, border, used)
        assert used["REG"] <= 128, (rule, border, used)  # four blocks of 128 threads an SM at the least
