"""Everything that needs a real GPU, in one command: `python -m benchmarks.gpu --out DIR`. See __main__.py."""
