"""The public ops: one file per op, each holding its function, argument checks, registration, autograd and dispatch."""
