"""Counts the work of a launch: Triton's interpreter runs a sample of its programs on the CPU and notes each step.

    TRITON_INTERPRET=1 python -m siamfast.kernels.count CHIPS [NAME]

A process of its own, because Triton chooses the interpreter when kernels are imported: `counted` starts it. It prints a
JSON line for every call of shipped.py on every chip, with the work of each launch. The masks and addresses that the
kernel computes are counted, so padding of tiles, reads past a row's end and repeated reads are included. Loops that
depend on data (top k) run on the table's random rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

SECTOR = 32  # bytes that a cache moves at least
# Programs of a sample, and the steps after which no other program begins: programs of so many steps are alike.
SAMPLE, STEPS = 64, 6_000


@dataclass
class Work:
    """Work of one launch; all but the first three fields and `memory` are per program, the mean of the sample."""

    kernel: str
    grid: tuple[int, ...]
    programs: int
    memory: float = 0.0  # bytes of the whole launch, each read once and written once, in sectors
    loaded: float = 0.0  # bytes of unmasked lanes
    stored: float = 0.0
    touched: float = 0.0  # bytes of sectors that loads touch, each once
    asked: float = 0.0  # bytes of sectors that loads touch, once per load
    written: float = 0.0  # bytes of sectors that stores touch, once per store
    products: dict[str, float] = field(default_factory=dict)  # FLOP of tensor cores by what they multiply, with padding
    plain: float = 0.0  # FLOP of float32, by the slots of a multiply-add that they take
    double: float = 0.0  # of float64
    # Loads that wait for one another: of each round of a loop the longest chain. far: of which not all sectors were
    # touched before; pipelined: of rounds with a product, whose loads may be sent for while another round multiplies.
    far: float = 0.0
    near: float = 0.0
    far_pipelined: float = 0.0
    near_pipelined: float = 0.0


def counted(chips: list[int], name: str = "") -> Iterator[tuple[str, int, list[Work]]]:
    """(call, chip, work of its launches) for the calls of shipped.py whose name contains `name`, as they are done."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "siamfast.kernels.count", ",".join(map(str, chips)), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for text in process.stdout:
            row = json.loads(text)
            yield row["call"], row["chip"], [Work(**work) for work in row["works"]]
    if process.returncode != 0:
        raise RuntimeError(f"counting ended with {process.returncode}")


def sample(grid: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Programs spread evenly over a grid; so is any first part of them, since steps are of the golden section."""
    x, y, z = (*grid, 1, 1)[:3]
    count = x * y * z
    chosen = range(count) if count <= SAMPLE else (int((0.5 + k * 0.6180339887) % 1 * count) for k in range(SAMPLE))
    return [(n % x, n // x % y, n // x // y) for n in dict.fromkeys(chosen)]


def main(chips: str, name: str = "") -> None:
    from siamfast.kernels.interpreted import count_launch
    from siamfast.kernels.launches import launches_of
    from siamfast.kernels.shipped import shipped

    works_by_launch: dict[str, Work] = {}
    for call in shipped():
        if name not in call.name:
            continue
        for chip in map(int, chips.split(",")):
            works = []
            for launch in launches_of(call, chip):
                # Chips with the same blocks have the same work.
                plain = {k: v for k, v in launch.named.items() if not hasattr(v, "data_ptr")}
                sizes = [(t.dtype, t.shape, t.stride()) for t in launch.arguments if hasattr(t, "data_ptr")]
                key = repr((call.name, launch.name, launch.grid, plain, sizes))
                if key not in works_by_launch:
                    works_by_launch[key] = count_launch(launch)
                works.append(asdict(works_by_launch[key]))
            print(json.dumps({"call": call.name, "chip": chip, "works": works}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
