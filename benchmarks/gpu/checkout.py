"""Makes kernels/ importable as siamfast.kernels where the package is not installed: import this before them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import siamfast


def use_checkout() -> None:
    if importlib.util.find_spec("siamfast.kernels") is not None:
        return
    folder = Path(siamfast.__file__).parent.parent / "kernels"
    spec = importlib.util.spec_from_file_location(
        "siamfast.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["siamfast.kernels"] = module
    spec.loader.exec_module(module)


use_checkout()
