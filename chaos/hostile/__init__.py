"""Hostile input: valid messages taken apart and put together wrongly, poison of every kind, and bombs.

- `messages` are valid ones in every form that a message has on a wire or in a store; `mutations` break them.
- `targets` are the ways of a message through a worker, up to its outcome, and of a result through a client.
- `fuzz` does that many times (`python -m chaos.hostile.fuzz`); `corpus` keeps what was once found.
- `poison` is the twelve kinds of it, with what the worker must say of each; `raw` puts it where only a broken or
  hostile producer would: into the stores themselves. `scenarios.f12_poison` does both under load.
"""
