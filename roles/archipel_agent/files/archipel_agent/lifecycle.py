# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:hypervisor:control alloc and free, archipel:vm:control free: a virtual machine's beginning and end."""

from __future__ import annotations

import asyncio
import logging
import typing as t
import uuid as uuidlib
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns

from . import contacts, domains, permissions, vcard
from .dispatch import Reply, Request, handler
from .domain_xml import Element, serialise, text_of
from .libvirt_facade import libvirt
from .unfinished import intention, settles
from .vm_definition import domain_of, refuse_host_access

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

_VIRTUAL_MACHINE = f"{{{ns.HYPERVISOR_CONTROL}}}virtualmachine"
ALLOC = "alloc"
FREE = "free"
# Seconds that a new machine has to log in and to introduce itself.
_INTRODUCTION = 60.0


@handler(ns.HYPERVISOR_CONTROL, ALLOC, "alloc", on="hypervisor", code=errors.CODE_HYPERVISOR_ALLOC)
async def alloc(entity: HypervisorEntity, request: Request) -> Reply:
    """name="..."? <domain/>? -> <virtualmachine jid="uuid@domain"/>: an entity, and its definition if one is given.

    orgname, orgunit, locality, userid, categories: what its vCard says; the configuration's where they are missing.
    The UUID is new, whatever the definition says. Who asks gets every permission on the machine but host_access.
    """
    agent, uuid = entity.agent, str(uuidlib.uuid4())
    wanted = None if request.child("domain") is None else domain_of(request)
    name = request.attributes.get("name", "") or ("" if wanted is None else text_of(wanted, "name"))
    name = checked_name(name.strip() or generated_name(uuid), errors.CODE_HYPERVISOR_ALLOC)
    profile = vcard.organisation({key: text for key, text in request.attributes.items() if key in vcard.ORGANISATION})
    await refuse_taken(agent, name, errors.CODE_HYPERVISOR_ALLOC)
    if wanted is not None:
        identify(wanted, uuid, name)
        await refuse_host_access(agent, request, wanted)
    async with intention(agent, uuid, ALLOC, {"defined": wanted is not None}):
        await enter(agent, uuid, name, request.sender, ALLOC, errors.CODE_HYPERVISOR_ALLOC)
        if profile:
            agent.profiles.change(agent.vms[uuid], **profile)
        if wanted is not None:
            await agent.libvirt.call(define_new, serialise(wanted))
    return [machine_element(uuid, agent.domain)]


@settles(ALLOC)
async def settle_alloc(agent: Agent, uuid: str, details: dict[str, t.Any]) -> None:
    """A machine that was to have a definition and has none never was."""
    if details["defined"] and await agent.libvirt.call(domains.look, uuid) is None:
        await agent.release(uuid)


@handler(ns.HYPERVISOR_CONTROL, FREE, "free", on="hypervisor", code=errors.CODE_HYPERVISOR_FREE)
async def free(entity: HypervisorEntity, request: Request) -> Reply:
    """jid="uuid@domain" -> <virtualmachine jid/>: power, definition, account and entity go, disks stay.

    Not those of a machine that is protected.
    """
    agent = entity.agent
    vm = named(agent, request, errors.CODE_HYPERVISOR_FREE)
    try:
        await _take_down(agent, vm.uuid, errors.CODE_HYPERVISOR_FREE)
    except errors.ArchipelError as fault:
        if fault.code != errors.CODE_MIGRATING:
            raise
        raise errors.ArchipelError(fault.message, errors.CODE_HYPERVISOR_FREE) from None
    await agent.release(vm.uuid)
    return [machine_element(vm.uuid, agent.domain)]


@handler(ns.VM_CONTROL, FREE, "free", on="vm", code=errors.CODE_VM_FREE)
async def free_itself(entity: VirtualMachineEntity, request: Request) -> Reply:
    """The same, asked of the machine; its account goes when this is answered."""
    agent, answering = entity.agent, asyncio.current_task()
    await _take_down(agent, entity.uuid, errors.CODE_VM_FREE)

    async def release() -> None:
        if answering is not None:
            await asyncio.wait({answering})
        await agent.release(entity.uuid)

    agent.spawn(release(), f"release of {entity.uuid}")
    return None


async def _take_down(agent: Agent, uuid: str, code: int) -> None:
    """Removes the domain and marks the account for removal; where libvirt refuses, the machine stays managed."""
    async with agent.lock(uuid):
        await agent.libvirt.call(domains.check_removable, uuid, code)
        agent.store.begin(uuid, FREE)
        try:
            await _remove_domain(agent, uuid)
        except errors.ArchipelError:
            agent.store.end(uuid)
            raise
        agent.store.change(jids.vm_jid(uuid, agent.domain), releasing=True)
        agent.store.end(uuid)


async def _remove_domain(agent: Agent, uuid: str) -> None:
    await agent.libvirt.call(_power_off, uuid)
    await agent.libvirt.call(domains.undefine, uuid)


@settles(FREE)
async def settle_free(agent: Agent, uuid: str, details: dict[str, t.Any]) -> None:
    """Whoever asked was not answered; what may be half gone goes altogether."""
    await _remove_domain(agent, uuid)
    await agent.release(uuid)


# For soft_alloc.py and clone.py, too


def checked_name(name: str, code: int) -> str:
    """``name``; raises ArchipelError where libvirt, or a person, could not tell it from another."""
    if not name or name != name.strip() or "/" in name or not name.isprintable() or len(name) > 200:
        raise errors.ArchipelError(f"'{name}' cannot name a virtual machine", code)
    return name


def generated_name(uuid: str) -> str:
    """A name for who gives none."""
    return f"vm-{uuid[:8]}"


async def refuse_taken(agent: Agent, name: str, code: int) -> None:
    """Raises ArchipelError where the name is an entity's or a domain's."""
    _refuse_managed(agent, name, code)
    owner = await agent.libvirt.call(domains.uuid_of, name)
    if owner is not None:
        raise errors.ArchipelError(f"the name '{name}' is that of the domain {owner}", code)


def _refuse_managed(agent: Agent, name: str, code: int) -> None:
    for vm in agent.vms.values():
        if vm.name.lower() == name.lower() and not vm.releasing:
            raise errors.ArchipelError(f"the name '{name}' is that of the virtual machine {vm.uuid}", code)


async def enter(agent: Agent, uuid: str, name: str, sender: str, change: str, code: int) -> None:
    """A new machine comes under management, which the push ``change`` tells, and who asked for it may use it."""
    # Again, and nothing awaited between this and the row: somebody else may have asked for the same name.
    _refuse_managed(agent, name, code)
    agent.permissions.grant(jids.bare(sender), jids.vm_jid(uuid, agent.domain), [permissions.ALL])
    await agent.manage(uuid, name, change)
    agent.spawn(_introduce(agent.vms[uuid], jids.bare(sender)), f"introduction of {uuid}")


async def _introduce(vm: VirtualMachineEntity, person: str) -> None:
    """A new machine asks for a place in the roster of who made it."""
    try:
        await asyncio.wait_for(vm.online.wait(), _INTRODUCTION)
        await contacts.invite(vm, person)
    except (errors.ArchipelError, asyncio.TimeoutError) as fault:
        log.info("%s has not asked for a place in the roster of %s: %r", vm.name, person, fault)
    else:
        vm.agent.pushes.publish(vm, "subscription", "added")


def named(agent: Agent, request: Request, code: int) -> VirtualMachineEntity:
    """The managed machine that the attribute ``jid`` names; raises ArchipelError."""
    jid = request.attributes.get("jid", "")
    vm = agent.vms.get(jids.node(jid)) if jids.domain(jid) == agent.domain else None
    if vm is None or not agent.is_managed(vm.uuid):
        raise errors.ArchipelError(f"{agent.node} manages no virtual machine '{jid}'", code)
    return vm


def identify(domain: Element, uuid: str, name: str) -> None:
    """Gives a definition its UUID and name, in place."""
    for tag, text in (("uuid", uuid), ("name", name)):
        element = domain.find(tag)
        if element is None:
            element = domain.makeelement(tag)
            domain.insert(0, element)
        element.text = text
    domain.attrib.pop("id", None)


def machine_element(uuid: str, domain: str, node: str = "") -> ET.Element:
    """<virtualmachine jid/>, with the resource where a ``node`` is given."""
    return ET.Element(_VIRTUAL_MACHINE, {"jid": jids.vm_jid(uuid, domain, node)})


# In a thread


def define_new(connection: libvirt.virConnect, xml: str) -> None:
    """Defines a domain that does not exist yet."""
    connection.defineXML(xml)


def _power_off(connection: libvirt.virConnect, uuid: str) -> None:
    """Nothing happens to a domain that is off, or is not."""
    machine = domains.look(connection, uuid)
    if machine is not None and machine.active:
        domains.power_off(connection, uuid)
