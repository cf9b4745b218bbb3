"""Annotations to training pairs: readers, synthetic video, crops' geometry, augmentation."""
