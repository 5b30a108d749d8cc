# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's bridge on this machine, and its way out."""

from __future__ import annotations

from pathlib import Path

from .process import run
from .topology import PREFIX_LENGTH, Lab


def up(lab: Lab) -> None:
    """Make the bridge and masquerade what leaves it; nothing happens to what is there already."""
    if not Path(f"/sys/class/net/{lab.bridge}").exists():
        run(["ip", "link", "add", lab.bridge, "type", "bridge"])
    run(["ip", "address", "replace", f"{lab.gateway}/{PREFIX_LENGTH}", "dev", lab.bridge])
    run(["ip", "link", "set", lab.bridge, "up"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    run(["nft", "-f", "-"], stdin=_rules(lab))


def _rules(lab: Lab) -> str:
    """A table of the lab's own. The first line makes the second succeed; all lines are one transaction."""
    table = f"table ip {lab.bridge.replace('-', '_')}"
    return f"""
        {table} {{}}
        delete {table}
        {table} {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                ip saddr {lab.subnet} ip daddr != {lab.subnet} masquerade
            }}
        }}
    """


def down(lab: Lab) -> None:
    """Remove the bridge and the table, as far as they are there."""
    run(["nft", "delete", "table", "ip", lab.bridge.replace("-", "_")], check=False)
    if Path(f"/sys/class/net/{lab.bridge}").exists():
        run(["ip", "link", "delete", lab.bridge])
