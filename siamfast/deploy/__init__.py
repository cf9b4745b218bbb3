"""Trackers without PyTorch: their networks as files, their constants as JSON, and examples that run them."""
