"""Measuring trackers: overlap, success and precision, and the sequences they are measured on."""
