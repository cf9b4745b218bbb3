"""The C++ under sanitizers, by hand: `make sanitize`."""
