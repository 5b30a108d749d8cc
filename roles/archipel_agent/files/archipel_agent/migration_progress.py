# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a live migration is: in the machine's presence, and for who asks, who learns of copies of disks, too.

libvirt has no event for either.
"""

from __future__ import annotations

import asyncio
import typing as t

from archipel_protocol import declaration as wire, errors, namespaces as ns

from . import wanted
from .dispatch import Reply, Request, handler
from .libvirt_facade import libvirt

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

# Seconds between two looks.
_PAUSE = 3.0


class Standing(t.NamedTuple):
    """Per cent of the data that is there, and the bytes that are not; a guest that works makes them more again."""

    percent: int
    remaining: int


@handler(
    ns.DECLARATION, wire.PROGRESS, "declaration_inventory", on="hypervisor", code=errors.CODE_VM_MIGRATE, reads=True
)
async def progress(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuids": [str]} -> {"jobs": [Job]}, of those that are on their way from here, or whose disks are copied here."""
    jobs = []
    for uuid in wanted.uuids(wire.decode(request.text)):
        try:
            found = await _standing(entity.agent, uuid)
        except errors.ArchipelError:
            continue  # it has just arrived
        if found is not None:
            jobs.append(wire.Job(uuid=uuid, percent=found.percent, remaining=found.remaining))
    return wire.encode({"jobs": jobs})


async def _standing(agent: Agent, uuid: str) -> Standing | None:
    vm = agent.vms.get(uuid)
    if vm is not None and vm.moving:
        return await agent.libvirt.call(standing, uuid)
    written = await agent.disk_copies.written(uuid)
    if written is None or not 0 <= written.there <= written.whole or not written.whole:
        return None
    return Standing(100 * written.there // written.whole, written.whole - written.there)


async def show(agent: Agent, vm: VirtualMachineEntity) -> None:
    """Archipel's presence "Migrating - N%", until it is cancelled."""
    while True:
        try:
            found = await agent.libvirt.call(standing, vm.uuid)
        except errors.ArchipelError:
            return
        vm.show(vm.shown[0], f"Migrating - {found.percent if found else 0}%")
        await asyncio.sleep(_PAUSE)


def standing(connection: libvirt.virConnect, uuid: str) -> Standing | None:
    """Of the job on a domain; None where libvirt does not know yet. In a thread."""
    job = connection.lookupByUUIDString(uuid).jobStats()
    total, left = job.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL, 0), job.get(libvirt.VIR_DOMAIN_JOB_DATA_REMAINING, 0)
    return Standing(int(100 * (total - left) / total), left) if 0 <= left <= total and total else None
