"""Cannot be imported where Triton's interpreter cannot run: `pytest.importorskip` of its tests names the reason."""

from __future__ import annotations

import numpy as np
import triton

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 7):
    try:
        int(np.zeros(1))  # type: ignore[call-overload]  # Triton 3.6 does so for the end of a loop
    except TypeError:
        raise ImportError(f"Triton {triton.__version__}'s interpreter cannot run with NumPy {np.__version__}") from None
