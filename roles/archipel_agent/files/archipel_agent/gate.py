# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of the agent one sender may take: what is in flight is bounded, and nobody waits behind somebody else.

Each sender has turns of his own at each entity, so that a machine that hangs delays its own requests only. What does
not fit is refused at once, so that a flood costs neither memory nor others' time; the sender's client is told to wait
(RFC 6120, 8.3.3.18).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import typing as t

from archipel_protocol import jids

# One sender's requests: worked on at the same time at one entity; in all, and their characters.
RUNNING = 16
IN_FLIGHT = 2000
SIZE = 16 * 1024 * 1024
# Characters of all senders' requests: accounts may be many.
TOTAL = 64 * 1024 * 1024


_turns: contextvars.ContextVar[asyncio.Semaphore | None] = contextvars.ContextVar("turns", default=None)


class Busy(Exception):
    """There is no room for the request; the text is for people."""


@dataclasses.dataclass
class _Sender:
    """What one bare JID has in flight."""

    requests: int = 0
    size: int = 0
    turns: dict[str, asyncio.Semaphore] = dataclasses.field(default_factory=dict)  # by the entity's JID


class Gate:
    """Requests in flight, of all senders to all entities of one agent."""

    def __init__(self) -> None:
        self._senders: dict[str, _Sender] = {}
        self._total = 0

    def enter(self, sender: str, entity: str, size: int) -> asyncio.Semaphore:
        """Takes a request to an entity in; its work waits for the semaphore. Raises Busy."""
        bare = jids.bare(sender)
        found = self._senders.get(bare) or _Sender()
        if found.requests >= IN_FLIGHT or (found.requests and found.size + size > SIZE):
            raise Busy(f"{bare} has {found.requests} requests in flight here; wait for their answers")
        if self._total and self._total + size > TOTAL:
            raise Busy("too many requests are in flight here; try again later")
        self._senders[bare] = found
        found.requests += 1
        found.size += size
        self._total += size
        return found.turns.setdefault(entity, asyncio.Semaphore(RUNNING))

    def leave(self, sender: str, size: int) -> None:
        """A request that was taken in is answered, or given up."""
        bare = jids.bare(sender)
        found = self._senders[bare]
        found.requests -= 1
        found.size -= size
        self._total -= size
        if not found.requests:
            del self._senders[bare]


@contextlib.asynccontextmanager
async def turn(turns: asyncio.Semaphore) -> t.AsyncIterator[None]:
    """One of the turns that Gate.enter() has returned."""
    async with turns:
        _turns.set(turns)
        yield


@contextlib.asynccontextmanager
async def aside() -> t.AsyncIterator[None]:
    """Leaves the turn that the running request has to others, while it only waits."""
    turns = _turns.get()
    if turns is None:
        yield
        return
    turns.release()
    try:
        yield
    finally:
        await turns.acquire()
