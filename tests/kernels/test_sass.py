"""What may go wrong in the GPU's code itself is found there, by a program that reads SASS."""

from __future__ import annotations

import functools
import re

import pytest
import torch

pytest.importorskip("triton")

from siamfast.kernels import static
from siamfast.kernels.disassembly import sass_of
from siamfast.kernels.launches import Call, Launch, compile_launch, launches_of
from siamfast.kernels.sass import Instruction, State, Walk, instructions, never_written
from siamfast.kernels.sass_races import Races, problems
from siamfast.kernels.shipped import shipped

import siamfast
from siamfast.ops import dispatch
from tests.kernels.launch_cases.case import zeros

THREADS = 128


def _code(lines: str) -> str:
    """As nvdisasm prints it: an address before each line."""
    numbered = enumerate(line.strip() for line in lines.strip().splitlines())
    return "\n".join(f"        /*{16 * n:04x}*/                   {line} ;" for n, line in numbered)


# A product reads buffer k % BUFFERS of 0x800 bytes, and behind it buffer (k + ahead) % BUFFERS is filled. Each of the
# 128 threads copies 16 bytes.
PROLOGUE = """
S2R R0, SR_TID.X
IMAD.SHL.U32 R1, R0.reuse, 0x10, RZ
UMOV UR4, URZ
UMOV UR5, {ahead}
"""
FILLED = """LDGSTS.E.BYPASS.128 [R1+{place}], desc[UR16][R2.64]
LDGDEPBAR
"""
LOOP = """BAR.SYNC.DEFER_BLOCKING 0x0
ULEA UR6, UR4, URZ, 0xb
USHF.R.U32.HI UR7, URZ, 0x4, UR6
ULOP3.LUT UR10, UR7, 0x3fff, URZ, 0xc0, !UPT
HGMMA.64x32x8.F32.TF32 R24, R40, gdesc[UR8], R24, gsb0
WARPGROUP.DEPBAR.LE gsb0, {pendings}
BAR.SYNC.DEFER_BLOCKING 0x0
LEA R5, R0, UR5, 0x4
IMAD R6, RZ, 0x7ff, R5
LDGSTS.E.BYPASS.128 [R6], desc[UR16][R2.64], P1
LDGDEPBAR
UIADD3 UR4, UR4, 0x1, URZ
UISETP.GE.AND UP0, UPT, UR4, {buffers}, UPT
USEL UR4, UR4, URZ, !UP0
UIADD3 UR5, UR5, 0x800, URZ
UISETP.GE.AND UP0, UPT, UR5, {end}, UPT
USEL UR5, UR5, URZ, !UP0
@P0 BRA {head}
EXIT
"""


def _pipeline(buffers: int, ahead: int, pendings: int) -> str:
    filled = "".join(FILLED.format(place=hex(0x800 * n)) for n in range(buffers))
    before = PROLOGUE.format(ahead=hex(0x800 * (ahead % buffers))) + filled
    head = hex(16 * len(before.strip().splitlines()))
    return _code(
        before + LOOP.format(pendings=hex(pendings), buffers=hex(buffers), end=hex(0x800 * buffers), head=head)
    )


@pytest.mark.parametrize("buffers", [1, 2, 3, 4])
@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("pendings", [0, 1, 2, 3])
def test_a_copy_may_not_fill_what_a_pending_product_reads(buffers: int, ahead: int, pendings: int) -> None:
    """As in test_static.py, by addresses."""
    sass = _pipeline(buffers, ahead, pendings)
    raced = [(ahead + ago) % buffers == 0 for ago in range(pendings + 1)]
    races = Races(instructions(sass), THREADS)
    assert bool(races.found) == any(raced[:-1])
    assert not races.unknown
    assert races.products
    # Without the wait every product may be pending; without the barrier behind it, for other warps one product more.
    assert Races(instructions(sass.replace("WARPGROUP.DEPBAR", "NOP.DEPBAR")), THREADS).found
    unsynced = re.sub(r"(DEPBAR.LE gsb0[^\n]*\n[^\n]*)BAR.SYNC.DEFER_BLOCKING", r"\1NOP", sass)
    assert bool(Races(instructions(unsynced), THREADS).found) == any(raced)


def test_an_address_that_was_not_followed_is_told() -> None:
    sass = _pipeline(2, 1, 1)
    for known, unknown in (("LEA R5, R0", "LEA R5, R60"), ("ULEA UR6, UR4", "ULEA UR6, UR60")):
        races = Races(instructions(sass.replace(known, unknown)), THREADS)
        assert len(races.unknown) == 1
        assert "was not followed" in next(iter(races.unknown.values()))


def test_two_ways_are_joined() -> None:
    """An address that differs between two ways is not known behind them; a way that is never taken does not count."""
    body = "UMOV UR4, 0x0\n@{} BRA 0x30\nUMOV UR4, 0x1\n" + FILLED.format(place="0x0")
    product = "USHF.R.U32.HI UR10, URZ, 0x4, UR4\nHGMMA.64x32x8.F32.TF32 R24, R40, gdesc[UR8], R24, gsb0"
    start = "S2R R0, SR_TID.X\nIMAD.SHL.U32 R1, R0, 0x10, RZ\n"
    for predicate, followed in (("P0", False), ("PT", True), ("!PT", True)):
        sass = _code((start + body + product).replace("0x30", "0x50").format(predicate))
        assert bool(Races(instructions(sass), THREADS).unknown) != followed, predicate


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("WARPGROUP.DEPBAR.LE gsb0, 0x0", "@P1 WARPGROUP.DEPBAR.LE gsb0, 0x0"),
        ("WARPGROUP.DEPBAR.LE gsb0, 0x0", "@!PT WARPGROUP.DEPBAR.LE gsb0, 0x0"),
        ("WARPGROUP.DEPBAR.LE gsb0, 0x0", "BRA.U UP1, 0xd0"),  # to the copy
        ("\n        /*00c0*/                   BAR.SYNC", "\n        /*00c0*/              @P1 BAR.SYNC"),
        ("\n        /*00c0*/                   BAR.SYNC", "\n        /*00c0*/                   BAR.ARV"),
    ],
)
def test_waits_that_may_not_happen(line: str, changed: str) -> None:
    """Under a condition, or only where another warp waits."""
    sass = _pipeline(1, 1, 0)
    assert line in sass
    assert not Races(instructions(sass), THREADS).found
    assert Races(instructions(sass.replace(line, changed)), THREADS).found


def test_a_copy_that_is_off_writes_zeros() -> None:
    sass = _pipeline(1, 1, 1)
    assert Races(instructions(sass.replace("[R2.64], P1", "[R2.64], !PT")), THREADS).found


def test_products_of_two_ways() -> None:
    """One of two buffers is read by what is pending behind an if and its else."""
    product = "HGMMA.64x32x8.F32.TF32 R24, R40, gdesc[UR{}], R24, gsb0\n"
    start = "S2R R0, SR_TID.X\nIMAD.SHL.U32 R1, R0, 0x10, RZ\nUMOV UR10, 0x0\nUMOV UR20, 0x80\n"
    ways = FILLED.format(place="0x0") + FILLED.format(place="0x800") + "@P0 BRA 0xb0\n"
    ways += product.format(8) + "BRA 0xc0\n" + product.format(18)
    for place, raced in (("0x0", True), ("0x800", True), ("0x1000", False)):
        races = Races(instructions(_code(start + ways + FILLED.format(place=place))), THREADS)
        assert bool(races.found) == raced, place
        assert races.products == 2


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("LOP3.LUT P1, RZ, R0, 0x1, RZ, 0xc0, !PT", {"P1": [0, 1, 0, 1]}),
        ("LOP3.LUT R1, R0, 0x2, R0, 0x1e, !PT", {"R1": [2, 2, 0, 0]}),  # a ^ (b | c)
        ("IADD3 R1, P1, -R0.reuse, 0x3, RZ", {"R1": [3, 2, 1, 0], "P1": None}),
        ("IADD3 R1, P1, R0, R2, RZ", {"R1": [0xFFFFFFFF, 0, 1, 2], "P1": [0, 1, 1, 1]}),
        ("IADD3 R1, P1, R2, R2, R2", {"R1": [0xFFFFFFFD] * 4, "P1": None}),  # two carries
        ("IADD3 R3, P1, R0, R2, RZ\nIADD3.X R1, P2, R2, 0x1, RZ, P1, !PT", {"R1": [0, 1, 1, 1], "P2": [1] * 4}),
        ("IADD3.X R1, R0, 0x1, RZ, P6, !PT", {"R1": None}),
        ("IMAD.IADD R1, R0, 0x1, -R0", {"R1": [0, 0, 0, 0]}),
        ("LEA R1, R0, 0x100, 0x2", {"R1": [0x100, 0x104, 0x108, 0x10C]}),
        ("LEA.HI R1, R0, R0, RZ, 0x1f", {"R1": [0, 1, 3, 4]}),
        ("SHF.L.U32 R1, R0, 0x1f, RZ", {"R1": [0, 1 << 31, 0, 1 << 31]}),
        ("SHF.L.U32 R1, R0, 0x20, RZ", {"R1": None}),
        ("SHF.R.U64 R1, R0, 0x1, RZ", {"R1": [0, 0, 1, 1]}),
        ("SHF.R.U64 R1, R0, 0x1, R2", {"R1": None}),
        ("SHF.R.U32 R1, R0, 0x1, RZ", {"R1": None}),
        ("SHF.R.S32.HI R1, RZ, 0x1, R2", {"R1": [0xFFFFFFFF] * 4}),
        ("SGXT R1, R0, 0x2", {"R1": [0, 1, 0xFFFFFFFE, 0xFFFFFFFF]}),
        ("SGXT.U32 R1, R0, 0x1", {"R1": [0, 1, 0, 1]}),
        ("ISETP.LT.U32.AND P1, PT, R0, R2, PT", {"P1": [1, 1, 1, 1]}),
        ("ISETP.LT.AND P1, PT, R0, R2, PT", {"P1": [0, 0, 0, 0]}),
        ("ISETP.LT.XOR P1, PT, R0, 0x2, PT", {"P1": None}),
        ("SHFL.IDX PT, R1, R0, RZ, 0x1f", {"R1": [0, 0, 0, 0]}),
        ("SHFL.IDX PT, R1, R0, RZ, 0x1c1f", {"R1": None}),
        ("R2UR UR4, R0", {"UR4": [0, 0, 0, 0]}),
        ("SEL R1, R0, 0x7, !PT", {"R1": [7, 7, 7, 7]}),
        ("MUFU.RCP R1, R0", {"R1": None}),
    ],
)
def test_arithmetic(line: str, values: dict[str, list[int] | None]) -> None:
    """Of the first four threads; R2 is -1."""
    last: dict[str, object] = {}

    class Last(Walk[None]):
        def see(self, one: Instruction, state: State[None]) -> None:
            if one.name == "EXIT":
                last.update(state.values)

    code = _code(f"S2R R0, SR_TID.X\nIMAD.MOV.U32 R2, RZ, RZ, -0x1\nIMAD.MOV.U32 R1, RZ, RZ, 0x9\n{line}\nEXIT")
    Last(instructions(code), 32, None)
    for name, value in values.items():
        found = last[name]
        assert (found is None) == (value is None), name
        assert found is None or list(found)[:4] == value, name  # type: ignore[call-overload]


def test_registers_of_a_pending_product() -> None:
    """Its factors may not be written, its sums neither read nor written, before it is waited for."""
    sass, wait = _pipeline(1, 1, 0), "WARPGROUP.DEPBAR.LE gsb0, 0x0"
    for line, message in (
        ("IMAD.MOV.U32 R43, RZ, RZ, R2", "IMAD.MOV.U32 at .* writes R43, which the HGMMA at .* may still read"),
        ("FADD R4, R39, R4", "FADD at .* has R39 before the HGMMA at .* is done"),
        ("FADD R24, R4, R4", "FADD at .* has R24 before the HGMMA at .* is done"),
        ("FADD R44, R4, R4", ""),
        ("FADD R4, R40, R4", ""),
        ("HGMMA.64x32x8.F32.TF32 R24, R40, gdesc[UR8], R24, gsb0", ""),
        ("HGMMA.64x32x8.F32.TF32 R56, R24, gdesc[UR8], R56, gsb0", "HGMMA.* has R24 before the HGMMA at .* is done"),
        ("HGMMA.64x32x8.F32.TF32 R40, R60, gdesc[UR8], R40, gsb0", "HGMMA.* writes R40, which .* may still read"),
        ("HGMMA.64x32x8.F32.TF32 R24, R24, gdesc[UR8], R24, gsb0", "HGMMA.* has R24 before the HGMMA at .* is done"),
    ):
        early = sass.replace(wait, f"{line} ;\n        /*fff0*/                   {wait}")
        found = list(Races(instructions(early), THREADS).found.values())
        assert bool(found) == bool(message), line
        assert not found or re.fullmatch(message, found[0]), found


def test_a_uniform_register_that_nothing_writes() -> None:
    """From a program of ptxas 12.8, shortened: the descriptor is 2 more than a register that nothing has written."""
    sass = """
    USHF.R.U32.HI UR12, URZ, 0x4, UR8
    UIADD3 UR42, UP0, UR42, 0x2, URZ
    USGXT.U32 UR12, UR12, 0xe
    HGMMA.64x64x8.F32.TF32 R56, R132, gdesc[UR40], R56, gsb0
    """
    written = _code("UMOV UR8, 0x400\n" + sass.strip().replace("UR42, 0x2", "UR12, 0x2"))
    assert never_written(instructions(written)) == []
    (line,) = never_written(instructions(_code("UMOV UR8, 0x400\n" + sass.strip())))
    assert line == "UIADD3 at 0x20 reads UR42, which nothing has written"
    pairs = "ULDC.64 UR4, c[0x0][0x208]\nUIADD3.64 UR6, UR4, 0x2, URZ\nUIADD3.X UR8, UR7, UR5, URZ, UP0, !UPT"
    assert never_written(instructions(_code(pairs))) == []
    least = "UMOV UR4, 0x1\nUMOV UR5, 0x2\nUIMNMX.S64 UR8, UR4, UR4, UPT\nIMAD.U32 R1, RZ, RZ, UR9"
    assert never_written(instructions(_code(least))) == []


def test_what_a_function_behind_the_kernel_writes() -> None:
    call = "IMAD.U32 R1, RZ, RZ, UR4\nEXIT\nUMOV UR4, 0x1\nRET.REL.NODEC R2 0x0\nUMOV UR5, 0x1"
    for called, used in (("0x30", "UR4"), ("0x50", "UR5")):
        code = f"CALL.REL.NOINC {called}\n" + call.replace("RZ, UR4", f"RZ, {used}")
        assert never_written(instructions(_code(code))) == []
    for early in ("NOP", "CALL.REL.NOINC 0x50"):
        (line,) = never_written(instructions(_code(f"{early}\n{call}")))
        assert line == "IMAD.U32 at 0x10 reads UR4, which nothing has written"


@functools.cache
def _template_gradient() -> tuple[str, int]:
    call = next(c for c in shipped() if c.name == "xcorr dz, siamfc train, fp32")
    (launch,) = launches_of(call, 90)
    compiled = compile_launch(launch, 90)
    return sass_of([compiled.asm["cubin"]], 90)[0], 32 * compiled.metadata.num_warps


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_a_shipped_pipeline_and_what_would_break_it() -> None:
    """The wait that leaves one product pending is enough for its two buffers, and two pending ones are too many."""
    sass, threads = _template_gradient()
    assert problems(instructions(sass), threads) == []
    assert "gsb0, 0x1" in sass
    moved = re.sub(r"LDGSTS.E.BYPASS.128 \[(R\d+)\]", r"LDGSTS.E.BYPASS.128 [\1+0x2000]", sass)
    for broken in (sass.replace("gsb0, 0x1", "gsb0, 0x2"), moved):
        assert problems(instructions(broken), threads)


def _slopes(channels: int, values: int) -> list[Launch]:
    """The gradients of rows in a window, with products of many values."""
    query, keys = zeros((1, channels, 20, 20), torch.float16), zeros((1, 1, channels, 20, 20), torch.float16)
    frame = zeros((1, 1, values, 20, 20), torch.float32)

    def call() -> None:
        with siamfast.backend("triton"):
            out = siamfast.correspondence_warp(query, keys, frame, radius=6.0, normalize=True)
        torch.autograd.grad(out, (query, keys), torch.zeros_like(out))

    return [launch for launch in launches_of(Call("", call, 0, 0), 90) if "BLOCK_D" in launch.options]


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_descriptors_of_the_slopes_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On sm_90 most of these had a descriptor by half a sum, with ptxas 12.8 of Triton 3.6.0 and 3.7.1."""
    monkeypatch.setattr(dispatch, "triton_reason", lambda *ignored: None)
    of_each = [_slopes(channels, values) for channels, values in ((128, 17), (256, 17), (320, 40), (512, 4))]
    assert [len(launches) for launches in of_each] == [3] * 4
    launches = [launch for launches in of_each for launch in launches]
    for launch, usage in zip(launches, static.usages_for(launches, 90), strict=True):
        assert usage.problems == (), launch.name
        assert usage.stack == 0, launch.name
