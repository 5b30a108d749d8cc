# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rosters of the entities: who sees their presence is who holds the permission ``presence``, and nobody else.

But for hypervisors: the server shows the fleet to automation and people, in shared roster groups (role ejabberd), and
that is decided there. No virtual machine is in such a group.
"""

from __future__ import annotations

import asyncio
import logging
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, namespaces as ns

from . import xmpp
from .grants import EVERYWHERE
from .permissions import PRESENCE

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity

log = logging.getLogger(__name__)

_ITEM = f"{{{ns.ROSTER}}}item"
_GROUP = f"{{{ns.ROSTER}}}group"


class Contacts:
    """Ends the subscriptions that no grant carries any more, after each login and each change of grants.

    One roster at a time, so that a thousand machines don't hold up what people ask for.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._waiting: dict[str, Entity] = {}  # by bare JID
        self._worker: asyncio.Task[t.Any] | None = None

    def on_change(self, entities: frozenset[str]) -> None:
        """Grants changed on these entities."""
        for entity in (self._agent.hypervisor, *self._agent.vms.values()):
            if EVERYWHERE in entities or jids.bare(entity.jid) in entities:
                self.check(entity)

    def check(self, entity: Entity) -> None:
        """Has an entity's roster looked at soon."""
        self._waiting[jids.bare(entity.jid)] = entity
        if self._worker is None or self._worker.done():
            self._worker = self._agent.spawn(self._work(), "check of rosters")

    async def _work(self) -> None:
        while self._waiting:
            bare, entity = self._waiting.popitem()
            try:
                # Behind those who log in: at a start all of them want to.
                async with self._agent.logins:
                    await _end_subscriptions(entity)
            except errors.ArchipelError as fault:
                # Its next login brings it here again.
                log.info("the roster of %s is not checked: %s", bare, fault.message)


async def _end_subscriptions(entity: Entity) -> None:
    bare = jids.bare(entity.jid)
    session = entity.session
    if session is None or not session.connected:
        return
    roster = await session.request(bare, ET.Element(f"{{{ns.ROSTER}}}query"), kind="get")
    for item in () if roster is None else roster.iter(_ITEM):
        contact = item.get("jid", "")
        # An entry that the server shares has a group, and one of ours has none.
        if entity.kind == "hypervisor" and item.find(_GROUP) is not None:
            continue
        if item.get("subscription") in ("from", "both") and not _permitted(entity, contact):
            log.info("%s may not see the presence of %s any more", contact, bare)
            session.presence(to=contact, kind="unsubscribed")


def _permitted(entity: Entity, contact: str) -> bool:
    return entity.agent.permissions.permits(contact, PRESENCE, jids.bare(entity.jid))


async def invite(entity: Entity, contact: str) -> None:
    """Takes a person into an entity's roster and asks for a place in theirs."""
    session = _session(entity)
    await session.request(jids.bare(entity.jid), _entry(contact))
    session.presence(to=contact, kind="subscribe", nick=entity.name)


async def leave(entity: Entity, contact: str) -> None:
    """Removes a person from an entity's roster, which ends the subscriptions in both directions (RFC 6121, 2.5.2)."""
    await _session(entity).request(jids.bare(entity.jid), _entry(contact, subscription="remove"))


def _session(entity: Entity) -> xmpp.Session:
    if entity.session is None:
        raise xmpp.Unreachable(f"{jids.bare(entity.jid)} is not connected to the XMPP server")
    return entity.session


def _entry(contact: str, **attributes: str) -> ET.Element:
    query = ET.Element(f"{{{ns.ROSTER}}}query")
    ET.SubElement(query, _ITEM, {"jid": contact, **attributes})
    return query
