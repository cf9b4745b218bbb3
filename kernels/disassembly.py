"""The SASS of compiled kernels, by the nvdisasm that comes with Triton."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import triton

_ADDRESS = re.compile(r"/\*([0-9a-f]{4,})\*/")
_GOES = re.compile(r"( (?:BRA|BSSY|CALL|RET|WARPSYNC)\b.* )0x([0-9a-f]+)")  # to an address, the last operand
# Of an ELF file of 64 bits: where its sections' headers are, their number, and which one has the names.
_SECTIONS, _COUNTS, _HEADER = struct.Struct("<40xQ"), struct.Struct("<60xHH"), struct.Struct("<IIQQQQ24x")


def sass_of(cubins: Sequence[bytes], chip: int) -> list[str]:
    """The instructions of each cubin, which has one kernel for sm_`chip`.

    All are read in one go: nvdisasm takes a third of a second to start and one file, so their code is put into one.
    """
    if not cubins:
        return []
    codes = [_code_of(cubin) for cubin in cubins]
    printed = _printed(b"".join(codes), "nvdisasm", "-novliw", "-b", f"SM{chip}{'a' if chip >= 90 else ''}")
    lines = [line for line in printed.splitlines() if _ADDRESS.search(line)]
    if 16 * len(lines) != sum(map(len, codes)):
        raise ValueError(f"nvdisasm: got {len(lines)} instructions, expected {sum(map(len, codes)) / 16:g} of 16 bytes")
    texts, start = [], 0
    for code in codes:
        first, start = start, start + len(code)
        texts.append("\n".join(_moved(line, first) for line in lines[first // 16 : start // 16]))
    return texts


def _moved(line: str, start: int) -> str:
    """A line whose kernel begins at `start`, as if it began at 0."""
    line = _ADDRESS.sub(lambda found: f"/*{int(found[1], 16) - start:04x}*/", line)
    return _GOES.sub(lambda found: f"{found[1]}{int(found[2], 16) - start:#x}", line)


def resources_of(cubin: bytes) -> dict[str, int]:
    """What a kernel takes: REG, registers; STACK and LOCAL, bytes; and more."""
    return {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", _printed(cubin, "cuobjdump", "-res-usage"))}


def _printed(file: bytes, tool: str, *options: str) -> str:
    """What a program that Triton brings prints of a file."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    with tempfile.NamedTemporaryFile() as written:
        written.write(file)
        written.flush()
        command = [path, *options, written.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _code_of(cubin: bytes) -> bytes:
    """The kernel of a cubin: its section .text.NAME."""
    (headers,) = _SECTIONS.unpack_from(cubin)
    count, named = _COUNTS.unpack_from(cubin)
    sections = [_HEADER.unpack_from(cubin, headers + 64 * number) for number in range(count)]
    names = sections[named][4]
    (found,) = (s for s in sections if cubin.startswith(b".text.", names + s[0]))
    return cubin[found[4] : found[4] + found[5]]
