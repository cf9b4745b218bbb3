"""Fuzzing of all parsers with damaged and random input, started by hand: `make fuzz`."""
