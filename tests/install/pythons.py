"""The Python interpreters on PATH, and commands that are run with a log."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def python_on_path(version: str) -> str | None:
    """The interpreter `python3.N` on PATH that really is of that version; None where there is none.

    Version managers put a program of that name on PATH that only says that the version is not chosen, so it is asked.
    """
    for folder in os.get_exec_path():
        program = shutil.which(f"python{version}", path=folder)
        if program is None:
            continue
        question = [program, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        try:
            answer = subprocess.run(question, capture_output=True, text=True, timeout=60, cwd="/")
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return program
    return None


class CommandFailed(Exception):
    """A command that ended with an error; its text is the last line that says so."""


def run(command: Sequence[str | Path], log: Path, *, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    """Run a command and append its output to a log; CommandFailed, with the log's last words, when it fails."""
    with log.open("a") as stream:
        stream.write(f"$ {' '.join(map(str, command))}\n")
        stream.flush()
        start = stream.tell()
        done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, stdout=stream, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        lines = [line.strip() for line in log.read_bytes()[start:].decode(errors="replace").splitlines()]
        errors = [line for line in lines if line.lower().startswith(("error", "siamfast:"))]
        last = (errors or [line for line in lines if line] or ["no output"])[-1]
        raise CommandFailed(f"{Path(command[0]).name} ended with {done.returncode}: {last[:200]}")
