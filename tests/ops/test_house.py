"""The folders of all ops have the same layout."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import siamfast

OPS = Path(siamfast.__file__).parent / "ops"
FOLDERS = sorted(path.parent for path in OPS.glob("*/__init__.py"))
FILES = {"__init__", "call", "autograd", "reference", "eager", "cpp", "triton", "onnx", "windows"}


def _imports(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports; names imported from a package count as modules too."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            modules |= {str(node.module)} | {f"{node.module}.{name.name}" for name in node.names}
    return modules


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_ops_folder_has_the_same_files(folder: Path) -> None:
    names = {path.stem for path in folder.glob("*.py")}
    assert names <= FILES
    # xcorr_balanced_loss is a composition of two ops, and launches their kernels itself for one kind of call.
    assert {"autograd", "reference"} <= names or folder.name == "xcorr_balanced_loss"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_reference_imports_nothing_of_siamfast(folder: Path) -> None:
    reference = folder / "reference.py"
    if reference.is_file():
        assert not {name for name in _imports(reference) if name.startswith("siamfast")}


@pytest.mark.parametrize("path", sorted(OPS.rglob("*.py")), ids=lambda path: str(path.relative_to(OPS)))
def test_ops_import_nothing_above_them(path: Path) -> None:
    allowed = ("siamfast.ops", "siamfast.geometry", "siamfast.kernels", "siamfast._C", "siamfast.version")
    ours = {name for name in _imports(path) if name.startswith("siamfast.")}
    assert not {name for name in ours if not name.startswith(allowed)}
