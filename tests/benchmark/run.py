# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks on the lab, each beside its alternative in the same run, printed as one table.

`make bench` calls this. It brings the lab up, makes virtual machines and hypervisors of its own and removes them again.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import converge
import fleet
import plans
import scale

ROOT = Path(__file__).resolve().parents[2]
LAB = str(ROOT / "tests" / "lab" / "lab")
INVENTORY = str(ROOT / "inventories" / "lab")
ITEMS = 10
ROUNDS = 3


def playbook(name: str, environment: dict[str, str], *options: str) -> float:
    """Runs a playbook of this folder; the seconds it took."""
    command = ["ansible-playbook", "-i", INVENTORY, str(ROOT / "tests" / "benchmark" / name), *options]
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - start


def item(task: str, environment: dict[str, str]) -> float:
    """Milliseconds that one more item of a looped task costs; the start of Ansible cancels out."""
    rounds = []
    for dummy in range(ROUNDS):
        few = playbook("items.yml", environment, "--tags", task, "-e", "items=1")
        many = playbook("items.yml", environment, "--tags", task, "-e", f"items={1 + ITEMS}")
        rounds.append((many - few) / ITEMS * 1000)
    return statistics.median(rounds)


def virsh_migration(source: str, target: str) -> float:
    """Milliseconds of one live migration by virsh on the source, as the agent's user."""
    command = (
        "runuser -u archipel -- virsh -q -c qemu:///system migrate --live --p2p --tls --persistent --undefinesource "
        f"bench-raw qemu+tls://{target}/system"
    )
    start = time.monotonic()
    subprocess.run([LAB, "shell", source, command], check=True, cwd=ROOT, stdin=subprocess.DEVNULL)
    return (time.monotonic() - start) * 1000


def migrations(environment: dict[str, str]) -> tuple[float, float]:
    """Medians in milliseconds of a live migration: by virsh, and by a task beyond one that finds nothing to do."""
    raw, ours = [], []
    for turn in range(2 * ROUNDS):
        source, target = ("hv1", "hv2") if turn % 2 == 0 else ("hv2", "hv1")
        shell = time.monotonic()
        subprocess.run([LAB, "shell", source, "true"], check=True, cwd=ROOT, stdin=subprocess.DEVNULL)
        shell = (time.monotonic() - shell) * 1000
        raw.append(virsh_migration(source, target) - shell)
        moved = playbook("migrate.yml", environment, "-e", f"hypervisor={target}")
        again = playbook("migrate.yml", environment, "-e", f"hypervisor={target}")
        ours.append((moved - again) * 1000)
    return statistics.median(raw), statistics.median(ours)


def main() -> None:
    subprocess.run(["make", "-s", "lab-up"], check=True, cwd=ROOT, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    exports = subprocess.run([LAB, "env"], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    environment = {**os.environ, **dict(re.findall(r"export (\w+)='?(.*?)'?$", exports, re.MULTILINE))}
    playbook("prepare.yml", environment)
    try:
        empty, incumbent, ours = (item(task, environment) for task in ("empty", "incumbent", "ours"))
        planned = plans.rows(INVENTORY + "/hosts")
        raw, move = migrations(environment)
    finally:
        playbook("cleanup.yml", environment)
    rows = [
        ("an empty module on the controller", f"{empty:.0f} ms", ""),
        ("community.libvirt.virt, a domain that is as declared", f"{incumbent:.0f} ms", f"{incumbent - empty:+.0f} ms"),
        ("archipel_vm, a machine that is as declared", f"{ours:.0f} ms", f"{ours - empty:+.0f} ms"),
        ("live migration by virsh", f"{raw:.0f} ms", ""),
        ("live migration by archipel_vm, beyond nothing to do", f"{move:.0f} ms", f"x {move / raw:.2f}"),
    ]
    hosts = INVENTORY + "/hosts"
    rows += [*planned, *fleet.rows(hosts), *converge.rows(hosts, incumbent, ITEMS), *scale.rows(hosts)]
    for row in rows:
        print(f"{row[0]:<64}{row[1]:>10}{row[2]:>12}")


if __name__ == "__main__":
    main()
