"""`python -m tests.sanitize`: the C++ kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

1. The extension is built with the first two, into a folder of its own; tests/ops and random calls run on it.
2. The kernels alone, without Python, are built with the third (Python and torch have races of their own, which would
   hide ours), and every one runs on four threads.
The first report ends its process, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import perf_guard

ROOT = Path(__file__).parents[2]
_RUNTIMES = ("libasan.so", "libubsan.so")


def main() -> int:
    """Run all; 1 when anything was reported."""
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000, help="random ones (default: %(default)s)")
    parser.add_argument("--skip-tests", action="store_true", help="the random calls and the threads alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        codes = [_memory(Path(folder), arguments.calls, arguments.skip_tests), _threads(Path(folder))]
    return int(any(codes))


def _memory(folder: Path, calls: int, skip_tests: bool) -> int:
    site, run = folder / "site", folder / "run"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(ROOT)],
        env=os.environ | {"SIAMFAST_SANITIZE": "address,undefined", "SIAMFAST_WERROR": "0"},
        check=True,
    )
    run.mkdir()  # away from the checkout, whose own extension would be imported
    shutil.copytree(ROOT / "tests", run / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", run)
    runtimes = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in _RUNTIMES
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(runtimes),
        "PYTHONPATH": str(site),
        "PYTHONMALLOC": "malloc",  # so that what is read beyond an array is seen
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python and torch do not free all that they have at exit
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    code = 0
    if not skip_tests:
        # What starts other programs would give them the sanitizer's library too.
        command = [sys.executable, "-m", "pytest", "tests/ops", "-p", "no:cacheprovider", "--timeout", "1200"]
        # Nor is memory measured: the sanitizer's own grows with ours.
        leave = "not import and not compile and not memory_is_linear"
        code = subprocess.run([*command, "-k", leave], cwd=run, env=environment).returncode
    calls_code = subprocess.run(
        [sys.executable, "-m", "tests.sanitize.calls", "--calls", str(calls)], cwd=run, env=environment
    ).returncode
    return code or calls_code


def _threads(folder: Path) -> int:
    driver = perf_guard.build(folder, "-fsanitize=thread", "-O1")
    cases = subprocess.run([driver], capture_output=True, text=True, check=True).stdout.splitlines()
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
    failed = [
        case for case in cases if subprocess.run([driver, "--threads", "4", *[case] * 5], env=environment).returncode
    ]
    print(f"threads: {len(cases)} kernels five times on 4 threads, {len(failed)} with a race: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
