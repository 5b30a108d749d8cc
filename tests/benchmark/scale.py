# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What archipel_fleet costs where there are many hypervisors: agents that share the lab's, each with 100 machines.

Each agent has a libvirt test driver in its own process. ARCHIPEL_BENCH_AGENTS says how many in the end (default 50).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from agents import OWN_TEST_DRIVER, Agent, hypervisors
from converge import ROUNDS, Run, absent, declared, environment_of, online
from fleet import Platform

ROOT = Path(__file__).resolve().parents[2]
FEW = 10
MANY = int(os.environ.get("ARCHIPEL_BENCH_AGENTS", "50"))
EACH = 100
MEMORY = 300  # MiB
# Seconds that the server may have for the nodes of new machines, which are made when these are online.
SETTLED = 30


def rows(inventory: str) -> list[tuple[str, str, str]]:
    """The lines of the table: what, measured, wanted."""
    with tempfile.TemporaryDirectory() as directory:
        platform = Platform(inventory, Path(directory))
        hosts = platform.hypervisors
        nodes = [f"bench-{number}" for number in range(MANY)]
        agents = [Agent(platform, hosts[at % len(hosts)], node, OWN_TEST_DRIVER) for at, node in enumerate(nodes)]
        made: list[dict[str, object]] = []
        try:
            few = _unchanged(platform, inventory, agents[:FEW], made)
            many = _unchanged(platform, inventory, agents, made)
            # One agent's after the other: the server does not remove thousands of nodes at once.
            for node in nodes:
                Run(environment_of(platform), vms=absent([vm for vm in made if vm["hypervisor"] == node]))
        finally:
            for agent in agents:
                agent.stop()
            hypervisors(inventory, [])
    growth = many.seconds / (few.seconds * MANY / FEW)
    return [
        (f"archipel_fleet, {FEW * EACH} machines of {FEW} agents as declared", f"{few.seconds:.2f} s", "2 s"),
        (f"{MANY * EACH} of {MANY}: x {growth:.2f} of linear", f"{many.seconds:.2f} s", f"{few.seconds * 5.5:.2f} s"),
        (f"memory of the module, {MANY * EACH} machines", f"{many.memory / 1024:.0f} MiB", f"{MEMORY} MiB"),
    ]


def _unchanged(platform: Platform, inventory: str, agents: list[Agent], made: list[dict[str, object]]) -> Run:
    """The median run over machines that are as declared, EACH of each agent; ``made`` are those that there are."""
    hypervisors(inventory, [agent.node for agent in agents])
    for agent in agents[len(made) // EACH :]:
        agent.start()
    environment = environment_of(platform)
    new = [agent.node for agent in agents[len(made) // EACH :]]
    for start in range(0, len(new), FEW):
        # These agents have no peers, so the server makes an account for each machine first, and has only so much time.
        nodes = new[start : start + FEW]
        vms = declared(nodes, len(nodes) * EACH)
        run = Run(environment, vms=vms)
        made += vms
        print(f"{len(vms)} machines made in {run.seconds:.0f} s", file=sys.stderr)
        online(platform, run)
    time.sleep(SETTLED)
    runs = [Run(environment, vms=made) for dummy in range(ROUNDS)]
    if any(run.result["changed"] for run in runs):
        sys.exit("the machines have changed meanwhile")
    print([run.seconds for run in runs], [run.memory for run in runs], file=sys.stderr)
    middle = statistics.median(run.seconds for run in runs)
    return next(run for run in runs if run.seconds == middle)


if __name__ == "__main__":
    for row in rows(str(ROOT / "inventories" / "lab" / "hosts")):
        print(f"{row[0]:<70}{row[1]:>10}{row[2]:>12}")
