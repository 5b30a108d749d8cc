# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses of virtual machines: what their guest agents tell, and the leases of libvirt's own DHCP servers.

A guest agent that does not answer holds a call of libvirt for 5 s, and one that has answered a greeting and nothing
else for ever (virDomainInterfaceAddresses has no limit). So whoever asks waits for PATIENCE seconds, and takes what is
there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import typing as t

from archipel_protocol import declaration as wire, states
from archipel_protocol.declaration import Address
from archipel_protocol.errors import ArchipelError

from . import domain_xml
from .domains import Machine
from .libvirt_facade import Libvirt, libvirt

log = logging.getLogger(__name__)

# Seconds that an inventory is kept for addresses.
PATIENCE = 2.0
# Guest agents that are asked at the same time. One that hangs keeps its turn, so this is what hostile guests can take.
ASKED_AT_ONCE = 8
# Addresses of one machine that are told, and characters of an interface's name: both are the guest's to choose.
MOST = 64
LONGEST_NAME = 32

Found = t.Dict[str, t.List[Address]]


class Lease(t.NamedTuple):
    """A lease of one of libvirt's DHCP servers; ``until`` is in seconds since 1970, 0: for ever."""

    mac: str
    address: str
    until: int


class Guests:
    """The guests' agents; each owes at most one answer."""

    def __init__(self, libvirt: Libvirt, spawn: t.Callable[..., asyncio.Task[t.Any]]) -> None:
        self._libvirt = libvirt
        self._spawn = spawn
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE)
        self._asked: dict[str, asyncio.Task[list[Address]]] = {}

    async def addresses(self, uuids: t.Iterable[str], patience: float = PATIENCE) -> Found:
        """What the agents in these machines tell within ``patience`` seconds; the others are left out."""
        asked = {uuid: self._asked.get(uuid) or self._ask(uuid) for uuid in uuids}
        if not asked:
            return {}
        done, dummy = await asyncio.wait(asked.values(), timeout=patience)
        return {uuid: task.result() for uuid, task in asked.items() if task in done and not task.cancelled()}

    def _ask(self, uuid: str) -> asyncio.Task[list[Address]]:
        task = self._asked[uuid] = self._spawn(self._answer(uuid), f"addresses of {uuid}")
        task.add_done_callback(lambda dummy: self._asked.pop(uuid))
        return task

    async def _answer(self, uuid: str) -> list[Address]:
        async with self._turns:
            try:
                # Given up, the call would go on all the same, and take the domain's other turn the next time.
                return await self._libvirt.call(of_guest, uuid, timeout=math.inf)
            except ArchipelError as exc:
                # Not configured, not connected, too old, gone: no addresses.
                log.debug("the guest agent of %s tells no addresses: %s", uuid, exc.message)
                return []


async def gather(agent: t.Any, sources: t.Collection[str], machines: t.Sequence[Machine]) -> Found:
    """The addresses of ``machines`` by UUID, as ``sources`` (wire.ADDRESS_SOURCES) know them; never an error."""
    leased, told = await asyncio.gather(
        _leased(agent, [one.uuid for one in machines if one.active] if wire.LEASE in sources else []),
        # A paused guest cannot answer.
        agent.guests.addresses(
            [one.uuid for one in machines if one.state == states.RUNNING] if wire.AGENT in sources else []
        ),
    )
    return {one.uuid: merged(told.get(one.uuid, []), leased.get(one.uuid, [])) for one in machines}


def merged(told: t.Sequence[Address], leased: t.Sequence[Address]) -> list[Address]:
    """All addresses once, the guest agent's first: it knows of more, and which interface it is.

    Those of the machine's own network devices, as far as leases show them, come before those of others.
    """
    cards = {one["mac"] for one in leased}
    known = {one["address"] for one in told}
    first = sorted(told, key=lambda one: one["mac"] not in cards) if cards else list(told)
    return [*first, *(one for one in leased if one["address"] not in known)][:MOST]


async def _leased(agent: t.Any, uuids: t.Collection[str]) -> Found:
    if not uuids:
        return {}
    try:
        return await agent.libvirt.call(leases, frozenset(uuids), timeout=PATIENCE)
    except ArchipelError as exc:
        log.warning("the leases of this hypervisor are not known: %s", exc.message)
        return {}


# In a thread


def of_guest(connection: libvirt.virConnect, uuid: str) -> list[Address]:
    """What the guest agent of a running machine tells (virDomainInterfaceAddresses)."""
    domain = connection.lookupByUUIDString(uuid)
    interfaces = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
    found = []
    for name, interface in (interfaces or {}).items():
        for entry in interface.get("addrs") or ():
            address = _address(wire.AGENT, entry.get("addr"), entry.get("prefix"), interface.get("hwaddr"), name)
            if address is not None:
                found.append(address)
    return found[:MOST]


def granted(connection: libvirt.virConnect) -> frozenset[Lease]:
    """All leases of this hypervisor."""
    found = (lease for network in _networks(connection) for lease in network)
    return frozenset(
        Lease(str(one.get("mac")).lower(), str(one.get("ipaddr")), int(one.get("expirytime") or 0)) for one in found
    )


def leases(connection: libvirt.virConnect, uuids: t.Collection[str]) -> Found:
    """The leases of machines on libvirt's own networks; each network is asked once (virNetworkGetDHCPLeases)."""
    by_mac: dict[str, list[Address]] = {}
    for network in _networks(connection):
        for lease in network:
            address = _address(wire.LEASE, lease.get("ipaddr"), lease.get("prefix"), lease.get("mac"), "")
            if address is not None:
                by_mac.setdefault(address["mac"], []).append(address)
    if not by_mac:
        return {}
    found = {}
    for uuid in uuids:
        try:
            xml = connection.lookupByUUIDString(uuid).XMLDesc()
        except libvirt.libvirtError as fault:
            # Off, or undefined, since it was listed.
            if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            continue
        cards = domain_xml.parse_domain(xml).findall("devices/interface/mac")
        found[uuid] = [one for card in cards for one in by_mac.get(card.get("address", "").lower(), [])]
    return found


def _networks(connection: libvirt.virConnect) -> t.Iterator[list[dict[str, t.Any]]]:
    """The leases of each active network that has any."""
    for network in connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE):
        try:
            yield network.DHCPLeases() or []
        except libvirt.libvirtError as fault:
            # Without a DHCP server of libvirt's, stopped or undefined since it was listed, or of the test driver.
            log.debug("no leases of the network %s: %s", network.name(), fault)


def _address(source: str, text: t.Any, prefix: t.Any, mac: t.Any, interface: str) -> Address | None:
    """An address that another machine could use; None for everything else that a guest may say."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return None
    found = Address(address=str(address), mac=_plain(mac or "", LONGEST_NAME).lower(), source=source)
    if isinstance(prefix, int):
        found["prefix"] = prefix
    if interface:
        found["interface"] = _plain(interface, LONGEST_NAME)
    return found


def _plain(text: str, most: int) -> str:
    """``text`` of a guest, which may be anything, as one short line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:most])
