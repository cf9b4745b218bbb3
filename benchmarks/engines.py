"""Every engine and precision of the trackers on this CPU: `siamfast bench --engines`, its rows kept.

python -m benchmarks.engines [--results FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import harness
from siamfast.deploy.engines import HEADER, engine_rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="append the rows here")
    options = parser.parse_args()
    print(HEADER, flush=True)
    for row in engine_rows():
        print(row.line(), flush=True)
        if options.results:
            measured = {"milliseconds": round(row.milliseconds, 3), "overlap": round(row.overlap, 4)}
            harness.append(harness.about("cpu") | row._asdict() | measured, options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
