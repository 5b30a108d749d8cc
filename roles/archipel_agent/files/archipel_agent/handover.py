# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:handover: taking over a virtual machine's account when its domain has come here. migration.py is the source.

Only configured peers may send these requests. An account is taken only for a machine that this host's own libvirt did
not have when the peer announced it, and has now: one that has been here all along is nobody else's to hand over.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import typing as t

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns, states

from . import domains, granting, migration_needs, migration_target, permissions, vcard
from .declaration import facts
from .dispatch import Reply, Request, handler
from .libvirt_facade import libvirt
from .peers import LOGIN, OFFER, QUERY

if t.TYPE_CHECKING:
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

_POST_COPY = (libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)


@handler(ns.HANDOVER, QUERY, permissions.PEER, on="hypervisor", code=errors.CODE_HANDOVER, reads=True)
async def query(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuid": str, "needs": migration_needs.Needs?, "announced": bool?}
    -> {"state": virDomainState or null, "problems": [str]?, "copy": [target]?}

    What libvirt here says of it, and, where it is told what the machine needs, what this host lacks. Announced: the
    peer is about to move it here.
    """
    asked, facade = wire.decode(request.text), entity.agent.libvirt
    uuid = _text_of(asked, "uuid")
    needs = migration_needs.decode(asked["needs"]) if "needs" in asked else None
    state, dummy = await facade.call(here, uuid)
    if state is None and asked.get("announced") is True:
        entity.agent.store.expect(uuid, jids.node(request.sender))
    if needs is None:
        return wire.encode({"state": state})
    lacks = await facade.call(migration_target.answer, needs)
    return wire.encode({"state": state, **lacks._asdict()})


@handler(ns.HANDOVER, OFFER, permissions.PEER, on="hypervisor", code=errors.CODE_HANDOVER)
async def offer(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuid", "name", "password": str, "autostart": bool, "pushes": Pushes.part(), "profile": {}}
    -> {"vm": facts}.

    Answered when the machine is logged in here. Taken only for a machine that has come since this peer announced it.
    Again: the same answer.
    """
    agent = entity.agent
    offered = wire.decode(request.text)
    uuid, name, password = (_text_of(offered, key) for key in ("uuid", "name", "password"))
    async with agent.mutex(uuid):
        state, dummy = await agent.libvirt.call(here, uuid)
        if state is None:
            message = f"libvirt on {agent.node} has no domain {uuid}, so its account is not taken"
            raise errors.ArchipelError(message, errors.CODE_HANDOVER)
        vm = agent.vms.get(uuid)
        comes = agent.store.expects(uuid, jids.node(request.sender))
        if not comes and (vm is None or vm.leaving):
            peer = jids.node(request.sender)
            message = f"{peer} has not announced {uuid}, or it was on {agent.node} before; so its account is not taken"
            raise errors.ArchipelError(message, errors.CODE_HANDOVER)
        if vm is None or vm.leaving:
            # Before the account, so that no interruption leaves it here without them. Not again where an answer was
            # lost: what was granted here meanwhile is newer.
            granting.adopt(agent.permissions, jids.vm_jid(uuid, agent.domain), offered.get("grants"))
        if vm is None:
            vm = await agent.take_over(uuid, name, password, offered.get("pushes"), _profile(offered.get("profile")))
        elif comes:
            vm.reclaim()
        await _await_login(vm, password if comes else None)
        if comes:
            if offered.get("autostart") is True:
                await agent.libvirt.call(_set_autostart, uuid)
            agent.store.expect_no_more(uuid)
            log.info("%s has come from %s", vm.name, jids.node(request.sender))
        machine = await agent.libvirt.call(domains.look, uuid)
        return wire.encode({"vm": None if machine is None else facts(agent, dataclasses.replace(machine, xml=""))})


async def _await_login(vm: VirtualMachineEntity, password: str | None) -> None:
    """Waits until the machine is logged in here; the offered password counts where ours turn out not to."""
    deadline = asyncio.get_running_loop().time() + LOGIN
    while asyncio.get_running_loop().time() < deadline:
        try:
            await asyncio.wait_for(vm.online.wait(), 1)
            return
        except asyncio.TimeoutError:
            if vm.foreign and password is not None:
                vm.use_password(password)
    message = f"{vm.name} could not log in on {vm.agent.node} within {LOGIN:g} s"
    raise errors.ArchipelError(message, errors.CODE_HANDOVER)


def _text_of(content: dict[str, t.Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value or (key == "uuid" and not jids.is_uuid(value)):
        raise errors.MalformedRequest(f"'{key}' is missing or malformed")
    return value


def _profile(content: t.Any) -> dict[str, str]:
    """The fields of a vCard that another agent sends; what is no text is left out."""
    fields = content if isinstance(content, dict) else {}
    known = {name: fields.get(name) for name in (*vcard.ORGANISATION, vcard.AVATAR)}
    return {name: value for name, value in known.items() if isinstance(value, str)}


# In a thread


def here(connection: libvirt.virConnect, uuid: str) -> tuple[int | None, bool]:
    """(state, whether a job works on it); state None: no such domain."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        state, reason = domain.state()
        job = _job(domain) if domain.isActive() else libvirt.VIR_DOMAIN_JOB_NONE
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return None, False
    # From the switch to post-copy on the guest is over there, for better or worse, and what is here is a husk.
    return int(state), job != libvirt.VIR_DOMAIN_JOB_NONE or (state == states.PAUSED and reason in _POST_COPY)


def _job(domain: libvirt.virDomain) -> int:
    try:
        return int(domain.jobInfo()[0])
    except libvirt.libvirtError as fault:
        # A driver that knows no jobs has none.
        if fault.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return int(libvirt.VIR_DOMAIN_JOB_NONE)


def _set_autostart(connection: libvirt.virConnect, uuid: str) -> None:
    """libvirt does not migrate the mark."""
    connection.lookupByUUIDString(uuid).setAutostart(1)
