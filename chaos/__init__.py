"""The fault campaign: real servers, real processes, real faults, and a checker of what came of them.

`python -m chaos` runs it (`make chaos`); docs/reliability.md is its report. It reads from the top down:

- `command` takes the options, `profile` says how much of each slice, `report` writes what came of it.
- `scenarios` are what happens: each is given a `Stage` and makes trouble on it.
- A `Stage` is one engine with a fleet (`fleet`: workers, producers, beats, each a process) and a `nemesis`, which makes
  the trouble and logs it. `engines` start the servers; `application` is what the workers run.
- All of them append to a `history`. `checker` reads it and holds every invariant against it (`invariants`).
- `controls` are planted bugs: a checker that misses one of them makes the run void.
- `simulator` runs the same workers' code on a virtual clock; `hostile` feeds it garbage.
"""
