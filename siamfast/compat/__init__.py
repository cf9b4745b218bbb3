"""What other trackers' projects left behind, made usable here: checkpoints by their key layout."""
