# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:vm:definition: define and undefine of one virtual machine, as whole domain XML."""

from __future__ import annotations

import copy
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, namespaces as ns, payloads, states

from . import domain_xml, domains, host_access, image_chains, installed, metadata, permissions
from .dispatch import Reply, Request, handler
from .libvirt_facade import libvirt

if t.TYPE_CHECKING:
    from .agent import Agent
    from .virtual_machine import VirtualMachineEntity

# What a domain's elements are in besides no namespace at all: the <query/>'s, the stream's, and the one that Archipel's
# client leaves behind.
_PLAIN = frozenset((ns.VM_DEFINITION, ns.HYPERVISOR_CONTROL, "jabber:client", "http://www.gajim.org/xmlns/undeclared"))


@handler(ns.VM_DEFINITION, "define", "define", on="vm", code=errors.CODE_VM_DEFINE)
async def define(entity: VirtualMachineEntity, request: Request) -> Reply:
    """<domain/> with the machine's own UUID replaces the definition; a missing graphics password stays."""
    wanted = domain_of(request)
    uuid = domain_xml.text_of(wanted, "uuid")
    if uuid.lower() != entity.uuid:
        message = f"<uuid> is '{uuid}' and must be {entity.uuid}"
        raise errors.ArchipelError(message, errors.CODE_VM_DEFINE)
    await refuse_host_access(entity.agent, request, wanted)
    async with entity.agent.lock(entity.uuid):
        await entity.agent.libvirt.call(_define, entity.uuid, domain_xml.serialise(wanted))
    return None


@handler(ns.VM_DEFINITION, "undefine", "undefine", on="vm", code=errors.CODE_VM_DESTROY)
async def undefine(entity: VirtualMachineEntity, request: Request) -> Reply:
    """The definition goes, the entity stays; storage is left alone. Refused while it runs, or is protected."""
    async with entity.agent.lock(entity.uuid):
        machine = await entity.agent.libvirt.call(domains.look, entity.uuid)
        if machine is None:
            raise errors.ArchipelError(f"{entity.name} is not defined", errors.CODE_VM_DESTROY)
        if machine.active:
            name = states.NAMES.get(machine.state, "active")
            raise errors.ArchipelError(f"{entity.name} is {name}; stop it first", errors.CODE_VM_DESTROY)
        await entity.agent.libvirt.call(domains.check_removable, entity.uuid, errors.CODE_VM_DESTROY)
        await entity.agent.libvirt.call(domains.undefine, entity.uuid)
    return None


def domain_of(request: Request) -> domain_xml.Element:
    """The <domain/> of a request, without what no request may say; raises MalformedRequest."""
    found = request.child("domain")
    if found is None:
        raise errors.MalformedRequest(f"{request.action} needs a <domain/>")
    plain = copy.deepcopy(found)
    for element in plain.iter():
        namespace, name = payloads.split_tag(element.tag)
        if namespace in _PLAIN:
            element.tag = name
    wanted = domain_xml.parse_domain(ET.tostring(plain, encoding="unicode"))
    metadata.disown(wanted)
    return wanted


async def refuse_host_access(
    agent: Agent, request: Request, wanted: domain_xml.Element, to_make: t.Collection[str] = ()
) -> None:
    """Raises PermissionDenied where the definition reaches into the host and the sender may not.

    Files ``to_make`` do not exist yet and refer to nothing.
    """
    if request.permits(permissions.HOST_ACCESS):
        return
    kind = wanted.get("type", "")
    boot = wanted.find("os/type")
    architecture, machine = (None, None) if boot is None else (boot.get("arch"), boot.get("machine"))
    emulator = await installed.told(agent.libvirt, domains.emulator, architecture, machine, kind)
    # Before anything of libvirt's sees it: the normaliser would run whatever <emulator> names, to ask for its features.
    reasons = host_access.check(wanted, {emulator})
    if not reasons:
        normal = await agent.normaliser.normalise(domain_xml.serialise(wanted), kind)
        complete = wanted if normal is None else domain_xml.parse_domain(normal)
        reasons = host_access.check(complete, {emulator})
        reasons = reasons or await agent.libvirt.call(image_chains.outside, complete, to_make)
    if reasons:
        raise errors.PermissionDenied(f"the definition needs the permission 'host_access': {'; '.join(reasons)}")


# In a thread


def _define(connection: libvirt.virConnect, uuid: str, xml: str) -> None:
    wanted = domain_xml.parse_domain(xml)
    try:
        existing = connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        metadata.keep_tags(None, wanted)
    else:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        before = domain_xml.parse_domain(existing.XMLDesc(flags))
        _keep_passwords(before, wanted)
        metadata.keep_tags(before, wanted)
    connection.defineXML(domain_xml.serialise(wanted))


def _keep_passwords(existing: domain_xml.Element, wanted: domain_xml.Element) -> None:
    """A definition that was read by xmldesc has no passwords; sent back, it must not erase them."""
    for graphics in wanted.findall("devices/graphics"):
        if graphics.get("passwd") is not None:
            continue
        for old in existing.findall("devices/graphics"):
            if old.get("type") == graphics.get("type") and old.get("passwd") is not None:
                graphics.set("passwd", old.get("passwd"))
