# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine moves to and fro while agents, libvirt daemons and the XMPP server are killed at random moments.

After each move the machine must exist once, be managed and logged in where libvirt has it, and run on. The seed makes a
campaign repeatable as far as the moments are concerned: ARCHIPEL_FAULT_SEED, ARCHIPEL_FAULT_ROUNDS (`make test-all`
sets many).
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from people import CONTROL, HYPERVISOR, Failed, Machine, Person
from xmpp_stream import Refused

SEED = int(os.environ.get("ARCHIPEL_FAULT_SEED", "1"))
ROUNDS = int(os.environ.get("ARCHIPEL_FAULT_ROUNDS", "4"))
# Longer than any pause between two attempts to log in or to hand over, all of them together.
PATIENCE = 90
# A live migration in the lab takes three seconds, the hand-over a tenth of one.
MOMENTS = 4.0

FAULTS = {
    "agent of the source": ("source", "systemctl kill --signal=KILL archipel-agent"),
    "agent of the target": ("target", "systemctl kill --signal=KILL archipel-agent"),
    "libvirtd of the source": ("source", "systemctl restart libvirtd"),
    "libvirtd of the target": ("target", "systemctl restart libvirtd"),
    "XMPP server": ("xmpp", "systemctl restart ejabberd"),
}
ROWS = (
    "import sqlite3; [print(*row) for row in sqlite3.connect('/var/lib/archipel/hypervisor.sqlite3').execute("
    "'SELECT jid, handover_to IS NULL, next_password IS NULL, releasing FROM virtualmachines')]"
)


class Traveller(Machine):
    """A machine that runs, wherever it is."""

    def places(self) -> tuple[list[str], list[str]]:
        """(hosts whose libvirt has it, hosts whose agent has it and nothing left to do)."""
        hosts = self.platform.hypervisors[:2]
        domains = [host for host in hosts if self.uuid in self.platform.run(host, "virsh list --uuid --all")]
        rows = [host for host in hosts if self.bare in self.platform.run(host, f'python3 -c "{ROWS}"')]
        settled = f"{self.bare} 1 1 0"
        done = [host for host in rows if settled in self.platform.run(host, f'python3 -c "{ROWS}"')]
        return domains, rows if rows == done else [*rows, "unsettled"]


@contextlib.contextmanager
def automation(platform):
    with platform.stream() as stream:
        stream.login("automation", platform.password("automation"), f"faults{time.monotonic_ns()}")
        stream.write("<presence/>")
        yield Person(stream, platform.domain)


def await_agents(platform):
    """Until the agents are back from what was done to them."""
    deadline = time.monotonic() + PATIENCE
    waiting = list(platform.hypervisors)
    while waiting:
        with contextlib.suppress(Failed, Refused, OSError), automation(platform) as person:
            person.act(f"{waiting[0]}@{platform.domain}/{waiting[0]}", HYPERVISOR, "rostervm")
            del waiting[0]
            continue
        assert time.monotonic() < deadline, f"the agent of {waiting[0]} has not come back"
        time.sleep(0.5)


@pytest.fixture
def traveller(platform):
    machine = Traveller(platform)
    machine.define("<disk type='file' device='cdrom'><source file='/vm/iso/guest.iso'/><target dev='sda'/></disk>")
    machine.virsh("start")
    hypervisor = f"{machine.host}@{platform.domain}/{machine.host}"
    with automation(platform) as person:
        person.act(hypervisor, HYPERVISOR, "manage", f"<item jid='{machine.bare}'/>")
    yield machine
    await_agents(platform)
    for host in platform.hypervisors[:2]:
        machine.host = host
        with automation(platform) as person, contextlib.suppress(Failed):
            jid = f"{host}@{platform.domain}/{host}"
            person.act(jid, HYPERVISOR, "unmanage", f"<item jid='{machine.bare}'/>")
        machine.remove()


def move(platform, machine, source, target):
    """Asks for the move; what comes of it is not this function's business."""
    with contextlib.suppress(Failed, Refused, OSError), automation(platform) as person:
        destination = f"{target}@{platform.domain}/{target}"
        person.act(f"{machine.bare}/{source}", CONTROL, "migrate", hypervisorjid=destination)


def settled(platform, machine):
    """Where the machine is, when all agree."""
    deadline = time.monotonic() + PATIENCE
    while True:
        domains, rows = machine.places()
        if len(domains) == 1 and domains == rows:
            with contextlib.suppress(Failed, Refused, OSError), automation(platform) as person:
                info = person.act(f"{machine.bare}/{domains[0]}", CONTROL, "info")[0]
                assert info.get("state") == "1"
                return domains[0]
        assert time.monotonic() < deadline, f"libvirt has it on {domains}, agents on {rows}"
        time.sleep(0.5)


def test_a_machine_is_neither_lost_nor_doubled(platform, traveller):
    dice = random.Random(SEED)
    where = settled(platform, traveller)
    with ThreadPoolExecutor() as beside:
        for number in range(ROUNDS):
            source, target = where, next(host for host in platform.hypervisors[:2] if host != where)
            fault = dice.choice(sorted(FAULTS))
            moment = dice.uniform(0, MOMENTS)
            asked = beside.submit(move, platform, traveller, source, target)
            time.sleep(moment)
            side, command = FAULTS[fault]
            platform.run({"source": source, "target": target, "xmpp": platform.xmpp}[side], command)
            begin = time.monotonic()
            where = settled(platform, traveller)
            seconds = time.monotonic() - begin
            print(f"{number}: {source} to {target}, {fault} at {moment:.1f} s: on {where} after {seconds:.1f} s")
            asked.result()
