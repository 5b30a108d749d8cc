# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:hypervisor:control soft_alloc: a machine that is off comes from elsewhere, its account with it.

Archipel 0.6 moved machines so. Between our agents libvirt moves them (migration.py); this takes what a person brings,
who proves with the account's password that it is theirs to bring.
"""

from __future__ import annotations

import asyncio
import secrets
import typing as t

from archipel_protocol import errors, jids, namespaces as ns, states

from . import domain_xml, domains, metadata
from .dispatch import Reply, Request, handler
from .domain_xml import Element, serialise, text_of
from .lifecycle import checked_name, refuse_taken
from .peers import LOGIN, QUERY, ask, state_of
from .unfinished import intention, settles
from .vm_definition import domain_of, refuse_host_access

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

SOFT_ALLOC = "soft_alloc"
_CODE = errors.CODE_HYPERVISOR_SOFT_ALLOC
_SEPARATOR = "::::"


class _WrongPassword(errors.ArchipelError):
    """The account is not the requester's to bring."""


@handler(ns.HYPERVISOR_CONTROL, SOFT_ALLOC, "soft_alloc", on="hypervisor", code=_CODE)
async def soft_alloc(entity: HypervisorEntity, request: Request) -> Reply:
    """<domain>...<description>uuid@domain::::password</description>...</domain>: defined, and logged in here.

    The account gets a new password; the definition does not keep the old one.
    """
    agent = entity.agent
    wanted = domain_of(request)
    uuid, password = _account(agent, wanted)
    name = checked_name(text_of(wanted, "name"), _CODE)
    await _refuse_known(agent, uuid)
    await refuse_taken(agent, name, _CODE)
    await refuse_host_access(agent, request, wanted)
    token = secrets.token_hex(16)
    metadata.mark(wanted, token)
    async with intention(agent, uuid, SOFT_ALLOC, {"token": token}):
        # None of that UUID may be here: what has come meanwhile is not ours to replace.
        await agent.libvirt.call(domains.define, uuid, None, serialise(wanted))
        await _await_login(await agent.take_over(uuid, name, password, None, {}))
        await agent.libvirt.call(domains.unmark, uuid)
    return None


@settles(SOFT_ALLOC)
async def settle_soft_alloc(agent: Agent, uuid: str, details: dict[str, t.Any]) -> None:
    """A machine whose account did not come stays where it was; the account is left as it is."""
    machine, vm = await agent.libvirt.call(domains.look, uuid), agent.vms.get(uuid)
    if machine is None or not metadata.is_marked(domain_xml.parse_domain(machine.xml), details["token"]):
        return
    try:
        if vm is not None:
            await _await_login(vm)
            await agent.libvirt.call(domains.unmark, uuid)
            return
    except _WrongPassword:
        agent.forget(vm)
    await agent.libvirt.call(domains.undefine, uuid)


def _account(agent: Agent, wanted: Element) -> tuple[str, str]:
    """(UUID, password) of the account, which the definition then has no more; raises ArchipelError."""
    description = wanted.find("description")
    text = "" if description is None else (description.text or "")
    jid, dummy, password = text.strip().partition(_SEPARATOR)
    uuid = jids.node(jid)
    if not password or not jids.is_uuid(uuid) or jids.domain(jid) != agent.domain:
        message = f"<description> must be <uuid>@{agent.domain}{_SEPARATOR}<password of that account>"
        raise errors.ArchipelError(message, _CODE)
    if text_of(wanted, "uuid").lower() != uuid:
        raise errors.ArchipelError(f"<uuid> must be {uuid}, that of the account in <description>", _CODE)
    wanted.remove(description)
    return uuid, password


async def _refuse_known(agent: Agent, uuid: str) -> None:
    """Raises ArchipelError where the machine is here already, or runs elsewhere, or that cannot be known."""
    if uuid in agent.vms or await agent.libvirt.call(domains.look, uuid) is not None:
        raise errors.ArchipelError(f"{agent.node} has a virtual machine {uuid} already", _CODE)
    peers = list(agent.config.peers.values())
    answers = await asyncio.gather(*(ask(agent, peer, QUERY, {"uuid": uuid}) for peer in peers))
    for peer, answer in zip(peers, answers):
        if state_of(answer, peer) in states.ACTIVE:
            raise errors.ArchipelError(f"the virtual machine {uuid} is active on {peer.node}", _CODE)


async def _await_login(vm: VirtualMachineEntity) -> None:
    """Until the machine is logged in; a server that is out of reach is no reason to give it back."""
    deadline = asyncio.get_running_loop().time() + LOGIN
    while not vm.online.is_set() and asyncio.get_running_loop().time() < deadline:
        try:
            await asyncio.wait_for(vm.online.wait(), 0.2)
        except asyncio.TimeoutError:
            if vm.foreign:
                message = f"the password in <description> is not that of {vm.bare}"
                raise _WrongPassword(message, _CODE) from None
