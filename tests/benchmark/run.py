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
import migrations
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


def main() -> None:
    subprocess.run(["make", "-s", "lab-up"], check=True, cwd=ROOT, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    exports = subprocess.run([LAB, "env"], check=True, cwd=ROOT, capture_output=True, text=True).stdout
    environment = {**os.environ, **dict(re.findall(r"export (\w+)='?(.*?)'?$", exports, re.MULTILINE))}
    playbook("prepare.yml", environment)
    try:
        empty, incumbent, ours = (item(task, environment) for task in ("empty", "incumbent", "ours"))
        planned = plans.rows(INVENTORY + "/hosts")
    finally:
        playbook("cleanup.yml", environment)
    rows = [
        ("an empty module on the controller", f"{empty:.0f} ms", ""),
        ("community.libvirt.virt, a domain that is as declared", f"{incumbent:.0f} ms", f"{incumbent - empty:+.0f} ms"),
        ("archipel_vm, a machine that is as declared", f"{ours:.0f} ms", f"{ours - empty:+.0f} ms"),
    ]
    hosts = INVENTORY + "/hosts"
    rows += [*planned, *migrations.rows(hosts), *fleet.rows(hosts)]
    rows += [*converge.rows(hosts, incumbent, ITEMS), *scale.rows(hosts)]
    for row in rows:
        print(f"{row[0]:<78}{row[1]:>10}{row[2]:>18}")


if __name__ == "__main__":
    main()
