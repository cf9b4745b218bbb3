"""What README and docs say of the code and can be compared with it: links, flags, names, defaults, dependencies."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path

import pytest

import siamfast
from siamfast import cli
from siamfast.ops import dispatch
from siamfast.tracking.registry import DEFAULT, TRACKERS

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}
# Flags of other programs: pip, torchrun, dask, sbatch, pytest, our benchmarks and tools.
_OTHERS = {
    "--shell", "--standalone", "--nproc-per-node", "--nnodes", "--max-restarts", "--rdzv-backend", "--rdzv-endpoint",
    "--rdzv-id", "--nworkers", "--nthreads", "--local-directory", "--port", "--nodes", "--ntasks-per-node",
    "--gpus-per-node", "--cpus-per-task", "--time", "--logdir", "--array",
}  # fmt: skip


def _anchor(heading: str) -> str:
    """The anchor of a heading, as code-hosting sites make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _flags() -> set[str]:
    """All options of all commands, and of the benchmarks and tools in this repository."""
    commands = next(a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    flags = {
        flag for parser in commands.choices.values() for action in parser._actions for flag in action.option_strings
    }
    ours = [*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("siamfast/deploy/**/*.py")]
    for path in ours:
        flags |= set(re.findall(r'add(?:_argument|option)\(\s*"(--[a-z][\w-]*)"', path.read_text()))
    return flags | {"--version"}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)):
        if target.startswith(("http://", "https://", "mailto:")) or "build/" in target:  # drawn with the site
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_flags_exist(page: str) -> None:
    """In code, in a line or a block: `--flag`, siamfast command --flag."""
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", PAGES[page], re.DOTALL))
    named = {flag.rstrip("-") for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)}
    assert sorted(named - _flags() - _OTHERS) == []


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page: str) -> None:
    """`siamfast.NAME` is a public name or a module; siamfast COMMAND is a command."""
    text = PAGES[page]
    for name in set(re.findall(r"`siamfast\.(\w+)", text)) | set(re.findall(r"\bsiamfast\.(\w+)\(", text)):
        known = hasattr(siamfast, name) or importlib.util.find_spec(f"siamfast.{name}") is not None
        assert known or name == "_C", f"{page}: {name}"  # siamfast._C may not be built
    blocks = " ".join(re.findall(r"```.*?```", text, re.DOTALL))
    for command in re.findall(r"^siamfast ([a-z][\w-]*)", blocks, re.MULTILINE) + re.findall(
        r"`siamfast ([a-z][\w-]*)", text
    ):
        assert command in cli.COMMANDS, f"{page}: siamfast {command}"


def test_the_dependencies_are_those_of_the_package() -> None:
    table = PAGES["README.md"].partition("| package | for |")[2].partition("\n## ")[0]
    named = set(re.findall(r"[a-zA-Z][\w-]*", " ".join(line.split("|")[1] for line in table.splitlines()[2:] if line)))
    project = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r'^\s*"([a-zA-Z][\w-]*)[><=;]', project, re.MULTILINE)
    lists += re.findall(r'"([a-zA-Z][\w-]*)>=', project)
    assert sorted({name.lower() for name in lists} - {name.lower() for name in named}) == []


def test_the_trackers_are_those_of_the_registry() -> None:
    table = PAGES["README.md"].partition("| `--model` | what it is |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(TRACKERS)
    assert re.findall(r"^\| `(\w+)` \(default\)", table, re.MULTILINE) == [DEFAULT]


def test_the_backends_are_those_of_dispatch() -> None:
    table = PAGES["docs/backends.md"].partition("| backend | serves | is |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(dispatch.BACKENDS)


def test_every_op_is_in_the_table() -> None:
    table = PAGES["docs/ops.md"].partition("| op | what it computes |")[2].partition("\n\n")[0]
    named = {name.removeprefix("siamfast.") for name in re.findall(r"`([\w.]+)`", table)}
    folders = {path.parent.name for path in (ROOT / "siamfast" / "ops").glob("*/__init__.py")}
    assert folders <= named


def test_environment_variables_are_read_somewhere() -> None:
    table = PAGES["docs/backends.md"].partition("| variable | effect |")[2]
    source = " ".join(path.read_text() for path in (*ROOT.glob("siamfast/**/*.py"), *ROOT.glob("kernels/**/*.py")))
    source += (ROOT / "setup.py").read_text() + " ".join(p.read_text() for p in ROOT.glob("csrc/**/*.cpp"))
    named = set(re.findall(r"`(SIAMFAST_\w+)", table))
    assert named == set(re.findall(r'"(SIAMFAST_\w+)"', source))


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) < 200
