"""Triton kernels of correspondence_warp, and their launchers."""
