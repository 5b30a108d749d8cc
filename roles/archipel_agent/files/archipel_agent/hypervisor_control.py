# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:hypervisor:control: which virtual machines there are, and which are managed."""

from __future__ import annotations

import asyncio
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns

from .dispatch import Reply, Request, handler
from .libvirt_facade import DomainNotFound, libvirt
from .standings import standing

if t.TYPE_CHECKING:
    from .hypervisor import HypervisorEntity

_ITEM = f"{{{ns.HYPERVISOR_CONTROL}}}item"


@handler(
    ns.HYPERVISOR_CONTROL, "rostervm", "rostervm", on="hypervisor", code=errors.CODE_HYPERVISOR_ROSTERVM, reads=True
)
async def rostervm(entity: HypervisorEntity, request: Request) -> Reply:
    """<item managed="True" name="N">uuid@domain/resource</item>*; unmanaged: persistent domains, with bare JIDs."""
    agent = entity.agent
    items = [("True", vm.name, vm.jid) for uuid, vm in agent.vms.items() if agent.is_managed(uuid)]
    for uuid, name in await agent.libvirt.call(_persistent):
        if not agent.is_managed(uuid):
            items.append(("False", name, jids.vm_jid(uuid, agent.domain)))
    return [_item(*item) for item in sorted(items, key=lambda item: item[2])]


@handler(ns.HYPERVISOR_CONTROL, "manage", "manage", on="hypervisor", code=errors.CODE_HYPERVISOR_MANAGE)
async def manage(entity: HypervisorEntity, request: Request) -> Reply:
    """<item jid="uuid@domain"/>*: all come under management, or none does."""
    agent = entity.agent
    found = []
    for uuid in _uuids(entity, request):
        try:
            found.append((uuid, (await agent.libvirt.call(standing, uuid)).name))
        except DomainNotFound:
            message = f"libvirt on {agent.node} has no domain {uuid}"
            raise errors.ArchipelError(message, errors.CODE_HYPERVISOR_MANAGE) from None
    for uuid, name in found:
        async with agent.lock(uuid):
            await agent.manage(uuid, name, "manage")
        # Each writes to the disk; others have their turn between.
        await asyncio.sleep(0)
    return None


@handler(ns.HYPERVISOR_CONTROL, "unmanage", "unmanage", on="hypervisor", code=errors.CODE_HYPERVISOR_UNMANAGE)
async def unmanage(entity: HypervisorEntity, request: Request) -> Reply:
    """<item jid="uuid@domain"/>*: accounts and rows go, the domains stay as they are."""
    agent = entity.agent
    uuids = _uuids(entity, request)
    for uuid in uuids:
        if not agent.is_managed(uuid):
            message = f"{agent.node} manages no virtual machine {uuid}"
            raise errors.ArchipelError(message, errors.CODE_HYPERVISOR_UNMANAGE)

    async def release(uuid: str) -> None:
        async with agent.lock(uuid):
            await agent.release(uuid, "unmanage")

    releases = []
    for uuid in uuids:
        releases.append(asyncio.ensure_future(release(uuid)))
        # As above.
        await asyncio.sleep(0)
    await asyncio.gather(*releases)
    return None


def _uuids(entity: HypervisorEntity, request: Request) -> list[str]:
    """The machines that the request names."""
    uuids = []
    for item in request.children("item"):
        jid = item.get("jid", "")
        uuid = jids.node(jid)
        if not jids.is_uuid(uuid) or jids.domain(jid) != entity.agent.domain:
            raise errors.MalformedRequest(f"'{jid}' is not <uuid>@{entity.agent.domain}")
        uuids.append(uuid)
    if not uuids:
        raise errors.MalformedRequest(f"{request.action} needs <item jid='<uuid>@{entity.agent.domain}'/>")
    return uuids


def _item(managed: str, name: str, jid: str) -> ET.Element:
    element = ET.Element(_ITEM, {"managed": managed, "name": name})
    element.text = jid
    return element


def _persistent(connection: libvirt.virConnect) -> list[tuple[str, str]]:
    """(uuid, name) of the persistent domains."""
    domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    return [(domain.UUIDString(), domain.name()) for domain in domains]
