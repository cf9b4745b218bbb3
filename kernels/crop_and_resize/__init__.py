"""Triton kernels of crop_and_resize, and their launchers."""
