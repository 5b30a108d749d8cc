# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:hypervisor:control setorginfo: what a machine's vCard says of whose it is, and its name."""

from __future__ import annotations

import typing as t

from archipel_protocol import errors, namespaces as ns, payloads

from . import domains, vcard
from .dispatch import Reply, Request, handler
from .lifecycle import checked_name, machine_element, refuse_taken

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

_CODE = errors.CODE_HYPERVISOR_SETORGINFO
# The name, as XEP-0054 calls it.
_NAME = "FN"


@handler(ns.HYPERVISOR_CONTROL, "setorginfo", "setorginfo", on="hypervisor", code=_CODE)
async def setorginfo(entity: HypervisorEntity, request: Request) -> Reply:
    """target="UUID" <FN/>? <ORGNAME/>? <ORGUNIT/>? <USERID/>? <LOCALITY/>? <CATEGORIES/>? -> <virtualmachine jid/>.

    What is not there stays as it is. Another name needs a machine that is off.
    """
    agent = entity.agent
    vm = _target(agent, request)
    stated = _stated(request)
    name = stated.pop(_NAME, None)
    values = vcard.organisation({tag.lower(): text for tag, text in stated.items()})
    async with agent.lock(vm.uuid):
        if name is not None:
            await _rename(agent, vm, name)
        agent.profiles.change(vm, **values)
    return [machine_element(vm.uuid, agent.domain, agent.node)]


def _target(agent: Agent, request: Request) -> VirtualMachineEntity:
    uuid = request.attributes.get("target", "").lower()
    vm = agent.vms.get(uuid)
    if vm is None or not agent.is_managed(uuid):
        raise errors.ArchipelError(f"target: {agent.node} manages no virtual machine '{uuid}'", _CODE)
    return vm


def _stated(request: Request) -> dict[str, str]:
    """Text by element; raises MalformedRequest."""
    known = (_NAME, *(name.upper() for name in vcard.ORGANISATION))
    found: dict[str, str] = {}
    for child in request.element:
        dummy, tag = payloads.split_tag(child.tag)
        if tag not in known or tag in found or len(child):
            message = f"<{tag}/> is not known, or not a text, or there twice; known are {', '.join(known)}"
            raise errors.MalformedRequest(message)
        found[tag] = child.text or ""
    return found


async def _rename(agent: Agent, vm: VirtualMachineEntity, name: str) -> None:
    checked_name(name, _CODE)
    if name == vm.name:
        return
    await refuse_taken(agent, name, _CODE)
    machine = await agent.libvirt.call(domains.look, vm.uuid)
    if machine is None:
        raise errors.ArchipelError(f"{vm.name} is not defined", _CODE)
    if machine.active:
        raise errors.ArchipelError(f"FN: {vm.name} gets another name only while it is off", _CODE)
    await agent.libvirt.call(domains.rename, vm.uuid, name)
    await vm.refresh()
