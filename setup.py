"""Builds siamfast._C, and maps kernels/ to siamfast.kernels. Everything else is in pyproject.toml."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pybind11
from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import find_packages, setup

# Warnings are ours to mend; those of pybind11's and Python's headers are not.
SYSTEM = [flag for path in (pybind11.get_include(), sysconfig.get_paths()["include"]) for flag in ("-isystem", path)]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror", *SYSTEM]
FLAGS = ["-O3", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"]
# "address,undefined" by `make sanitize`; the first report ends the process.
SANITIZE = os.environ.get("SIAMFAST_SANITIZE", "")
if SANITIZE:
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1", "-O1"]


ParallelCompile(max=8).install()  # a file on each core: a file takes 0.4 GB


class BuildOrSayWhy(build_ext):
    """Without a working C++ compiler the package still installs, with its PyTorch paths, and says so in one line."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if os.environ.get("SIAMFAST_WERROR") == "1":
                raise
            print(f"siamfast: siamfast._C was not built ({error}); the PyTorch paths serve instead", file=sys.stderr)


extension = Pybind11Extension(
    "siamfast._C",
    # From the last: what takes longest to compile, xcorr/kernels.cpp, is not left to one core at the end.
    sorted((str(path) for path in Path("csrc").rglob("*.cpp")), reverse=True),
    include_dirs=["csrc"],
    depends=sorted(str(path) for pattern in ("*.h", "*.inl") for path in Path("csrc").rglob(pattern)),
    cxx_std=17,
    extra_compile_args=FLAGS + (STRICT if os.environ.get("SIAMFAST_WERROR") == "1" else []),
    extra_link_args=["-pthread", *([f"-fsanitize={SANITIZE}"] if SANITIZE else [])],
)

setup(
    packages=[
        *find_packages(include=["siamfast*"], exclude=["siamfast.kernels*"]),
        "siamfast.kernels",
        *(f"siamfast.kernels.{op}" for op in find_packages("kernels")),
    ],
    py_modules=["siamfast_command"],
    package_dir={"siamfast.kernels": "kernels"},
    ext_modules=[extension],
    cmdclass={"build_ext": BuildOrSayWhy},
)
