"""The SASS of several kernels, read in one go."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("triton")

import triton
from siamfast.kernels.disassembly import resources_of, sass_of
from siamfast.kernels.launches import compile_launch, launches_of
from siamfast.kernels.sass import instructions
from siamfast.kernels.shipped import shipped
from siamfast.kernels.static import usages_of

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
CALLS = (
    "xcorr dz and dx, siamfc train, fp32",
    "balanced_logistic_loss, centers, batch, fp32",
    "crop_and_resize, rule 0, border 0, u8",
    "warp top, large, circle 12, top 10, fp16",
)


@pytest.mark.parametrize("chip", [80, 90, 120])
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_kernels_read_together_are_as_cuobjdump_prints_each(chip: int, tmp_path: Path) -> None:
    """The code of one begins where another's ends: addresses and where branches go count from the own beginning."""
    launches = [launch for call in shipped() if call.name in CALLS for launch in launches_of(call, chip)]
    cubins = [compile_launch(launch, chip).asm["cubin"] for launch in launches]
    jumps = set()
    for cubin, sass in zip(cubins, sass_of(cubins, chip), strict=True):
        (tmp_path / "kernel.cubin").write_bytes(cubin)
        printed, used = (
            subprocess.run(
                [CUOBJDUMP, option, tmp_path / "kernel.cubin"], capture_output=True, text=True, check=True
            ).stdout
            for option in ("-sass", "-res-usage")
        )
        code = instructions(sass)
        assert code == instructions(printed)
        assert len(code) == len(re.findall(r"/\*[0-9a-f]{4,}\*/", printed)) > 50
        assert f"REG:{resources_of(cubin)['REG']} STACK:{resources_of(cubin)['STACK']} " in used
        jumps |= {one.words[0] for one in code if one.target is not None or one.words[0] in ("BSSY", "CALL", "RET")}
    assert {"BRA", "BSSY", "CALL", "RET"} == jumps


def test_of_no_kernels_nothing_is_read() -> None:
    assert (sass_of([], 90), usages_of([])) == ([], [])


def test_what_is_printed_for_the_scheduler_is_no_operand() -> None:
    printed = "/*0cf0*/ @P0 BRA 0xdd0  &req={1,2}  ?trans5;\n/*0d00*/ LDS.128 R4, [R2+0x10] &wr=0x0 ?WAIT4_END_GROUP;\n"
    branch, load = instructions(printed)
    assert (branch.target, branch.operands, load.operands) == (0xDD0, ("0xdd0",), ("R4", "[R2+0x10]"))
