# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task costs in Ansible: the tasks of items.yml, by their tags."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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


def item(task: str, environment: dict[str, str], *options: str) -> float:
    """Milliseconds that one more item of a looped task costs; the start of Ansible cancels out."""
    rounds = []
    for dummy in range(ROUNDS):
        few = playbook("items.yml", environment, "--tags", task, "-e", "items=1", *options)
        many = playbook("items.yml", environment, "--tags", task, "-e", f"items={1 + ITEMS}", *options)
        rounds.append((many - few) / ITEMS * 1000)
    return statistics.median(rounds)
