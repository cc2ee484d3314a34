"""Measures celeriac against the figures it promises, and against other task queues in the same run.

`python -m benchmarks` runs everything; `docs/benchmarks.md` says how each figure is taken.
"""
