"""Triton kernels of xcorr_balanced_loss, and their launchers."""
