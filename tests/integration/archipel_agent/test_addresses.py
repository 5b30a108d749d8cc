# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses of machines: guests that tell them, hang, or lie, and leases. The threads and time limits are real."""

from __future__ import annotations

import asyncio
import threading
import types

import pytest

libvirt = pytest.importorskip("libvirt")

from archipel_agent import addresses, libvirt_facade  # noqa: E402 - they import libvirt
from archipel_protocol import declaration as wire  # noqa: E402 - as above

CARD, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
NAMES = [f"guest-{number}" for number in range(addresses.ASKED_AT_ONCE + 1)]
DOMAIN = """
<domain type='test'><name>{}</name><memory>8192</memory><os><type>hvm</type></os>
<devices><interface type='network'><mac address='{}'/><source network='default'/></interface></devices></domain>
"""


def told(address, mac=CARD, interface="eth0", source=wire.AGENT, prefix=24):
    found = {"address": address, "mac": mac, "source": source, "prefix": prefix}
    return {**found, "interface": interface} if source == wire.AGENT else found


def leased(address, mac=CARD):
    return told(address, mac, source=wire.LEASE)


class Guest:
    """A domain whose guest agent answers with ``interfaces``, an error of libvirt, or not before ``release``."""

    def __init__(self, interfaces=None, fault=None, hangs=False):
        self.interfaces, self.fault = interfaces, fault
        self.release = threading.Event()
        self.asked = 0
        if not hangs:
            self.release.set()

    def interfaceAddresses(self, source):  # noqa: N802 - libvirt's name
        assert source == libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
        self.asked += 1
        self.release.wait()
        if self.fault is not None:
            raise self.fault
        return self.interfaces


def interfaces(*entries, mac=CARD, name="eth0"):
    return {name: {"hwaddr": mac, "addrs": [{"addr": addr, "prefix": prefix, "type": 0} for addr, prefix in entries]}}


def of(guest):
    return addresses.of_guest(types.SimpleNamespace(lookupByUUIDString=lambda uuid: guest), "some UUID")


def test_what_a_guest_tells_is_checked():
    guest = Guest(
        {
            **interfaces(("127.0.0.1", 8), ("::1", 128), mac="00:00:00:00:00:00", name="lo"),
            **interfaces(("192.0.2.7", 24), ("fe80::1", 64), ("2001:db8::7", 64), mac=CARD.upper()),
            **interfaces(("{{ 1 }}", 24), ("0.0.0.0", 0), (None, None), ("198.51.100.1", 32), name="x\n" * 99),
            "without addresses": {"hwaddr": OTHER, "addrs": None},
            "without a card": {"hwaddr": None, "addrs": [{"addr": "203.0.113.1", "prefix": 32, "type": 0}]},
        }
    )
    assert of(guest) == [
        told("192.0.2.7"),
        told("fe80::1", prefix=64),
        told("2001:db8::7", prefix=64),
        told("198.51.100.1", interface="x?" * 16, prefix=32),
        told("203.0.113.1", "", "without a card", prefix=32),
    ]


def test_a_guest_tells_no_more_than_fits():
    many = Guest(interfaces(*((f"10.0.{number // 200}.{number % 200 + 1}", 16) for number in range(500))))
    assert len(of(many)) == addresses.MOST
    assert of(Guest(None)) == []


@pytest.mark.parametrize(
    ("agent", "leases", "expected"),
    [
        ([], [], []),
        ([], [leased("192.0.2.7")], [leased("192.0.2.7")]),
        # Both know it: once, with the interface's name.
        ([told("192.0.2.7")], [leased("192.0.2.7")], [told("192.0.2.7")]),
        # Another one's lease of the same machine.
        ([told("192.0.2.7")], [leased("192.0.2.8", OTHER)], [told("192.0.2.7"), leased("192.0.2.8", OTHER)]),
        # The bridge of containers in the guest comes after the machine's own card.
        (
            [told("172.17.0.1", "02:42:00:00:00:01", "docker0"), told("192.0.2.7")],
            [leased("192.0.2.7")],
            [told("192.0.2.7"), told("172.17.0.1", "02:42:00:00:00:01", "docker0")],
        ),
    ],
)
def test_sources_are_merged(agent, leases, expected):
    assert addresses.merged(agent, leases) == expected


class Host:
    """An agent with libvirt's test driver, whose domains have the guests ``guests`` by their names."""

    def __init__(self, facade, guests):
        self.libvirt = facade
        self.tasks = []
        self.guests = addresses.Guests(self, self.spawn)
        self._domains = guests

    def spawn(self, work, name):
        self.tasks.append(asyncio.create_task(work, name=name))
        return self.tasks[-1]

    async def call(self, function, uuid, timeout=None):
        """As the facade has it; of the domain only its guest agent is another."""

        def run(connection, uuid):
            guest = self._domains[connection.lookupByUUIDString(uuid).name()]
            return function(types.SimpleNamespace(lookupByUUIDString=lambda dummy: guest), uuid)

        return await self.libvirt.call(run, uuid, timeout=timeout)


def run(work, guests):
    """Runs ``work(host, UUIDs by name)`` beside domains with these guests."""

    async def main():
        facade = libvirt_facade.Libvirt("test:///default", timeout=20)
        await facade.start()
        try:
            uuids = await facade.call(_define, list(guests))
            await work(Host(facade, guests), uuids)
        finally:
            for guest in guests.values():
                guest.release.set()
            await facade.stop()

    asyncio.run(main())


def _define(connection, names):
    return {name: connection.defineXML(DOMAIN.format(name, CARD)).UUIDString() for name in names}


def test_guests_that_hang_keep_nobody():
    guests = {name: Guest(interfaces(("192.0.2.7", 24)), hangs=name == NAMES[0]) for name in NAMES}

    async def work(host, uuids):
        found = await host.guests.addresses(uuids.values(), patience=2)
        assert set(found) == set(uuids.values()) - {uuids[NAMES[0]]}
        # Asked again it is not asked again, and the domain has a turn for everything else.
        again = await host.guests.addresses([uuids[NAMES[0]]], patience=0.1)
        assert again == {} and guests[NAMES[0]].asked == 1
        assert await host.libvirt.call(_name, uuids[NAMES[0]]) == NAMES[0]
        guests[NAMES[0]].release.set()
        (address,) = (await host.guests.addresses([uuids[NAMES[0]]], patience=5))[uuids[NAMES[0]]]
        assert address == told("192.0.2.7")

    run(work, guests)


def _name(connection, uuid):
    return connection.lookupByUUIDString(uuid).name()


def test_many_that_hang_take_a_bounded_number_of_calls():
    guests = {name: Guest(interfaces(), hangs=True) for name in NAMES}

    async def work(host, uuids):
        assert await host.guests.addresses(uuids.values(), patience=0.5) == {}
        assert sum(guest.asked for guest in guests.values()) == addresses.ASKED_AT_ONCE
        for guest in guests.values():
            guest.release.set()
        assert set(await host.guests.addresses(uuids.values(), patience=5)) == set(uuids.values())

    run(work, guests)


def test_a_guest_without_an_agent_has_no_addresses():
    fault = libvirt.libvirtError("QEMU guest agent is not connected")

    async def work(host, uuids):
        assert await host.guests.addresses(uuids.values(), patience=5) == {uuids["web"]: []}

    run(work, {"web": Guest(fault=fault)})


class Network:
    def __init__(self, leases=None):
        self._leases = leases

    def name(self):
        return "net"

    def DHCPLeases(self):  # noqa: N802 - libvirt's name
        if self._leases is None:
            raise libvirt.libvirtError("no DHCP")
        return self._leases


def lease(address, mac):
    return {"ipaddr": address, "prefix": 24, "mac": mac, "hostname": "{{ 1 }}", "iface": "virbr0", "type": 0}


def test_leases_are_those_of_a_machines_cards():
    connection = libvirt.open("test:///default")
    uuids = [connection.defineXML(DOMAIN.format(name, mac)).UUIDString() for name, mac in (("a", CARD), ("b", OTHER))]
    networks = [Network(), Network([lease("192.0.2.7", CARD), lease("2001:db8::7", CARD)]), Network([])]
    beside = types.SimpleNamespace(
        lookupByUUIDString=connection.lookupByUUIDString, listAllNetworks=lambda flags: networks
    )
    gone = "00000000-0000-4000-8000-000000000000"
    assert addresses.leases(beside, [*uuids, gone]) == {
        uuids[0]: [leased("192.0.2.7"), leased("2001:db8::7")],
        uuids[1]: [],
    }


def test_a_driver_without_leases_has_none():
    connection = libvirt.open("test:///default")
    assert addresses.leases(connection, [domain.UUIDString() for domain in connection.listAllDomains()]) == {}
