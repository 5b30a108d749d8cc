# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an existing definition and a stated part of one to the definition that is wanted. Pure; no libvirt.

What is stated counts, what is not stated stays: values, devices, and of each device its addresses.
"""

from __future__ import annotations

import copy
import typing as t

from archipel_protocol import jids
from archipel_protocol.errors import MalformedRequest

from . import devices, domain_xml, merge
from .domain_xml import Element


def create(
    uuid: str, name: str, wanted: Element, defaults: Element | None = None, exact: t.Iterable[str] = ()
) -> Element:
    """The definition of a new machine: what is stated, over the defaults; ``exact`` as of overlay()."""
    domain = wanted.makeelement("domain") if defaults is None else copy.deepcopy(defaults)
    stated = copy.deepcopy(wanted)
    merge.merge_domain(domain, stated)
    devices.overlay(domain, stated, exact=frozenset(exact), implied=frozenset())
    return _identified(domain, uuid, name)


def overlay(
    existing: Element,
    wanted: Element,
    name: str,
    exact: t.Iterable[str] = (),
    implied: Element | None = None,
) -> Element:
    """The definition ``existing`` (INACTIVE and SECURE) with everything that ``wanted`` states.

    ``exact`` names device classes (tags) whose stated list is complete. ``implied`` is the wanted definition as libvirt
    completes it without regard to the existing one: devices of exact classes that it also has are libvirt's own
    and stay.
    """
    domain = copy.deepcopy(existing)
    stated = copy.deepcopy(wanted)
    before = domain_xml.attribute_of(domain, "os/type", "machine")
    merge.merge_domain(domain, stated)
    after = domain_xml.attribute_of(domain, "os/type", "machine")
    if before and after and merge.machine_family(before) != merge.machine_family(after):
        devices.forget_topology(domain)
    kept = frozenset() if implied is None else frozenset(domain_xml.device_keys(domain_xml.devices_of(implied)))
    devices.overlay(domain, stated, exact=frozenset(exact), implied=kept)
    return _identified(domain, text(existing, "uuid"), name)


def with_identity(existing: Element, wanted: Element, name: str) -> Element:
    """``wanted`` alone, but as the same machine: UUID, generation ID, machine type's version and MAC addresses.

    libvirt would make up new ones at each definition, so without them no definition would ever equal itself.
    """
    domain = copy.deepcopy(wanted)
    merge.without_firmware(domain)
    machine = domain.find("os/type")
    pinned = domain_xml.attribute_of(existing, "os/type", "machine")
    if machine is not None and machine.get("machine") and pinned and not merge.is_pinned(machine.get("machine")):
        if merge.machine_family(machine.get("machine")) == merge.machine_family(pinned):
            machine.set("machine", pinned)
    generation = domain.find("genid")
    if generation is not None and not (generation.text or "").strip():
        generation.text = text(existing, "genid") or None
    devices.place_disks(domain_xml.devices_of(domain), domain_xml.devices_of(existing), False)
    pairs = devices.match_interfaces(existing.findall("devices/interface"), domain.findall("devices/interface"), False)
    for interface, found in pairs:
        if found is not None and interface.find("mac") is None:
            interface.insert(0, copy.deepcopy(found.find("mac")))
    return _identified(domain, text(existing, "uuid"), name)


def is_complete(wanted: Element) -> bool:
    """Whether ``wanted`` could be a machine without an existing definition below it."""
    return bool(text(wanted, "os/type")) and wanted.find("memory") is not None


def text(element: Element, path: str) -> str:
    """The stripped text at ``path``."""
    return domain_xml.text_of(element, path)


def _identified(domain: Element, uuid: str, name: str) -> Element:
    """``domain`` with this UUID and name, and a MAC address for each interface that has none."""
    stated = text(domain, "uuid").lower()
    if stated and stated != uuid:
        raise MalformedRequest(f"the domain XML has the UUID {stated}; the machine '{name}' has {uuid}")
    for tag, value in (("uuid", uuid), ("name", name)):
        found = domain.find(tag)
        if found is None:
            found = domain.makeelement(tag)
            domain.insert(0, found)
        found.text = value
    domain.attrib.pop("id", None)
    interfaces = domain.findall("devices/interface")
    used = {domain_xml.attribute_of(interface, "mac", "address").lower() for interface in interfaces}
    for index, interface in enumerate(interfaces):
        if domain_xml.attribute_of(interface, "mac", "address"):
            continue
        address = _free_address(uuid, index, used)
        used.add(address)
        merge.drop(interface, "mac")
        interface.insert(0, interface.makeelement("mac", {"address": address}))
    return domain


def _free_address(uuid: str, index: int, used: t.Container[str]) -> str:
    """The machine's own MAC address for interface ``index``, or for the next number that is free."""
    while jids.vm_mac(uuid, index) in used:
        index += 1
    return jids.vm_mac(uuid, index)
