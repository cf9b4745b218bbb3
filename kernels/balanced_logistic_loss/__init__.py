"""Triton kernels of balanced_logistic_loss, and their launchers."""
