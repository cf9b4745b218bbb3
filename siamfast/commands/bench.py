"""`siamfast bench`: our ops beside plain PyTorch and OpenCV on this machine, and the resources of the compiled GPU
kernels."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

EXAMPLE = "example:\n  siamfast bench --plot bars.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast bench`."""
    parser.add_argument(
        "--static",
        action="store_true",
        help="instead, compile every Triton kernel for H100, H200, A100, RTX 4090 and B200 (no GPU needed) and print "
        "its resources, the floor and the predicted time (ten minutes)",
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="with --static: only kernels with TEXT in their name"
    )
    parser.add_argument("--card", metavar="NAME", help="with --static: only this card, such as H100")
    parser.add_argument(
        "--engines",
        action="store_true",
        help="instead, FPS of every engine and precision of the mobile tracker and SiamFC on this CPU (minutes)",
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each side of a comparison (default: 1)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the ratios as bars: a .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison or the table of kernels.

    Raises:
        ValueError: the time is not positive, the picture cannot be written, values differ from a peer's, --static is
            given without Triton, or no kernel matches --only and --card.
    """
    if not 0 < arguments.seconds <= 3600:
        raise ValueError(f"--seconds: got {arguments.seconds:g}, expected more than 0, at most 3600")
    if arguments.engines:
        for name in ("static", "plot"):
            if getattr(arguments, name):
                raise ValueError(f"--{name}: got it with --engines, expected one of them")
        return _engines(as_json=arguments.json)
    if arguments.static:
        if arguments.plot is not None:
            raise ValueError("--plot: got it with --static, expected one of them")
        return _static(arguments)
    if arguments.only or arguments.card:
        raise ValueError(f"{'--only' if arguments.only else '--card'}: got it without --static, expected both")
    from siamfast import comparison

    plot: Path | None = arguments.plot
    if plot is not None and (plot.suffix not in comparison.PICTURES or not plot.absolute().parent.is_dir()):
        expected = f"a name in an existing folder, ending in {', '.join(comparison.PICTURES)}"
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


def _engines(*, as_json: bool) -> int:
    from siamfast.models.onnx_export import check_packages

    check_packages()
    from siamfast.deploy.engines import HEADER, engine_rows
    from siamfast.machine import cpu_name

    if not as_json:
        print(f"{cpu_name()}\n{HEADER}", flush=True)
    for row in engine_rows():
        print(json.dumps(row._asdict()) if as_json else row.line(), flush=True)
    return 0


def _static(arguments: argparse.Namespace) -> int:
    from siamfast.ops import dispatch

    missing = dispatch.triton_missing()
    if missing is not None:
        raise ValueError(f"--static: {missing}; pip install triton")
    from siamfast.kernels import table

    cards = [card for card in table.CARDS.values() if arguments.card in (None, card.name)]
    if not cards:
        names = ", ".join(table.CARDS)
        raise ValueError(f"--card: got '{arguments.card}', expected one of {names} ({table.NOT_SERVED.rstrip('.')})")
    printed = 0
    for row in table.rows(arguments.only, cards):
        if printed == 0 and not arguments.json:
            print(table.HEADER)
        print(json.dumps(row.as_json()) if arguments.json else row.line(), flush=True)
        printed += 1
    if printed == 0:
        raise ValueError(f"--only: got '{arguments.only}', which no kernel has in its name")
    if not arguments.json:
        print(table.END)
    return 0
