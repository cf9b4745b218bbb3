"""The lean trainer: one config, one loop, exact resume."""
