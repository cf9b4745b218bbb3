"""siamfast: fast operations for siamese trackers on PyTorch, and trackers built on them."""

from typing import Any

from siamfast.ops import flops
from siamfast.ops.augment import augment, no_draws
from siamfast.ops.balanced_logistic_loss import balanced_logistic_loss, logistic_labels
from siamfast.ops.correspondence_warp import correspondence_affinity, correspondence_warp
from siamfast.ops.crop_and_resize import crop_and_resize, mean_color
from siamfast.ops.dispatch import backend
from siamfast.ops.propagate_labels import propagate_labels
from siamfast.ops.siamfc_crops import SiamFCCrops, context_size, siamfc_crops
from siamfast.ops.xcorr import xcorr, xcorr_depthwise, xcorr_pixelwise
from siamfast.ops.xcorr_balanced_loss import xcorr_balanced_loss
from siamfast.version import __version__

__all__ = [
    "CorrespondenceEncoder",
    "GuidedTracker",
    "MaskPropagator",
    "MobileTracker",
    "MultiTracker",
    "SiamFC",
    "SiamFCCrops",
    "SiamFCTracker",
    "Track",
    "Tracker",
    "__version__",
    "augment",
    "augment_boxes",
    "backend",
    "balanced_logistic_loss",
    "context_size",
    "correspondence_affinity",
    "correspondence_warp",
    "crop_and_resize",
    "draw_augmentation",
    "logistic_labels",
    "mean_color",
    "no_draws",
    "propagate_labels",
    "siamfc_crops",
    "xcorr",
    "xcorr_balanced_loss",
    "xcorr_depthwise",
    "xcorr_pixelwise",
]

flops.register()

# Imported on first use, so that the ops alone import as quickly as torch.
_LAZY = {
    "CorrespondenceEncoder": "siamfast.models.correspondence",
    "GuidedTracker": "siamfast.tracking.guided",
    "MaskPropagator": "siamfast.tracking.propagation",
    "SiamFC": "siamfast.models.siamfc",
    "Track": "siamfast.tracking.sequence_tracker",
    "MobileTracker": "siamfast.tracking.mobile",
    "MultiTracker": "siamfast.tracking.multi",
    "SiamFCTracker": "siamfast.tracking.siamfc",
    "Tracker": "siamfast.tracking.registry",
    "augment_boxes": "siamfast.data.augmentation",
    "draw_augmentation": "siamfast.data.augmentation",
}
_MODULES = ("compat", "nn")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_MODULES})


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"siamfast.{name}")
    raise AttributeError(f"module 'siamfast' has no attribute {name!r}")
