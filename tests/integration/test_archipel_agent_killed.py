# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent is killed between every two durable steps of an operation, on each side that takes part.

What a killed agent leaves must be put right by its next start, and the operation asked for again must come to its end.
ARCHIPEL_FAULT_STEPS chooses how many points of each operation are tried, at random by ARCHIPEL_FAULT_SEED;
`make faults` tries all.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import time
import uuid as uuidlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_world import INTERRUPTED, PATIENCE, RUNNING, SHUTOFF, Truth, World

SEED = int(os.environ.get("ARCHIPEL_FAULT_SEED", "1"))
STEPS = int(os.environ.get("ARCHIPEL_FAULT_STEPS", "1"))
AGENT = (Path(__file__).parent / "faults" / "crashing_agent.py").read_text()
PLACE = "/usr/lib/archipel-faults/crashing_agent.py"
DROP_IN = "/etc/systemd/system/archipel-agent.service.d/faults.conf"
UNIT = f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 {PLACE}\nRestartSec=200ms\n"
ARMED, TAKEN = "/var/lib/archipel/faults-armed", "/var/lib/archipel/faults-steps"


class Crashes:
    """The way to arm the agent of a host."""

    def __init__(self, platform) -> None:
        self.platform = platform

    def install(self, host: str) -> None:
        for path, text in ((PLACE, AGENT), (DROP_IN, UNIT)):
            self.platform.run(host, f"mkdir -p {os.path.dirname(path)}; printf %s {shlex.quote(text)} > {path}")
        self.platform.run(host, "systemctl daemon-reload; systemctl restart archipel-agent")

    def remove(self, host: str) -> None:
        self.platform.run(host, f"rm -rf {os.path.dirname(PLACE)} {DROP_IN} {ARMED} {TAKEN}")
        self.platform.run(host, "systemctl daemon-reload; systemctl restart archipel-agent")

    def arm(self, host: str, steps: int) -> None:
        """0: steps are counted, and nothing happens."""
        self.platform.run(host, f"rm -f {TAKEN}; runuser -u archipel -- sh -c 'echo {steps} > {ARMED}'")

    def disarm(self, host: str) -> list[str]:
        """The names of the steps that were taken."""
        return self.platform.run(host, f"rm -f {ARMED}; cat {TAKEN}", check=False).splitlines()


@dataclass(frozen=True)
class Machine:
    """What an operation is on; it begins on ``host``."""

    world: World
    host: str
    uuid: str
    name: str

    @property
    def other(self) -> str:
        return self.world.other(self.host)


def running(machine: Machine) -> None:
    machine.world.apply(machine.host, machine.uuid, machine.name, "running")


def stopped(machine: Machine) -> None:
    machine.world.apply(machine.host, machine.uuid, machine.name, "stopped")


def absent(machine: Machine) -> None:
    machine.world.apply(machine.host, machine.uuid, machine.name, "absent")


def unmanaged(machine: Machine) -> None:
    machine.world.define(machine.host, machine.uuid, machine.name)


def manage(machine: Machine) -> None:
    machine.world.act(machine.host, "manage", machine.uuid)


def unmanage(machine: Machine) -> None:
    machine.world.act(machine.host, "unmanage", machine.uuid)


def migrate(machine: Machine) -> None:
    """Towards the other host, if it is not there."""
    if machine.world.truth().places(machine.uuid) != [machine.other]:
        machine.world.migrate(machine.host, machine.uuid, machine.other)


def nothing(machine: Machine) -> None:
    return None


@dataclass(frozen=True)
class Operation:
    """``place`` and ``state`` say what must be in the end: "host", "other" or None, and virDomainState."""

    prepare: Callable[[Machine], None]
    ask: Callable[[Machine], None]
    place: str | None
    state: int | None
    managed: bool = True

    def holds(self, machine: Machine, truth: Truth) -> bool:
        host = {"host": machine.host, "other": machine.other, None: None}[self.place]
        managed = [one for one, rows in truth.rows.items() if machine.uuid in rows]
        return (
            truth.places(machine.uuid) == ([] if host is None else [host])
            and truth.state(machine.uuid) == self.state
            and managed == ([host] if self.managed else [])
        )


OPERATIONS = {
    "create": Operation(nothing, running, "host", RUNNING),
    "stop": Operation(running, stopped, "host", SHUTOFF),
    "remove": Operation(running, absent, None, None, managed=False),
    "manage": Operation(unmanaged, manage, "host", SHUTOFF),
    "unmanage": Operation(stopped, unmanage, "host", SHUTOFF, managed=False),
    "migrate live": Operation(running, migrate, "other", RUNNING),
    "migrate offline": Operation(stopped, migrate, "other", SHUTOFF),
}
CASES = [(name, "host") for name in OPERATIONS] + [(name, "other") for name in OPERATIONS if name.startswith("migrate")]


@pytest.fixture(scope="module")
def world(platform):
    return World(platform)


@pytest.fixture(scope="module")
def crashes(platform, world):
    crashes = Crashes(platform)
    for host in world.hosts:
        crashes.install(host)
    world.settled()
    yield crashes
    for host in world.hosts:
        crashes.remove(host)
    world.settled()


@pytest.fixture
def fresh(world):
    """Makes machines, one an attempt, and removes them."""
    made = []

    def fresh() -> Machine:
        machine = Machine(world, world.hosts[0], str(uuidlib.uuid4()), f"killed-{len(made)}-{uuidlib.uuid4().hex[:6]}")
        made.append(machine)
        return machine

    yield fresh
    for machine in made:
        world.remove(machine.uuid, machine.name)
    world.settled()


def reach(operation: Operation, machine: Machine) -> None:
    """Asks again until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not operation.holds(machine, machine.world.settled()):
        assert time.monotonic() < deadline, machine.world.truth()
        with contextlib.suppress(*INTERRUPTED):
            operation.ask(machine)


@pytest.mark.parametrize(("name", "side"), CASES)
def test_killed_after_each_durable_step(crashes, fresh, world, name, side):
    operation = OPERATIONS[name]
    machine = fresh()
    host = getattr(machine, side)
    operation.prepare(machine)
    world.settled()
    crashes.arm(host, 0)
    operation.ask(machine)
    reach(operation, machine)
    steps = crashes.disarm(host)
    assert steps
    world.remove(machine.uuid, machine.name)
    points = range(1, len(steps) + 1)
    for point in sorted(random.Random(f"{SEED}{name}{side}").sample(points, min(STEPS, len(points)))):
        machine = fresh()
        operation.prepare(machine)
        world.settled()
        crashes.arm(host, point)
        with contextlib.suppress(*INTERRUPTED):
            operation.ask(machine)
        reach(operation, machine)
        taken = crashes.disarm(host)
        last = taken[point - 1] if len(taken) >= point else "it had fewer steps this time"
        print(f"{name}, {side}, killed after step {point} of {len(steps)}: {last}")
        world.remove(machine.uuid, machine.name)
