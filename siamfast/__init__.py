"""siamfast: the operations that siamese trackers spend their time in, each done once, well."""

from siamfast.ops._backend import backend
from siamfast.ops.balanced_logistic_loss import balanced_logistic_loss, logistic_labels, xcorr_balanced_loss
from siamfast.ops.crop_and_resize import crop_and_resize, mean_color
from siamfast.ops.siamfc_crops import SiamFCCrops, context_size, siamfc_crops
from siamfast.ops.xcorr import xcorr, xcorr_depthwise, xcorr_pixelwise
from siamfast.version import __version__

__all__ = [
    "SiamFCCrops",
    "__version__",
    "backend",
    "balanced_logistic_loss",
    "context_size",
    "crop_and_resize",
    "logistic_labels",
    "mean_color",
    "siamfc_crops",
    "xcorr",
    "xcorr_balanced_loss",
    "xcorr_depthwise",
    "xcorr_pixelwise",
]
