# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest under load moves, and what moves it is cut off: agents, libvirt daemons, links, the XMPP server.

It is cut while memory is sent, and when libvirt is done and the account follows. The guest runs on, on one host at any
time, and the next request brings the move to its end. test_archipel_agent_killed.py kills the agents between every two
durable steps besides. ARCHIPEL_FAULT_STEPS says how many cases are tried; `make faults` tries all.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_world import INTERRUPTED, PATIENCE, RUNNING, World
from moving_guest import BUSY, Guest, moving_guest
from people import until
from test_archipel_agent_faults import FAULTS, KILL_SERVER
from test_archipel_agent_killed import STEPS

# What is cut: whose, and the command.
CUTS = {
    "agent of the source": ("here", FAULTS["agent"]),
    "agent of the target": ("there", FAULTS["agent"]),
    "libvirtd of the source": ("here", FAULTS["libvirtd"]),
    "libvirtd of the target": ("there", FAULTS["libvirtd"]),
    "link of the source": ("here", FAULTS["link"]),
    "link of the target": ("there", FAULTS["link"]),
    # Longer than libvirt waits for its peer.
    "link of the target for long": ("there", FAULTS["link for long"].replace("20", "45")),
    "XMPP server": ("xmpp", KILL_SERVER),
}
CASES = [(name, when) for name in CUTS for when in ("sending", "arriving")]
# Too slow for the guest's load; and what moves it in the end whatever its load.
SLOW = {"bandwidth": 16}
FAST = {"timeout": 3, "timeout_action": "pause", "downtime": 2000}


@pytest.fixture(scope="module")
def world(platform):
    return World(platform)


@pytest.fixture
def guest(world):
    with moving_guest(world) as guest:
        yield guest


@pytest.fixture
def doubled(guest):
    """The hosts that the guest was seen to run on at the same time."""
    seen, done = [], threading.Event()

    def watch() -> None:
        first, second = guest.world.hosts
        while not done.wait(1):
            with contextlib.suppress(subprocess.CalledProcessError, ValueError):
                if all(guest.uuid in guest.world.running(host) for host in (first, second, first)):
                    seen.append((first, second))

    with ThreadPoolExecutor() as beside:
        watching = beside.submit(watch)
        yield seen
        done.set()
        watching.result()


def is_sending(guest: Guest) -> bool:
    job = guest.run(f"virsh -q domjobinfo {guest.uuid}", check=False)
    return "Data processed" in job and "Data processed:   0.000" not in job


def has_arrived(guest: Guest) -> bool:
    return guest.uuid in guest.world.running(guest.there)


def move(guest: Guest, migration: dict) -> None:
    with contextlib.suppress(*INTERRUPTED):
        guest.ask("migrate", timeout=60, migration=migration)


@pytest.mark.parametrize(("name", "when"), CASES[:STEPS])
def test_cut(guest, doubled, name, when):
    whose, command = CUTS[name]
    host = guest.world.platform.xmpp if whose == "xmpp" else getattr(guest, whose)
    guest.define(cmdline=BUSY)
    guest.boot()
    with ThreadPoolExecutor() as beside:
        asked = beside.submit(move, guest, SLOW if when == "sending" else FAST)
        until(lambda: is_sending(guest) if when == "sending" else has_arrived(guest), PATIENCE)
        guest.world.platform.run(host, command, check=False)
        asked.result()
    deadline = time.monotonic() + PATIENCE
    while _place(guest) != [guest.there]:
        assert time.monotonic() < deadline, guest.world.truth()
        move(guest, FAST)
    truth = guest.world.settled()
    assert (truth.places(guest.uuid), truth.state(guest.uuid)) == ([guest.there], RUNNING)
    before, after = guest.uptimes(guest.here), guest.uptimes(guest.there)
    until(lambda: len(guest.uptimes(guest.there)) > len(after))
    # It is the guest that was started, and each of its seconds passed on one host.
    assert after[0] >= before[-1]
    assert not set(before[:-1]) & set(after)
    assert doubled == []


def _place(guest: Guest) -> list[str]:
    """Where libvirt has it, as far as it can be asked."""
    try:
        return guest.world.truth().places(guest.uuid)
    except (subprocess.CalledProcessError, ValueError):
        return []
