"""The ops, a folder each: the public function, its arguments, autograd, the specification, and the backends.

siamfc_crops and propagate_labels are compositions of them, a file each; dispatch, library and lasting serve all.
"""

# Those with backends of their own: packages here that have `can_run`, which `siamfast info` asks.
OPS = ("xcorr", "balanced_logistic_loss", "correspondence_warp", "crop_and_resize", "augment")
