"""Stand-ins for the programs that a GPU's machine has: a rehearsal puts them first on the PATH. They run what they are
given, so that the commands inside are rehearsed too."""

from __future__ import annotations

import sys
from pathlib import Path

_RUN = """#!{python}
import subprocess, sys
words = sys.argv[1:]
report = words[words.index("--log-file") + 1]
inner = words[next(n for n, word in enumerate(words) if word.endswith({python!r}) or word == {python!r}):]
done = subprocess.run(inner)
open(report, "w").write({report!r})
sys.exit(done.returncode)
"""
_MEMCHECK = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n"
_NCU = """==PROF== Connected to process 1
[1] python@127.0.0.1
  diagonal_sums_kernel (80, 1, 1)x(128, 1, 1), Context 1, Stream 7, Device 0, CC 9.0
    Section: GPU Speed Of Light Throughput
    Metric Name             Metric Unit Metric Value
    Duration                         us        12.50
    DRAM Throughput                   %        40.10
"""
_COMPILER = """#!{python}
import sys
if "-o" in sys.argv:
    open(sys.argv[sys.argv.index("-o") + 1], "w").close()
"""
_SMI = "#!/bin/sh\necho 'NVIDIA-SMI stands in'\n"


def write(folder: Path) -> Path:
    """Make the programs in `folder`, which is returned."""
    programs = {
        "nvidia-smi": _SMI,
        "compute-sanitizer": _RUN.format(python=sys.executable, report=_MEMCHECK),
        "ncu": _RUN.format(python=sys.executable, report=_NCU),
        "c++-stands-in": _COMPILER.format(python=sys.executable),
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder
