"""Triton kernels and their launchers, one file per op; they load when a CUDA tensor first needs them."""
