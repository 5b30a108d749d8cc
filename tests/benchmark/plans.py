# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan of a machine costs in the agent, with libvirt's real driver: the machine "bench" of prepare.yml."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import fleet
from conftest import Platform

ROUNDS = 100


def rows(inventory: str) -> list[tuple[str, str, str]]:
    """The lines of the table: what, measured, wanted."""
    with tempfile.TemporaryDirectory() as directory:
        platform = Platform(inventory, Path(directory))
        host = platform.hypervisors[0]
        jid = f"{host}@{platform.domain}/{host}"
        with fleet.log_in(platform) as client:
            return _measure(client, jid)


def _measure(client: fleet.Client, jid: str) -> list[tuple[str, str, str]]:
    def content(what: str, payload: dict[str, object]) -> str:
        return fleet.action("archipel:declaration", what, escape(json.dumps(payload)))

    answer = client.stream.ask("set", content("inventory", {"names": ["bench"]}), jid)
    uuid = json.loads("".join(answer.itertext()))["vms"][0]["uuid"]

    def cost(*domains: str) -> float:
        """Milliseconds of a plan request, the median."""
        vms = [{"uuid": uuid, "name": "bench", "state": "present", "domain": domain} for domain in domains]
        request = [(jid, content("plan", {"vms": vms}))]
        return statistics.median(client.ask_all(request) for dummy in range(ROUNDS)) * 1000

    nothing = cost()
    same = cost("<domain><memory unit='MiB'>128</memory></domain>")
    other = cost("<domain><memory unit='MiB'>192</memory></domain>")
    return [
        ("plan of a machine that is as declared, in the agent", f"{same - nothing:.1f} ms", "3 ms"),
        ("plan of a machine whose memory is to change", f"{other - nothing:.1f} ms", "3 ms"),
    ]
