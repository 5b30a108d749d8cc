# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:handover claim: two hypervisors manage one machine, as when somebody has moved it with virsh.

It belongs to where libvirt says that it runs, else to where libvirt has it. The other one gives it up and removes the
account, so that a new one is made: no credentials are asked for. A peer is believed in one thing: that a machine which
is off here is active there. Else libvirt here must have it no more, or have seen it move away. Where nothing of this is
so, people must say which of the two is to keep it. That no two make one machine is making.py's.
"""

from __future__ import annotations

import asyncio
import logging
import typing as t

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns, states

from . import permissions
from .dispatch import Reply, Request, handler
from .handover import here
from .libvirt_facade import libvirt
from .peers import CLAIM, ask

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .machine_account import MachineAccount

log = logging.getLogger(__name__)


@handler(ns.HANDOVER, CLAIM, permissions.PEER, on="hypervisor", code=errors.CODE_HANDOVER)
async def claim(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuid": str, "active": bool} -> {"managed": bool}: the sender has it; whether it is managed here, too."""
    agent, peer, asked = entity.agent, jids.node(request.sender), wire.decode(request.text)
    uuid, active = asked.get("uuid"), asked.get("active")
    if not isinstance(uuid, str) or not jids.is_uuid(uuid) or not isinstance(active, bool):
        raise errors.MalformedRequest("claim needs 'uuid', a UUID in lower case, and 'active', true or false")
    if not agent.is_managed(uuid):
        return wire.encode({"managed": False})
    # Not while it is on its way, which is settled by itself.
    async with agent.lock(uuid):
        if not await agent.libvirt.call(_left_behind, uuid, active):
            log.warning("%s says that it has %s, which stays: libvirt has it here", peer, agent.vms[uuid].name)
            return wire.encode({"managed": True})
        log.warning("%s is %s's by now, and is given up here", agent.vms[uuid].name, peer)
        await agent.release(uuid, "unmanage")
    return wire.encode({"managed": uuid in agent.vms})


async def press(agent: Agent, vm: MachineAccount) -> None:
    """Has other hypervisors give up a machine that is here, and whose account is none of ours."""
    row = agent.store.row(vm.bare)
    if row is None or row.handover_to or vm.releasing or agent.store.unfinished(vm.uuid):
        return
    try:
        state, moving = await agent.libvirt.call(here, vm.uuid)
    except errors.ArchipelError:
        return  # the next login that fails brings it here again
    if state is None or moving:
        return
    for node, answer in (await _claim(agent, vm, state in states.ACTIVE)).items():
        if isinstance(answer, dict) and answer.get("managed"):
            log.warning("%s manages %s, too, and has it; 'unmanage' it there or here", node, vm.name)


async def _claim(agent: Agent, vm: MachineAccount, active: bool) -> dict[str, t.Any]:
    """What each peer answers to a claim, or the exception that it ends with."""
    peers = list(agent.config.peers.values())
    content = {"uuid": vm.uuid, "active": active}
    answers = await asyncio.gather(*(ask(agent, peer, CLAIM, content) for peer in peers), return_exceptions=True)
    return dict(zip((peer.node for peer in peers), answers))


# In a thread


def _left_behind(connection: libvirt.virConnect, uuid: str, active: bool) -> bool:
    """Whether a machine is not here, or is off here: after a migration, or while it is ``active`` elsewhere."""
    try:
        state, reason = connection.lookupByUUIDString(uuid).state()
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return True
    if state in states.ACTIVE:
        return False
    return active or bool(state == states.SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
