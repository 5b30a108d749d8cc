# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of pushes to one events node: in their order, none lost and none twice (pushes.py)."""

from __future__ import annotations

import asyncio
import functools
import logging
import typing as t
from xml.etree import ElementTree as ET

from archipel_protocol import errors, pubsub

from . import events_node, xmpp
from .backoff import pauses
from .outbox import Item, Outbox

if t.TYPE_CHECKING:
    from .agent import Agent
    from .entity import Entity
    from .pushes import Pushes

log = logging.getLogger(__name__)

# Pushes of one entity whose answers are outstanding. Fewer than a node keeps, so that it can be asked for them.
IN_FLIGHT = 64
# Seconds until a push that the server acknowledged is written down there: a server that is killed before forgets it. So
# many of them at most; with those in flight they are fewer than a node keeps. Of more, the oldest few count as written.
WRITTEN = 5.0
UNWRITTEN = 32
_OLDEST = 8
# Pushes that wait for a server which does not come; older ones are dropped.
WAITING = 10000
# Seconds that answers may take before an account moves away; what is not known by then, the target finds out.
SETTLE = 5.0
NODE = "events"


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
        self._draining = False  # in a crowd: what was put off is sent now
        self._unwritten: list[tuple[float, Item]] = []  # and the loop's time when it was acknowledged
        self._timer: asyncio.TimerHandle | None = None
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
        self._sent = {**{item.id: (item, None) for dummy, item in self._unwritten}, **self._sent}
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
        unwritten = [item for dummy, item in self._unwritten]
        self.shut()
        flying = [future for dummy, future in self._sent.values() if future is not None]
        if flying:
            await asyncio.wait(flying, timeout=SETTLE)
        return unwritten + [item for item, dummy in self._sent.values()] + self._waiting

    def _digest(self) -> str:
        return events_node.digest(self._pushes.readers(self._jid))

    def _pump(self) -> None:
        session = self._entity.session if self._entity is not None and self._open else None
        if session is None or not session.connected or not self._waiting:
            return
        if self._agent.calm.crowded and not self._draining:
            self._agent.calm.put_off(self, self._drain)
            return
        count = min(len(self._waiting), IN_FLIGHT - len(self._sent))
        batch, self._waiting[:count] = self._waiting[:count], []
        for item in batch:
            future = events_node.publish(session, self._node, item.id, ET.fromstring(item.payload))
            self._sent[item.id] = (item, future)
            future.add_done_callback(functools.partial(self._answered, item))
        self._draining = self._draining and bool(self._waiting)

    def _drain(self) -> None:
        self._draining = True
        self._pump()

    def _answered(self, item: Item, future: asyncio.Future[t.Any]) -> None:
        fault = None if future.cancelled() else future.exception()
        if not future.cancelled() and fault is None:
            self._sent.pop(item.id, None)
            self._unwritten.append((future.get_loop().time(), item))
            if len(self._unwritten) > UNWRITTEN:
                self._forget(_OLDEST)
            if self._timer is None:
                self._timer = future.get_loop().call_later(WRITTEN, self._written)
            self._pump()
            return
        self._sent[item.id] = (item, None)
        if self._open and self._entity is not None and self._entity.session is not None:
            self._open = False
            if self._entity.session.connected:
                log.warning("the node %s does not take a push: %s", self._node, fault)
                self._pushes.mark(self._jid, NODE, None)
                self._prepare()

    def _written(self) -> None:
        """The server has had its time for the first of them."""
        loop = asyncio.get_running_loop()
        self._timer = None
        self._forget(sum(at + WRITTEN <= loop.time() for at, dummy in self._unwritten))
        if self._unwritten:
            self._timer = loop.call_at(self._unwritten[0][0] + WRITTEN, self._written)

    def _forget(self, count: int) -> None:
        oldest, self._unwritten[:count] = self._unwritten[:count], []
        if oldest:
            self._outbox.done(*(item for dummy, item in oldest))

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
