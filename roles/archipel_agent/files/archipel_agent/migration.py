# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving a virtual machine to another hypervisor, and its XMPP account with it.

The order makes it safe to be killed at any line: the intention is in the store before libvirt is asked; libvirt moves
the domain; the source offers the account until the target has it; then the source forgets. settle() goes on from
wherever that stopped, and decides by where libvirt says the domain is. docs/agent.md tells it in full.
"""

from __future__ import annotations

import asyncio
import logging
import typing as t

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns, payloads, states

from . import granting, xmpp
from .backoff import pauses
from .config import Peer
from .dispatch import Reply, Request, handler
from .handover import LOGIN, OFFER, QUERY, here
from .libvirt_facade import libvirt

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

# Never VIR_MIGRATE_UNSAFE: libvirt knows better than we do whether the disks are shared.
_FLAGS = (
    libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_TLS
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)
_UNDEFINE = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA

# Seconds: for the hand-over within the request that asked for the move, for the target's answers (a target that dies
# answers nothing, and is asked again), between two looks at the progress.
_HANDOVER = 60.0
_ANSWERS = {QUERY: 10.0, OFFER: LOGIN + 5.0}
_PROGRESS = 3.0


class StillMoving(errors.ArchipelError):
    """libvirt goes on with a migration that an earlier life of this agent began."""

    code = errors.CODE_MIGRATING


# The source


@handler(ns.DECLARATION, wire.MIGRATE, "declaration_migrate", on="hypervisor", code=errors.CODE_VM_MIGRATE)
async def migrate_declared(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuid": str, "to": node, "timeout": seconds?} -> {"vm": facts}."""
    asked = wire.decode(request.text)
    uuid, node, timeout = asked.get("uuid"), asked.get("to"), asked.get("timeout")
    if not isinstance(uuid, str) or not isinstance(node, str):
        raise errors.MalformedRequest("migrate needs 'uuid' and 'to', both text")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
        raise errors.MalformedRequest("'timeout' must be a number of seconds above 0")
    return wire.encode(await migrate(entity.agent, uuid, node, timeout))


@handler(ns.VM_CONTROL, "migrate", "migrate", on="vm", code=errors.CODE_VM_MIGRATE)
async def migrate_vm(entity: VirtualMachineEntity, request: Request) -> Reply:
    """<archipel action="migrate" hypervisorjid="hv2@domain/hv2"/>; answers when it has moved."""
    address = request.attributes.get("hypervisorjid", "")
    if jids.domain(address) != entity.agent.domain or not jids.node(address):
        raise errors.MalformedRequest(f"hypervisorjid must be the JID of a hypervisor of {entity.agent.domain}")
    await migrate(entity.agent, entity.uuid, jids.node(address))
    return None


async def migrate(agent: Agent, uuid: str, node: str, timeout: float | None = None) -> dict[str, t.Any]:
    """Moves a machine: live if it is active, else its definition. Returns the target's {"vm": facts}.

    Raises ArchipelError: with the machine still here and unharmed, or telling that the end is not known yet.
    """
    peer = _peer(agent, node)
    vm = agent.vms.get(uuid)
    if vm is None or vm.releasing:
        raise errors.ArchipelError(f"{agent.node} manages no virtual machine {uuid}", errors.CODE_VM_MIGRATE)
    async with agent.lock(uuid):
        await _preflight(agent, vm, peer)
        active, autostart = await agent.libvirt.call(_before, uuid)
        log.info("%s (%s) begins to move to %s", vm.name, uuid, peer.node)
        agent.store.change(vm.bare, handover_to=peer.jid, handover_autostart=autostart)
        fault = await _move(agent, vm, peer, active, timeout)
        settling = agent.spawn(_settle_until_done(agent, vm, peer), f"hand-over of {uuid}")
        agent.settling[uuid] = settling
        done, dummy = await asyncio.wait({settling}, timeout=_HANDOVER)
        if not done:
            message = f"it is not known yet whether {vm.name} has moved to {peer.node}; the agent goes on to find out"
            raise errors.ArchipelError(message + (f": {fault.message}" if fault else ""), errors.CODE_VM_MIGRATE)
        reply = settling.result()
        if reply is None:
            text = fault.message if fault else "libvirt still has it here"
            raise errors.ArchipelError(f"{vm.name} stays on {agent.node}: {text}", errors.CODE_VM_MIGRATE) from fault
        return reply


def resume(agent: Agent) -> None:
    """Goes on with every intention in the store that nobody is at."""
    for row in agent.store.rows():
        uuid = jids.node(row.jid)
        vm = agent.vms.get(uuid)
        if not row.handover_to or vm is None or agent.mutex(uuid).locked():
            continue
        running = agent.settling.get(uuid)
        if running is not None and not running.done():
            continue
        peer = agent.config.peers.get(jids.node(row.handover_to))
        if peer is None:
            log.error("%s was moving to %s, which is no configured peer any more", row.name, row.handover_to)
            continue
        log.info("%s was moving to %s when it was interrupted", row.name, peer.node)
        agent.settling[uuid] = agent.spawn(_settle_until_done(agent, vm, peer), f"hand-over of {uuid}")


def _peer(agent: Agent, node: str) -> Peer:
    if node == agent.node:
        raise errors.ArchipelError(f"the virtual machine is on {node} already", errors.CODE_VM_MIGRATE)
    peer = agent.config.peers.get(node)
    if peer is None:
        known = ", ".join(sorted(agent.config.peers)) or "none"
        message = f"{agent.node} knows no hypervisor '{node}' to move to; its peers are: {known}"
        raise errors.ArchipelError(message, errors.CODE_VM_MIGRATE)
    return peer


async def _preflight(agent: Agent, vm: VirtualMachineEntity, peer: Peer) -> None:
    """Raises ArchipelError where the move could not be brought to its end."""
    try:
        await asyncio.wait_for(vm.online.wait(), LOGIN)
    except asyncio.TimeoutError:
        message = f"{vm.name} is not logged in to the XMPP server, so its account cannot move"
        raise errors.ArchipelError(message, errors.CODE_VM_MIGRATE) from None
    there = await ask(agent, peer, QUERY, {"uuid": vm.uuid})
    if there.get("state") is not None:
        message = f"{peer.node} has a domain {vm.uuid} already"
        raise errors.ArchipelError(message, errors.CODE_VM_MIGRATE)


async def _move(
    agent: Agent, vm: VirtualMachineEntity, peer: Peer, active: bool, timeout: float | None
) -> errors.ArchipelError | None:
    """libvirt's part; the error that it ends with does not tell by itself where the machine is."""
    moving = asyncio.ensure_future(agent.libvirt.call_apart(_migrate, vm.uuid, peer.uri, active))
    progress = agent.spawn(_show_progress(agent, vm), f"progress of {vm.uuid}") if active else None
    try:
        done, dummy = await asyncio.wait({moving}, timeout=timeout)
        if not done:
            await agent.libvirt.call(_abort, vm.uuid)
        await moving
    except errors.ArchipelError as fault:
        log.warning("%s does not move to %s: %s", vm.name, peer.node, fault.message)
        if timeout is not None and not done:
            return errors.ArchipelError(f"the migration was not done within {timeout:g} s", errors.CODE_VM_MIGRATE)
        return fault
    finally:
        if progress is not None:
            progress.cancel()
    return None


async def _show_progress(agent: Agent, vm: VirtualMachineEntity) -> None:
    """Archipel's "Migrating - N%"; libvirt has no event for it."""
    while True:
        try:
            percent = await agent.libvirt.call(_progress, vm.uuid)
        except errors.ArchipelError:
            return
        vm.show(vm.shown[0], f"Migrating - {percent}%")
        await asyncio.sleep(_PROGRESS)


async def _settle_until_done(agent: Agent, vm: VirtualMachineEntity, peer: Peer) -> dict[str, t.Any] | None:
    wait = pauses(first=0.5, largest=8)
    told = ""
    while True:
        try:
            return await settle(agent, vm, peer)
        except errors.ArchipelError as fault:
            if fault.message != told:
                log.warning("%s is between here and %s: %s", vm.name, peer.node, fault.message)
                told = fault.message
            await asyncio.sleep(next(wait))


async def settle(agent: Agent, vm: VirtualMachineEntity, peer: Peer) -> dict[str, t.Any] | None:
    """Brings an intention to its end, by where libvirt has the domain.

    Returns the target's answer where the machine is there now, None where it stays here. Raises ArchipelError where one
    of the two cannot be asked: then neither side starts the machine, and the intention stays.
    """
    row = agent.store.row(vm.bare)
    if row is None or not row.handover_to:
        return None
    state, moving = await agent.libvirt.call(here, vm.uuid)
    if moving:
        raise StillMoving("libvirt is still at it")
    if state in states.ACTIVE:
        return await _stay(agent, vm)
    there = await ask(agent, peer, QUERY, {"uuid": vm.uuid})
    if there.get("state") is None:
        return await _stay(agent, vm)
    if state is not None:
        # The move was done but for libvirt's last step here, which is to forget the definition.
        log.warning("%s is defined on %s and inactive here: its definition here goes", vm.name, peer.node)
        await agent.libvirt.call(_undefine, vm.uuid)
    offer = {
        "uuid": vm.uuid,
        "name": row.name,
        "password": row.password,
        "autostart": row.handover_autostart,
        "pushes": await agent.pushes.part(vm.bare),
        "profile": agent.store.profile(vm.bare),
        "grants": granting.travelling(agent.permissions, vm.bare),
    }
    reply = await ask(agent, peer, OFFER, offer)
    log.info("%s has moved to %s", vm.name, peer.node)
    agent.forget(vm)
    return reply


async def _stay(agent: Agent, vm: VirtualMachineEntity) -> None:
    agent.store.change(vm.bare, handover_to=None, handover_autostart=False)
    log.info("%s stays here", vm.name)
    agent.pushes.stay(vm)
    await vm.refresh()


async def ask(agent: Agent, peer: Peer, action: str, content: dict[str, t.Any]) -> dict[str, t.Any]:
    """What a peer answers to a request of archipel:handover; raises ArchipelError."""
    session = agent.hypervisor.session
    if session is None:
        raise xmpp.Unreachable(f"{agent.node} is not connected to the XMPP server")
    query = payloads.request(ns.HANDOVER, action, text=wire.encode(content))
    try:
        answer = await session.request(jids.hypervisor_jid(peer.node, agent.domain), query, timeout=_ANSWERS[action])
    except xmpp.Unreachable as fault:
        raise xmpp.Unreachable(f"hypervisor {peer.node}'s agent is offline ({fault.message})") from None
    except errors.PermissionDenied:
        message = f"hypervisor {peer.node} does not know {agent.node} as a peer"
        raise errors.ArchipelError(message, errors.CODE_HANDOVER) from None
    return wire.decode(answer.text if answer is not None else None)


# In a thread


def _before(connection: libvirt.virConnect, uuid: str) -> tuple[bool, bool]:
    """(active, autostart)"""
    domain = connection.lookupByUUIDString(uuid)
    return bool(domain.isActive()), bool(domain.isPersistent() and domain.autostart())


def _migrate(connection: libvirt.virConnect, uuid: str, uri: str, active: bool) -> None:
    """virDomainMigrateToURI3; from daemon to daemon, so it goes on if this process dies."""
    flags = _FLAGS | (libvirt.VIR_MIGRATE_LIVE if active else libvirt.VIR_MIGRATE_OFFLINE)
    connection.lookupByUUIDString(uuid).migrateToURI3(uri, {}, flags)


def _abort(connection: libvirt.virConnect, uuid: str) -> None:
    connection.lookupByUUIDString(uuid).abortJob()


def _progress(connection: libvirt.virConnect, uuid: str) -> int:
    """Per cent of the data that is known to be sent."""
    job = connection.lookupByUUIDString(uuid).jobStats()
    total = job.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL, 0)
    return int(100 * job.get(libvirt.VIR_DOMAIN_JOB_DATA_PROCESSED, 0) / total) if total else 0


def _undefine(connection: libvirt.virConnect, uuid: str) -> None:
    connection.lookupByUUIDString(uuid).undefineFlags(_UNDEFINE)
