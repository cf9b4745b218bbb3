"""Triton kernels of xcorr and xcorr_depthwise, and their launchers."""
