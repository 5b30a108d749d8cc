# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan of a machine costs, with libvirt's real driver: in the agent, and over XMPP.

The machine "bench" of prepare.yml, and one with as many devices as few machines have.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import typing as t
import uuid
from pathlib import Path
from xml.sax.saxutils import escape

import fleet
from conftest import Platform

Machine = t.Dict[str, t.Any]

ROUNDS = 100
PLANNING = Path(__file__).with_name("planning.py")
# As the agent's unit has it run: its user, its package, a folder in memory, and its view of the processors.
_RUN = (
    "systemd-run -q --wait --pipe --collect --unit archipel-plans --uid archipel -p RuntimeDirectory=archipel-planning"
    " -p BindReadOnlyPaths=/run/archipel-agent.cpuinfo:/proc/cpuinfo"
    " --setenv=PYTHONPATH=/usr/lib/archipel python3 /run/archipel-plans/planning.py < /run/archipel-plans/order"
)
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
            return _measure(platform, host, client, jid)


def _measure(platform: Platform, host: str, client: fleet.Client, jid: str) -> list[tuple[str, str, str]]:
    def content(what: str, payload: dict[str, object]) -> str:
        return fleet.action("archipel:declaration", what, escape(json.dumps(payload)))

    def request(what: str, *machines: Machine) -> str:
        return content(what, {"vms": machines})

    def result(what: str, machine: Machine) -> dict[str, object]:
        answer = client.stream.ask("set", request(what, machine), jid)
        (found,) = json.loads("".join(answer.itertext()))["results"]
        if "error" in found:
            sys.exit(f"{what} of {machine['name']}: {found['error']}")
        return found

    def over_xmpp(machines: list[Machine]) -> float:
        """Milliseconds of a plan beyond those of an empty one, each in its turn; the medians."""
        pairs = [[request("plan"), request("plan", machines[turn % len(machines)])] for turn in range(ROUNDS)]
        took = [[client.ask_all([(jid, one)]) for one in pair] for pair in pairs]
        nothing, planned = (statistics.median(column) for column in zip(*took))
        return (planned - nothing) * 1000

    answer = client.stream.ask("set", content("inventory", {"names": ["bench"]}), jid)
    small = {"uuid": json.loads("".join(answer.itertext()))["vms"][0]["uuid"], "name": "bench", "state": "present"}
    large = {"uuid": str(uuid.uuid4()), "name": "bench-many", "state": "present"}
    result("apply", {**large, "domain": MANY})
    try:
        cases = _cases(small, large)
        for label, machines in cases.items():
            if bool(result("plan", machines[0]).get("changed")) != (len(machines) > 1):
                sys.exit(f"{label}: the plan is another one")
        figures = _in_agent(platform, host, [small, large], list(cases.values()))
        table = []
        for (label, machines), figure in zip(cases.items(), figures):
            table.append((f"plan in the agent: a machine {label}", f"{figure['plan']:.1f} ms", "3 ms"))
            table.append(("  of it libvirt's daemon, which answers", f"{figure['daemon']:.1f} ms", ""))
            if figure["driver"]:
                table.append(("  of it libvirt's embedded driver, which defines it", f"{figure['driver']:.1f} ms", ""))
            table.append(("  over XMPP, beyond an empty plan", f"{over_xmpp(machines):.1f} ms", ""))
        return table
    finally:
        result("apply", {**large, "state": "absent"})


def _cases(small: Machine, large: Machine) -> dict[str, list[Machine]]:
    """What is to be planned in turns, by what is said of it."""

    def other(machine: Machine) -> list[Machine]:
        """No two are the same, so that the agent has to ask libvirt each time."""
        texts = (f"<domain><memory unit='MiB'>{192 + number}</memory></domain>" for number in range(ROUNDS))
        return [{**machine, "domain": text} for text in texts]

    return {
        "as declared": [{**small, "domain": "<domain><memory unit='MiB'>128</memory></domain>"}],
        "as declared, with 20 devices": [{**large, "domain": MANY, "exact": CLASSES}],
        "as declared by its xml alone, with 20 devices": [{**large, "domain": MANY}],
        "whose memory is to change": other(small),
        "whose memory is to change, with 20 devices": other(large),
    }


def _in_agent(
    platform: Platform, host: str, known: list[Machine], cases: list[list[Machine]]
) -> list[dict[str, float]]:
    """What planning.py prints on the host."""
    machines = {str(one["name"]): one["uuid"] for one in known}
    order = json.dumps({"rounds": ROUNDS, "machines": machines, "cases": cases})
    for name, text in (("planning.py", PLANNING.read_text()), ("order", order)):
        platform.run(host, f"install -d /run/archipel-plans; cat > /run/archipel-plans/{name} <<'EOF'\n{text}\nEOF")
    try:
        return json.loads(platform.run(host, _RUN))
    finally:
        platform.run(host, "rm -r /run/archipel-plans")


if __name__ == "__main__":
    for row in rows(str(Path(__file__).resolve().parents[2] / "inventories" / "lab" / "hosts")):
        print(f"{row[0]:<78}{row[1]:>10}{row[2]:>12}", flush=True)
