"""The workers' own code on a virtual clock: thousands of fleets, each with its faults, from nothing but a seed.

What runs is what production runs: `Station`, `Supervisor`, `Casualties`, `Beat`, the canvas, the application. What does
not is the operating system below them: `loop` is an event loop on which processes of many hosts live, crash and stop at
any `await`; `network` loses, delays, repeats and reorders calls to the servers, which are the memory adapters
(`broker`); `worker` forks processes of the loop. `world` puts a fleet, a load and a nemesis together, `oracle` holds
what came of it against the invariants, `seeds` runs many on all cores.

    python -m chaos.simulator --count 2000
    python -m chaos.simulator --seed 42

One seed gives one history, byte for byte, whatever the machine.
"""

from __future__ import annotations

from chaos.simulator.seeds import SeedFinding, SimulatorReport, run_seed, run_seeds

__all__ = ["SeedFinding", "SimulatorReport", "run_seed", "run_seeds"]
