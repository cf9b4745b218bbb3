"""Everything that needs a real GPU, in one command, most important first; each finding is a JSON line at once.

python -m benchmarks.gpu --out DIR    # values and gradients of the Triton kernels, then times beside peers and floors
TRITON_INTERPRET=1 python -m benchmarks.gpu --out DIR --tiny  # the same path on the CPU at tiny sizes: finds typos

Runs from a source checkout, nothing installed: `siamfast.kernels` is then the folder kernels/.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import siamfast
from benchmarks import bench_xcorr

Row = dict[str, Any]


def use_checkout() -> None:
    """Make kernels/ importable as siamfast.kernels where the package is not installed."""
    if importlib.util.find_spec("siamfast.kernels") is not None:
        return
    folder = Path(siamfast.__file__).parent.parent / "kernels"
    spec = importlib.util.spec_from_file_location(
        "siamfast.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["siamfast.kernels"] = module
    spec.loader.exec_module(module)


# ------------------------------------------------------------------------------------------------------------- values
def tiny(case: bench_xcorr.Case) -> bench_xcorr.Case:
    """The case with few channels and samples; sizes of maps stay, they decide the kernels' blocks."""
    (nz, kc, *z), (nx, c, *x) = case.z, case.x
    kernels, channels = min(2, kc // c), min(8, c)
    return case._replace(z=(min(nz, 2), kernels * channels, *z), x=(min(nx, 2) if nz > 1 else nx, channels, *x))


def values(cases: list[bench_xcorr.Case], device: str) -> Iterator[Row]:
    """Values and gradients of the Triton kernels against the float64 reference on the CPU, and the same bits twice."""
    from siamfast.ops import _xcorr_triton as ours

    for case in cases:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            z, x = (torch.randn(shape).to(dtype) for shape in (case.z, case.x))
            if case.kind == "pixelwise":
                z = z.flatten(2).transpose(1, 2).reshape(len(z), -1, 1, 1)
            near = z.to(device), x.to(device)
            if case.kind == "depthwise":
                out = ours.depthwise_forward(*near, case.padding, case.padding)
                grad = torch.randn(out.shape).to(dtype)
                found = (out, *ours.depthwise_backward(grad.to(device), *near, case.padding, case.padding, [True] * 2))
                again = ours.depthwise_forward(*near, case.padding, case.padding)

                def call(z: torch.Tensor, x: torch.Tensor, case: bench_xcorr.Case = case) -> torch.Tensor:
                    return siamfast.xcorr_depthwise(z, x, padding=case.padding)
            else:
                options = (None, None, 1.0, 0.0, 0, 0, False)
                out = ours.full_forward(*near, *options)
                grad = torch.randn(out.shape).to(dtype)
                needs = [True, True, False, False]
                found = (out, *ours.full_backward(grad.to(device), *near, *options, needs)[:2])
                again = ours.full_forward(*near, *options)
                call = siamfast.xcorr
            with siamfast.backend("torch"):
                truth = bench_xcorr.both_ways(call, z.double(), x.double(), grad.double())
            row: Row = {"check": "values", "op": case.kind, "case": case.name, "dtype": str(dtype)}
            row["same_bits"] = torch.equal(out, again)
            for name, f, t in zip(("value", "dz", "dx"), found, truth, strict=True):
                t = t.detach()
                row[name] = float((f.cpu().double() - t).abs().max() / t.abs().max())
            # TF32 rounds factors to 11 bits, the 16-bit types their results to 8 and 11.
            row["ok"] = row["same_bits"] and max(row["value"], row["dz"], row["dx"]) < (
                1e-2 if dtype == torch.bfloat16 else 2e-3
            )
            yield row


# -------------------------------------------------------------------------------------------------------------- times
def _median(call: Callable[[], Any], device: str) -> float:
    """Seconds a call, the launch included."""
    if device == "cuda":
        from triton.testing import do_bench

        return float(do_bench(call, return_mode="median")) * 1e-3
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _captured(call: Callable[[], Any]) -> float | None:
    """Seconds a replay of the call's CUDA graph; None where it cannot be captured."""
    from triton.testing import do_bench_cudagraph

    try:
        return float(do_bench_cudagraph(call, return_mode="median")) * 1e-3
    except Exception as error:
        print(f"no graph: {error}", file=sys.stderr)
        torch.cuda.synchronize()
        return None


def speeds(device: str, small: bool) -> dict[str, float]:
    """Bytes a second of a copy and FLOP a second of a matrix product, measured here: what the floors are made of."""
    count, side = (1 << 10, 64) if small else (1 << 28, 8192)
    source, target = torch.randn(2, count, device=device)
    a = torch.randn(side, side, device=device)
    low = a.bfloat16()
    return {
        "copy_bytes": 8 * count / _median(lambda: target.copy_(source), device),
        "float32_flop": 2 * side**3 / _median(lambda: a @ a, device),
        "bfloat16_flop": 2 * side**3 / _median(lambda: low @ low, device),
    }


def times(cases: list[bench_xcorr.Case], device: str, measured: dict[str, float]) -> Iterator[Row]:
    """Ours and the peers, forward and both ways, launch included and captured, beside the floor of bytes and FLOP."""
    for case in cases:
        z, x, grad = bench_xcorr.inputs(case, device)
        calls = {"siamfast": bench_xcorr.ours(case)} | bench_xcorr.peers(case, compiled=device == "cuda")
        calls.pop("unfold", None)  # too slow to wait for
        for name, call in list(calls.items()):
            try:
                bench_xcorr.check(case, name, call, z, x, grad)
            except AssertionError as error:
                yield {"check": "before timing", "case": case.name, "error": str(error)}
                del calls[name]
        for direction in ("forward", "forward+backward"):
            factor = 1 if direction == "forward" else 3
            floor = max(factor * case.bytes / measured["copy_bytes"], factor * case.flop / measured["float32_flop"])
            row: Row = {"op": f"xcorr {case.kind}", "case": case.name, "pass": direction, "dtype": "float32"}
            row |= {"bytes": factor * case.bytes, "flop": factor * case.flop, "floor_us": floor * 1e6}
            for name, call in calls.items():
                run = bench_xcorr.passes(case, call, z, x, grad).get(direction)
                if run is None:
                    continue
                seconds = _median(run, device)
                row[name] = {"us": seconds * 1e6, "floor_fraction": floor / seconds}
                if device == "cuda" and direction == "forward":
                    captured = _captured(run)
                    row[name]["graph_us"] = None if captured is None else captured * 1e6
            yield row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.jsonl; rows are appended")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes on the CPU, in Triton's interpreter")
    parser.add_argument("--seconds", type=float, default=450.0, help="no new case is begun after this")
    options = parser.parse_args()
    use_checkout()
    device = "cpu" if options.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --tiny runs in the interpreter")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # peers and ours alike
    cases = [tiny(case) for case in bench_xcorr.CASES[::9]] if options.tiny else bench_xcorr.CASES
    options.out.mkdir(parents=True, exist_ok=True)
    began, wrong = time.monotonic(), 0
    import triton

    about: Row = {"device": bench_xcorr.device_name(device), "torch": torch.__version__, "triton": triton.__version__}
    about |= {"commit": bench_xcorr.commit(), "command": " ".join(sys.argv)}
    with (options.out / "gpu.jsonl").open("a") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(about | row) + "\n")
            file.flush()
            print(json.dumps(row), flush=True)

        for row in values(cases, device):
            wrong += not row["ok"]
            write(row)
        measured = speeds(device, options.tiny)
        write({"check": "speeds", **measured})
        for row in times(cases, device, measured):
            wrong += "error" in row
            write(row)
            if time.monotonic() - began > options.seconds:
                break
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
