"""The commands of `siamfast` that have no folder of their own."""
