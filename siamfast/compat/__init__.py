"""Other projects' trackers on our kernels: `accelerate` for whole trackers, `patch` and imports for correlations."""

from siamfast.compat.accelerating import Acceleration, Step, accelerate
from siamfast.compat.patching import Patch, patch

__all__ = ["Acceleration", "Patch", "Step", "accelerate", "patch"]
