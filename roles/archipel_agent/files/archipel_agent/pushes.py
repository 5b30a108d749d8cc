# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pushes: every change of an entity, told on its events node to those who hold ``presence`` on it.

A hypervisor's node carries its machines' pushes, too. A push is kept (outbox.py) before it is sent, and dropped when
the server has it; where that is not known, because a session or this process ended, the node itself is asked which of
them it has. So none is lost and none comes twice.

What libvirt has events for is told from these events alone, whoever caused them. A capability calls publish() for the
rest, once the change is done::

    entity.agent.pushes.publish(entity, "virtualmachine:control", "nvcpu")
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import logging
import secrets
import time
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, payloads, pubsub, states

from . import changes, events_node, xmpp
from .outbox import Outbox, Told
from .outlet import NODE, Outlet
from .permissions import EVERYWHERE, PRESENCE
from .standings import Standing

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

# Nodes that are made or removed at a time; ejabberd's database refuses some of those that are at once.
MAKING = 4
# Seconds that libvirt's event may come after a look that saw the same.
EVENT_LATE = 1.0


class Pushes:
    """The pushes of all entities of one agent."""

    def __init__(self, agent: Agent, outbox: Outbox) -> None:
        self._agent = agent
        self._outbox = outbox
        # Of the ids of pushes, which no two have: no other life of an agent has this one's beginning.
        self._life, self._numbers = secrets.token_hex(8), itertools.count()
        self._told = outbox.all_told()
        self._kept = outbox.items()
        self.made = outbox.all_made()
        self._outlets: dict[str, Outlet] = {}
        self.making = asyncio.Semaphore(MAKING)
        self._looked: dict[str, float] = {}  # when a look found a definition to be another, by bare JID
        # What is not in the outbox yet: it goes there together, once the loop has seen to what it has woken up for.
        self._new: list[tuple[str, str, str]] = []
        self._newly_told: dict[str, Told] = {}
        self._flushing: asyncio.Handle | None = None
        agent.permissions.on_change(self._on_grants)

    def close(self) -> None:
        """Closes the database."""
        self._flush()
        for outlet in self._outlets.values():
            outlet.shut()
        self._outbox.close()

    def keep_only(self, entities: t.Collection[str]) -> None:
        """Drops everything about all but these bare JIDs: an earlier life may have ended between two databases."""
        for jid in self._outbox.known().difference(entities):
            self.forget(jid)

    # For capabilities

    def publish(self, entity: Entity, kind: str, change: str, children: t.Iterable[ET.Element] = ()) -> None:
        """Tells that ``entity`` has changed: archipel:push:<kind> with ``change``, and what else it is to carry.

        Returns at once; the push is kept until the server has it. What libvirt has an event for is not told here.
        """
        self._tell(entity, [(kind, change)], children=children)
        # What libvirt does not tell, no later life could make up for.
        self._flush()

    def membership(self, change: str, *uuids: str) -> None:
        """Tells that machines came to this hypervisor or left it: alloc, free, clone, migrate, manage or unmanage."""
        for uuid in uuids:
            machine = ET.Element(f"{{{payloads.push_namespace(changes.HYPERVISOR)}}}virtualmachine")
            machine.set("jid", jids.vm_jid(uuid, self._agent.domain))
            self._tell(self._agent.hypervisor, [(changes.HYPERVISOR, change)], children=[machine])
        self._flush()

    # What libvirt says

    def on_event(self, vm: VirtualMachineEntity, event: int, detail: int) -> None:
        """Tells of a lifecycle event."""
        told = self._told.get(vm.bare, Told(None, ""))
        found, state = changes.of_event(event, detail, told.state)
        definition = told.definition
        if any(kind == changes.DEFINITION for kind, dummy in found):
            recent = time.monotonic() - self._looked.get(vm.bare, -EVENT_LATE) < EVENT_LATE
            if vm.moving or recent:
                # libvirt's own, at the end of a migration; or seen already, and the next look tells whether it is not.
                return
            definition = None
        if found:
            self._tell(vm, found, Told(state, definition))

    def stands(self, vm: VirtualMachineEntity, found: Standing | None) -> None:
        """Tells what has changed since it was told last; nothing of a machine that is new here, or on its way."""
        if vm.moving or vm.releasing:
            return
        state = None if found is None else (states.CRASHED if found.crashed else found.state)
        definition = "" if found is None else found.definition
        before = self._told.get(vm.bare)
        if before is None:
            self._keep(vm.bare, Told(state, definition))
            return
        now = Told(state, before.definition if definition is None else definition)
        if now == before:
            return
        redefined = changes.of_definitions(before.definition, definition)
        if redefined:
            self._looked[vm.bare] = time.monotonic()
        told = redefined + changes.of_states(before.state, state)
        if told:
            self._tell(vm, told, now)
        else:
            self._keep(vm.bare, now)

    def _keep(self, jid: str, told: Told) -> None:
        self._told[jid] = self._newly_told[jid] = told
        self._flush_soon()

    def _tell(
        self,
        entity: Entity,
        found: t.Sequence[changes.Change],
        told: Told | None = None,
        children: t.Iterable[ET.Element] = (),
    ) -> None:
        subject = jids.bare(entity.jid)
        hypervisor = jids.bare(self._agent.jid)
        # What an action tells of a machine that it has removed is the hypervisor's alone.
        managed = jids.node(subject) in self._agent.vms
        owners = [hypervisor, subject] if managed else [hypervisor]
        for kind, change in found:
            date = datetime.datetime.now(datetime.timezone.utc)
            payload = ET.tostring(payloads.push(kind, change, subject, date, children), "unicode")
            number = f"{self._life}{next(self._numbers):x}"
            self._new += [(owner, number, payload) for owner in owners]
        if told is not None:
            self._told[subject] = self._newly_told[subject] = told
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Keeps what is new, all of it or nothing, and hands it on."""
        if self._flushing is None:
            return
        self._flushing.cancel()
        self._flushing = None
        new, told = self._new, self._newly_told
        self._new, self._newly_told = [], {}
        for item in self._outbox.add(new, told):
            self.outlet(item.owner).add(item)

    # Nodes

    def outlet(self, jid: str) -> Outlet:
        """What stands before the node of an entity, given its bare JID."""
        outlet = self._outlets.get(jid)
        if outlet is None:
            outlet = self._outlets[jid] = Outlet(self._agent, self, self._outbox, jid, self._kept.pop(jid, []))
        return outlet

    def on_login(self, entity: Entity) -> None:
        """The entity has a new session."""
        self.outlet(jids.bare(entity.jid)).open(entity)

    def mark(self, jid: str, what: str, digest: str | None) -> None:
        """Remembers what the server holds of an entity; None: it is to be made again."""
        if digest is None:
            self.made.pop((jid, what), None)
            self._outbox.unmake(jid, what)
        else:
            self.made[jid, what] = digest
            self._outbox.make(jid, what, digest)

    def unmake(self, jid: str) -> None:
        """The account of an entity is a new one: the server holds nothing of it."""
        for owner, what in list(self.made):
            if owner == jid:
                self.mark(jid, what, None)

    def readers(self, jid: str) -> frozenset[str]:
        """Who may read the node of an entity."""
        return self._agent.permissions.holders(PRESENCE, jid)

    def _on_grants(self, entities: frozenset[str]) -> None:
        for entity in [self._agent.hypervisor, *self._agent.vms.values()]:
            jid = jids.bare(entity.jid)
            if not entity.releasing and (EVERYWHERE in entities or jid in entities):
                self.outlet(jid).check()
                self.publish(entity, "permissions", "set")

    def check_readers(self, entity: Entity) -> None:
        """Looks at the node again: who holds a grant may have a new account, of which the server knows nothing."""
        jid = jids.bare(entity.jid)
        self.mark(jid, NODE, None)
        self.outlet(jid).check()

    async def remove_node(self, session: xmpp.Session, jid: str) -> None:
        """Removes the node of an entity whose account goes."""
        self.outlet(jid).shut()
        async with self.making:
            await events_node.remove(session, pubsub.events(jid))

    def forget(self, jid: str) -> None:
        """Drops everything about an entity that is managed here no more; its node is left alone."""
        self._flush()
        outlet = self._outlets.pop(jid, None)
        if outlet is not None:
            outlet.shut()
        self._kept.pop(jid, None)
        self._told.pop(jid, None)
        self._looked.pop(jid, None)
        self.made = {key: digest for key, digest in self.made.items() if key[0] != jid}
        self._outbox.forget(jid)

    # Migration

    async def part(self, jid: str) -> dict[str, t.Any]:
        """Ends telling of a machine here; what its next agent must know to go on: {"told": [...], "items": [...]}."""
        self._flush()
        items = await self.outlet(jid).part()
        told = self._told.get(jid)
        return {
            "told": None if told is None else list(told),
            "items": [{"id": item.id, "payload": item.payload} for item in items],
        }

    def stay(self, entity: Entity) -> None:
        """Takes part() back."""
        outlet = self.outlet(jids.bare(entity.jid))
        outlet.parted = False
        outlet.open(entity)

    def arrive(self, jid: str, content: t.Any) -> None:
        """Goes on where part() ended on another host."""
        content = content if isinstance(content, dict) else {}
        told, items = content.get("told"), content.get("items")
        if isinstance(told, list) and len(told) == 2 and isinstance(told[0], (int, type(None))):
            # The digest is that of another libvirt.
            self._keep(jid, Told(told[0], None))
        entries = []
        for item in items if isinstance(items, list) else ():
            try:
                entries.append((jid, str(item["id"]), payloads.parse_push(item["payload"])))
            except (errors.MalformedRequest, KeyError, TypeError) as fault:
                log.warning("a push that came with %s is dropped: %r", jid, fault)
        self._flush()
        self._kept[jid] = self._outbox.add(entries)
