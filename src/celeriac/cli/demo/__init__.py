"""The demo: a real job, map-reduce over the source of Python's own standard library."""
