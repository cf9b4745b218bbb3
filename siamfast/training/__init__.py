"""The trainer: configurations, one loop with exact resume, and one file per task."""
