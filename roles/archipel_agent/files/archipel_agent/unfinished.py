# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What takes several durable steps, and is brought to its end or taken back whatever happens between them.

The intention is in the store before the first step. Each action declares a function that settles it: by what libvirt
and the store say, it does what is missing or takes back what was done, and it may be run again at any point::

    @settles("alloc")
    async def settle(agent: Agent, uuid: str, details: dict) -> None: ...

An intention without details that its action needs could not be settled, so all of them are in it from the beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import typing as t

from archipel_protocol import errors

from .backoff import pauses
from .store import Unfinished

if t.TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

Settle = t.Callable[["Agent", str, t.Dict[str, t.Any]], t.Awaitable[None]]

_SETTLE: dict[str, Settle] = {}


def settles(action: str) -> t.Callable[[Settle], Settle]:
    """Declares a coroutine function as the one that settles ``action``."""

    def declare(function: Settle) -> Settle:
        _SETTLE[action] = function
        return function

    return declare


@contextlib.asynccontextmanager
async def intention(
    agent: Agent, uuid: str, action: str, details: t.Mapping[str, t.Any] | None = None
) -> t.AsyncIterator[None]:
    """Holds the machine, and an intention while the body does it; settles it where the body fails."""
    async with agent.lock(uuid):
        begun = agent.store.begin(uuid, action, details)
        try:
            yield
        except BaseException as fault:
            if isinstance(fault, Exception):
                await _settle_now(agent, begun)
            raise
        agent.store.end(uuid)


async def _settle_now(agent: Agent, begun: Unfinished) -> None:
    try:
        await _SETTLE[begun.action](agent, begun.uuid, begun.details)
        agent.store.end(begun.uuid)
    except errors.ArchipelError as fault:
        log.warning("%s of %s is not taken back yet: %s", begun.action, begun.uuid, fault.message)
        _spawn(agent, begun)


def resume(agent: Agent) -> None:
    """Goes on with every intention in the store that nobody is at."""
    for begun in agent.store.unfinished():
        running = agent.settling.get(begun.uuid)
        if agent.mutex(begun.uuid).locked() or (running is not None and not running.done()):
            continue
        log.info("%s of %s was interrupted", begun.action, begun.uuid)
        _spawn(agent, begun)


def _spawn(agent: Agent, begun: Unfinished) -> None:
    work = _settle_until_done(agent, begun)
    agent.settling[begun.uuid] = agent.spawn(work, f"end of {begun.action} of {begun.uuid}")


async def _settle_until_done(agent: Agent, begun: Unfinished) -> None:
    wait = pauses(first=0.5, largest=15)
    while True:
        try:
            async with agent.mutex(begun.uuid):
                await _SETTLE[begun.action](agent, begun.uuid, begun.details)
                agent.store.end(begun.uuid)
            return
        except errors.ArchipelError as fault:
            log.warning("%s of %s is not at its end yet: %s", begun.action, begun.uuid, fault.message)
            await asyncio.sleep(next(wait))
