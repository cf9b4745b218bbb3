"""The ops, one folder each: the public function, its arguments, autograd, the specification and the backends.

siamfc_crops and propagate_labels are compositions of them, one file each; dispatch, library and lasting serve all.
"""

# Ops with their own backends: packages here with `can_run`, which `siamfast info` calls.
OPS = ("xcorr", "balanced_logistic_loss", "correspondence_warp", "crop_and_resize", "augment")
