# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fault campaign: random operations on machines of two hypervisors, while agents, libvirt daemons and the XMPP server
are killed and hosts lose their link at random moments.

In the end each machine must exist once, as the last operation that was acknowledged left it; accounts, sessions and
rows must be libvirt's truth; at no time may a machine run twice. ARCHIPEL_FAULT_SEED repeats a campaign's operations,
faults and pauses; ARCHIPEL_FAULT_OPERATIONS sets its length (`make faults`: 300).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import subprocess
import threading
import time
import uuid as uuidlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_world import INTERRUPTED, PAUSED, RUNNING, SHUTOFF, Truth, World

SEED = int(os.environ.get("ARCHIPEL_FAULT_SEED", "1"))
OPERATIONS = int(os.environ.get("ARCHIPEL_FAULT_OPERATIONS", "12"))
MACHINES = 6
# Operations under way at the same time, each on another machine.
WORKERS = 3
PAUSES = (1.0, 6.0)  # seconds between two faults

LINK = "systemd-run --quiet --collect sh -c 'ip link set host0 down; sleep {}; ip link set host0 up'"
FAULTS = {
    "agent": "systemctl kill --signal=KILL archipel-agent",
    # Its main process alone: QEMU's may be in the same control group.
    "libvirtd": "systemctl kill --kill-whom=main --signal=KILL libvirtd",
    "link": LINK.format(3),
    "link for long": LINK.format(20),
}
KILL_SERVER = "systemctl kill --signal=KILL ejabberd; sleep 1; systemctl restart ejabberd"
# How often each is chosen.
WEIGHTS = {"agent": 6, "libvirtd": 3, "link": 2, "link for long": 1}
KINDS = {
    "run": 6,
    "stop": 3,
    "pause": 2,
    "migrate": 6,
    "remove": 2,
    "virsh start": 1,
    "virsh destroy": 1,
    "virsh suspend": 1,
    "virsh resume": 1,
}
STATES = {"run": ("running", RUNNING), "stop": ("stopped", SHUTOFF), "pause": ("paused", PAUSED)}
# virsh's commands: the state that it must be in, and the one that follows.
VIRSH = {
    "virsh start": (SHUTOFF, RUNNING),
    "virsh destroy": (RUNNING, SHUTOFF),
    "virsh suspend": (RUNNING, PAUSED),
    "virsh resume": (PAUSED, RUNNING),
}


@dataclasses.dataclass
class Machine:
    """What the campaign may rely on: None is "not known", after an operation that was interrupted."""

    uuid: str
    name: str
    exists: bool | None = False
    state: int | None = None
    host: str = ""
    mutex: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Campaign:
    """Operations and faults, all drawn from the seed before the first one begins."""

    def __init__(self, world: World) -> None:
        self.world = world
        dice = random.Random(SEED)
        uuids = [str(uuidlib.UUID(int=dice.getrandbits(128), version=4)) for dummy in range(MACHINES)]
        self.machines = [Machine(uuid, f"fault-{number}") for number, uuid in enumerate(uuids)]
        self.operations = [
            (dice.choice(self.machines), dice.choices(list(KINDS), KINDS.values())[0], dice.choice(world.hosts))
            for dummy in range(OPERATIONS)
        ]
        self.faults = [self._fault(dice) for dummy in range(100 * OPERATIONS)]
        self.done = threading.Event()
        self.doubled: list[str] = []

    def _fault(self, dice: random.Random) -> tuple[float, str, str, str]:
        """(pause, name, host, command)"""
        pause = dice.uniform(*PAUSES)
        if dice.random() < 0.1:
            return pause, "XMPP server", self.world.platform.xmpp, KILL_SERVER
        name = dice.choices(list(WEIGHTS), WEIGHTS.values())[0]
        return pause, name, dice.choice(self.world.hosts), FAULTS[name]

    def run(self) -> None:
        """All operations, with faults until the last one is over."""
        with ThreadPoolExecutor() as beside:
            helpers = [beside.submit(self._break), beside.submit(self._watch)]
            with ThreadPoolExecutor(WORKERS) as workers:
                asked = [workers.submit(self._operate, *operation) for operation in self.operations]
            self.done.set()
            for future in [*asked, *helpers]:
                future.result()

    def _break(self) -> None:
        for pause, name, host, command in self.faults:
            if self.done.wait(pause):
                return
            print(f"{time.monotonic():.1f} fault: {name} of {host}", flush=True)
            self.world.platform.run(host, command, check=False)

    def _watch(self) -> None:
        """Looks for a machine that runs twice: on one host before and after it is seen to run on the other."""
        first, second = self.world.hosts
        while not self.done.wait(2):
            with contextlib.suppress(subprocess.CalledProcessError, ValueError):
                before, there, after = (self.world.running(host) for host in (first, second, first))
                self.doubled += sorted(before & there & after)

    def _operate(self, machine: Machine, kind: str, host: str) -> None:
        with machine.mutex:
            begun = time.monotonic()
            try:
                outcome = self._ask(machine, kind, host)
            except INTERRUPTED as fault:
                outcome = f"interrupted: {fault}"
            print(f"{begun:.1f} {machine.name} {kind}: {outcome} after {time.monotonic() - begun:.1f} s", flush=True)

    def _ask(self, machine: Machine, kind: str, host: str) -> str:
        """Asks for one operation, or for `run` where the machine is not there for it; what came of it."""
        place = self._place(machine, host)
        if place is None:
            return "left out: nobody knows where it is"
        if kind not in STATES and (machine.exists is not True or machine.state != VIRSH.get(kind, (machine.state,))[0]):
            kind = "run"
        machine.host = place
        if kind in VIRSH:
            return self._ask_virsh(machine, kind, place)
        if kind == "migrate":
            self.world.migrate(place, machine.uuid, self.world.other(place))
            return f"migrated from {place}"
        if kind == "remove":
            machine.exists = machine.state = None
            self.world.apply(place, machine.uuid, machine.name, "absent")
            machine.exists = False
            return f"removed from {place}"
        machine.exists, machine.state = machine.exists or None, None
        self.world.apply(place, machine.uuid, machine.name, STATES[kind][0])
        machine.exists, machine.state = True, STATES[kind][1]
        return f"{STATES[kind][0]} on {place}"

    def _ask_virsh(self, machine: Machine, kind: str, place: str) -> str:
        machine.state = None
        try:
            self.world.platform.run(place, f"{kind} {machine.uuid}".replace("virsh", "virsh -q", 1))
        except subprocess.CalledProcessError:
            return f"{kind} refused on {place}"
        machine.state = VIRSH[kind][1]
        return f"{kind} on {place}"

    def _place(self, machine: Machine, host: str) -> str | None:
        """The host that has it, or the one for a new machine; None where that cannot be told."""
        if machine.exists is False:
            machine.host = host
            return host
        try:
            places = [one for one in self.world.hosts if machine.uuid in self.world.look(one)["domains"]]
        except (subprocess.CalledProcessError, ValueError):
            return None
        if not places and machine.exists is None:
            # Whatever was interrupted was asked of that host's agent, which does one thing after the other.
            return machine.host
        return places[0] if len(places) == 1 else None

    def complaints(self, truth: Truth) -> list[str]:
        """Where the truth is not what was acknowledged, or not what the pushes tell."""
        found = []
        for machine in self.machines:
            exists, state = bool(truth.places(machine.uuid)), truth.state(machine.uuid)
            if machine.exists is not None and exists != machine.exists:
                found.append(f"{machine.name} must {'' if machine.exists else 'not '}exist")
            elif exists and self.world.told(machine.uuid) != state:
                found.append(f"{machine.name} is in state {state}, its pushes tell {self.world.told(machine.uuid)}")
            elif machine.state is not None and state != machine.state:
                found.append(f"{machine.name} is in state {state}, not {machine.state}")
        return found


@pytest.fixture
def campaign(platform):
    world = World(platform)
    campaign = Campaign(world)
    world.settled()
    yield campaign
    for machine in campaign.machines:
        world.remove(machine.uuid, machine.name)
    truth = world.settled()
    assert not truth.accounts


@pytest.fixture
def machine(platform):
    world = World(platform)
    machine = Machine(str(uuidlib.uuid4()), "fault-" + uuidlib.uuid4().hex[:8])
    world.apply(world.hosts[0], machine.uuid, machine.name, "stopped")
    world.settled()
    yield world, machine
    world.remove(machine.uuid, machine.name)
    world.settled()


# ejabberd's database acknowledges what it writes down up to two seconds later.


def test_server_that_forgets_a_new_password(machine):
    world, machine = machine
    source, target = world.hosts
    world.migrate(source, machine.uuid, target)
    world.platform.run(world.platform.xmpp, KILL_SERVER)
    truth = world.settled()
    assert truth.accounts == {machine.uuid}
    assert f"{machine.uuid}@{world.platform.domain}/{target}" in truth.sessions


def test_server_that_forgets_a_removal(machine):
    world, machine = machine
    world.apply(world.hosts[0], machine.uuid, machine.name, "absent")
    world.platform.run(world.platform.xmpp, KILL_SERVER)
    assert not world.settled().accounts
    # Its account is made again, also where the server has it still.
    world.apply(world.hosts[0], machine.uuid, machine.name, "stopped")
    world.platform.run(world.platform.xmpp, KILL_SERVER)
    assert world.settled().accounts == {machine.uuid}


def test_no_machine_is_lost_or_doubled(campaign):
    world = campaign.world
    print(f"seed {SEED}, {OPERATIONS} operations")
    campaign.run()
    assert campaign.doubled == []
    truth = world.settled()
    assert campaign.complaints(truth) == []
    for machine in campaign.machines:
        place = truth.places(machine.uuid)
        world.apply(place[0] if place else world.hosts[0], machine.uuid, machine.name, "running")
    truth = world.settled()
    assert {machine.uuid: truth.state(machine.uuid) for machine in campaign.machines} == {
        machine.uuid: RUNNING for machine in campaign.machines
    }
