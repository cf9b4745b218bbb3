"""Every launcher is driven through the public ops, and its launches are compiled for GPUs that are not present.

    python -m tests.kernels.launched [--all] [--chips 80,86] [--only warp] [--seed 7] [--random 40]

CPU tensors stand in for CUDA's, and Triton has a driver that only names a chip. A launch then compiles with its own
specialization, which neither the interpreter nor a static build shows: integer arguments that are 1 become constants
(a method call on one, `rows.to(tl.int64)`, compiles for every size but 1), addresses and strides may be multiples of 16
or not. Each kernel must compile, with nothing on the stack, without spills, races or lost registers in its code
(races.py, sass_races.py), within the shared memory of a block of its chip, and its grid within the driver's limits.

--all compiles for each chip in a process of its own: the table's shapes, random ones, and every program of the kernels
that know no sizes (launch_cases/programs.py). Without it: a sample, for one chip each; test_launch.py runs it.
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import triton
from siamfast.kernels import chips, static
from siamfast.kernels.cards import LIMITS
from siamfast.kernels.launches import StandIn
from siamfast.kernels.products import no_product
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import siamfast
from siamfast.ops import dispatch
from tests.kernels.launch_cases import RANDOM, table
from tests.kernels.launch_cases.case import Case
from tests.kernels.launch_cases.programs import every_program

# Warps that do the same part of a product: 8 of 64 rows, 16 at a time; 4 of augment's 16 rows, of coarse steps.
MOST_REPEATS = {"augment_kernel": 4}
USUAL_REPEATS = 2
DOUBLE = ("crop_and_resize_kernel",)  # its windows are float64; elsewhere a number was written that no float32 holds
SHARED = {chip: limits.shared_block for chip, limits in LIMITS.items()}
MOST_PROGRAMS = (2**31 - 1, 65535, 65535)
SEED, SAMPLE, SAMPLE_RANDOM = 20261126, 16, 3  # cases of the table, and of each op's random ones
ALL_RANDOM = 40
TOGETHER = 64  # so many kernels at least are disassembled at once


class Proof:
    """Compiles the launched kernels and keeps a list of problems."""

    def __init__(self) -> None:
        self.chip, self.case = 0, Case("", "", lambda: None)
        self.hashes: set[str] = set()
        self.launches: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.unread: dict[int, list[tuple[Any, str, Case]]] = collections.defaultdict(list)  # kernels of a chip
        self._run = JITFunction.run

    def install(self) -> None:
        """Patches that replace Triton's launch, and the device and its limits as the ops read them."""
        proof = self

        def run(kernel: Any, *arguments: Any, grid: Any, warmup: bool = False, **options: Any) -> Any:
            return proof.launch(kernel, arguments, grid, options)

        JITFunction.run = run
        dispatch.triton_reason = lambda *ignored: None
        chips.chip_of = lambda device: self.chip
        torch.bmm = no_product

    def launch(self, kernel: Any, arguments: tuple[Any, ...], grid: Any, options: dict[str, Any]) -> Any:
        name = kernel.fn.__name__
        self.launches[name] += 1
        if "UPCAST" in options:
            options["UPCAST"] = False  # it is for the interpreter, which the tensors' device stands for
        for axis, (programs, most) in enumerate(zip(grid, MOST_PROGRAMS, strict=False)):
            if not 1 <= programs <= most:
                self.blame(name, f"grid {grid}: {programs} programs on axis {axis}")
        compiled = self._run(kernel, *arguments, grid=grid, warmup=True, **options)
        if compiled.hash not in self.hashes:
            self.hashes.add(compiled.hash)
            self.unread[self.chip].append((compiled, name, self.case))
        return compiled

    def read(self, chip: int) -> None:
        """Look at the compiled kernels that were not looked at yet."""
        unread = self.unread.pop(chip)
        try:
            usages = static.usages_of([compiled for compiled, *_ in unread])
        except Exception as error:
            if len(unread) == 1:
                ((_, name, self.case),) = unread
                self.chip = chip
                self.blame(name, f"{type(error).__name__}: {str(error)[-300:]}")
                return
            for one in unread:  # which of them it is
                self.unread[chip] = [one]
                self.read(chip)
            return
        for used, (_, name, case) in zip(usages, unread, strict=True):
            self.chip, self.case = chip, case
            if used.spilled:
                self.blame(name, f"stack {used.stack} B, spills {used.spills} B, {used.registers} registers")
            for problem in used.races + used.problems:
                self.blame(name, problem)
            if used.repeats > MOST_REPEATS.get(name, USUAL_REPEATS):
                self.blame(name, f"{used.repeats} warps do the same part of a product")
            if used.double and name not in DOUBLE:
                self.blame(name, f"{used.double} instructions of float64")
            if used.shared > SHARED[chip]:
                self.blame(name, f"shared memory {used.shared / 1024:.1f} KiB of {SHARED[chip] >> 10}")

    def blame(self, kernel: str, problem: str) -> None:
        self.wrong.append(f"sm_{self.chip} {kernel}: {problem}\n    {self.case.op}: {self.case.name}")
        print(self.wrong[-1], file=sys.stderr, flush=True)

    def prove(self, case: Case, chip: int) -> None:
        self.case, self.chip = case, chip
        driver.set_active(StandIn(chip))
        torch.backends.cudnn.conv.fp32_precision = "tf32" if case.tf32 else "ieee"
        try:
            with siamfast.backend("triton"):
                case.call()
        except Exception as error:
            self.blame("?", f"{type(error).__name__}: {str(error)[-300:]}")
        if len(self.unread[chip]) >= TOGETHER:
            self.read(chip)


def cases(arguments: argparse.Namespace) -> Iterator[tuple[Case, int]]:
    """Pairs of a case and the chip that it is compiled for."""
    rng = np.random.default_rng(arguments.seed)
    numbers = [int(n) for n in arguments.chips.split(",")] if arguments.chips else list(SHARED)
    known = [case for case in table() if arguments.only in case.op]
    if arguments.all:
        known += [case for case in every_program() if arguments.only in case.op]
        yield from ((case, chip) for chip in numbers for case in known)
        times = ALL_RANDOM if arguments.random is None else arguments.random
    else:
        chosen = sorted(
            {*rng.choice(len(known), min(SAMPLE, len(known)), replace=False)}
            | {number for number, case in enumerate(known) if case.always}
        )
        yield from ((known[number], int(rng.choice(numbers))) for number in chosen)
        times = SAMPLE_RANDOM if arguments.random is None else arguments.random
    for draw in RANDOM:
        for _ in range(times):
            case = draw(rng)
            if arguments.only in case.op:
                yield from ((case, chip) for chip in (numbers if arguments.all else [int(rng.choice(numbers))]))


def chip_by_chip(names: list[str]) -> int:
    """Prove each chip in a process of its own, as many at a time as there are cores."""

    def prove(chip: str) -> int:
        command = [sys.executable, "-m", "tests.kernels.launched", *sys.argv[1:], "--chips", chip]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(f"sm_{chip}: {ran.stdout}", flush=True)
        return ran.returncode

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return max(pool.map(prove, names))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every case on every chip")
    parser.add_argument("--chips", default="", help="by their numbers, 80 for sm_80, with commas between")
    parser.add_argument("--only", default="", help="ops whose name has this in it")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--random", type=int, help="random cases of each op")
    arguments = parser.parse_args()
    chips_named = arguments.chips.split(",") if arguments.chips else [str(chip) for chip in SHARED]
    if arguments.all and len(chips_named) > 1:
        return chip_by_chip(chips_named)
    warnings.filterwarnings("ignore", message="TRITON_DEFAULT_FP_FUSION")
    print(f"seed {arguments.seed}, Triton {triton.__version__}, torch {torch.__version__}", flush=True)
    proof = Proof()
    proof.install()
    count = 0
    for case, chip in cases(arguments):
        proof.prove(case, chip)
        count += 1
    for chip in [chip for chip, kernels in proof.unread.items() if kernels]:
        proof.read(chip)
    print(
        f"{count} calls, {sum(proof.launches.values())} launches, {len(proof.hashes)} kernels, {len(proof.wrong)} wrong"
    )
    print("launched:", ", ".join(sorted(proof.launches)))
    return 1 if proof.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
