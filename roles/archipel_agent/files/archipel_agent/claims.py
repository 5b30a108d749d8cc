# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:handover claim: two hypervisors manage one machine, as when somebody has moved it with virsh.

It belongs to where libvirt has it, and where both have it, to where it is active. The other one gives it up and removes
the account, so that a new one is made: no credentials are asked for.
"""

from __future__ import annotations

import asyncio
import logging
import typing as t

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns, states

from . import permissions
from .dispatch import Reply, Request, handler
from .handover import here
from .migration import ask

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

CLAIM = "claim"


@handler(ns.HANDOVER, CLAIM, permissions.PEER, on="hypervisor", code=errors.CODE_HANDOVER)
async def claim(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuid": str, "active": bool} -> {"managed": bool}: the sender has it; whether it is managed here, too."""
    agent, asked = entity.agent, wire.decode(request.text)
    uuid, active = asked.get("uuid"), asked.get("active")
    if not isinstance(uuid, str) or not jids.is_uuid(uuid) or not isinstance(active, bool):
        raise errors.MalformedRequest("claim needs 'uuid', a UUID in lower case, and 'active', true or false")
    if not agent.is_managed(uuid):
        return wire.encode({"managed": False})
    # Not while it is on its way, which is settled by itself.
    async with agent.lock(uuid):
        state, dummy = await agent.libvirt.call(here, uuid)
        if state in states.ACTIVE or (state is not None and not active):
            return wire.encode({"managed": True})
        log.warning("%s is %s's by now, and is given up here", agent.vms[uuid].name, jids.node(request.sender))
        await agent.release(uuid, "unmanage")
    return wire.encode({"managed": uuid in agent.vms})


async def press(agent: Agent, vm: VirtualMachineEntity) -> None:
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
    content = {"uuid": vm.uuid, "active": state in states.ACTIVE}
    peers = list(agent.config.peers.values())
    answers = await asyncio.gather(*(ask(agent, peer, CLAIM, content) for peer in peers), return_exceptions=True)
    for peer, answer in zip(peers, answers):
        if isinstance(answer, dict) and answer.get("managed"):
            log.warning("%s manages %s, too, and does not give it up", peer.node, vm.name)
