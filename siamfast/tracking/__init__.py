"""Trackers of one target, mask propagation, and drawing of their results."""
