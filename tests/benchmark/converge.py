# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What archipel_fleet costs, beside raw libvirt and, per machine, community.libvirt.virt in a loop.

The first two hypervisors have an agent more each, over libvirt's test driver; the real guests are those of the host's
own agent.
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fleet
import tasks
from agents import TEST_DRIVER, Agent, Watcher, hypervisors
from fleet import Platform

ROOT = Path(__file__).resolve().parents[2]
MACHINES = 200
GUESTS = 20
ROUNDS = 3
# Seconds in which the accounts of removed machines go, which costs the server more than what is measured.
SETTLED = 15
_TEST_DOMAIN = (
    "<domain type='test'><name>@NAME@</name><memory>8192</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>"
)
_KERNEL = {
    "kernel": "/vm/guest/vmlinuz",
    "initrd": "/vm/guest/initrd",
    "cmdline": "edd=off console=tty0 console=ttyS0",
}
_GUEST = (
    "<domain type='qemu'><name>@NAME@</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type>hvm</type>"
    "<kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline></os>"
    "<devices><serial type='pty'/></devices></domain>"
).format(**_KERNEL)


class Run:
    """One run of archipel_fleet's module: its result, when it began, the seconds it took and the KiB it held."""

    def __init__(self, environment: dict[str, str], **arguments: object) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("arguments", "result")]
            files[0].write_text(json.dumps(arguments))
            script = str(ROOT / "tests" / "benchmark" / "module.py")
            done = subprocess.run(
                [sys.executable, script, "archipel_fleet", *map(str, files)],
                env={**environment, "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(done.stderr)
            self.result = json.loads(files[1].read_text())
            self.begin, self.seconds, self.memory = map(float, done.stdout.split())
        if self.result.get("failed"):
            sys.exit(self.result["msg"][:2000])


def environment_of(platform: Platform) -> dict[str, str]:
    return {
        **os.environ,
        "ARCHIPEL_JID": f"automation@{platform.domain}",
        "ARCHIPEL_PASSWORD": platform.password("automation"),
        "ARCHIPEL_SERVER": platform.address(platform.xmpp),
        "ARCHIPEL_CA_FILE": platform.ca_file,
    }


def declared(nodes: list[str], count: int, **more: object) -> list[dict[str, object]]:
    """``count`` machines, taking turns on ``nodes``. No names are used twice: accounts go some time after machines."""
    common = {"state": "running", "memory": "8MiB", "vcpus": 1, "force": True, **more}
    name = f"many-{secrets.token_hex(3)}-"
    return [{"name": f"{name}{number}", "hypervisor": nodes[number % len(nodes)], **common} for number in range(count)]


def absent(vms: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{"name": vm["name"], "state": "absent", "force": True} for vm in vms]


def online(platform: Platform, run: Run) -> float:
    """When all entities of ``run`` had answered, in seconds since 1970."""
    with fleet.log_in(platform) as client:
        client.online([vm["vm"]["jid"] for vm in run.result["vms"]])
    return time.time()


def rows(inventory: str, incumbent: float) -> list[tuple[str, str, str]]:
    """The lines of the table: what, measured, wanted. ``incumbent``: milliseconds of an item of its loop."""
    with tempfile.TemporaryDirectory() as directory:
        platform = Platform(inventory, Path(directory))
        hosts = platform.hypervisors[:2]
        nodes = [f"bench-{number}" for number in range(len(hosts))]
        hypervisors(inventory, nodes)
        watchers = [Watcher(platform, host) for host in hosts]
        agents = [Agent(platform, host, node, TEST_DRIVER, nodes) for host, node in zip(hosts, nodes)]
        try:
            for one in (*watchers, *agents):
                one.start()
            time.sleep(5)
            loop = incumbent * MACHINES / 1000
            found = [(f"virt in a loop over {MACHINES} machines, from {tasks.ITEMS} measured", f"{loop:.0f} s", "")]
            found += _many(platform, nodes, watchers, loop)
            return [*found, *_guests(platform, hosts[0], watchers[0])]
        finally:
            for one in (*agents, *watchers):
                one.stop()
            hypervisors(inventory, [])


def _many(platform: Platform, nodes: list[str], watchers: list[Watcher], loop: float) -> list[tuple[str, str, str]]:
    environment = environment_of(platform)
    vms: list[dict[str, object]] = []
    raw, made, late = [], [], []
    for dummy in range(ROUNDS):
        if vms:
            Run(environment, vms=absent(vms))
            time.sleep(SETTLED)
        vms = declared(nodes, MACHINES)
        # Two hosts of one machine: one after the other, as one script would.
        raw.append(sum(watcher.raw(TEST_DRIVER, MACHINES // len(nodes), _TEST_DOMAIN) for watcher in watchers))
        for watcher in watchers:
            watcher.forget()
        run = Run(environment, vms=vms)
        running = max(watcher.started("many-", MACHINES // len(nodes)) for watcher in watchers)
        made.append(running - run.begin)
        late.append(online(platform, run) - running)
    print(raw, made, late, file=sys.stderr)
    same = [Run(environment, vms=vms) for dummy in range(ROUNDS)]
    if any(run.result["changed"] for run in same):
        sys.exit("the machines have changed meanwhile")
    seconds = statistics.median(run.seconds for run in same)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"fleet": vms}, file)
        file.flush()
        task = tasks.item("fleet", environment, "-e", f"@{file.name}") / 1000
    Run(environment, vms=absent(vms))
    limit = 1.3 * statistics.median(raw) + 0.5
    return [
        (f"archipel_fleet, {MACHINES} machines as declared, in a process of its own", f"{seconds:.2f} s", "1 s"),
        (
            f"one more task of it, as one more item of the loop: 1/{loop / task:.0f}",
            f"{task:.2f} s",
            f"{loop / 100:.2f} s",
        ),
        (f"raw libvirt, define and start {MACHINES}", f"{statistics.median(raw):.2f} s", ""),
        (f"archipel_fleet, until libvirt has {MACHINES} running", f"{statistics.median(made):.2f} s", f"{limit:.2f} s"),
        ("until all their entities are online, after that", f"{statistics.median(late):.1f} s", "8 s"),
    ]


def _guests(platform: Platform, host: str, watcher: Watcher) -> list[tuple[str, str, str]]:
    environment = environment_of(platform)
    raw, ours = [], []
    for dummy in range(ROUNDS):
        vms = declared([host], GUESTS, **{**_KERNEL, "memory": "64MiB", "serials": [{"type": "pty"}]})
        raw.append(watcher.raw("qemu:///system", GUESTS, _GUEST))
        ours.append(Run(environment, vms=vms).seconds)
        Run(environment, vms=absent(vms))
    print(raw, ours, file=sys.stderr)
    before, after = statistics.median(raw), statistics.median(ours)
    return [
        (f"raw libvirt, define and start {GUESTS} guests of qemu", f"{before:.1f} s", ""),
        (f"archipel_fleet, {GUESTS} guests of qemu: x {after / before:.2f}", f"{after:.1f} s", f"{before:.1f} s"),
    ]


if __name__ == "__main__":
    for row in rows(str(ROOT / "inventories" / "lab" / "hosts"), float(sys.argv[1])):
        print(f"{row[0]:<70}{row[1]:>10}{row[2]:>12}")
