"""`siamfast bench`: our ops beside plain PyTorch and OpenCV on this machine, and what the GPU kernels compile to."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast bench`."""
    parser.add_argument(
        "--static",
        action="store_true",
        help="instead: compile every Triton kernel for sm_80, sm_90 and sm_100 (no GPU needed) and print what it uses",
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each side of a comparison (default: 1)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the ratios as bars: a .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="one JSON object a line in place of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison or the table of kernels.

    Raises:
        ValueError: a time that is not positive, a picture that cannot be written, values that differ from a peer's, or
            no Triton for --static.
    """
    if not 0 < arguments.seconds <= 3600:
        raise ValueError(f"--seconds: got {arguments.seconds:g}, expected more than 0, at most 3600")
    if arguments.static:
        if arguments.plot is not None:
            raise ValueError("--plot: got it with --static, expected one of them")
        return _static(arguments.json)
    from siamfast import comparison

    plot: Path | None = arguments.plot
    if plot is not None and (plot.suffix not in comparison.PICTURES or not plot.absolute().parent.is_dir()):
        expected = f"a name in a folder that is there, ending in {', '.join(comparison.PICTURES)}"
        raise ValueError(f"--plot: got '{plot}', expected {expected}")
    header, rows = not arguments.json, []
    for case in comparison.cases():
        row = comparison.compare(case, seconds=arguments.seconds)
        rows.append(row)
        if arguments.json:
            print(json.dumps(dataclasses.asdict(row) | {"ratio": row.ratio}), flush=True)
            continue
        lines = comparison.table([row]).splitlines()
        print("\n".join(lines if header else lines[1:]), flush=True)
        header = False
    if plot is not None:
        comparison.chart(rows, plot)
    return 0


def _static(as_json: bool) -> int:
    from siamfast.ops import _backend

    missing = _backend.triton_missing()
    if missing is not None:
        raise ValueError(f"--static: {missing}; pip install triton")
    import warnings

    from siamfast.kernels import static
    from siamfast.kernels.shipped import shipped

    warnings.filterwarnings("ignore", message="TRITON_DEFAULT_FP_FUSION")
    if not as_json:
        print(static.HEADER)
    for builds in zip(*map(shipped, static.CHIPS), strict=True):
        for chip, build in zip(static.CHIPS, builds, strict=True):
            usage = static.compile_for(build, chip)
            print(
                json.dumps(static.row(build, chip, usage)) if as_json else static.line(build, chip, usage), flush=True
            )
    return 0
