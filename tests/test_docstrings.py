"""Public functions and classes have docstrings; those that take tensors or arrays give shapes and errors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import siamfast

ROOT = Path(siamfast.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "kernels" not in path.relative_to(ROOT).parts)
# Backends, raw ops and commands: their signatures are documented with the op or the CLI.
INTERFACES = {"autograd", "cpp", "eager", "triton", "onnx", "library", "lasting"}
_SHAPE = re.compile(r"\([A-Z0-9][\w*/ ]*(, ?\.{0,3}[\w*/ +-]*)+\)")


def _public(body: list[ast.stmt]) -> list[ast.FunctionDef | ast.ClassDef]:
    nodes = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return [node for node in nodes if not node.name.startswith("_")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the file says nothing of what it is for"
    if path.stem in INTERFACES or path.parent.name == "commands":
        return
    silent = [node.name for node in _public(tree.body) if not ast.get_docstring(node)]
    assert not silent


def _promised() -> list[tuple[str, ast.FunctionDef]]:
    """The functions that `import siamfast` provides."""
    functions = []
    for path in FILES:
        if path.stem in INTERFACES | {"reference"} or path.parent.name == "compat":
            continue
        for node in _public(ast.parse(path.read_text()).body):
            if isinstance(node, ast.FunctionDef) and node.name in siamfast.__all__:
                functions.append((node.name, node))
    return functions


@pytest.mark.parametrize(("name", "function"), _promised(), ids=lambda value: value if isinstance(value, str) else "")
def test_public_functions_document_arguments_and_errors(name: str, function: ast.FunctionDef) -> None:
    text = ast.get_docstring(function) or ""
    assert "Args:" in text
    assert "Raises:" in text
    assert ">>>" in text
    arguments = [*function.args.args, *function.args.kwonlyargs]
    lacking = [a.arg for a in arguments if not re.search(rf"\b{a.arg}\b", text)]
    assert not lacking
    if any(a.annotation is not None and "Tensor" in ast.unparse(a.annotation) for a in arguments):
        assert _SHAPE.search(text)
