# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a guest has come up: what can never be seen is refused, what has not come yet is waited for.

What libvirt tells of the guest is made up here; archipel_wait_for.yml has a guest that really comes up.
"""

from __future__ import annotations

import asyncio
import types

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import addresses, libvirt_facade, plan, readiness  # noqa: E402 - they import libvirt
from archipel_agent.domain_xml import parse  # noqa: E402 - as above
from archipel_agent.wanted import Desired  # noqa: E402 - as above
from archipel_protocol import states  # noqa: E402 - as above
from archipel_protocol.errors import ArchipelError  # noqa: E402 - as above

UUID = "1ad53f2f-5b06-5d4e-9d1c-4d4f4b0a6f39"
CARD, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'{}/></channel>"
INTERFACE = f"<interface type='network'><mac address='{CARD}'/><source network='default'/></interface>"
BRIDGED = "<interface type='bridge'><source bridge='br0'/></interface>"
LATER = 3600.0


def desired(wait_for, state="running", **more):
    return Desired(UUID, "web", state, wait_for=wait_for, **{"wait_timeout": LATER, **more})


def domain(*devices):
    return "<domain type='qemu'><name>web</name><devices>{}</devices></domain>".format("".join(devices))


def lease(mac=CARD, until=1000, address="192.0.2.7"):
    return {"mac": mac.upper(), "ipaddr": address, "expirytime": until, "prefix": 24}


class Guest:
    """A machine as libvirt shows it, and the agent that asks; ``seen`` counts the looks at it."""

    def __init__(self, *devices, state=states.RUNNING, leases=()):
        self.xml, self.state_now, self.leases, self.seen = domain(*devices), state, list(leases), 0
        self.facade = libvirt_facade.Libvirt("test:///default")
        self.libvirt = types.SimpleNamespace(call=self.call, watch=self.facade.watch)
        self.guests = types.SimpleNamespace(addresses=self.addresses)
        self.told = {}

    async def call(self, function, *args):
        return function(self, *args)

    async def addresses(self, uuids):
        return self.told

    def lookupByUUIDString(self, uuid):  # noqa: N802 - libvirt's name
        self.seen += 1
        return self

    def state(self):
        return [self.state_now, 0]

    def XMLDesc(self):  # noqa: N802 - libvirt's name
        return self.xml

    def listAllNetworks(self, flags):  # noqa: N802 - libvirt's name
        return [types.SimpleNamespace(DHCPLeases=lambda: self.leases)]


@pytest.mark.parametrize(
    ("wanted", "devices", "running", "told"),
    [
        (desired("state"), [], None, None),
        (desired("guest_agent"), [CHANNEL.format("")], None, None),
        (desired("guest_agent"), [INTERFACE], None, "wait_for: guest_agent can never be seen; declare a channel "),
        (desired("guest_agent"), [CHANNEL.format("")], [], "guest_agent cannot be seen before the next start"),
        (desired("guest_agent"), [CHANNEL.format("")], [CHANNEL.format("")], None),
        (desired("address"), [INTERFACE], None, None),
        (desired("address"), [CHANNEL.format("")], None, None),
        (desired("address"), [BRIDGED], None, "or an interface of one of libvirt's networks"),
        # Nobody waits for these.
        (desired("guest_agent", "stopped"), [], None, None),
        (desired("guest_agent", "present"), [], None, None),
        (desired("guest_agent", wait=False), [], None, None),
    ],
)
def test_what_cannot_be_seen_is_refused(wanted, devices, running, told):
    arguments = (wanted, parse(domain(*devices)), None if running is None else parse(domain(*running)))
    if told is None:
        readiness.refuse_in_vain(*arguments)
        return
    with pytest.raises(ArchipelError, match="^wait_for: ") as raised:
        readiness.refuse_in_vain(*arguments)
    assert told in raised.value.message


@pytest.mark.parametrize(
    ("wait_for", "guest", "expected"),
    [
        ("guest_agent", Guest(CHANNEL.format("")), False),
        ("guest_agent", Guest(CHANNEL.format(" state='disconnected'")), False),
        ("guest_agent", Guest(CHANNEL.format(" state='connected'")), True),
        ("guest_agent", Guest(INTERFACE, leases=[lease()]), False),
        ("address", Guest(INTERFACE), False),
        ("address", Guest(INTERFACE, leases=[lease()]), True),
        ("address", Guest(INTERFACE, leases=[lease(OTHER)]), False),
        ("address", Guest(CHANNEL.format(" state='connected'")), False),
    ],
)
def test_how_far_a_guest_has_come_up(wait_for, guest, expected):
    assert asyncio.run(readiness.is_up(guest, desired(wait_for))) is expected


def test_the_guest_agent_tells_an_address():
    guest = Guest(CHANNEL.format(" state='connected'"))
    guest.told = {UUID: [{"address": "192.0.2.7"}]}
    assert asyncio.run(readiness.is_up(guest, desired("address")))


@pytest.mark.parametrize(
    ("state", "wanted", "steps", "until", "counts"),
    [
        (states.SHUTOFF, "running", [plan.Do.START], 1000, False),
        (states.RUNNING, "restarted", [plan.Do.SHUT_DOWN, plan.Do.START], 1000, False),
        # It goes on with what it has.
        (states.SAVED, "running", [plan.Do.START], 1000, True),
        (states.SAVED, "restarted", [plan.Do.START], 1000, False),
        (states.RUNNING, "running", [plan.Do.LIVE], 1000, True),
        # A lease for ever looks the same.
        (states.SHUTOFF, "running", [plan.Do.START], 0, True),
    ],
)
def test_a_lease_from_before_the_start_tells_nothing(state, wanted, steps, until, counts):
    guest, machine = Guest(INTERFACE, leases=[lease(until=until)]), types.SimpleNamespace(state=state)
    made = plan.Plan(steps=[plan.Step(do, "") for do in steps])

    async def work():
        old = await readiness.before(guest, desired("address", wanted), machine, made)
        before = await readiness.is_up(guest, desired("address", wanted), old)
        guest.leases.append(lease(until=1060))
        return before, await readiness.is_up(guest, desired("address", wanted), old)

    assert asyncio.run(work()) == (counts, True)


def test_an_event_ends_the_wait():
    """Without one, the next look would come too late."""
    guest = Guest(CHANNEL.format(" state='disconnected'"))

    async def work():
        waiting = asyncio.create_task(readiness.wait(guest, desired("guest_agent"), readiness.NOTHING, True))
        while not guest.seen:
            await asyncio.sleep(0)
        guest.xml = domain(CHANNEL.format(" state='connected'"))
        guest.facade._rouse("00000000-0000-4000-8000-000000000000")
        for dummy in range(10):
            await asyncio.sleep(0)
        assert not waiting.done() and guest.seen == 1
        guest.facade._rouse(UUID)
        await asyncio.wait_for(waiting, readiness._PAUSES["guest_agent"] / 2)

    asyncio.run(work())
    assert guest.facade._watchers == []


def test_patience_ends_in_words():
    guest = Guest(CHANNEL.format(""))
    for wait_for, told in (("guest_agent", "its guest agent has not connected"), ("address", "tells an address;")):
        with pytest.raises(ArchipelError, match=told) as raised:
            asyncio.run(readiness.wait(guest, desired(wait_for, wait_timeout=0.01), readiness.NOTHING, False))
        assert "within 0.01 s" in raised.value.message and "wait_timeout" in raised.value.message


@pytest.mark.parametrize("state", [states.SHUTOFF, states.CRASHED])
def test_a_guest_that_ends_is_not_waited_for(state):
    with pytest.raises(ArchipelError, match=f"its guest is {states.NAMES[state]}"):
        asyncio.run(readiness.wait(Guest(state=state), desired("guest_agent"), readiness.NOTHING, True))


@pytest.mark.parametrize(
    ("wanted", "started", "slept"),
    [
        (desired("state", start_delay=5.0), True, [5.0]),
        (desired("guest_agent", start_delay=5.0), True, [5.0]),
        (desired("state", start_delay=5.0), False, []),
        (desired("state", "paused", start_delay=5.0), True, []),
        (desired("state", start_delay=5.0, wait=False), True, []),
    ],
)
def test_a_delay_follows_a_start(monkeypatch, wanted, started, slept):
    found = []

    async def sleep(seconds):
        found.append(seconds)

    monkeypatch.setattr(readiness.asyncio, "sleep", sleep)
    asyncio.run(readiness.wait(Guest(CHANNEL.format(" state='connected'")), wanted, readiness.NOTHING, started))
    assert found == slept


def test_leases_of_a_driver_without_any():
    assert addresses.granted(libvirt.open("test:///default")) == frozenset()
