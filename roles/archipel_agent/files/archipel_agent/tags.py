# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""archipel:tags, and the copy of all tags on the node /archipel/tags, for clients that look there.

A machine's tags live in its definition (metadata.py), a hypervisor's in the store. Nothing reads the copy to decide
anything. Each hypervisor has items of its own on the node, one for each tagged entity, called by the entity's full JID:
<tag jid="uuid@domain" tags="a;;b"/>.
"""

from __future__ import annotations

import asyncio
import logging
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns, pubsub, tags as words

from . import domains
from .backoff import pauses
from .dispatch import Reply, Request, handler
from .libvirt_facade import DomainNotFound

if t.TYPE_CHECKING:
    from .agent import Agent
    from .hypervisor import HypervisorEntity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

# Seconds in which changes are gathered: whoever tags one machine tags many.
_GATHER = 0.2
_TAG = f"{{{ns.TAGS}}}tag"


@handler(ns.TAGS, "settags", "settags", on="vm", code=errors.CODE_TAGS)
async def settags(entity: VirtualMachineEntity, request: Request) -> Reply:
    """tags="a;;b": these and no others; at once, and for good."""
    wanted = words.split(request.attributes.get("tags", ""))
    async with entity.agent.lock(entity.uuid):
        try:
            await entity.agent.libvirt.call(domains.set_tags, entity.uuid, wanted)
        except DomainNotFound:
            raise errors.ArchipelError(f"{entity.name} is not defined", errors.CODE_TAGS) from None


@handler(ns.TAGS, "settags", "settags", on="hypervisor", code=errors.CODE_TAGS)
async def settags_of_hypervisor(entity: HypervisorEntity, request: Request) -> Reply:
    """The same for the hypervisor."""
    entity.agent.store.set_tags(words.split(request.attributes.get("tags", "")))
    entity.agent.tags.changed()


class Copy:
    """This hypervisor's items on the node."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._changed = asyncio.Event()
        self._held: dict[str, str] | None = None  # tags by item, as the server has them; None: not known

    def changed(self) -> None:
        """Tags, or who is managed here, may be others now."""
        self._changed.set()

    def on_login(self) -> None:
        """The server may have lost, or taken, anything."""
        self._held = None
        self._changed.set()

    async def keep(self) -> None:
        """Brings each change to the node, for ever."""
        wait, told = pauses(first=1, largest=300), ""
        while True:
            await self._changed.wait()
            await self._agent.hypervisor.online.wait()
            await asyncio.sleep(_GATHER)
            await self._agent.calm.wait(self)
            self._changed.clear()
            try:
                await self._bring()
                wait, told = pauses(first=1, largest=300), ""
            except errors.ArchipelError as fault:
                if fault.message != told:
                    log.warning("the copy on %s is not up to date: %s", pubsub.TAGS, fault.message)
                told = fault.message
                self._held = None
                self._changed.set()
                await asyncio.sleep(next(wait))

    async def _bring(self) -> None:
        wanted = await self._wanted()
        held = await self._read() if self._held is None else self._held
        for item in sorted(set(held) - set(wanted)):
            retract = ET.Element(f"{{{ns.PUBSUB}}}retract", {"node": pubsub.TAGS})
            ET.SubElement(retract, f"{{{ns.PUBSUB}}}item", {"id": item})
            await self._ask("set", retract)
        for item in sorted(item for item in wanted if held.get(item) != wanted[item]):
            publish = ET.Element(f"{{{ns.PUBSUB}}}publish", {"node": pubsub.TAGS})
            entry = ET.SubElement(publish, f"{{{ns.PUBSUB}}}item", {"id": item})
            ET.SubElement(entry, _TAG, {"jid": jids.bare(item), "tags": wanted[item]})
            await self._ask("set", publish)
        self._held = wanted

    async def _wanted(self) -> dict[str, str]:
        agent = self._agent
        found = await agent.libvirt.call(domains.all_tags)
        tagged = {
            jids.vm_jid(uuid, agent.domain, agent.node): tags for uuid, tags in found.items() if uuid in agent.vms
        }
        tagged[agent.jid] = tuple(agent.store.tags())
        return {item: words.join(tags) for item, tags in tagged.items() if tags}

    async def _read(self) -> dict[str, str]:
        """Our items of the node."""
        answer = await self._ask("get", ET.Element(f"{{{ns.PUBSUB}}}items", {"node": pubsub.TAGS}))
        items = () if answer is None else answer.iter(f"{{{ns.PUBSUB}}}item")
        own = [item for item in items if jids.resource(item.get("id", "")) == self._agent.node]
        return {item.get("id", ""): "".join(child.get("tags", "") for child in item) for item in own}

    async def _ask(self, kind: str, content: ET.Element) -> ET.Element | None:
        session = self._agent.hypervisor.session
        if session is None:
            raise errors.ArchipelError(f"{self._agent.node} is not connected to the XMPP server")
        query = ET.Element(f"{{{ns.PUBSUB}}}pubsub")
        query.append(content)
        return await session.request(pubsub.service(self._agent.domain), query, kind=kind)
