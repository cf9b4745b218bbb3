"""Imports run one way: no package imports one above it, and no two modules import each other in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import siamfast

ROOT = Path(siamfast.__file__).parent
# A package, or a module directly in siamfast, imports from its own line and from those below.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"commands"},
    {"annotation", "deploy", "evaluation", "training"},
    {"tracking"},
    {"models", "data"},
    {"nn", "compat", "comparison"},
    {"ops"},
    {"io", "geometry"},
    {"engine"},
    {"kernels", "machine", "instructions", "workers", "version"},
)
HEIGHT = {name: -number for number, layer in enumerate(LAYERS) for name in layer}


def _name(path: Path) -> str:
    return ".".join(("siamfast", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {_name(path): path for path in ROOT.rglob("*.py") if "kernels" not in path.relative_to(ROOT).parts}


def _imports(module: str, *, at_load: bool) -> set[str]:
    """Modules of siamfast that a module imports, anywhere or only while it is loaded."""
    tree = ast.parse(MODULES[module].read_text())
    nodes: list[ast.AST] = list(tree.body) if at_load else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= parts & MODULES.keys() or {node.module}
    return {name for name in names if name.startswith("siamfast.")} - {module}


def _package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_package_has_a_layer() -> None:
    assert {_package(module) for module in MODULES} - {""} <= HEIGHT.keys()


def test_no_package_imports_one_above_it() -> None:
    upward = [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in sorted(_imports(module, at_load=False))
        if module != "siamfast" and HEIGHT[_package(imported)] > HEIGHT[_package(module)]
    ]
    assert not upward, "\n".join(upward)


def test_no_two_packages_import_each_other() -> None:
    edges = {
        (_package(module), _package(imported)) for module in MODULES for imported in _imports(module, at_load=False)
    }
    assert not {(a, b) for a, b in edges if a != b and (b, a) in edges}


def test_no_modules_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for imported in _imports(module, at_load=True) & MODULES.keys():
                visit(imported, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())
