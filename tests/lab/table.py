# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints the platform's virtual machines as archipel_vm_info tells them; the connection is in ARCHIPEL_*."""

from __future__ import annotations

import json
import os
import subprocess
import sys

COLUMNS = ("VM", "Hypervisor", "State", "Memory", "JID")


def machines() -> list[dict]:
    """The module's `vms`. The answer reads `localhost | SUCCESS => {...}`."""
    module = ["ansible", "localhost", "-i", "inventories/lab", "-m", "archipel.platform.archipel_vm_info"]
    environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    answer = subprocess.run(module, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if answer.returncode:
        sys.exit(answer.stdout)
    return json.loads(answer.stdout.partition("=>")[2])["vms"]


def row(vm: dict) -> tuple[str, ...]:
    """One machine's cells; `memory` is in KiB."""
    return vm["name"], vm["hypervisor"], vm["state"], f"{vm['memory'] // 1024} MiB", vm["jid"]


def main() -> None:
    rows = [COLUMNS, *map(row, machines())]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())


if __name__ == "__main__":
    main()
