# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:handover use: which volumes may go with a machine, because nothing else uses them, on no hypervisor.

Hypervisors may share a storage, and libvirt knows of its own machines only. So the peers are asked before a volume
goes, and none goes while one of them is silent.
"""

from __future__ import annotations

import asyncio
import typing as t

from archipel_protocol import declaration as wire, errors, jids, namespaces as ns

from . import permissions, volumes
from .dispatch import Reply, Request, handler
from .peers import USE, ask, texts
from .wanted import Desired

if t.TYPE_CHECKING:
    from .agent import Agent
    from .config import Peer
    from .hypervisor import HypervisorEntity


@handler(ns.HANDOVER, USE, permissions.PEER, on="hypervisor", code=errors.CODE_HANDOVER, reads=True)
async def use(entity: HypervisorEntity, request: Request) -> Reply:
    """{"uuid": str, "paths": [str]} -> {"used": [str]}: those that something else than this machine uses here."""
    asked = wire.decode(request.text)
    uuid, paths = asked.get("uuid"), asked.get("paths")
    if not isinstance(uuid, str) or not jids.is_uuid(uuid):
        raise errors.MalformedRequest("'uuid' is missing or malformed")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise errors.MalformedRequest("'paths' is missing or no list of texts")
    return wire.encode({"used": sorted(await entity.agent.libvirt.call(volumes.used, uuid, paths))})


async def removable(agent: Agent, desired: Desired, owned: t.Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the volumes ``owned`` by a machine, (pool, name), that exist and that nothing else uses anywhere.

    The silence of a peer that is assumed lost does not count. Raises ArchipelError where another one is silent.
    """
    found = await agent.libvirt.call(volumes.removable, desired.uuid, owned) if owned else {}
    if not found:
        return []
    asked = {"uuid": desired.uuid, "paths": list(found.values())}
    answers = (_used(agent, peer, asked, desired) for peer in agent.config.peers.values())
    used = frozenset().union(*await asyncio.gather(*answers))
    return [volume for volume, path in found.items() if path not in used]


async def _used(agent: Agent, peer: Peer, asked: dict[str, t.Any], desired: Desired) -> list[str]:
    try:
        answer = await ask(agent, peer, USE, asked)
        if not isinstance(answer.get("used"), list):
            raise errors.ArchipelError(f"{peer.node} does not say which files are used")
    except errors.ArchipelError as fault:
        if peer.node in desired.assume_lost:
            return []
        message = (
            f"{peer.node}, which may use volumes that are to be removed, does not say so: {fault.message}; nothing was "
            "done here. Keep them (remove_disks: none), or name a hypervisor that is lost for good in assume_lost"
        )
        raise errors.ArchipelError(message, errors.CODE_DECLARATION) from fault
    return texts(answer, "used")
