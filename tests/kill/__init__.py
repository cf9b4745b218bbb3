"""Commands that are killed at random moments and run again, by hand: `make kill-test`."""
