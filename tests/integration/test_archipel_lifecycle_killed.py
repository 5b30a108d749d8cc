# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent is killed between every two durable steps of alloc, clone and free.

What was to be made is there as a whole or not at all, disks and account included; what was to go is gone or as it was.
ARCHIPEL_FAULT_STEPS and ARCHIPEL_FAULT_SEED choose the points, as in test_archipel_agent_killed.py.
"""

from __future__ import annotations

import contextlib
import random
import shlex
import time
import uuid as uuidlib

import pytest
from fault_world import INTERRUPTED, PATIENCE, Truth, World
from people import DOMAIN, HYPERVISOR
from test_archipel_agent_killed import SEED, STEPS, Crashes

POOL = "/vm/drives"
DISK = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='vda'/></disk>"
UNFINISHED = (
    "import sqlite3; "
    "print(*sqlite3.connect('/var/lib/archipel/hypervisor.sqlite3').execute('SELECT uuid, action FROM unfinished'))"
)


class Site:
    """The first hypervisor, with a volume to make machines of."""

    def __init__(self, world: World, path: str) -> None:
        self.world, self.host, self.path = world, world.hosts[0], path

    def act(self, action: str, content: str = "", **attributes: str) -> str:
        """The address of the machine that was made."""
        jid = self.world.jid(self.host)
        with self.world.person(jid) as person:
            return person.act(jid, HYPERVISOR, action, content, **attributes)[0].get("jid")

    def alloc(self, name: str) -> str:
        xml = DOMAIN.format(name=name, uuid="", devices=DISK.format(self.path)).replace("<uuid></uuid>", "")
        return self.act("alloc", xml, name=name)

    def settled(self) -> tuple[Truth, set[str]]:
        """The truth and the files of the pool, once nothing is left to do."""
        deadline = time.monotonic() + PATIENCE
        while True:
            truth = self.world.settled()
            if not self.world.platform.run(self.host, f"python3 -c {shlex.quote(UNFINISHED)}").strip():
                return truth, set(self.world.platform.run(self.host, f"ls {POOL}").split())
            assert time.monotonic() < deadline, "an intention is left"
            time.sleep(0.5)

    def free(self, name: str) -> None:
        """The machine of that name, if there is one, and its copies of disks."""
        truth, dummy = self.settled()
        for uuid, (known, _settled) in truth.rows[self.host].items():
            if known == name:
                self.act("free", jid=f"{uuid}@{self.world.platform.domain}")
                self.world.platform.run(self.host, f"rm -f {POOL}/{uuid}-*; virsh -q pool-refresh default")
        self.settled()


@pytest.fixture
def site(platform):
    world = World(platform)
    host, name = world.hosts[0], f"killed-{uuidlib.uuid4().hex[:8]}.qcow2"
    crashes = Crashes(platform)
    crashes.install(host)
    platform.run(host, f"virsh -q vol-create-as default {name} 64M --format qcow2")
    # Something to copy, so that the copy takes its time.
    platform.run(host, f"qemu-io -f qcow2 -c 'write -P 0x41 0 32M' {POOL}/{name}")
    site = Site(world, f"{POOL}/{name}")
    site.settled()
    yield site
    crashes.remove(host)
    platform.run(host, f"virsh -q vol-delete --pool default {name}")
    site.settled()


def name_of(action: str) -> str:
    return f"{action}-{uuidlib.uuid4().hex[:8]}"


def points(site: Site, action: str, ask) -> list[int]:
    """Where to kill, by what the action did when nothing happened to it."""
    crashes = Crashes(site.world.platform)
    crashes.arm(site.host, 0)
    ask()
    site.settled()
    steps = crashes.disarm(site.host)
    assert steps
    print(f"{action}: {'; '.join(steps)}")
    every = range(1, len(steps) + 1)
    return sorted(random.Random(f"{SEED}{action}").sample(every, min(STEPS, len(every))))


def killed(site: Site, point: int, ask) -> tuple[Truth, set[str]]:
    crashes = Crashes(site.world.platform)
    crashes.arm(site.host, point)
    with contextlib.suppress(*INTERRUPTED):
        ask()
    found = site.settled()
    crashes.disarm(site.host)
    return found


@pytest.mark.parametrize("action", ["alloc", "clone"])
def test_what_was_to_be_made_is_whole_or_not_at_all(site, action):
    parent = name_of("parent")
    jid = site.alloc(parent)
    name = name_of(action)

    def ask() -> None:
        if action == "alloc":
            site.alloc(name)
        else:
            site.act("clone", jid=jid, name=name)

    chosen = points(site, action, ask)
    site.free(name)
    before, files = site.settled()
    for point in chosen:
        truth, now = killed(site, point, ask)
        made = {uuid for uuid, (known, dummy) in truth.domains[site.host].items() if known == name}
        managed = {uuid for uuid, (known, dummy) in truth.rows[site.host].items() if known == name}
        copies = {f"{uuid}-vda.qcow2" for uuid in made} if action == "clone" else set()
        assert (made == managed, now - files) == (True, copies), f"killed after step {point}"
        assert set(before.rows[site.host]) <= set(truth.rows[site.host])
        site.free(name)
    site.free(parent)


def test_what_was_to_go_is_gone_or_as_it_was(site):
    name = name_of("free")
    jid = site.alloc(name)

    def ask() -> None:
        site.act("free", jid=jid)

    chosen = points(site, "free", ask)
    for point in chosen:
        jid = site.alloc(name)
        uuid = jid.partition("@")[0]
        truth, files = killed(site, point, ask)
        assert (uuid in truth.domains[site.host]) == (uuid in truth.rows[site.host]), f"killed after step {point}"
        assert site.path.rpartition("/")[2] in files
        site.free(name)
