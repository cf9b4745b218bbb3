"""Before the first import: the versions that are supported, wheels, the source distribution; standard library only."""
