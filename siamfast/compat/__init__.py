"""Other projects' trackers on our kernels: `accelerate` for whole trackers, `patch` and imports for correlations."""

from siamfast.compat.accelerating import Acceleration, Step, accelerate
from siamfast.compat.patching import Patch, patch
from siamfast.ops.xcorr.onnx import sliced_onnx

__all__ = ["Acceleration", "Patch", "Step", "accelerate", "patch", "sliced_onnx"]
