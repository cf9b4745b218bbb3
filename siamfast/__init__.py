"""siamfast: the operations that siamese trackers spend their time in, each done once, well."""

from siamfast.ops._backend import backend
from siamfast.ops.xcorr import xcorr, xcorr_depthwise, xcorr_pixelwise

__all__ = ["backend", "xcorr", "xcorr_depthwise", "xcorr_pixelwise"]

