"""One application per contestant, all with the same tasks.

Each is imported in an environment of its own, so none imports another, and nothing but `benchmarks.record`.
"""
