# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving a virtual machine to another hypervisor, and its XMPP account with it.

The order makes it safe to be killed at any line: the intention is in the store before libvirt is asked; libvirt moves
the domain; the source offers the account until the target has it; then the source forgets. settle() goes on from
wherever that stopped, and decides by where libvirt says the domain is. docs/agent.md tells it in full.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import typing as t

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns, states

from . import granting, migration_needs, migration_options, migration_progress, peers, wanted
from .backoff import pauses
from .config import Peer
from .dispatch import Reply, Request, handler
from .handover import here
from .libvirt_facade import libvirt
from .permissions import HOST_ACCESS
from .wanted import Move

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

_UNDEFINE = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA

# Seconds for the hand-over within the request that asked for the move.
_HANDOVER = 60.0


class StillMoving(errors.ArchipelError):
    """libvirt goes on with a migration that an earlier life of this agent began."""

    code = errors.CODE_MIGRATING


# The source


@handler(ns.DECLARATION, wire.MIGRATE, "declaration_migrate", on="hypervisor", code=errors.CODE_VM_MIGRATE)
async def migrate_declared(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuid": str, "to": node, "timeout": seconds?, "migration": Migration?} -> {"vm": facts}."""
    return wire.encode(await migrate(entity.agent, wanted.move(wire.decode(request.text)), request))


@handler(
    ns.DECLARATION,
    wire.MIGRATE_PLAN,
    "declaration_plan",
    on="hypervisor",
    code=errors.CODE_VM_MIGRATE,
    reads=True,
)
async def plan_migration(entity: HypervisorEntity, request: Request) -> Reply:
    """The same request, with "off": bool? -> {}, or the error that ``migrate`` would end with before anything moves."""
    move = wanted.move(wire.decode(request.text))
    peer, vm = _parties(entity.agent, move)
    if _interrupted(entity.agent, vm, peer) is None:
        await _preflight(entity.agent, vm, peer, move, request)
    return wire.encode({})


@handler(ns.VM_CONTROL, "migrate", "migrate", on="vm", code=errors.CODE_VM_MIGRATE)
async def migrate_vm(entity: VirtualMachineEntity, request: Request) -> Reply:
    """<archipel action="migrate" hypervisorjid="hv2@domain/hv2"/>; answers when it has moved."""
    address = request.attributes.get("hypervisorjid", "")
    if jids.domain(address) != entity.agent.domain or not jids.node(address):
        raise errors.MalformedRequest(f"hypervisorjid must be the JID of a hypervisor of {entity.agent.domain}")
    await migrate(entity.agent, Move(entity.uuid, jids.node(address)), request)
    return None


async def migrate(agent: Agent, move: Move, request: Request) -> dict[str, t.Any]:
    """Moves a machine: live if it is active, else its definition. Returns the target's {"vm": facts}.

    Raises ArchipelError: with the machine still here and unharmed, or telling that the end is not known yet.
    """
    peer, vm = _parties(agent, move)
    uuid = move.uuid
    settling = _interrupted(agent, vm, peer)
    if settling is not None:
        return await _go_on(agent, vm, peer, settling, move)
    async with agent.lock(uuid):
        copies = await _preflight(agent, vm, peer, move, request, announced=True)
        active, autostart = await agent.libvirt.call(_before, uuid)
        log.info("%s (%s) begins to move to %s", vm.name, uuid, peer.node)
        agent.store.change(vm.bare, handover_to=peer.jid, handover_autostart=autostart)
        fault = await _move(agent, vm, peer, active, move, copies)
        settling = agent.settling[uuid] = agent.spawn(_settle_until_done(agent, vm, peer), f"hand-over of {uuid}")
        return await _settled(agent, vm, peer, settling, fault)


def _interrupted(agent: Agent, vm: VirtualMachineEntity, peer: Peer) -> asyncio.Task[t.Any] | None:
    """What settles a move to ``peer`` that nobody waits for any more; None where there is none."""
    row, settling = agent.store.row(vm.bare), agent.settling.get(vm.uuid)
    if row is None or row.handover_to != peer.jid or agent.mutex(vm.uuid).locked():
        return None
    return None if settling is None or settling.done() else settling


async def _go_on(
    agent: Agent, vm: VirtualMachineEntity, peer: Peer, settling: asyncio.Task[t.Any], move: Move
) -> dict[str, t.Any]:
    """Waits for the end of a move that was interrupted, with the limits of this request."""
    fault = None
    try:
        given_up = await _await_end(agent, vm, settling, True, move)
        if given_up is not None:
            fault = _too_long(given_up)
    except errors.ArchipelError as error:
        # libvirt has nothing to give up any more; what is missing is the peer's part.
        fault = error
    return await _settled(agent, vm, peer, settling, fault)


async def _settled(
    agent: Agent,
    vm: VirtualMachineEntity,
    peer: Peer,
    settling: asyncio.Task[t.Any],
    fault: errors.ArchipelError | None,
) -> dict[str, t.Any]:
    """The target's answer; raises ArchipelError with what is known so far, and ``fault``, where there is none."""
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


def _parties(agent: Agent, move: Move) -> tuple[Peer, VirtualMachineEntity]:
    """Raises ArchipelError where one of the two is unknown here."""
    peer, vm = _peer(agent, move.to), agent.vms.get(move.uuid)
    if vm is None or vm.releasing:
        raise errors.ArchipelError(f"{agent.node} manages no virtual machine {move.uuid}", errors.CODE_VM_MIGRATE)
    return peer, vm


def _peer(agent: Agent, node: str) -> Peer:
    if node == agent.node:
        raise errors.ArchipelError(f"the virtual machine is on {node} already", errors.CODE_VM_MIGRATE)
    peer = agent.config.peers.get(node)
    if peer is None:
        known = ", ".join(sorted(agent.config.peers)) or "none"
        message = f"{agent.node} knows no hypervisor '{node}' to move to; its peers are: {known}"
        raise errors.ArchipelError(message, errors.CODE_VM_MIGRATE)
    return peer


async def _preflight(
    agent: Agent, vm: VirtualMachineEntity, peer: Peer, move: Move, request: Request, announced: bool = False
) -> list[str]:
    """The targets of the disks that are to be copied. ``announced``: it moves as soon as this is over.

    Raises ArchipelError with everything because of which the move could not be brought to its end.
    """
    needs, problems = await agent.libvirt.call(migration_needs.look, vm.uuid, move.migration, move.off)
    needs = dataclasses.replace(needs, host_access=request.permits(HOST_ACCESS, vm.bare))
    try:
        await asyncio.wait_for(vm.online.wait(), peers.LOGIN)
    except asyncio.TimeoutError:
        problems.append("it is not logged in to the XMPP server, so its account cannot move")
    # Beside the question to its agent; it raises nothing, and ends by itself.
    reach = asyncio.ensure_future(peers.unreachable(peer))
    answer: dict[str, t.Any] = {}
    there, fault = None, ""
    try:
        asked = {"uuid": vm.uuid, "needs": migration_needs.encode(needs), "announced": announced}
        answer = await peers.ask(agent, peer, peers.QUERY, asked)
        there = peers.state_of(answer, peer)
    except errors.ArchipelError as failure:
        fault = failure.message
    problems += filter(None, [await reach, fault])
    if there is not None:
        problems.append(f"{peer.node} has a domain {vm.uuid} already")
    lacking = peers.texts(answer, "problems")
    if lacking:
        problems.append(f"{peer.node} says: {'; '.join(lacking)}")
    if problems:
        message = f"{vm.name} cannot move from {agent.node} to {peer.node}: {'; '.join(problems)}"
        raise errors.ArchipelError(message, errors.CODE_VM_MIGRATE)
    return [one.target for one in needs.copies if one.target in peers.texts(answer, "copy")]


async def _move(
    agent: Agent, vm: VirtualMachineEntity, peer: Peer, active: bool, move: Move, copies: list[str]
) -> errors.ArchipelError | None:
    """libvirt's part; the error that it ends with does not tell by itself where the machine is."""
    work = agent.libvirt.call_apart(migration_options.migrate, vm.uuid, peer.uri, active, move.migration, copies)
    moving = asyncio.ensure_future(work)
    progress = agent.spawn(migration_progress.show(agent, vm), f"progress of {vm.uuid}") if active else None
    given_up = None
    try:
        given_up = await _await_end(agent, vm, moving, active, move)
        await moving
    except errors.ArchipelError as fault:
        log.warning("%s does not move to %s: %s", vm.name, peer.node, fault.message)
        if given_up is not None:
            return _too_long(given_up)
        return fault
    finally:
        if progress is not None:
            progress.cancel()
    return None


def _too_long(seconds: float) -> errors.ArchipelError:
    return errors.ArchipelError(f"the migration was not done within {seconds:g} s", errors.CODE_VM_MIGRATE)


async def _await_end(
    agent: Agent, vm: VirtualMachineEntity, moving: asyncio.Future[t.Any], active: bool, move: Move
) -> float | None:
    """Returns when libvirt is done, or was told to give up: then the seconds after which.

    What migration.timeout_action says is done first. After the switch to post-copy there is no giving up.
    """
    action, first = move.migration.timeout_action, move.migration.timeout
    limits = [(move.timeout, migration_options.ABORT)]
    if active and first is not None and (move.timeout is None or first < move.timeout):
        limits.insert(0, (first, action))
    passed = 0.0
    for limit, then in limits:
        done, dummy = await asyncio.wait({moving}, timeout=None if limit is None else limit - passed)
        if done or limit is None:
            return None
        passed = limit
        log.warning("%s is not done with its move after %g s: %s", vm.name, limit, then)
        try:
            await agent.libvirt.call(migration_options.TIMEOUT[then], vm.uuid)
        except errors.ArchipelError as fault:
            if then == migration_options.ABORT:
                raise
            # It may just have ended. Where it has not, the next limit is left.
            log.warning("%s: %s: %s", vm.name, then, fault.message)
            continue
        if then == migration_options.ABORT:
            return limit
        if then == migration_options.POST_COPY:
            return None
    return None


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
    if peers.state_of(await peers.ask(agent, peer, peers.QUERY, {"uuid": vm.uuid}), peer) is None:
        return await _stay(agent, vm)
    # One that was being set when the move began; none is set after that.
    async with vm.renewal:
        row = agent.store.row(vm.bare) or row
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
    reply = await peers.ask(agent, peer, peers.OFFER, offer)
    log.info("%s has moved to %s", vm.name, peer.node)
    agent.forget(vm)
    return reply


async def _stay(agent: Agent, vm: VirtualMachineEntity) -> None:
    agent.store.change(vm.bare, handover_to=None, handover_autostart=False)
    log.info("%s stays here", vm.name)
    agent.pushes.stay(vm)
    await vm.refresh()


# In a thread


def _before(connection: libvirt.virConnect, uuid: str) -> tuple[bool, bool]:
    """(active, autostart)"""
    domain = connection.lookupByUUIDString(uuid)
    return bool(domain.isActive()), bool(domain.isPersistent() and domain.autostart())


def _undefine(connection: libvirt.virConnect, uuid: str) -> None:
    connection.lookupByUUIDString(uuid).undefineFlags(_UNDEFINE)
