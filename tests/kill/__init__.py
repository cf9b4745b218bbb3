"""Commands killed at random moments and run again, started by hand: `make kill-test`."""
