"""Other projects' correlations under their own names on our kernels, and `patch` to swap them in place."""

from siamfast.compat.patching import Patch, patch

__all__ = ["Patch", "patch"]
