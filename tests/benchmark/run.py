# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks on the lab, each beside its alternative in the same run, printed as one table.

`make bench` calls this. It brings the lab up, makes virtual machines and hypervisors of its own and removes them again.
What misses what is wanted is marked and counted, and is no error: the machine's speed changes from hour to hour.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import converge
import fleet
import migrations
import plans
import scale
import verdicts
from tasks import INVENTORY, ROOT, item, playbook

LAB = str(ROOT / "tests" / "lab" / "lab")


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
    rows += [*converge.rows(hosts, incumbent), *scale.rows(hosts)]
    print(verdicts.table(rows))


if __name__ == "__main__":
    main()
