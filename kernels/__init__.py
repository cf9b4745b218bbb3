"""Triton kernels and their launchers, one folder per op; they load when a CUDA tensor first needs them."""
