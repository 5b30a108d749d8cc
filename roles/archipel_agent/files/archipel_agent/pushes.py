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
import functools
import logging
import secrets
import time
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, jids, payloads, pubsub, states

from . import changes, events_node, xmpp
from .backoff import pauses
from .libvirt_facade import Standing
from .outbox import Item, Outbox, Told
from .permissions import EVERYWHERE, PRESENCE

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity
    from .virtual_machine import VirtualMachineEntity

log = logging.getLogger(__name__)

# Pushes of one entity whose answers are outstanding. Fewer than a node keeps, so that it can be asked for them.
IN_FLIGHT = 64
# Seconds until a push that the server acknowledged is written down there: a server that is killed before forgets it. So
# many of them at most; with those in flight they are fewer than a node keeps.
WRITTEN = 5.0
UNWRITTEN = 32
# Pushes that wait for a server which does not come; older ones are dropped.
WAITING = 10000
# Seconds that answers may take before an account moves away; what is not known by then, the target finds out.
SETTLE = 5.0
# Nodes that are made at a time; ejabberd's database refuses some of those that are made at once.
MAKING = 4
# Seconds that libvirt's event may come after a look that saw the same.
EVENT_LATE = 1.0
NODE = "events"


class Pushes:
    """The pushes of all entities of one agent."""

    def __init__(self, agent: Agent, outbox: Outbox) -> None:
        self._agent = agent
        self._outbox = outbox
        self._told = outbox.all_told()
        self._kept = outbox.items()
        self.made = outbox.all_made()
        self._outlets: dict[str, Outlet] = {}
        self.making = asyncio.Semaphore(MAKING)
        self._looked: dict[str, float] = {}  # when a look found a definition to be another, by bare JID
        agent.permissions.on_change(self._on_grants)

    def close(self) -> None:
        """Closes the database."""
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

    def membership(self, change: str, uuid: str) -> None:
        """Tells that a machine came to this hypervisor or left it: alloc, free, clone, migrate, manage or unmanage."""
        machine = ET.Element(f"{{{payloads.push_namespace(changes.HYPERVISOR)}}}virtualmachine")
        machine.set("jid", jids.vm_jid(uuid, self._agent.domain))
        self.publish(self._agent.hypervisor, changes.HYPERVISOR, change, [machine])

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
        self._told[jid] = told
        self._outbox.tell(jid, told)

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
        owners = [subject, hypervisor] if managed else [hypervisor]
        entries = []
        for kind, change in found:
            date = datetime.datetime.now(datetime.timezone.utc)
            payload = ET.tostring(payloads.push(kind, change, subject, date, children), "unicode")
            number = secrets.token_hex(8)
            entries += [(owner, number, payload) for owner in owners]
        if told is not None:
            self._told[subject] = told
        for item in self._outbox.add(entries, subject, told):
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
        await events_node.remove(session, pubsub.events(jid))

    def forget(self, jid: str) -> None:
        """Drops everything about an entity that is managed here no more; its node is left alone."""
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
        self._kept[jid] = self._outbox.add(entries)


class Outlet:
    """One events node: what waits for it, and what is on its way there."""

    def __init__(self, agent: Agent, pushes: Pushes, outbox: Outbox, jid: str, kept: list[Item]) -> None:
        self._agent = agent
        self._pushes = pushes
        self._outbox = outbox
        self._jid = jid
        self._node = pubsub.events(jid)
        self._waiting: list[Item] = []
        # Sent, or perhaps sent by an earlier life; without a future: nobody knows whether they have arrived.
        self._sent: dict[str, tuple[Item, asyncio.Future[t.Any] | None]] = {item.id: (item, None) for item in kept}
        self._unwritten: list[Item] = []
        self._entity: Entity | None = None
        self._open = False
        self._preparing: asyncio.Task[None] | None = None
        self._again = False
        self._refused = ""
        self.parted = False

    def add(self, item: Item) -> None:
        """Sends a push as soon as may be, after those before it."""
        if self._refused:
            self._outbox.done(item)
            return
        if len(self._waiting) >= WAITING:
            lost = self._waiting.pop(0)
            self._outbox.done(lost)
            log.error("the push %s is dropped: %d wait for the node %s", lost.payload, WAITING, self._node)
        self._waiting.append(item)
        self._pump()

    def open(self, entity: Entity) -> None:
        """Begins to send, once the node is as it must be; not while the machine is on its way to another host."""
        if self.parted:
            return
        self._sent = {**{item.id: (item, None) for item in self._unwritten}, **self._sent}
        self._unwritten.clear()
        self._entity = entity
        self._open = False
        self._prepare()

    def check(self) -> None:
        """Who may read has changed."""
        if self._entity is not None and self._pushes.made.get((self._jid, NODE)) != self._digest():
            self._prepare()

    def shut(self) -> None:
        """Sends nothing any more."""
        self._entity = None
        self._open = False
        self._unwritten.clear()
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None

    async def part(self) -> list[Item]:
        """shut(), and what has not arrived for certain."""
        self.parted = True
        unwritten = list(self._unwritten)
        self.shut()
        flying = [future for dummy, future in self._sent.values() if future is not None]
        if flying:
            await asyncio.wait(flying, timeout=SETTLE)
        return unwritten + [item for item, dummy in self._sent.values()] + self._waiting

    def _digest(self) -> str:
        return events_node.digest(self._pushes.readers(self._jid))

    def _pump(self) -> None:
        session = self._entity.session if self._entity is not None and self._open else None
        if session is None or not session.connected:
            return
        count = min(len(self._waiting), IN_FLIGHT - len(self._sent))
        batch, self._waiting[:count] = self._waiting[:count], []
        for item in batch:
            future = events_node.publish(session, self._node, item.id, ET.fromstring(item.payload))
            self._sent[item.id] = (item, future)
            future.add_done_callback(functools.partial(self._answered, item))

    def _answered(self, item: Item, future: asyncio.Future[t.Any]) -> None:
        fault = None if future.cancelled() else future.exception()
        if not future.cancelled() and fault is None:
            self._sent.pop(item.id, None)
            self._unwritten.append(item)
            if len(self._unwritten) > UNWRITTEN:
                self._written(self._unwritten[0])
            future.get_loop().call_later(WRITTEN, self._written, item)
            self._pump()
            return
        self._sent[item.id] = (item, None)
        if self._open and self._entity is not None and self._entity.session is not None:
            self._open = False
            if self._entity.session.connected:
                log.warning("the node %s does not take a push: %s", self._node, fault)
                self._pushes.mark(self._jid, NODE, None)
                self._prepare()

    def _written(self, item: Item) -> None:
        """The server has had its time."""
        if item in self._unwritten:
            self._unwritten.remove(item)
            self._outbox.done(item)

    def _prepare(self) -> None:
        """Looks after the node where it is not known to be right, and then sends."""
        if self._preparing is not None and not self._preparing.done():
            self._again = True
            return
        if not self._sent and self._pushes.made.get((self._jid, NODE)) == self._digest():
            self._open = True
            self._pump()
            return
        self._preparing = self._agent.spawn(self._make_ready(), f"node of {self._jid}")

    async def _make_ready(self) -> None:
        wait = pauses(first=0.5, largest=30)
        while True:
            session = self._entity.session if self._entity is not None else None
            if session is None or not session.connected:
                # The next login comes here again.
                return
            self._again = False
            try:
                await self._make_node(session)
                if not self._open:
                    await self._find_sent(session)
            except events_node.Foreign as fault:
                self._refuse(fault.message)
                return
            except errors.ArchipelError as fault:
                log.warning("the node %s is not ready: %s", self._node, fault.message)
                self._pushes.mark(self._jid, NODE, None)
                await asyncio.sleep(next(wait))
                continue
            if self._again:
                continue
            self._refused = ""
            self._open = True
            self._pump()
            return

    async def _make_node(self, session: xmpp.Session) -> None:
        digest = self._digest()
        if self._pushes.made.get((self._jid, NODE)) != digest:
            async with self._pushes.making:
                await events_node.ensure(session, self._node, self._pushes.readers(self._jid))
            self._pushes.mark(self._jid, NODE, digest)

    async def _find_sent(self, session: xmpp.Session) -> None:
        """Puts back in front what was sent and has not arrived."""
        flying = [future for dummy, future in self._sent.values() if future is not None]
        if flying:
            await asyncio.wait(flying)
        if self._sent:
            arrived = await events_node.published(session, self._node)
            missing = []
            for item, dummy in self._sent.values():
                if item.id in arrived:
                    self._outbox.done(item)
                else:
                    missing.append(item)
            self._sent.clear()
            self._waiting[:0] = missing

    def _refuse(self, reason: str) -> None:
        """Somebody else's node is not used; what would be told on it is dropped, or it would be told much later."""
        if reason != self._refused:
            log.error("%s; %s tells nothing until it is removed", reason, self._jid)
        self._refused = reason
        self._pushes.mark(self._jid, NODE, None)
        for item in [item for item, dummy in self._sent.values()] + self._waiting:
            self._outbox.done(item)
        self._sent.clear()
        self._waiting.clear()
