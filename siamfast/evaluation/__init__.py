"""Evaluation of trackers: protocols, runs, metrics and the report."""
