"""A guard against regressions, independent of clocks: instructions of the C++ kernels, counted by valgrind's callgrind.

python -m benchmarks.perf_guard            # exit 1 where a kernel needs over 3 % more than the committed figure
python -m benchmarks.perf_guard --update   # writes benchmarks/results/instructions.json

Needs a C++ compiler and valgrind (which knows AVX2, not AVX-512). The figures belong to a compiler's major version.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "benchmarks" / "results" / "instructions.json"
PATHS = ("baseline", "avx2")
ALLOWED = 1.03  # the linker's layout and libm move a count by less than 1 %
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-pthread")  # the flags of setup.py


def build(folder: Path, *flags: str) -> Path:
    """The driver with the kernels' sources, as setup.py compiles them, with further flags behind its own."""
    bindings = "module.cpp", "binding.cpp"
    sources = [str(path) for path in sorted((ROOT / "csrc").rglob("*.cpp")) if path.name not in bindings]
    driver = folder / "perf_guard"
    compiler = os.environ.get("CXX", "g++")
    own = str(ROOT / "benchmarks" / "perf_guard.cpp")
    subprocess.run(
        [compiler, *FLAGS, "-g1", *flags, f"-I{ROOT / 'csrc'}", own, *sources, "-o", str(driver), "-ldl"], check=True
    )
    return driver


def compiler_version() -> str:
    command = [os.environ.get("CXX", "g++"), "-dumpfullversion", "-dumpversion"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"{Path(command[0]).name} {output.split('.')[0].strip()}"


def count(driver: Path, case: str, path: str) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=counted"]
    done = subprocess.run(
        [*command, str(driver), case],
        capture_output=True,
        text=True,
        env=os.environ | {"SIAMFAST_CPU": path},
        check=False,
    )
    total = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or total is None or int(total[1]) == 0:
        raise RuntimeError(f"callgrind of {case!r}: {done.stderr[-500:]}")
    return int(total[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the figures in place of comparing with them")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not there: apt install valgrind")
    known = {} if options.update or not FIGURES.exists() else json.loads(FIGURES.read_text())
    version = compiler_version()
    if known and known["compiler"] != version:
        parser.error(f"the figures are {known['compiler']}'s, this is {version}: set CXX, or --update and say so")
    counts: dict[str, dict[str, int]] = {path: {} for path in PATHS}
    worse = 0
    with tempfile.TemporaryDirectory() as folder:
        driver = build(Path(folder))
        names = subprocess.run([driver], capture_output=True, text=True, check=True).stdout.splitlines()
        for path in PATHS:
            for name in names:
                now = counts[path][name] = count(driver, name, path)
                before = known.get("instructions", {}).get(path, {}).get(name)
                note = "" if before is None else f"{now / before:8.3f} x"
                if before is not None and now > before * ALLOWED:
                    worse, note = worse + 1, note + "  MORE THAN BEFORE"
                print(f"{path:<10}{name:<36}{now:>14,}{note}", flush=True)
    if options.update:
        text = json.dumps({"compiler": version, "instructions": counts}, indent=1) + "\n"
        new = FIGURES.with_suffix(".new")
        new.write_text(text)
        new.replace(FIGURES)
    elif not known:
        parser.error(f"no figures to compare with: {FIGURES.relative_to(ROOT)} comes from --update")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
