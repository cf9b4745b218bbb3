"""Whether Triton's interpreter runs here, for the tests of what is computed in it."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version

import numpy as np
import pytest


def _missing() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    try:
        int(np.zeros(1))  # type: ignore[call-overload]  # Triton 3.6 does so for the end of a loop
    except TypeError:
        if tuple(int(part) for part in version("triton").split(".")[:2]) < (3, 7):
            return f"Triton {version('triton')}'s interpreter cannot run with NumPy {np.__version__}"
    return None


MISSING = _missing()
needs_interpreter = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
