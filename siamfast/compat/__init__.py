"""Other projects' names: their correlations on our kernels, `patch` to swap them in place, their checkpoints."""

from siamfast.compat.patching import Patch, patch

__all__ = ["Patch", "patch"]
