# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan of a machine costs in the agent, with libvirt's real driver: the machine "bench" of prepare.yml."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import uuid
from pathlib import Path
from xml.sax.saxutils import escape

import fleet
from conftest import Platform

ROUNDS = 100
# As many devices as few machines have.
MANY = (
    "<domain type='qemu'><memory unit='MiB'>128</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
    + "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/vm/guest/initrd'/>"
        f"<target dev='vd{letter}' bus='virtio'/><readonly/></disk>"
        for letter in "abcdefgh"
    )
    + "<interface type='network'><source network='default'/><model type='virtio'/></interface>" * 6
    + "<serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    "<graphics type='vnc'/><video><model type='vga'/></video><watchdog model='i6300esb' action='reset'/>"
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng></devices></domain>"
)
CLASSES = ["disk", "interface", "serial", "channel", "graphics", "video", "watchdog", "rng"]


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

    def request(what: str, *machines: dict[str, object]) -> str:
        return content(what, {"vms": machines})

    def result(what: str, machine: dict[str, object]) -> dict[str, object]:
        answer = client.stream.ask("set", request(what, machine), jid)
        (found,) = json.loads("".join(answer.itertext()))["results"]
        if "error" in found:
            sys.exit(f"{what} of {machine['name']}: {found['error']}")
        return found

    def cost(*machines: dict[str, object]) -> float:
        """Milliseconds of a plan of each, the median."""
        return statistics.median(client.ask_all([(jid, request("plan", one))]) for one in machines) * 1000

    def same(machine: dict[str, object], **stated: object) -> float:
        declared = {**machine, **stated}
        if result("plan", declared).get("changed"):
            sys.exit(f"{machine['name']} is not as declared")
        return cost(*[declared] * ROUNDS)

    def other(machine: dict[str, object]) -> float:
        """No two requests are the same, so that the agent has to ask libvirt each time."""
        texts = (f"<domain><memory unit='MiB'>{192 + number}</memory></domain>" for number in range(ROUNDS))
        return cost(*({**machine, "domain": text} for text in texts))

    answer = client.stream.ask("set", content("inventory", {"names": ["bench"]}), jid)
    small = {"uuid": json.loads("".join(answer.itertext()))["vms"][0]["uuid"], "name": "bench", "state": "present"}
    large = {"uuid": str(uuid.uuid4()), "name": "bench-many", "state": "present"}
    result("apply", {**large, "domain": MANY})
    try:
        nothing = statistics.median(client.ask_all([(jid, request("plan"))]) for dummy in range(ROUNDS)) * 1000
        figures = [
            ("as declared", same(small, domain="<domain><memory unit='MiB'>128</memory></domain>")),
            ("as declared, with 20 devices", same(large, domain=MANY, exact=CLASSES)),
            ("as declared by its xml alone, with 20 devices", same(large, domain=MANY)),
            ("whose memory is to change", other(small)),
            ("whose memory is to change, with 20 devices", other(large)),
        ]
    finally:
        result("apply", {**large, "state": "absent"})
    return [(f"plan: a machine {what}", f"{took - nothing:.1f} ms", "3 ms") for what, took in figures]
