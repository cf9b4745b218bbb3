"""Tracking: the SiamFC tracker, video in and out, drawing, and `siamfast track`."""
