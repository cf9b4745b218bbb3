"""Everything that needs a real GPU, in one command, most important first; each finding is a JSON line at once.

python -m benchmarks.gpu --out DIR                             # under 8 minutes; DIR/gpu.jsonl grows line by line
TRITON_INTERPRET=1 python -m benchmarks.gpu --out DIR --tiny   # the same path on the CPU at tiny sizes: finds typos

In this order: values and gradients of every Triton kernel, the same under compute-sanitizer, the machine's own speeds,
every op beside its peers (called, on the device alone, as a CUDA graph; some under torch.compile), tracking and
training, the autotuner's winners. Runs from a source checkout with torch, numpy, OpenCV, pytest, pytest-benchmark.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import siamfast
from benchmarks import bench_augment as augmentation
from benchmarks import bench_balanced_logistic_loss as loss
from benchmarks import bench_correspondence_warp as warp
from benchmarks import bench_crop_and_resize as crop
from benchmarks import bench_tracking as tracking
from benchmarks import bench_training as training
from benchmarks import bench_xcorr as xcorr
from benchmarks import bench_xcorr_balanced_loss as fused
from benchmarks import gpu_values, harness
from benchmarks.harness import OURS, Row

# Seconds after the start beyond which a section begins nothing new, so that the later ones get their turn.
UNTIL = {"values": 120.0, "sanitizer": 170.0, "speeds": 450.0, "ops": 330.0, "end to end": 400.0, "tuning": 450.0}


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


# ----------------------------------------------------------------------------------------------------------- sections
def values(device: str, tiny: bool) -> Iterator[Row]:
    smallest = {shape.kind: shape for shape in sorted(xcorr.SHAPES, key=lambda shape: -shape.x[2])}
    yield from gpu_values.correlations([*smallest.values()] if tiny else xcorr.SHAPES, device, tiny)
    yield from gpu_values.losses(device, tiny)
    yield from gpu_values.crops(device)
    yield from gpu_values.augmentations(device)
    yield from gpu_values.warps(device, tiny)


def sanitizer(device: str, tiny: bool) -> Iterator[Row]:
    """The values once more at tiny sizes under memcheck: reads and writes outside of tensors."""
    tool = shutil.which("compute-sanitizer")
    if device == "cpu" or tool is None:
        yield {"skipped": "no compute-sanitizer" if tool is None else "no GPU"}
        return
    with tempfile.TemporaryDirectory() as folder:
        inner = [sys.executable, "-m", "benchmarks.gpu", "--out", folder, "--only", "values", "--small"]
        command = [tool, "--tool", "memcheck", "--error-exitcode", "9", *inner]
        # A cached allocation hides what is beyond a tensor's end.
        environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
    yield {"tool": "memcheck", "returned": done.returncode, "end": done.stdout[-300:], "ok": done.returncode == 0}


def speeds(device: str, tiny: bool) -> Iterator[Row]:
    yield {name: float(f"{value:.4g}") for name, value in harness.speeds(device).items()}


def ops(device: str, tiny: bool) -> Iterator[Row]:
    every = [case for suite in (xcorr, loss, fused, warp, crop, augmentation) for case in suite.cases(tiny)]
    # torch.compile takes some ten seconds a case: the first of every op and pass.
    seen: set[tuple[str, str]] = set()
    for case in every:
        first = (case.op, case.direction) not in seen
        seen.add((case.op, case.direction))
        if tiny and not first:
            continue
        yield from timed(case, device, first and case.compilable and device == "cuda")


def end_to_end(device: str, tiny: bool) -> Iterator[Row]:
    for case in (*tracking.cases(tiny), *training.cases(tiny)):
        yield from timed(case, device, False)


def timed(case: harness.Case, device: str, compiled: bool) -> Iterator[Row]:
    """One case's row; a contender with wrong values is named and not timed."""
    torch._dynamo.reset()
    made = case.make(device, compiled)
    for name in list(made.runs):
        try:
            made.check(name)
        except AssertionError as error:
            yield {"case": case.group, "error": str(error), "ok": name != OURS}
            del made.runs[name]
    if OURS not in made.runs:
        return
    row = harness.measure(case, made, 0.05, device)
    if device == "cuda":
        for name, run in made.runs.items():
            row["contenders"][name] |= on_device(run, case.direction == "forward")
    yield row


def on_device(run: Callable[[], Any], capture: bool) -> Row:
    """Microseconds between CUDA events around a call, and of a replay of its graph where it can be captured."""
    from triton.testing import do_bench, do_bench_cudagraph

    found: Row = {"device_us": round(float(do_bench(run, warmup=5, rep=30, return_mode="median")) * 1e3, 3)}
    if capture:
        try:
            found["graph_us"] = round(float(do_bench_cudagraph(run, rep=20, return_mode="median")) * 1e3, 3)
        except Exception as error:  # many peers allocate or synchronise while captured: that is a finding
            found["no_graph"] = str(error).splitlines()[0][:200]
            torch.cuda.synchronize()
    return found


def tuning(device: str, tiny: bool) -> Iterator[Row]:
    """What the tuner chooses for the full correlations, beside the configuration that runs without it."""
    if device == "cpu":
        yield {"skipped": "no GPU"}
        return
    from siamfast.kernels import tuning as tuner
    from triton.testing import do_bench

    with tempfile.TemporaryDirectory() as folder:
        os.environ["SIAMFAST_CACHE"] = folder
        tuner.cache_file.cache_clear()
        winners = tuner.cache_file(torch.device("cuda", torch.cuda.current_device()))
        for shape in xcorr.SHAPES:
            if shape.kind == "depthwise":
                continue
            z, x, _ = xcorr.inputs(shape, device)
            call = xcorr.ours(shape)
            before = json.loads(winners.read_text()) if winners.exists() else {}
            default = float(do_bench(lambda call=call, z=z, x=x: call(z, x), return_mode="median"))
            os.environ["SIAMFAST_TUNE"] = "1"
            call(z, x)
            del os.environ["SIAMFAST_TUNE"]
            best = float(do_bench(lambda call=call, z=z, x=x: call(z, x), return_mode="median"))
            chosen = json.loads(winners.read_text()) if winners.exists() else {}
            new = {key: config for key, config in chosen.items() if key not in before}
            yield {"case": shape.name, "default_us": default * 1e3, "tuned_us": best * 1e3, "winner": new}


SECTIONS = {
    "values": values, "sanitizer": sanitizer, "speeds": speeds, "ops": ops, "end to end": end_to_end, "tuning": tuning,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.jsonl; rows are appended")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes on the CPU, in Triton's interpreter")
    parser.add_argument("--small", action="store_true", help="tiny sizes on the GPU")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section; may be given more than once")
    options = parser.parse_args()
    use_checkout()
    device = "cpu" if options.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --tiny runs in the interpreter")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # peers and ours alike
    options.out.mkdir(parents=True, exist_ok=True)
    began, wrong = time.monotonic(), 0
    for name in options.only or SECTIONS:
        try:
            for row in SECTIONS[name](device, options.tiny or options.small):
                wrong += not row.get("ok", True)
                harness.append(
                    harness.about(device) | {"section": name, "seconds": time.monotonic() - began} | row,
                    options.out / "gpu.jsonl",
                )
                print(json.dumps({"section": name} | row), flush=True)
                if time.monotonic() - began > UNTIL[name]:
                    break
        except Exception:  # one section's failure must not cost the others: it is a row and a non-zero exit
            wrong += 1
            harness.append(
                harness.about(device) | {"section": name, "error": traceback.format_exc()[-2000:]},
                options.out / "gpu.jsonl",
            )
            traceback.print_exc()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
