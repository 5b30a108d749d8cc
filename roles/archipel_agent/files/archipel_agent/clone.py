# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:hypervisor:control clone: a copy of a virtual machine that is off, with disks and addresses of its own."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os.path
import typing as t
import uuid as uuidlib

from archipel_protocol import errors, jids, namespaces as ns, states
from archipel_protocol.declaration import Volume

from . import cloud_init, domain_xml, domains, metadata, volumes
from .dispatch import Reply, Request, handler
from .domain_xml import Element, attribute_of
from .libvirt_facade import libvirt
from .lifecycle import (
    checked_name,
    define_new,
    enter,
    generated_name,
    identify,
    machine_element,
    named,
    refuse_taken,
)
from .unfinished import intention, settles
from .vm_definition import refuse_host_access

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

CLONE = "clone"
_CODE = errors.CODE_HYPERVISOR_CLONE


@dataclasses.dataclass(frozen=True)
class Copy:
    """A disk's file, and the volume that its content is copied to."""

    source: str
    path: str
    volume: Volume


@handler(ns.HYPERVISOR_CONTROL, CLONE, "clone", on="hypervisor", code=_CODE)
async def clone(entity: HypervisorEntity, request: Request) -> Reply:
    """jid="uuid@domain" name="..."? -> <virtualmachine jid/> of the copy, when it is made.

    Who asks gets every permission on the copy but host_access; whatever others have on the original, they have not.
    """
    agent, uuid = entity.agent, str(uuidlib.uuid4())
    parent = named(agent, request, _CODE)
    name = request.attributes.get("name", "").strip() or f"{generated_name(uuid)} (clone of {parent.name})"
    checked_name(name, _CODE)
    async with agent.lock(parent.uuid):
        await refuse_taken(agent, name, _CODE)
        original = await _original(agent, parent)
        definition = copied(original, uuid, name)
        copies = await agent.libvirt.call(_copies, domain_xml.serialise(original), uuid)
        _point_at(definition, copies)
        # The original's too: its backing files become part of the copy.
        await refuse_host_access(agent, request, original)
        await refuse_host_access(agent, request, definition, {one.path for one in copies})
        made = [[one.volume["pool"], one.volume["name"]] for one in copies]
        async with intention(agent, uuid, CLONE, {"volumes": made}):
            await enter(agent, uuid, name, request.sender, CLONE, _CODE)
            await _fill(agent, parent, agent.vms[uuid], copies)
            await agent.libvirt.call(define_new, domain_xml.serialise(definition))
    return [machine_element(uuid, agent.domain)]


@settles(CLONE)
async def settle_clone(agent: Agent, uuid: str, details: dict[str, t.Any]) -> None:
    """A copy without a definition never was: its disks go, whether they were filled or not."""
    if await agent.libvirt.call(domains.look, uuid) is not None:
        return
    for pool, name in details["volumes"]:
        await agent.libvirt.call(volumes.remove, pool, name)
    await agent.release(uuid)


async def _original(agent: Agent, parent: VirtualMachineEntity) -> Element:
    machine = await agent.libvirt.call(domains.look, parent.uuid)
    if machine is None:
        raise errors.ArchipelError(f"{parent.name} is not defined", _CODE)
    _refuse_active(machine)
    return domain_xml.parse_domain(machine.xml)


def _refuse_active(machine: domains.Machine | None) -> None:
    if machine is not None and machine.active:
        name = states.NAMES.get(machine.state, "active")
        raise errors.ArchipelError(f"{machine.name} is {name}; stop it before it is cloned", _CODE)


async def _fill(agent: Agent, parent: VirtualMachineEntity, child: VirtualMachineEntity, copies: list[Copy]) -> None:
    """Copies the disks; whoever looks at the two sees what goes on."""
    await child.refresh()
    child.show("dnd", f"Cloning from {parent.name}")
    parent.show("dnd", f"Cloning to {child.name}")
    try:
        for one in copies:
            await agent.disk_copies.make(child.uuid, one.volume)
        # Not through us, but it may have been started meanwhile, and have written to what was being copied.
        _refuse_active(await agent.libvirt.call(domains.look, parent.uuid))
    finally:
        await parent.refresh()


def copied(original: Element, uuid: str, name: str) -> Element:
    """The definition of another machine like ``original`` (INACTIVE and SECURE), on the same disks yet.

    What is unique to a machine is made anew: UUID, name, MAC addresses, generation ID, variables of the firmware.
    """
    domain = copy.deepcopy(original)
    # The original's disks are not the copy's to remove.
    metadata.disown(domain)
    identify(domain, uuid, name)
    # What the original's cloud-init is told makes it the original, and is a secret.
    seed = cloud_init.drive(domain)
    if seed is not None:
        seed.getparent().remove(seed)
    for index, interface in enumerate(domain.findall("devices/interface")):
        address = interface.find("mac")
        if address is None:
            address = interface.makeelement("mac")
            interface.insert(0, address)
        address.set("address", jids.vm_mac(uuid, index))
    for generation in domain.findall("genid"):
        generation.text = None
    # It must be the domain's own (formatdomain.html#smbios-system-information).
    for entry in domain.iterfind("sysinfo/system/entry[@name='uuid']"):
        entry.text = uuid
    for variables in domain.findall("os/nvram"):
        # libvirt makes a new file of the template at the first start.
        variables.text = None
        for source in variables.findall("source"):
            variables.remove(source)
        variables.attrib.pop("type", None)
        if not variables.attrib:
            variables.getparent().remove(variables)
    for context in domain.findall("devices/vsock/cid[@auto='yes']"):
        context.attrib.pop("address", None)
    return domain


def _point_at(definition: Element, copies: list[Copy]) -> None:
    places = {one.source: one for one in copies}
    for disk in _own_disks(definition):
        one = places[attribute_of(disk, "source", "file")]
        disk.find("source").set("file", one.path)
        for chain in disk.findall("backingStore"):
            disk.remove(chain)


def _own_disks(domain: Element) -> list[Element]:
    """The disks that a copy has of its own: no media, nothing that several machines read or write."""
    return [
        disk
        for disk in domain.findall("devices/disk")
        if disk.get("device", "disk") == "disk"
        and disk.find("source") is not None
        and disk.find("readonly") is None
        and disk.find("shareable") is None
    ]


# In a thread


def _copies(connection: libvirt.virConnect, xml: str, uuid: str) -> list[Copy]:
    """What is to be copied, beside where it is; the name of a copy belongs to the new machine alone."""
    found = []
    for disk in _own_disks(domain_xml.parse_domain(xml)):
        target, path = attribute_of(disk, "target", "dev"), attribute_of(disk, "source", "file")
        place = volumes.place(connection, path) if path else None
        if place is None:
            where = f"in the file {path}, which no active storage pool has" if path else f"of type {disk.get('type')}"
            raise errors.ArchipelError(f"the disk {target} is {where}, so it cannot be copied", _CODE)
        volume = place.volume
        form = attribute_of(disk, "driver", "type", "raw")
        if form != volume["format"]:
            # As raw, a guest could have written what looks like another format, and names a file of the host.
            message = f"the disk {target} is used as {form}, but libvirt takes {path} for {volume['format']}"
            raise errors.ArchipelError(message, _CODE)
        name = f"{uuid}-{target}.{form}"
        new = Volume(pool=volume["pool"], name=name, capacity=volume["capacity"], format=form, clone=volume["name"])
        found.append(Copy(path, os.path.join(place.folder, name), new))
    return found
