"""Speed of the correlations beside what trackers run: grouped convolution, a loop, unfold, compiled, and the bmm form.

pytest benchmarks/bench_xcorr.py                                 # pytest-benchmark's tables, one group a case and pass
python -m benchmarks.bench_xcorr [--device D] [--seconds S] [--out FILE]  # peers in turn, one JSON line each
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F

import siamfast

Call = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Run = Callable[[], Any]


class Case(NamedTuple):
    """A row of design.md's table. kind: full, depthwise or pixelwise; kernels: maps of one template (O)."""

    name: str
    kind: str
    z: tuple[int, int, int, int]
    x: tuple[int, int, int, int]
    padding: int = 0
    train: bool = True  # also timed with its backward pass

    @property
    def kernels(self) -> int:
        return self.z[1] // self.x[1]

    @property
    def flop(self) -> int:
        """Of the definition, forward."""
        (_, _, hz, wz), (n, c, hx, wx) = self.z, self.x
        if self.kind == "pixelwise":
            return 2 * n * c * hz * wz * hx * wx
        cells = (hx + 2 * self.padding - hz + 1) * (wx + 2 * self.padding - wz + 1)
        return 2 * n * c * self.kernels * hz * wz * cells

    @property
    def bytes(self) -> int:
        """Each input read once, the output written once, forward, float32."""
        outputs = self.flop // (2 * self.z[2] * self.z[3])  # cells times channels, of the full ones summed
        if self.kind == "full":
            outputs //= self.x[1]
        elif self.kind == "pixelwise":
            outputs = self.x[0] * self.z[2] * self.z[3] * self.x[2] * self.x[3]
        return 4 * (_count(self.z) + _count(self.x) + outputs)


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _full(name: str, batch: int, c: int, z: int, x: int, kernels: int = 1) -> Case:
    return Case(f"{name}, B={batch}", "full", (batch, kernels * c, z, z), (batch, c, x, x))


def _depthwise(name: str, batch: int, c: int, z: int, x: int, padding: int = 0) -> Case:
    return Case(f"{name}, B={batch}", "depthwise", (batch, c, z, z), (batch, c, x, x), padding)


CASES = [
    _full("siamfc-pytorch train", 8, 256, 6, 20),
    Case("siamfc-pytorch track, 3 scales", "full", (1, 256, 6, 6), (3, 256, 22, 22), train=False),
    *(_full("seed", batch, 256, 6, 22) for batch in (1, 8, 32, 64)),
    _full("alexnet v2", 32, 32, 17, 49),
    _full("siamrpn up-channel 10", 8, 256, 4, 20, 10),
    _full("siamrpn up-channel 20", 8, 256, 4, 20, 20),
    *(_depthwise("pysot resnet-50", batch, 256, 5, 29) for batch in (1, 8, 28)),
    *(_depthwise("pysot alexnet", batch, 256, 4, 20) for batch in (1, 8, 64)),
    _depthwise("siamcar", 8, 256, 7, 31),
    _depthwise("siamfc++ alexnet", 32, 256, 4, 26),
    _depthwise("siamfc++ googlenet", 32, 256, 3, 25),
    *(_depthwise("nanotrack", batch, 96, 4, 16, 1) for batch in (1, 32)),
    *(Case(f"lighttrack, B={batch}", "pixelwise", (batch, 96, 8, 8), (batch, 96, 16, 16)) for batch in (1, 32)),
]


# --------------------------------------------------------------------------------------------------------------- peers
def ours(case: Case) -> Call:
    if case.kind == "full":
        return siamfast.xcorr
    if case.kind == "depthwise":
        return lambda z, x: siamfast.xcorr_depthwise(z, x, padding=case.padding)
    return siamfast.xcorr_pixelwise


def grouped(case: Case) -> Call:
    """The grouped convolution of pysot, siamfc-pytorch and nearly all others."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        (nz, _, hz, wz), (nx, c, hx, wx) = z.shape, x.shape
        if case.kind == "full":
            out = F.conv2d(x.reshape(-1, nz * c, hx, wx), z.reshape(-1, c, hz, wz), groups=nz)
            return out.reshape(nx, -1, *out.shape[2:])
        planes = nz * c
        out = F.conv2d(x.reshape(-1, planes, hx, wx), z.reshape(planes, 1, hz, wz), groups=planes, padding=case.padding)
        return out.reshape(nx, c, *out.shape[2:])

    return call


def loop(case: Case) -> Call:
    """pysot's `xcorr_slow`, LightTrack's `pixel_corr`: one convolution a sample."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        c, rows = x.shape[1], []
        for n in range(len(x)):
            template = z[n % len(z)]
            if case.kind == "full":
                rows.append(F.conv2d(x[n : n + 1], template.reshape(-1, c, *z.shape[2:])))
            elif case.kind == "depthwise":
                rows.append(F.conv2d(x[n : n + 1], template.unsqueeze(1), groups=c, padding=case.padding))
            else:
                rows.append(F.conv2d(x[n : n + 1], template.flatten(1).T.reshape(-1, c, 1, 1)))
        return torch.cat(rows)

    return call


def unfolded(case: Case) -> Call:
    """im2col and a matrix product."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        nx, nz, c, (hz, wz) = len(x), len(z), x.shape[1], z.shape[2:]
        shape = x.shape[2] + 2 * case.padding - hz + 1, x.shape[3] + 2 * case.padding - wz + 1
        columns = F.unfold(x, (hz, wz), padding=case.padding)
        if case.kind == "full":
            rows = z.reshape(nz, -1, c * hz * wz)
            return torch.matmul(rows, columns.unflatten(0, (-1, nz))).reshape(nx, -1, *shape)
        found = torch.matmul(z.reshape(nz, c, 1, hz * wz), columns.reshape(-1, nz, c, hz * wz, columns.shape[2]))
        return found.reshape(nx, c, *shape)

    return call


def matmul(case: Case) -> Call:
    """LightTrack's `pixel_corr_mat`."""
    return lambda z, x: (z.flatten(2).transpose(1, 2) @ x.flatten(2)).reshape(len(x), -1, *x.shape[2:])


def torch_backend(case: Case) -> Call:
    """Ours in plain PyTorch: for the full correlation the bmm form, a GEMM and a sum along diagonals."""

    def call(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        with siamfast.backend("torch"):
            return ours(case)(z, x)

    return call


def peers(case: Case, compiled: bool) -> dict[str, Call]:
    """What runs beside ours, by name; the first is what users have today."""
    if case.kind == "pixelwise":
        found = {"matmul": matmul(case), "loop": loop(case)}
    else:
        found = {"grouped": grouped(case), "loop": loop(case), "unfold": unfolded(case)}
        if case.kind == "full":
            found["bmm"] = torch_backend(case)
    if compiled:
        # Sizes as constants: Inductor compiles some of these with dynamic sizes to an error.
        torch._dynamo.reset()
        found["compiled"] = torch.compile(next(iter(found.values())), dynamic=False)
    return found


# ------------------------------------------------------------------------------------------------------------- running
def inputs(case: Case, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, x = torch.randn(case.z, generator=generator).to(device), torch.randn(case.x, generator=generator).to(device)
    return z, x, torch.randn_like(ours(case)(z, x))


def both_ways(call: Call, z: torch.Tensor, x: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
    z, x = z.detach().requires_grad_(), x.detach().requires_grad_()
    out = call(z, x)
    return (out, *torch.autograd.grad(out, (z, x), grad))


def check(case: Case, name: str, call: Call, z: torch.Tensor, x: torch.Tensor, grad: torch.Tensor) -> None:
    """Values and gradients against the float64 reference, or no time is taken."""
    with siamfast.backend("reference"):
        truth = both_ways(ours(case), z.double(), x.double(), grad.double())
    for what, found, expected in zip(("value", "dz", "dx"), both_ways(call, z, x, grad), truth, strict=True):
        # Float32 sums of up to some ten thousand terms; TF32 on a GPU rounds each factor to 11 bits.
        allowed = (2e-3 if z.is_cuda else 2e-5) * expected.abs().max()
        if not (found.double() - expected).abs().max() <= allowed:
            raise AssertionError(f"{case.name}: {what} of {name} is wrong")


def passes(case: Case, call: Call, z: torch.Tensor, x: torch.Tensor, grad: torch.Tensor) -> dict[str, Run]:
    def forward() -> torch.Tensor:
        with torch.no_grad():
            return call(z, x)

    return {"forward": forward} | ({"forward+backward": lambda: both_ways(call, z, x, grad)} if case.train else {})


@pytest.mark.parametrize("which", ["siamfast", "peer"])
@pytest.mark.parametrize("direction", ["forward", "forward+backward"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_xcorr(benchmark: Any, case: Case, direction: str, which: str) -> None:
    z, x, grad = inputs(case, "cpu")
    name, peer = next(iter(peers(case, compiled=False).items()))
    call = ours(case) if which == "siamfast" else peer
    check(case, name if which == "peer" else which, call, z, x, grad)
    run = passes(case, call, z, x, grad).get(direction)
    if run is None:
        pytest.skip("a tracker's case has no backward pass")
    benchmark.group = f"{case.kind}, {case.name}, {direction}"
    benchmark(run)


def interleaved(calls: dict[str, Run], seconds: float, device: str) -> dict[str, list[float]]:
    """Seconds of every call, in turn (A B C A B C), until each has had `seconds` or 200 turns; 3 turns at least."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    while min(map(len, times.values())) < 3 or (
        min(map(sum, times.values())) < seconds and max(map(len, times.values())) < 200
    ):
        for name, call in calls.items():
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return times


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def rows(device: str, seconds: float, compiled: bool) -> Any:
    for case in CASES:
        z, x, grad = inputs(case, device)
        calls = {"siamfast": ours(case)} | peers(case, compiled)
        for name, call in calls.items():
            check(case, name, call, z, x, grad)
        made = {name: passes(case, call, z, x, grad) for name, call in calls.items()}
        for direction in made["siamfast"]:
            times = interleaved({name: run[direction] for name, run in made.items()}, seconds, device)
            row: dict[str, Any] = {"op": f"xcorr {case.kind}", "case": case.name, "pass": direction}
            row |= {"z": case.z, "x": case.x, "dtype": "float32", "device": device_name(device)}
            row |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "commit": commit()}
            factor = 1 if direction == "forward" else 3
            row |= {"bytes": case.bytes * factor, "flop": case.flop * factor}
            for name, taken in times.items():
                tenths = statistics.quantiles(taken, n=10)
                row[name] = {k: round(v * 1e6, 1) for k, v in zip(("p10", "p50", "p90"), tenths[::4], strict=True)}
            for name in calls:
                if name != "siamfast":
                    row[f"times_{name}"] = round(row[name]["p50"] / row["siamfast"]["p50"], 2)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=0.3, help="time for every peer of a case")
    parser.add_argument("--no-compile", action="store_true", help="leave out the peer under torch.compile")
    parser.add_argument("--out", type=Path, help="JSON lines are appended here too")
    options = parser.parse_args()
    for row in rows(options.device, options.seconds, not options.no_compile):
        line = json.dumps(row)
        print(line, flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
