"""Triton kernels of augment, and their launchers."""
