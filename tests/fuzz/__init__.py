"""Every parser of ours on damaged and on random input, by hand: `make fuzz`."""
