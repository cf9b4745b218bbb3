"""Annotate video from a few labelled frames: boxes in files of several formats, tracked between them and blended."""
