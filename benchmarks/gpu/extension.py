"""The C++ extension of a checkout that has none, built in the background while kernels are checked: CPU crops and CPU
peers of later sections use it. setup.py's flags; pybind11's headers are its own or those that torch carries.

python -m benchmarks.gpu.extension TARGET [COMPILER]   # builds TARGET, the shared library
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.gpu.schedule import Row
from benchmarks.gpu.tasks import Setting, Task

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "csrc"
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread", "-fPIC"]
LOG = "build.log"
WAIT = 10.0  # seconds


def target(setting: Setting) -> Path:
    folder = setting.out if setting.rehearse else ROOT / "siamfast"
    return folder / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"


def extension(setting: Setting) -> Iterator[Task]:
    yield Task("build begins", lambda: begin(setting))


def begin(setting: Setting) -> Row:
    if target(setting).exists():
        return {"built": "before"}
    compiler = [shutil.which("c++-stands-in") or "missing"] if setting.rehearse else []
    # A session of its own, so that it outlives a worker that is restarted; nice, because the compiles of Triton's
    # kernels are waited for.
    with (setting.out / LOG).open("wb") as log:
        done = subprocess.Popen(
            ["nice", "-n", "10", sys.executable, "-m", "benchmarks.gpu.extension", str(target(setting)), *compiler],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
        )
    return {"built": "begun", "process": done.pid}


def wait_for_build(setting: Setting) -> Row:
    """Wait briefly for the build, which has had minutes; the library is used from here on."""
    log, until = setting.out / LOG, time.monotonic() + WAIT
    while not target(setting).exists() and time.monotonic() < until:
        if log.exists() and log.read_text(errors="replace").rstrip().endswith('"ok": false}'):
            break
        time.sleep(0.2)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    if setting.rehearse:
        return {"built": target(setting).exists(), "end": lines[-1:]}
    from siamfast.ops import dispatch

    dispatch.extension.cache_clear()
    module, cause = dispatch.extension()
    return {"built": module is not None, "cause": cause[:300], "end": lines[-1:]}


def includes() -> list[str]:
    """pybind11's and Python's headers."""
    folders = [sysconfig.get_paths()["include"]]
    for package, inside in (("pybind11", "include"), ("torch", "include")):
        spec = importlib.util.find_spec(package)  # torch itself is not loaded for this
        folder = Path(spec.origin).parent / inside if spec is not None and spec.origin else None
        if folder is not None and (folder / "pybind11").is_dir():
            return [*folders, str(folder)]
    return folders


def build(library: Path, compiler: str) -> None:
    """Compile each source in its own process, then link; the library appears whole."""
    headers = [word for folder in includes() for word in ("-isystem", folder)]

    def compiled(source: Path) -> str:
        into = Path(folder) / f"{source.parent.name}-{source.stem}.o"
        subprocess.run(
            [compiler, *FLAGS, *headers, f"-I{SOURCES}", "-c", str(source), "-o", str(into)], check=True, timeout=300
        )
        return str(into)

    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 2)) as pool:
            objects = list(pool.map(compiled, sorted(SOURCES.rglob("*.cpp"))))
        unfinished = library.with_suffix(".unfinished")
        subprocess.run([compiler, "-shared", "-pthread", *objects, "-o", str(unfinished)], check=True, timeout=100)
        unfinished.replace(library)


def main() -> int:
    began = time.monotonic()
    try:
        build(Path(sys.argv[1]), *(sys.argv[2:] or [shutil.which("g++") or "c++"]))
    except Exception as error:
        print(json.dumps({"error": str(error)[:300], "build_seconds": time.monotonic() - began, "ok": False}))
        return 1
    print(json.dumps({"build_seconds": round(time.monotonic() - began, 1), "ok": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
