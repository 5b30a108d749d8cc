# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prints the platform's virtual machines as archipel_vm_info tells them; the connection is in ARCHIPEL_*."""

from __future__ import annotations

import json
import subprocess
import sys

COLUMNS = ("name", "hypervisor", "state", "memory", "jid")


def machines() -> list[dict]:
    """The module's `vms`. A one-line answer reads `localhost | SUCCESS => {...}`."""
    module = ["ansible", "localhost", "--one-line", "-m", "archipel.platform.archipel_vm_info"]
    answer = subprocess.run(module, stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode:
        sys.exit(answer.stdout)
    return json.loads(answer.stdout.partition("=>")[2])["vms"]


def main() -> None:
    rows = [["VM", *(column.capitalize() for column in COLUMNS[1:-1]), "JID"]]
    rows += [[str(vm[column]) for column in COLUMNS] for vm in sorted(machines(), key=lambda vm: vm["name"])]
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
