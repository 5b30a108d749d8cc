# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done to a running domain without a restart: plain functions that run in Libvirt.call().

Each may be done again, and touches only what runs; the definition is defined as a whole.
"""

from __future__ import annotations

import threading
import typing as t

from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import domain_xml
from .domain_xml import Element
from .domains import change_media
from .libvirt_facade import libvirt

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
# Seconds that a guest has to let go of a device.
_RELEASE = 10.0


def attach(connection: libvirt.virConnect, uuid: str, xml: str) -> None:
    """Plug a device in; nothing happens where it is plugged in already."""
    domain = connection.lookupByUUIDString(uuid)
    if not _has(domain, xml):
        domain.attachDeviceFlags(xml, _LIVE)


def detach(connection: libvirt.virConnect, uuid: str, xml: str) -> None:
    """Have the guest let go of a device; raises ArchipelError where it does not."""
    domain = connection.lookupByUUIDString(uuid)
    if not _has(domain, xml):
        return
    removed = threading.Event()
    event = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
    number = connection.domainEventRegisterAny(domain, event, lambda *dummy: removed.set(), None)
    try:
        domain.detachDeviceFlags(xml, _LIVE)
        removed.wait(_RELEASE)
    finally:
        connection.domainEventDeregisterAny(number)
    if _has(domain, xml):
        raise ArchipelError("the guest does not let go of it", CODE_DECLARATION)


def update(connection: libvirt.virConnect, uuid: str, xml: str) -> None:
    """Change a device in place."""
    connection.lookupByUUIDString(uuid).updateDeviceFlags(xml, _LIVE)


def set_password(connection: libvirt.virConnect, uuid: str, kind: str, password: str | None) -> None:
    """Give the display of this kind another password, or none."""
    domain = connection.lookupByUUIDString(uuid)
    live = domain_xml.parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
    for graphics in live.findall("devices/graphics"):
        if graphics.get("type") == kind:
            graphics.attrib.pop("passwd", None)
            graphics.attrib.update({} if password is None else {"passwd": password})
            domain.updateDeviceFlags(domain_xml.serialise(graphics), _LIVE)


def limit_disk(connection: libvirt.virConnect, uuid: str, target: str, limits: dict[str, int]) -> None:
    """Limit the traffic of a disk; 0 is no limit."""
    connection.lookupByUUIDString(uuid).setBlockIoTune(target, limits, _LIVE)


def set_memory(connection: libvirt.virConnect, uuid: str, kibibytes: int) -> None:
    """Ask the guest to make do with so much of its memory, or to take more."""
    connection.lookupByUUIDString(uuid).setMemoryFlags(kibibytes, _LIVE)


def set_vcpus(connection: libvirt.virConnect, uuid: str, number: int) -> None:
    """Plug processors in, or out."""
    connection.lookupByUUIDString(uuid).setVcpusFlags(number, _LIVE)


def set_text(connection: libvirt.virConnect, uuid: str, tag: str, text: str) -> None:
    """The title or description of what runs."""
    kinds = {"title": libvirt.VIR_DOMAIN_METADATA_TITLE, "description": libvirt.VIR_DOMAIN_METADATA_DESCRIPTION}
    connection.lookupByUUIDString(uuid).setMetadata(kinds[tag], text or None, None, None, _LIVE)


def _has(domain: libvirt.virDomain, xml: str) -> bool:
    """Whether the running domain has the device."""
    device = domain_xml.parse(xml, "the device")
    (key,) = domain_xml.device_keys([device])
    devices: list[Element] = domain_xml.devices_of(domain_xml.parse_domain(domain.XMLDesc()))
    if device.tag in ("disk", "interface", "controller", "hostdev"):
        return key in domain_xml.device_keys(devices)
    address = device.find("address")
    places = [one.find("address") for one in devices if one.tag == device.tag]
    return address is not None and any(place is not None and domain_xml.equal(place, address) for place in places)


FUNCTIONS: dict[str, t.Callable[..., None]] = {
    function.__name__: function
    for function in (attach, change_media, detach, limit_disk, set_memory, set_password, set_text, set_vcpus, update)
}
